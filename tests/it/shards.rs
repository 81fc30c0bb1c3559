//! Tar shards as people pack them: labels go to the images that they were meant for, and whatever is dropped is told.

use std::fs;
use std::path::{Path, PathBuf};

use cnncodes::dataset::{Dataset, DatasetError, InputProblem, SourceOptions};
use predicates::prelude::*;
use predicates::str::contains;
use tar::{EntryType, Header};

use crate::common::{cnncodes, fixture, workspace};
use crate::inputs::{listed, problem, tar};

/// The set of one shard with these members, and the shard's path.
fn shard(members: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf, Result<Dataset, DatasetError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.tar");
    tar(&path, members);
    let set = Dataset::from_shards(std::slice::from_ref(&path), &SourceOptions::default());
    (folder, path, set)
}

fn set_of(members: &[(&str, &str)]) -> Dataset {
    let members: Vec<(&str, &[u8])> = members.iter().map(|&(name, text)| (name, text.as_bytes())).collect();
    shard(&members).2.unwrap()
}

/// (Name below the shard, class) of each sample.
fn classes(set: &Dataset) -> Vec<(&str, Option<&str>)> {
    listed(set).into_iter().map(|(name, class)| (name.split_once('/').unwrap().1, class)).collect()
}

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(&[path.to_owned()], &SourceOptions::default())
}

