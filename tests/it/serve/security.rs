//! Attacks from pages of other origins, by names that are rebound, by forms, and without the token.

use std::fs;
use std::net::Ipv4Addr;

use serde_json::json;

use super::client::{BOUNDARY, Client, form};
use super::schema::Description;
use super::{Running, empty_project, with_head};

/// The request that a page would send to change something: a form needs no permission of the other side.
fn forged(client: &Client, headers: &[(&str, &str)]) -> u16 {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    client.with(headers).send("POST", "/v1/photos", &kind, &form(&[("a.jpg", b"x")])).status
}

#[test]
fn a_page_of_another_origin_reads_and_changes_nothing() {
    let folder = with_head(4);
    let running = Running::teach(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    let own = format!("http://{}", client.address);
    let port = client.address.port();
    let same_site = format!("http://localhost:{}", port ^ 1);
    let foreign: Vec<Vec<(&str, &str)>> = vec![
        vec![("origin", "http://evil.example")],
        vec![("origin", "null")],
        vec![("origin", &same_site)],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("origin", &own), ("sec-fetch-site", "cross-site")],
    ];
    for headers in &foreign {
        for (method, path) in description.operations() {
            let with_header = [&headers[..], &[("x-cnncodes", "1")]].concat();
            let body = if method == "GET" { "" } else { "application/json" };
            let answer = client.with(&with_header).send(&method, &path, body, b"{}");
            assert_eq!(answer.code(403), "forbidden", "{method} {path} with {headers:?}");
            description.check(&method, &path, &answer);
        }
        assert_eq!(forged(client, headers), 403, "{headers:?}");
    }
    // No answer lets another origin read it, and the permission that a browser asks for beforehand is not given.
    let asked = [
        ("origin", "http://evil.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-cnncodes"),
    ];
    let preflight = client.with(&asked).send("OPTIONS", "/v1/photos", "", b"");
    assert_eq!(preflight.status, 403);
    for answer in [preflight, client.get("/v1/status"), client.get("/")] {
        assert!(
            answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")),
            "{:?}",
            answer.headers
        );
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
    }
    assert_eq!(client.get("/v1/project").of(200)["unlabelled"], 0);
    let own = [("origin", own.as_str()), ("sec-fetch-site", "same-origin"), ("x-cnncodes", "1")];
    client.with(&own).json("POST", "/v1/classes", &json!({"name": "mine"})).of(201);
}

#[test]
fn a_name_that_is_rebound_to_this_computer_gets_nothing() {
    let folder = with_head(4);
    let running = Running::teach(folder.path());
    let client = &running.client;
    let port = client.address.port();
    for host in [
        format!("evil.example:{port}"),
        "evil.example".to_owned(),
        format!("127.0.0.1.evil.example:{port}"),
        String::new(),
    ] {
        for path in [
            "/",
            "/v1/status",
            "/v1/photos",
            "/v1/thumbnails/fish/001.jpg",
            "/healthz",
            "/metrics",
            "/openapi.json",
        ] {
            let answer = client.with(&[("host", &host)]).get(path);
            assert!([400, 403].contains(&answer.status), "{host} {path}: {}", answer.status);
        }
        let origin = format!("http://{host}");
        let fields = [
            ("host", host.as_str()),
            ("origin", &origin),
            ("x-cnncodes", "1"),
            ("sec-fetch-site", "same-origin"),
        ];
        let answer = client.with(&fields).json("POST", "/v1/classes", &json!({"name": "evil"}));
        assert!([400, 403].contains(&answer.status), "{host}");
    }
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(client.with(&[("host", &host)]).get("/v1/status").status, 200, "{host}");
    }
}

