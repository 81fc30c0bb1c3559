//! What a folder or a CSV file becomes, as users see it: which files are images, what is passed over and where that is
//! told, and columns that hold the labels.

use std::fs;
use std::path::Path;
use std::process::Command;

use cnncodes::dataset::Dataset;
use cnncodes::features::{FeatureFile, PassedOverGroup};
use cnncodes::images::sniff;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};

use crate::common::{cnncodes, workspace};

const OUTPUT: &str = "features/demo-vgg-fc7.h5";

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn features(folder: &Path) -> FeatureFile {
    FeatureFile::open(&folder.join(OUTPUT)).unwrap()
}

/// The classes of the file's images, in the order of their names.
fn classes(file: &FeatureFile) -> Vec<Option<&str>> {
    let class = |&label: &i64| usize::try_from(label).ok().map(|label| file.class_names()[label].as_str());
    file.labels().iter().map(class).collect()
}

/// Files beside the images of a workspace that are none.
fn add_no_images(data: &Path) {
    write(data, "fish/notes.txt", "dear reader");
    write(data, "fish/list.csv", "path,label\n");
    write(data, "house/._001.jpg", "resource fork");
    for name in [
        "@eaDir/001.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/old.jpg",
        "fish/@eaDir/x.jpg",
        "$RECYCLE.BIN/a.jpg",
    ] {
        fs::create_dir_all(data.join(name).parent().unwrap()).unwrap();
        fs::copy(data.join("fish/001.jpg"), data.join(name)).unwrap();
    }
}

#[test]
fn what_is_passed_over_is_told_wherever_a_run_tells_of_itself() {
    let folder = workspace(5);
    cnncodes(folder.path())
        .args(["extract", "--layer", "fc7"])
        .assert()
        .success()
        .stdout(contains("passed over").not())
        .stderr("");
    assert_eq!(features(folder.path()).passed_over(), []);
    add_no_images(&folder.path().join("data"));
    let text = "passed over: 2 files that are not images (fish/list.csv, fish/notes.txt), 1 hidden file \
                (house/._001.jpg) and 4 system files (#recycle/old.jpg, $RECYCLE.BIN/a.jpg, \
                @eaDir/001.jpg/SYNOPHOTO_THUMB_M.jpg, …)";
    cnncodes(folder.path())
        .args(["extract", "--layer", "fc7", "--dry-run"])
        .assert()
        .success()
        .stderr(contains(text))
        .stdout(contains("to keep 20").and(contains("0 cannot be read, 7 passed over")));
    cnncodes(folder.path())
        .args(["extract", "--layer", "fc7"])
        .assert()
        .success()
        .stderr(contains(text))
        .stdout(contains("20 images of 4 classes").and(contains("0 skipped, 7 passed over")));
    let group = |(reason, files, example): (&str, u64, &str)| PassedOverGroup {
        reason: reason.into(),
        files,
        example: example.into(),
    };
    let expected = [
        ("not an image", 2, "fish/list.csv"),
        ("hidden", 1, "house/._001.jpg"),
        ("system", 4, "#recycle/old.jpg"),
    ];
    assert_eq!(features(folder.path()).passed_over(), expected.map(group));

    // Once more: nothing has changed, and the file is left alone.
    let log = cnncodes(folder.path()).args(["extract", "--layer", "fc7", "--log", "json"]).assert().success();
    let log = String::from_utf8(log.get_output().stderr.clone()).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["up_to_date"], true);
    let expected = json!([
        { "reason": "not an image", "files": 2, "more": false, "examples": ["fish/list.csv", "fish/notes.txt"] },
        { "reason": "hidden", "files": 1, "more": false, "examples": ["house/._001.jpg"] },
        { "reason": "system", "files": 4, "more": false,
          "examples": ["#recycle/old.jpg", "$RECYCLE.BIN/a.jpg", "@eaDir/001.jpg/SYNOPHOTO_THUMB_M.jpg"] },
    ]);
    for event in ["started", "finished"] {
        let event = events.iter().find(|line| line["event"] == event).unwrap();
        assert_eq!(event["passed_over"], expected, "{event}");
    }

    // What is listed otherwise is listed by the same rules.
    cnncodes(folder.path()).args(["fit-head", "--ridge", "--folds", "2"]).assert().success();
    let lines = |count: usize| predicate::function(move |out: &str| out.lines().count() == count);
    cnncodes(folder.path())
        .args(["classify", "data", "--format", "csv", "--top", "1"])
        .assert()
        .success()
        .stdout(lines(21))
        .stderr(contains(
            "passed over: 2 files that are not images (data/fish/list.csv, data/fish/notes.txt), 1 hidden",
        ));
    cnncodes(folder.path())
        .args(["evaluate", "data", "--format", "csv"])
        .assert()
        .success()
        .stdout(lines(21))
        .stderr(contains(text));
}

