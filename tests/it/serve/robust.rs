//! Clients that send nonsense, lie about lengths, are slow, or go away. The server goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::client::{BOUNDARY, Client, form, read_answer};
use super::{Running, with_head};

/// A body that is wrong somewhere, and what it claims to be.
fn malformed(random: &mut Xoshiro256PlusPlus, image: &[u8]) -> (String, Vec<u8>) {
    let mut body = form(&[("a.jpg", image), ("b.png", &image[..random.random_range(0..image.len())])]);
    let mut kind = format!("multipart/form-data; boundary={BOUNDARY}");
    match random.random_range(0..9) {
        0 => body.truncate(random.random_range(0..body.len())),
        1 => {
            for _ in 0..random.random_range(1..200) {
                let at = random.random_range(0..body.len());
                body[at] = random.random();
            }
        }
        2 => kind = "multipart/form-data".to_owned(),
        3 => kind = format!("multipart/form-data; boundary={}", "x".repeat(random.random_range(0..5000))),
        4 => body = (0..random.random_range(0..5000)).map(|_| random.random()).collect(),
        // Heads of parts without an end.
        5 => {
            body = format!("--{BOUNDARY}\r\n{}", "x: y\r\n".repeat(random.random_range(1..3000))).into_bytes()
        }
        // A picture of 4 billion pixels in a few bytes.
        6 => {
            let mut png = vec![0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13];
            let mut header = b"IHDR".to_vec();
            header.extend(65_500_u32.to_be_bytes());
            header.extend(65_500_u32.to_be_bytes());
            header.extend([8, 2, 0, 0, 0]);
            png.extend(&header);
            png.extend(crate::common::png_crc(&header).to_be_bytes());
            png.extend((0..random.random_range(0..100)).map(|_| random.random::<u8>()));
            (kind, body) = ("image/png".to_owned(), png);
        }
        7 => {
            kind = ["application/json", "image/jpeg", "text/html", "", "image/\u{e9}"]
                .choose(random)
                .unwrap()
                .to_string();
            body.truncate(random.random_range(0..2000));
        }
        _ => body = form(&vec![("n.jpg", &b"x"[..]); random.random_range(33..200)]),
    }
    (kind, body)
}

/// Sends a malformed request in one of several ways; gives the status, if there was an answer.
fn misbehave(client: &Client, random: &mut Xoshiro256PlusPlus, image: &[u8]) -> Option<u16> {
    let paths = [
        "/v1/classify",
        "/v1/features",
        "/v1/photos?class=fish",
        "/v1/classes",
        "/v1/photos/move",
        "/v1/train",
        "/%ff%fe",
        "/v1/trash/restore",
    ];
    let (kind, body) = malformed(random, image);
    let mut length = body.len();
    let manner = random.random_range(0..6);
    if manner == 1 {
        // More is announced than comes, or less.
        length = random.random_range(0..2 * body.len() + 2);
    }
    let mut head = client.head("POST", paths.choose(random).unwrap(), &kind, length).into_bytes();
    if manner == 2 {
        for _ in 0..random.random_range(1..10) {
            let at = random.random_range(0..head.len());
            head[at] = random.random();
        }
    }
    let mut stream = client.connect();
    stream.write_all(&head).ok()?;
    let _ = stream.write_all(&body);
    match manner {
        // Gone without listening.
        3 => return None,
        // Half-closed: the client has said what it had to say.
        4 | 1 | 2 => drop(stream.shutdown(Shutdown::Write)),
        _ => {}
    }
    read_answer(&mut stream).ok().map(|answer| answer.status)
}

