//! What the listing of a bucket says of an object, in few bytes: there may be millions of them.

use super::sample_list::TextSpan;

/// An object's size and what names its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct ObjectState {
    pub size: u32,
    pub etag: PackedEtag,
}

// A sample of a bucket takes as much besides its entry.
const _: () = assert!(size_of::<ObjectState>() <= 24);

/// An entity tag.
#[derive(Debug, Clone, Copy)]
pub(super) enum PackedEtag {
    /// The store gave none.
    Absent,
    /// The MD5 of the content in quotes, as most objects of S3 have it.
    Md5([u8; 16]),
    /// Another one, as it is.
    Text(TextSpan),
}

/// The bytes of `"0123…cdef"`, 32 lower-case digits in quotes.
pub(super) fn md5_of(etag: &str) -> Option<[u8; 16]> {
    let digits = etag.strip_prefix('"')?.strip_suffix('"')?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 32 || !digits.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, index) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[index..index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// The tag whose bytes these are.
pub(super) fn etag_of(md5: [u8; 16]) -> String {
    let digits: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_an_md5_comes_back_from_its_bytes() {
        let etag = "\"d41d8cd98f00b204e9800998ecf8427e\"";
        let md5 = md5_of(etag).unwrap();
        assert_eq!((md5[0], md5[15]), (0xd4, 0x7e));
        assert_eq!(etag_of(md5), etag);
        for other in [
            "d41d8cd98f00b204e9800998ecf8427e",
            "\"D41D8CD98F00B204E9800998ECF8427E\"",
            "\"0x8D\"",
            "\"d41d8cd98f00b204e9800998ecf8427e-2\"",
            "",
        ] {
            assert_eq!(md5_of(other), None, "{other}");
        }
    }
}
