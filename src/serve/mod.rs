//! The page and the HTTP interface: people and programs classify with a head, and people teach one, in a browser.
//!
//! [`Server`] listens on one address and has a runtime of its own. What computes runs on other threads: images of all requests
//! share the threads of one network, jobs such as training have one. The state of a project is its folder.
//! Everything is bounded: bodies, pixels, images, connections, time ([`Limits`]); what is more is refused at once.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use cnncodes::network::ModelsFolder;
//! use cnncodes::serve::{ServeSettings, Server};
//!
//! let mut settings = ServeSettings::new(ModelsFolder { path: "models".into() });
//! settings.head = Some("models/pets.head.h5".into());
//! let server = Server::bind(settings)?;
//! println!("{}", server.url());
//! server.run()?; // until somebody calls StopHandle::stop
//! # Ok(()) }
//! ```

mod api_error;
mod app;
mod batcher;
mod body;
mod classify;
mod connections;
mod downloads;
mod events;
mod explain_queue;
mod guard;
mod job;
mod limits;
mod metrics;
mod openapi;
mod page;
mod project;
mod query;
mod routes;
mod served_head;
mod teach;
mod thumbnails;
mod training;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use self::app::{App, Teach};
use self::classify::{HEAD_SUFFIX, TRAINED};
use self::guard::{Guard, is_sound_token, random_token};
pub use self::limits::Limits;
use self::metrics::Metrics;
use self::project::Project;
use self::served_head::{HeadOpener, ServedHead};
use self::training::TeachNetwork;
use crate::classifier::OpenHeadError;
use crate::extract::{ExtractError, ExtractorSettings};
use crate::feature_spec::NetworkError;
use crate::messages::Cause;
use crate::network::execution_plan::threads_or_all;
use crate::network::{GraphError, ModelError, ModelsFolder, WantedLayersError};

/// The port that is taken unless another one is named.
pub const DEFAULT_PORT: u16 = 8080;

