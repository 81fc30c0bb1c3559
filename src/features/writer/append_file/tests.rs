use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::super::super::testing::{append_wide, assert_rows, header, options, skipped, value};
use super::super::super::{
    FeatureFileHeader, PlanPart, SkippedImage, VirtualFile, escape_layer_name, write_virtual,
};
use super::*;

/// So wide that 32 rows of the first layer are a chunk.
const WIDTHS: [usize; 2] = [4096, 5];
const ROWS: usize = 150;

fn wide() -> FeatureFileHeader {
    let mut header = header();
    header.layers[0].shape = vec![WIDTHS[0]];
    header
}

fn file_of(path: &Path, rows: Range<usize>, skipped: &[SkippedImage]) -> FeatureFile {
    let own = FeatureFileHeader { source: "elsewhere".into(), ..wide() };
    let mut writer = FeatureWriter::create(path, &own, options(rows.len())).unwrap();
    append_wide(&mut writer, &WIDTHS, rows, skipped).unwrap();
    writer.finish().unwrap();
    FeatureFile::open(path).unwrap()
}

/// The file that rows from memory give.
fn expected(folder: &Path) -> Vec<u8> {
    let output = folder.join("expected.h5");
    let mut writer = FeatureWriter::create(&output, &wide(), options(ROWS)).unwrap();
    append_wide(&mut writer, &WIDTHS, 0..ROWS, &[skipped(7), skipped(3)]).unwrap();
    writer.finish().unwrap();
    fs::read(output).unwrap()
}

#[test]
fn rows_of_files_become_the_same_bytes_as_rows_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let mut writer = FeatureWriter::create(&output, &wide(), options(ROWS)).unwrap();
    writer.expect_ascending_names();
    // Neither of them ends where a chunk does, and rows from memory share chunks with rows of files.
    for (number, rows) in [0..40, 40..40, 40..47, 90..ROWS].into_iter().enumerate() {
        if rows.start == 90 {
            append_wide(&mut writer, &WIDTHS, 47..90, &[]).unwrap();
        }
        let skipped = match number {
            2 => vec![skipped(7), skipped(3)],
            _ => Vec::new(),
        };
        let part = file_of(&folder.path().join(format!("{number}.h5")), rows, &skipped);
        writer.append_file(&part).unwrap();
    }
    assert_eq!(writer.rows(), ROWS);
    writer.finish().unwrap();
    assert_rows(&FeatureFile::open(&output).unwrap(), ROWS);
    assert!(fs::read(&output).unwrap() == expected(folder.path()), "the bytes differ");
}

#[test]
fn rows_that_are_not_in_the_file_itself_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let parts: Vec<(PathBuf, usize)> = [0..40, 40..ROWS]
        .into_iter()
        .map(|rows| {
            let path = folder.path().join(format!("{}.h5", rows.start));
            file_of(&path, rows.clone(), &[]);
            (path, rows.len())
        })
        .collect();
    let (whole, output) = (folder.path().join("virtual.h5"), folder.path().join("features.h5"));
    let skipped = [skipped(7), skipped(3)];
    let header = wide();
    let file = VirtualFile { header: &header, parts: &parts, skipped: &skipped, passed_over: &[] };
    write_virtual(&whole, &file, &mut |_| ()).unwrap();
    let mut writer = FeatureWriter::create(&output, &wide(), options(ROWS)).unwrap();
    writer.append_file(&FeatureFile::open(&whole).unwrap()).unwrap();
    writer.finish().unwrap();
    assert!(fs::read(&output).unwrap() == expected(folder.path()), "the bytes differ");
}

#[test]
fn a_file_that_does_not_fit_is_refused_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let part = file_of(&folder.path().join("part.h5"), 0..40, &[]);
    let mut other = wide();
    other.class_names.push("Pferd".into());
    let mut writer = FeatureWriter::create(&output, &other, options(ROWS)).unwrap();
    let error = writer.append_file(&part).unwrap_err();
    assert!(
        matches!(&error, FeatureFileError::Incomparable { what: "the class names", other, .. } if other == part.path()),
        "{error}"
    );
    drop(writer);

    let mut writer = FeatureWriter::create(&output, &wide(), options(60)).unwrap();
    writer.append_file(&part).unwrap();
    // The same names once more, and more rows than were announced.
    for (rows, why) in [(30..45, "stored already"), (40..70, "more than the 60 announced rows")] {
        let other = file_of(&folder.path().join("other.h5"), rows, &[]);
        let error = writer.append_file(&other).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        fs::remove_file(folder.path().join("other.h5")).unwrap();
    }
    append_wide(&mut writer, &WIDTHS, 40..60, &[]).unwrap();
    writer.finish().unwrap();
    assert_rows(&FeatureFile::open(&output).unwrap(), 60);
}

#[test]
fn a_part_of_which_a_bit_has_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.h5");
    let mut writer = FeatureWriter::create(&path, &wide(), options(70)).unwrap();
    append_wide(&mut writer, &WIDTHS, 0..33, &[]).unwrap();
    append_wide(&mut writer, &WIDTHS, 33..70, &[]).unwrap();
    writer.mark_as_part(&PlanPart { plan: "1".into(), part: 0 });
    writer.finish().unwrap();
    let whole = fs::read(&path).unwrap();
    let merged = || {
        let output = folder.path().join("features.h5");
        let mut writer = FeatureWriter::create(&output, &wide(), options(ROWS))?;
        let result = writer.append_file(&FeatureFile::open(&path)?);
        assert_eq!(result.is_err(), writer.append(&[], &[]).is_err(), "a writer with wrong rows can be used");
        writer.discard();
        assert!(!output.with_extension("h5.partial").exists());
        result
    };
    merged().unwrap();
    // One bit in the last row of either layer.
    for (layer, name) in ["fire9/concat", "fc7"].into_iter().enumerate() {
        let bytes = value(69, layer, WIDTHS[layer] - 1).to_le_bytes();
        let at = whole.windows(4).rposition(|window| window == bytes).unwrap();
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        let error = merged().unwrap_err().to_string();
        assert!(error.contains("part.h5: /layers/"), "{error}");
        assert!(error.contains(&escape_layer_name(name)) && error.contains("no longer those"), "{error}");
    }
}

#[test]
fn a_file_that_is_cut_short_while_it_is_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let part = file_of(&folder.path().join("part.h5"), 0..40, &[]);
    let plain = fs::OpenOptions::new().write(true).open(part.path()).unwrap();
    plain.set_len(plain.metadata().unwrap().len() / 2).unwrap();
    let output = folder.path().join("features.h5");
    let mut writer = FeatureWriter::create(&output, &wide(), options(ROWS)).unwrap();
    let error = crate::messages::with_causes(&writer.append_file(&part).unwrap_err());
    assert!(error.contains("part.h5"), "{error}");
}
