//! `cnncodes models pull hf:…` against a server on this machine that plays the hub.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use cnncodes::demo::MODEL;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::cnncodes;
use crate::server::{Request, Server, answer, rest, whole};

const COMMIT: &str = "5c0ffee5c0ffee5c0ffee5c0ffee5c0ffee5c0ff";

fn checksum(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// How the network wants its images, as Hugging Face's ViTImageProcessor writes it.
fn config() -> Vec<u8> {
    let config = json!({
        "image_processor_type": "ViTImageProcessor",
        "do_resize": true, "size": { "height": 64, "width": 64 }, "resample": 2,
        "do_rescale": true, "rescale_factor": 1.0 / 255.0,
        "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    });
    config.to_string().into_bytes()
}

/// What the hub says of a repository with a network, a quantised copy of it, and a config.
fn repository(sha256: &str) -> Value {
    json!({
        "id": "owner/net", "sha": COMMIT, "tags": ["onnx", "license:apache-2.0"],
        "siblings": [
            { "rfilename": "README.md", "size": 12 },
            { "rfilename": "onnx/model.onnx", "size": 130,
              "lfs": { "sha256": sha256, "size": MODEL.len(), "pointerSize": 130 } },
            { "rfilename": "onnx/model_quantized.onnx", "size": 5 },
            { "rfilename": "preprocessor_config.json", "size": config().len() },
        ],
    })
}

/// A hub with that repository; `model` answers for the network.
fn hub(sha256: String, model: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Server {
    Server::start(move |_, request| match request.path.as_str() {
        "/api/models/owner/net/revision/main?blobs=true" => {
            whole(repository(&sha256).to_string().as_bytes(), "api", usize::MAX)
        }
        path if path == format!("/owner/net/resolve/{COMMIT}/onnx/model.onnx") => {
            answer("302 Found", &["Location: /store/model".to_owned(), "Content-Length: 0".to_owned()], b"")
        }
        "/store/model" => model(request),
        path if path == format!("/owner/net/resolve/{COMMIT}/preprocessor_config.json") => {
            whole(&config(), "config", usize::MAX)
        }
        _ => answer("404 Not Found", &["Content-Length: 0".to_owned()], b""),
    })
}

fn pull(folder: &Path, server: &Server, arguments: &[&str]) -> Command {
    let mut command = cnncodes(folder);
    command
        .args(["models", "pull"])
        .args(arguments)
        .env("HF_ENDPOINT", server.url("/"))
        .env_remove("HF_TOKEN");
    command
}

#[test]
fn a_network_of_the_hub_is_ready_to_use_with_the_preprocessing_that_lies_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = hub(checksum(MODEL), |_| whole(MODEL, "a", usize::MAX));
    pull(folder.path(), &server, &["hf:owner/net"])
        .env("HF_TOKEN", "secret")
        .assert()
        .success()
        .stdout(contains("owner/net at 5c0ffee5c0ff: onnx/model.onnx, preprocessor_config.json"))
        .stdout(contains("preprocessing: ViTImageProcessor of transformers, from preprocessor_config.json"))
        .stdout(contains("models/net.toml: VGG16"));
    assert_eq!(fs::read(folder.path().join("models/net/model.onnx")).unwrap(), MODEL);
    let manifest = fs::read_to_string(folder.path().join("models/net.toml")).unwrap();
    for said in [
        "file = \"net/model.onnx\"".to_owned(),
        format!("owner/net at commit {COMMIT}, apache-2.0, downloaded from {}", server.url("/owner/net")),
        "its SHA-256 was known beforehand, as the hub tells it".to_owned(),
        "size = [64, 64]".to_owned(),
        "resize = \"stretch\"".to_owned(),
    ] {
        assert!(manifest.contains(&said), "{said}\n{manifest}");
    }
    assert!(server.asked().iter().all(|request| request.header("authorization") == Some("Bearer secret")));
    cnncodes(folder.path()).arg("models").assert().success().stdout(contains("intact"));
    // Two are there: the folder and the manifest.
    assert_eq!(fs::read_dir(folder.path().join("models")).unwrap().count(), 2);

    let refused = pull(folder.path(), &server, &["hf:owner/net"]).assert().code(2);
    refused.stderr(contains("net.toml").and(contains("--force")));
    pull(folder.path(), &server, &["hf:owner/net", "--force"]).assert().success();
}

#[test]
fn an_interrupted_pull_goes_on_and_a_wrong_file_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    // The first answer breaks off after 100,000 bytes; the next request asks for the rest.
    let server = hub(checksum(MODEL), |request| match request.first_byte() {
        None => whole(MODEL, "a", 100_000),
        Some(first) => rest(MODEL, "a", first),
    });
    pull(folder.path(), &server, &["hf:owner/net", "--name", "mine"]).assert().success();
    assert_eq!(fs::read(folder.path().join("models/mine/model.onnx")).unwrap(), MODEL);

    let server = hub(checksum(b"another file"), |_| whole(MODEL, "a", usize::MAX));
    pull(folder.path(), &server, &["hf:owner/net", "--name", "other"])
        .assert()
        .code(2)
        .stderr(contains("is another file than expected, and was removed"));
    assert!(!folder.path().join("models/other").exists());
    assert!(!folder.path().join("models/other.toml").exists());
}

#[test]
fn gated_missing_and_unclear_repositories_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let refusing = |status: &'static str, code: &'static str| {
        Server::start(move |_, _| {
            let headers = [format!("X-Error-Code: {code}"), "Content-Length: 0".to_owned()];
            answer(status, &headers, b"")
        })
    };
    let gated = refusing("403 Forbidden", "GatedRepo");
    pull(folder.path(), &gated, &["hf:owner/net"]).assert().code(2).stderr(
        contains("owner/net is gated: accept its terms at")
            .and(contains("set HF_TOKEN to it"))
            .and(contains("is not let in").not()),
    );
    let with_token = pull(folder.path(), &gated, &["hf:owner/net"]).env("HF_TOKEN", "x").assert();
    with_token.code(2).stderr(contains("the token that HF_TOKEN has now is not let in"));
    let missing = refusing("401 Unauthorized", "RepoNotFound");
    pull(folder.path(), &missing, &["hf:owner/net@v2"])
        .assert()
        .code(2)
        .stderr(contains("the hub has no hf:owner/net@v2, or hides it"));

    let server = hub(checksum(MODEL), |_| whole(MODEL, "a", usize::MAX));
    pull(folder.path(), &server, &["hf:owner/net:onnx/model_fp16.onnx"]).assert().code(2).stderr(contains(
        "owner/net has no file onnx/model_fp16.onnx; its ONNX files are onnx/model.onnx, onnx/model_quantized.onnx",
    ));
    let mut nobody = pull(folder.path(), &server, &["hf:owner/net"]);
    nobody.env("HF_ENDPOINT", "http://127.0.0.1:9").assert().code(2).stderr(
        contains("cannot reach the hub http://127.0.0.1:9")
            .and(contains("name a mirror of the hub with HF_ENDPOINT")),
    );
    pull(folder.path(), &server, &["hf:owner"])
        .assert()
        .code(2)
        .stderr(contains("write hf:OWNER/REPOSITORY"));
    pull(folder.path(), &server, &["hf:owner/net", "--sha256", &checksum(MODEL)])
        .assert()
        .code(2)
        .stderr(contains("leave out --url and --sha256"));
}
