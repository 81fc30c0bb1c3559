use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// A folder with the files named, each holding one byte; listing opens none of them.
fn folder(files: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }
    folder
}

fn open(path: &Path) -> Result<SampleSet, SamplesError> {
    SampleSet::open(&[path.to_owned()], &SourceOptions::default())
}

fn names(set: &SampleSet) -> Vec<&str> {
    set.samples.iter().map(|sample| sample.name).collect()
}

fn labels(set: &SampleSet) -> Vec<Option<&str>> {
    set.samples.iter().map(|sample| sample.label.map(|label| set.class_names[label].as_str())).collect()
}

fn manifest(folder: &Path, text: &str) -> Result<SampleSet, SamplesError> {
    let csv = folder.join("list.csv");
    fs::write(&csv, text).unwrap();
    SampleSet::from_manifest(&csv)
}

fn text_of(error: &SamplesError) -> String {
    Problem::from_error("x", error).reason
}

#[test]
fn labels_are_the_first_folder_and_names_are_sorted_by_bytes() {
    let folder = folder(&[
        "dogs/b.JPG",
        "dogs/old/a.png",
        "Zebras/z.webp",
        "cats/é.tiff",
        "cats/a b.gif",
        "loose.bmp",
    ]);
    let set = SampleSet::from_folder(folder.path()).unwrap();
    let expected =
        ["Zebras/z.webp", "cats/a b.gif", "cats/é.tiff", "dogs/b.JPG", "dogs/old/a.png", "loose.bmp"];
    assert_eq!(names(&set), expected);
    assert_eq!(set.class_names, ["Zebras", "cats", "dogs"]);
    let expected = [Some("Zebras"), Some("cats"), Some("cats"), Some("dogs"), Some("dogs"), None];
    assert_eq!(labels(&set), expected);
    assert_eq!(set.problems, []);
    assert!(set.samples.iter().all(|sample| sample.file() == folder.path().join(sample.name)));
    assert_eq!(set.source, folder.path().display().to_string());
}