#[test]
fn a_thousand_malformed_requests_leave_it_serving() {
    let folder = with_head(4);
    let running = Running::start(folder.path(), |settings| {
        settings.project = Some(folder.path().to_owned());
        settings.limits.body_time = Duration::from_secs(2);
    });
    let client = &running.client;
    let image = fs::read(folder.path().join("image.jpg")).unwrap();
    let (mut statuses, workers) = (Vec::new(), 4);
    std::thread::scope(|scope| {
        let image = &image;
        let workers: Vec<_> = (0..workers)
            .map(|seed| {
                scope.spawn(move || {
                    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
                    (0..250).filter_map(|_| misbehave(client, &mut random, image)).collect::<Vec<u16>>()
                })
            })
            .collect();
        statuses.extend(workers.into_iter().flat_map(|worker| worker.join().unwrap()));
    });
    assert!(statuses.len() > 600, "{} answers", statuses.len());
    assert!(statuses.iter().all(|status| *status < 500 || *status == 503), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status >= 400).count() > statuses.len() / 2);
    client.get("/healthz").of(200);
    let answer = client.send("POST", "/v1/classify", "image/jpeg", &image).of(200);
    assert_eq!(answer[0]["classes"].as_array().unwrap().len(), 4);
}

#[test]
fn slow_and_silent_clients_are_cut_off_and_hinder_nobody() {
    let folder = with_head(4);
    let running = Running::start(folder.path(), |settings| {
        settings.head = Some(folder.path().join("models/demo.head.h5"));
        settings.limits.head_time = Duration::from_millis(400);
        settings.limits.body_time = Duration::from_millis(400);
    });
    let client = &running.client;
    let image = fs::read(folder.path().join("image.jpg")).unwrap();
    let mut silent: Vec<_> = (0..100).map(|_| client.connect()).collect();
    let mut half_heads: Vec<_> = (0..100).map(|_| client.connect()).collect();
    for stream in &mut half_heads {
        stream.write_all(b"POST /v1/classify HTTP/1.1\r\nhost: local").unwrap();
    }
    let mut half_bodies: Vec<_> = (0..50).map(|_| client.connect()).collect();
    for stream in &mut half_bodies {
        stream.write_all(client.head("POST", "/v1/classify", "image/jpeg", 5000).as_bytes()).unwrap();
        stream.write_all(b"\xff\xd8\xff").unwrap();
    }
    client.send("POST", "/v1/classify", "image/jpeg", &image).of(200);
    for stream in &mut half_bodies {
        assert_eq!(read_answer(stream).unwrap().code(408), "timeout");
    }
    for stream in silent.iter_mut().chain(&mut half_heads) {
        let mut answer = Vec::new();
        // Closed, with or without a word.
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    // A byte now and then does not help.
    let mut stream = client.connect();
    stream.write_all(client.head("POST", "/v1/classify", "image/jpeg", 5000).as_bytes()).unwrap();
    let status = std::thread::scope(|scope| {
        let mut writing = stream.try_clone().unwrap();
        scope.spawn(move || {
            for _ in 0..40 {
                std::thread::sleep(Duration::from_millis(50));
                if writing.write_all(b"x").is_err() {
                    return;
                }
            }
        });
        read_answer(&mut stream).map(|answer| answer.status)
    });
    assert_eq!(status.unwrap(), 408);
}

#[test]
fn one_connection_too_many_is_told_so() {
    let folder = with_head(4);
    let running = Running::start(folder.path(), |settings| {
        settings.head = Some(folder.path().join("models/demo.head.h5"));
        settings.limits.connections = 3;
    });
    let client = &running.client;
    let held: Vec<_> = (0..3).map(|_| client.connect()).collect();
    // The server accepts them one after the other.
    let refused = loop {
        match client.try_send("GET", "/healthz", "", b"") {
            Ok(answer) if answer.status == 503 => break answer,
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert_eq!((refused.code(503).as_str(), refused.header("retry-after")), ("overloaded", Some("1")));
    drop(held);
    while !client.try_send("GET", "/healthz", "", b"").is_ok_and(|answer| answer.status == 200) {
        std::thread::sleep(Duration::from_millis(10));
    }
}
