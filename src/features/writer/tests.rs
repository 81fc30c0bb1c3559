mod crash;

use std::io::Write;

use super::super::testing::*;
use super::super::{FeatureFile, StoredLayer};
use super::*;
use crate::images::{Preprocess, Preset};
use crate::network::{Pooling, Precision};

fn partial(output: &Path) -> PathBuf {
    sibling(output, ".partial")
}

fn listing(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn all_values_come_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("new/folder/features.h5");
    let mut writer = FeatureWriter::create(&output, &header(), options(10)).unwrap();
    append(&mut writer, 0..4, &[skipped(0)]).unwrap();
    append(&mut writer, 4..4, &[]).unwrap();
    append(&mut writer, 4..10, &[skipped(1), skipped(2)]).unwrap();
    assert_eq!(writer.rows(), 10);
    let passed_over =
        [("not an image", 7, "notes ü.txt"), ("hidden", 2, ".x")].map(|(reason, files, example)| {
            PassedOverGroup { reason: reason.into(), files, example: example.into() }
        });
    writer.pass_over(&passed_over).unwrap();
    writer.finish().unwrap();

    let file = FeatureFile::open(&output).unwrap();
    assert_eq!(file.passed_over(), passed_over);
    assert_eq!(*file.header(), header());
    assert_eq!(file.class_names(), ["Katze", "Köter"]);
    assert_eq!(file.errors(), [skipped(0), skipped(1), skipped(2)]);
    assert_rows(&file, 10);
    assert_eq!(listing(output.parent().unwrap()), ["features.h5"]);
}

#[test]
fn fewer_rows_than_expected_are_stored_alike() {
    let folder = tempfile::tempdir().unwrap();
    for (expected, rows) in [(0, 0), (3000, 3000), (5000, 0), (5000, 200)] {
        let output = folder.path().join(format!("{expected}-{rows}.h5"));
        let mut writer = FeatureWriter::create(&output, &header(), options(expected)).unwrap();
        for start in (0..rows).step_by(100) {
            append(&mut writer, start..start + 100, &[]).unwrap();
        }
        let problems: Vec<_> = (0..2500).map(skipped).collect();
        append(&mut writer, rows..rows, &problems).unwrap();
        writer.finish().unwrap();
        let file = FeatureFile::open(&output).unwrap();
        assert_rows(&file, rows);
        assert_eq!(file.errors(), problems);
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    for run in ["a.h5", "b.h5"] {
        let output = folder.path().join(run);
        let mut writer = FeatureWriter::create(&output, &header(), options(300)).unwrap();
        for start in (0..300).step_by(50) {
            append(&mut writer, start..start + 50, &[skipped(start)]).unwrap();
            if run == "b.h5" {
                // How often a run commits depends on its speed; the file must not.
                writer.commit().unwrap();
            }
        }
        writer.finish().unwrap();
        bytes.push(fs::read(&output).unwrap());
    }
    assert!(bytes[0] == bytes[1], "two runs over the same input differ");
}

#[test]
fn chunks_hold_whole_rows_of_about_half_a_mebibyte() {
    let folder = tempfile::tempdir().unwrap();
    let mut header = header();
    header.layers[0].shape = vec![4096];
    header.layers[1].shape = vec![64, 112, 112];
    let output = folder.path().join("features.h5");
    FeatureWriter::create(&output, &header, options(1000)).unwrap().finish().unwrap();
    let file = hdf5_metno::File::open(&output).unwrap();
    let chunk = |layer: &str| file.dataset(&format!("layers/{layer}")).unwrap().chunk().unwrap();
    assert_eq!(chunk("fire9%2Fconcat"), [32, 4096]);
    assert_eq!(chunk("fc7"), [1, 64 * 112 * 112]);
}

#[test]
fn an_existing_output_stays_until_the_new_one_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    fs::write(&output, "old").unwrap();
    let refused = FeatureWriter::create(&output, &header(), options(2)).err().unwrap();
    assert!(matches!(refused, FeatureFileError::Exists { path } if path == output));

    let overwrite = WriteOptions { overwrite: true, expected_rows: 2 };
    let mut writer = FeatureWriter::create(&output, &header(), overwrite).unwrap();
    append(&mut writer, 0..2, &[]).unwrap();
    assert_eq!(fs::read(&output).unwrap(), b"old");
    writer.finish().unwrap();
    assert_rows(&FeatureFile::open(&output).unwrap(), 2);
}

