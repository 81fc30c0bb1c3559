use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::feature_spec::FeatureSpec;
use crate::features::testing::{append_wide, header, name, options, skipped};
use crate::features::{
    FeatureFile, FeatureFileError, FeatureFileHeader, FeatureRow, FeatureWriter, PassedOverGroup,
};

const WIDTH: usize = 5;

/// The endings of all formats but the features file's own.
fn others() -> Vec<&'static str> {
    let mut endings = vec!["npz", "npy", "csv", "safetensors"];
    if cfg!(feature = "parquet") {
        endings.extend(["parquet", "arrow"]);
    }
    endings
}

/// Values that are easily lost: signs of zeros, subnormals, the largest, one that decimal numbers need nine digits for.
fn value(row: usize, column: usize) -> f32 {
    const HARD: [u32; 8] = [0, 1 << 31, 1, 0x8000_0001, 0x007f_ffff, 0x7f7f_ffff, 0xff7f_ffff, 0x3f80_0001];
    match HARD.get((row * 3 + column) % 11) {
        Some(&bits) => f32::from_bits(bits),
        None => (row as f32 - 2.5) * 0.1 + column as f32 * 1e-3,
    }
}

/// A features file of one layer whose rows have awkward names, and some of which have no class and no hash.
fn example(path: &Path, rows: usize) -> Vec<String> {
    let full = header();
    let header = FeatureFileHeader { layers: vec![full.layers[1].clone()], ..full };
    let mut writer = FeatureWriter::create(path, &header, options(rows)).unwrap();
    let awkward = [
        "Käuzchen/„梟“.jpg",
        "a,b;c\td.jpg",
        "say \"x\".jpg",
        " spaces .jpg",
        "two\nlines.jpg",
        "'q'.jpg",
        "007",
    ];
    let names: Vec<String> =
        (0..rows).map(|row| awkward.get(row).map_or_else(|| name(row), |name| name.to_string())).collect();
    for (row, name) in names.iter().enumerate() {
        let features: Vec<f32> = (0..WIDTH).map(|column| value(row, column)).collect();
        let row = FeatureRow {
            name,
            label: (row % 3) as i64 - 1,
            sha256: &format!("{:064x}", row * 31 + 1),
            perceptual_hash: (row % 2 == 0).then_some([row as u8 + 1; 32]),
            features: &[&features],
        };
        writer.append(&[row], &[]).unwrap();
    }
    writer.append(&[], &[skipped(0), skipped(1)]).unwrap();
    writer.pass_over(&[PassedOverGroup { reason: "hidden".into(), files: 3, example: ".x".into() }]).unwrap();
    writer.finish().unwrap();
    names
}

fn quietly(from: &Path, to: &Path, settings: &ConvertSettings) -> Result<Converted, ConvertError> {
    convert(from, to, settings, &mut |_, _| ())
}

fn converted(from: &Path, to: &Path) -> Converted {
    quietly(from, to, &ConvertSettings::default()).unwrap()
}

fn bits(file: &FeatureFile) -> Vec<u32> {
    file.read_layer(None).unwrap().iter().map(|value| value.to_bits()).collect()
}

fn assert_equal(a: &FeatureFile, b: &FeatureFile) {
    assert_eq!(a.header(), b.header());
    assert_eq!((a.image_names(), a.labels(), a.sha256()), (b.image_names(), b.labels(), b.sha256()));
    let hashes =
        |file: &FeatureFile| (0..file.rows()).map(|row| file.perceptual_hash(row)).collect::<Vec<_>>();
    assert_eq!(hashes(a), hashes(b));
    assert_eq!((a.errors(), a.passed_over()), (b.errors(), b.passed_over()));
    assert_eq!(bits(a), bits(b));
}

