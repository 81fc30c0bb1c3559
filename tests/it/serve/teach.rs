//! Teaching by HTTP, on a folder that the command line understands.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use cnncodes::demo;
use cnncodes::head::Head;
use cnncodes::images::{DecodeOptions, decode};
use serde_json::{Value, json};

use super::client::{Client, FormFile};
use super::schema::Description;
use super::{Running, empty_project};
use crate::common::cnncodes;

/// Pictures of the demo: class, name, bytes.
fn pictures(per_class: usize) -> Vec<(String, String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    demo::write_folder(folder.path(), per_class, 3).unwrap();
    let mut pictures = Vec::new();
    for class in ["fish", "flower"] {
        for number in 1..=per_class {
            let name = format!("{number:03}.jpg");
            let bytes = fs::read(folder.path().join("data").join(class).join(&name)).unwrap();
            pictures.push((class.to_owned(), name, bytes));
        }
    }
    pictures
}

fn add_class(client: &Client, name: &str) {
    client.json("POST", "/v1/classes", &json!({"name": name})).of(201);
}

/// Adds two classes of drawn pictures.
fn add_pictures(client: &Client, per_class: usize) {
    let pictures = pictures(per_class);
    for class in ["fish", "flower"] {
        add_class(client, class);
        let files: Vec<FormFile<'_>> = pictures
            .iter()
            .filter(|(of, ..)| of == class)
            .map(|(_, name, bytes)| (name.as_str(), &bytes[..]))
            .collect();
        for files in files.chunks(32) {
            let answer = client.files(&format!("/v1/photos?class={class}"), files).of(200);
            assert_eq!(answer["added"].as_array().unwrap().len(), files.len(), "{answer}");
        }
    }
}

