//! The search and its messages, against libraries of a few lines that a C compiler makes on the spot.

use std::error::Error;
use std::fs;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::*;

/// A machine of its own: a program in `bin/`, a project, a user's data folder, no system libraries.
struct TestMachine {
    folder: TempDir,
    surroundings: SearchEnvironment,
}

impl TestMachine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("project/photos")).unwrap();
        let surroundings = SearchEnvironment {
            named: None,
            host: None,
            executable: Some(root.join("prefix/bin/cnncodes")),
            current: Some(root.join("project/photos")),
            user_data: Some(root.join("share")),
            system: &[],
        };
        Self { folder, surroundings }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn named(mut self, relative: &str) -> Self {
        self.surroundings.named = Some((VARIABLES[0], self.folder.path().join(relative)));
        self
    }

    /// A library that reports `version` and offers the API up to `api`.
    fn with_library(self, relative: &str, version: &str, api: u32) -> Self {
        let source = format!(
            r#"
            static int offered;
            static const void *get_api(unsigned version) {{ return version <= {api} ? &offered : 0; }}
            static const char *get_version(void) {{ return "{version}"; }}
            static const struct {{ const void *(*api)(unsigned); const char *(*version)(void); }} base =
                {{ get_api, get_version }};
            const void *OrtGetApiBase(void) {{ return &base; }}
            "#
        );
        self.compiled(relative, &source)
    }

    fn compiled(self, relative: &str, source: &str) -> Self {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let code = path.with_extension("c");
        fs::write(&code, source).unwrap();
        let status =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&path).arg(&code).status().unwrap();
        assert!(status.success(), "cc did not compile {}", code.display());
        fs::remove_file(code).unwrap();
        self
    }

    fn file(self, relative: &str, content: &[u8]) -> Self {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn find(&self) -> Result<Library, RuntimeError> {
        find(&self.surroundings)
    }

    /// What is wrong with the library that the variable names.
    fn fault(&self) -> LibraryError {
        match self.find() {
            Err(RuntimeError::Named { variable: "CNNCODES_ONNXRUNTIME", source }) => source,
            Err(other) => panic!("another error: {other}"),
            Ok(library) => panic!("taken: {}", library.path.display()),
        }
    }
}

/// The name that is preferred on the platform of the test.
const LIBRARY: &str = search::FILE_NAMES[0];

fn in_project(folder: &str) -> String {
    format!("{folder}/.cnncodes/onnxruntime/lib/{LIBRARY}")
}

#[test]
fn a_named_file_is_used() {
    let machine = TestMachine::new().with_library("here/any-name.so", "1.24.4", 24).named("here/any-name.so");
    let library = machine.find().unwrap();
    assert_eq!(library.version, "1.24.4");
    assert_eq!(library.path, machine.path("here/any-name.so"));
}

#[test]
fn a_named_folder_is_searched_for_the_library() {
    let machine = TestMachine::new().with_library(&format!("here/{LIBRARY}"), "1.24.4", 24).named("here");
    assert_eq!(machine.find().unwrap().path, machine.path("here").join(LIBRARY));
}

#[cfg(target_os = "linux")]
#[test]
fn of_versioned_names_the_highest_version_is_taken() {
    let machine = TestMachine::new()
        .with_library("here/libonnxruntime.so.1.9.0", "1.9.0", 9)
        .with_library("here/libonnxruntime.so.1.24.4", "1.24.4", 24)
        .file("here/libonnxruntime.so.1.99.0.txt", b"notes")
        .named("here");
    assert_eq!(machine.find().unwrap().version, "1.24.4");
}

#[test]
fn a_later_minor_version_that_still_offers_the_api_is_used() {
    let machine = TestMachine::new().with_library("lib.so", "1.31.1", 31).named("lib.so");
    assert_eq!(machine.find().unwrap().version, "1.31.1");
}

#[test]
fn a_library_that_is_too_old_is_refused_with_both_versions_and_the_remedy() {
    let machine = TestMachine::new().with_library("lib.so", "1.17.0", 17).named("lib.so");
    let fault = machine.fault();
    assert!(matches!(&fault, LibraryError::TooOld { version, .. } if version == "1.17.0"), "{fault}");
    let path = machine.path("lib.so");
    let expected =
        format!("{} is ONNX Runtime 1.17.0, which is too old: 1.24 or newer is needed", path.display());
    assert_eq!(fault.to_string(), expected);
    let error = machine.find().err().unwrap();
    assert!(error.to_string().contains("`scripts/setup`"), "{error}");
    assert_eq!(error.source().unwrap().to_string(), expected);
}

#[test]
fn a_library_of_the_next_major_version_is_refused_as_too_new() {
    let fault = TestMachine::new().with_library("lib.so", "2.0.0", 40).named("lib.so").fault();
    assert!(matches!(&fault, LibraryError::TooNew { version, .. } if version == "2.0.0"), "{fault}");
    assert!(fault.to_string().contains("too new"), "{fault}");
}

