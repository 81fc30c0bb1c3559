//! The program is killed again and again while photos are added and a head is trained.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cnncodes::demo;
use cnncodes::head::Head;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

use super::client::Client;
use super::empty_project;

/// The program as a process of its own, once it listens.
fn start(folder: &Path) -> (Child, Client) {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("cnncodes"))
        .current_dir(folder)
        .args(["serve", "--port", "0", "--threads", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split("localhost:").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
    let port: u16 = port.unwrap_or_else(|| panic!("no address in {line:?}"));
    (child, Client::new(SocketAddr::from(([127, 0, 0, 1], port))))
}

#[test]
fn twenty_kills_lose_no_acknowledged_photo_and_leave_no_half_head() {
    let pictures = tempfile::tempdir().unwrap();
    demo::write_folder(pictures.path(), 120, 5).unwrap();
    let folder = empty_project();
    let (mut child, mut client) = start(folder.path());
    for class in ["fish", "flower"] {
        client.json("POST", "/v1/classes", &json!({"name": class})).of(201);
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(9);
    let acknowledged: Mutex<Vec<(String, Vec<u8>)>> = Mutex::default();
    let (mut next, mut trained) = (1, 0);
    for _ in 0..20 {
        let killed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (client, killed, acknowledged, pictures) = (&client, &killed, &acknowledged, pictures.path());
            let adding = scope.spawn(move || {
                let mut number = next;
                while !killed.load(Ordering::Relaxed) && number <= 120 {
                    for class in ["fish", "flower"] {
                        let name = format!("{number:03}.jpg");
                        let bytes = fs::read(pictures.join("data").join(class).join(&name)).unwrap();
                        let path = format!("/v1/photos?class={class}");
                        let Ok(answer) = client.try_files(&path, &[(&name, &bytes)]) else { return number };
                        let answer = answer.of(200);
                        let stored =
                            answer["added"][0]["id"].as_str().or(answer["duplicates"][0]["of"].as_str());
                        let stored = stored.unwrap().to_owned();
                        acknowledged.lock().unwrap().push((stored, bytes));
                    }
                    number += 1;
                    if number % 3 == 0 {
                        let _ = client.try_send("POST", "/v1/train", "application/json", b"{}");
                    }
                }
                number
            });
            std::thread::sleep(Duration::from_millis(random.random_range(50..900)));
            child.kill().unwrap();
            child.wait().unwrap();
            killed.store(true, Ordering::Relaxed);
            next = adding.join().unwrap().min(118);
        });
        check_folder(folder.path(), &acknowledged.lock().unwrap());
        (child, client) = start(folder.path());
        let job = client.get("/v1/job").of(200);
        assert!(["none", "done", "interrupted", "failed"].contains(&job["state"].as_str().unwrap()), "{job}");
        let result = client.get("/v1/result");
        trained += usize::from(result.status == 200);
    }
    client.json("POST", "/v1/train", &json!({})).of(202);
    while client.get("/v1/job").of(200)["ended"].is_null() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let result = client.get("/v1/result").of(200);
    let ids: HashSet<String> = acknowledged.lock().unwrap().iter().map(|(id, _)| id.clone()).collect();
    assert!(result["evaluation"]["rows"].as_u64().unwrap() >= ids.len() as u64);
    assert!(ids.len() > 10 && trained > 0, "{} photos, {trained} results", ids.len());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Every acknowledged photo is there with its bytes, and every head can be read.
fn check_folder(folder: &Path, acknowledged: &[(String, Vec<u8>)]) {
    for (id, bytes) in acknowledged {
        assert_eq!(&fs::read(folder.join("data").join(id)).unwrap(), bytes, "{id}");
    }
    for state in fs::read_dir(folder.join(".cnncodes-serve")).unwrap() {
        let path = state.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".head.h5") {
            assert_eq!(Head::load(&path).unwrap().model.class_names, ["fish", "flower"]);
        } else if name.ends_with(".json") {
            serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
        }
    }
}
