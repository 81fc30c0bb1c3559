//! One candidate file: is it an ONNX Runtime that this program can use?
//!
//! Everything is checked before `ort` sees the library. With a wrong version `ort` panics, and some builds hang. The checks
//! call only the two functions behind `OrtGetApiBase`, which have not changed since ONNX Runtime 1.0.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::sys::{ORT_API_VERSION, OrtApiBase};
use thiserror::Error;

/// The oldest minor version of ONNX Runtime 1.x that works: the API version that `ort` is built for.
pub(super) const OLDEST_MINOR: u32 = ORT_API_VERSION;

/// Why one file cannot serve as ONNX Runtime.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// Nothing has this path.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The path that was named.
        path: PathBuf,
    },
    /// The folder holds no file with a name of ONNX Runtime's.
    #[error("{} holds no ONNX Runtime library ({})", folder.display(), super::search::FILE_NAMES.join(", "))]
    NoneInFolder {
        /// The folder that was named.
        folder: PathBuf,
    },
    /// The file is there, but cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The candidate.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file is no shared library at all.
    #[error("{} is not a shared library", path.display())]
    NotALibrary {
        /// The candidate.
        path: PathBuf,
    },
    /// A shared library for another kind of processor.
    #[error("{} is built for {found}, this program for {}", path.display(), std::env::consts::ARCH)]
    OtherProcessor {
        /// The candidate.
        path: PathBuf,
        /// The processor that the library is built for.
        found: String,
    },
    /// The dynamic loader refused it, for instance because a library that it needs is missing.
    #[error("{} cannot be loaded", path.display())]
    Refused {
        /// The candidate.
        path: PathBuf,
        /// What the dynamic loader said.
        #[source]
        source: Arc<libloading::Error>,
    },
    /// A shared library, but not ONNX Runtime.
    #[error("{} is not ONNX Runtime (it has no OrtGetApiBase)", path.display())]
    NotOnnxRuntime {
        /// The candidate.
        path: PathBuf,
    },
    /// It reports a version that is not of the form `1.24.4`.
    #[error("{} reports the version {version:?}, which is no version of ONNX Runtime", path.display())]
    StrangeVersion {
        /// The candidate.
        path: PathBuf,
        /// What it reports.
        version: String,
    },
    /// Older than this program can use.
    #[error("{} is ONNX Runtime {version}, which is too old: 1.{OLDEST_MINOR} or newer is needed", path.display())]
    TooOld {
        /// The candidate.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// A later major version, whose interface this program does not know.
    #[error("{} is ONNX Runtime {version}, which is too new: 1.{OLDEST_MINOR} or a later 1.x is needed", path.display())]
    TooNew {
        /// The candidate.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// The version is new enough, but the library does not offer the interface.
    #[error("{} is ONNX Runtime {version}, but does not offer version {OLDEST_MINOR} of its API", path.display())]
    NoApi {
        /// The candidate.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// It lies under a folder such as `/tmp`, where any user of the machine may have put it.
    #[error("{} was left alone: every user of this machine may write to {}", path.display(), folder.display())]
    SharedFolder {
        /// The candidate.
        path: PathBuf,
        /// The folder that is open to all.
        folder: PathBuf,
    },
}

/// A library that passed every check.
///
/// It stays loaded while this value lives, so that handing it to `ort` loads the very same file.
pub(super) struct Library {
    /// The file, absolute wherever the dynamic loader tells it.
    pub path: PathBuf,
    /// Its version, as `1.24.4`.
    pub version: String,
    _handle: libloading::Library,
}

impl Library {
    /// Checks the file at `path`.
    pub fn open(path: &Path) -> Result<Self, LibraryError> {
        check_header(path)?;
        Self::open_by_loader(path)
    }

    /// Checks the library that the dynamic loader finds under `name`: a path, or a bare file name.
    pub fn open_by_loader(name: &Path) -> Result<Self, LibraryError> {
        let path = || name.to_path_buf();
        // SAFETY: loading runs the library's initialisers. The file is one that the user named or that bears
        // ONNX Runtime's name in a place meant for it, and those of ONNX Runtime have no preconditions.
        let handle = unsafe { libloading::Library::new(name) }
            .map_err(|source| LibraryError::Refused { path: path(), source: Arc::new(source) })?;
        // SAFETY: the type is the one that ONNX Runtime's C header declares for this symbol.
        let entry =
            unsafe { handle.get::<unsafe extern "system" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0") }
                .map_err(|_| LibraryError::NotOnnxRuntime { path: path() })?;
        // SAFETY: the function takes nothing and returns null or a pointer to a static structure.
        let Some(base) = (unsafe { entry().as_ref() }) else {
            return Err(LibraryError::NotOnnxRuntime { path: path() });
        };
        // SAFETY: the function takes nothing and returns null or a static C string.
        let version = unsafe {
            let text = (base.GetVersionString)();
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        check_version(name, &version)?;
        // SAFETY: the function accepts any number and returns null for one that it does not offer. It is called after the check
        // of the version because older libraries print to standard error here.
        if unsafe { (base.GetApi)(ORT_API_VERSION) }.is_null() {
            return Err(LibraryError::NoApi { path: path(), version });
        }
        let path = loaded_from(*entry as *const ()).unwrap_or_else(path);
        Ok(Self { path, version, _handle: handle })
    }
}

fn check_version(path: &Path, version: &str) -> Result<(), LibraryError> {
    let path = path.to_path_buf();
    let version = version.to_owned();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => match (major, minor) {
            (2.., _) => Err(LibraryError::TooNew { path, version }),
            (1, OLDEST_MINOR..) => Ok(()),
            _ => Err(LibraryError::TooOld { path, version }),
        },
        _ => Err(LibraryError::StrangeVersion { path, version }),
    }
}

/// Reads what kind of file it is, where the format is ELF: the dynamic loader's own words for a text file or
/// another processor ("invalid ELF header", "cannot open shared object file") do not tell a newcomer much.
fn check_header(path: &Path) -> Result<(), LibraryError> {
    let unreadable = |source| LibraryError::Unreadable { path: path.to_path_buf(), source: Arc::new(source) };
    let mut header = Vec::with_capacity(20);
    File::open(path).and_then(|file| file.take(20).read_to_end(&mut header)).map_err(unreadable)?;
    if cfg!(any(windows, target_vendor = "apple")) {
        return Ok(());
    }
    if header.len() < 20 || &header[..4] != b"\x7fELF" {
        return Err(LibraryError::NotALibrary { path: path.to_path_buf() });
    }
    // Byte 5 tells the byte order (2: big-endian); e_machine stands at offset 18 in both classes of ELF.
    let machine = [header[18], header[19]];
    let machine = if header[5] == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    let found = match machine {
        3 => "x86",
        22 => "s390x",
        21 => "powerpc64",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        _ => "another processor",
    };
    // The dynamic loader judges processors that the table lacks.
    let known = ["x86", "s390x", "powerpc64", "arm", "x86_64", "aarch64", "riscv64"];
    if known.contains(&std::env::consts::ARCH) && found != std::env::consts::ARCH {
        return Err(LibraryError::OtherProcessor { path: path.to_path_buf(), found: found.to_owned() });
    }
    Ok(())
}

/// The file that holds the code at `address`: a library found by its bare name gets its real path this way.
#[cfg(unix)]
fn loaded_from(address: *const ()) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;

    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `dladdr` accepts any address and fills `info` where it returns non-zero; the name it then gives
    // is a C string that lives as long as the library is loaded, and it is copied at once.
    let name = unsafe {
        if libc::dladdr(address.cast(), info.as_mut_ptr()) == 0 || info.assume_init_ref().dli_fname.is_null()
        {
            return None;
        }
        CStr::from_ptr(info.assume_init_ref().dli_fname)
    };
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes()));
    path.is_absolute().then_some(path)
}

#[cfg(not(unix))]
fn loaded_from(_address: *const ()) -> Option<PathBuf> {
    None
}
