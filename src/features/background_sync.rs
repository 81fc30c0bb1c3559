//! Bringing a file to the disk while more is written to it, so that little is left to wait for at the end.

use std::fs::File;
use std::io;
use std::thread::{self, JoinHandle};

/// So many bytes are written before they are brought to the disk in the background.
const BATCH: u64 = 64 << 20;

/// What is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct BackgroundSync {
    /// Bytes that no sync knows of.
    waiting: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl BackgroundSync {
    /// Counts `bytes` that were written to `file`, and brings them to the disk once they are many and nothing else is on its way.
    ///
    /// # Errors
    /// An earlier sync has failed, which the system tells only once; or the file's handle cannot be copied.
    pub(super) fn written(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        self.waiting += bytes;
        let free = self.running.as_ref().is_none_or(JoinHandle::is_finished);
        if self.waiting >= BATCH && free {
            self.wait()?;
            let file = file.try_clone()?;
            self.running = Some(thread::spawn(move || file.sync_data()));
            self.waiting = 0;
        }
        Ok(())
    }

    /// Waits for what is on its way.
    ///
    /// # Errors
    /// It could not be brought to the disk.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        match self.running.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread that synced the file ended")),
        }
    }
}
