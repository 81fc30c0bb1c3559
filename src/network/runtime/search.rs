//! Where ONNX Runtime may lie on this machine, and which file of a folder is the library.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder, in the project's own one, into which `scripts/setup` puts the library.
const PROJECT_FOLDER: &str = ".cnncodes/onnxruntime/lib";

/// Names of the library in a folder, the preferred one first. A name with a version number serves as well.
pub(super) const FILE_NAMES: &[&str] = if cfg!(windows) {
    &["onnxruntime.dll"]
} else if cfg!(target_vendor = "apple") {
    &["libonnxruntime.1.dylib", "libonnxruntime.dylib"]
} else {
    &["libonnxruntime.so.1", "libonnxruntime.so"]
};

/// Names under which the system's dynamic loader is asked; Homebrew's folder is not on the loader's own path.
const SYSTEM_NAMES: &[&str] = if cfg!(target_vendor = "apple") {
    &["libonnxruntime.1.dylib", "libonnxruntime.dylib", "/opt/homebrew/lib/libonnxruntime.dylib"]
} else {
    FILE_NAMES
};

/// Environment variables that name the library: a file, or a folder that holds it.
pub(super) const VARIABLES: [&str; 2] = ["CNNCODES_ONNXRUNTIME", "ORT_DYLIB_PATH"];

/// Folders that belong together in the order of the search and in the message when none holds the library.
pub(super) struct SearchLocation {
    /// What the message calls it.
    pub description: String,
    /// Where to look, the nearest first.
    pub folders: Vec<PathBuf>,
    /// Folders open to all users are passed over: the user did not choose them.
    pub only_private: bool,
}

/// What the program that this library is part of knows of ONNX Runtime.
#[derive(Debug, Clone)]
pub struct Host {
    /// What the folders are called in a message, such as `the Python package onnxruntime`.
    pub description: String,
    /// Where to look before every other place that no variable names, the preferred folder first.
    pub folders: Vec<PathBuf>,
    /// What the user can do if there is no usable library, such as `run pip install onnxruntime`.
    pub remedy: String,
    /// The same if the library lacks a provider, for `cuda` and `openvino`.
    pub provider_remedies: Vec<(String, String)>,
}

/// What the search starts from.
#[derive(Default)]
pub(super) struct SearchEnvironment {
    /// The variable that is set, and its value.
    pub named: Option<(&'static str, PathBuf)>,
    /// What the program that this library is part of knows.
    pub host: Option<Host>,
    /// The running program, links resolved.
    pub executable: Option<PathBuf>,
    /// The current folder.
    pub current: Option<PathBuf>,
    /// The user's data folder, as `~/.local/share`.
    pub user_data: Option<PathBuf>,
    /// Names to ask the dynamic loader for.
    pub system: &'static [&'static str],
}

impl SearchEnvironment {
    /// Those of the running process.
    pub fn of_this_process(host: Option<Host>) -> Self {
        let named = VARIABLES.into_iter().find_map(|variable| {
            let value = env::var_os(variable).filter(|value| !value.is_empty())?;
            Some((variable, PathBuf::from(value)))
        });
        Self {
            named,
            host,
            executable: env::current_exe().and_then(fs::canonicalize).ok(),
            current: env::current_dir().ok(),
            user_data: dirs::data_dir(),
            system: SYSTEM_NAMES,
        }
    }

    /// Every place that holds folders, in the order of the search.
    pub fn places(&self) -> Vec<SearchLocation> {
        let program_folder = self.executable.as_deref().and_then(Path::parent);
        let mut places = Vec::new();
        if let Some(Host { description, folders, .. }) = self.host.clone() {
            places.push(SearchLocation { description, folders, only_private: false });
        }
        if let Some(folder) = program_folder {
            let folders = [
                Some(folder.to_path_buf()),
                Some(folder.join("lib")),
                folder.parent().map(|above| above.join("lib")),
            ];
            places.push(SearchLocation {
                description: format!("beside the program: {}, lib/ in it, ../lib", folder.display()),
                folders: folders.into_iter().flatten().collect(),
                only_private: false,
            });
        }
        for (start, only_private) in [(self.current.as_deref(), true), (program_folder, false)] {
            let Some(start) = start else { continue };
            places.push(SearchLocation {
                description: format!(
                    "the project's folder: {PROJECT_FOLDER} in {} and in every folder above",
                    start.display()
                ),
                folders: start.ancestors().map(|folder| folder.join(PROJECT_FOLDER)).collect(),
                only_private,
            });
        }
        if let Some(data) = &self.user_data {
            let folder = data.join("cnncodes").join("onnxruntime").join("lib");
            places.push(SearchLocation {
                description: format!("the user's data folder: {}", folder.display()),
                folders: vec![folder],
                only_private: false,
            });
        }
        places
    }
}

/// The library in `folder`: a name of [`FILE_NAMES`], else the versioned one with the highest version.
pub(super) fn library_in(folder: &Path) -> Option<PathBuf> {
    let exact = FILE_NAMES.iter().map(|name| folder.join(name)).find(|path| path.exists());
    exact.or_else(|| {
        let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
        let versioned = entries.filter_map(|entry| {
            let version = version_in_name(entry.file_name().to_str()?)?;
            Some((version, entry.path()))
        });
        versioned.max().map(|(_, path)| path)
    })
}

/// The version in a name such as `libonnxruntime.so.1.24.4` or `libonnxruntime.1.24.4.dylib`.
fn version_in_name(name: &str) -> Option<Vec<u32>> {
    let version = if cfg!(target_vendor = "apple") {
        name.strip_prefix("libonnxruntime.")?.strip_suffix(".dylib")?
    } else {
        name.strip_prefix("libonnxruntime.so.")?
    };
    version.split('.').map(|number| number.parse().ok()).collect()
}

/// The first folder, from the one that holds `.cnncodes` upwards to none, that is shared by all users, as
/// `/tmp` is: writable for everybody, with the sticky bit.
pub(super) fn shared_by_all(project_folder: &Path) -> Option<PathBuf> {
    let holder = project_folder.ancestors().nth(Path::new(PROJECT_FOLDER).components().count())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(holder).ok()?.permissions().mode();
        if mode & 0o1002 == 0o1002 {
            return Some(holder.to_path_buf());
        }
    }
    #[cfg(not(unix))]
    let _ = holder;
    None
}
