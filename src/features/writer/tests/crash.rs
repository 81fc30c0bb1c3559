//! Kills, full disks and file size limits. Each test runs a part of itself in a child process: this same test executable,
//! told to run `child` only.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use super::*;

const CHILD: &str = "CNNCODES_TEST_CHILD";
const CHILD_OUTPUT: &str = "CNNCODES_TEST_CHILD_OUTPUT";

#[test]
fn child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let output = PathBuf::from(std::env::var_os(CHILD_OUTPUT).unwrap());
    match task.as_str() {
        "append forever" => append_forever(&output),
        "fill the disk" => fill(&output),
        "reach the file size limit" => reach_limit(&output),
        other => panic!("unknown task {other:?}"),
    }
}

fn spawn(task: &str, output: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "features::writer::tests::crash::child", "--nocapture"])
        .env(CHILD, task)
        .env(CHILD_OUTPUT, output)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Appends and commits without end, telling each count that it has committed.
fn append_forever(output: &Path) {
    let (mut writer, _) = FeatureWriter::open_or_create(output, &header(), options(100_000)).unwrap();
    let mut stdout = std::io::stdout();
    loop {
        let rows = writer.rows();
        append(&mut writer, rows..rows + 7, &[skipped(rows)]).unwrap();
        writer.commit().unwrap();
        writeln!(stdout, "committed {}", writer.rows()).unwrap();
    }
}

fn wide_header() -> FeatureFileHeader {
    let mut header = header();
    header.layers[0].shape = vec![1024];
    header
}

/// Appends until the disk is full, and checks how that is told.
fn fill(output: &Path) {
    let mut writer = FeatureWriter::create(output, &wide_header(), options(100_000)).unwrap();
    let error = append_until_failure(&mut writer);
    assert_failed(writer, error, output, libc::ENOSPC);
}

/// Appends until a limit on the size of files is met, and checks how that is told.
fn reach_limit(output: &Path) {
    let mut writer = FeatureWriter::create(output, &wide_header(), options(1000)).unwrap();
    append_wide(&mut writer, &[1024, 5], 0..50, &[]).unwrap();
    writer.commit().unwrap();
    let old = limit_file_size(64 << 10);
    let error = append_until_failure(&mut writer);
    limit_file_size(old);
    assert_failed(writer, error, output, libc::EFBIG);
}

fn append_until_failure(writer: &mut FeatureWriter) -> FeatureFileError {
    loop {
        let rows = writer.rows();
        let result = append_wide(writer, &[1024, 5], rows..rows + 10, &[]);
        if let Err(error) = result.and_then(|()| writer.commit()) {
            return error;
        }
    }
}

fn assert_failed(mut writer: FeatureWriter, error: FeatureFileError, output: &Path, expected: i32) {
    let FeatureFileError::Write { rows, source, .. } = &error else { panic!("{error}") };
    let errno = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    assert_eq!(errno, Some(expected), "{source}");
    assert!(error.to_string().contains("features.h5.partial"), "{error}");
    println!("kept {rows}");
    assert!(matches!(writer.append(&[], &[]), Err(FeatureFileError::Failed { .. })));
    assert_eq!(writer.rows() as u64, *rows);
    drop(writer);
    // The same process can go on with the file at once.
    let (resumed, start) = FeatureWriter::open_or_create(output, &wide_header(), options(0)).unwrap();
    assert!(matches!(start, WriterStart::Resumed { .. }), "{start:?}");
    assert_eq!(resumed.rows() as u64, *rows);
}

/// Limits the size of files in this process; gives the former limit back.
fn limit_file_size(bytes: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls only change this child process, which runs nothing else.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit), 0);
        let old = std::mem::replace(&mut limit.rlim_cur, bytes);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        old
    }
}

#[test]
fn a_kill_at_any_moment_loses_no_committed_row() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    let mut committed = 0;
    for round in 0..12_u64 {
        let mut child = spawn("append forever", &output);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let told = |line: &String| line.split_once("committed ").map(|(_, n)| n.parse::<usize>().unwrap());
        let first = lines.by_ref().find(|line| told(line).is_some());
        assert!(first.is_some(), "the child ended early");
        std::thread::sleep(Duration::from_micros(1 + round * 7919 % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        // Everything that the child could still say before the kill.
        let last = lines.filter_map(|line| told(&line)).last();
        let at_least = last.or(first.as_ref().and_then(told)).unwrap();

        // The lock has vanished with the child, and what it had committed is there.
        let (writer, start) = FeatureWriter::open_or_create(&output, &header(), options(0)).unwrap();
        let WriterStart::Resumed { done, skipped } = start else { panic!("round {round}: {start:?}") };
        assert!(done.len() >= at_least, "round {round}: {} rows of {at_least}", done.len());
        assert!(done.len() > committed);
        assert_eq!(skipped.len() * 7, done.len());
        committed = done.len();
        drop(writer);
    }
    let (writer, _) = FeatureWriter::open_or_create(&output, &header(), options(0)).unwrap();
    writer.finish().unwrap();
    assert_rows(&FeatureFile::open(&output).unwrap(), committed);
}

/// Runs a child that fills its output, and checks that what it kept is resumed and completed.
fn assert_kept(task: &str, output: &Path, make_room: impl FnOnce()) {
    let mut child = spawn(task, output);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success(), "{stdout}\n{stderr}");
    assert_eq!(stderr, "", "HDF5 must not write to the standard error");
    let (_, kept) = stdout.split_once("kept ").unwrap();
    let kept: usize = kept.lines().next().unwrap().parse().unwrap();
    assert!(kept >= 10, "{kept}");

    make_room();
    let (mut writer, start) =
        FeatureWriter::open_or_create(output, &wide_header(), options(kept + 5)).unwrap();
    assert!(matches!(start, WriterStart::Resumed { ref done, .. } if done.len() == kept), "{start:?}");
    append_wide(&mut writer, &[1024, 5], kept..kept + 5, &[]).unwrap();
    writer.finish().unwrap();
    assert_rows(&FeatureFile::open(output).unwrap(), kept + 5);
}

#[test]
fn a_file_size_limit_keeps_the_committed_rows() {
    let folder = tempfile::tempdir().unwrap();
    assert_kept("reach the file size limit", &folder.path().join("features.h5"), || {});
}

#[test]
fn a_full_disk_keeps_the_committed_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !mount("size=3m") {
        eprintln!("SKIPPED: a_full_disk_keeps_the_committed_rows: may not mount a small file system");
        return;
    }
    let result = std::panic::catch_unwind(|| {
        assert_kept("fill the disk", &folder.path().join("features.h5"), || {
            assert!(mount("remount,size=64m"));
        });
    });
    Command::new("umount").arg(folder.path()).status().unwrap();
    result.unwrap();
}
