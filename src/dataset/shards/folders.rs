//! Classes of shards that hold no labels but a folder of images as it stood on a disk: `data/cats/1.jpg`.

use std::collections::BTreeSet;

use super::super::classes::ClassNames;
use super::super::labels::parse_label;
use super::super::{InputProblem, SampleList, SplitPart};

/// The folders that became classes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClassFolders {
    /// The folder that holds them, "" where none does.
    pub root: String,
    pub names: BTreeSet<String>,
}

/// Labels each sample by the folder that it lies in, directly or not, below the deepest folder that holds all; folders
/// there that are the parts of a split (`train/cats/1.jpg`) are gone through.
///
/// `parts` says at which sample each shard begins, and how many bytes of the names are the shard's.
///
/// # Errors
/// Nothing is labelled: an image, which is named, lies in no such folder, or, without a name, all lie in one or in none.
pub(super) fn label(
    samples: &mut SampleList,
    parts: &[(usize, usize)],
    classes: &mut ClassNames,
    problems: &mut Vec<InputProblem>,
) -> Result<ClassFolders, Option<String>> {
    // The usual shards have no folders; tens of millions of names need not be collected to see that.
    if !inner_names(samples, parts).any(|name| name.contains('/')) {
        return Err(None);
    }
    let found = find(&inner_names(samples, parts).collect::<Vec<_>>());
    let (root, folders) = found.map_err(|image| image.map(|image| samples.get(image).name.to_owned()))?;
    let names: BTreeSet<String> = folders.iter().map(|&folder| folder.to_owned()).collect();
    let root = root.to_owned();
    let labels: Vec<Result<Option<usize>, String>> = folders
        .iter()
        .map(|folder| parse_label(folder)?.map(|label| classes.number(label)).transpose())
        .collect();
    let numbers: Vec<Option<usize>> = labels.iter().filter_map(|label| label.clone().ok()).collect();
    let mut labels = labels.into_iter();
    samples.retain_from(0, |_, sample| match labels.next() {
        Some(Err(reason)) => {
            problems.push(InputProblem { name: sample.name.to_owned(), reason });
            false
        }
        _ => true,
    });
    samples.label_from(0, &numbers);
    Ok(ClassFolders { root, names })
}

/// The names of all images as the shards have them.
fn inner_names<'a>(samples: &'a SampleList, parts: &[(usize, usize)]) -> impl Iterator<Item = &'a str> {
    let ends = parts.iter().skip(1).map(|&(start, _)| start).chain([samples.len()]);
    let of_part = move |(&(start, prefix), end): (&(usize, usize), usize)| {
        (start..end).map(move |index| &samples.get(index).name[prefix..])
    };
    parts.iter().zip(ends).flat_map(of_part)
}

/// The deepest folder that holds all of the images, and the folder that is the class of each; else an image outside of
/// such folders, if others are inside.
fn find<'a>(names: &[&'a str]) -> Result<(&'a str, Vec<&'a str>), Option<usize>> {
    let folder = |name: &'a str| name.rfind('/').map_or("", |slash| &name[..slash]);
    let root = names.iter().map(|name| folder(name)).reduce(common).ok_or(None)?;
    let mut names: Vec<&str> = names.iter().map(|name| name[root.len()..].trim_start_matches('/')).collect();
    let mut folders = first_folders(&names)?;
    if folders.iter().all(|folder| SplitPart::named(folder).is_some()) {
        names.iter_mut().zip(&folders).for_each(|(name, folder)| *name = &name[folder.len() + 1..]);
        folders = first_folders(&names)?;
    }
    if folders.iter().all(|folder| *folder == folders[0]) { Err(None) } else { Ok((root, folders)) }
}

/// The first folder of each name; else the first name without one, if others have one.
fn first_folders<'a>(names: &[&'a str]) -> Result<Vec<&'a str>, Option<usize>> {
    let folders: Vec<Option<&str>> =
        names.iter().map(|name| name.split_once('/').map(|(folder, _)| folder)).collect();
    let outside = folders.iter().position(Option::is_none);
    match outside.filter(|_| folders.iter().any(Option::is_some)) {
        Some(outside) => Err(Some(outside)),
        None => folders.into_iter().collect::<Option<_>>().ok_or(None),
    }
}

/// The folders that both paths begin with.
fn common<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.split('/').zip(b.split('/')).take_while(|(a, b)| a == b);
    let len: usize = same.map(|(part, _)| part.len() + 1).sum();
    &a[..len.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_class_is_the_first_folder_below_what_holds_all() {
        type Found = Result<(&'static str, &'static [&'static str]), Option<usize>>;
        let cases: [(&[&str], Found); 9] = [
            (&["data/red/0.jpg", "data/blue/old/0.jpg"], Ok(("data", &["red", "blue"]))),
            (&["red/0.jpg", "redder/0.jpg"], Ok(("", &["red", "redder"]))),
            (&["a/b/red/0.jpg", "a/b/blue/0.jpg"], Ok(("a/b", &["red", "blue"]))),
            (&["train/red/0.jpg", "val/blue/0.jpg", "test/red/1.jpg"], Ok(("", &["red", "blue", "red"]))),
            (&["data/train/red/0.jpg", "data/train/blue/0.jpg"], Ok(("data/train", &["red", "blue"]))),
            (&["train/0.jpg", "val/0.jpg"], Err(None)),
            (&["red/0.jpg", "blue/0.jpg", "0.jpg"], Err(Some(2))),
            (&["red/0.jpg", "red/1.jpg"], Err(None)),
            (&["0.jpg", "1.jpg"], Err(None)),
        ];
        for (names, expected) in cases {
            assert_eq!(find(names), expected.map(|(root, folders)| (root, folders.to_vec())), "{names:?}");
        }
        assert_eq!(find(&[]), Err(None));
    }
}
