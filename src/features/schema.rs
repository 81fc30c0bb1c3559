//! The layout of a features file: names of its objects, what is appended to it, and how a layer's name
//! becomes a dataset's name. `docs/features-format.md` says the same to users of other programs; change both together.

use serde::{Deserialize, Serialize};

/// The value of the root attribute `format`.
pub const FORMAT: &str = "cnncodes";
/// The version of the layout that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: i64 = 1;

pub(super) const LAYERS: &str = "layers";
pub(super) const FEATURES: &str = "features";
pub(super) const IMAGE_NAMES: &str = "image_names";
pub(super) const LABELS: &str = "labels";
pub(super) const CLASS_NAMES: &str = "class_names";
pub(super) const SHA256: &str = "sha256";
pub(super) const PERCEPTUAL_HASH: &str = "perceptual_hash";
pub(super) const ERRORS: &str = "errors";
pub(super) const ERROR_NAME: &str = "errors/name";
pub(super) const ERROR_REASON: &str = "errors/reason";
pub(super) const PASSED_OVER: &str = "passed_over";
pub(super) const PASSED_OVER_REASON: &str = "passed_over/reason";
pub(super) const PASSED_OVER_FILES: &str = "passed_over/files";
pub(super) const PASSED_OVER_EXAMPLE: &str = "passed_over/example";
pub(super) const ROWS: &str = "rows";
pub(super) const ERROR_ROWS: &str = "error_rows";
pub(super) const COMPLETE: &str = "complete";
pub(super) const PLAN_ID: &str = "plan_id";
pub(super) const PLAN_PART: &str = "plan_part";
/// Of a layer's dataset.
pub(super) const CRC32: &str = "crc32";

/// Bytes of a perceptual hash.
pub(super) const HASH_BYTES: usize = 32;

/// One image as it is appended: one row in each layer.
#[derive(Debug, Clone, Copy)]
pub struct FeatureRow<'a> {
    /// The image's name: relative to the source, `/`-separated.
    pub name: &'a str,
    /// Index of the image's class, or -1 where unknown.
    pub label: i64,
    /// SHA-256 of the image file, in lower-case hexadecimal.
    pub sha256: &'a str,
    /// Perceptual hash of its pixels ([`crate::images::perceptual_hash`]), where it is known.
    pub perceptual_hash: Option<[u8; 32]>,
    /// One slice a layer, in the header's order, each as wide as that layer.
    pub features: &'a [&'a [f32]],
}

/// An image that has no row, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedImage {
    /// The image's name, as a row would have it.
    pub name: String,
    /// Why it could not be read.
    pub reason: String,
}

/// The files below a folder of images that are no images for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOverGroup {
    /// Why they are none.
    pub reason: String,
    /// How many there are.
    pub files: u64,
    /// The name of one of them.
    pub example: String,
}

/// Which part of which plan a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanPart {
    /// The plan's id.
    pub plan: String,
    /// The number of the part, from 0.
    pub part: u64,
}

/// The dataset name of a layer: percent-encoded where HDF5 would take a character for something else.
///
/// `/` becomes `%2F`, `%` becomes `%25`, NUL becomes `%00`, and a name that is a lone `.` becomes `%2E`;
/// all else stays. Every URL decoder (Python's `urllib.parse.unquote`) gives the name back.
///
/// ```
/// # use cnncodes::features::escape_layer_name;
/// assert_eq!(escape_layer_name("fire9/concat"), "fire9%2Fconcat");
/// assert_eq!(escape_layer_name("features.0"), "features.0");
/// ```
pub fn escape_layer_name(name: &str) -> String {
    if name == "." {
        return "%2E".to_owned();
    }
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '/' => escaped.push_str("%2F"),
            '%' => escaped.push_str("%25"),
            '\0' => escaped.push_str("%00"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The path of a layer's dataset in the file.
pub(super) fn layer_path(name: &str) -> String {
    format!("{LAYERS}/{}", escape_layer_name(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What every URL decoder does, written independently of the encoder.
    fn unquote(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            rest = tail;
            match (first, tail) {
                (b'%', [_, _, after @ ..]) => {
                    let digits = std::str::from_utf8(&tail[..2]).unwrap();
                    bytes.push(u8::from_str_radix(digits, 16).unwrap());
                    rest = after;
                }
                _ => bytes.push(*first),
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn ordinary_layer_names_stay_as_they_are() {
        for name in ["fc7", "conv1_1", "features.29", "..", ".hidden", "Größe 7"] {
            assert_eq!(escape_layer_name(name), name);
        }
    }

    #[test]
    fn names_that_hdf5_would_misunderstand_are_escaped() {
        for (name, escaped) in [
            ("fire9/concat", "fire9%2Fconcat"),
            ("/features/features.0/Conv_output_0", "%2Ffeatures%2Ffeatures.0%2FConv_output_0"),
            (".", "%2E"),
            ("100%", "100%25"),
            ("a%2Fb", "a%252Fb"),
        ] {
            assert_eq!(escape_layer_name(name), escaped);
        }
    }

    proptest! {
        #[test]
        fn every_escaped_name_is_one_link_and_gives_the_name_back(name in "[./%0-9A-Fü\\x00]{1,12}|\\PC*") {
            let escaped = escape_layer_name(&name);
            prop_assert!(!escaped.contains(['/', '\0']) && escaped != ".");
            prop_assert_eq!(unquote(&escaped), name);
        }
    }
}