#[test]
fn an_output_that_appears_meanwhile_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let writer = FeatureWriter::create(&output, &header(), options(0)).unwrap();
    fs::write(&output, "somebody else's").unwrap();
    assert!(matches!(writer.finish(), Err(FeatureFileError::Exists { .. })));
    assert_eq!(fs::read(&output).unwrap(), b"somebody else's");
}

#[test]
fn an_output_that_cannot_be_made_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let below_a_file = folder.path().join("file/features.h5");
    let error = FeatureWriter::create(&below_a_file, &header(), options(0)).err().unwrap();
    assert!(error.to_string().contains(&folder.path().join("file").display().to_string()), "{error}");
    let error = FeatureWriter::create(folder.path(), &header(), options(0)).err().unwrap();
    assert!(matches!(error, FeatureFileError::Create { .. }), "{error}");
}

#[test]
fn a_dropped_writer_is_resumed_with_all_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let (mut writer, start) = FeatureWriter::open_or_create(&output, &header(), options(50)).unwrap();
    assert!(matches!(start, WriterStart::New));
    append(&mut writer, 0..20, &[skipped(0)]).unwrap();
    drop(writer);
    assert_eq!(listing(folder.path()), ["features.h5.journal", "features.h5.partial"]);
    assert!(matches!(FeatureFile::open(&partial(&output)), Err(FeatureFileError::Incomplete { .. })));

    let mut other_machine = header();
    other_machine.device = "cuda:0".into();
    let (mut writer, start) = FeatureWriter::open_or_create(&output, &other_machine, options(50)).unwrap();
    let WriterStart::Resumed { done, skipped: problems } = start else { panic!("{start:?}") };
    let expected: Vec<_> = (0..20).map(|row| CommittedRow { name: name(row), sha256: sha256(row) }).collect();
    assert_eq!(done, expected);
    assert_eq!(problems, [skipped(0)]);
    append(&mut writer, 20..50, &[skipped(1)]).unwrap();
    writer.finish().unwrap();
    let file = FeatureFile::open(&output).unwrap();
    assert_rows(&file, 50);
    assert_eq!(file.errors(), [skipped(0), skipped(1)]);
}

#[test]
fn what_an_older_program_began_is_resumed_without_perceptual_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let mut writer = FeatureWriter::create(&output, &header(), options(10)).unwrap();
    append(&mut writer, 0..4, &[]).unwrap();
    drop(writer);
    let file = hdf5_metno::File::open_rw(partial(&output)).unwrap();
    file.unlink(schema::PERCEPTUAL_HASH).unwrap();
    file.close().unwrap();
    let (mut writer, start) = FeatureWriter::open_or_create(&output, &header(), options(10)).unwrap();
    assert!(matches!(start, WriterStart::Resumed { ref done, .. } if done.len() == 4), "{start:?}");
    append(&mut writer, 4..10, &[]).unwrap();
    writer.finish().unwrap();
    let file = FeatureFile::open(&output).unwrap();
    assert_eq!(file.sha256()[9], sha256(9));
    assert_eq!((0..10).find_map(|row| file.perceptual_hash(row)), None);
}

