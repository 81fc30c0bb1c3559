//! Ctrl-C, and pipes that end early: what the program says and leaves behind when it is stopped.
//!
//! Files appear complete or not at all, so a command can be stopped at any moment; what the user wants to know is what
//! there is now. Each command says that beforehand.

use std::io::Write;
use std::process;
use std::sync::Mutex;

/// Exit status of a program that SIGINT ended, as shells give it.
const INTERRUPTED: i32 = 130;

/// What is told on Ctrl-C.
static KEPT: Mutex<&str> = Mutex::new("nothing was written");

/// From now on, Ctrl-C says `kept` and ends the program.
pub fn says(kept: &'static str) {
    *KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = kept;
}

/// Lets a reader that goes away, such as `head`, end the program in silence.
pub fn end_with_the_reader() {
    #[cfg(unix)]
    // SAFETY: no other thread runs yet, and the default disposition runs no code of ours.
    unsafe {
        // Rust's runtime ignores SIGPIPE, and printing would panic instead.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Lets Ctrl-C say what was kept and end the program.
pub fn watch() {
    let watching = ctrlc::set_handler(|| {
        let kept = *KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        crate::files::remove_unfinished();
        // Nobody to tell where standard error is gone.
        let _ = writeln!(anstream::stderr(), "\ninterrupted: {kept}");
        process::exit(INTERRUPTED);
    });
    // Without a handler Ctrl-C ends the program all the same, in silence.
    drop(watching);
}
