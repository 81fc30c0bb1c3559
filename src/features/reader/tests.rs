use std::fs;
use std::path::PathBuf;

use hdf5_metno::types::{FixedAscii, VarLenUnicode};
use hdf5_metno::{File, H5Type};
use ndarray17::s;

use super::super::FeatureWriter;
use super::super::testing::*;
use super::*;

const ROWS: usize = 6;

/// A complete file of [`ROWS`] rows.
fn good(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("features.h5");
    let mut writer = FeatureWriter::create(&path, &header(), options(ROWS)).unwrap();
    append(&mut writer, 0..ROWS, &[skipped(0), skipped(1)]).unwrap();
    writer.finish().unwrap();
    path
}

/// What opening says after the file has been changed by `spoil`.
fn error_after(spoil: impl FnOnce(&File)) -> FeatureFileError {
    let folder = tempfile::tempdir().unwrap();
    let path = good(&folder);
    let file = File::open_rw(&path).unwrap();
    spoil(&file);
    file.close().unwrap();
    let error = FeatureFile::open(&path).err().expect("a spoilt file must not open");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    error
}

fn set_number<T: H5Type>(file: &File, name: &str, value: T) {
    file.delete_attr(name).unwrap();
    file.new_attr::<T>().create(name).unwrap().write_scalar(&value).unwrap();
}

fn replace<T: H5Type>(file: &File, name: &str, values: &[T]) {
    file.unlink(name).unwrap();
    file.new_dataset_builder().with_data(values).create(name).unwrap();
}

fn strings(texts: &[&str]) -> Vec<VarLenUnicode> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn files_of_versions_that_did_not_tell_what_was_passed_over_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let mut writer = FeatureWriter::create(&output, &header(), options(2)).unwrap();
    append(&mut writer, 0..2, &[]).unwrap();
    let one = PassedOverGroup { reason: "hidden".into(), files: 1, example: ".x".into() };
    writer.pass_over(std::slice::from_ref(&one)).unwrap();
    writer.finish().unwrap();
    assert_eq!(FeatureFile::open(&output).unwrap().passed_over(), [one]);

    let file = hdf5_metno::File::open_rw(&output).unwrap();
    file.unlink("passed_over").unwrap();
    file.close().unwrap();
    let file = FeatureFile::open(&output).unwrap();
    assert_eq!((file.rows(), file.passed_over()), (2, &[][..]));
}

#[test]
fn rows_and_layers_are_read_by_either_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = FeatureFile::open(&good(&folder)).unwrap();
    assert_rows(&file, ROWS);
    assert_eq!(file.read_layer(None).unwrap(), file.read_layer(Some("fire9/concat")).unwrap());
    assert_eq!(file.read_layer(None).unwrap(), file.read_layer(Some("fire9%2Fconcat")).unwrap());
    assert_eq!(file.layer(Some("fc7")).unwrap().shape, [5]);

    let mut rows = [0.0; 10];
    file.read_rows(Some("fc7"), 3..5, &mut rows).unwrap();
    let expected: Vec<_> = (0..10).map(|i| value(3 + i / 5, 1, i % 5)).collect();
    assert_eq!(rows[..], expected);
    file.read_rows(Some("fc7"), 6..6, &mut []).unwrap();

    let error = file.read_layer(Some("fc6")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} has no layer \"fc6\"; it holds fire9/concat, fc7", file.path().display())
    );
    let backwards = Range { start: 5, end: 3 };
    for (range, size) in [(5..7, 10), (3..5, 9), (3..5, 11), (backwards, 0), (7..7, 0)] {
        let result = file.read_rows(Some("fc7"), range.clone(), &mut vec![0.0; size]);
        assert!(matches!(result, Err(FeatureFileError::BadRange { .. })), "{range:?} into {size}");
    }
}

#[test]
fn files_of_older_programs_have_no_perceptual_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let path = good(&folder);
    let file = File::open_rw(&path).unwrap();
    file.unlink("perceptual_hash").unwrap();
    file.close().unwrap();
    let file = FeatureFile::open(&path).unwrap();
    assert_eq!((0..ROWS).find_map(|row| file.perceptual_hash(row)), None);
    assert_eq!(file.sha256()[0], sha256(0));
}

#[test]
fn a_value_that_is_not_finite_is_named_by_row_and_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = good(&folder);
    assert_eq!(FeatureFile::open(&path).unwrap().first_non_finite(None).unwrap(), None);
    let file = File::open_rw(&path).unwrap();
    let dataset = file.dataset("layers/fc7").unwrap();
    dataset.write_slice(&[f32::INFINITY], s![4, 2..3]).unwrap();
    dataset.write_slice(&[f32::NAN], s![5, 0..1]).unwrap();
    drop((dataset, file));
    let file = FeatureFile::open(&path).unwrap();
    assert_eq!(file.first_non_finite(None).unwrap(), None);
    let expected = NonFinite { row: 4, column: 2, image: name(4), value: f32::INFINITY };
    assert_eq!(file.first_non_finite(Some("fc7")).unwrap(), Some(expected));
}

