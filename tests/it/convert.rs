//! `cnncodes convert`: what other programs read of our files, what we read of theirs, and heads on such features.

use std::path::{Path, PathBuf};
use std::process::Command;

use cnncodes::features::{
    ConvertSettings, FeatureFile, FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, WriteOptions,
    convert,
};
use cnncodes::head::Head;
use cnncodes::network::Pooling;

use crate::common::{cnncodes, spec, workspace};

/// Runs scripts/reference/check_converted.py, which must succeed; `false` where there is no Python with its libraries.
fn python(test: &str, command: &str, folder: &Path) -> bool {
    let known = std::env::var_os("CNNCODES_PYTHON").filter(|python| {
        let libraries = Command::new(python)
            .args(["-c", "import duckdb, h5py, pandas, polars, pyarrow, safetensors"])
            .output();
        libraries.is_ok_and(|run| run.status.success())
    });
    let Some(python) = known else {
        eprintln!(
            "SKIPPED: {test}: CNNCODES_PYTHON names no Python with h5py, safetensors, pyarrow, pandas, polars and DuckDB"
        );
        return false;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/reference/check_converted.py");
    let run = Command::new(python).arg(script).arg(command).arg(folder).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    true
}

fn converted(from: &Path, to: &Path, settings: &ConvertSettings) -> Result<Vec<String>, String> {
    let result = convert(from, to, settings, &mut |_, _| ());
    result.map(|converted| converted.notes).map_err(|error| error.to_string())
}

/// Values that are easily lost, under names that are easily mangled.
fn write_example(output: &Path) {
    let layers = vec![StoredLayer { spec: spec("fc7", "relu7", Pooling::Average), shape: vec![2, 1, 3] }];
    let header = FeatureFileHeader {
        program_version: "0.1.0".into(),
        source: "Fotos/Tiere".into(),
        runtime: "onnxruntime 1.24.4".into(),
        device: "cpu".into(),
        class_names: vec!["Hund".into(), "Käuzchen, groß".into()],
        layers,
    };
    let mut writer =
        FeatureWriter::create(output, &header, WriteOptions { overwrite: false, expected_rows: 60 }).unwrap();
    for row in 0..60_u32 {
        let hard = [1 << 31, row, 0x8000_0000 | row, 0x7f7f_ffff - row, 0x3f80_0001 + row, 0x3dcc_cccd];
        let values = hard.map(f32::from_bits);
        let name = format!("Käuzchen/„{row}“, \"梟\" 'x'.jpg");
        let sha256 = format!("{row:064x}");
        let row = FeatureRow {
            name: &name,
            label: i64::from(row % 3) - 1,
            sha256: &sha256,
            perceptual_hash: (row % 2 == 1).then_some([row as u8; 32]),
            features: &[&values],
        };
        writer.append(&[row], &[]).unwrap();
    }
    writer.finish().unwrap();
}

/// The endings of all formats but the features file's own.
fn endings() -> Vec<&'static str> {
    let tables: &[&str] = if cfg!(feature = "parquet") { &["parquet", "arrow"] } else { &[] };
    [&["npz", "npy", "csv", "safetensors"], tables].concat()
}

#[test]
fn other_libraries_read_the_same_bits_names_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("features.h5");
    write_example(&from);
    for ending in endings() {
        let to = folder.path().join(format!("features.{ending}"));
        assert_eq!(converted(&from, &to, &ConvertSettings::default()).unwrap(), [""; 0]);
    }
    python("other_libraries_read_the_same_bits_names_and_labels", "read", folder.path());
}

/// Converts a file of check_converted.py, whose 12 rows hold 0, 1/8, 2/8 …, and checks values and classes.
fn check(folder: &Path, file: &str, settings: &ConvertSettings, named: bool, classes: &str) -> FeatureFile {
    let to = folder.join("out.h5");
    let settings = ConvertSettings::clone(settings);
    converted(&folder.join(file), &to, &overwriting(settings))
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let read = FeatureFile::open(&to).unwrap();
    let values: Vec<f32> = read.read_layer(None).unwrap().iter().copied().collect();
    assert_eq!(values, (0..48).map(|value| value as f32 / 8.0).collect::<Vec<_>>(), "{file}");
    let kinds = ["cats", "dogs", "horses"];
    let name = |row: usize| match named {
        true => format!("photos/{}/{row} ü.jpg", kinds[row % 3]),
        false => row.to_string(),
    };
    assert_eq!(read.image_names(), (0..12).map(name).collect::<Vec<_>>(), "{file}");
    assert_eq!(read.class_names().join(" "), classes, "{file}");
    assert!(read.header().spec().is_foreign(), "{file}");
    read
}

fn overwriting(mut settings: ConvertSettings) -> ConvertSettings {
    settings.overwrite = true;
    settings
}

