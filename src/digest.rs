//! What tells one image file from another: the SHA-256 of its bytes.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// In place of one that nobody wants.
    pub(crate) fn none() -> Self {
        Self([0; 32])
    }

    /// From 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..][..2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// In lower-case hexadecimal.
impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Sha256Digest;

    #[test]
    fn digests_are_written_as_everybody_writes_them() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256Digest::of(b"abc").to_string(), abc);
        assert_eq!(Sha256Digest::parse(abc), Some(Sha256Digest::of(b"abc")));
        assert_eq!(Sha256Digest::parse(&abc[1..]), None);
        assert_eq!(Sha256Digest::parse(&abc.replace('b', "x")), None);
    }
}
