//! The kinds of images that commands take: lists on standard input, tar shards and HDF5 arrays give the features that the
//! plain folder gives, bit for bit, and say what is wrong with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cnncodes::dataset::{Dataset, DatasetError, InputProblem, SourceOptions};
use cnncodes::features::FeatureFile;
use predicates::prelude::*;
use predicates::str::contains;

use crate::common::{cnncodes, python, workspace};

/// (Class, features) by the SHA-256 of the image's bytes.
fn by_hash(path: &Path) -> BTreeMap<String, (Option<String>, Vec<u32>)> {
    let file = FeatureFile::open(path).unwrap();
    let features = file.read_layer(None).unwrap();
    let class = |label: i64| usize::try_from(label).ok().map(|label| file.class_names()[label].clone());
    let rows = features.rows().into_iter().map(|row| row.iter().map(|value| value.to_bits()).collect());
    let hashes = file.sha256().iter().cloned();
    hashes.zip(file.labels().iter().map(|&label| class(label)).zip(rows)).collect()
}

fn without_classes(
    features: BTreeMap<String, (Option<String>, Vec<u32>)>,
) -> BTreeMap<String, (Option<String>, Vec<u32>)> {
    features.into_iter().map(|(hash, (_, features))| (hash, (None, features))).collect()
}

fn names(path: &Path) -> Vec<String> {
    FeatureFile::open(path).unwrap().image_names().to_vec()
}

/// Two images a class in `data/`, and `plain.h5` with their features.
fn plain() -> (tempfile::TempDir, PathBuf) {
    let folder = workspace(2);
    cnncodes(folder.path()).args(["extract", "-o", "plain.h5"]).assert().success();
    let features = folder.path().join("plain.h5");
    (folder, features)
}

/// Writes a tar file of (name, content).
pub fn tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.finish().unwrap();
}

pub fn problem(name: &str, reason: &str) -> InputProblem {
    InputProblem { name: name.to_owned(), reason: reason.to_owned() }
}

/// (Name, class) of each sample.
pub fn listed(set: &Dataset) -> Vec<(&str, Option<&str>)> {
    let class = |label: usize| set.class_names[label].as_str();
    set.samples.iter().map(|sample| (sample.name, sample.label.map(class))).collect()
}

fn shards(paths: &[PathBuf]) -> Dataset {
    Dataset::from_shards(paths, &SourceOptions::default()).unwrap()
}

#[test]
fn shards_written_by_python_give_the_features_of_the_folder() {
    let (folder, plain) = plain();
    // Two shards: one of the oldest form with .cls of numbers, one with PAX headers, long names and .json.
    let program = r#"
import glob, io, json, os, tarfile
os.mkdir("shards")
photos = sorted(glob.glob("data/*/*.jpg"))
classes = sorted({path.split("/")[1] for path in photos})
open("shards/classes.txt", "w").write("\n".join(classes) + "\n")
for shard, form in enumerate([tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT]):
    with tarfile.open(f"shards/train-{shard:03}.tar", "w", format=form) as archive:
        for number, path in enumerate(photos[shard::2]):
            key = f"{number:06}" if shard == 0 else f"{'long/' * 40}é{number:06}"
            label = classes.index(path.split("/")[1])
            text = str(label) if shard == 0 else json.dumps({"caption": "x", "label": label})
            for name, content in [(f"{key}.jpg", open(path, "rb").read()),
                                  (f"{key}.{'cls' if shard == 0 else 'json'}", text.encode())]:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
"#;
    if !python("shards_written_by_python", folder.path(), program) {
        return;
    }
    let expected = by_hash(&plain);
    assert_eq!(expected.len(), 8);
    for (number, input) in ["shards", "shards/train-{000..001}.tar", "shards/*.tar"].into_iter().enumerate() {
        let output = folder.path().join(format!("{number}.h5"));
        cnncodes(folder.path()).args(["extract", input, "-o"]).arg(&output).assert().success();
        assert_eq!(by_hash(&output), expected, "{input}");
        let names = names(&output);
        assert_eq!(names[0], "train-000/000000.jpg");
        assert_eq!(names[7], format!("train-001/{}é000003.jpg", "long/".repeat(40)));
    }
    // A head is fitted to them, and judges and answers from the same shards.
    cnncodes(folder.path()).args(["fit-head", "--ridge", "0.h5", "--folds", "2"]).assert().success();
    cnncodes(folder.path())
        .args(["evaluate", "shards/train-000.tar", "--classes", "shards/classes.txt", "--format", "csv"])
        .assert()
        .success()
        .stdout(contains("train-000/000000.jpg,fish,"));
    cnncodes(folder.path())
        .args(["classify", "shards/train-000.tar", "image.jpg", "--format", "csv", "--top", "1"])
        .assert()
        .success()
        .stdout(contains("shards/train-000/000003.jpg,1,").and(contains("image.jpg,1,")));
}