#[test]
fn images_and_labels_are_paired_as_webdataset_pairs_them() {
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        members: Vec<(String, String)>,
        paired: Vec<(String, Option<String>)>,
    }
    let text = fs::read_to_string(fixture("reference/shards.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 16);
    for Case { name, members, paired } in &cases {
        let members: Vec<(&str, &str)> =
            members.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let expected: Vec<(&str, Option<&str>)> =
            paired.iter().map(|(image, label)| (image.as_str(), label.as_deref())).collect();
        let set = set_of(&members);
        assert_eq!(classes(&set), expected, "{name}");
        assert_eq!(set.problems, [], "{name}");
    }
}

#[test]
fn a_shard_whose_labels_may_be_of_either_image_is_refused() {
    let (_folder, path, set) = shard(&[
        ("IMG.0.photo.jpg", b"x"),
        ("IMG.0.class.cls", b"red"),
        ("IMG.1.photo.jpg", b"x"),
        ("IMG.1.class.cls", b"blue"),
    ]);
    let error = set.unwrap_err();
    assert!(matches!(&error, DatasetError::ShardLabels { path: named, .. } if *named == path), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("s/IMG.0.photo.jpg may belong to either of two classes"), "{text}");
    assert!(text.contains("`red` in s/IMG.0.class.cls and `blue` in s/IMG.1.class.cls"), "{text}");
    // To be classified, images need no labels.
    assert_eq!(Dataset::from_paths(&[path], false, None).unwrap().samples.len(), 2);
}

#[test]
fn a_key_with_two_classes_is_told_and_its_image_left_out() {
    let set =
        set_of(&[("b.jpg", "x"), ("b.cls", "red"), ("b.cls", "blue"), ("c.jpg", "x"), ("c.cls", "red")]);
    assert_eq!(classes(&set), [("c.jpg", Some("red"))]);
    let reason = "its class is `red` and `blue` in s/b.cls, which occurs twice; keep one of them";
    assert_eq!(set.problems, [problem("s/b.jpg", reason)]);
}

#[test]
fn masks_beside_their_picture_are_no_images_of_its_class() {
    let set =
        set_of(&[("a.jpg", "x"), ("a.seg.png", "x"), ("a.cls", "red"), ("b.jpg", "x"), ("b.cls", "blue")]);
    assert_eq!(classes(&set), [("a.jpg", Some("red")), ("b.jpg", Some("blue"))]);
    assert_eq!(set.notes, Vec::<String>::new());
    assert_eq!(
        set.passed_over.describe(),
        "1 further picture of a sample without a label of its own (s/a.seg.png)"
    );
}

#[test]
fn labels_in_json_are_texts_numbers_or_truth_values() {
    let labels = [
        ("0", r#"{"label": 3.0}"#, Some("3")),
        ("1", r#"{"label": "3"}"#, Some("3")),
        ("2", r#"{"LABEL": 3}"#, Some("3")),
        ("3", r#"{"cls": null, "x": [1]}"#, None),
        ("4", r#"{"class": true}"#, Some("true")),
        ("5", "\u{feff}{\"label\": \" cat\\n\"}", Some("cat")),
        ("6", r#"{"label": -1}"#, None),
        ("7", "\"cat\"", Some("cat")),
        ("8", "7", Some("7")),
        ("9", r#"{"label": null, "class": "cat"}"#, Some("cat")),
    ];
    let names: Vec<(String, String)> =
        labels.iter().map(|(key, ..)| (format!("{key}.jpg"), format!("{key}.json"))).collect();
    let members: Vec<(&str, &str)> = names
        .iter()
        .zip(&labels)
        .flat_map(|((image, json), (_, text, _))| [(image.as_str(), "x"), (json.as_str(), *text)])
        .collect();
    let set = set_of(&members);
    let found: Vec<Option<&str>> = classes(&set).into_iter().map(|(_, class)| class).collect();
    assert_eq!(found, labels.map(|(.., class)| class));
    assert_eq!(set.class_names, ["3", "7", "cat", "true"]);

    let set = set_of(&[
        ("a.jpg", "x"),
        ("a.json", r#"{"label": {"id": 3}}"#),
        ("b.jpg", "x"),
        ("b.json", r#"{"class": [0, 1]}"#),
        ("c.jpg", "x"),
    ]);
    assert_eq!(
        set.problems,
        [
            problem("s/a.jpg", "its class in a.json: `label` is an object, not a text or a number"),
            problem("s/b.jpg", "its class in b.json: `class` is a list, not a text or a number"),
        ]
    );
}

#[test]
fn labels_in_text_files_have_no_marks_and_line_ends() {
    let set = set_of(&[
        ("0.jpg", "x"),
        ("0.cls", "red"),
        ("1.jpg", "x"),
        ("1.cls", "\u{feff}red"),
        ("2.jpg", "x"),
        ("2.CLS", "red \r\n"),
        ("3.jpg", "x"),
        ("3.cls", ""),
        ("4.jpg", "x"),
        ("4.cls", "red\nblue"),
    ]);
    assert_eq!(
        classes(&set),
        [("0.jpg", Some("red")), ("1.jpg", Some("red")), ("2.jpg", Some("red")), ("3.jpg", None)]
    );
    assert_eq!(set.problems, [problem("s/4.jpg", "its class in 4.cls: it contains a line end")]);

    let (.., set) = shard(&[
        ("0.jpg", b"x"),
        ("0.cls", b"\xff\xfer\0e\0d\0\r\0\n\0"),
        ("1.jpg", b"x"),
        ("1.cls", b"caf\xe9"),
    ]);
    let set = set.unwrap();
    assert_eq!(classes(&set), [("0.jpg", Some("red"))]);
    assert_eq!(set.problems, [problem("s/1.jpg", "its class in 1.cls: it is not UTF-8 text")]);
}

#[test]
fn labels_that_were_meant_and_not_found_are_told_with_what_was_seen() {
    let members: [(&str, &[u8]); 5] = [
        ("a.jpg", b"x"),
        ("a.json", br#"{"category": "cat", "id": 1}"#),
        ("b.jpg", b"x"),
        ("b.json", br#"{"category": "dog", "url": ""}"#),
        ("b.txt", b"a dog"),
    ];
    let (_folder, path, set) = shard(&members);
    let said = set.unwrap_err().to_string();
    let why = "there is no KEY.cls, and no .json has one of the fields label, cls, class (fields seen: \
               category, id, url); name the field with --label-column, or extract without labels \
               (--no-labels)";
    assert!(said.contains(why), "{said}");
    let with = |label_column: &str| {
        let label_column = Some(label_column.to_owned());
        Dataset::open(std::slice::from_ref(&path), &SourceOptions { label_column, ..Default::default() })
    };
    let set = with("category").unwrap();
    assert_eq!(classes(&set), [("a.jpg", Some("cat")), ("b.jpg", Some("dog"))]);
    let said = with("species").unwrap_err().to_string();
    assert!(said.contains("no .json has the field species (fields seen: category, id, url)"), "{said}");
    let options = SourceOptions { no_labels: true, ..Default::default() };
    let set = Dataset::open(std::slice::from_ref(&path), &options).unwrap();
    assert_eq!(classes(&set), [("a.jpg", None), ("b.jpg", None)]);
    assert_eq!(set.passed_over.describe(), "1 file that is not an image (s/b.txt)");

    // A field that is named counts alone.
    let (_folder, path, _) =
        shard(&[("a.jpg", b"x"), ("a.cls", b"3"), ("a.json", br#"{"label": 4, "Species": "cat"}"#)]);
    let options = SourceOptions { label_column: Some("species".to_owned()), ..Default::default() };
    let set = Dataset::open(&[path], &options).unwrap();
    assert_eq!(classes(&set), [("a.jpg", Some("cat"))]);

    let set = set_of(&[("a.jpg", "x"), ("a.LBL", "cat"), ("b.jpg", "x"), ("b.LBL", "dog"), ("README", "x")]);
    assert_eq!(
        set.notes,
        [
            "no image has a label: there is no KEY.cls and no KEY.json (other members: 1 without an extension, 2 .lbl)"
        ]
    );
    // A part of them only.
    let set =
        set_of(&[("a.jpg", "x"), ("a.cls", "cat"), ("b.jpg", "x"), ("b.json", r#"{"category": "dog"}"#)]);
    assert_eq!(
        set.notes,
        [
            "the .json of 1 image has no field for the class (fields seen: category)",
            "1 of 2 images have no class, the first: s/b.jpg"
        ]
    );
    assert_eq!(set_of(&[("a.jpg", "x"), ("b.jpg", "x")]).notes, Vec::<String>::new());
}

#[test]
fn what_is_no_image_in_a_shard_is_counted() {
    let set = set_of(&[
        ("a.jpg", "x"),
        ("a.cls", "cat"),
        ("a.npy", "x"),
        ("a.txt", "a cat"),
        ("__MACOSX/._a.jpg", "x"),
        ("._a.jpg", "x"),
        (".hidden/b.jpg", "x"),
    ]);
    assert_eq!(classes(&set), [("a.jpg", Some("cat"))]);
    assert_eq!(
        set.passed_over.describe(),
        "2 files that are not images (s/a.npy, s/a.txt), 2 hidden files (s/._a.jpg, s/.hidden/b.jpg) and 1 \
         system file (s/__MACOSX/._a.jpg)"
    );
}

#[test]
fn folders_in_shards_are_classes_where_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // One class a shard, as a sorted folder is packed.
    tar(&at("0.tar"), &[("./data/red/0.jpg", b"x"), ("./data/red/1.jpg", b"x")]);
    tar(&at("1.tar"), &[("./data/blue/0.jpg", b"x"), ("./data/blue/old/1.jpg", b"x")]);
    let set = Dataset::from_shards(&[at("0.tar"), at("1.tar")], &SourceOptions::default()).unwrap();
    assert_eq!(
        listed(&set),
        [
            ("0/data/red/0.jpg", Some("red")),
            ("0/data/red/1.jpg", Some("red")),
            ("1/data/blue/0.jpg", Some("blue")),
            ("1/data/blue/old/1.jpg", Some("blue")),
        ]
    );
    assert_eq!(
        set.notes,
        ["the shards hold no labels, so the classes are the folders of their images below data/: blue, red"]
    );

    let split = [("train/10/0.jpg", "x"), ("train/9/0.jpg", "x"), ("test/9/1.jpg", "x")];
    let set = set_of(&split);
    assert_eq!(
        classes(&set),
        [("test/9/1.jpg", Some("9")), ("train/10/0.jpg", Some("10")), ("train/9/0.jpg", Some("9"))]
    );
    assert_eq!(set.class_names, ["9", "10"]);

    let set = set_of(&[("a/0.jpg", "x"), ("b/1.jpg", "x"), ("2.jpg", "x")]);
    assert_eq!(classes(&set), [("2.jpg", None), ("a/0.jpg", None), ("b/1.jpg", None)]);
    let note = "no image has a label: there is no KEY.cls and no KEY.json, and folders are not classes, \
                because s/2.jpg is in none of them";
    assert_eq!(set.notes, [note]);

    // A label anywhere says that folders are not meant.
    let set = set_of(&[("a/0.jpg", "x"), ("b/1.jpg", "x"), ("b/1.cls", "red")]);
    assert_eq!(classes(&set), [("a/0.jpg", None), ("b/1.jpg", Some("red"))]);
    let (.., set) = shard(&[("a/0.jpg", b"x"), ("b/1.jpg", b"x"), ("b/1.json", b"{}")]);
    assert!(matches!(set, Err(DatasetError::NoShardLabels { .. })), "{set:?}");
}

/// Appends a member without data.
fn special(archive: &mut tar::Builder<fs::File>, kind: EntryType, name: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    archive.append_link(&mut header, name, "a.jpg").unwrap();
}

/// Appends a member under a name that the tar crate would refuse.
fn plainly(archive: &mut tar::Builder<fs::File>, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append(&header, content).unwrap();
}

#[test]
fn members_that_are_dropped_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    plainly(&mut archive, "a.jpg", b"x");
    plainly(&mut archive, "../up/0.jpg", b"x");
    plainly(&mut archive, "../up/0.cls", b"red");
    plainly(&mut archive, "d/../b.jpg", b"x");
    plainly(&mut archive, "/abs/c.jpg", b"x");
    plainly(&mut archive, "/abs/c.cls", b"red");
    plainly(&mut archive, "e.jpg", b"x");
    special(&mut archive, EntryType::Link, "e.cls");
    special(&mut archive, EntryType::Link, "f.jpg");
    special(&mut archive, EntryType::Symlink, "g.png");
    special(&mut archive, EntryType::Char, "h.jpg");
    special(&mut archive, EntryType::Fifo, "i.txt");
    special(&mut archive, EntryType::Directory, "j.jpg");
    archive.into_inner().unwrap();
    let set = Dataset::from_shards(&[path], &SourceOptions::default()).unwrap();
    assert_eq!(classes(&set), [("a.jpg", None), ("abs/c.jpg", Some("red")), ("b.jpg", None)]);
    let outside = "its name leads out of the tar file (..), so it was not used";
    let link = "a link or another special member of the tar file, which is not read; pack the file itself";
    let told: Vec<(&str, &str)> =
        set.problems.iter().map(|InputProblem { name, reason }| (name.as_str(), reason.as_str())).collect();
    assert_eq!(
        told,
        [
            ("s/../up/0.jpg", outside),
            ("s/../up/0.cls", outside),
            ("s/f.jpg", link),
            ("s/g.png", link),
            ("s/h.jpg", link),
            ("s/e.jpg", &format!("its class in e.cls: {link}")),
        ]
    );
}

#[test]
fn sparse_members_are_told_and_what_follows_them_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    // 8 bytes of data at 1 MiB, as `tar --sparse` packs a file of mostly nothing.
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_path("a.jpg").unwrap();
    header.set_size(8);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].offset[..11].copy_from_slice(b"00004000000");
    gnu.sparse[0].numbytes[..11].copy_from_slice(b"00000000010");
    gnu.realsize[..11].copy_from_slice(b"00004000010");
    header.set_cksum();
    archive.append(&header, &b"8 bytes."[..]).unwrap();
    archive
        .append_pax_extensions([("GNU.sparse.major", b"1".as_slice()), ("GNU.sparse.name", b"b.jpg")])
        .unwrap();
    plainly(&mut archive, "GNUSparseFile.1/b.jpg", b"1\n0\n8\n");
    plainly(&mut archive, "c.jpg", b"x");
    archive.into_inner().unwrap();
    let set = Dataset::from_shards(&[path], &SourceOptions::default()).unwrap();
    assert_eq!(classes(&set), [("c.jpg", None)]);
    let reason = "a sparse file of the tar file, which is not read; pack the file itself";
    assert_eq!(set.problems, [problem("s/a.jpg", reason), problem("s/GNUSparseFile.1/b.jpg", reason)]);
}

#[test]
fn what_follows_the_end_of_a_shard_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
    tar(&a, &[("0.jpg", b"x")]);
    tar(&b, &[("1.jpg", b"x")]);
    let (first, second) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    let whole = [first.clone(), second].concat();
    fs::write(&a, &whole).unwrap();
    let set = Dataset::from_shards(std::slice::from_ref(&a), &SourceOptions::default()).unwrap();
    assert_eq!(classes(&set), [("0.jpg", None)]);
    assert_eq!(set.problems[0].name, a.display().to_string());
    let start = format!("there is data after its end mark, at byte {} of {}", first.len(), whole.len());
    assert!(set.problems[0].reason.starts_with(&start), "{:?}", set.problems);
    // Zeros fill a tape's record.
    fs::write(&a, [first, vec![0; 100_000]].concat()).unwrap();
    assert_eq!(Dataset::from_shards(&[a], &SourceOptions::default()).unwrap().problems, []);
}

#[test]
fn kinds_of_files_that_are_not_taken_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.tar.gz"), b"\x1f\x8b\x08 compressed").unwrap();
    fs::write(at("b.tar"), [b"\x1f\x8b\x08".as_slice(), &[7; 2000]].concat()).unwrap();
    fs::write(at("c.zip"), b"PK\x03\x04").unwrap();
    let said = |error: DatasetError| InputProblem::from_error("", &error).reason;
    let gz = said(open(&at("a.tar.gz")).unwrap_err());
    let whole = at("a.tar");
    let remedy = format!(
        "a.tar.gz is a file compressed with gzip, which is not read; decompress it, `gunzip -c {} > {}`",
        at("a.tar.gz").display(),
        whole.display()
    );
    assert!(gz.contains(&remedy), "{gz}");
    let tar = said(open(&at("b.tar")).unwrap_err());
    assert!(
        tar.contains("a file compressed with gzip, which is not read; decompress it, `gunzip -c"),
        "{tar}"
    );
    let several = said(Dataset::open(&[at("a.tar.gz"), at("c.zip")], &SourceOptions::default()).unwrap_err());
    assert!(several.contains("a.tar.gz is a file compressed with gzip"), "{several}");
    let named = Dataset::from_paths(&[at("c.zip")], false, None).unwrap();
    assert!(named.problems[0].reason.starts_with("a zip file, which is not read"), "{:?}", named.problems);
    fs::remove_file(at("b.tar")).unwrap();
    fs::remove_file(at("a.tar.gz")).unwrap();
    let below = said(open(folder.path()).unwrap_err());
    assert!(below.contains("c.zip is a zip file, which is not read; unpack it into a folder"), "{below}");
}

#[test]
fn the_program_gives_each_photo_of_a_dotted_shard_its_own_class() {
    let folder = workspace(5);
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    for class in ["fish", "house"] {
        for number in 1..3 {
            let photo = fs::read(folder.path().join(format!("data/{class}/00{number}.jpg"))).unwrap();
            members.push((format!("IMG.{class}{number}.jpg"), photo));
            members.push((format!("IMG.{class}{number}.cls"), class.as_bytes().to_vec()));
        }
    }
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    tar(&folder.path().join("s.tar"), &members);
    cnncodes(folder.path())
        .args(["extract", "s.tar", "-o", "s.h5"])
        .assert()
        .success()
        .stdout(contains("4 images of 2 classes").and(contains("0 skipped")));
    let file = cnncodes::features::FeatureFile::open(&folder.path().join("s.h5")).unwrap();
    assert_eq!(
        file.image_names(),
        ["s/IMG.fish1.jpg", "s/IMG.fish2.jpg", "s/IMG.house1.jpg", "s/IMG.house2.jpg"]
    );
    assert_eq!(file.labels(), [0, 0, 1, 1]);
}
