mod manifest;

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

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(&[path.to_owned()], &SourceOptions::default())
}

fn names(set: &Dataset) -> Vec<&str> {
    set.samples.iter().map(|sample| sample.name).collect()
}

fn labels(set: &Dataset) -> Vec<Option<&str>> {
    set.samples.iter().map(|sample| sample.label.map(|label| set.class_names[label].as_str())).collect()
}

fn manifest(folder: &Path, text: &str) -> Result<Dataset, DatasetError> {
    let csv = folder.join("list.csv");
    fs::write(&csv, text).unwrap();
    Dataset::from_manifest(&csv, &SourceOptions::default())
}

fn manifest_at(csv: &Path) -> Result<Dataset, DatasetError> {
    Dataset::from_manifest(csv, &SourceOptions::default())
}

fn text_of(error: &DatasetError) -> String {
    InputProblem::from_error("x", error).reason
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
    let set = Dataset::from_folder(folder.path()).unwrap();
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
    let folder =
        folder(&["a/x.jpg", "a/._x.jpg", "a/notes.txt", "a/jpg", ".git/y.jpg", ".git/o/z", "b/readme.md"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    let set = Dataset::from_folder(folder.path()).unwrap();
    assert_eq!(names(&set), ["a/x.jpg"]);
    assert_eq!(set.class_names, ["a"], "folders without images are no classes");
    assert_eq!(set.problems, []);
    assert_eq!(
        set.passed_over.describe(),
        "3 files that are not images (a/jpg, a/notes.txt, b/readme.md) and 3 hidden files (.git/o/z, .git/y.jpg, a/._x.jpg)"
    );
    assert_eq!(set.notes, ["2 folders hold no image and give no class: b, empty"]);
}

#[test]
fn what_is_an_image_is_told_by_its_first_bytes() {
    let folder = folder(&["a/1.jpg", "a/2.JPEG", "a/3.jfif", "a/4.HEIC", "a/5.Avif", "a/empty.png"]);
    let png = b"\x89PNG\r\n\x1a\n";
    for name in ["b/without extension", "b/1.txt", "b/2.jpg_large", "b/3.JPG.download", "b/Thumbs.db"] {
        fs::create_dir_all(folder.path().join("b")).unwrap();
        fs::write(folder.path().join(name), png).unwrap();
    }
    fs::write(folder.path().join("b/letter"), "dear reader").unwrap();
    fs::write(folder.path().join("b/nothing"), "").unwrap();
    let set = Dataset::from_folder(folder.path()).unwrap();
    let by_name = ["a/1.jpg", "a/2.JPEG", "a/3.jfif", "a/4.HEIC", "a/5.Avif", "a/empty.png"];
    let by_bytes = ["b/1.txt", "b/2.jpg_large", "b/3.JPG.download", "b/without extension"];
    assert_eq!(names(&set), [&by_name[..], &by_bytes].concat());
    assert_eq!(
        set.passed_over.describe(),
        "2 files that are not images (b/letter, b/nothing) and 1 system file (b/Thumbs.db)"
    );
}

#[test]
fn many_files_are_sniffed_as_few_are() {
    let folder = folder(&[]);
    fs::create_dir(folder.path().join("a")).unwrap();
    for number in 0..5000 {
        let bytes: &[u8] = if number % 50 == 0 { b"GIF89a" } else { b"text" };
        fs::write(folder.path().join(format!("a/{number:04}")), bytes).unwrap();
    }
    let set = Dataset::from_folder(folder.path()).unwrap();
    let expected: Vec<String> = (0..100).map(|number| format!("a/{:04}", number * 50)).collect();
    assert_eq!(names(&set), expected);
    assert_eq!(set.passed_over.files(), 4900);
}

#[test]
fn folders_of_systems_are_no_data_at_any_depth() {
    let folder = folder(&[
        "red/0.jpg",
        "red/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/old.jpg",
        "$RECYCLE.BIN/S-1-5/$R1.jpg",
        "__MACOSX/red/._0.jpg",
        "system volume information/x.jpg",
        "lost+found/y.jpg",
        "deep/er/.Trash-1000/z.jpg",
        "deep/er/w.jpg",
    ]);
    let set = Dataset::from_folder(folder.path()).unwrap();
    assert_eq!(names(&set), ["deep/er/w.jpg", "red/0.jpg"]);
    assert_eq!(set.class_names, ["deep", "red"]);
    let passed: Vec<_> = set.passed_over.by_reason().map(|(reason, group)| (reason, group.files)).collect();
    assert_eq!(passed, [(PassedOverReason::System, 7)]);
    assert_eq!(set.notes, Vec::<String>::new());
    // Whoever names such a folder wants it.
    assert_eq!(names(&Dataset::from_folder(&folder.path().join("#recycle")).unwrap()), ["old.jpg"]);
}

#[cfg(unix)]
#[test]
fn the_count_in_a_folder_that_is_not_walked_has_an_end() {
    let folder = folder(&["a/x.jpg"]);
    fs::create_dir(folder.path().join(".snapshot")).unwrap();
    for number in 0..10_001 {
        std::os::unix::fs::symlink("..", folder.path().join(format!(".snapshot/{number:05}"))).unwrap();
    }
    let set = Dataset::from_folder(folder.path()).unwrap();
    let (_, group) = set.passed_over.by_reason().next().unwrap();
    assert_eq!((group.files, group.more), (10_000, true));
    assert!(set.passed_over.describe().starts_with("at least 10000 system files (.snapshot/"));
}

/// Samples whose labels are written as `texts` are, as folders, in CSV files and in shards: the classes of each.
fn classes_by_source(texts: &[&str]) -> [(Vec<String>, Vec<Option<String>>); 3] {
    let root = TempDir::new().unwrap();
    let mut csv = "path,label\n".to_owned();
    let mut tar = tar::Builder::new(Vec::new());
    for (number, text) in texts.iter().enumerate() {
        let below = root.path().join("folders").join(if text.is_empty() { " " } else { text });
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join(format!("{number}.jpg")), "x").unwrap();
        fs::write(root.path().join(format!("{number}.jpg")), "x").unwrap();
        csv += &format!("{number}.jpg,\"{text}\"\n");
        for (name, bytes) in [(format!("{number}.jpg"), "x"), (format!("{number}.cls"), text)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_bytes()).unwrap();
        }
    }
    fs::write(root.path().join("s.tar"), tar.into_inner().unwrap()).unwrap();
    let sets = [
        Dataset::from_folder(&root.path().join("folders")).unwrap(),
        manifest(root.path(), &csv).unwrap(),
        Dataset::from_shards(&[root.path().join("s.tar")], &SourceOptions::default()).unwrap(),
    ];
    sets.map(|set| {
        let mut by_number: Vec<(usize, Option<String>)> = set
            .samples
            .iter()
            .map(|sample| {
                let file = sample.name.rsplit('/').next().unwrap();
                let class = sample.label.map(|label| set.class_names[label].clone());
                (file.trim_end_matches(".jpg").parse().unwrap(), class)
            })
            .collect();
        by_number.sort();
        assert_eq!(set.problems, []);
        (set.class_names, by_number.into_iter().map(|(_, class)| class).collect())
    })
}

