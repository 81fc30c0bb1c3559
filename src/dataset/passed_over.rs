//! Files below a folder that are no images: how many, why, and which for instance.

/// Names that are given as examples of each reason.
const EXAMPLES: usize = 3;

/// Why a file below a folder of images is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOverReason {
    /// Its first bytes are of no image format.
    NotAnImage,
    /// Its name, or that of a folder it lies in, begins with a dot.
    Hidden,
    /// Its name, or that of a folder it lies in, is one that systems and storage devices keep for themselves.
    System,
    /// In a tar shard, it is a further picture of a sample whose own picture is beside it, such as a mask.
    Further,
}

impl PassedOverReason {
    const ALL: [Self; 4] = [Self::NotAnImage, Self::Hidden, Self::System, Self::Further];

    /// As it stands in features files and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAnImage => "not an image",
            Self::Hidden => "hidden",
            Self::System => "system",
            Self::Further => "further picture",
        }
    }
}

/// The files that are passed over for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOverFiles {
    /// How many there are.
    pub files: usize,
    /// Whether there are more, which were not counted.
    pub more: bool,
    /// The first few of their names.
    pub examples: Vec<String>,
}

/// The files below a folder that are no images, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver(Box<[PassedOverFiles; PassedOverReason::ALL.len()]>);

impl PassedOver {
    /// The reasons for which there is a file, and the files.
    pub fn by_reason(&self) -> impl Iterator<Item = (PassedOverReason, &PassedOverFiles)> {
        PassedOverReason::ALL.into_iter().zip(self.0.iter()).filter(|(_, group)| group.files > 0)
    }

    /// How many files there are, whatever the reason.
    pub fn files(&self) -> usize {
        self.0.iter().map(|group| group.files).sum()
    }

    /// Whether no file was passed over.
    pub fn is_empty(&self) -> bool {
        self.files() == 0
    }

    pub(super) fn add(&mut self, reason: PassedOverReason, name: &str) {
        let group = &mut self.0[reason as usize];
        group.files += 1;
        // A walk has no order; the examples shall be the same in each.
        let at = group.examples.partition_point(|example| example.as_str() < name);
        if at < EXAMPLES {
            group.examples.insert(at, name.to_owned());
            group.examples.truncate(EXAMPLES);
        }
    }

    /// Notes that there are more files than were counted.
    pub(super) fn add_uncounted(&mut self, reason: PassedOverReason) {
        self.0[reason as usize].more = true;
    }

    /// Adds what was passed over below another folder, whose names `rename` makes names of this one.
    pub(super) fn merge(&mut self, other: PassedOver, rename: impl Fn(&str) -> String) {
        for (reason, group) in PassedOverReason::ALL.into_iter().zip(*other.0) {
            group.examples.iter().for_each(|name| self.add(reason, &rename(name)));
            let into = &mut self.0[reason as usize];
            into.files += group.files - group.examples.len();
            into.more |= group.more;
        }
    }

    /// `3 files that are not images (a/x.txt, b/y.xml, …) and 1 hidden file (.z.jpg)`.
    pub fn describe(&self) -> String {
        let groups: Vec<String> = self.by_reason().map(|(reason, group)| describe(reason, group)).collect();
        match &groups[..] {
            [] => "no file".to_owned(),
            [only] => only.clone(),
            [first @ .., last] => format!("{} and {last}", first.join(", ")),
        }
    }
}

fn describe(reason: PassedOverReason, group: &PassedOverFiles) -> String {
    let what = match (reason, group.files) {
        (PassedOverReason::NotAnImage, 1) => "file that is not an image",
        (PassedOverReason::NotAnImage, _) => "files that are not images",
        (PassedOverReason::Hidden, 1) => "hidden file",
        (PassedOverReason::Hidden, _) => "hidden files",
        (PassedOverReason::System, 1) => "system file",
        (PassedOverReason::System, _) => "system files",
        (PassedOverReason::Further, 1) => "further picture of a sample without a label of its own",
        (PassedOverReason::Further, _) => "further pictures of samples without labels of their own",
    };
    let at_least = if group.more { "at least " } else { "" };
    let more = if group.files > group.examples.len() || group.more { ", …" } else { "" };
    format!("{at_least}{} {what} ({}{more})", group.files, group.examples.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_and_the_first_few_named_in_any_order() {
        let mut passed = PassedOver::default();
        for name in ["d.txt", "b.txt", "c.txt", "a.txt"] {
            passed.add(PassedOverReason::NotAnImage, name);
        }
        passed.add(PassedOverReason::Hidden, ".x.jpg");
        assert_eq!(passed.files(), 5);
        assert_eq!(
            passed.describe(),
            "4 files that are not images (a.txt, b.txt, c.txt, …) and 1 hidden file (.x.jpg)"
        );
        let mut whole = PassedOver::default();
        whole.merge(passed.clone(), |name| format!("one/{name}"));
        whole.merge(passed, |name| format!("two/{name}"));
        let groups: Vec<(&str, usize)> =
            whole.by_reason().map(|(reason, group)| (reason.as_str(), group.files)).collect();
        assert_eq!(groups, [("not an image", 8), ("hidden", 2)]);
        assert_eq!(whole.by_reason().next().unwrap().1.examples, ["one/a.txt", "one/b.txt", "one/c.txt"]);
    }
}
