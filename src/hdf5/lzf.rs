//! LZF, the fast compression that h5py brings along (`compression="lzf"`).
//!
//! The format is that of Marc Lehmann's LibLZF: a control byte below 32 is followed by as many bytes and one more, as they
//! are; any other names an earlier place and a length to copy from there. A chunk that LZF would not have made smaller
//! is stored without it, which the chunk's mask of filters tells.

use hdf5_reader::error::{Error, Result};

/// The longest output that is made: the largest chunk that is read.
const MAX_OUTPUT: usize = 1 << 30;

/// Decodes a chunk. `size` is what the filter's parameters say of its decoded size.
pub(super) fn decode(data: &[u8], size: Option<u32>) -> Result<Vec<u8>> {
    let damaged = || Error::DecompressionError("LZF: the compressed bytes contradict each other".into());
    let limit = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT);
    // Three bytes of input stand for 264 bytes of output at most.
    let mut out: Vec<u8> = Vec::with_capacity(limit.min(data.len().saturating_mul(88)));
    let mut input = data;
    while let Some((&control, rest)) = input.split_first() {
        let control = usize::from(control);
        input = rest;
        if control < 32 {
            let (literal, rest) = input.split_at_checked(control + 1).ok_or_else(damaged)?;
            out.extend_from_slice(literal);
            input = rest;
        } else {
            let mut next = || {
                let (&byte, rest) = input.split_first().ok_or_else(damaged)?;
                input = rest;
                Ok::<_, Error>(usize::from(byte))
            };
            let mut length = control >> 5;
            if length == 7 {
                length += next()?;
            }
            let back = ((control & 31) << 8 | next()?) + 1;
            let start = out.len().checked_sub(back).ok_or_else(damaged)?;
            // Byte by byte, since the source may run into what it makes, which repeats it.
            for at in start..start + length + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > limit {
            return Err(damaged());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_copies_are_undone() {
        // "abcabcabcd": three literals, a copy of six from three back, one literal.
        let encoded = [2, b'a', b'b', b'c', 4 << 5, 2, 0, b'd'];
        assert_eq!(decode(&encoded, Some(10)).unwrap(), b"abcabcabcd");
    }

    #[test]
    fn bytes_that_contradict_each_other_are_refused() {
        for encoded in [&[5, 1][..], &[1 << 5, 0], &[0, 9, 7 << 5], &[0, 9, 1 << 5, 7], &[3, 1, 1, 1, 1]] {
            assert!(decode(encoded, Some(3)).is_err(), "{encoded:?}");
        }
    }
}