#[test]
fn arrays_written_by_h5py_give_the_features_of_the_folder() {
    let (folder, plain) = plain();
    let program = r#"
import glob, hashlib, json
import h5py, numpy
from PIL import Image
photos = sorted(glob.glob("data/*/*.jpg"))
pixels = numpy.stack([numpy.asarray(Image.open(path)) for path in photos])
classes = sorted({path.split("/")[1] for path in photos})
labels = [classes.index(path.split("/")[1]) for path in photos]
with h5py.File("images.h5", "w") as file:
    file["x"] = pixels
    file.create_dataset("group/planar", data=pixels.transpose(0, 3, 1, 2), chunks=True, compression="gzip")
    file["grey"] = pixels[..., 1]
    file["y"] = numpy.array(labels, "uint8")
    file["column"] = numpy.array(labels, ">i4").reshape(-1, 1)
    file["names"] = [classes[label] for label in labels]
    file["floats"] = pixels / 255
    file["few"] = labels[:3]
Image.fromarray(numpy.repeat(pixels[2, ..., 1, None], 3, 2)).save("grey.png")
open("names.txt", "w").write("\n".join(classes))
json.dump([hashlib.sha256(row.tobytes()).hexdigest() for row in pixels], open("hashes.json", "w"))
"#;
    if !python("arrays_written_by_h5py", folder.path(), program) {
        return;
    }
    let at = |name: &str| folder.path().join(name);
    let read = |path: &Path| FeatureFile::open(path).unwrap();
    let expected = read(&plain);
    let hashes: Vec<String> = serde_json::from_slice(&fs::read(at("hashes.json")).unwrap()).unwrap();
    let cases: [(&str, &[&str]); 3] = [
        ("images.h5:/x", &["--labels", "y", "--classes", "names.txt"]),
        ("images.h5:group/planar", &["--labels", "/column", "--classes", "names.txt"]),
        ("images.h5:x", &["--labels", "names"]),
    ];
    for (input, options) in cases {
        let run = ["extract", input, "-o", "array.h5"];
        cnncodes(folder.path()).args(run).args(options).assert().success();
        let found = read(&at("array.h5"));
        assert_eq!(found.read_layer(None).unwrap(), expected.read_layer(None).unwrap(), "{input}");
        assert_eq!(found.labels(), expected.labels(), "{input}");
        assert_eq!(found.class_names(), expected.class_names(), "{input}");
        let dataset = input.trim_start_matches("images.h5:").trim_start_matches('/');
        assert_eq!(found.image_names()[7], format!("{dataset}/7"));
        if dataset == "x" {
            assert_eq!(found.sha256(), hashes);
        }
    }
    // Without names, classes are numbers; grey is what a grey file would be.
    cnncodes(folder.path())
        .args(["extract", "images.h5:grey", "--labels", "y", "-o", "g.h5"])
        .assert()
        .success();
    cnncodes(folder.path()).args(["extract", "-", "-o", "p.h5"]).write_stdin("grey.png\n").assert().success();
    let (grey, file) = (read(&at("g.h5")), read(&at("p.h5")));
    assert_eq!(grey.class_names(), ["0", "1", "2", "3"]);
    assert_eq!(grey.read_layer(None).unwrap().row(2), file.read_layer(None).unwrap().row(0));

    for (input, options, message) in [
        ("images.h5", &[][..], "holds 3 arrays of images (/"),
        ("images.h5:floats", &[], "float64 of the shape 8 x"),
        ("images.h5:z", &[], "has no dataset /z; it holds /column, /few, /floats, /grey, /group/planar"),
        ("images.h5:x", &["--labels", "few"], "expected one whole number or text for each of the 8 images"),
        ("names.h5:x", &[], "names.h5 does not exist"),
        ("data", &["--labels", "y"], "--labels works with an HDF5 array"),
        ("data", &["--classes", "names.txt"], "--classes works with tar shards and HDF5 arrays"),
        ("data", &["-0"], "--null works with a list on standard input"),
    ] {
        cnncodes(folder.path())
            .args(["extract", input])
            .args(options)
            .assert()
            .code(2)
            .stderr(contains(message));
    }
}

