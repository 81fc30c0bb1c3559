//! Downloading from servers that behave well, and from such that do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cnncodes::demo::MODEL;
use cnncodes::download::{Download, FetchError, Fetched, RetryPolicy, download};
use sha2::{Digest, Sha256};

use crate::server::{Server, answer, rest, whole};

const ANYTHING: Known = Known { size: None, sha256: false };
const CHECKSUM: Known = Known { size: None, sha256: true };

/// Where the first answer of several tests breaks off.
const BROKEN_AT: usize = 300_000;

/// What is known beforehand of the file, which is always [`MODEL`].
struct Known {
    size: Option<u64>,
    sha256: bool,
}

fn checksum() -> String {
    format!("{:x}", Sha256::digest(MODEL))
}

fn fetch_with(url: &str, target: &Path, known: Known, attempts: u32) -> Result<Fetched, FetchError> {
    let sha256 = checksum();
    let retry = RetryPolicy { attempts, pause: Duration::from_millis(1), silence: Duration::from_secs(30) };
    let sha256 = known.sha256.then_some(sha256.as_str());
    let wanted = Download { url, target, size: known.size, sha256, retry, token: None };
    download(&wanted, &mut |_, _| {})
}

fn fetch(server: &Server, target: &Path, known: Known) -> Result<(), FetchError> {
    fetch_with(&server.url("/net.onnx"), target, known, 3)?.place()
}

/// A folder whose target holds an older file.
fn older() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("net.onnx");
    fs::write(&target, b"older").unwrap();
    (folder, target)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_whole_file_is_placed_in_stead_of_the_older_one() {
    let server = Server::start(|_, _| whole(MODEL, "a", usize::MAX));
    let (folder, target) = older();
    let url = server.url("/net.onnx");
    let mut told = Vec::new();
    let size = MODEL.len() as u64;
    let sha256 = checksum();
    let wanted = Download {
        url: &url,
        target: &target,
        size: Some(size),
        sha256: Some(&sha256),
        retry: RetryPolicy::default(),
        token: None,
    };
    let fetched = download(&wanted, &mut |here, total| told.push((here, total))).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"older", "nothing is touched before it is placed");
    assert_eq!(fs::read(fetched.path()).unwrap(), MODEL);
    assert_eq!(fetched.sha256, sha256);
    fetched.place().unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    assert_eq!(names(folder.path()), ["net.onnx"]);
    assert_eq!(told.first(), Some(&(0, Some(size))));
    assert_eq!(told.last(), Some(&(size, Some(size))));
    assert!(told.is_sorted());
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn what_broke_off_is_gone_on_with_in_the_same_run() {
    let server = Server::start(|_, request| match request.first_byte() {
        None => whole(MODEL, "a", BROKEN_AT),
        Some(first) => rest(MODEL, "a", first),
    });
    let (folder, target) = older();
    fetch(&server, &target, CHECKSUM).unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    assert_eq!(names(folder.path()), ["net.onnx"]);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header("range"), None);
    assert_eq!(asked[1].header("range"), Some("bytes=300000-"));
    assert_eq!(asked[1].header("if-range"), Some("\"a\""));
}

