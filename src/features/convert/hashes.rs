//! Hashes of images as other formats hold them: as 32 bytes, or in hexadecimal.

use std::fmt::Write as _;

use crate::images::PerceptualHash;

/// Bytes in lower-case hexadecimal.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// 32 bytes of hexadecimal; `None` where it is none.
pub(super) fn of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

pub(super) fn sha256_to_bytes(hash: &str) -> [u8; 32] {
    of_hex(hash).unwrap_or_default()
}

pub(super) fn sha256_of_bytes(bytes: &[u8; 32]) -> String {
    to_hex(bytes)
}

/// Zeros where it is not known, as in the features file.
pub(super) fn hash_to_bytes(hash: Option<PerceptualHash>) -> [u8; 32] {
    hash.unwrap_or_default()
}

pub(super) fn hash_of_bytes(bytes: &[u8; 32]) -> Option<PerceptualHash> {
    (*bytes != [0; 32]).then_some(*bytes)
}

/// SHA-256 of every row from a column of hexadecimal; `None` where one is none.
pub(super) fn sha256_column(texts: Option<Vec<Option<String>>>) -> Option<Vec<String>> {
    let hash = |text: Option<String>| text.as_deref().and_then(of_hex).map(|hash| to_hex(&hash));
    texts?.into_iter().map(hash).collect()
}

/// Perceptual hashes from a column of hexadecimal.
pub(super) fn hash_column(texts: Option<Vec<Option<String>>>) -> Option<Vec<Option<PerceptualHash>>> {
    let hash = |text: Option<String>| text.as_deref().and_then(of_hex).filter(|hash| *hash != [0; 32]);
    Some(texts?.into_iter().map(hash).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_as_it_is_written_and_nonsense_is_none() {
        let bytes: [u8; 32] = std::array::from_fn(|at| (at * 9) as u8);
        assert_eq!(of_hex(&to_hex(&bytes)), Some(bytes));
        for bad in ["", "ab", &"g".repeat(64), &"ü".repeat(32), &"0".repeat(65)] {
            assert_eq!(of_hex(bad), None);
        }
        assert_eq!(sha256_column(Some(vec![Some("ab".into())])), None);
        assert_eq!(hash_column(Some(vec![Some("00".repeat(32)), None])), Some(vec![None, None]));
    }
}
