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
