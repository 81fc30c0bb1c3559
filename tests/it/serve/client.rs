//! A small HTTP client that can also misbehave.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Speaks to one server.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: SocketAddr,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A file of a form.
pub type FormFile<'a> = (&'a str, &'a [u8]);

pub const BOUNDARY: &str = "----boundary7MA4YWxk";

/// A form of files.
pub fn form(files: &[FormFile<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in files {
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"photo\"; filename=\"{name}\"\r\n\
             content-type: image/jpeg\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let headers = vec![("x-cnncodes".to_owned(), "1".to_owned())];
        Self { address, headers }
    }

    /// Without the headers that are sent with every request, and with these.
    pub fn with(&self, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { headers, ..self.clone() }
    }

    /// The head of a request with a body of `length` bytes.
    pub fn head(&self, method: &str, path: &str, kind: &str, length: usize) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if self.headers.iter().all(|(name, _)| name != "host") {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !kind.is_empty() {
            head.push_str(&format!("content-type: {kind}\r\ncontent-length: {length}\r\n"));
        }
        head.push_str("\r\n");
        head
    }

    pub fn connect(&self) -> TcpStream {
        self.try_connect().unwrap()
    }

    fn try_connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub fn try_send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = self.try_connect()?;
        stream.write_all(self.head(method, path, kind, body.len()).as_bytes())?;
        // A server that refuses may close before all is sent; its answer is there all the same.
        let _ = stream.write_all(body);
        read_answer(&mut stream)
    }

    pub fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        self.try_send(method, path, kind, body).unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    pub fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, "application/json", body.to_string().as_bytes())
    }

    pub fn try_files(&self, path: &str, files: &[FormFile<'_>]) -> io::Result<Answer> {
        self.try_send("POST", path, &format!("multipart/form-data; boundary={BOUNDARY}"), &form(files))
    }

    pub fn files(&self, path: &str, files: &[FormFile<'_>]) -> Answer {
        self.try_files(path, files).unwrap()
    }
}

/// Reads an answer to its end.
pub fn read_answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer");
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(broken)?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = all.split_off(end + 4);
    let body = if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
        unchunked(&body)
    } else {
        body
    };
    Ok(Answer { status, headers, body })
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let Ok(length) = usize::from_str_radix(&String::from_utf8_lossy(&body[..end]), 16) else { break };
        body = &body[end + 2..];
        whole.extend_from_slice(&body[..length.min(body.len())]);
        body = body.get(length + 2..).unwrap_or_default();
    }
    whole
}

impl Answer {
    /// The JSON of an answer of this status.
    #[track_caller]
    pub fn of(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The code of an error.
    #[track_caller]
    pub fn code(&self, status: u16) -> String {
        self.of(status)["error"]["code"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