#[test]
fn a_run_with_other_settings_starts_anew_and_says_why() {
    type Change = fn(&mut FeatureFileHeader);
    let changes: [(&str, Change); 5] = [
        ("the network's SHA-256", |h| {
            h.layers.iter_mut().for_each(|l| l.spec.model_sha256 = "cd".repeat(32))
        }),
        ("the preprocessing", |h| {
            let caffe = Preprocess::preset(Preset::KerasCaffe).unwrap();
            h.layers.iter_mut().for_each(|l| l.spec.preprocess = caffe.clone());
        }),
        ("the layers", |h| h.layers[1].spec.pooling = Pooling::None),
        ("the class names", |h| h.class_names.push("Maus".into())),
        ("the source", |h| h.source = "other".into()),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (what, change) in changes {
        let output = folder.path().join("features.h5");
        let mut writer = FeatureWriter::create(&output, &header(), options(5)).unwrap();
        append(&mut writer, 0..5, &[]).unwrap();
        drop(writer);
        let mut changed = header();
        change(&mut changed);
        let (writer, start) = FeatureWriter::open_or_create(&output, &changed, options(5)).unwrap();
        assert!(matches!(start, WriterStart::Anew(NotResumed::Differs(found)) if found == what), "{start:?}");
        assert_eq!(writer.rows(), 0);
    }
}

#[test]
fn a_damaged_partial_file_is_started_anew() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    for damage in [0, 100, 3000] {
        let mut writer = FeatureWriter::create(&output, &header(), options(5)).unwrap();
        append(&mut writer, 0..5, &[]).unwrap();
        drop(writer);
        let length = fs::OpenOptions::new().write(true).open(partial(&output)).unwrap();
        length.set_len(damage).unwrap();
        let (mut writer, start) = FeatureWriter::open_or_create(&output, &header(), options(5)).unwrap();
        assert!(matches!(start, WriterStart::Anew(NotResumed::Damaged(_))), "{start:?}");
        append(&mut writer, 0..5, &[]).unwrap();
        writer.finish().unwrap();
        assert_rows(&FeatureFile::open(&output).unwrap(), 5);
        fs::remove_file(&output).unwrap();
    }
}

#[test]
fn a_partial_file_without_what_rows_need_is_started_anew() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    for object in ["image_names", "labels", "errors/name"] {
        let mut writer = FeatureWriter::create(&output, &header(), options(5)).unwrap();
        append(&mut writer, 0..5, &[]).unwrap();
        drop(writer);
        let file = hdf5_metno::File::open_rw(partial(&output)).unwrap();
        file.unlink(object).unwrap();
        file.close().unwrap();
        let (mut writer, start) = FeatureWriter::open_or_create(&output, &header(), options(5)).unwrap();
        assert!(matches!(start, WriterStart::Anew(NotResumed::Damaged(_))), "{object}: {start:?}");
        append(&mut writer, 0..5, &[]).unwrap();
        writer.finish().unwrap();
        assert_rows(&FeatureFile::open(&output).unwrap(), 5);
        fs::remove_file(&output).unwrap();
    }
}

/// Leaves a partial file of `rows` rows as a kill just before its renaming does.
fn kill_before_renaming(output: &Path, rows: usize) {
    let mut writer = FeatureWriter::create(output, &header(), options(100)).unwrap();
    append(&mut writer, 0..rows, &[skipped(0)]).unwrap();
    writer.commit().unwrap();
    let journal = fs::read(sibling(output, JOURNAL)).unwrap();
    writer.finish().unwrap();
    fs::rename(output, partial(output)).unwrap();
    fs::write(sibling(output, JOURNAL), journal).unwrap();
}

/// Continues that file up to row 30 and checks it.
fn assert_continued(output: &Path, rows: usize) {
    let (mut writer, start) = FeatureWriter::open_or_create(output, &header(), options(100)).unwrap();
    assert!(matches!(start, WriterStart::Resumed { ref done, .. } if done.len() == rows), "{start:?}");
    append(&mut writer, rows..30, &[skipped(1)]).unwrap();
    drop(writer);
    assert!(matches!(FeatureFile::open(&partial(output)), Err(FeatureFileError::Incomplete { .. })));
    FeatureWriter::open_or_create(output, &header(), options(0)).unwrap().0.finish().unwrap();
    let file = FeatureFile::open(output).unwrap();
    assert_rows(&file, 30);
    assert_eq!(file.errors(), [skipped(0), skipped(1)]);
}