#[test]
fn a_form_of_another_page_changes_nothing_even_from_an_old_browser() {
    let folder = with_head(4);
    let running = Running::teach(folder.path());
    let client = &running.client;
    let description = Description::of(client);
    // Neither Origin nor Sec-Fetch-Site: the header that no form can send is missing.
    assert_eq!(forged(client, &[]), 403);
    let plain = client.with(&[]);
    for (method, path) in description.operations() {
        if method == "GET" || path == "/v1/classify" || path == "/v1/features" {
            continue;
        }
        for kind in ["application/json", "text/plain", "application/x-www-form-urlencoded"] {
            let answer = plain.send(&method, &path, kind, b"{}");
            assert_eq!(answer.code(403), "missing_header", "{method} {path}");
        }
    }
    // JSON in the clothes of a form is no JSON.
    let disguised = client.send("POST", "/v1/classes", "text/plain", br#"{"name": "evil"}"#);
    assert_eq!(disguised.code(415), "unsupported_media_type");
    let classes = client.get("/v1/project").of(200)["classes"].clone();
    assert!(!classes.to_string().contains("evil"), "{classes}");
}

#[test]
fn beyond_loopback_nothing_works_without_the_token() {
    let folder = with_head(4);
    let mut token = None;
    let running = Running::start(folder.path(), |settings| {
        settings.project = Some(folder.path().to_owned());
        settings.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
        settings.token = Some("correct-horse-battery".to_owned());
        token.clone_from(&settings.token);
    });
    let token = token.unwrap();
    let mut client = running.client.clone();
    client.address.set_ip(Ipv4Addr::LOCALHOST.into());
    let description = Description::of(&client.with(&[("authorization", &format!("Bearer {token}"))]));
    for wrong in [
        "",
        "Bearer ",
        "Bearer correct-horse-batterx",
        "Bearer correct-horse-batter",
        "Basic correct-horse-battery",
    ] {
        let client = client.with(&[("x-cnncodes", "1"), ("authorization", wrong)]);
        for (method, path) in description.operations() {
            if path == "/v1/session" {
                continue;
            }
            let body = if method == "GET" { "" } else { "application/json" };
            let answer = client.send(&method, &path, body, b"{}");
            assert_eq!(answer.code(401), "unauthorized", "{method} {path} with {wrong:?}");
            description.check(&method, &path, &answer);
        }
        assert_eq!(client.get("/v1/nothing").status, 401);
        assert_eq!(
            client.get(&format!("/v1/status?token={token}")).status,
            401,
            "not in an address, which logs keep"
        );
    }
    // The page itself holds no data.
    assert_eq!(client.get("/").status, 200);
    let wrong = client.json("POST", "/v1/session", &json!({"token": "wrong"}));
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    let session = client.json("POST", "/v1/session", &json!({"token": token}));
    description.check("POST", "/v1/session", &session);
    let cookie = session.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(&token),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(client.with(&[("cookie", &cookie)]).get("/v1/status").status, 200);
    // The cookie alone is what a page of another origin would ride on.
    let ridden = client.with(&[("cookie", &cookie), ("origin", "http://evil.example"), ("x-cnncodes", "1")]);
    assert_eq!(ridden.json("POST", "/v1/classes", &json!({"name": "evil"})).status, 403);
    assert_eq!(
        client.with(&[("cookie", &cookie)]).json("POST", "/v1/classes", &json!({"name": "evil"})).status,
        403
    );
}

#[test]
fn a_server_beyond_loopback_makes_a_token_if_it_is_given_none() {
    let folder = empty_project();
    let mut settings = cnncodes::serve::ServeSettings::new(cnncodes::network::ModelsFolder {
        path: folder.path().join("models"),
    });
    settings.project = Some(folder.path().to_owned());
    settings.address = (Ipv4Addr::UNSPECIFIED, 0).into();
    let server = cnncodes::serve::Server::bind(settings.clone()).unwrap();
    let token = server.token().unwrap().to_owned();
    assert_eq!(token.len(), 48);
    assert_eq!(server.url(), format!("http://localhost:{}/#token={token}", server.address().port()));
    settings.token = Some("short".to_owned());
    assert!(matches!(
        cnncodes::serve::Server::bind(settings.clone()),
        Err(cnncodes::serve::ServeError::Token)
    ));
    settings.address = (Ipv4Addr::LOCALHOST, 0).into();
    settings.token = None;
    assert_eq!(cnncodes::serve::Server::bind(settings).unwrap().token(), None);
}

#[test]
fn every_answer_has_the_headers_that_keep_browsers_in_bounds() {
    let folder = with_head(4);
    let running = Running::teach(folder.path());
    let client = &running.client;
    for path in ["/", "/v1/status", "/v1/nothing", "/v1/thumbnails/fish/001.jpg", "/healthz"] {
        let answer = client.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'self'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let cached = if path == "/" { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(cached), "{path}");
    }
    let page = client.get("/");
    let html = String::from_utf8(page.body.clone()).unwrap();
    assert!(
        !html.contains("<style") && !html.contains(" style=") && !html.contains(" onclick="),
        "the policy would forbid it"
    );
    for script in html.split("<script").skip(1) {
        assert!(
            script.starts_with(" ") && script.split('>').next().unwrap().contains("src="),
            "inline: {script}"
        );
    }
    let known = client.with(&[("if-none-match", page.header("etag").unwrap())]).get("/");
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert!(fs::metadata(folder.path().join("data")).is_ok());
}