#[cfg(feature = "parquet")]
fn named(name: &str, label: &str) -> ConvertSettings {
    let mut settings = ConvertSettings::default();
    settings.columns.name = Some(name.to_owned());
    settings.columns.label = Some(label.to_owned());
    settings
}

#[test]
fn arrays_that_numpy_and_safetensors_wrote_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    if !python("arrays_that_numpy_and_safetensors_wrote_are_read", "write", at) {
        return;
    }
    let plain = ConvertSettings::default();
    for file in ["float16.npy", "big_endian.npy", "fortran.npy", "maps_fortran.npy", "numbers.csv"] {
        check(at, file, &plain, false, "");
    }
    assert_eq!(check(at, "maps_fortran.npy", &plain, false, "").layers()[0].shape, [2, 1, 2]);
    check(at, "arrays.npz", &plain, true, "cats dogs horses");
    check(at, "fortran.npz", &plain, true, "0 1 2");
    check(at, "bytes.npz", &plain, true, "cats dogs horses");
    check(at, "st.safetensors", &plain, false, "0 1 2");
    let error = converted(&at.join("objects.npy"), &at.join("o.h5"), &plain).unwrap_err();
    assert!(error.contains("pickle"), "{error}");
    let notes = converted(&at.join("big_endian.npy"), &at.join("notes.h5"), &plain).unwrap();
    assert!(notes.iter().any(|note| note.starts_with("float64 values became float32")), "{notes:?}");
}

#[cfg(feature = "parquet")]
#[test]
fn tables_of_any_usual_shape_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    if !python("tables_of_any_usual_shape_are_read", "write", at) {
        return;
    }
    let (plain, species) = (ConvertSettings::default(), named("file", "species"));
    let all = "cats dogs horses";
    for ending in ["parquet", "feather"] {
        check(at, &format!("lists.{ending}"), &species, true, all);
        check(at, &format!("fixed.{ending}"), &plain, true, all);
        check(at, &format!("halves.{ending}"), &plain, true, "0 1");
        let large = check(at, &format!("large.{ending}"), &plain, true, "0 1");
        assert_eq!(large.labels()[..4], [-1, 1, 0, -1]);
        check(at, &format!("columns.{ending}"), &plain, true, all);
    }
    for file in [
        "fixed_zstd.parquet",
        "fixed_gzip.parquet",
        "fixed_lz4.parquet",
        "fixed_none.parquet",
        "fixed_zstd.arrow",
        "columns_plain.arrow",
    ] {
        check(at, file, &plain, true, all);
    }
    check(at, "clip", &plain, true, all);
    check(at, "clip/img_emb", &named("image_path", "kind"), true, all);
    for file in [
        "pandas.parquet",
        "pandas.feather",
        "pandas_columns.parquet",
        "pandas_columns.csv",
        "polars.parquet",
        "polars.arrow",
        "polars_lz4.feather",
        "polars_lists.parquet",
        "polars_lists.arrow",
        "duckdb.parquet",
        "duckdb_lists.parquet",
    ] {
        check(at, file, &plain, true, all);
    }

    for ending in ["parquet", "feather"] {
        for (file, settings, expected) in [
            ("ragged", &plain, "the vector of row 11 has 1 values, and the first has 2"),
            ("null", &plain, "row 11 has no vector in the column emb"),
            ("hole", &plain, "a vector of the column emb lacks a value"),
            ("two", &plain, "a, b might all be the features; name one with --features-column"),
            (
                "none",
                &plain,
                "has no column of vectors, and no columns of numbers that could be features; it has path, text",
            ),
            (
                "fixed",
                &named("image_path", "kind"),
                "has no column \"kind\", which --label-column names; it has image_path, vector, label",
            ),
        ] {
            let from = at.join(format!("{file}.{ending}"));
            let error = converted(&from, &at.join("bad.h5"), settings).unwrap_err();
            assert!(error.contains(&from.display().to_string()) && error.contains(expected), "{error}");
        }
    }
    let part = at.join("clip/metadata/metadata_1.parquet");
    std::fs::remove_file(&part).unwrap();
    let error = converted(&at.join("clip"), &at.join("bad.h5"), &plain).unwrap_err();
    assert!(error.contains("img_emb_1.npy") && error.contains("no metadata_*.parquet"), "{error}");
    assert!(!at.join("bad.h5").exists());
}

/// Extracts the drawings in `folder` with the embedded network.
fn extract(folder: &Path) -> PathBuf {
    cnncodes(folder).args(["extract", "-o", "features/a.h5"]).assert().success();
    folder.join("features/a.h5")
}