#[test]
fn hidden_files_and_other_extensions_are_passed_over() {
    let folder = folder(&["a/x.jpg", "a/._x.jpg", "a/notes.txt", "a/jpg", ".git/y.jpg", "b/readme.md"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    let set = SampleSet::from_folder(folder.path()).unwrap();
    assert_eq!(names(&set), ["a/x.jpg"]);
    assert_eq!(set.class_names, ["a"], "folders without images are no classes");
    assert_eq!(set.problems, []);
}

#[test]
fn a_hidden_root_is_walked() {
    let folder = folder(&[".photos/a/x.jpg"]);
    assert_eq!(names(&SampleSet::from_folder(&folder.path().join(".photos")).unwrap()), ["a/x.jpg"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_bad_ones_reported() {
    use std::os::unix::fs::symlink;

    let folder = folder(&["a/x.jpg", "elsewhere/y.jpg"]);
    let at = |name: &str| folder.path().join(name);
    symlink(at("elsewhere"), at("b")).unwrap();
    symlink(at("nowhere.jpg"), at("a/dangling.jpg")).unwrap();
    symlink(at("a"), at("a/loop")).unwrap();
    symlink("itself.jpg", at("a/itself.jpg")).unwrap();
    let set = SampleSet::from_folder(folder.path()).unwrap();
    assert_eq!(names(&set), ["a/x.jpg", "b/y.jpg", "elsewhere/y.jpg"]);
    let found: Vec<&str> = set.problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(found, ["a/dangling.jpg", "a/itself.jpg", "a/loop"]);
    assert!(set.problems[0].reason.starts_with("a dangling link: its target"), "{}", set.problems[0].reason);
    assert!(
        set.problems[1].reason.starts_with("a link that cannot be followed"),
        "{}",
        set.problems[1].reason
    );
    assert!(set.problems[2].reason.starts_with("a link that leads back to"), "{}", set.problems[2].reason);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_problems() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = folder(&["a/x.jpg"]);
    let bad_folder = folder.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&bad_folder).unwrap();
    fs::write(bad_folder.join("1.jpg"), b"x").unwrap();
    fs::write(folder.path().join(OsStr::from_bytes(b"a/\xff.jpg")), b"x").unwrap();
    fs::write(folder.path().join(OsStr::from_bytes(b"a/\xff.txt")), b"x").unwrap();
    let set = SampleSet::from_folder(folder.path()).unwrap();
    assert_eq!(names(&set), ["a/x.jpg"]);
    let found: Vec<&str> = set.problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(found, ["a/\u{fffd}.jpg", "caf\u{fffd}"]);
    assert!(set.problems.iter().all(|problem| problem.reason.contains("not valid UTF-8")));
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    use std::os::unix::net::UnixListener;

    let folder = folder(&["a/x.jpg"]);
    let _socket = UnixListener::bind(folder.path().join("a/socket.jpg")).unwrap();
    let set = SampleSet::from_folder(folder.path()).unwrap();
    assert_eq!(names(&set), ["a/x.jpg"]);
    assert_eq!(set.problems, [Problem { name: "a/socket.jpg".into(), reason: "not a regular file".into() }]);
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_is_a_problem_among_good_images() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder(&["a/x.jpg", "locked/y.jpg"]);
    let locked = folder.path().join("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything, so there is nothing to see for it.
    let is_superuser = fs::read_dir(&locked).is_ok();
    let set = SampleSet::from_folder(folder.path()).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    if is_superuser {
        eprintln!("SKIPPED: a folder without permission cannot be tested as the superuser");
        return;
    }
    assert_eq!(names(&set), ["a/x.jpg"]);
    assert_eq!(set.class_names, ["a"]);
    assert_eq!(set.problems, [Problem { name: "locked".into(), reason: "no permission to read it".into() }]);
}

#[test]
fn a_folder_that_gives_nothing_says_what_was_expected() {
    let folder = folder(&["notes.txt"]);
    let empty = open(folder.path()).unwrap_err();
    assert!(matches!(&empty, SamplesError::Empty { problems, .. } if problems.is_empty()));
    assert!(text_of(&empty).contains("/CLASS/*.jpg"), "{empty}");

    let missing = open(&folder.path().join("data")).unwrap_err();
    assert!(matches!(missing, SamplesError::Missing { .. }));
    assert!(text_of(&missing).contains("data/CLASS/*.jpg"), "{missing}");

    let file = SampleSet::from_folder(&folder.path().join("notes.txt")).unwrap_err();
    assert!(matches!(file, SamplesError::NotADirectory { .. }));
    assert!(text_of(&file).contains("data/CLASS/*.jpg"), "{file}");
}

#[test]
fn an_image_is_no_manifest() {
    let folder = folder(&["x.jpg"]);
    let error = open(&folder.path().join("x.jpg")).unwrap_err();
    assert!(matches!(error, SamplesError::NotADirectory { .. }));
}

#[test]
fn a_manifest_gives_paths_and_labels() {
    let folder = folder(&["p/a.jpg", "p/b, c.jpg", "q.dat"]);
    // Byte order mark, CRLF, quotes, blanks, a column of no concern, an empty label.
    let text = "\u{feff}Path,label,note\r\n\"p/b, c.jpg\",dog,x\r\n./p/a.jpg , cat,y\r\nq.dat,,z\r\n";
    fs::write(folder.path().join("list.csv"), text).unwrap();
    let set = open(&folder.path().join("list.csv")).unwrap();
    assert_eq!(names(&set), ["p/a.jpg", "p/b, c.jpg", "q.dat"]);
    assert_eq!(set.class_names, ["cat", "dog"]);
    assert_eq!(labels(&set), [Some("cat"), Some("dog"), None]);
    assert!(set.samples.iter().all(|sample| sample.file().is_file()));
    assert_eq!(set.samples.root(), folder.path());
}

#[test]
fn a_manifest_without_labels_is_an_unlabelled_set() {
    let folder = folder(&["a.jpg"]);
    let set = manifest(folder.path(), "path\na.jpg\n").unwrap();
    assert_eq!(labels(&set), [None]);
    assert_eq!(set.class_names, Vec::<String>::new());
}

#[test]
fn a_manifest_names_images_relative_to_its_folder() {
    let folder = folder(&["lists/x/1.jpg", "2.jpg"]);
    let absolute = folder.path().join("lists/x/1.jpg").display().to_string();
    let lists = folder.path().join("lists");
    let set = manifest(&lists, &format!("path,label\n{absolute},a\nx/../../2.jpg,b\n")).unwrap();
    assert_eq!(names(&set), ["../2.jpg", "x/1.jpg"]);
    assert_eq!(labels(&set), [Some("b"), Some("a")]);
    let windows = manifest(&lists, "path\nx\\1.jpg\n").unwrap();
    assert_eq!(names(&windows), ["x/1.jpg"]);
}

#[test]
fn a_manifest_that_names_an_image_twice_is_refused_with_both_lines() {
    let folder = folder(&["a.jpg", "b.jpg"]);
    let error = manifest(folder.path(), "path,label\na.jpg,x\nb.jpg,x\n./a.jpg,y\n").unwrap_err();
    let SamplesError::Manifest { source: ManifestError::Duplicate { name, first, second }, .. } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((name.as_str(), *first, *second), ("a.jpg", 2, 4));
    assert!(text_of(&error).contains("lines 2 and 4"), "{error}");
}

#[test]
fn a_file_that_a_manifest_misses_is_a_problem() {
    let folder = folder(&["a.jpg", "d/b.jpg"]);
    let set = manifest(folder.path(), "path,label\na.jpg,x\ngone.jpg,lost\nd,x\n").unwrap();
    assert_eq!(names(&set), ["a.jpg"]);
    assert_eq!(set.class_names, ["x"], "a class without images is no class");
    let expected =
        [("d", "not a regular file"), ("gone.jpg", "no such file or folder (line 3 of the manifest)")]
            .map(|(name, reason)| Problem { name: name.into(), reason: reason.into() });
    assert_eq!(set.problems, expected);
}

#[test]
fn manifests_that_are_none_are_refused_with_a_reason() {
    let folder = folder(&["a.jpg"]);
    let cases = [
        ("file;class\na.jpg;x\n", "no column `path` (found: file;class)"),
        ("", "no column `path`"),
        ("path,label\na.jpg\n", "not well-formed CSV"),
        ("path,label\n,x\n", "line 2 has no path"),
        ("path,label\n", "not one of its 0 images"),
        (
            "path,label\ngone.jpg,x\n",
            "not one of its 1 images can be found (the first: gone.jpg: no such file",
        ),
    ];
    for (text, expected) in cases {
        let reason = text_of(&manifest(folder.path(), text).unwrap_err());
        assert!(reason.contains(expected), "{text:?} gave {reason}");
    }
    let binary = folder.path().join("b.csv");
    fs::write(&binary, b"path\n\xff\xfe").unwrap();
    assert!(text_of(&SampleSet::from_manifest(&binary).unwrap_err()).contains("not UTF-8"));
}

#[test]
fn paths_keep_their_order_and_folders_are_sorted_inside() {
    let folder = folder(&["z.jpg", "d/b.jpg", "d/a.jpg", "d/e/c.png", "odd.dat"]);
    let at = |name: &str| folder.path().join(name);
    let set = SampleSet::from_paths(&[at("z.jpg"), at("gone.jpg"), at("d"), at("odd.dat")], false).unwrap();
    let expected: Vec<PathBuf> = ["z.jpg", "d/a.jpg", "d/b.jpg", "d/e/c.png", "odd.dat"].map(at).into();
    assert_eq!(set.samples.iter().map(|sample| sample.file()).collect::<Vec<_>>(), expected);
    assert!(set.samples.iter().all(|sample| sample.file().display().to_string() == sample.name));
    assert!(set.samples.iter().all(|sample| sample.label.is_none()));
    assert_eq!(set.problems.len(), 1);
    assert_eq!(set.problems[0].reason, "no such file or folder");
}

#[test]
fn a_folder_among_paths_that_holds_no_image_is_a_problem() {
    let folder = folder(&["d/notes.txt"]);
    let set = SampleSet::from_paths(&[folder.path().join("d")], false).unwrap();
    assert_eq!(names(&set), Vec::<&str>::new());
    assert!(set.problems[0].reason.starts_with("no images in this folder"));
}

#[test]
fn names_lose_dots_and_what_they_can_of_double_dots() {
    let cases = [
        ("./a/./b.jpg", "a/b.jpg"),
        ("a/../b.jpg", "b.jpg"),
        ("a/b/../../../c.jpg", "../c.jpg"),
        ("/a/../../b.jpg", "/b.jpg"),
        ("..", ".."),
        ("a/..", "."),
    ];
    for (path, expected) in cases {
        assert_eq!(slashed(Path::new(path)).as_deref(), Some(expected), "{path}");
    }
}

#[test]
fn classes_that_are_dropped_take_their_samples_along_and_the_others_are_numbered_anew() {
    let folder = folder(&["a/1.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg", "c/2.jpg", "loose.jpg"]);
    let mut set = SampleSet::from_folder(folder.path()).unwrap();
    set.keep_classes(&[false, true, true]);
    assert_eq!(set.class_names, ["b", "c"]);
    assert_eq!(names(&set), ["b/1.jpg", "b/2.jpg", "c/1.jpg", "c/2.jpg", "loose.jpg"]);
    assert_eq!(labels(&set), [Some("b"), Some("b"), Some("c"), Some("c"), None]);
    set.keep_classes(&[true, false]);
    assert_eq!(labels(&set), [Some("b"), Some("b"), None]);
}