#[test]
fn a_label_means_the_same_in_folders_csv_files_and_shards() {
    for (texts, class_names, expected) in [
        (&["cat", " cat", "cat ", "", "dog"][..], &["cat", "dog"][..], &["cat", "cat", "cat", "", "dog"][..]),
        (
            &["10", "2", "1", "2.0", "-1", "nan", "NaN", "None"],
            &["1", "2", "10"],
            &["10", "2", "1", "2", "", "", "", ""],
        ),
        (&["007", "10", "2"], &["2", "007", "10"], &["007", "10", "2"]),
        (&["b", "10", "2"], &["10", "2", "b"], &["b", "10", "2"]),
        (&["1.5", "1.0"], &["1", "1.5"], &["1.5", "1"]),
    ] {
        let expected: Vec<Option<String>> =
            expected.iter().map(|&class| (!class.is_empty()).then(|| class.to_owned())).collect();
        for (source, (found, classes)) in ["folders", "CSV", "shard"].iter().zip(classes_by_source(texts)) {
            assert_eq!(found, class_names, "{source} of {texts:?}");
            assert_eq!(classes, expected, "{source} of {texts:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_folder_whose_name_has_a_line_end_is_a_problem() {
    let folder = folder(&["a\nb/x.jpg", "a\nb/y.jpg", "c/z.jpg"]);
    let set = Dataset::from_folder(folder.path()).unwrap();
    assert_eq!(names(&set), ["c/z.jpg"]);
    assert_eq!(set.class_names, ["c"]);
    let reason = "its name cannot be a label: it contains a line end; rename the folder".to_owned();
    assert_eq!(set.problems, [InputProblem { name: "a\nb".into(), reason }]);
}

#[test]
fn images_without_a_class_and_classes_that_look_alike_are_told() {
    let folder = folder(&["Cats/a.jpg", "cats/b.jpg", "None/c.jpg", "d.jpg"]);
    let set = Dataset::from_folder(folder.path()).unwrap();
    assert_eq!(labels(&set), [Some("Cats"), None, Some("cats"), None]);
    assert_eq!(
        set.notes,
        [
            "2 of 4 images have no class, the first: None/c.jpg",
            "the classes Cats and cats differ only in upper and lower case; if they are one class, give \
             them one name"
        ]
    );
    let set = manifest(folder.path(), "path,label\nd.jpg,nan\nCats/a.jpg,\n").unwrap();
    assert_eq!(set.notes, ["2 of 2 images have no class, the first: Cats/a.jpg"]);
}

#[test]
fn classes_of_which_no_image_could_be_read_are_named() {
    let folder = folder(&["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg"]);
    let set = Dataset::from_folder(folder.path()).unwrap();
    let problems =
        ["a/1.jpg", "b/1.jpg", "b/2.jpg"].map(|name| InputProblem { name: name.into(), reason: "x".into() });
    assert_eq!(set.unreadable_classes(&problems), ["b"]);
}

#[test]
fn a_hidden_root_is_walked() {
    let folder = folder(&[".photos/a/x.jpg"]);
    assert_eq!(names(&Dataset::from_folder(&folder.path().join(".photos")).unwrap()), ["a/x.jpg"]);
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
    let set = Dataset::from_folder(folder.path()).unwrap();
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
    let set = Dataset::from_folder(folder.path()).unwrap();
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
    let set = Dataset::from_folder(folder.path()).unwrap();
    assert_eq!(names(&set), ["a/x.jpg"]);
    assert_eq!(
        set.problems,
        [InputProblem { name: "a/socket.jpg".into(), reason: "not a regular file".into() }]
    );
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
    let set = Dataset::from_folder(folder.path()).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    if is_superuser {
        eprintln!("SKIPPED: a folder without permission cannot be tested as the superuser");
        return;
    }
    assert_eq!(names(&set), ["a/x.jpg"]);
    assert_eq!(set.class_names, ["a"]);
    assert_eq!(
        set.problems,
        [InputProblem { name: "locked".into(), reason: "no permission to read it".into() }]
    );
}

#[test]
fn a_folder_that_gives_nothing_says_what_was_expected() {
    let folder = folder(&["notes.txt"]);
    let empty = open(folder.path()).unwrap_err();
    assert!(matches!(&empty, DatasetError::Empty { problems, .. } if problems.is_empty()));
    assert!(text_of(&empty).contains("/CLASS/*.jpg"), "{empty}");

    let missing = open(&folder.path().join("data")).unwrap_err();
    assert!(matches!(missing, DatasetError::Missing { .. }));
    assert!(text_of(&missing).contains("data/CLASS/*.jpg"), "{missing}");

    let file = Dataset::from_folder(&folder.path().join("notes.txt")).unwrap_err();
    assert!(matches!(file, DatasetError::NotADirectory { .. }));
    assert!(text_of(&file).contains("data/CLASS/*.jpg"), "{file}");
}

#[test]
fn paths_keep_their_order_and_folders_are_sorted_inside() {
    let folder = folder(&["z.jpg", "d/b.jpg", "d/a.jpg", "d/e/c.png", "odd.dat"]);
    let at = |name: &str| folder.path().join(name);
    let set =
        Dataset::from_paths(&[at("z.jpg"), at("gone.jpg"), at("d"), at("odd.dat")], false, None).unwrap();
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
    let set = Dataset::from_paths(&[folder.path().join("d")], false, None).unwrap();
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
    let mut set = Dataset::from_folder(folder.path()).unwrap();
    set.keep_classes(&[false, true, true]);
    assert_eq!(set.class_names, ["b", "c"]);
    assert_eq!(names(&set), ["b/1.jpg", "b/2.jpg", "c/1.jpg", "c/2.jpg", "loose.jpg"]);
    assert_eq!(labels(&set), [Some("b"), Some("b"), Some("c"), Some("c"), None]);
    set.keep_classes(&[true, false]);
    assert_eq!(labels(&set), [Some("b"), Some("b"), None]);
}
