//! How the program behaves on a terminal, in a pipe, and when it is stopped.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{cnncodes, workspace};

const ESCAPE: char = '\u{1b}';

fn says(folder: &Path, arguments: &[&str], set: Option<&str>) -> String {
    let mut command = cnncodes(folder);
    ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"].iter().for_each(|name| {
        command.env_remove(name);
    });
    set.map(|name| command.env(name, "1"));
    let output = command.args(arguments).assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn colour_is_for_terminals_and_for_those_who_force_it() {
    let folder = workspace(6);
    says(folder.path(), &["extract", "--layer", "fc7"], None);
    for arguments in [
        &["layers"][..],
        &["models"],
        &["models", "pull"],
        &["fit-head", "--svm"],
        &["suspects"],
        &["evaluate", "data"],
    ] {
        let plain = says(folder.path(), arguments, None);
        assert!(!plain.contains(ESCAPE), "{arguments:?} in a pipe: {plain}");
        assert!(!says(folder.path(), arguments, Some("NO_COLOR")).contains(ESCAPE), "{arguments:?}");
        let coloured = says(folder.path(), arguments, Some("CLICOLOR_FORCE"));
        assert!(coloured.contains(ESCAPE), "{arguments:?}: {coloured}");
        // The same words with and without.
        let mut bare = String::new();
        let mut escaped = false;
        for c in coloured.chars() {
            match c {
                ESCAPE => escaped = true,
                'm' if escaped => escaped = false,
                _ if !escaped => bare.push(c),
                _ => {}
            }
        }
        assert_eq!(bare, plain, "{arguments:?}");
        assert!(plain.lines().all(|line| line.trim_end() == line), "{arguments:?}: spaces at a line's end");
    }
}

#[cfg(unix)]
fn child(folder: &Path, arguments: &[&str], stdin: Stdio) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_cnncodes"))
        .args(arguments)
        .current_dir(folder)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_the_program_in_silence() {
    let folder = workspace(5);
    let mut layers = child(folder.path(), &["layers"], Stdio::null());
    drop(layers.stdout.take());
    let output = layers.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// Linux tells which signals a process handles, so the test knows when there is something to interrupt.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_says_what_was_kept() {
    const SIGINT_CAUGHT: u64 = 1 << (libc::SIGINT - 1);
    let folder = workspace(6);
    says(folder.path(), &["extract", "--layer", "fc7"], None);
    says(folder.path(), &["fit-head", "--svm"], None);
    // It waits for a list of images on standard input.
    let arguments = ["classify", "-"];
    let kept = "interrupted: printed answers and written pictures are complete";
    let mut waiting = child(folder.path(), &arguments, Stdio::piped());
    // Held open: at its end the program would go on.
    let stdin = waiting.stdin.take();
    let status = format!("/proc/{}/status", waiting.id());
    loop {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & SIGINT_CAUGHT != 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // SAFETY: the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(waiting.id() as i32, libc::SIGINT) }, 0);
    let output = waiting.wait_with_output().unwrap();
    drop(stdin);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(kept), "{arguments:?}: {said}");
    assert_eq!(output.status.code(), Some(130), "{said}");
}