fn fit(folder: &Path, features: &str) -> Head {
    let head = format!("models/{}.head.h5", features.replace('/', "-"));
    cnncodes(folder).args(["fit-head", "--logistic", features, "-o", &head]).assert().success();
    Head::load(&folder.join(head)).unwrap()
}

#[test]
fn a_head_on_features_that_were_converted_to_and_fro_is_the_head_of_before() {
    let folder = workspace(8);
    let from = extract(folder.path());
    let before = fit(folder.path(), "features/a.h5");
    for ending in endings() {
        let other = format!("a.{ending}");
        let back = format!("features/{ending}.h5");
        cnncodes(folder.path()).args(["convert", "features/a.h5", &other]).assert().success();
        cnncodes(folder.path()).args(["convert", &other, &back]).assert().success();
        assert_eq!(
            std::fs::read(folder.path().join(&back)).unwrap(),
            std::fs::read(&from).unwrap(),
            "{ending}"
        );
        let after = fit(folder.path(), &back);
        assert_eq!(
            (&after.model, &after.provenance.spec),
            (&before.model, &before.provenance.spec),
            "{ending}"
        );
    }
}

#[test]
fn a_head_on_features_of_another_program_predicts_features_and_says_that_it_cannot_see() {
    let folder = workspace(8);
    let at = folder.path();
    extract(at);
    cnncodes(at).args(["convert", "features/a.h5", "b.csv"]).assert().success();
    // As another program would write it.
    std::fs::remove_file(at.join("b.csv.json")).unwrap();
    let said = cnncodes(at).args(["convert", "b.csv", "features/b.h5"]).assert().success();
    let output = said.get_output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("note: another program computed these features"), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.starts_with("features/b.h5: 32 rows of ") && stdout.ends_with("32 labels of 4 classes\n"),
        "{stdout}"
    );

    let said = cnncodes(at)
        .args(["fit-head", "--logistic", "features/b.h5", "-o", "models/b.head.h5"])
        .assert()
        .success();
    let stdout = String::from_utf8_lossy(&said.get_output().stdout).into_owned();
    assert!(stdout.contains("of another program") || stdout.contains("(another program)"), "{stdout}");
    assert!(
        stdout.contains("it predicts features, not images: cnncodes classify --features FILE"),
        "{stdout}"
    );
    assert!(!stdout.contains("earlier version"), "{stdout}");

    let classify = |arguments: &[&str]| {
        let run = cnncodes(at)
            .arg("classify")
            .args(arguments)
            .args(["--head", "models/b.head.h5"])
            .output()
            .unwrap();
        let (stdout, stderr) = (run.stdout, run.stderr);
        (run.status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    };
    let (status, _, stderr) = classify(&["image.jpg"]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("features come from another program"), "{stderr}");
    assert!(stderr.contains("cnncodes classify --features FILE"), "{stderr}");

    let (status, stdout, _) = classify(&["--features", "features/b.h5", "--format", "csv", "--top", "1"]);
    assert_eq!(status, Some(0));
    let file = FeatureFile::open(&at.join("features/b.h5")).unwrap();
    let head = Head::load(&at.join("models/b.head.h5")).unwrap();
    let predicted = head.model.predict(file.read_layer(None).unwrap().view()).unwrap();
    let expected: Vec<String> = file
        .image_names()
        .iter()
        .zip(predicted)
        .map(|(name, class)| format!("{name},1,{}", head.model.class_names[class]))
        .collect();
    let lines: Vec<&str> = stdout.lines().skip(1).collect();
    assert_eq!(lines.len(), 32);
    lines
        .iter()
        .zip(&expected)
        .for_each(|(line, expected)| assert!(line.starts_with(expected), "{line} {expected}"));

    // It measures features with labels, and refuses those of a network.
    let said =
        cnncodes(at).args(["evaluate", "features/b.h5", "--head", "models/b.head.h5"]).assert().success();
    assert!(
        String::from_utf8_lossy(&said.get_output().stdout).contains("32 of them")
            || said.get_output().status.success()
    );
    let (status, _, stderr) = classify(&["--features", "features/a.h5"]);
    assert_eq!(status, Some(2));
    let expected = "the source of the features is demo-vgg here and another program there";
    assert!(stderr.contains("features/a.h5") && stderr.contains(expected), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_conversion_that_is_interrupted_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, width) = (100_000, 64);
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..rows * width).flat_map(|value| (value as f32 * 0.37).to_le_bytes()));
    std::fs::write(folder.path().join("large.npy"), bytes).unwrap();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("cnncodes"))
        .current_dir(folder.path())
        .args(["convert", "large.npy", "large.csv"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let files = || -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    while files().len() == 1 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: kill has no memory of ours to touch, and the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted: nothing was written"), "{stderr}");
    assert_eq!(files(), ["large.npy"]);
}