#[test]
fn a_missing_file_and_a_folder_are_told_from_bad_contents() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.h5"), folder.path().to_owned()] {
        assert!(matches!(FeatureFile::open(&path), Err(FeatureFileError::Open { .. })));
    }
}

#[test]
fn bytes_that_are_not_hdf5_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.h5");
    for bytes in [&b""[..], b"no HDF5 at all", b"\x89HDF\r\n\x1a\n"] {
        fs::write(&path, bytes).unwrap();
        let error = FeatureFile::open(&path).err().unwrap();
        let expected = matches!(error, FeatureFileError::NotHdf5 { .. } | FeatureFileError::Damaged { .. });
        assert!(expected, "{error:?}");
    }
    fs::write(&path, "no HDF5 at all").unwrap();
    assert!(matches!(FeatureFile::open(&path), Err(FeatureFileError::NotHdf5 { .. })));
}

#[test]
fn a_truncated_file_is_refused_as_such_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = good(&folder);
    let bytes = fs::read(&path).unwrap();
    for eighths in 1..8 {
        fs::write(&path, &bytes[..bytes.len() * eighths / 8]).unwrap();
        let error = FeatureFile::open(&path).err().unwrap();
        assert!(matches!(error, FeatureFileError::Truncated { .. }), "{eighths}/8: {error:?}");
    }
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(FeatureFile::open(&path), Err(FeatureFileError::Truncated { .. })));
}

#[test]
fn a_zeroed_group_of_layers_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = good(&folder);
    let mut bytes = fs::read(&path).unwrap();
    // The heap that holds the names of the links of the groups.
    let heaps: Vec<_> = bytes.windows(4).enumerate().filter(|(_, w)| w == b"HEAP").map(|(i, _)| i).collect();
    assert!(!heaps.is_empty());
    heaps.into_iter().for_each(|at| bytes[at..at + 4].fill(0));
    fs::write(&path, &bytes).unwrap();
    let error = FeatureFile::open(&path).err().unwrap();
    assert!(
        matches!(error, FeatureFileError::Damaged { .. } | FeatureFileError::Missing { .. }),
        "{error:?}"
    );
}

#[test]
fn hdf5_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.h5");
    File::create(&path).unwrap().new_dataset_builder().with_data(&[1, 2]).create("x").unwrap();
    assert!(matches!(FeatureFile::open(&path), Err(FeatureFileError::NotFeatures { .. })));
    let error = error_after(|file| {
        file.delete_attr("format").unwrap();
        let attribute = file.new_attr::<VarLenUnicode>().create("format").unwrap();
        attribute.write_scalar(&strings(&["something"])[0]).unwrap();
    });
    assert!(matches!(error, FeatureFileError::NotFeatures { .. }), "{error:?}");
}