/// Threads that may wait for a disk or a processor.
const BLOCKING_THREADS: usize = 64;
/// Processors that a thread that talks to clients suffices for. It takes a fifth of a millisecond for a request, and with several
/// threads more, because they wake one another.
const PROCESSORS_OF_TALKING_THREAD: usize = 16;
/// How long a job that was told to stop is waited for.
const LAST_JOB: Duration = Duration::from_secs(20);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; another program may use the port: give another one with --port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The runtime cannot be started.
    #[error("cannot start the threads of the server")]
    Threads(#[source] io::Error),
    /// The system gives no random numbers for the token.
    #[error("the system gives no random numbers, which the token is made of")]
    Random(#[source] Cause),
    /// The token can be guessed, or cannot stand in a header.
    #[error("the token is too short or holds spaces; give at least 16 letters, digits or signs")]
    Token,
    /// There is nothing to serve.
    #[error(
        "there is neither a head nor a network to teach one with; name a head with --head FILE, or {remedy}"
    )]
    Nothing {
        /// How to get a network.
        remedy: &'static str,
        /// Why there is no network.
        source: ModelError,
    },
    /// The project folder cannot be used.
    #[error("the project folder {} cannot be used", folder.display())]
    Project {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        source: Cause,
    },
    /// The head cannot be read.
    #[error(transparent)]
    Head(#[from] OpenHeadError),
    /// The network of the head cannot be found.
    #[error(transparent)]
    Network(NetworkError),
    /// The network cannot be found.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The network cannot be read.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The network lacks the layer.
    #[error(transparent)]
    Layer(#[from] WantedLayersError),
    /// The network cannot be run.
    #[error(transparent)]
    Extract(#[from] ExtractError),
}

/// What is served, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServeSettings {
    /// Networks, and saved heads.
    pub models: ModelsFolder,
    /// The head that answers: a head file or an exported classifier. Without it the project's last one answers, or the only one
    /// in the models folder, or none until one is trained.
    pub head: Option<PathBuf>,
    /// The folder that is taught; none to serve a head alone.
    pub project: Option<PathBuf>,
    /// The network that the project is taught with; the only one if none is named.
    pub model: Option<String>,
    /// Its layer; the manifest's own, or the penultimate, if none is named.
    pub layer: Option<String>,
    /// Where to listen. Port 0 takes a free one.
    pub address: SocketAddr,
    /// Names in addresses of the server, beside its own address and those of this computer: such as that of a proxy before it.
    pub hosts: Vec<String>,
    /// What clients must know. Without it, one is made where the address is not loopback.
    pub token: Option<String>,
    /// What networks run on.
    pub extractor: ExtractorSettings,
    /// What is taken on at once.
    pub limits: Limits,
}

impl ServeSettings {
    /// On loopback, with neither a head nor a project.
    pub fn new(models: ModelsFolder) -> Self {
        Self {
            models,
            head: None,
            project: None,
            model: None,
            layer: None,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            hosts: Vec::new(),
            token: None,
            extractor: ExtractorSettings::default(),
            limits: Limits::default(),
        }
    }
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<String>,
    app: Arc<App>,
    stop: Arc<watch::Sender<bool>>,
    runtime: Runtime,
}

/// Ends a server.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<watch::Sender<bool>>);

impl StopHandle {
    /// The server accepts nothing new, gives the answers that it has begun, and ends. A job is told to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Opens the head and the project, and listens.
    ///
    /// # Errors
    /// There is nothing to serve, it cannot be opened, or the address is taken.
    pub fn bind(mut settings: ServeSettings) -> Result<Self, ServeError> {
        let asked = settings.address;
        let listen = |source| ServeError::Listen { address: asked, source };
        if settings.token.as_deref().is_some_and(|token| !is_sound_token(token)) {
            return Err(ServeError::Token);
        }
        let random = |error: getrandom::Error| ServeError::Random(error.into());
        let token = match settings.token.take() {
            None if asked.ip().is_loopback() => None,
            None => Some(random_token().map_err(random)?),
            token => token,
        };
        // Listening comes first: an address that is taken is told before a network is loaded.
        let listener = TcpListener::bind(asked).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        settings.extractor.max_pixels = settings.limits.pixels;
        let opener = HeadOpener {
            models: settings.models.clone(),
            extractor: settings.extractor.clone(),
            metrics: Arc::new(Metrics::default()),
        };
        let teach = settings.project.as_deref().map(|folder| open_project(folder, &settings)).transpose()?;
        let head = open_head(&settings, &opener, teach.as_ref())?;
        let threads = threads_or_all(settings.extractor.session.threads);
        let guard = Guard::new(address, settings.hosts, token.clone()).map_err(random)?;
        let stop = Arc::new(watch::Sender::new(false));
        let app = App::new(settings.limits, threads, guard, opener, head, teach, stop.subscribe());
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.div_ceil(PROCESSORS_OF_TALKING_THREAD))
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("serve")
            .enable_all()
            .build()
            .map_err(ServeError::Threads)?;
        Ok(Self { listener, address, token, app: Arc::new(app), stop, runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients must know, if they must.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The address of the page; the token follows the `#`, which browsers do not send.
    pub fn url(&self) -> String {
        let host = match self.address.ip() {
            // Every address of this machine: the one that works on it.
            ip if ip.is_unspecified() || ip.is_loopback() => "localhost".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        let token = self.token.as_ref().map_or_else(String::new, |token| format!("#token={token}"));
        format!("http://{host}:{}/{token}", self.address.port())
    }

    /// The name of the head that answers, if there is one.
    pub fn head(&self) -> Option<String> {
        self.app.loaded_head().map(|head| head.info.name.clone())
    }

    /// What ends it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.stop))
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// The system does not let it listen any more.
    pub fn run(self) -> Result<(), ServeError> {
        let Self { listener, app, stop, runtime, .. } = self;
        let router = routes::router(Arc::clone(&app));
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Threads)?;
            connections::serve(listener, router, Arc::clone(&app), stop.subscribe()).await;
            Ok::<(), ServeError>(())
        })?;
        if let Some(teach) = &app.teach
            && teach.jobs.cancel().is_some()
        {
            let mut jobs = teach.jobs.watch();
            // Its files appear complete or not at all, so it may also be left.
            let ended = async { drop(jobs.wait_for(|status| status.ended.is_some()).await) };
            runtime.block_on(async { drop(tokio::time::timeout(LAST_JOB, ended).await) });
        }
        runtime.shutdown_background();
        Ok(())
    }
}

fn open_project(folder: &Path, settings: &ServeSettings) -> Result<Teach, ServeError> {
    let network = TeachNetwork::open(&settings.models, settings.model.as_deref(), settings.layer.as_deref());
    let network = network.map_err(|error| match error {
        ServeError::Model(source @ (ModelError::NoModels { .. } | ModelError::ReadFolder { .. })) => {
            ServeError::Nothing {
                remedy: "add a network with `cnncodes models pull`; `cnncodes demo` makes a folder with one to try",
                source,
            }
        }
        error => error,
    })?;
    let failed = |source: project::ProjectError| ServeError::Project {
        folder: folder.to_owned(),
        source: source.into(),
    };
    Ok(Teach::new(Project::open(folder).map_err(failed)?, network))
}

/// The head that answers first.
fn open_head(
    settings: &ServeSettings,
    opener: &HeadOpener,
    teach: Option<&Teach>,
) -> Result<Option<ServedHead>, ServeError> {
    if let Some(file) = &settings.head {
        return opener.open(&head_name(file), file, Some(file), None).map(Some);
    }
    let Some(teach) = teach else { return Ok(None) };
    if let Some(training) = teach.training() {
        let path = training.head_path(&teach.project);
        let saved = training
            .result
            .head
            .saved_as
            .as_deref()
            .map(|name| (name.to_owned(), settings.models.path.join(format!("{name}{HEAD_SUFFIX}"))));
        let saved = saved.filter(|(_, file)| file.is_file());
        let opened = match &saved {
            Some((name, file)) => opener.open(name, file, Some(file), None),
            None => opener.open(TRAINED, &path, None, None),
        };
        // A head that cannot be used any more, such as for want of its network, keeps nobody from training another.
        return Ok(opened.ok());
    }
    let files = std::fs::read_dir(&settings.models.path).into_iter().flatten().flatten();
    let mut heads = files.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(HEAD_SUFFIX) && !name.starts_with('.')
    });
    match (heads.next(), heads.next()) {
        (Some(only), None) => Ok(opener.open(&head_name(&only), &only, Some(&only), None).ok()),
        _ => Ok(None),
    }
}

/// What a head is called: its file's name without what all heads' names end in.
fn head_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(HEAD_SUFFIX).or_else(|| name.strip_suffix(".onnx"));
    stem.unwrap_or(&name).to_owned()
}
