//! Images in an object store: the features are those of the same files on a disk, whatever the store and the network do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assert_cmd::Command;
use cnncodes::features::FeatureFile;
use predicates::prelude::*;
use predicates::str::contains;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::common::{cnncodes, workspace};
use crate::inputs::tar;
use crate::server::{Server, answer};
use s3::{Fault, Proxy, S3, with_store, without_settings};

mod s3;

/// Twenty pictures of four classes below `data/`, the same in two shards below `shards/`, and the network.
fn pictures() -> tempfile::TempDir {
    let folder = workspace(5);
    pack(folder.path());
    folder
}

/// Packs the pictures of `data/` into two shards, one half each.
fn pack(folder: &Path) {
    let mut files: Vec<PathBuf> = Vec::new();
    for class in fs::read_dir(folder.join("data")).unwrap() {
        files.extend(fs::read_dir(class.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    fs::create_dir_all(folder.join("shards")).unwrap();
    for (number, files) in files.chunks(files.len().div_ceil(2)).enumerate() {
        let members: Vec<(String, Vec<u8>)> = files
            .iter()
            .enumerate()
            .flat_map(|(index, file)| {
                let class = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
                let image = (format!("{index:03}.jpg"), fs::read(file).unwrap());
                [image, (format!("{index:03}.cls"), class.into_bytes())]
            })
            .collect();
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        tar(&folder.join(format!("shards/train-{number}.tar")), &members);
    }
}

fn extract(command: &mut Command, images: &[&str], output: &str) -> std::process::Output {
    let fixed = ["--layer", "fc7", "--threads", "2", "--batch-size", "2", "-o", output];
    command.arg("extract").args(images).args(fixed).output().unwrap()
}

fn code(output: &std::process::Output) -> Option<i32> {
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.code()
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn open(folder: &Path, name: &str) -> FeatureFile {
    FeatureFile::open(&folder.join(name)).unwrap()
}

/// Asserts that two files have the same rows, but for what `rename` does to the names of the second.
fn assert_same(folder: &Path, local: &str, remote: &str, rename: impl Fn(&str) -> String) {
    let (local, remote) = (open(folder, local), open(folder, remote));
    let names: Vec<String> = remote.image_names().iter().map(|name| rename(name)).collect();
    assert_eq!(local.image_names(), names);
    assert_eq!((local.labels(), local.class_names()), (remote.labels(), remote.class_names()));
    assert_eq!(local.sha256(), remote.sha256());
    assert_eq!(remote.errors(), []);
    let bits = |file: &FeatureFile| file.read_layer(None).unwrap().mapv(f32::to_bits);
    assert!(bits(&local) == bits(&remote), "the features differ");
}

fn as_it_is(name: &str) -> String {
    name.to_owned()
}

/// The list of the pictures, each behind `before`.
fn list(folder: &Path, before: &str) -> String {
    let mut rows: Vec<String> = Vec::new();
    for class in cnncodes::demo::CLASSES {
        for file in fs::read_dir(folder.join("data").join(class)).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            if !file.ends_with(".jpg") {
                continue;
            }
            rows.push(format!("{before}{class}/{file},{class}\n"));
        }
    }
    format!("path,label\n{}", rows.concat())
}

#[test]
fn a_prefix_a_list_and_shards_have_the_features_of_their_files_bit_for_bit() {
    let Some(s3) = S3::get("object stores: prefix, list, shards") else { return };
    let folder = pictures();
    let folder = folder.path();
    fs::write(folder.join("data/fish/notes.txt"), "no picture").unwrap();
    fs::write(folder.join("data/.hidden.jpg"), "no picture").unwrap();
    fs::write(folder.join("local.csv"), list(folder, "s3://kinds/data/")).unwrap();
    s3.upload("kinds", "data/", &folder.join("data"));
    s3.upload("kinds", "shards/", &folder.join("shards"));
    fs::create_dir(folder.join("lists")).unwrap();
    fs::write(folder.join("lists/list.csv"), list(folder, "")).unwrap();
    s3.upload("kinds", "data/", &folder.join("lists"));
    let local = |images: &str, output: &str| {
        assert_eq!(code(&extract(&mut cnncodes(folder), &[images], output)), Some(0), "{images}");
    };
    local("data", "folder.h5");
    local("shards/train-{0..1}.tar", "shards.h5");
    let remote = |images: &[&str], output: &str| {
        assert_eq!(code(&extract(&mut s3.cnncodes(folder), images, output)), Some(0), "{images:?}");
    };
    remote(&["s3://kinds/data/"], "prefix.h5");
    assert_same(folder, "folder.h5", "prefix.h5", as_it_is);
    remote(&["s3://kinds/data"], "bare.h5");
    assert_same(folder, "folder.h5", "bare.h5", as_it_is);
    remote(&["local.csv"], "local-list.h5");
    assert_same(folder, "folder.h5", "local-list.h5", |name| name.replace("s3://kinds/data/", ""));
    remote(&["s3://kinds/data/list.csv"], "list.h5");
    assert_same(folder, "folder.h5", "list.h5", as_it_is);
    remote(&["s3://kinds/shards/train-{0..1}.tar"], "braces.h5");
    assert_same(folder, "shards.h5", "braces.h5", as_it_is);
    remote(&["s3://kinds/shards/*-?.tar"], "stars.h5");
    assert_same(folder, "shards.h5", "stars.h5", as_it_is);
    remote(&["s3://kinds/shards"], "below.h5");
    assert_same(folder, "shards.h5", "below.h5", as_it_is);
    remote(&["s3://kinds/shards/train-0.tar", "shards/train-1.tar"], "mixed.h5");
    assert_eq!(open(folder, "mixed.h5").image_names().len(), 20);
    assert_eq!(open(folder, "prefix.h5").header().source, "s3://kinds/data/");
    let passed_over = &open(folder, "prefix.h5");
    let passed_over: Vec<(&str, u64, &str)> = passed_over
        .passed_over()
        .iter()
        .map(|group| (group.reason.as_str(), group.files, group.example.as_str()))
        .collect();
    // The list lies below the prefix as well.
    assert_eq!(passed_over, [("not an image", 2, "fish/notes.txt"), ("hidden", 1, ".hidden.jpg")]);
}

#[test]
fn what_was_read_is_not_read_again_and_neighbours_in_a_shard_share_a_request() {
    let Some(s3) = S3::get("object stores: requests") else { return };
    let folder = pictures();
    let folder = folder.path();
    s3.upload("requests", "data/", &folder.join("data"));
    s3.upload("requests", "shards/", &folder.join("shards"));
    let run = |images: &str, output: &str| {
        let proxy = Proxy::start(s3.address(), |_, _| Fault::None);
        let mut command = cnncodes(folder);
        let ran = extract(with_store(&mut command, proxy.address()), &[images], output);
        assert_eq!(code(&ran), Some(0), "{images}");
        (proxy.asked(), String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let gets = |asked: &[(String, Fault)]| {
        asked.iter().filter(|(line, _)| line.starts_with("GET ") && !line.contains("list-type")).count()
    };
    let (first, _) = run("s3://requests/data/", "prefix.h5");
    assert_eq!((gets(&first), first.len()), (20, 21), "{first:?}");
    let (again, said) = run("s3://requests/data/", "prefix.h5");
    assert_eq!((gets(&again), again.len()), (0, 1), "{again:?}");
    assert!(said.contains("up to date"), "{said}");
    // A look whether classes.txt is there, and of each shard what it is, a block that holds all of it, and its images.
    let (shards, _) = run("s3://requests/shards/train-{0..1}.tar", "shards.h5");
    assert_eq!(shards.len(), 1 + 2 * 3, "{shards:?}");
    let (again, said) = run("s3://requests/shards/train-{0..1}.tar", "shards.h5");
    assert_eq!(again.len(), 1 + 2 * 2, "{again:?}");
    assert!(said.contains("up to date"), "{said}");
}

#[test]
fn a_store_that_fails_now_and_then_loses_nothing_and_doubles_nothing() {
    let Some(s3) = S3::get("object stores: faults") else { return };
    let folder = pictures();
    let folder = folder.path();
    s3.upload("faults", "data/", &folder.join("data"));
    s3.upload("faults", "shards/", &folder.join("shards"));
    fs::write(folder.join("list.csv"), list(folder, "s3://faults/data/")).unwrap();
    assert_eq!(code(&extract(&mut cnncodes(folder), &["data"], "folder.h5")), Some(0));
    assert_eq!(code(&extract(&mut cnncodes(folder), &["shards"], "shards.h5")), Some(0));
    let without = |name: &str| name.replace("s3://faults/data/", "");
    for (images, expected) in [
        ("s3://faults/data/", "folder.h5"),
        ("list.csv", "folder.h5"),
        ("s3://faults/shards/*.tar", "shards.h5"),
    ] {
        let mut seen = 0;
        for seed in 0..3 {
            let proxy = Proxy::start(s3.address(), move |number, _| {
                let mut random = Xoshiro256PlusPlus::seed_from_u64(1000 * seed + number as u64);
                match random.random_range(0..8) {
                    0 => Fault::Status(503),
                    1 => Fault::Status(500),
                    2 => Fault::Cut(random.random_range(0..100)),
                    3 => Fault::HangUp,
                    4 => Fault::Late(Duration::from_millis(random.random_range(0..200))),
                    _ => Fault::None,
                }
            });
            let mut command = cnncodes(folder);
            let ran = extract(with_store(&mut command, proxy.address()), &[images, "--force"], "remote.h5");
            assert_eq!(code(&ran), Some(0), "{images}");
            assert_same(folder, expected, "remote.h5", without);
            seen += proxy.asked().iter().filter(|(_, fault)| *fault != Fault::None).count();
        }
        assert!(seen > 5, "{images}: {seen} faults only");
    }
}

#[test]
fn a_server_that_stops_and_starts_again_is_waited_for() {
    let Some(s3) = S3::get("object stores: a stop and a start") else { return };
    let folder = workspace(30);
    let folder = folder.path();
    s3.upload("waits", "data/", &folder.join("data"));
    assert_eq!(code(&extract(&mut cnncodes(folder), &["data"], "folder.h5")), Some(0));
    let proxy = Proxy::start(s3.address(), |_, _| Fault::None);
    let ran = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let mut command = cnncodes(folder);
            extract(with_store(&mut command, proxy.address()), &["s3://waits/data/"], "remote.h5")
        });
        while proxy.count() < 20 && !run.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        proxy.set_down(true);
        std::thread::sleep(Duration::from_secs(3));
        proxy.set_down(false);
        run.join().unwrap()
    });
    assert_eq!(code(&ran), Some(0));
    assert!(proxy.count() > 120, "{} requests", proxy.count());
    assert_same(folder, "folder.h5", "remote.h5", as_it_is);
}

#[test]
fn a_store_that_stays_away_stops_the_run_which_the_same_command_resumes() {
    let Some(s3) = S3::get("object stores: an outage") else { return };
    let folder = workspace(90);
    let folder = folder.path();
    s3.upload("away", "data/", &folder.join("data"));
    assert_eq!(code(&extract(&mut cnncodes(folder), &["data"], "folder.h5")), Some(0));
    let proxy = Proxy::start(s3.address(), |_, _| Fault::None);
    let run = || {
        let mut command = cnncodes(folder);
        let command = with_store(&mut command, proxy.address()).env("CNNCODES_RETRY_SECONDS", "1");
        extract(command, &["s3://away/data/"], "remote.h5")
    };
    let stopped = std::thread::scope(|scope| {
        let run = scope.spawn(run);
        // More than are read ahead and decoded before the first row is written, and far from all 360.
        while proxy.count() < 240 && !run.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        proxy.set_down(true);
        run.join().unwrap()
    });
    assert_eq!(code(&stopped), Some(2));
    let said = stderr(&stopped);
    assert!(said.contains("the same command resumes when the images can be read"), "{said}");
    assert!(said.contains("s3://away/data/") && said.contains("no complete answer in any try"), "{said}");
    assert!(!folder.join("remote.h5").exists());
    proxy.set_down(false);
    let before = proxy.asked().len();
    let resumed = run();
    assert_eq!(code(&resumed), Some(0));
    assert_same(folder, "folder.h5", "remote.h5", as_it_is);
    // Of the images, each that was not done yet, and none that was.
    let said = String::from_utf8_lossy(&resumed.stdout).into_owned();
    let (head, _) = said.split_once(" kept from an interrupted run").unwrap_or_else(|| panic!("{said}"));
    let kept: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
    let asked = proxy.asked();
    let images: std::collections::HashSet<&str> =
        asked[before..].iter().map(|(line, _)| line.as_str()).filter(|line| line.contains(".jpg")).collect();
    assert_eq!((kept > 0, images.len()), (true, 360 - kept), "{said}");
}

#[test]
fn an_object_that_changes_after_the_listing_is_an_error_row() {
    let Some(s3) = S3::get("object stores: a changed object") else { return };
    let folder = workspace(5);
    let folder = folder.path();
    s3.upload("changes", "data/", &folder.join("data"));
    fs::create_dir_all(folder.join("new")).unwrap();
    fs::copy(folder.join("data/sailboat/001.jpg"), folder.join("new/002.jpg")).unwrap();
    let (changed, new) = (AtomicBool::new(false), folder.join("new"));
    let proxy = Proxy::start(s3.address(), move |_, line| {
        // Right before the first image is read.
        if line.contains(".jpg") && !changed.swap(true, Ordering::SeqCst) {
            S3::get("a changed object").unwrap().upload("changes", "data/fish/", &new);
        } else if line.contains(".jpg") {
            std::thread::sleep(Duration::from_secs(3));
        }
        Fault::None
    });
    let mut command = cnncodes(folder);
    let ran = extract(with_store(&mut command, proxy.address()), &["s3://changes/data/"], "remote.h5");
    assert_eq!(code(&ran), Some(1));
    let features = open(folder, "remote.h5");
    let errors: Vec<(&str, &str)> =
        features.errors().iter().map(|error| (error.name.as_str(), error.reason.as_str())).collect();
    let reason = "s3://changes/data/fish/002.jpg changed after it was listed; run the same command again, or make a new plan";
    assert_eq!(errors, [("fish/002.jpg", reason)]);
    assert_eq!(features.image_names().len(), 19);
    // The same command again reads what is there now.
    assert_eq!(code(&extract(&mut s3.cnncodes(folder), &["s3://changes/data/"], "remote.h5")), Some(0));
    assert_eq!(open(folder, "remote.h5").image_names().len(), 20);
}

#[test]
fn a_missing_object_is_an_error_row_that_names_it() {
    let Some(s3) = S3::get("object stores: a missing object") else { return };
    let folder = workspace(5);
    let folder = folder.path();
    s3.upload("missing", "data/", &folder.join("data"));
    fs::write(
        folder.join("list.csv"),
        list(folder, "s3://missing/data/") + "s3://missing/data/fish/gone.jpg,fish\n",
    )
    .unwrap();
    assert_eq!(code(&extract(&mut s3.cnncodes(folder), &["list.csv"], "remote.h5")), Some(1));
    let features = open(folder, "remote.h5");
    let gone = "s3://missing/data/fish/gone.jpg";
    assert_eq!(features.image_names().len(), 20);
    assert_eq!(features.errors().len(), 1);
    assert_eq!(features.errors()[0].name, gone);
    assert_eq!(
        features.errors()[0].reason,
        format!("{gone} does not exist; check the name, or remove it from the list")
    );
    let refuse = |images: &[&str], said: &str| {
        let ran = extract(&mut s3.cnncodes(folder), images, "none.h5");
        assert_eq!(code(&ran), Some(2), "{images:?}");
        assert!(stderr(&ran).contains(said), "{images:?}: {}", stderr(&ran));
    };
    refuse(&["s3://missing/other/"], "no images in s3://missing/other");
    refuse(&["s3://missing/a-{0..1}.tar"], "s3://missing/a-0.tar does not exist");
    refuse(&["s3://missing/a-*.tar"], "no file matches s3://missing/a-*.tar");
    refuse(&["s3://missing/data/fish/001.jpg"], "it is a single image; name the prefix that holds it");
    refuse(&["s3://no-such-bucket/data/"], "the bucket s3://no-such-bucket does not exist");
    refuse(&["https://127.0.0.1/data/"], "web servers do not list their files");
}

#[test]
fn what_is_missing_in_the_environment_is_named() {
    let Some(s3) = S3::get("object stores: credentials") else { return };
    let folder = workspace(5);
    let folder = folder.path();
    s3.upload("private", "data/", &folder.join("data"));
    fs::write(folder.join("list.csv"), list(folder, "s3://private/data/")).unwrap();
    let refuse = |settings: &[(&str, Option<&str>)], images: &str, expected: &str| {
        let mut command = s3.cnncodes(folder);
        for (name, value) in settings {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let ran = extract(&mut command, &[images], "none.h5");
        assert_eq!(code(&ran), Some(2), "{settings:?}");
        assert!(stderr(&ran).contains(expected), "{settings:?}: {}", stderr(&ran));
    };
    let nothing = [
        ("AWS_ACCESS_KEY_ID", None),
        ("AWS_SECRET_ACCESS_KEY", None),
        // Nor has the machine a role.
        ("AWS_EC2_METADATA_DISABLED", Some("true")),
    ];
    for images in ["s3://private/data/", "list.csv"] {
        refuse(&nothing, images, "AWS_ACCESS_KEY_ID is not set, and this machine has no role");
        refuse(
            &[("AWS_ACCESS_KEY_ID", None)],
            images,
            "AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not",
        );
        refuse(&[("AWS_ALLOW_HTTP", None)], images, "set AWS_ALLOW_HTTP=true to allow that");
        // Nobody is let in without a signature.
        refuse(&[("AWS_SKIP_SIGNATURE", Some("true"))], images, "access denied (403");
    }
    refuse(&[], "gs://bucket/data/", "GOOGLE_APPLICATION_CREDENTIALS is not set");
    refuse(&[], "az://container/data/", "AZURE_STORAGE_ACCOUNT_NAME is not set");
}

#[test]
fn images_and_shards_of_a_web_server_need_no_store() {
    let folder = pictures();
    let folder = folder.path();
    let root = folder.to_owned();
    let busy = AtomicBool::new(true);
    let server = Server::start(move |_, request| {
        let path = request.path.split('?').next().unwrap().trim_start_matches('/');
        if path.ends_with("fish/003.jpg") && busy.swap(false, Ordering::SeqCst) {
            return answer("503 Service Unavailable", &["Content-Length: 0".to_owned()], b"");
        }
        let Ok(bytes) = fs::read(root.join(path)) else {
            return answer("404 Not Found", &["Content-Length: 0".to_owned()], b"");
        };
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let Some((first, last)) = range else {
            return answer("200 OK", &[format!("Content-Length: {}", bytes.len())], &bytes);
        };
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let headers = [
            format!("Content-Length: {}", last + 1 - first),
            format!("Content-Range: bytes {first}-{last}/{}", bytes.len()),
        ];
        answer("206 Partial Content", &headers, &bytes[first..=last])
    });
    let base = server.url("/data/");
    let rows = list(folder, &base).replace(".jpg,", ".jpg?signature=secret,");
    fs::write(folder.join("list.csv"), format!("{rows}{base}gone.jpg?signature=secret,fish\n")).unwrap();
    let run = |images: &[&str], output: &str| {
        let mut command = cnncodes(folder);
        code(&extract(without_settings(&mut command), images, output))
    };
    assert_eq!(run(&["data"], "folder.h5"), Some(0));
    assert_eq!(run(&["shards/train-{0..1}.tar"], "shards.h5"), Some(0));
    assert_eq!(run(&["list.csv"], "web.h5"), Some(1));
    let (local, web) = (open(folder, "folder.h5"), open(folder, "web.h5"));
    let names: Vec<String> = web
        .image_names()
        .iter()
        .map(|name| name.replace(&base, "").replace("?signature=secret", ""))
        .collect();
    assert_eq!(local.image_names(), names);
    assert_eq!((local.sha256(), local.labels()), (web.sha256(), web.labels()));
    assert_eq!(local.read_layer(None).unwrap(), web.read_layer(None).unwrap());
    assert_eq!(
        web.errors()[0].reason,
        format!("{base}gone.jpg?… does not exist; check the name, or remove it from the list")
    );
    assert_eq!(run(&[&server.url("/shards/train-{0..1}.tar")], "web-shards.h5"), Some(0));
    assert_same(folder, "shards.h5", "web-shards.h5", as_it_is);
}

#[test]
fn a_web_server_without_parts_of_files_serves_no_shards() {
    let folder = pictures();
    let folder = folder.path();
    let bytes = fs::read(folder.join("shards/train-0.tar")).unwrap();
    let server =
        Server::start(move |_, _| answer("200 OK", &[format!("Content-Length: {}", bytes.len())], &bytes));
    let mut command = cnncodes(folder);
    let url = server.url("/train-0.tar");
    let ran = extract(without_settings(&mut command), &[&url, "--no-labels"], "none.h5");
    assert_eq!(code(&ran), Some(2));
    assert!(
        contains("the server sends no parts of files (HTTP ranges)").eval(&stderr(&ran)),
        "{}",
        stderr(&ran)
    );
}

#[test]
fn workers_on_a_plan_in_a_bucket_store_each_part_once() {
    let Some(s3) = S3::get("object stores: a plan") else { return };
    let folder = pictures();
    let folder = folder.path();
    s3.upload("plans", "data/", &folder.join("data"));
    s3.upload("plans", "shards/", &folder.join("shards"));
    let run = |address: &str, arguments: &[&str]| {
        let mut command = cnncodes(folder);
        with_store(&mut command, address).args(arguments).output().unwrap()
    };
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    for (images, local, plan) in [
        ("s3://plans/data/", "data", "s3://plans/run-1"),
        ("s3://plans/shards/*.tar", "shards/train-{0..1}.tar", "s3://plans/run-2/"),
    ] {
        assert_eq!(code(&extract(&mut cnncodes(folder), &[local], "local.h5")), Some(0));
        let make = ["plan", images, "--layer", "fc7", "--rows-per-part", "8", "-o", plan];
        assert_eq!(code(&run(s3.address(), &make)), Some(0));
        // The same plan again is there already; another one has no place there.
        assert_eq!(code(&run(s3.address(), &make)), Some(0));
        let other = ["plan", images, "--layer", "fc7", "--rows-per-part", "9", "-o", plan];
        let refused = run(s3.address(), &other);
        assert_eq!(code(&refused), Some(2));
        assert!(stderr(&refused).contains("holds another plan"), "{}", stderr(&refused));
        let refused = run(s3.address(), &["merge", plan, "-o", "virtual.h5", "--virtual"]);
        assert_eq!(code(&refused), Some(2));
        assert!(stderr(&refused).contains("merge without --virtual"), "{}", stderr(&refused));
        let refused = run(s3.address(), &["merge", plan, "-o", "merged.h5"]);
        assert_eq!(code(&refused), Some(2));
        assert!(stderr(&refused).contains("3 of 3 parts are missing"), "{}", stderr(&refused));

        // What one worker stores arrives so late that another is faster.
        let late = Proxy::start(s3.address(), |_, line| match line.starts_with("PUT ") {
            true => Fault::Late(Duration::from_secs(8)),
            false => Fault::None,
        });
        let work = ["extract", "--plan", plan, "--shard", "0/1", "--threads", "2", "--log", "json"];
        let (slow, fast) = std::thread::scope(|scope| {
            let slow = scope.spawn(|| run(late.address(), &work));
            while late.asked().iter().all(|(line, _)| !line.starts_with("PUT ")) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let fast = run(s3.address(), &work);
            (slow.join().unwrap(), fast)
        });
        assert_eq!((code(&slow), code(&fast)), (Some(0), Some(0)));
        assert!(stderr(&fast).contains("\"computed\":3,\"done_by_others\":0"), "{}", stderr(&fast));
        assert!(stderr(&slow).contains("\"computed\":0,\"done_by_others\":3"), "{}", stderr(&slow));
        assert_eq!(code(&run(s3.address(), &["extract", "--status", plan])), Some(0));
        assert_eq!(code(&run(s3.address(), &["merge", plan, "-o", "merged.h5", "--force"])), Some(0));
        assert_same(folder, "local.h5", "merged.h5", as_it_is);
    }

    // A part that was cut is found out, and computed again.
    fs::create_dir(folder.join("cut")).unwrap();
    fs::write(folder.join("cut/000001.h5"), &fs::read(folder.join("merged.h5")).unwrap()[..3000]).unwrap();
    s3.upload("plans", "run-2/parts/", &folder.join("cut"));
    let status = run(s3.address(), &["extract", "--status", "s3://plans/run-2"]);
    assert_eq!(code(&status), Some(1));
    assert!(said(&status).contains("2 of 3 parts done, 0 missing, 1 unusable"), "{}", said(&status));
    let why = "part 1 cannot be used: s3://plans/run-2/parts/000001.h5 is cut short";
    assert!(said(&status).contains(why), "{}", said(&status));
    let work = ["extract", "--plan", "s3://plans/run-2", "--shard", "0/1"];
    assert_eq!(code(&run(s3.address(), &work)), Some(0));
    assert_eq!(
        code(&run(s3.address(), &["merge", "s3://plans/run-2", "-o", "merged.h5", "--force"])),
        Some(0)
    );
    assert_same(folder, "local.h5", "merged.h5", as_it_is);

    // An image that changed after the plan was made is an error row, not a silent mixture.
    let make =
        ["plan", "s3://plans/data/", "--layer", "fc7", "--rows-per-part", "8", "-o", "s3://plans/run-3"];
    assert_eq!(code(&run(s3.address(), &make)), Some(0));
    fs::create_dir(folder.join("new")).unwrap();
    fs::copy(folder.join("data/sailboat/001.jpg"), folder.join("new/002.jpg")).unwrap();
    s3.upload("plans", "data/fish/", &folder.join("new"));
    let work = ["extract", "--plan", "s3://plans/run-3", "--shard", "0/1"];
    assert_eq!(code(&run(s3.address(), &work)), Some(1));
    assert_eq!(code(&run(s3.address(), &["merge", "s3://plans/run-3", "-o", "changed.h5"])), Some(1));
    let changed = open(folder, "changed.h5");
    assert_eq!(changed.image_names().len(), 19);
    assert_eq!(
        changed.errors()[0].reason,
        "s3://plans/data/fish/002.jpg changed after it was listed; run the same command again, or make a new plan"
    );
}

#[test]
fn a_plan_is_worked_on_through_a_store_that_fails_now_and_then() {
    let Some(s3) = S3::get("object stores: a plan and faults") else { return };
    let folder = pictures();
    let folder = folder.path();
    s3.upload("hard", "data/", &folder.join("data"));
    assert_eq!(code(&extract(&mut cnncodes(folder), &["data"], "local.h5")), Some(0));
    let proxy = Proxy::start(s3.address(), |number, _| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(77 + number as u64);
        match random.random_range(0..6) {
            0 => Fault::Status(503),
            1 => Fault::Cut(random.random_range(0..100)),
            2 => Fault::Lost,
            _ => Fault::None,
        }
    });
    let run = |arguments: &[&str]| {
        let mut command = cnncodes(folder);
        let ran = with_store(&mut command, proxy.address()).args(arguments).output().unwrap();
        assert_eq!(code(&ran), Some(0), "{arguments:?}");
    };
    let plan = "s3://hard/run";
    run(&["plan", "s3://hard/data/", "--layer", "fc7", "--rows-per-part", "3", "--hash", "-o", plan]);
    run(&["extract", "--plan", plan, "--shard", "0/2", "--threads", "2"]);
    run(&["extract", "--plan", plan, "--shard", "1/2", "--threads", "2"]);
    run(&["merge", plan, "-o", "merged.h5"]);
    assert_same(folder, "local.h5", "merged.h5", as_it_is);
    let faults = proxy.asked().iter().filter(|(_, fault)| *fault != Fault::None).count();
    assert!(faults > 20, "{faults} faults only");
}
