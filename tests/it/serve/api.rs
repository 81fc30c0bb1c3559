//! Classifying by HTTP.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use cnncodes::features::FeatureFile;
use serde_json::{Value, json};

use super::client::{Client, form, read_answer};
use super::schema::Description;
use super::{Running, empty_project, with_head};
use crate::common::cnncodes;

/// The server of `folder/models/demo.head.h5`.
fn serve_head(folder: &Path) -> Running {
    Running::start(folder, |settings| settings.head = Some(folder.join("models/demo.head.h5")))
}

/// Asserts that two answers are equal but for the names of the images and the last digits of numbers.
#[track_caller]
fn assert_alike(a: &Value, b: &Value) {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert_alike(a, b));
        }
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "in this order");
            a.iter()
                .zip(b)
                .filter(|((name, _), _)| *name != "image")
                .for_each(|((_, a), (_, b))| assert_alike(a, b));
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() < 1e-5, "{a} and {b}");
        }
        (a, b) => assert_eq!(a, b),
    }
}

#[test]
fn answers_are_those_of_the_command_line() {
    let folder = with_head(12);
    let running = serve_head(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    let names = ["image.jpg", "data/fish/001.jpg", "data/fish/002.jpg"];
    let bytes = names.map(|name| fs::read(folder.path().join(name)).unwrap());
    for (query, options) in [
        ("", &[][..]),
        ("?top=1", &["--top", "1"]),
        ("?coverage=0.9&unknown=false&top=1000", &["--coverage", "0.9", "--no-unknown", "--top", "1000"]),
    ] {
        let run = cnncodes(folder.path())
            .arg("classify")
            .args(names)
            .args(["--format", "json"])
            .args(options)
            .output();
        let printed: Value = serde_json::from_slice(&run.unwrap().stdout).unwrap();
        let files = [0, 1, 2].map(|index| (names[index], &bytes[index][..]));
        let answer = client.files(&format!("/v1/classify{query}"), &files);
        description.check("POST", "/v1/classify", &answer);
        assert_alike(&answer.of(200), &printed);
        assert_eq!(answer.of(200)[1]["image"], names[1]);
        let alone = client.send("POST", &format!("/v1/classify{query}"), "image/jpeg", &bytes[0]);
        assert_alike(&alone.of(200)[0], &printed[0]);
    }
}

#[test]
fn what_cannot_be_read_is_told_in_its_place() {
    let folder = with_head(6);
    let running = serve_head(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    let image = fs::read(folder.path().join("image.jpg")).unwrap();
    let files = [
        ("a.jpg", &image[..]),
        ("letter.jpg", b"Dear Sir"),
        ("cut.jpg", &image[..image.len() / 2]),
        ("b.jpg", &image),
    ];
    for path in ["/v1/classify", "/v1/features"] {
        let answer = client.files(path, &files);
        description.check("POST", path, &answer);
        let found = answer.of(200);
        let images = if path == "/v1/classify" { &found } else { &found["images"] };
        let names: Vec<&str> =
            images.as_array().unwrap().iter().map(|image| image["image"].as_str().unwrap()).collect();
        assert_eq!(names, ["a.jpg", "letter.jpg", "cut.jpg", "b.jpg"]);
        let told = |index: usize| images[index]["error"].as_str().unwrap_or_default();
        assert!(told(1).starts_with("not an image: it looks like text"), "{}", told(1));
        assert!(told(2).contains("cut-off JPEG"), "{}", told(2));
        assert_eq!((told(0), told(3)), ("", ""));
        let none = client.files(path, &files[1..3]);
        description.check("POST", path, &none);
        assert_eq!(none.code(422), "unreadable");
    }
}

#[test]
fn features_are_those_of_the_features_file() {
    let folder = with_head(6);
    let file = FeatureFile::open(&folder.path().join("features/demo-vgg-fc7.h5")).unwrap();
    let (stored, name) = (file.read_layer(None).unwrap(), &file.image_names()[3]);
    let running = serve_head(folder.path());
    let bytes = fs::read(folder.path().join("data").join(name)).unwrap();
    let answer = running.client.send("POST", "/v1/features", "application/octet-stream", &bytes).of(200);
    assert_eq!((&answer["network"], &answer["layer"]), (&json!("demo-vgg"), &json!("fc7")));
    let found = answer["images"][0]["features"].as_array().unwrap();
    assert_eq!(json!([found.len()]), answer["shape"]);
    for (found, stored) in found.iter().zip(stored.row(3)) {
        assert!((found.as_f64().unwrap() - f64::from(*stored)).abs() < 1e-4);
    }
}

#[test]
fn an_explanation_is_a_picture_and_names_training_images_that_can_be_seen() {
    let folder = with_head(6);
    let running = serve_head(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    let bytes = fs::read(folder.path().join("image.jpg")).unwrap();
    let answer = client.files("/v1/classify?explain=true&neighbors=2", &[("x.jpg", &bytes)]);
    description.check("POST", "/v1/classify", &answer);
    let found = &answer.of(200)[0];
    let why = &found["explanations"][0];
    assert_eq!(why["class"], found["classes"][0]["class"]);
    assert!(why["overlay"].as_str().unwrap().starts_with("data:image/jpeg;base64,/9j/"), "a JPEG");
    let nearest: Vec<&str> =
        found["nearest"].as_array().unwrap().iter().map(|near| near["image"].as_str().unwrap()).collect();
    assert_eq!(nearest.len(), 2);
    let picture = client.get(&format!("/v1/training-images/{}?size=64", nearest[0]));
    description.check("GET", "/v1/training-images/{name}", &picture);
    assert_eq!((picture.status, picture.header("content-type")), (200, Some("image/jpeg")));
    assert_eq!(
        image::load_from_memory(&picture.body).map_or(0, |picture| picture.width().max(picture.height())),
        64
    );
    // A request with more images than may wait for their pictures gets all of them.
    let many = client.files("/v1/classify?explain=true&top=1", &[("x.jpg", &bytes[..]); 9]).of(200);
    assert!(many.as_array().unwrap().iter().all(|answer| answer["explanations"][0]["class"] == why["class"]));
    for other in ["../image.jpg", "..%2Fimage.jpg", "%2Fetc%2Fpasswd", "image.jpg"] {
        assert_eq!(client.get(&format!("/v1/training-images/{other}")).status, 404, "{other}");
    }
}

#[test]
fn requests_that_make_no_sense_are_told_what_does() {
    let folder = with_head(6);
    let running = serve_head(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    let image = fs::read(folder.path().join("image.jpg")).unwrap();
    for query in [
        "top=0",
        "top=many",
        "coverage=1",
        "coverage=nan",
        "neighbors=21",
        "unknown=maybe",
        "topp=1",
        "top=1&top=2",
    ] {
        let answer = client.send("POST", &format!("/v1/classify?{query}"), "image/jpeg", &image);
        description.check("POST", "/v1/classify", &answer);
        assert_eq!(answer.code(400), "bad_request", "{query}");
    }
    assert_eq!(client.send("POST", "/v1/classify", "text/plain", b"x").code(415), "unsupported_media_type");
    assert_eq!(client.send("POST", "/v1/classify", "image/png", b"").code(400), "bad_request");
    assert_eq!(client.send("POST", "/v1/classify", "multipart/form-data", b"x").code(400), "bad_request");
    let many = vec![("a.jpg", &image[..]); 33];
    assert_eq!(client.files("/v1/classify", &many).code(413), "too_large");
    assert_eq!(client.get("/v1/nothing").code(404), "not_found");
    let not_taken = client.get("/v1/classify");
    assert_eq!(
        (not_taken.code(405).as_str(), not_taken.header("allow")),
        ("method_not_allowed", Some("POST"))
    );
    assert_eq!(client.get("/v1/project").code(404), "not_found", "teaching is off");
    assert_eq!(client.get("/v1/status").of(200)["teach"], false);
}

#[test]
fn the_server_says_how_it_is() {
    let folder = with_head(6);
    let running = serve_head(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    for path in ["/healthz", "/v1/status", "/v1/heads", "/metrics", "/openapi.json"] {
        description.check("GET", path, &client.get(path));
    }
    let status = client.get("/v1/status").of(200);
    assert_eq!((&status["head"]["name"], &status["head"]["kind"]), (&json!("demo"), &json!("logistic")));
    let heads = client.get("/v1/heads").of(200);
    assert_eq!((heads["current"].as_str(), heads["heads"].as_array().unwrap().len()), (Some("demo"), 1));
    let image = fs::read(folder.path().join("image.jpg")).unwrap();
    client.send("POST", "/v1/classify", "image/jpeg", &image).of(200);
    let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
    for line in [
        "cnncodes_requests_total{method=\"POST\",route=\"/v1/classify\",status=\"200\"} 1",
        "cnncodes_images_total 1",
        "cnncodes_batch_images_bucket{le=\"1\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn sixteen_clients_get_the_answers_of_one() {
    let folder = with_head(8);
    let running = serve_head(folder.path());
    let client = &running.client;
    let images: Vec<Vec<u8>> = (1..=8)
        .flat_map(|number| {
            ["fish", "flower"].map(|class| folder.path().join(format!("data/{class}/{number:03}.jpg")))
        })
        .filter_map(|path| fs::read(path).ok())
        .collect();
    assert!(images.len() >= 8);
    let classify = |image: &[u8]| client.send("POST", "/v1/classify", "image/jpeg", image).of(200);
    let alone: Vec<Value> = images.iter().map(|image| classify(image)).collect();
    std::thread::scope(|scope| {
        for start in 0..16 {
            let (images, alone) = (&images, &alone);
            scope.spawn(move || {
                for index in (0..images.len()).map(|index| (start + index) % images.len()) {
                    assert_alike(&classify(&images[index]), &alone[index]);
                }
            });
        }
    });
    let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
    let value = |name: &str| -> f64 {
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
    };
    assert_eq!(value("cnncodes_images_total"), (17 * images.len()) as f64);
    assert!(value("cnncodes_batch_images_count") < value("cnncodes_images_total"), "some ran together");
}

#[test]
fn what_is_too_much_is_refused_at_once_and_nothing_else_fails() {
    let folder = with_head(6);
    let running = Running::start(folder.path(), |settings| {
        settings.head = Some(folder.path().join("models/demo.head.h5"));
        settings.limits.images = 2;
    });
    let client = &running.client;
    let image = fs::read(folder.path().join("image.jpg")).unwrap();
    let pair = [("a.jpg", &image[..]), ("b.jpg", &image)];
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|_| {
                scope.spawn(|| {
                    let answer = client.files("/v1/classify", &pair);
                    if answer.status == 503 {
                        assert_eq!(answer.header("retry-after"), Some("1"));
                        assert_eq!(answer.code(503), "overloaded");
                    }
                    answer.status
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    // Three are always too many, and then there is room again.
    let three = [pair[0], pair[1], pair[0]];
    assert_eq!(client.files("/v1/classify", &three).code(503), "overloaded");
    client.files("/v1/classify", &pair).of(200);
}

#[test]
fn bodies_and_images_beyond_the_limits_are_refused() {
    let folder = with_head(6);
    let running = Running::start(folder.path(), |settings| {
        settings.head = Some(folder.path().join("models/demo.head.h5"));
        settings.limits.body_bytes = 100_000;
        settings.limits.pixels = 1000;
    });
    let client = &running.client;
    assert_eq!(client.send("POST", "/v1/classify", "image/jpeg", &vec![7; 100_001]).code(413), "too_large");
    let image = fs::read(folder.path().join("image.jpg")).unwrap();
    let answer = client.send("POST", "/v1/classify", "image/jpeg", &image);
    assert!(answer.of(422)["error"]["message"].as_str().unwrap().contains("limit of 1000 pixels"));
    // Without a length, and longer than allowed.
    let mut stream = client.connect();
    let head = client
        .head("POST", "/v1/classify", "image/jpeg", 0)
        .replace("content-length: 0", "transfer-encoding: chunked");
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..30 {
        if stream.write_all(&[&b"1388\r\n"[..], &[7; 5000], b"\r\n"].concat()).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    assert_eq!(read_answer(&mut stream).unwrap().code(413), "too_large");
}

#[test]
fn a_request_that_has_begun_is_answered_when_the_server_is_told_to_stop() {
    let folder = with_head(6);
    let mut running = serve_head(folder.path());
    let client = running.client.clone();
    let image = fs::read(folder.path().join("image.jpg")).unwrap();
    let body = form(&[("a.jpg", &image)]);
    let kind = format!("multipart/form-data; boundary={}", super::client::BOUNDARY);
    let mut stream = client.connect();
    stream.write_all(client.head("POST", "/v1/classify", &kind, body.len()).as_bytes()).unwrap();
    stream.write_all(&body[..body.len() / 2]).unwrap();
    // The server has seen the request when it counts it.
    let in_flight = || {
        let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
        metrics.contains("cnncodes_requests_in_flight 2")
    };
    while !in_flight() {
        std::thread::sleep(Duration::from_millis(10));
    }
    running.stop.stop();
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(&body[body.len() / 2..]).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().of(200)[0]["image"], "a.jpg");
    running.thread.take().unwrap().join().unwrap();
    assert!(std::net::TcpStream::connect(client.address).is_err(), "nothing listens any more");
}

#[test]
fn without_a_head_and_a_network_the_command_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = cnncodes(folder.path()).args(["serve", "--port", "0"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2));
    assert!(said.contains("neither a head nor a network") && said.contains("cnncodes models pull"), "{said}");
}

#[test]
fn without_a_head_classifying_says_that_one_must_be_trained() {
    let folder = empty_project();
    let running = Running::teach(folder.path());
    let answer = running.client.send("POST", "/v1/classify", "image/jpeg", b"x");
    assert_eq!(answer.code(409), "no_head");
    Description::of(&running.client).check("POST", "/v1/classify", &answer);
    assert_eq!(running.client.get("/v1/status").of(200)["head"], Value::Null);
}

#[test]
fn the_only_head_of_a_project_answers_and_others_can_be_chosen() {
    let folder = with_head(6);
    let running = Running::teach(folder.path());
    let client: &Client = &running.client;
    let description = Description::of(client);
    assert_eq!(client.get("/v1/status").of(200)["head"]["name"], "demo");
    fs::copy(folder.path().join("models/demo.head.h5"), folder.path().join("models/other.head.h5")).unwrap();
    let chosen = client.json("PUT", "/v1/heads/current", &json!({"name": "other"}));
    description.check("PUT", "/v1/heads/current", &chosen);
    assert_eq!(chosen.of(200)["name"], "other");
    assert_eq!(client.get("/v1/heads").of(200)["current"], "other");
    for none in ["third", "../models/demo", "", "trained"] {
        assert_eq!(client.json("PUT", "/v1/heads/current", &json!({"name": none})).code(404), "not_found");
    }
}
