//! Classes with too few images, in words.

use std::fmt;

/// Classes that are named before the rest is counted.
const NAMED: usize = 10;

/// Classes that have too few images: all of them, the smallest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallClasses(Vec<(String, usize)>);

impl SmallClasses {
    /// The classes with their numbers of images; `None` where there is none.
    pub fn new(classes: impl IntoIterator<Item = (String, usize)>) -> Option<Self> {
        let mut classes: Vec<(String, usize)> = classes.into_iter().collect();
        // The sort is stable: classes of one size stay in their order.
        classes.sort_by_key(|&(_, images)| images);
        (!classes.is_empty()).then_some(Self(classes))
    }

    /// The classes with their numbers of images.
    pub fn classes(&self) -> &[(String, usize)] {
        &self.0
    }

    /// `` `a` (1), `b` (1), `c` (2)``; of many the first ten, and how many more there are.
    pub fn listed(&self) -> String {
        let listed = |(name, images): &(String, usize)| format!("`{name}` ({images})");
        let named: Vec<String> = self.0.iter().take(NAMED).map(listed).collect();
        match self.0.len().saturating_sub(NAMED) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }
}

impl fmt::Display for SmallClasses {
    /// ``class `a` has 1 image`` or ``3 classes have too few images: `a` (1), `b` (1), `c` (2)``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(name, images)] = &self.0[..] {
            return write!(f, "class `{name}` has {images} image{}", if *images == 1 { "" } else { "s" });
        }
        write!(f, "{} classes have too few images: {}", self.0.len(), self.listed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sizes: &[usize]) -> String {
        let classes = sizes.iter().enumerate().map(|(class, &size)| (format!("c{class}"), size));
        SmallClasses::new(classes).unwrap().to_string()
    }

    #[test]
    fn all_are_named_the_smallest_first_until_they_are_too_many() {
        assert_eq!(SmallClasses::new([]), None);
        assert_eq!(text(&[1]), "class `c0` has 1 image");
        assert_eq!(text(&[0]), "class `c0` has 0 images");
        assert_eq!(text(&[2, 1, 1]), "3 classes have too few images: `c1` (1), `c2` (1), `c0` (2)");
        let many = text(&[1; 250]);
        assert!(many.starts_with("250 classes have too few images: `c0` (1), `c1` (1), "), "{many}");
        assert!(many.ends_with("`c9` (1) and 240 more"), "{many}");
    }
}