#[test]
fn a_newer_format_asks_for_an_update() {
    let error = error_after(|file| set_number(file, "format_version", 2_i64));
    assert!(matches!(error, FeatureFileError::NewerFormat { found: 2, known: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("update cnncodes"), "{error}");
    let error = error_after(|file| set_number(file, "format_version", 0_i64));
    assert!(matches!(error, FeatureFileError::BadValue { .. }), "{error:?}");
}

#[test]
fn an_incomplete_file_tells_how_to_go_on() {
    let error = error_after(|file| set_number(file, "complete", 0_u8));
    assert!(matches!(error, FeatureFileError::Incomplete { .. }), "{error:?}");
    assert!(error.to_string().contains("to resume it"), "{error}");
}

#[test]
fn each_missing_object_is_named() {
    let names =
        ["image_names", "labels", "class_names", "sha256", "errors/name", "errors/reason", "features"];
    for name in names.into_iter().chain(["layers", "layers/fire9%2Fconcat"]) {
        let error = error_after(|file| file.unlink(name).unwrap());
        assert!(matches!(error, FeatureFileError::Missing { .. }), "{name}: {error:?}");
        assert!(name.contains("fire9") || error.to_string().contains(name), "{name}: {error}");
    }
    let names = ["rows", "error_rows", "complete", "model_sha256", "preprocess", "source", "device"];
    for name in names.into_iter().chain(["format_version", "program_version", "model_name", "runtime"]) {
        let error = error_after(|file| file.delete_attr(name).unwrap());
        assert!(matches!(error, FeatureFileError::Missing { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(&format!("the attribute {name}")), "{name}: {error}");
    }
    for name in ["name", "tensor", "shape", "pooling", "index"] {
        let error = error_after(|file| file.dataset("layers/fc7").unwrap().delete_attr(name).unwrap());
        assert!(matches!(error, FeatureFileError::Missing { .. }), "{name}: {error:?}");
    }
}

#[test]
fn each_wrong_type_is_named() {
    type Spoil = fn(&File);
    let spoils: [(&str, Spoil); 9] = [
        ("labels", |f| replace(f, "labels", &[0_i32; ROWS])),
        ("image_names", |f| replace(f, "image_names", &[0_i64; ROWS])),
        ("sha256", |f| replace(f, "sha256", &strings(&["x"; ROWS]))),
        ("perceptual_hash", |f| replace(f, "perceptual_hash", &[0_u8; ROWS])),
        ("class_names", |f| replace(f, "class_names", &[1.0_f32])),
        ("errors/name", |f| replace(f, "errors/name", &[FixedAscii::<4>::new(); 2])),
        ("layers/fc7", |f| replace(f, "layers/fc7", &[0.0_f32; ROWS])),
        ("rows", |f| set_number(f, "rows", 6.0_f64)),
        ("preprocess", |f| set_number(f, "preprocess", 1_i64)),
    ];
    for (name, spoil) in spoils {
        let error = error_after(spoil);
        assert!(matches!(error, FeatureFileError::WrongType { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    let error = error_after(|file| {
        file.unlink("layers/fc7").unwrap();
        file.new_dataset::<f64>().shape((ROWS, 5)).create("layers/fc7").unwrap();
    });
    assert!(error.to_string().contains("float32"), "{error}");
}

#[test]
fn each_wrong_length_is_named() {
    for name in ["image_names", "labels", "sha256", "errors/name", "errors/reason"] {
        let error = error_after(|file| {
            let dataset = file.dataset(name).unwrap();
            dataset.resize(dataset.size() - 1).unwrap();
        });
        assert!(matches!(error, FeatureFileError::WrongLength { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    let error = error_after(|file| file.dataset("perceptual_hash").unwrap().resize((5, 32)).unwrap());
    assert!(matches!(error, FeatureFileError::WrongLength { found: 5, expected: 6, .. }), "{error:?}");
    let error = error_after(|file| file.dataset("layers/fc7").unwrap().resize((7, 5)).unwrap());
    assert!(matches!(error, FeatureFileError::WrongLength { found: 7, expected: 6, .. }), "{error:?}");
    let error = error_after(|file| {
        let dataset = file.dataset("layers/fc7").unwrap();
        dataset.delete_attr("shape").unwrap();
        dataset.new_attr_builder().with_data(&[4_i64]).create("shape").unwrap();
    });
    assert!(matches!(error, FeatureFileError::WrongLength { found: 5, expected: 4, .. }), "{error:?}");
    let error = error_after(|file| set_number(file, "rows", -1_i64));
    assert!(matches!(error, FeatureFileError::BadValue { .. }), "{error:?}");
    let error = error_after(|file| set_number(file, "rows", i64::MAX));
    assert!(matches!(error, FeatureFileError::WrongLength { .. }), "{error:?}");
}

#[test]
fn labels_must_be_classes() {
    for bad in [2, -2] {
        let error = error_after(|file| {
            file.dataset("labels").unwrap().write_slice(&[bad], 3..4).unwrap();
        });
        assert!(
            matches!(error, FeatureFileError::LabelOutOfRange { row: 3, label, classes: 2, .. } if label == bad),
            "{error:?}"
        );
    }
}

#[test]
fn names_must_be_unique() {
    let error = error_after(|file| replace(file, "class_names", &strings(&["a", "a"])));
    assert!(matches!(error, FeatureFileError::DuplicateClass { ref name, .. } if name == "a"), "{error:?}");
    let error = error_after(|file| replace(file, "image_names", &strings(&["a", "b", "c", "b", "e", "f"])));
    assert!(matches!(error, FeatureFileError::DuplicateImage { ref name, .. } if name == "b"), "{error:?}");
}

#[test]
fn values_that_the_format_does_not_allow_are_refused() {
    let error = error_after(|file| replace(file, "sha256", &[FixedAscii::<64>::new(); ROWS]));
    assert!(matches!(error, FeatureFileError::BadValue { .. }), "{error:?}");
    let error = error_after(|file| file.relink("layers/fc7", "layers/fc8").unwrap());
    assert!(matches!(error, FeatureFileError::BadValue { .. }), "{error:?}");
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = good(&folder);
    let mut bytes = fs::read(&path).unwrap();
    let class = bytes.windows(6).position(|window| window == "Köter".as_bytes()).unwrap();
    bytes[class + 1] = 0xff;
    fs::write(&path, bytes).unwrap();
    let error = FeatureFile::open(&path).err().unwrap();
    assert!(matches!(error, FeatureFileError::BadValue { .. }), "{error:?}");
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}
