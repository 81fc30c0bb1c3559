//! `cnncodes serve`: the page, and the HTTP interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use super::compute_args::ComputeArgs;
use super::{Status, show};
use crate::extract::ExtractorSettings;
use crate::network::ModelsFolder;
use crate::serve::{DEFAULT_PORT, Limits, ServeSettings, Server};

/// The token, for servers that are started by other programs.
const TOKEN: &str = "CNNCODES_SERVE_TOKEN";

/// Serve a page to classify and to teach in a browser, and an HTTP interface for programs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --head the page teaches the project folder: data/CLASS/* are its photos, models/ has the network and the saved \
heads, features/ the features. Other commands can be used on it at any time.

The server answers on this computer only. With --listen it answers others as well, and requires the token that it prints \
(or that the environment variable CNNCODES_SERVE_TOKEN holds). The connection is not encrypted: put a proxy with TLS \
before it, or use it in a network that you trust.

docs/serve.md describes the page, docs/api.md the interface for programs.

Examples:
  cnncodes serve --open                          teach the current folder, in the browser
  cnncodes serve --project pets --model mobilenetv2
  cnncodes serve --head models/pets.head.h5      classify only
  cnncodes serve --head pets.onnx --listen 0.0.0.0 --port 8000
  curl -F image=@cat.jpg 'http://localhost:8080/v1/classify?top=3'")]
pub struct Args {
    /// The head that answers, or what `cnncodes export` made of it; teaching is then off, unless --project is given
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Folder to teach, with its data/, models/ and features/; --models is below it as well [default: the current folder]
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Model to teach with, by its name in models/ [default: the only one]
    #[arg(short, long, value_name = "NAME", conflicts_with = "head")]
    model: Option<String>,
    /// Layer to teach with [default: the model's own, or the penultimate]
    #[arg(short, long, value_name = "LAYER", conflicts_with = "head")]
    layer: Option<String>,
    /// Port; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Address to listen on, such as 0.0.0.0 for all of this computer's; others than 127.0.0.1 require the token
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// Name by which others reach the server, such as that of a proxy before it; may be given several times
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = Limits::default().pixels)]
    max_pixels: u64,
    /// Images that are worked on or wait at a time; more are refused with status 503
    #[arg(long, value_name = "N", default_value_t = Limits::default().images)]
    max_images: usize,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let mut settings = ServeSettings::new(models.clone());
    if let Some(head) = &args.head {
        let head = std::path::absolute(head).with_context(|| format!("cannot find {}", head.display()))?;
        settings.head = Some(head);
    }
    if let Some(project) = &args.project {
        // Features files and heads name one another by relative paths, as those of other commands do in that folder.
        std::fs::create_dir_all(project)
            .and_then(|()| std::env::set_current_dir(project))
            .with_context(|| format!("the project folder {} cannot be used", project.display()))?;
    }
    settings.project = (args.project.is_some() || args.head.is_none()).then(|| PathBuf::from("."));
    settings.model.clone_from(&args.model);
    settings.layer.clone_from(&args.layer);
    settings.address = SocketAddr::from((args.listen, args.port));
    settings.hosts.clone_from(&args.host);
    settings.token = std::env::var(TOKEN).ok();
    settings.extractor =
        ExtractorSettings { session: args.compute.settings(), ..ExtractorSettings::default() };
    settings.limits.pixels = args.max_pixels;
    settings.limits.images = args.max_images;

    let server = Server::bind(settings)?;
    stop_on_interrupt(&server)?;
    let url = server.url();
    match server.head() {
        Some(head) => println!("{url}  (head: {head})"),
        None => println!("{url}  (no head yet: teach one on the page)"),
    }
    if args.open && !open_browser(&url) {
        show::warning("no browser could be opened; open the address yourself");
    }
    server.run()?;
    Ok(Status::Done)
}

/// The first Ctrl-C or request to terminate lets the server finish what it has begun; the second ends the process at once, which
/// loses no photo.
fn stop_on_interrupt(server: &Server) -> anyhow::Result<()> {
    let (handle, told) = (server.stop_handle(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if told.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        anstream::eprintln!("finishing the answers that have begun; press Ctrl-C again to stop at once");
        handle.stop();
    })
    .context("cannot listen for Ctrl-C")
}

/// Opens the page with what the system opens addresses with; false if there is no such program.
fn open_browser(url: &str) -> bool {
    let mut command = if cfg!(target_os = "macos") {
        Command::new("open")
    } else if cfg!(windows) {
        let mut command = Command::new("rundll32");
        command.arg("url.dll,FileProtocolHandler");
        command
    } else {
        Command::new("xdg-open")
    };
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().is_ok()
}
