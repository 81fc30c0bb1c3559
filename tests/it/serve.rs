//! The server of the page and of the HTTP interface, as browsers, programs and attackers meet it.

mod api;
mod client;
mod crash;
mod robust;
mod schema;
mod security;
mod teach;

use std::path::Path;
use std::thread::JoinHandle;

use cnncodes::demo;
use cnncodes::network::ModelsFolder;
use cnncodes::serve::{ServeSettings, Server, StopHandle};

use self::client::Client;
use crate::common::cnncodes;

/// A server in this process.
struct Running {
    client: Client,
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// With the settings that `change` makes of the defaults: port and models folder of a test.
    fn start(folder: &Path, change: impl FnOnce(&mut ServeSettings)) -> Self {
        let mut settings = ServeSettings::new(ModelsFolder { path: folder.join("models") });
        settings.address.set_port(0);
        change(&mut settings);
        let server = Server::bind(settings).unwrap();
        let client = Client::new(server.address());
        let stop = server.stop_handle();
        let thread = std::thread::spawn(move || server.run().unwrap());
        Self { client, stop, thread: Some(thread) }
    }

    /// That teaches `folder`.
    fn teach(folder: &Path) -> Self {
        Self::start(folder, |settings| settings.project = Some(folder.to_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server ended by a panic");
        }
    }
}

/// A folder with the demo's network and a head of drawn pictures: `models/demo.head.h5`. Its pictures lie in `data/`.
fn with_head(per_class: usize) -> tempfile::TempDir {
    let folder = crate::common::workspace(per_class);
    let run = |args: &[&str]| drop(cnncodes(folder.path()).args(args).assert().success());
    // By whole paths, because this process does not work in the folder.
    let [data, features] = ["data", "features/demo-vgg-fc7.h5"].map(|path| folder.path().join(path));
    run(&["extract", data.to_str().unwrap(), "--layer", "fc7"]);
    run(&["fit-head", "--logistic", features.to_str().unwrap(), "-o", "models/demo.head.h5"]);
    folder
}

/// A folder with the demo's network alone.
fn empty_project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    demo::write_model(&ModelsFolder { path: folder.path().join("models") }).unwrap();
    folder
}