#[test]
fn lists_on_standard_input_give_the_features_of_the_folder() {
    let (folder, plain) = plain();
    let paths: Vec<String> = names(&plain).iter().map(|name| format!("data/{name}")).collect();
    let expected = by_hash(&plain);
    let manifest = paths.iter().map(|path| format!("{path},{}\n", path.split('/').nth(1).unwrap()));
    let manifest = "path,label\n".to_owned() + &manifest.collect::<String>();
    let reversed = paths.iter().rev().map(|path| format!("./{path}\r\n")).collect::<String>();
    for (options, list, labelled) in
        [(&["-"][..], reversed, false), (&["-0", "-"], paths.join("\0"), false), (&["-"], manifest, true)]
    {
        let run = cnncodes(folder.path())
            .args(["extract", "-o", "list.h5"])
            .args(options)
            .write_stdin(list)
            .assert()
            .success();
        drop(run);
        let found = by_hash(&folder.path().join("list.h5"));
        let expected = if labelled { expected.clone() } else { without_classes(expected.clone()) };
        assert_eq!(found, expected);
        assert_eq!(names(&folder.path().join("list.h5")), paths);
    }
    cnncodes(folder.path())
        .args(["extract", "-", "-o", "some.h5"])
        .write_stdin("data/fish/001.jpg\ngone.jpg\ndata\n")
        .assert()
        .code(1)
        .stderr(contains("gone.jpg: no such file or folder (line 2 of the list)"))
        .stderr(contains("data: not a regular file"));
    for (list, message) in [
        ("a.jpg\nb.jpg\n", "none of its 2 images can be found (the first: a.jpg: no such file"),
        ("image.jpg\n./image.jpg\n", "lines 1 and 2 both name image.jpg"),
        ("", "none of its 0 images"),
        ("path,label\n,x\n", "line 2 has no path"),
    ] {
        cnncodes(folder.path())
            .args(["extract", "-"])
            .write_stdin(list)
            .assert()
            .code(2)
            .stderr(contains("cannot use the list on standard input").and(contains(message)));
    }
}

#[test]
fn a_shard_tells_what_is_wrong_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.tar");
    tar(
        &path,
        &[
            ("a.jpg", b"image"),
            ("a.cls", b"cat\n"),
            ("b.jpg", b"image"),
            ("./c.png", b"image"),
            ("c.cls", b" 2 "),
            ("d.cls", b"dog"),
            ("e.jpg", b"image"),
            ("e.json", b"{"),
            ("f.jpg", b"image"),
            ("f.cls", b""),
            ("a.jpg", b"again"),
            ("._g.jpg", b"resource fork"),
            ("h.json", b"{\"caption\": \"of no image\"}"),
            ("i.JPEG", b"image"),
            ("i.json", b"{\"label\": 7, \"class\": \"cat\"}"),
            ("j.jpg", b"image"),
            ("j.cls", b"-1"),
        ],
    );
    let set = shards(std::slice::from_ref(&path));
    assert_eq!(
        listed(&set),
        [
            ("s/a.jpg", Some("cat")),
            ("s/b.jpg", None),
            ("s/c.png", Some("2")),
            ("s/f.jpg", None),
            ("s/i.JPEG", Some("cat")),
            ("s/j.jpg", None)
        ]
    );
    assert_eq!(set.class_names, ["2", "cat"]);
    assert_eq!(set.notes, ["3 of 6 images have no class, the first: s/b.jpg"]);
    let eof = "its class in e.json: not well-formed JSON (EOF while parsing an object at line 1 column 1)";
    assert_eq!(
        set.problems,
        [
            problem("s/a.jpg", "the shard holds it twice; the first one was used"),
            problem("s/e.jpg", eof),
            problem("s/d.cls", "no image of its name or key is in the shard"),
        ]
    );
    assert_eq!(set.samples.get(0).read().unwrap().bytes(), b"image");
    assert_eq!(set.samples.get(0).file(), path);

    fs::write(folder.path().join("classes.txt"), "cat\ndog\n").unwrap();
    let set = shards(std::slice::from_ref(&path));
    assert_eq!(set.class_names, ["cat"]);
    let classes = folder.path().join("classes.txt");
    let reason = format!("its class is 2, but {} names the classes 0 to 1", classes.display());
    assert!(set.problems.contains(&problem("s/c.png", &reason)), "{:?}", set.problems);
    for (text, why) in [("cat\n\ndog\n", "line 2 is empty"), ("cat\ndog\ncat", "lines 1 and 3 are both cat")]
    {
        fs::write(&classes, text).unwrap();
        let error = Dataset::from_shards(std::slice::from_ref(&path), &SourceOptions::default()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }

    // It is written anew while it is in use.
    fs::remove_file(&classes).unwrap();
    let set = shards(std::slice::from_ref(&path));
    tar(&path, &[("a.jpg", b"another")]);
    let error = set.samples.get(0).read().unwrap_err();
    assert!(error.to_string().contains("has changed since it was listed"), "{error}");
}

