//! What an image is for, by the name of its part of a split.

/// A part of a split of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitPart {
    /// To fit a head to.
    Train,
    /// To choose its settings by.
    Validation,
    /// To measure it on.
    Test,
}

impl SplitPart {
    /// The part of that name, in capitals or not.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Validation),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}