/// Starts a job and waits for its end.
#[track_caller]
fn run_job(client: &Client, path: &str, body: &Value) -> Value {
    let started = client.json("POST", path, body);
    assert_eq!(started.of(202)["state"], "running");
    loop {
        let job = client.get("/v1/job").of(200);
        if job["ended"].is_string() {
            assert_eq!(job["id"], started.of(202)["id"]);
            return job;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn train(client: &Client) -> Value {
    let job = run_job(client, "/v1/train", &json!({}));
    assert_eq!(job["state"], "done", "{job}");
    client.get("/v1/result").of(200)
}

fn listed(client: &Client, query: &str) -> Vec<String> {
    let photos = client.get(&format!("/v1/photos{query}")).of(200);
    photos["photos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|photo| photo["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_taught_head_is_that_of_the_command_line_and_outlives_the_server() {
    let folder = empty_project();
    let path = folder.path();
    let running = Running::teach(path);
    let client = &running.client;
    let description = Description::of(client);
    assert_eq!(client.get("/v1/result").code(404), "no_result");
    assert_eq!(client.json("POST", "/v1/train", &json!({})).code(409), "too_few");
    assert_eq!(client.json("POST", "/v1/report", &json!({})).code(409), "no_result");
    add_pictures(client, 12);
    let project = client.get("/v1/project");
    description.check("GET", "/v1/project", &project);
    assert_eq!(
        project.of(200)["classes"],
        json!([{"name": "fish", "photos": 12}, {"name": "flower", "photos": 12}])
    );
    assert_eq!(
        (&project.of(200)["trained"], &project.of(200)["network"]),
        (&json!(false), &json!("demo-vgg"))
    );

    let result = train(client);
    description.check("GET", "/v1/result", &client.get("/v1/result"));
    description.check("GET", "/v1/job", &client.get("/v1/job"));
    let status = client.get("/v1/status").of(200);
    assert_eq!((&status["head"]["name"], &status["head"]["saved"]), (&json!("trained"), &json!(false)));
    assert_eq!(client.get("/v1/project").of(200)["changed"], false);

    // The same by the command line, with the features that the server has left.
    let features = path.join("features").read_dir().unwrap().next().unwrap().unwrap().path();
    let fitted = cnncodes(path)
        .args(["fit-head", "--logistic", "--min-per-class", "2", "--format", "json", "-o", "cli.head.h5"])
        .arg(&features)
        .output()
        .unwrap();
    let evaluation: Value = serde_json::from_slice(&fitted.stdout).unwrap();
    assert_eq!(result["evaluation"], evaluation);
    let counts: Vec<u64> =
        result["cells"].as_array().unwrap().iter().map(|cell| cell["count"].as_u64().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 24);
    assert_eq!(result["comparison"], Value::Null, "nothing to compare with");

    // Saved, exported, reported.
    let saved = client.json("POST", "/v1/heads", &json!({"name": "pets"}));
    description.check("POST", "/v1/heads", &saved);
    assert_eq!(saved.of(201)["name"], "pets");
    let again = client.json("POST", "/v1/heads", &json!({"name": "pets"}));
    assert_eq!(again.code(409), "conflict");
    client.json("POST", "/v1/heads", &json!({"name": "pets", "replace": true})).of(201);
    for name in ["../pets", "a/b", "", ".x", "trained", "a b"] {
        assert_eq!(
            client.json("POST", "/v1/heads", &json!({"name": name})).code(400),
            "bad_request",
            "{name}"
        );
    }
    let head = Head::load(&path.join("models/pets.head.h5")).unwrap();
    assert_eq!(head.model.class_names, ["fish", "flower"]);
    assert_eq!(serde_json::to_value(&head.evaluation).unwrap(), evaluation);
    assert_eq!(client.get("/v1/download/onnx").code(409), "no_result", "before the export");
    assert_eq!(run_job(client, "/v1/export", &json!({}))["state"], "done");
    assert_eq!(run_job(client, "/v1/report", &json!({}))["state"], "done");
    for (what, start) in [("head", &b"\x89HDF"[..]), ("features", b"\x89HDF"), ("report", b"<!DOCTYPE html>")]
    {
        let file = client.get(&format!("/v1/download/{what}"));
        description.check("GET", "/v1/download/{what}", &file);
        assert!(file.body.starts_with(start), "{what}");
        assert!(file.header("content-disposition").unwrap().starts_with("attachment; filename="));
    }
    fs::write(path.join("sealed.onnx"), client.get("/v1/download/onnx").body).unwrap();

    // After a restart the saved head answers, as the command line does with it and with the exported one.
    let image = pictures(13).pop().unwrap().2;
    fs::write(path.join("new.jpg"), &image).unwrap();
    let before = client.send("POST", "/v1/classify", "image/jpeg", &image).of(200);
    drop(running);
    let running = Running::teach(path);
    let client = &running.client;
    assert_eq!(client.get("/v1/status").of(200)["head"]["name"], "pets");
    let after = client.send("POST", "/v1/classify", "image/jpeg", &image).of(200);
    let mut answers = vec![before, after];
    for head in ["models/pets.head.h5", "sealed.onnx"] {
        let run = cnncodes(path)
            .args(["classify", "new.jpg", "--format", "json", "--head", head])
            .output()
            .unwrap();
        answers.push(serde_json::from_slice(&run.stdout).unwrap());
    }
    for answer in &answers {
        let ranked = |answer: &Value| -> Vec<(String, f64)> {
            let classes = answer[0]["classes"].as_array().unwrap().iter();
            classes.map(|c| (c["class"].to_string(), c["probability"].as_f64().unwrap())).collect()
        };
        for (found, expected) in ranked(answer).into_iter().zip(ranked(&answers[0])) {
            assert_eq!(found.0, expected.0);
            assert!((found.1 - expected.1).abs() < 1e-5, "{answers:?}");
        }
    }
    assert_eq!(client.get("/v1/result").of(200)["head"]["saved_as"], "pets");
}

#[test]
fn another_training_is_compared_with_the_one_before() {
    let folder = empty_project();
    let running = Running::teach(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    add_pictures(client, 10);
    // Three flowers among the fish, and two pictures without a class.
    let flowers = ["flower/001.jpg", "flower/002.jpg", "flower/003.jpg"];
    let moved = client.json("POST", "/v1/photos/move", &json!({"photos": flowers, "class": "fish"}));
    description.check("POST", "/v1/photos/move", &moved);
    let wrong: Vec<String> = moved.of(200)["moved"]
        .as_array()
        .unwrap()
        .iter()
        .map(|moved| moved["to"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(wrong, ["fish/001-2.jpg", "fish/002-2.jpg", "fish/003-2.jpg"]);
    let more = pictures(12);
    let loose = [("loose.jpg", &more[10].2[..]), ("other.jpg", &more[11].2)];
    client.files("/v1/photos", &loose).of(200);
    let first = train(client);
    let suspects: Vec<&str> = first["suspects"]["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|suspect| suspect["image"].as_str().unwrap())
        .collect();
    let found = suspects[..5].iter().filter(|suspect| wrong.iter().any(|wrong| wrong == *suspect)).count();
    assert!(found >= 2, "{suspects:?}");
    let mut proposed: Vec<&str> =
        first["label_next"].as_array().unwrap().iter().map(|photo| photo["id"].as_str().unwrap()).collect();
    proposed.sort_unstable();
    assert_eq!(proposed, ["loose.jpg", "other.jpg"]);
    // They are no training images, however alike.
    let answer = client.files("/v1/classify?neighbors=20", &[("x.jpg", &more[10].2)]).of(200);
    let near: Vec<&str> =
        answer[0]["nearest"].as_array().unwrap().iter().map(|near| near["image"].as_str().unwrap()).collect();
    assert_eq!(near.len(), 20);
    assert!(near.iter().all(|near| near.contains('/')), "{near:?}");

    let back = client.json("POST", "/v1/photos/move", &json!({"photos": wrong, "class": "flower"})).of(200);
    assert_eq!(back["moved"][0]["to"], "flower/001-2.jpg", "it keeps the name that it got");
    assert_eq!(client.get("/v1/project").of(200)["changed"], true);
    assert_eq!(client.get("/v1/result").of(200)["changed"], true);
    // A renamed class is the same class.
    let renamed = client.json("PATCH", "/v1/classes/flower", &json!({"name": "blossom"}));
    description.check("PATCH", "/v1/classes/{name}", &renamed);
    assert_eq!(renamed.of(200), json!({"name": "blossom", "photos": 10}));
    let second = train(client);
    description.check("GET", "/v1/result", &client.get("/v1/result"));
    let comparison = &second["comparison"];
    assert_eq!(comparison["photos"], 20);
    assert_eq!(comparison["previous_trained_at"], first["trained_at"]);
    let accuracy = |result: &Value| result["evaluation"]["accuracy"]["successes"].as_i64().unwrap();
    let difference = &comparison["difference"];
    // By the classes of today the first heads were right where they saw through the wrong labels.
    let only = |which: &str| difference[which].as_i64().unwrap();
    let then_right = accuracy(&second) - only("only_first") + only("only_second");
    assert!(
        (accuracy(&first)..=accuracy(&first) + 3).contains(&then_right),
        "{comparison}, {}",
        accuracy(&first)
    );
    assert!(comparison["verdict"].as_str().unwrap().contains("20 photos of both trainings"));
    assert_eq!(second["evaluation"]["class_names"], json!(["blossom", "fish"]));
}

#[test]
fn photos_are_listed_removed_and_brought_back() {
    let folder = empty_project();
    let running = Running::teach(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    add_pictures(client, 3);
    assert_eq!(listed(client, "?class=fish"), ["fish/001.jpg", "fish/002.jpg", "fish/003.jpg"]);
    assert_eq!(listed(client, "?offset=2&limit=2"), ["fish/003.jpg", "flower/001.jpg"]);
    assert_eq!(listed(client, "?class="), Vec::<String>::new());
    assert_eq!(client.get("/v1/photos?class=birds").code(404), "not_found");
    assert_eq!(client.get("/v1/photos?limit=0").code(400), "bad_request");
    let ids = json!({"photos": ["fish/002.jpg", "fish/999.jpg"]});
    let removed = client.json("POST", "/v1/photos/remove", &ids);
    description.check("POST", "/v1/photos/remove", &removed);
    let removed = removed.of(200);
    assert_eq!(
        (&removed["removed"][0]["id"], &removed["problems"][0]["name"]),
        (&json!("fish/002.jpg"), &json!("fish/999.jpg"))
    );
    assert_eq!(listed(client, "?class=fish"), ["fish/001.jpg", "fish/003.jpg"]);
    let trash = client.get("/v1/trash");
    description.check("GET", "/v1/trash", &trash);
    let entry = trash.of(200)["entries"][0]["entry"].clone();
    let restored = client.json("POST", "/v1/trash/restore", &json!({"entries": [entry]}));
    description.check("POST", "/v1/trash/restore", &restored);
    assert_eq!(restored.of(200)["restored"][0]["id"], "fish/002.jpg");
    let class = client.send("DELETE", "/v1/classes/fish", "", b"");
    description.check("DELETE", "/v1/classes/{name}", &class);
    assert_eq!(class.of(200)["removed"].as_array().unwrap().len(), 3);
    assert_eq!(client.get("/v1/project").of(200)["classes"], json!([{"name": "flower", "photos": 3}]));
    let emptied = client.json("POST", "/v1/trash/empty", &json!({}));
    description.check("POST", "/v1/trash/empty", &emptied);
    assert_eq!(emptied.of(200)["removed"], 3);
    let picture = client.get("/v1/thumbnails/flower/001.jpg?size=40");
    description.check("GET", "/v1/thumbnails/{id}", &picture);
    let picture = decode(&picture.body, &DecodeOptions::default()).unwrap();
    assert_eq!(picture.width().max(picture.height()), 40);
}

#[test]
fn the_same_bytes_are_stored_once_and_what_is_no_image_not_at_all() {
    let folder = empty_project();
    let running = Running::teach(folder.path());
    let client = &running.client;
    add_class(client, "fish");
    let picture = pictures(1).remove(0).2;
    let files = [
        ("a.jpg", &picture[..]),
        ("b.jpg", &picture),
        ("letter.jpg", b"Dear Sir"),
        ("cut.jpg", &picture[..900]),
    ];
    let answer = client.files("/v1/photos?class=fish", &files);
    Description::of(client).check("POST", "/v1/photos", &answer);
    let answer = answer.of(200);
    assert_eq!(
        answer["added"],
        json!([{"id": "fish/a.jpg", "class": "fish", "name": "a.jpg", "bytes": picture.len()}])
    );
    assert_eq!(answer["duplicates"], json!([{"name": "b.jpg", "of": "fish/a.jpg"}]));
    let problems: Vec<&str> =
        answer["problems"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(problems, ["letter.jpg", "cut.jpg"]);
    // A request that is sent again because its answer was lost changes nothing.
    let again = client.files("/v1/photos?class=fish", &files[..1]).of(200);
    assert_eq!(
        (again["added"].clone(), again["duplicates"][0]["of"].clone()),
        (json!([]), json!("fish/a.jpg"))
    );
    assert_eq!(client.files("/v1/photos?class=birds", &files[..1]).code(404), "not_found");
    assert_eq!(
        client.send("POST", "/v1/photos?class=fish", "image/jpeg", &picture).code(415),
        "unsupported_media_type"
    );
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<String> {
    let mut files: Vec<String> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    files
}

#[test]
fn no_name_of_a_client_leads_out_of_the_folder_of_its_class() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("project");
    demo::write_model(&cnncodes::network::ModelsFolder { path: folder.join("models") }).unwrap();
    fs::write(outer.path().join("secret.jpg"), "secret").unwrap();
    let running = Running::teach(&folder);
    let client = &running.client;
    add_class(client, "fish");
    let before = files_below(outer.path());
    let names = [
        "../../../evil.jpg",
        "/etc/evil.jpg",
        "..\\..\\evil.jpg",
        "C:\\evil.jpg",
        "evil.jpg\0.png",
        "a/../../evil.jpg",
        "....//evil.jpg",
        "%2e%2e%2fevil.jpg",
        ".bashrc",
        "..",
        "~/evil.jpg",
        "evil\nname.jpg",
        "con.jpg",
        "",
        "fish/../../evil.jpg",
        "evil.html",
    ];
    let pictures = pictures(names.len());
    for (name, (_, _, bytes)) in names.iter().zip(&pictures) {
        let quoted = name.replace('"', "").replace('\n', " ");
        // Whatever the answer, it is none of a file elsewhere.
        let answer = client.files("/v1/photos?class=fish", &[(&quoted, bytes)]);
        assert!([200, 400].contains(&answer.status), "{name:?}: {}", answer.status);
    }
    let added: Vec<String> =
        files_below(outer.path()).into_iter().filter(|file| !before.contains(file)).collect();
    assert!(added.len() >= names.len() - 2, "{added:?}");
    for file in &added {
        let name = file.strip_prefix("project/data/fish/").unwrap_or_else(|| panic!("{file} is elsewhere"));
        assert!(
            !name.contains('/') && !name.starts_with('.') && name.to_lowercase().ends_with(".jpg"),
            "{name}"
        );
    }
    for class in ["..", "../..", "/tmp", "a/b", "a\\b", ".hidden", "nul", "", "fish/../x"] {
        assert_eq!(
            client.json("POST", "/v1/classes", &json!({"name": class})).code(400),
            "bad_request",
            "{class}"
        );
        assert_ne!(client.json("PATCH", "/v1/classes/fish", &json!({"name": class})).status, 200, "{class}");
    }
    for id in [
        "../../secret.jpg",
        "..%2F..%2Fsecret.jpg",
        "fish/../../../secret.jpg",
        "%2E%2E/%2E%2E/secret.jpg",
        "/etc/passwd",
    ] {
        assert_eq!(client.get(&format!("/v1/thumbnails/{id}")).status, 404, "{id}");
        let moved = client.json("POST", "/v1/photos/move", &json!({"photos": [id], "class": "fish"})).of(200);
        assert_eq!(moved["moved"], json!([]), "{id}");
        let removed = client.json("POST", "/v1/photos/remove", &json!({"photos": [id]})).of(200);
        assert_eq!(removed["removed"], json!([]), "{id}");
    }
    for class in ["..", "%2E%2E", "..%2F..", "fish%2F..%2F.."] {
        assert_eq!(client.send("DELETE", &format!("/v1/classes/{class}"), "", b"").status, 404, "{class}");
        assert_ne!(
            client
                .json("POST", "/v1/photos/move", &json!({"photos": ["fish/evil.jpg"], "class": class}))
                .status,
            200
        );
    }
    for entry in ["..", "../../..", "000001/../..", ""] {
        let restored = client.json("POST", "/v1/trash/restore", &json!({"entries": [entry]})).of(200);
        assert_eq!(restored["restored"], json!([]), "{entry}");
    }
    for page in
        ["/page/../mod.rs", "/page/%2e%2e/mod.rs", "/page/..%2f..%2f..%2fCargo.toml", "/page//etc/passwd"]
    {
        assert_eq!(client.get(page).status, 404, "{page}");
    }
    assert_eq!(fs::read(outer.path().join("secret.jpg")).unwrap(), b"secret");
}

#[test]
fn events_tell_of_jobs_and_changes_and_end_with_the_server() {
    let folder = empty_project();
    let running = Running::teach(folder.path());
    let client = &running.client;
    let mut stream = client.connect();
    stream.write_all(client.head("GET", "/v1/events", "", 0).as_bytes()).unwrap();
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    while !text.contains("event: project") {
        let came = stream.read(&mut piece).unwrap();
        assert_ne!(came, 0, "{text}");
        text.push_str(std::str::from_utf8(&piece[..came]).unwrap());
    }
    add_pictures(client, 4);
    let trained_at = train(client)["trained_at"].clone();
    std::thread::sleep(Duration::from_millis(500));
    running.stop.stop();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    let of = |kind: &str| -> Vec<Value> {
        let start = format!("event: {kind}\ndata: ");
        text.split(&start)
            .skip(1)
            .map(|rest| serde_json::from_str(rest.lines().next().unwrap()).unwrap())
            .collect()
    };
    let jobs = of("job");
    assert_eq!(jobs[0]["state"], "none", "how things stand is told at once");
    assert_eq!(jobs.last().unwrap()["state"], "done");
    assert_eq!(of("result"), [json!({"trained_at": trained_at})]);
    let revisions = of("project");
    assert!(revisions.len() > 1 && revisions[0] != *revisions.last().unwrap(), "{revisions:?}");
}

#[test]
fn a_job_can_be_cancelled_and_the_next_one_goes_on() {
    let folder = empty_project();
    let running = Running::teach(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    add_pictures(client, 30);
    let none = client.send("DELETE", "/v1/job", "", b"");
    description.check("DELETE", "/v1/job", &none);
    assert_eq!(none.code(409), "conflict");
    let started = client.json("POST", "/v1/train", &json!({"kind": "svm", "folds": 3}));
    description.check("POST", "/v1/train", &started);
    let second = client.json("POST", "/v1/train", &json!({}));
    let cancelled = client.send("DELETE", "/v1/job", "", b"");
    description.check("DELETE", "/v1/job", &cancelled);
    assert_eq!(
        (second.code(409).as_str(), cancelled.of(202)["state"].as_str()),
        ("busy", Some("cancelling"))
    );
    while client.get("/v1/job").of(200)["ended"].is_null() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.get("/v1/job").of(200)["state"], "cancelled");
    assert_eq!(client.get("/v1/result").status, 404);
    assert_eq!(client.json("POST", "/v1/train", &json!({"kind": "forest"})).code(400), "bad_request");
    assert_eq!(client.json("POST", "/v1/train", &json!({"folds": 1})).code(400), "bad_request");
    let result = run_job(client, "/v1/train", &json!({"kind": "ridge", "folds": 3}));
    assert_eq!(result["state"], "done");
    assert_eq!(client.get("/v1/result").of(200)["head"]["kind"], "ridge");
}