#[test]
fn classes_are_kept_whatever_their_files_are_called() {
    let folder = workspace(3);
    let data = folder.path().join("data");
    for (class, rename) in [("fish", "jfif"), ("flower", "JPE"), ("house", "")] {
        for number in 1..4 {
            let to = data.join(class).join(format!("{number:03}")).with_extension(rename);
            fs::rename(data.join(format!("{class}/{number:03}.jpg")), to).unwrap();
        }
    }
    for name in ["IMG_1.HEIC", "IMG_2.HEIC"] {
        write(&data, &format!("phone/{name}"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    }
    fs::create_dir_all(data.join("later/@eaDir")).unwrap();
    let run = cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().code(1);
    run.stdout(contains("12 images of 5 classes").and(contains("2 skipped"))).stderr(
        contains("warning: the folder later holds no image, so there is no class later")
            .and(contains("warning: none of the images of the class phone could be read"))
            .and(contains("skipped: phone/IMG_1.HEIC: damaged or cut-off HEIC/HEIF")),
    );
    let file = features(folder.path());
    assert_eq!(file.class_names()[..4], ["fish", "flower", "house", "phone"]);
    assert_eq!(
        file.image_names()[..7],
        [
            "fish/001.jfif",
            "fish/002.jfif",
            "fish/003.jfif",
            "flower/001.JPE",
            "flower/002.JPE",
            "flower/003.JPE",
            "house/001"
        ]
    );
    assert_eq!(file.errors().len(), 2);
    // For machines as well, and nothing but JSON.
    let log = cnncodes(folder.path()).args(["extract", "--layer", "fc7", "--log", "json"]).assert().code(1);
    let log = String::from_utf8(log.get_output().stderr.clone()).unwrap();
    let notes: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let notes: Vec<&Value> =
        notes.iter().filter(|line| line["event"] == "note").map(|line| &line["text"]).collect();
    assert_eq!(
        notes,
        [
            "the folder later holds no image, so there is no class later",
            "none of the images of the class phone could be read"
        ]
    );
}

#[test]
fn every_image_that_pillow_writes_is_taken_for_one_without_its_extension() {
    let folder = tempfile::tempdir().unwrap();
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!("SKIPPED: every_image_that_pillow_writes: CNNCODES_PYTHON names no Python with Pillow");
        return;
    };
    let program = r#"
import os
from PIL import Image
image = Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 50).convert("RGB")
os.mkdir("a")
formats = ["JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "DDS", "QOI"]
for form in formats:
    image.save(f"a/{form}", form)
image.save("a/BIG", "TIFF", big_tiff=True)
image.save("a/LZW", "TIFF", compression="tiff_lzw")
image.save("a/CODESTREAM", "JPEG2000", no_jp2=True)
image.save("a/PDF", "PDF")
"#;
    let run = Command::new(python).arg("-c").arg(program).current_dir(folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let set = Dataset::from_folder(folder.path()).unwrap();
    let format = |name: &str| sniff(&fs::read(folder.path().join(name)).unwrap()).map(|format| format.name());
    let found: Vec<(&str, Option<&str>)> =
        set.samples.iter().map(|sample| (sample.name, format(sample.name))).collect();
    let expected = [
        ("a/AVIF", "AVIF"),
        ("a/BIG", "BigTIFF"),
        ("a/BMP", "BMP"),
        ("a/CODESTREAM", "JPEG 2000"),
        ("a/DDS", "DDS"),
        ("a/GIF", "GIF"),
        ("a/ICO", "ICO"),
        ("a/JPEG", "JPEG"),
        ("a/JPEG2000", "JPEG 2000"),
        ("a/LZW", "TIFF"),
        ("a/MPO", "JPEG"),
        ("a/PNG", "PNG"),
        ("a/PPM", "Netpbm"),
        ("a/QOI", "QOI"),
        ("a/TIFF", "TIFF"),
        ("a/WEBP", "WebP"),
    ];
    assert_eq!(found, expected.map(|(name, format)| (name, Some(format))));
    assert_eq!(set.passed_over.describe(), "1 file that is not an image (a/PDF)");
}

#[test]
fn labels_that_are_meant_are_found_or_asked_for_before_the_work() {
    let folder = workspace(2);
    let rows = |separator: &str| -> String {
        ["fish", "house"]
            .iter()
            .flat_map(|class| {
                (1..3).map(move |number| format!("data/{class}/00{number}.jpg{separator}{class}\n"))
            })
            .collect()
    };
    let expected = [Some("fish"), Some("fish"), Some("house"), Some("house")];
    let extract = |csv: String, options: &[&str]| {
        write(folder.path(), "list.csv", csv);
        cnncodes(folder.path()).args(["extract", "list.csv", "--layer", "fc7"]).args(options).assert()
    };
    for (header, separator) in
        [("path,class", ","), ("File Name;target", ";"), ("\u{feff}image\tcategory", "\t")]
    {
        extract(format!("{header}\n{}", rows(separator)), &["--force"]).success().stderr("");
        assert_eq!(classes(&features(folder.path())), expected, "{header}");
    }
    extract(format!("photo,kind\n{}", rows(",")), &["--path-column", "photo", "--label-column", "kind"])
        .success();
    assert_eq!(classes(&features(folder.path())), expected);
    extract(format!("path,kind\n{}", rows(",")), &["--no-labels"]).success();
    assert_eq!(classes(&features(folder.path())), [None; 4]);
    // The output stays away: nothing was computed for it.
    for (csv, message) in [
        (
            format!("path,kind\n{}", rows(",")),
            "no column of labels (columns seen: path, kind); name the column with --label-column",
        ),
        (
            format!("photo,kind\n{}", rows(",")),
            "no column of paths (columns seen: photo, kind); write path,label there",
        ),
        (rows(","), "so it seems to be an image already"),
        (
            "path,fish,house\ndata/fish/001.jpg,1,0\ndata/house/001.jpg,0,1\n".into(),
            "one column for each class (one-hot)",
        ),
        (
            format!("path,label\n{}data/house/002.jpg,\"house\n", rows(",")),
            "the quote that begins on line 6 is never closed",
        ),
        (
            "path,label\ndata/fish/001.jpg,\"fish\ndata/house/001.jpg,house\ndata/house/002.jpg,\"\n".into(),
            "the label on line 2 has several lines, up to line 4",
        ),
    ] {
        extract(csv, &["-o", "none.h5"]).code(2).stderr(contains(message));
        assert!(!folder.path().join("none.h5").exists());
    }
    // `sweep` and `evaluate` have the same options.
    write(folder.path(), "list.csv", format!("photo,kind\n{}", rows(",")));
    for command in [&["sweep"][..], &["evaluate"]] {
        cnncodes(folder.path())
            .args(command)
            .args(["list.csv", "--path-column", "photo", "--label-column", "sort"])
            .assert()
            .code(2);
    }
    cnncodes(folder.path())
        .args(["sweep", "list.csv", "--path-column", "photo", "--label-column", "sort"])
        .assert()
        .code(2)
        .stderr(contains(
            "it has no column \"sort\", which --label-column names (columns seen: photo, kind)",
        ));
}

#[test]
fn classes_that_are_numbers_are_in_the_order_of_numbers_in_folders_and_csv_files() {
    let folder = workspace(2);
    let data = folder.path().join("data");
    for (class, number) in [("fish", "10"), ("flower", "2"), ("house", "1"), ("sailboat", "-1")] {
        fs::rename(data.join(class), data.join(number)).unwrap();
    }
    let note = "2 of 8 images have no class, the first: ";
    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success().stderr(contains(note));
    let expected = [None, None, Some("1"), Some("1"), Some("10"), Some("10"), Some("2"), Some("2")];
    assert_eq!(features(folder.path()).class_names(), ["1", "2", "10"]);
    assert_eq!(classes(&features(folder.path())), expected);
    let rows: String = ["-1", "1", "10", "2"]
        .iter()
        .flat_map(|number| (1..3).map(move |image| format!("data/{number}/00{image}.jpg,{number}.0\n")))
        .collect();
    write(folder.path(), "list.csv", format!("path,label\n{rows}"));
    cnncodes(folder.path())
        .args(["extract", "list.csv", "--layer", "fc7"])
        .assert()
        .success()
        .stderr(contains(note));
    assert_eq!(features(folder.path()).class_names(), ["1", "2", "10"]);
    assert_eq!(classes(&features(folder.path())), expected);
}

#[test]
fn groups_and_splits_are_read_as_lists_are() {
    let folder = workspace(6);
    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success();
    let names = features(folder.path()).image_names().to_vec();
    let fit = |csv: &str, options: &[&str]| {
        write(folder.path(), "list.csv", csv);
        cnncodes(folder.path()).args(["fit-head", "--ridge", "--folds", "2"]).args(options).assert()
    };
    let table = |header: &str, separator: &str, value: &dyn Fn(usize) -> String| -> String {
        let rows = names.iter().enumerate();
        format!("{header}\n")
            + &rows.map(|(row, name)| format!("{name}{separator}{}\n", value(row))).collect::<String>()
    };
    let split = |row: usize| if row.is_multiple_of(3) { "test" } else { "train" }.to_owned();
    let expected = "on the test images 87.5 % (7 of 8)";
    fit(&table("path,split", ",", &split), &["--split=list.csv"]).success().stdout(contains(expected));
    let semicolons = table("\u{feff}Path;Split", ";", &split).replace('\n', "\r\n");
    fit(&semicolons, &["--split=list.csv"]).success().stdout(contains(expected));

    // A group that is missing is none: these images are not copies of one another.
    let nan = |row: usize| {
        if row < 2 {
            "a"
        } else if row.is_multiple_of(2) {
            "nan"
        } else {
            "-1"
        }
        .to_owned()
    };
    fit(&table("path,group", ",", &nan), &["--groups", "list.csv", "--duplicate-threshold", "1"])
        .success()
        .stdout(contains("2 images are duplicates of one another, in 1 set"));
    for (csv, message) in [
        (
            table("path,group", ",", &|_| "\"a".into()),
            "the quote that begins on line 2 is closed on line 3 with text after it",
        ),
        (format!("path,group\n{},\"a\n", names[0]), "the quote that begins on line 2 is never closed"),
        (format!("path,set\n{},a\n", names[0]), "it has no column group (columns seen: path, set)"),
        (format!("path,group\n{0},a\n{1},b\n{0},c\n", names[0], names[1]), "lines 2 and 4 of list.csv give"),
    ] {
        fit(&csv, &["--groups", "list.csv"]).code(2).stderr(contains(message));
    }
}