#[test]
fn every_format_gives_the_features_file_back_to_the_byte_of_every_value() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first.h5");
    let names = example(&first, 40);
    let original = FeatureFile::open(&first).unwrap();
    assert_eq!(original.image_names(), names);
    let expected: Vec<u32> = (0..40 * WIDTH).map(|at| value(at / WIDTH, at % WIDTH).to_bits()).collect();
    assert_eq!(bits(&original), expected);
    for ending in others() {
        let (other, back) =
            (folder.path().join(format!("x.{ending}")), folder.path().join(format!("{ending}.h5")));
        let there = converted(&first, &other);
        assert_eq!((there.rows, there.width, there.labelled, there.classes), (40, 5, 26, 2), "{ending}");
        assert_eq!(there.notes, [""; 0], "{ending}");
        assert_eq!(converted(&other, &back).notes, [""; 0], "{ending}");
        assert_equal(&FeatureFile::open(&back).unwrap(), &original);
        assert_eq!(fs::read(&back).unwrap(), fs::read(&first).unwrap(), "{ending}: the same bytes");
    }
    // From each to each, so that none relies on what the features file alone can hold.
    let mut from = folder.path().join("x.npz");
    for ending in others() {
        let to = folder.path().join(format!("chain.{ending}"));
        converted(&from, &to);
        from = to;
    }
    let back = folder.path().join("chain.h5");
    converted(&from, &back);
    assert_eq!(fs::read(&back).unwrap(), fs::read(&first).unwrap());
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial") || name.contains("lock") || name.contains("journal"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_layer_of_several_is_chosen_and_the_others_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("two.h5");
    let mut writer = FeatureWriter::create(&from, &header(), options(4)).unwrap();
    append_wide(&mut writer, &[18, 5], 0..4, &[]).unwrap();
    writer.finish().unwrap();
    let (first, second) = (folder.path().join("first.npy"), folder.path().join("second.npz"));
    let notes = converted(&from, &first).notes;
    assert_eq!(notes, ["only the layer fire9/concat is converted; --layer names another one (fc7)"]);
    let settings = ConvertSettings { layer: Some("fc7".into()), ..ConvertSettings::default() };
    assert_eq!(quietly(&from, &second, &settings).unwrap().notes, [""; 0]);
    let back = folder.path().join("back.h5");
    converted(&first, &back);
    let (file, original) = (FeatureFile::open(&back).unwrap(), FeatureFile::open(&from).unwrap());
    assert_eq!(file.layers(), &original.layers()[..1]);
    assert_eq!(file.layers()[0].shape, [2, 3, 3]);
    assert_eq!(file.read_layer(None).unwrap(), original.read_layer(None).unwrap());
}

#[test]
fn what_is_there_already_is_replaced_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.h5"), folder.path().join("b.npy"));
    example(&from, 3);
    for there in ["b.npy", "b.npy.csv", "b.npy.json"] {
        fs::write(folder.path().join(there), "kept").unwrap();
        let error = quietly(&from, &to, &ConvertSettings::default()).unwrap_err().to_string();
        assert!(error.contains(there) && error.contains("--force"), "{error}");
        assert_eq!(fs::read(folder.path().join(there)).unwrap(), b"kept");
        fs::remove_file(folder.path().join(there)).unwrap();
    }
    // What cannot be read leaves everything as it is, whatever was allowed.
    fs::write(&to, "kept").unwrap();
    let settings = ConvertSettings { overwrite: true, ..ConvertSettings::default() };
    fs::write(folder.path().join("bad.csv"), "name,a\nx,1\ny,NaN\n").unwrap();
    quietly(&folder.path().join("bad.csv"), &to, &settings).unwrap_err();
    assert_eq!(fs::read(&to).unwrap(), b"kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    assert_eq!(
        quietly(&from, &to, &settings).unwrap().files,
        [to.clone(), folder.path().join("b.npy.json"), folder.path().join("b.npy.csv")]
    );
}

/// Every prefix of a file of this program is an error that names the file.
#[test]
fn a_truncated_file_of_any_format_is_refused_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("a.h5");
    example(&from, 12);
    for ending in others() {
        let (whole, cut) =
            (folder.path().join(format!("a.{ending}")), folder.path().join(format!("cut.{ending}")));
        converted(&from, &whole);
        let bytes = fs::read(&whole).unwrap();
        for beside in [".csv", ".json"] {
            let _ = fs::copy(super::csv::beside(&whole, beside), super::csv::beside(&cut, beside));
        }
        let step = (bytes.len() / 300).max(1);
        for length in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            fs::write(&cut, &bytes[..length]).unwrap();
            let to = folder.path().join("out.h5");
            let settings = ConvertSettings { overwrite: true, ..ConvertSettings::default() };
            match quietly(&cut, &to, &settings) {
                Ok(_) => panic!("{ending}: {length} of {} bytes are a table", bytes.len()),
                Err(error) => assert!(error.to_string().contains("cut."), "{ending} {length}: {error}"),
            }
        }
    }
}