#[test]
fn a_shard_that_is_cut_short_gives_what_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.tar");
    tar(&path, &[("a.jpg", &[7; 600]), ("b.jpg", &[8; 600])]);
    let whole = fs::read(&path).unwrap();
    // Header 512, content 1024, header 512, content 1024, two blocks of zeros.
    assert_eq!(whole.len(), 4096);
    for (bytes, images, reason) in [
        (4096, 2, None),
        (3072, 2, Some("its end is missing: cut short after 2 members, or never closed by its writer")),
        (2500, 1, Some("cut short: it ends within b.jpg; the rest is lost")),
        (1800, 1, Some("damaged after 1 members, at byte 1536")),
        (1536, 1, Some("its end is missing: cut short after 1 members")),
    ] {
        fs::write(&path, &whole[..bytes]).unwrap();
        let set = shards(std::slice::from_ref(&path));
        assert_eq!(set.samples.len(), images, "{bytes} bytes");
        assert_eq!(set.samples.get(0).read().unwrap().bytes(), [7; 600]);
        let reasons: Vec<&str> = set.problems.iter().map(|problem| problem.reason.as_str()).collect();
        match reason {
            None => assert_eq!(reasons, Vec::<&str>::new()),
            Some(reason) => assert!(reasons.len() == 1 && reasons[0].starts_with(reason), "{reasons:?}"),
        }
    }
    let mut damaged = whole;
    damaged[1600] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let set = shards(std::slice::from_ref(&path));
    assert_eq!(listed(&set), [("s/a.jpg", None)]);
    assert!(
        set.problems[0].reason.starts_with("damaged after 1 members, at byte 1536"),
        "{:?}",
        set.problems
    );

    for content in [&b"\x1f\x8b compressed"[..], &[b'x'; 2000], b""] {
        fs::write(&path, content).unwrap();
        let error = Dataset::from_shards(std::slice::from_ref(&path), &SourceOptions::default()).unwrap_err();
        let DatasetError::EmptyShards { problems, .. } = &error else { panic!("{error:?}") };
        assert_eq!(problems.len(), usize::from(!content.is_empty()), "{problems:?}");
        if !content.is_empty() {
            let what = if content[0] == b'x' {
                "not a tar file"
            } else {
                "a file compressed with gzip, which is not read"
            };
            assert!(problems[0].reason.starts_with(what), "{problems:?}");
        }
    }
}

#[test]
fn classes_that_are_numbers_are_in_the_order_of_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("x")).unwrap();
    tar(&at("x/0.tar"), &[("a.jpg", b""), ("a.cls", b"10"), ("b.jpg", b""), ("b.cls", b"2")]);
    tar(&at("0.tar"), &[("a.jpg", b""), ("a.cls", b"0")]);
    let set = shards(&[at("x/0.tar"), at("0.tar"), at("0.tar")]);
    assert_eq!(listed(&set), [("0/a.jpg", Some("0")), ("x/0/a.jpg", Some("10")), ("x/0/b.jpg", Some("2"))]);
    assert_eq!(set.class_names, ["0", "2", "10"]);
}

#[test]
fn inputs_that_cannot_be_told_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("a")).unwrap();
    let open = |inputs: &[PathBuf]| Dataset::open(inputs, &SourceOptions::default()).unwrap_err();
    assert!(matches!(open(&[at("a"), at("b.tar")]), DatasetError::Several { other } if other == at("a")));
    assert!(matches!(open(&[at("*.tar")]), DatasetError::NoMatch { .. }));
    assert!(
        matches!(open(&[at("s-{0..2}.tar")]), DatasetError::Unreadable { path, .. } if path == at("s-0.tar"))
    );
    assert!(matches!(open(&[at("none.csv")]), DatasetError::Missing { .. }));
}
