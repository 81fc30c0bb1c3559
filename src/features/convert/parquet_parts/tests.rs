use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::features::testing::{
    append, assert_rows, hash, header, label, name, options, sha256, skipped, value,
};
use crate::features::{
    ConvertSettings, FeatureFile, FeatureFileHeader, FeatureWriter, PassedOverGroup, convert,
};

const ROWS: [usize; 3] = [700, 1, 350];
const WIDTH: usize = 5;

/// A features file of the rows from `start` on, with two layers.
fn hdf5(folder: &Path, file: &str, header: &FeatureFileHeader, start: usize, rows: usize) -> PathBuf {
    let path = folder.join(file);
    let mut writer = FeatureWriter::create(&path, header, options(rows)).unwrap();
    append(&mut writer, start..start + rows, &[skipped(2)]).unwrap();
    let group = PassedOverGroup { reason: "a video".into(), files: 3, example: "ü.mp4".into() };
    writer.pass_over(&[group]).unwrap();
    writer.finish().unwrap();
    path
}

/// The layer fc7 as parts in a folder, and the rows.
fn parts(folder: &TempDir) -> (PathBuf, usize) {
    let whole = folder.path().join("parts");
    fs::create_dir(&whole).unwrap();
    let mut start = 0;
    for (index, rows) in ROWS.into_iter().enumerate() {
        let from = hdf5(folder.path(), &format!("{index}.h5"), &header(), start, rows);
        part(&from, &whole.join(format!("part-{index:05}.parquet")));
        start += rows;
    }
    (whole, start)
}

fn part(from: &Path, to: &Path) {
    let settings =
        ConvertSettings { layer: Some("fc7".into()), overwrite: true, ..ConvertSettings::default() };
    convert(from, to, &settings, &mut |_, _| ()).unwrap();
}

#[test]
fn a_folder_of_parts_reads_as_the_features_file_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, rows) = parts(&folder);
    fs::write(whole.join("_SUCCESS"), "").unwrap();
    fs::write(whole.join(".part.parquet"), "not shown").unwrap();
    let file = FeatureFile::open(&whole).unwrap();
    let mut expected = header();
    expected.layers.remove(0);
    assert_eq!(*file.header(), expected);
    assert_eq!(file.rows(), rows);
    // Each part says the same.
    assert_eq!((file.errors(), file.passed_over().len()), (&[skipped(2)][..], 1));
    for row in 0..rows {
        assert_eq!((&file.image_names()[row], &file.sha256()[row]), (&name(row), &sha256(row)));
        assert_eq!((file.labels()[row], file.perceptual_hash(row)), (label(row), hash(row)));
    }
    let right = |start: usize, found: &[f32]| {
        for (at, &found) in found.iter().enumerate() {
            assert_eq!(found, value(start + at / WIDTH, 1, at % WIDTH), "row {}", start + at / WIDTH);
        }
    };
    right(0, file.read_layer(None).unwrap().as_slice().unwrap());
    // On, back, with gaps, across parts, and row by row.
    for (start, end) in [(0, 300), (300, 720), (10, 20), (500, 501), (505, 1051), (699, 702), (0, 0)]
        .into_iter()
        .chain((680..710).map(|row| (row, row + 1)))
    {
        let mut found = vec![-1.0; (end - start) * WIDTH];
        file.read_rows(Some("fc7"), start..end, &mut found).unwrap();
        right(start, &found);
    }
    assert!(file.read_rows(None, 1050..1052, &mut [0.0; 2 * WIDTH]).is_err());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let file = &file;
            scope.spawn(move || {
                let mut found = vec![0.0; 50 * WIDTH];
                for start in (0..1000).skip(thread * 7).step_by(50) {
                    file.read_rows(None, start..start + 50, &mut found).unwrap();
                    right(start, &found);
                }
            });
        }
    });
    assert_eq!((file.position_of_features(None).unwrap(), file.rows_at_once(None).unwrap()), (None, 1));
    // A single file, and a folder on its way back to HDF5.
    assert_eq!(FeatureFile::open(&whole.join("part-00001.parquet")).unwrap().image_names(), [name(700)]);
    let back = folder.path().join("back.h5");
    convert(&whole, &back, &ConvertSettings::default(), &mut |_, _| ()).unwrap();
    let back = FeatureFile::open(&back).unwrap();
    assert_eq!(
        (back.header(), back.read_layer(None).unwrap()),
        (file.header(), file.read_layer(None).unwrap())
    );
    assert_eq!(back.errors(), [skipped(2)]);
}

#[test]
fn parts_that_do_not_belong_together_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, _) = parts(&folder);
    let message = || FeatureFile::open(&whole).err().unwrap().to_string();
    let last = whole.join("part-00002.parquet");
    // Another preprocessing.
    let mut other = header();
    for layer in &mut other.layers {
        layer.spec.model_sha256 = "cd".repeat(32);
    }
    part(&hdf5(folder.path(), "other.h5", &other, 701, 3), &last);
    let said = message();
    assert!(
        said.contains("part-00002.parquet: it differs from") && said.contains("in the network's"),
        "{said}"
    );
    part(&hdf5(folder.path(), "again.h5", &header(), 699, 3), &last);
    let said = message();
    assert!(said.contains("is in") && said.contains("part-00002.parquet as well"), "{said}");
    fs::write(&last, "PAR1").unwrap();
    assert!(message().contains("part-00002.parquet is damaged or cut short"), "{}", message());
    fs::remove_file(&last).unwrap();
    assert_eq!(FeatureFile::open(&whole).unwrap().rows(), 701);
    // A folder without parts is no features file.
    let none = folder.path().join("none");
    fs::create_dir(&none).unwrap();
    assert!(FeatureFile::open(&none).is_err());
    assert_rows(&FeatureFile::open(&folder.path().join("0.h5")).unwrap(), 700);
}