/// Changed bytes are an error or other values, never a panic or an endless loop.
#[test]
fn damaged_bytes_of_any_format_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("a.h5");
    example(&from, 12);
    for ending in others() {
        let (whole, bad) =
            (folder.path().join(format!("a.{ending}")), folder.path().join(format!("bad.{ending}")));
        converted(&from, &whole);
        let bytes = fs::read(&whole).unwrap();
        let step = (bytes.len() / 200).max(1);
        for at in (0..bytes.len()).step_by(step) {
            for flip in [0xFF, 0x80, 0x01] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                fs::write(&bad, damaged).unwrap();
                let settings = ConvertSettings { overwrite: true, ..ConvertSettings::default() };
                let _ = quietly(&bad, &folder.path().join("out.npz"), &settings);
            }
        }
    }
}

fn error_of(file: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join(file);
    fs::write(&from, bytes).unwrap();
    let to = folder.path().join("out.h5");
    let error = quietly(&from, &to, &ConvertSettings::default()).unwrap_err();
    assert!(!to.exists() && fs::read_dir(folder.path()).unwrap().count() == 1);
    crate::messages::with_causes(&error).replace(&folder.path().display().to_string(), "")
}

#[test]
fn text_among_numbers_is_named_by_its_line_and_column() {
    let error = error_of("x.csv", b"name,a,b\nx,1,2\n\"y\nz\",3,much\n");
    assert_eq!(error, "/x.csv: line 3 has \"much\" in the column b, where the first row has a number");
    let error = error_of("x.csv", b"name,a\nx,1\ny,\n");
    assert_eq!(error, "/x.csv: line 3 has nothing in the column a, where the first row has a number");
    let error = error_of("x.csv", b"name,a\nx,1\ny,2,3\n");
    assert!(error.contains("line 3 has 3 fields, but the first line has 2"), "{error}");
    assert!(
        error_of("x.csv", b"name,a\nx,word\n")
            .contains("has no columns of numbers that could be features; it has name, a")
    );
    assert!(error_of("x.csv", b"").contains("it is empty"));
    assert!(error_of("x.csv", b"name,a\nx,1\n\xff,2\n").contains("line 3 is not UTF-8"));
}

#[test]
fn a_feature_that_is_no_finite_number_is_named_by_its_row() {
    let error = error_of("x.csv", b"name,a,b\nx,1,2\ny,3,NaN\n");
    assert_eq!(
        error,
        "/x.csv: row 1 (y) holds NaN in column 1; remove the row, or compute its features again"
    );
    assert!(error_of("x.csv", b"name,a\nx,1\ny,1e99\n").contains("row 1 (y) holds inf"));
}

#[test]
fn names_that_occur_twice_are_named_with_their_rows() {
    let error = error_of("x.csv", b"name,a\nx,1\ny,2\nx,3\n");
    assert!(error.starts_with("/x.csv: rows 0 and 2 are both named \"x\""), "{error}");
    assert!(error_of("x.csv", b"name,a\nx,1\n,2\n").contains("row 1 has no name"));
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values);
    bytes
}

#[test]
fn arrays_that_are_no_features_are_refused_before_anything_is_allocated() {
    let pickle = error_of("x.npy", &npy("|O", "(2,)", b"\x80\x04cos\nsystem\n."));
    assert!(pickle.contains("pickle") && pickle.contains("never opened"), "{pickle}");
    let huge = error_of("x.npy", &npy("<f4", "(99999999999, 512)", &[0; 64]));
    assert!(huge.contains("99999999999 x 512") && huge.contains("holds less"), "{huge}");
    let overflowing =
        error_of("x.npy", &npy("<f4", "(18446744073709551615, 18446744073709551615)", &[0; 64]));
    assert!(overflowing.contains("x.npy"), "{overflowing}");
    for (descr, shape) in
        [("<f4", "(4,)"), ("<U4", "(2, 2)"), ("<f4", "()"), ("|b1", "(2, 2)"), ("<f4", "(2, 0)")]
    {
        let error = error_of("x.npy", &npy(descr, shape, &[0; 64]));
        assert!(error.contains("rows x values"), "{shape}: {error}");
    }
    assert!(error_of("x.npy", &npy("<f4", "(0, 3)", &[])).contains("no rows"));
    assert!(error_of("x.npy", b"PK\x03\x04 no array").contains("not a NumPy array"));

    let zipped = |shape: &str| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("features.npy", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &npy("<f4", shape, &[0; 64])).unwrap();
        zip.finish().unwrap().into_inner()
    };
    let huge = error_of("x.npz", &zipped("(99999999999, 512)"));
    assert!(huge.contains("99999999999 rows, more than the file can hold"), "{huge}");
    let short = error_of("x.npz", &zipped("(17, 1)"));
    assert!(short.contains("it ends after some 0 of 17 rows"), "{short}");
}

