//! `cnncodes models pull` as its users run it, against a server on this machine.

use std::fs;
use std::path::Path;

use assert_cmd::assert::Assert;
use cnncodes::demo::MODEL;
use cnncodes::network::zoo::PUBLISHED;
use predicates::prelude::*;
use predicates::str::contains;
use sha2::{Digest, Sha256};

use crate::common::{add_demo_network, cnncodes};
use crate::server::{Server, answer, rest, whole};

fn pull(folder: &Path, arguments: &[&str]) -> Assert {
    cnncodes(folder).args(["models", "pull"]).args(arguments).assert()
}

fn checksum() -> String {
    format!("{:x}", Sha256::digest(MODEL))
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn without_a_name_it_lists_what_can_be_pulled() {
    let folder = tempfile::tempdir().unwrap();
    let list = pull(folder.path(), &[]).success();
    let text = String::from_utf8(list.get_output().stdout.clone()).unwrap();
    for published in PUBLISHED {
        assert!(text.contains(published.name) && text.contains(&published.sha256[..12]), "{text}");
    }
    assert!(text.contains("553.44 MB") && text.contains("Apache-2.0"), "{text}");
    assert!(!folder.path().join("models").exists());
}

#[test]
fn a_pulled_network_is_ready_to_use() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, request| match request.first_byte() {
        None => whole(MODEL, "a", 100_000),
        Some(first) => rest(MODEL, "a", first),
    });
    let url = server.url("/demo.onnx");
    let sha256 = checksum();
    pull(
        folder.path(),
        &["mine", "--url", &url, "--sha256", &sha256.to_uppercase(), "--preprocess", "tf", "--name", "demo"],
    )
    .success()
    .stdout(contains("models/demo.toml: VGG16"));
    assert_eq!(server.asked()[1].first_byte(), Some(100_000));
    assert_eq!(fs::read(folder.path().join("models/demo.onnx")).unwrap(), MODEL);
    let manifest = read(folder.path(), "models/demo.toml");
    assert!(manifest.contains(&format!("downloaded from {url}")), "{manifest}");
    assert!(manifest.contains("known beforehand, given with --sha256"), "{manifest}");
    assert!(manifest.contains(&format!("sha256 = \"{sha256}\"")), "{manifest}");
    cnncodes(folder.path()).arg("models").assert().success().stdout(contains("intact"));
    cnncodes(folder.path()).args(["layers", "demo"]).assert().success().stdout(contains("fc7"));
    assert_eq!(fs::read_dir(folder.path().join("models")).unwrap().count(), 2);
}

#[test]
fn a_checksum_that_nobody_knew_is_recorded_as_seen() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| whole(MODEL, "a", usize::MAX));
    pull(folder.path(), &["mine", "--url", &server.url("/"), "--preprocess", "tf"]).success();
    let manifest = read(folder.path(), "models/mine.toml");
    assert!(manifest.contains("not known beforehand, the one seen is recorded"), "{manifest}");
    assert!(manifest.contains(&checksum()), "{manifest}");
}

#[test]
fn a_wrong_file_leaves_the_older_model_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    add_demo_network(folder.path());
    let before = read(folder.path(), "models/demo-vgg.toml");
    let mut other = MODEL.to_vec();
    other[500_000] ^= 1;
    let page = b"<html>Sign in, please</html>".to_vec();
    let server = Server::start(move |_, request| match request.path.as_str() {
        "/other" => whole(&other, "a", usize::MAX),
        "/page" => whole(&page, "a", usize::MAX),
        _ => answer("404 Not Found", &["Content-Length: 0".to_owned()], b""),
    });
    let sha256 = checksum();
    let try_from = |path: &str, more: &[&str]| {
        let url = server.url(path);
        let mut arguments = vec!["demo-vgg", "--url", &url, "--preprocess", "tf", "--force"];
        arguments.extend(more);
        pull(folder.path(), &arguments).code(2)
    };
    try_from("/other", &["--sha256", &sha256])
        .stderr(contains("its SHA-256 is").and(contains(&sha256)).and(contains("was removed")));
    try_from("/page", &[]).stderr(contains("/page").and(contains("was removed")).and(contains("because:")));
    try_from("/gone", &[]).stderr(contains("404").and(contains("/gone")));
    assert_eq!(fs::read(folder.path().join("models/demo-vgg.onnx")).unwrap(), MODEL);
    assert_eq!(read(folder.path(), "models/demo-vgg.toml"), before);
    assert_eq!(fs::read_dir(folder.path().join("models")).unwrap().count(), 2);
    cnncodes(folder.path()).arg("models").assert().success();
}

#[test]
fn a_mirror_of_a_published_network_must_serve_that_very_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| whole(MODEL, "a", usize::MAX));
    pull(folder.path(), &["vgg16-7", "--url", &server.url("/vgg16-7.onnx")])
        .code(2)
        .stderr(contains("553437328").and(contains(MODEL.len().to_string())));
    assert_eq!(fs::read_dir(folder.path().join("models")).unwrap().count(), 0);
}

#[test]
fn a_taken_name_is_refused_before_anything_is_downloaded() {
    let folder = tempfile::tempdir().unwrap();
    add_demo_network(folder.path());
    let server = Server::start(|_, _| whole(MODEL, "a", usize::MAX));
    let url = server.url("/");
    let refused = |arguments: &[&str], why: &str| {
        pull(folder.path(), arguments).code(2).stderr(contains(why));
    };
    refused(&["demo-vgg", "--url", &url, "--preprocess", "tf"], "is there already; give --force");
    refused(&["a/b", "--url", &url, "--preprocess", "tf"], "cannot be a model's name");
    refused(&["mine", "--url", &url], "give it with --preprocess");
    refused(&["mine"], "vgg16-7, vgg16-12, resnet50-v1-7, resnet50-v1-12");
    refused(&["mine", "--url", &url, "--preprocess", "tf", "--sha256", "abc"], "64 hexadecimal digits");
    refused(&["--url", &url], "NAME");
    assert!(server.asked().is_empty());
}
