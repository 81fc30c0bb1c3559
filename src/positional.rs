//! Reading and writing a file at a position, which several threads may do at once through one handle.

use std::fs::File;
use std::io;

/// Fills `out` from `position` on.
///
/// # Errors
/// The file ends before, or cannot be read.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, out: &mut [u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, position)
}

/// Fills `out` from `position` on.
///
/// # Errors
/// The file ends before, or cannot be read.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut out: &mut [u8], mut position: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, position)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                position += read as u64;
                out = &mut out[read..];
            }
        }
    }
    Ok(())
}

/// Writes `bytes` from `position` on.
///
/// # Errors
/// The disk is full, or the file cannot be written.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, position)
}

/// Writes `bytes` from `position` on.
///
/// # Errors
/// The disk is full, or the file cannot be written.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, position)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                position += written as u64;
                bytes = &bytes[written..];
            }
        }
    }
    Ok(())
}

/// Tells the system that it need not keep `len` bytes of the file from `position` on in memory. Nobody depends on it: what is not on the
/// disk yet stays, and systems without such an advice go on as they are.
#[cfg(target_os = "linux")]
pub(crate) fn drop_cached(file: &File, position: u64, len: usize) {
    use rustix::fs::{Advice, fadvise};
    // Without a length the advice would be on the rest of the file.
    if let Some(len) = std::num::NonZeroU64::new(len as u64) {
        let _ = fadvise(file, position, Some(len), Advice::DontNeed);
    }
}

/// Tells the system nothing: it has no such advice.
#[cfg(not(target_os = "linux"))]
pub(crate) fn drop_cached(_file: &File, _position: u64, _len: usize) {}