#[test]
fn offsets_that_lie_and_headers_that_are_none_are_refused() {
    let file = |json: &str, data: usize| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    for (json, data) in [
        (r#"{"features":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#, 8),
        (r#"{"features":{"dtype":"F32","shape":[2,2],"data_offsets":[0,8]}}"#, 8),
        (r#"{"features":{"dtype":"F32","shape":[2,2],"data_offsets":[16,0]}}"#, 16),
        (r#"{"features":{"dtype":"F32","shape":[2,2],"data_offsets":[4,20]}}"#, 20),
        (r#"{"features":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0),
        (r#"{"features":"#, 0),
    ] {
        let error = error_of("x.safetensors", &file(json, data));
        assert!(error.contains("x.safetensors is damaged"), "{json}: {error}");
    }
    let mut lying = file("{}", 0);
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(error_of("x.safetensors", &lying).contains("not a whole safetensors file"));
    let bfloat = file(r#"{"features":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}"#, 8);
    assert!(error_of("x.safetensors", &bfloat).contains("BF16, which is not read; save it as float32"));
    let none = file(r#"{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8);
    assert!(error_of("x.safetensors", &none).ends_with("it has bias"));
}

#[test]
fn endings_and_folders_that_say_nothing_are_refused_with_those_that_do() {
    let folder = tempfile::tempdir().unwrap();
    let error =
        quietly(&folder.path().join("x.pt"), &folder.path().join("y.h5"), &ConvertSettings::default());
    assert!(error.unwrap_err().to_string().contains(".parquet, .arrow, .csv"));
    let error = quietly(folder.path(), &folder.path().join("y.h5"), &ConvertSettings::default());
    assert!(error.unwrap_err().to_string().contains("img_emb/*.npy"));
    let error =
        quietly(&folder.path().join("none.npy"), &folder.path().join("y.h5"), &ConvertSettings::default());
    assert!(matches!(error.unwrap_err(), ConvertError::Read { .. }));
    let error =
        quietly(&folder.path().join("none.h5"), &folder.path().join("y.npz"), &ConvertSettings::default());
    assert!(matches!(error.unwrap_err(), ConvertError::Features(FeatureFileError::Open { .. })));
}

/// The values 0, 1, 2 … of a foreign file, as they were read.
fn foreign(from: &Path, settings: &ConvertSettings) -> (FeatureFile, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.h5");
    let notes = quietly(from, &to, settings).unwrap().notes;
    (FeatureFile::open(&to).unwrap(), notes)
}

#[test]
fn thingsvisions_array_takes_its_names_from_the_list_and_labels_from_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<u8> = (0..12_u32).flat_map(|value| f64::from(value).to_le_bytes()).collect();
    fs::write(folder.path().join("features.npy"), npy("<f8", "(4, 3)", &values)).unwrap();
    let list = "./data/dogs/1.jpg\n./data/dogs/2.jpg\n./data/cats/1.jpg\n./data/cats/ü.jpg\n";
    fs::write(folder.path().join("file_names.txt"), list).unwrap();
    for from in [folder.path().to_owned(), folder.path().join("features.npy")] {
        let (file, notes) = foreign(&from, &ConvertSettings::default());
        assert_eq!(file.image_names(), list.lines().collect::<Vec<_>>());
        assert_eq!(
            (file.labels(), file.class_names().join(" ")),
            (&[1, 1, 0, 0][..], "cats dogs".to_owned())
        );
        assert_eq!(
            file.read_layer(None).unwrap().into_raw_vec_and_offset().0,
            (0..12).map(|n| n as f32).collect::<Vec<_>>()
        );
        assert!(file.header().spec().is_foreign());
        assert!(notes.iter().any(|note| note.contains("float64")), "{notes:?}");
        assert!(notes.iter().any(|note| note.contains("file_names.txt")), "{notes:?}");
        // Without images, rows of equal features are duplicates of one another.
        assert!((1..4).all(|row| file.sha256()[row] != file.sha256()[0]));
    }
    fs::write(folder.path().join("labels.csv"), "path,label\n./data/dogs/1.jpg,x\nother,y\n").unwrap();
    let labels =
        ConvertSettings { labels: Some(folder.path().join("labels.csv")), ..ConvertSettings::default() };
    let (file, notes) = foreign(folder.path(), &labels);
    assert_eq!((file.labels(), file.class_names().join(" ")), (&[0, -1, -1, -1][..], "x".to_owned()));
    assert!(notes.iter().any(|note| note.contains("1 path of ")), "{notes:?}");
    let none = ConvertSettings { no_labels: true, ..ConvertSettings::default() };
    assert_eq!(foreign(folder.path(), &none).0.labels(), [-1; 4]);
    fs::write(folder.path().join("file_names.txt"), "a\nb\n").unwrap();
    let error =
        quietly(folder.path(), &folder.path().join("out.h5"), &ConvertSettings::default()).unwrap_err();
    assert!(error.to_string().contains("file_names.txt has 2 names, but "), "{error}");
    fs::write(folder.path().join("list"), "p\nq\nr\ns").unwrap();
    let named = ConvertSettings { names: Some(folder.path().join("list")), ..ConvertSettings::default() };
    assert_eq!(foreign(folder.path(), &named).0.image_names(), ["p", "q", "r", "s"]);
}

#[test]
fn columns_and_layers_are_refused_where_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("a.h5");
    example(&from, 3);
    let array = folder.path().join("x.npy");
    fs::write(&array, npy("<f4", "(2, 1)", &[0; 8])).unwrap();
    let mut settings = ConvertSettings::default();
    settings.columns.label = Some("species".into());
    for (from, expected) in [
        (&from, "a.h5: --label-column does not apply: a features file"),
        (&array, "x.npy: --label-column does not apply: an array has no named columns; --names FILE"),
    ] {
        let error = quietly(from, &folder.path().join("out.npz"), &settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let layer = ConvertSettings { layer: Some("fc7".into()), ..ConvertSettings::default() };
    let error = quietly(&array, &folder.path().join("out.npz"), &layer).unwrap_err().to_string();
    assert!(error.contains("--layer is for features files"), "{error}");
}

#[test]
fn a_file_of_this_program_that_lost_its_description_counts_as_another_programs() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("a.h5");
    let names = example(&from, 9);
    let csv = folder.path().join("x.csv");
    converted(&from, &csv);
    fs::remove_file(folder.path().join("x.csv.json")).unwrap();
    let (file, notes) = foreign(&csv, &ConvertSettings::default());
    let original = FeatureFile::open(&from).unwrap();
    assert_eq!((file.image_names(), file.labels()), (&names[..], original.labels()));
    assert_eq!(file.class_names(), original.class_names());
    assert_eq!(bits(&file), bits(&original));
    assert_eq!(file.header().spec(), &FeatureSpec::foreign());
    assert!(
        notes[0].starts_with("features: 5 columns, feature_0 to feature_4; names: name; labels: class"),
        "{notes:?}"
    );
    assert_eq!(
        notes.last().unwrap(),
        "another program computed these features: a head on them predicts features, not images"
    );
}

#[test]
fn rows_that_a_table_lost_are_missed_by_its_description() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("a.h5");
    example(&from, 9);
    let csv = folder.path().join("x.csv");
    converted(&from, &csv);
    let text = fs::read_to_string(&csv).unwrap();
    let shorter = text.trim_end().rsplit_once('\n').unwrap().0;
    fs::write(&csv, format!("{shorter}\n")).unwrap();
    let error = quietly(&csv, &folder.path().join("b.h5"), &ConvertSettings::default()).unwrap_err();
    assert!(error.to_string().contains("it has 8 rows") && error.to_string().contains("says 9"), "{error}");
}

#[test]
fn equal_rows_of_another_program_get_equal_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let from: PathBuf = folder.path().join("x.csv");
    fs::write(&from, "name,label,a,b\nx,0,1,2\ny,1,1,2\nz,1,2,1\n").unwrap();
    let (file, _) = foreign(&from, &ConvertSettings::default());
    assert_eq!(file.sha256()[0], file.sha256()[1]);
    assert_ne!(file.sha256()[0], file.sha256()[2]);
    assert_eq!(file.class_names(), ["0", "1"]);
}