#[test]
fn a_file_killed_before_its_renaming_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    kill_before_renaming(&output, 7);
    assert_continued(&output, 7);
}

#[test]
fn names_that_a_killed_run_did_not_bring_to_the_disk_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    kill_before_renaming(&output, 5);
    // What a kill leaves when the references are on the disk and the strings are not.
    let file = hdf5_metno::File::open(partial(&output)).unwrap();
    let addresses = ["image_names", "errors/name", "errors/reason"]
        .map(|name| file.dataset(name).unwrap().chunk_info(0).unwrap().addr);
    drop(file);
    let raw = fs::OpenOptions::new().write(true).open(partial(&output)).unwrap();
    for address in addresses {
        let mut reference = Vec::from(9_u32.to_le_bytes());
        reference.extend(0x7fff_0000_u64.to_le_bytes());
        reference.extend(1_u32.to_le_bytes());
        std::os::unix::fs::FileExt::write_all_at(&raw, &reference.repeat(20), address).unwrap();
    }
    assert_continued(&output, 5);
}

#[test]
fn a_resumed_run_may_expect_more_rows() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let mut writer = FeatureWriter::create(&output, &header(), options(10)).unwrap();
    append(&mut writer, 0..10, &[]).unwrap();
    let error = append(&mut writer, 10..12, &[]).unwrap_err();
    assert!(error.to_string().contains("more than the 10 announced rows"), "{error}");
    drop(writer);
    let (mut writer, _) = FeatureWriter::open_or_create(&output, &header(), options(5000)).unwrap();
    assert_eq!(listing(folder.path()), ["features.h5.journal", "features.h5.lock", "features.h5.partial"]);
    append(&mut writer, 10..5000, &[]).unwrap();
    drop(writer);
    let (writer, _) = FeatureWriter::open_or_create(&output, &header(), options(0)).unwrap();
    writer.finish().unwrap();
    assert_rows(&FeatureFile::open(&output).unwrap(), 5000);
}

#[test]
fn a_journal_of_more_rows_than_the_file_has_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    drop(FeatureWriter::create(&output, &header(), options(1)).unwrap());
    let mut journal = fs::OpenOptions::new().append(true).open(sibling(&output, JOURNAL)).unwrap();
    journal.write_all(b"{\"image\":\"a\"}\n{\"image\":\"b\"}\n").unwrap();
    journal.write_all(b"{\"commit\":{\"rows\":2,\"skipped\":0}}\n").unwrap();
    let (_, start) = FeatureWriter::open_or_create(&output, &header(), options(1)).unwrap();
    let WriterStart::Anew(NotResumed::Damaged(error)) = start else { panic!("{start:?}") };
    assert!(matches!(*error, FeatureFileError::WrongLength { found: 1, expected: 2, .. }), "{error:?}");
}

#[test]
fn a_partial_file_without_its_journal_is_started_anew() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    drop(FeatureWriter::create(&output, &header(), options(5)).unwrap());
    fs::remove_file(sibling(&output, JOURNAL)).unwrap();
    let (_, start) = FeatureWriter::open_or_create(&output, &header(), options(5)).unwrap();
    assert!(matches!(start, WriterStart::Anew(NotResumed::Damaged(_))), "{start:?}");
}

#[test]
fn two_writers_of_one_output_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let mut first = FeatureWriter::create(&output, &header(), options(1)).unwrap();
    append(&mut first, 0..1, &[]).unwrap();
    for attempt in [
        FeatureWriter::create(&output, &header(), options(1)).err(),
        FeatureWriter::open_or_create(&output, &header(), options(1)).err(),
    ] {
        assert!(matches!(attempt, Some(FeatureFileError::Locked { path }) if path == output));
    }
    first.finish().unwrap();
    assert_rows(&FeatureFile::open(&output).unwrap(), 1);
    let overwrite = WriteOptions { overwrite: true, expected_rows: 1 };
    assert!(FeatureWriter::create(&output, &header(), overwrite).is_ok());
}

