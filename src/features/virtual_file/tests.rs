use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::super::testing::{append, assert_rows, header, options, skipped};
use super::*;
use crate::features::FeatureWriter;

/// Parts of 5, 0, 4 and 3 rows in a folder of their own.
fn parts(folder: &TempDir) -> Vec<(PathBuf, usize)> {
    let below = folder.path().join("100% parts");
    fs::create_dir(&below).unwrap();
    let mut start = 0;
    let part = |(index, rows): (usize, usize)| {
        let path = below.join(format!("{index:06}.h5"));
        let mut writer = FeatureWriter::create(&path, &header(), options(rows)).unwrap();
        append(&mut writer, start..start + rows, &[]).unwrap();
        writer.finish().unwrap();
        start += rows;
        (path, rows)
    };
    [5, 0, 4, 3].into_iter().enumerate().map(part).collect()
}

fn passed_over() -> Vec<PassedOverGroup> {
    vec![PassedOverGroup { reason: "a video".into(), files: 3, example: "ü.mp4".into() }]
}

fn written(folder: &TempDir, parts: &[(PathBuf, usize)]) -> Result<PathBuf, FeatureFileError> {
    let output = folder.path().join("whole.h5");
    let (skipped, passed_over) = ([skipped(1), skipped(4)], passed_over());
    let header = header();
    let file = VirtualFile { header: &header, parts, skipped: &skipped, passed_over: &passed_over };
    write_virtual(&output, &file, &mut |_| ()).map(|()| output)
}

#[test]
fn a_virtual_file_reads_as_one_file_and_can_be_moved_with_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(&folder);
    let output = written(&folder, &parts).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("moved");
    for path in [output, moved.join("whole.h5")] {
        if !path.exists() {
            fs::rename(folder.path(), &moved).unwrap();
        }
        let file = FeatureFile::open(&path).unwrap();
        assert_rows(&file, 12);
        assert_eq!(*file.header(), header());
        assert_eq!(file.errors(), [skipped(1), skipped(4)]);
        assert_eq!(file.passed_over(), passed_over());
        let mut rows = vec![0.0; 6 * 5];
        file.read_rows(Some("fc7"), 3..9, &mut rows).unwrap();
        assert_eq!(rows, file.read_layer(Some("fc7")).unwrap().as_slice().unwrap()[3 * 5..9 * 5]);
        assert_eq!(file.position_of_features(None).unwrap(), None);
        assert_eq!(file.first_non_finite(None).unwrap(), None);
    }
    // Beside the parts nothing is left.
    let left: Vec<_> = fs::read_dir(&moved).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn h5py_reads_a_virtual_file_as_if_it_were_one_file() {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!(
            "SKIPPED: h5py_reads_a_virtual_file_as_if_it_were_one_file: CNNCODES_PYTHON names no Python with h5py"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(&folder);
    let output = written(&folder, &parts).unwrap();
    let whole = folder.path().join("copied.h5");
    let mut writer = FeatureWriter::create(&whole, &header(), options(12)).unwrap();
    append(&mut writer, 0..12, &[skipped(1), skipped(4)]).unwrap();
    writer.pass_over(&passed_over()).unwrap();
    writer.finish().unwrap();
    let program = r#"
import sys, h5py, numpy
with h5py.File(sys.argv[1]) as virtual, h5py.File(sys.argv[2]) as whole:
    seen = []
    def same(name, other):
        seen.append(name)
        mine = virtual[name]
        assert dict(mine.attrs).keys() == dict(other.attrs).keys(), name
        for key in other.attrs:
            assert numpy.array_equal(mine.attrs[key], other.attrs[key]), (name, key)
        if isinstance(other, h5py.Dataset):
            assert mine.dtype == other.dtype and mine.shape == other.shape, name
            assert numpy.array_equal(mine[()], other[()]), name
    whole.visititems(same)
    same("/", whole["/"])
    same("features", whole["features"])
    assert virtual["features"].is_virtual and virtual["features"][-1, 0] == whole["features"][-1, 0] != 0
    assert [source.file_name for source in virtual["features"].virtual_sources()] == [f"100%% parts/{index:06}.h5" for index in (0, 2, 3)]
    assert len(seen) >= 14, seen
"#;
    let run = Command::new(python).args(["-c", program]).args([&output, &whole]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_part_that_is_missing_or_another_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = parts(&folder);
    let output = written(&folder, &parts).unwrap();
    let message = |error: FeatureFileError| error.to_string();
    let third = parts[2].0.clone();
    let kept = fs::read(&third).unwrap();
    fs::remove_file(&third).unwrap();
    let error = message(FeatureFile::open(&output).err().unwrap());
    assert!(error.contains("000002.h5 cannot be used (it holds the rows 5 to 8)"), "{error}");
    fs::copy(&parts[3].0, &third).unwrap();
    let error = message(FeatureFile::open(&output).err().unwrap());
    assert!(error.contains("000002.h5 cannot be used"), "{error}");
    fs::write(&third, &kept[..kept.len() / 2]).unwrap();
    let error = message(written(&folder, &parts).unwrap_err());
    assert!(error.contains("000002.h5 cannot be used (it cannot be read)"), "{error}");
    fs::write(&third, &kept).unwrap();
    parts[3].1 = 4;
    let error = message(written(&folder, &parts).unwrap_err());
    assert!(error.contains("000003.h5 cannot be used (it has 3 rows and not 4)"), "{error}");
    parts[3] = parts[0].clone();
    let error = message(written(&folder, &parts).unwrap_err());
    assert!(error.contains("occurs twice, the second time in"), "{error}");
    // The file that was there is the one that was.
    assert_rows(&FeatureFile::open(&output).unwrap(), 12);
    let other = tempfile::tempdir().unwrap();
    let error = message(written(&other, &parts[..1]).unwrap_err());
    assert!(error.contains("does not lie in the folder of the virtual file"), "{error}");
}