#[test]
fn a_library_that_does_not_offer_the_api_of_its_version_is_refused() {
    let fault = TestMachine::new().with_library("lib.so", "1.24.4", 23).named("lib.so").fault();
    assert!(matches!(fault, LibraryError::NoApi { .. }), "{fault}");
}

#[test]
fn a_version_that_is_none_is_quoted() {
    let fault = TestMachine::new().with_library("lib.so", "nightly", 24).named("lib.so").fault();
    assert!(matches!(fault, LibraryError::StrangeVersion { .. }), "{fault}");
    assert!(fault.to_string().contains("\"nightly\""), "{fault}");
}

#[test]
fn a_library_without_the_entry_point_is_not_onnx_runtime() {
    let fault =
        TestMachine::new().compiled("lib.so", "int other(void) { return 1; }").named("lib.so").fault();
    assert!(matches!(fault, LibraryError::NotOnnxRuntime { .. }), "{fault}");
}

#[test]
fn an_entry_point_that_returns_nothing_is_refused() {
    let source = "const void *OrtGetApiBase(void) { return 0; }";
    let fault = TestMachine::new().compiled("lib.so", source).named("lib.so").fault();
    assert!(matches!(fault, LibraryError::NotOnnxRuntime { .. }), "{fault}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_text_file_an_empty_file_and_a_cut_library_are_no_libraries() {
    for content in [&b"GROUP ( libonnxruntime.so.1 ) and more words"[..], b"", b"\x7fELF\x02\x01"] {
        let fault = TestMachine::new().file("lib.so", content).named("lib.so").fault();
        assert!(matches!(fault, LibraryError::NotALibrary { .. }), "{fault}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_for_another_processor_is_named_as_such() {
    let machine = TestMachine::new().with_library("lib.so", "1.24.4", 24).named("lib.so");
    let path = machine.path("lib.so");
    let mut content = fs::read(&path).unwrap();
    content[18..20].copy_from_slice(&243_u16.to_le_bytes());
    fs::write(&path, content).unwrap();
    let fault = machine.fault();
    assert!(matches!(&fault, LibraryError::OtherProcessor { found, .. } if found == "riscv64"), "{fault}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_that_was_cut_short_is_refused_with_the_loaders_words() {
    let machine = TestMachine::new().with_library("lib.so", "1.24.4", 24).named("lib.so");
    let path = machine.path("lib.so");
    let content = fs::read(&path).unwrap();
    fs::write(&path, &content[..100]).unwrap();
    let fault = machine.fault();
    assert!(matches!(fault, LibraryError::Refused { .. }), "{fault}");
    assert!(fault.source().is_some());
}

#[test]
fn a_name_that_leads_nowhere_is_an_error_even_where_another_library_is_at_hand() {
    let machine = TestMachine::new().with_library(&in_project("project"), "1.24.4", 24).named("gone.so");
    let fault = machine.fault();
    assert!(matches!(fault, LibraryError::Missing { .. }), "{fault}");
}

#[test]
fn a_named_folder_without_the_library_is_an_error() {
    let fault = TestMachine::new().file("here/notes.txt", b"").named("here").fault();
    assert!(matches!(fault, LibraryError::NoneInFolder { .. }), "{fault}");
    assert!(fault.to_string().contains(LIBRARY), "{fault}");
}

#[test]
fn places_are_searched_in_the_order_that_the_help_tells() {
    let order = [
        format!("prefix/bin/{LIBRARY}"),
        format!("prefix/bin/lib/{LIBRARY}"),
        format!("prefix/lib/{LIBRARY}"),
        in_project("project/photos"),
        in_project("project"),
        in_project("prefix"),
        format!("share/cnncodes/onnxruntime/lib/{LIBRARY}"),
    ];
    let machine =
        order.iter().fold(TestMachine::new(), |machine, place| machine.with_library(place, "1.24.4", 24));
    for place in order {
        assert_eq!(machine.find().unwrap().path, machine.path(&place));
        fs::remove_file(machine.path(&place)).unwrap();
    }
    assert!(matches!(machine.find(), Err(RuntimeError::NotFound { .. })));
}

#[test]
fn a_library_that_is_met_and_unusable_is_passed_over_for_a_usable_one() {
    let machine = TestMachine::new()
        .with_library(&format!("prefix/lib/{LIBRARY}"), "1.17.0", 17)
        .file(&in_project("project"), b"some words, more than twenty bytes")
        .with_library(&format!("share/cnncodes/onnxruntime/lib/{LIBRARY}"), "1.24.4", 24);
    assert_eq!(machine.find().unwrap().version, "1.24.4");
}

#[test]
fn when_nothing_is_usable_one_message_tells_every_place_and_its_fault() {
    let mut machine = TestMachine::new().with_library(&format!("prefix/lib/{LIBRARY}"), "1.17.0", 17);
    machine.surroundings.system = &["libno-such-onnxruntime.so.1"];
    let message = machine.find().err().unwrap().to_string();
    let root = machine.folder.path().display().to_string();
    for part in [
        "`scripts/setup`".to_owned(),
        "CNNCODES_ONNXRUNTIME, ORT_DYLIB_PATH: not set".to_owned(),
        format!("beside the program: {root}/prefix/bin, lib/ in it, ../lib\n"),
        format!("{root}/prefix/bin/../lib").replace("bin/../", "")
            + &format!("/{LIBRARY} is ONNX Runtime 1.17.0"),
        format!(
            ".cnncodes/onnxruntime/lib in {root}/project/photos and in every folder above: nothing there"
        ),
        format!(".cnncodes/onnxruntime/lib in {root}/prefix/bin and in every folder above: nothing there"),
        format!("{root}/share/cnncodes/onnxruntime/lib: nothing there"),
        "the system's libraries\n    libno-such-onnxruntime.so.1 cannot be loaded: ".to_owned(),
    ] {
        assert!(message.contains(&part), "{part:?} is not in:\n{message}");
    }
}

#[test]
fn a_library_that_serves_both_the_folder_and_the_program_is_told_once() {
    let mut machine = TestMachine::new().with_library(&in_project("project"), "1.17.0", 17);
    machine.surroundings.executable = Some(machine.path("project/target/debug/cnncodes"));
    let message = machine.find().err().unwrap().to_string();
    assert_eq!(message.matches("is ONNX Runtime 1.17.0").count(), 1, "{message}");
}

#[cfg(unix)]
#[test]
fn a_library_in_a_folder_open_to_all_users_is_left_alone_unless_the_program_lies_there() {
    use std::os::unix::fs::PermissionsExt;

    let mut machine = TestMachine::new().with_library(&in_project("project"), "1.24.4", 24);
    fs::set_permissions(machine.path("project"), fs::Permissions::from_mode(0o1777)).unwrap();
    let message = machine.find().err().unwrap().to_string();
    assert!(message.contains("was left alone: every user of this machine may write to"), "{message}");
    machine.surroundings.executable = Some(machine.path("project/target/debug/cnncodes"));
    assert_eq!(machine.find().unwrap().version, "1.24.4");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_library_that_the_loader_knows_by_its_bare_name_gets_its_real_path() {
    let mut machine = TestMachine::new().with_library("lib.so", "1.24.4", 24);
    // The loader answers a bare name with a loaded library of that SONAME before it searches the system.
    let path = machine.path("lib.so");
    let named = machine.path("system.so");
    let linked = Command::new("cc")
        .args(["-shared", "-Wl,--no-as-needed,-soname,libcnncodes-test-onnxruntime.so.1", "-o"])
        .args([&named, &path])
        .status()
        .unwrap();
    assert!(linked.success());
    // SAFETY: the library has no initialisers.
    let _loaded = unsafe { libloading::Library::new(&named) }.unwrap();
    machine.surroundings.system = &["libcnncodes-test-onnxruntime.so.1"];
    assert_eq!(machine.find().unwrap().path, path);
}

#[test]
fn the_real_library_loads_once_for_all_threads() {
    let runtimes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let first = runtimes[0].as_ref().unwrap_or_else(|error| panic!("run `scripts/setup` first: {error}"));
    assert!(runtimes.iter().all(|runtime| std::ptr::eq(*runtime.as_ref().unwrap(), *first)));
    let numbers: Vec<u32> = first.version.split('.').map(|number| number.parse().unwrap()).collect();
    assert!(numbers[0] == 1 && numbers[1] >= OLDEST_MINOR, "{}", first.version);
    assert!(first.path.is_file(), "{}", first.path.display());
    ort::session::Session::builder(&first.environment).unwrap();
}

#[test]
fn the_help_names_every_variable_and_the_oldest_version() {
    for variable in VARIABLES {
        assert!(SEARCH_ORDER.contains(variable));
    }
    assert!(SEARCH_ORDER.contains(&format!("1.{OLDEST_MINOR} ")));
}

#[test]
fn what_the_host_knows_comes_before_the_program_and_its_remedy_is_told() {
    let mut machine = TestMachine::new()
        .with_library("wheel/libonnxruntime.so.1.24.4", "1.24.4", 24)
        .with_library(&format!("prefix/lib/{LIBRARY}"), "1.30.0", 30);
    let host = |folder: PathBuf| Host {
        description: "the Python package onnxruntime".to_owned(),
        folders: vec![folder],
        remedy: "run `pip install onnxruntime`".to_owned(),
        provider_remedies: Vec::new(),
    };
    machine.surroundings.host = Some(host(machine.path("wheel")));
    #[cfg(target_os = "linux")]
    assert_eq!(machine.find().unwrap().version, "1.24.4");
    machine.surroundings.host = Some(host(machine.path("nowhere")));
    assert_eq!(machine.find().unwrap().version, "1.30.0");
    fs::remove_dir_all(machine.path("prefix")).unwrap();
    let error = machine.find().err().unwrap().to_string();
    assert!(
        error.starts_with(
            "no usable ONNX Runtime was found; run `pip install onnxruntime`, or set CNNCODES_ONNXRUNTIME"
        ),
        "{error}"
    );
    assert!(error.contains("\n  the Python package onnxruntime: nothing there\n"), "{error}");
}