#[test]
fn rows_that_do_not_fit_are_refused_and_leave_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let mut writer = FeatureWriter::create(&output, &header(), options(3)).unwrap();
    append(&mut writer, 0..1, &[]).unwrap();
    let (a, b) = ([0.0; 18], [0.0; 5]);
    let good = sha256(9);
    let fit: &[&[f32]] = &[&a, &b];
    let first = FeatureRow { name: "x.jpg", label: 0, sha256: &good, perceptual_hash: None, features: fit };
    for (bad, why) in [
        (FeatureRow { label: 2, ..first }, "its label is 2"),
        (FeatureRow { label: -2, ..first }, "its label is -2"),
        (FeatureRow { features: &[&a, &a], ..first }, "values"),
        (FeatureRow { features: &[&a], ..first }, "values"),
        (FeatureRow { sha256: "ABC", ..first }, "SHA-256"),
        (FeatureRow { name: "a\0b", ..first }, "NUL"),
        (FeatureRow { name: &name(0), ..first }, "already"),
        (FeatureRow { name: "first.jpg", ..first }, "already"),
    ] {
        let batch = [FeatureRow { name: "first.jpg", ..first }, bad];
        let error = writer.append(&batch, &[]).unwrap_err();
        assert!(
            matches!(error, FeatureFileError::BadRow { .. }) && error.to_string().contains(why),
            "{error}"
        );
    }
    append(&mut writer, 1..3, &[]).unwrap();
    writer.finish().unwrap();
    assert_rows(&FeatureFile::open(&output).unwrap(), 3);
}

#[test]
fn impossible_headers_are_refused() {
    type Change = fn(&mut FeatureFileHeader);
    let changes: [(&str, Change); 6] = [
        ("no layer", |h| h.layers.clear()),
        ("named twice", |h| h.layers[1].spec.layer = h.layers[0].spec.layer.clone()),
        ("the precision of the layer \"fc7\"", |h| h.layers[1].spec.precision = Precision::Bf16),
        ("impossible shape", |h| h.layers[0].shape = vec![3, 0]),
        ("impossible shape", |h| h.layers[0].shape = vec![usize::MAX, 2]),
        ("\"Katze\" is named twice", |h| h.class_names.push("Katze".into())),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (why, change) in changes {
        let mut header = header();
        change(&mut header);
        let error = FeatureWriter::create(&folder.path().join("c.h5"), &header, options(0)).err().unwrap();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(listing(folder.path()).is_empty());
}

#[test]
fn layer_names_of_every_kind_are_stored_and_found() {
    let names =
        ["fire9/concat", "/features/features.0/Conv_output_0", ".", "..", "50%", "%2F", "a//b", "ü ?"];
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let mut header = header();
    header.layers = names
        .iter()
        .map(|name| StoredLayer { spec: spec(name, "t", Pooling::None), shape: vec![1] })
        .collect();
    let mut writer = FeatureWriter::create(&output, &header, options(2)).unwrap();
    append_wide(&mut writer, &[1; 8], 0..2, &[]).unwrap();
    writer.finish().unwrap();
    let file = FeatureFile::open(&output).unwrap();
    assert_eq!(*file.header(), header);
    for (layer, name) in names.iter().enumerate() {
        for spelling in [(*name).to_owned(), crate::features::escape_layer_name(name)] {
            // "%2F" is the name of one layer and could be the escaped name of another: the name wins.
            assert_eq!(file.read_layer(Some(&spelling)).unwrap()[(1, 0)], value(1, layer, 0), "{spelling}");
        }
    }
}
