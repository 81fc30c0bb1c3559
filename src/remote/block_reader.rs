//! Going through a file that is elsewhere: whoever reads and skips gets it in blocks.
//!
//! A request costs as much time as the transfer of a megabyte or so. What is read in a row, or with small gaps, therefore
//! comes in blocks that grow; after a jump that is longer than that, the next block is small, and what was jumped over is
//! never transferred.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;

/// The first block, and the one after a long jump: a header with the labels beside it.
const SMALLEST: u64 = 64 << 10;
/// The largest block.
const LARGEST: u64 = 4 << 20;
/// A jump that is shorter costs less to transfer than a further request does.
const JUMP: u64 = 1 << 20;

/// Reads a file of `len` bytes by means of `fetch`, which gives the bytes of a range.
pub(crate) struct BlockReader<F> {
    fetch: F,
    len: u64,
    position: u64,
    block: Bytes,
    /// Where the block begins in the file.
    start: u64,
    /// Bytes of the next block.
    size: u64,
}

impl<F: FnMut(Range<u64>) -> io::Result<Bytes>> BlockReader<F> {
    pub(crate) fn new(len: u64, fetch: F) -> Self {
        Self { fetch, len, position: 0, block: Bytes::new(), start: 0, size: SMALLEST }
    }

    /// What the block holds from the position on, after another one was fetched if need be; nothing at the end.
    fn rest(&mut self) -> io::Result<&[u8]> {
        let end = self.start + self.block.len() as u64;
        if self.position >= self.len {
            return Ok(&[]);
        }
        if !(self.start..end).contains(&self.position) {
            let is_near = !self.block.is_empty() && self.position >= end && self.position - end <= JUMP;
            self.size = if is_near { (self.size * 2).min(LARGEST) } else { SMALLEST };
            let wanted = self.position..self.len.min(self.position + self.size);
            self.block = (self.fetch)(wanted.clone())?;
            self.start = self.position;
            if self.block.len() as u64 != wanted.end - wanted.start {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(&self.block[(self.position - self.start) as usize..])
    }
}

impl<F: FnMut(Range<u64>) -> io::Result<Bytes>> Read for BlockReader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.rest()?;
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl<F> Seek for BlockReader<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Reads 512 bytes at the beginning of each of `count` members of `member` bytes; gives the ranges that were fetched.
    fn headers(member: u64, count: u64) -> Vec<Range<u64>> {
        let len = member * count;
        let file: Vec<u8> = (0..len).map(|at| (at / 512 % 251) as u8).collect();
        let fetched = RefCell::new(Vec::new());
        let mut reader = BlockReader::new(len, |range: Range<u64>| {
            fetched.borrow_mut().push(range.clone());
            Ok(Bytes::copy_from_slice(&file[range.start as usize..range.end as usize]))
        });
        for number in 0..count {
            let mut header = [0; 512];
            reader.read_exact(&mut header).unwrap();
            let at = (number * member) as usize;
            assert_eq!(header[..], file[at..at + 512], "header {number}");
            reader.seek(SeekFrom::Current(member as i64 - 512)).unwrap();
        }
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
        fetched.into_inner()
    }

    #[test]
    fn small_members_come_in_blocks_that_grow() {
        let fetched = headers(100 << 10, 200);
        let sizes: Vec<u64> = fetched.iter().map(|range| (range.end - range.start) >> 10).collect();
        assert_eq!(sizes[..7], [64, 128, 256, 512, 1024, 2048, 4096]);
        assert!(sizes[7..sizes.len() - 1].iter().all(|&size| size == 4096), "{sizes:?}");
        assert_eq!(fetched.last().unwrap().end, 200 * (100 << 10));
    }

    #[test]
    fn large_members_are_jumped_over() {
        let fetched = headers(4 << 20, 5);
        let expected: Vec<Range<u64>> =
            (0..5_u64).map(|number| number * (4 << 20)).map(|at| at..at + SMALLEST).collect();
        assert_eq!(fetched, expected);
    }

    #[test]
    fn a_short_answer_is_an_error() {
        let mut reader = BlockReader::new(1000, |_| Ok(Bytes::from_static(b"short")));
        assert_eq!(reader.read(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn any_reads_and_seeks_give_the_files_bytes() {
        let file: Vec<u8> =
            (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut reader = BlockReader::new(file.len() as u64, |range: Range<u64>| {
            Ok(Bytes::copy_from_slice(&file[range.start as usize..range.end as usize]))
        });
        for (at, count) in [(0, 70_000), (69_000, 10), (2_999_990, 100), (1_500_000, 1_200_000), (5, 5)] {
            reader.seek(SeekFrom::Start(at)).unwrap();
            let mut bytes = Vec::new();
            reader.by_ref().take(count).read_to_end(&mut bytes).unwrap();
            let end = file.len().min((at + count) as usize);
            assert_eq!(bytes, file[at as usize..end], "{count} bytes at {at}");
        }
        assert!(reader.seek(SeekFrom::Current(-100)).is_err());
    }
}
