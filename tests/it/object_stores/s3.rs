//! An S3 server on this machine: moto's, in the Python of the tests. And a proxy before it that behaves badly on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use assert_cmd::Command;

use crate::common::cnncodes;

/// Ends when its standard input does, so that it does not outlive the tests.
const SERVER: &str = "
import os, sys, threading
from moto.server import ThreadedMotoServer
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
";

/// Uploads every file below a folder, under its name there.
const UPLOAD: &str = "
import pathlib, sys
import boto3
from botocore.config import Config
bucket, prefix, folder = sys.argv[1:]
s3 = boto3.client('s3', config=Config(retries={'max_attempts': 3}))
s3.create_bucket(Bucket=bucket)
folder = pathlib.Path(folder)
for path in sorted(folder.rglob('*')):
    if path.is_file():
        s3.upload_file(str(path), bucket, prefix + path.relative_to(folder).as_posix())
";

/// Settings of stores that whoever runs the tests may have.
const PREFIXES: [&str; 4] = ["AWS_", "GOOGLE_", "AZURE_", "CNNCODES_RETRY"];

/// An S3 server.
pub struct S3 {
    python: std::ffi::OsString,
    address: String,
    /// The server ends with it.
    _server: Mutex<Child>,
}

impl S3 {
    /// The one server of all tests; says loudly where there is none.
    pub fn get(test: &str) -> Option<&'static S3> {
        static SERVER: OnceLock<Option<S3>> = OnceLock::new();
        let server = SERVER.get_or_init(|| {
            let python = std::env::var_os("CNNCODES_PYTHON")?;
            let has_moto = Process::new(&python).args(["-c", "import moto.server, boto3"]).output().ok()?;
            has_moto.status.success().then(|| S3::start(python))
        });
        if server.is_none() {
            eprintln!("SKIPPED: {test}: CNNCODES_PYTHON names no Python with moto[s3], flask and flask-cors");
        }
        server.as_ref()
    }

    fn start(python: std::ffi::OsString) -> S3 {
        let mut server = Process::new(&python)
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let address = format!("127.0.0.1:{}", port.trim());
        S3 { python, address, _server: Mutex::new(server) }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes the bucket and puts what is below the folder into it.
    pub fn upload(&self, bucket: &str, prefix: &str, folder: &Path) {
        let mut command = Command::new(&self.python);
        command.args(["-c", UPLOAD, bucket, prefix]).arg(folder);
        with_store(&mut command, &self.address).assert().success();
    }

    /// The program in `folder`, with this server for S3.
    pub fn cnncodes(&self, folder: &Path) -> Command {
        let mut command = cnncodes(folder);
        with_store(&mut command, &self.address);
        command
    }
}

/// Lets a program take the server at `address` for S3.
pub fn with_store<'c>(command: &'c mut Command, address: &str) -> &'c mut Command {
    without_settings(command)
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("NO_PROXY", "127.0.0.1")
}

/// Takes away what the environment says of stores.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The answer is this status.
    Status(u16),
    /// So many hundredths of the body arrive, then the connection ends.
    Cut(usize),
    /// The answer comes late.
    Late(Duration),
    /// The connection ends before the server has heard of it.
    HangUp,
    /// The connection ends after the server did what was asked.
    Lost,
}

/// Stands before a server, and does to each request what `fault` says.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

/// What happens to a request, by its number and its path.
type FaultOf = dyn Fn(usize, &str) -> Fault + Send + Sync;

struct Shared {
    upstream: String,
    fault: Box<FaultOf>,
    count: AtomicUsize,
    /// The first line of each request, and what became of it.
    asked: Mutex<Vec<(String, Fault)>>,
    is_down: AtomicBool,
    is_over: AtomicBool,
}

impl Proxy {
    /// `fault` sees the number of a request, from 0 on, and its first line.
    pub fn start(upstream: &str, fault: impl Fn(usize, &str) -> Fault + Send + Sync + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            fault: Box::new(fault),
            count: AtomicUsize::new(0),
            asked: Mutex::default(),
            is_down: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let (serving, place) = (Arc::clone(&shared), address.clone());
        std::thread::spawn(move || serve(listener, &place, &serving));
        Proxy { address, shared }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops the server, or starts it again.
    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::SeqCst);
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    pub fn asked(&self) -> Vec<(String, Fault)> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
    }
}

/// Listens while the server is up; while it is down, nobody does.
fn serve(listener: TcpListener, address: &str, shared: &Arc<Shared>) {
    let mut listening = Some(listener);
    while !shared.is_over.load(Ordering::SeqCst) {
        if shared.is_down.load(Ordering::SeqCst) {
            listening = None;
        } else if listening.is_none() {
            listening = TcpListener::bind(address).ok();
        }
        let accepted = listening.as_ref().map(|listener| {
            listener.set_nonblocking(true).unwrap();
            listener.accept()
        });
        match accepted {
            Some(Ok((client, _))) => {
                client.set_nonblocking(false).unwrap();
                let shared = Arc::clone(shared);
                std::thread::spawn(move || forward(client, &shared));
            }
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Answers one request, and ends the connection.
fn forward(mut client: TcpStream, shared: &Shared) -> Option<()> {
    let request = whole_request(&mut client)?;
    let line = String::from_utf8_lossy(&request).lines().next()?.to_owned();
    let number = shared.count.fetch_add(1, Ordering::SeqCst);
    let fault = (shared.fault)(number, &line);
    shared.asked.lock().unwrap().push((line, fault));
    match fault {
        Fault::HangUp => return None,
        Fault::Status(status) => {
            let body = "<Error><Code>SlowDown</Code></Error>";
            let head = format!(
                "HTTP/1.1 {status} Busy\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            client.write_all(head.as_bytes()).ok()?;
            return client.write_all(body.as_bytes()).ok();
        }
        Fault::Late(time) => std::thread::sleep(time),
        Fault::None | Fault::Cut(_) | Fault::Lost => {}
    }
    let mut server = TcpStream::connect(&shared.upstream).ok()?;
    server.write_all(&request).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    if shared.is_down.load(Ordering::SeqCst) || fault == Fault::Lost {
        return None;
    }
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let end = match fault {
        Fault::Cut(hundredths) => head + (answer.len() - head) * hundredths / 100,
        _ => answer.len(),
    };
    client.write_all(&answer[..end]).ok()?;
    client.shutdown(Shutdown::Write).ok()
}

/// A request with its body, told to be the only one of its connection.
fn whole_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(client);
    let (mut head, mut len) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        if let Some((name, value)) = line.split_once(':') {
            if name.eq_ignore_ascii_case("content-length") {
                len = value.trim().parse().ok()?;
            }
            if name.eq_ignore_ascii_case("connection") {
                continue;
            }
        }
        if line.trim().is_empty() {
            break;
        }
        head.extend_from_slice(line.as_bytes());
    }
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    head.extend_from_slice(&body);
    Some(head)
}