#[test]
fn what_broke_off_is_gone_on_with_in_the_next_run() {
    let server = Server::start(|number, request| match (number, request.first_byte()) {
        (0, _) => whole(MODEL, "a", BROKEN_AT),
        (_, Some(first)) => rest(MODEL, "a", first),
        (_, None) => answer("500 Internal Server Error", &[], b""),
    });
    let (folder, target) = older();
    let url = server.url("/net.onnx");
    let error = fetch_with(&url, &target, ANYTHING, 1).unwrap_err();
    let FetchError::BrokeOff { got, total, .. } = &error else { panic!("{error}") };
    assert_eq!((*got, *total), (BROKEN_AT as u64, Some(MODEL.len() as u64)));
    assert!(error.to_string().contains(&url), "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"older");
    assert_eq!(names(folder.path()), ["net.onnx", "net.onnx.part", "net.onnx.part.json"]);
    fetch_with(&url, &target, ANYTHING, 1).unwrap().place().unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    assert_eq!(server.asked()[1].first_byte(), Some(BROKEN_AT));
    assert_eq!(names(folder.path()), ["net.onnx"]);
}

#[test]
fn a_part_without_its_journal_or_from_elsewhere_is_not_gone_on_with() {
    let server = Server::start(|_, _| whole(MODEL, "a", usize::MAX));
    let (folder, target) = older();
    fs::write(folder.path().join("net.onnx.part"), b"whatever").unwrap();
    fetch(&server, &target, ANYTHING).unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    fs::write(folder.path().join("net.onnx.part"), b"whatever").unwrap();
    let journal =
        r#"{"url":"http://127.0.0.1:9/net.onnx","etag":"\"a\"","last_modified":null,"length":null}"#;
    fs::write(folder.path().join("net.onnx.part.json"), journal).unwrap();
    fetch(&server, &target, ANYTHING).unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    assert!(server.asked().iter().all(|request| request.header("range").is_none()));
}

#[test]
fn a_part_that_is_complete_already_is_only_verified() {
    let server = Server::start(|_, _| whole(MODEL, "a", usize::MAX));
    let (_folder, target) = older();
    let url = server.url("/net.onnx");
    drop(fetch_with(&url, &target, CHECKSUM, 1).unwrap());
    fetch_with(&url, &target, CHECKSUM, 1).unwrap().place().unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all_again() {
    let server =
        Server::start(|number, _| whole(MODEL, "a", if number == 0 { BROKEN_AT } else { usize::MAX }));
    let (_folder, target) = older();
    fetch(&server, &target, ANYTHING).unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    assert_eq!(server.asked()[1].first_byte(), Some(BROKEN_AT));
}

#[test]
fn a_file_that_changed_in_between_is_fetched_anew() {
    // One server heeds If-Range; the other sends the rest of the new file, and only its entity tag gives it away.
    for heedful in [true, false] {
        let mut before = MODEL.to_vec();
        before.iter_mut().for_each(|byte| *byte = !*byte);
        let server = Server::start(move |number, request| match (number, request.first_byte()) {
            (0, _) => whole(&before, "before", BROKEN_AT),
            (_, Some(first)) if !heedful => rest(MODEL, "now", first),
            _ => whole(MODEL, "now", usize::MAX),
        });
        let (_folder, target) = older();
        fetch(&server, &target, ANYTHING).unwrap();
        assert!(fs::read(&target).unwrap() == MODEL, "heedful: {heedful}");
        let asked = server.asked();
        assert_eq!(asked[1].header("if-range"), Some("\"before\""));
        assert_eq!(asked.len(), if heedful { 2 } else { 3 });
        assert_eq!(asked.last().unwrap().header("range").is_some(), heedful);
    }
}

#[test]
fn a_server_without_a_strong_validator_is_asked_for_all_of_it_again() {
    let server = Server::start(|number, _| {
        let headers = [format!("Content-Length: {}", MODEL.len()), "ETag: W/\"weak\"".to_owned()];
        answer("200 OK", &headers, if number == 0 { &MODEL[..BROKEN_AT] } else { MODEL })
    });
    let (_folder, target) = older();
    fetch(&server, &target, ANYTHING).unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    assert_eq!(server.asked()[1].header("range"), None);
}

#[test]
fn a_length_that_is_too_long_is_never_reached() {
    let server = Server::start(|_, request| match request.first_byte() {
        Some(_) => answer("416 Range Not Satisfiable", &[], b""),
        None => {
            let headers = [format!("Content-Length: {}", MODEL.len() + 1000), "ETag: \"a\"".to_owned()];
            answer("200 OK", &headers, MODEL)
        }
    });
    let (_folder, target) = older();
    let error = fetch(&server, &target, ANYTHING).unwrap_err();
    let FetchError::BrokeOff { got, total, attempts: 3, .. } = error else { panic!("{error}") };
    assert_eq!((got, total), (MODEL.len() as u64, Some(MODEL.len() as u64 + 1000)));
    assert_eq!(fs::read(&target).unwrap(), b"older");
}

#[test]
fn a_length_that_is_too_short_is_found_out() {
    let server =
        Server::start(|_, _| answer("200 OK", &[format!("Content-Length: {}", MODEL.len() - 1000)], MODEL));
    let (folder, target) = older();
    let size = MODEL.len() as u64;
    let error = fetch(&server, &target, Known { size: Some(size), sha256: false }).unwrap_err();
    let FetchError::WrongLength { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((expected, found), (size, size - 1000));
    let error = fetch(&server, &target, CHECKSUM).unwrap_err();
    assert!(matches!(error, FetchError::WrongChecksum { .. }), "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"older");
    assert_eq!(names(folder.path()), ["net.onnx"]);
}

#[test]
fn without_a_length_only_a_known_size_or_checksum_tells_what_is_complete() {
    let server = Server::start(|_, _| answer("200 OK", &[], MODEL));
    let (_folder, target) = older();
    let error = fetch(&server, &target, ANYTHING).unwrap_err();
    assert!(matches!(error, FetchError::UnknownLength { .. }), "{error}");
    let error = fetch(&server, &target, Known { size: Some(1000), sha256: false }).unwrap_err();
    assert!(matches!(error, FetchError::WrongLength { expected: 1000, .. }), "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"older");
    fetch(&server, &target, CHECKSUM).unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
}

#[test]
fn a_wrong_file_is_removed_and_the_older_one_stays() {
    let server = Server::start(|_, _| whole(b"<html>Sign in, please</html>", "a", usize::MAX));
    let (folder, target) = older();
    let error = fetch(&server, &target, CHECKSUM).unwrap_err();
    let FetchError::WrongChecksum { expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!(*expected, checksum());
    assert_eq!(*found, format!("{:x}", Sha256::digest(b"<html>Sign in, please</html>")));
    assert_eq!(fs::read(&target).unwrap(), b"older");
    assert_eq!(names(folder.path()), ["net.onnx"]);
}

#[test]
fn a_missing_file_is_asked_for_once_and_a_busy_server_again() {
    let server = Server::start(|number, request| match (request.path.as_str(), number) {
        ("/gone", _) => answer("404 Not Found", &["Content-Length: 4".to_owned()], b"gone"),
        (_, 1) => answer("503 Service Unavailable", &["Content-Length: 0".to_owned()], b""),
        _ => whole(MODEL, "a", usize::MAX),
    });
    let (folder, target) = older();
    let error = fetch_with(&server.url("/gone"), &target, ANYTHING, 3).unwrap_err();
    assert!(matches!(error, FetchError::NotFound { status: 404, .. }), "{error}");
    assert!(error.to_string().contains("/gone") && error.to_string().contains("--url"), "{error}");
    assert_eq!(server.asked().len(), 1);
    assert_eq!(fs::read(&target).unwrap(), b"older");
    assert_eq!(names(folder.path()), ["net.onnx"]);
    fetch(&server, &target, CHECKSUM).unwrap();
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn redirects_are_followed_a_few_times() {
    let server = Server::start(|_, request| match (request.path.as_str(), request.first_byte()) {
        ("/net.onnx", _) => {
            answer("302 Found", &["Location: /cdn/net".to_owned(), "Content-Length: 0".to_owned()], b"")
        }
        ("/cdn/net", None) => whole(MODEL, "a", BROKEN_AT),
        ("/cdn/net", Some(first)) => rest(MODEL, "a", first),
        _ => answer("302 Found", &["Location: /round".to_owned(), "Content-Length: 0".to_owned()], b""),
    });
    let (_folder, target) = older();
    fetch(&server, &target, CHECKSUM).unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
    assert_eq!(server.asked().last().unwrap().first_byte(), Some(BROKEN_AT), "a range survives a redirect");
    let error = fetch_with(&server.url("/round"), &target, ANYTHING, 3).unwrap_err();
    assert!(matches!(error, FetchError::Redirects { limit: 5, .. }), "{error}");
}

#[test]
fn nobody_there_is_an_error_that_names_the_address_and_the_remedy() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/net.onnx", listener.local_addr().unwrap());
    drop(listener);
    let (folder, target) = older();
    let error = fetch_with(&url, &target, ANYTHING, 2).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { attempts: 2, .. }), "{error}");
    assert!(error.to_string().contains(&url) && error.to_string().contains("models add"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(names(folder.path()), ["net.onnx"]);
    for bad in ["ftp://127.0.0.1/net.onnx", "net.onnx", "http://", "https:// /"] {
        let error = fetch_with(bad, &target, ANYTHING, 2).unwrap_err();
        assert!(matches!(error, FetchError::Url { .. }), "{bad}: {error}");
    }
}

#[test]
fn two_runs_do_not_write_one_file() {
    let server = Server::start(|_, _| whole(MODEL, "a", usize::MAX));
    let (_folder, target) = older();
    let url = server.url("/net.onnx");
    let first = fetch_with(&url, &target, ANYTHING, 1).unwrap();
    let error = fetch_with(&url, &target, ANYTHING, 1).unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    first.place().unwrap();
    assert_eq!(fs::read(&target).unwrap(), MODEL);
}
