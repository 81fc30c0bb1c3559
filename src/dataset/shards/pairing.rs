//! Which label belongs to which image of a shard, by the names of the members.
//!
//! WebDataset ends a key at the first dot of a member's own name: `7.left.jpg`, `7.right.jpg` and `7.cls` are one sample.
//! People put dots into names all the same (`IMG.0001.jpg` with `IMG.0001.cls`), and by that rule a whole shard is then one
//! sample with one label. So a label belongs first of all to the image whose name is the label's but for the extension
//! (`IMG.0001.cls`), or with another one behind it (`IMG.0001.jpg.cls`). Only images without such a label take one of
//! their key, and only if the key has no two that differ.

use super::super::classes::ClassLabel;

/// A member that holds a label.
#[derive(Debug)]
pub(super) struct LabelMember {
    pub name: String,
    /// The class that it states, `None` where it states none; or what is wrong with it.
    pub class: Result<Option<ClassLabel>, String>,
    /// Whether it is a `.json` that has no field for a class.
    pub is_silent: bool,
}

/// What becomes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageVerdict<'a> {
    /// Its class, if one is stated.
    Class(Option<&'a ClassLabel>),
    /// Its label cannot be used, and why.
    Bad(String),
    /// A further picture of a sample whose own picture is beside it, such as the mask `7.seg.png` of `7.jpg`.
    Further,
}

/// What a shard's images and labels have to do with each other.
#[derive(Debug)]
pub(super) struct Pairing<'a> {
    /// Of each image.
    pub verdicts: Vec<ImageVerdict<'a>>,
    /// Labels that belong to no image.
    pub orphans: Vec<&'a LabelMember>,
}

/// Finds the label of each of `images`; both are sorted by name.
///
/// # Errors
/// An image could have either of two classes; the text names it and them.
pub(super) fn pair<'a>(images: &[&str], labels: &'a [LabelMember]) -> Result<Pairing<'a>, String> {
    let by_whole_names = labels.iter().any(|label| is_dotted(stem(&label.name)))
        && groups(images, labels).any(|group| group.pairs_by_a_dotted_name());
    let mut pairing = Pairing { verdicts: Vec::with_capacity(images.len()), orphans: Vec::new() };
    for group in groups(images, labels) {
        group.pair(by_whole_names, &mut pairing)?;
    }
    Ok(pairing)
}

/// The images and labels of one key.
struct SampleGroup<'i, 'a> {
    key: &'i str,
    images: &'i [&'i str],
    labels: &'a [LabelMember],
}

/// The groups of all images, and of labels that have the key of none (under the key "").
fn groups<'i, 'a: 'i>(
    images: &'i [&'i str],
    labels: &'a [LabelMember],
) -> impl Iterator<Item = SampleGroup<'i, 'a>> {
    let (mut images, mut labels) = (images, labels);
    std::iter::from_fn(move || {
        let first_label = labels.first().map(|label| key_of(&label.name));
        let Some(key) = images.first().map(|name| key_of(name)) else {
            let rest = std::mem::take(&mut labels);
            return (!rest.is_empty()).then_some(SampleGroup { key: "", images: &[], labels: rest });
        };
        if first_label.is_some_and(|label| precedes(label, key)) {
            let count = labels.iter().take_while(|label| precedes(key_of(&label.name), key)).count();
            let (before, rest) = labels.split_at(count);
            labels = rest;
            return Some(SampleGroup { key: "", images: &[], labels: before });
        }
        let (of_key, rest) = images.split_at(images.iter().take_while(|name| key_of(name) == key).count());
        images = rest;
        let (labels_of_key, rest) =
            labels.split_at(labels.iter().take_while(|label| key_of(&label.name) == key).count());
        labels = rest;
        Some(SampleGroup { key, images: of_key, labels: labels_of_key })
    })
}

/// Whether the names of the key `a` stand before those of `b`: each name goes on with a dot after its key.
fn precedes(a: &str, b: &str) -> bool {
    a.bytes().chain([b'.']).lt(b.bytes().chain([b'.']))
}

impl<'a> SampleGroup<'_, 'a> {
    /// The labels that have the whole name of `image`, but for their extension or the image's.
    fn own(&self, image: &str) -> impl Iterator<Item = (usize, &'a LabelMember)> + Clone {
        let labels = self.labels;
        [stem(image), image].into_iter().flat_map(move |owner| {
            let with_dot = || owner.bytes().chain([b'.']);
            let start = labels.partition_point(|label| label.name.bytes().lt(with_dot()));
            let below = labels.iter().enumerate().skip(start);
            let below = below.take_while(move |(_, label)| {
                label.name.strip_prefix(owner).is_some_and(|rest| rest.starts_with('.'))
            });
            below.filter(move |(_, label)| stem(&label.name) == owner)
        })
    }

    /// Whether a label with a dot in its name has the whole name of an image.
    fn pairs_by_a_dotted_name(&self) -> bool {
        self.images.iter().any(|image| self.own(image).any(|(_, label)| is_dotted(stem(&label.name))))
    }

    /// Adds what becomes of the images and labels; `by_whole_names` is whether other labels of the shard have dots in their
    /// names and the names of images, so that a label with dots and another name is no image's.
    fn pair(&self, by_whole_names: bool, pairing: &mut Pairing<'a>) -> Result<(), String> {
        let mut used = vec![false; self.labels.len()];
        self.images.iter().for_each(|image| self.own(image).for_each(|(index, _)| used[index] = true));
        let is_shared = |index: usize| !by_whole_names || stem(&self.labels[index].name) == self.key;
        let shared: Vec<usize> = (0..used.len()).filter(|&index| !used[index] && is_shared(index)).collect();
        let has_plain = !self.labels.is_empty() && self.images.iter().any(|image| stem(image) == self.key);
        for image in self.images {
            let mut own = self.own(image).map(|(_, label)| label).peekable();
            let verdict = if own.peek().is_some() {
                match said(own) {
                    StatedLabel::Class(class) => ImageVerdict::Class(class),
                    StatedLabel::Wrong(why) => ImageVerdict::Bad(why.to_owned()),
                    StatedLabel::Differently(a, b) => {
                        ImageVerdict::Bad(format!("its class is {}; keep one of them", different(a, b)))
                    }
                }
            } else if has_plain && stem(image) != self.key {
                ImageVerdict::Further
            } else {
                shared.iter().for_each(|&index| used[index] = true);
                match said(shared.iter().map(|&index| &self.labels[index])) {
                    StatedLabel::Class(class) => ImageVerdict::Class(class),
                    StatedLabel::Wrong(why) => ImageVerdict::Bad(why.to_owned()),
                    StatedLabel::Differently(a, b) => {
                        return Err(format!(
                            "{image} may belong to either of two classes: {}",
                            different(a, b)
                        ));
                    }
                }
            };
            pairing.verdicts.push(verdict);
        }
        let labels = self.labels.iter().zip(used);
        pairing.orphans.extend(labels.filter(|(_, used)| !used).map(|(label, _)| label));
        Ok(())
    }
}

/// What the labels of one image say together.
enum StatedLabel<'a> {
    Class(Option<&'a ClassLabel>),
    Wrong(&'a str),
    Differently(&'a LabelMember, &'a LabelMember),
}

/// A `.cls` counts before a `.json`, which may have a name for the other's number, or be about something else.
fn said<'a>(labels: impl Iterator<Item = &'a LabelMember> + Clone) -> StatedLabel<'a> {
    let mut found: Option<(&LabelMember, &ClassLabel)> = None;
    let of = |cls: bool| move |label: &&LabelMember| is_cls(&label.name) == cls;
    for label in labels.clone().filter(of(true)).chain(labels.filter(of(false))) {
        match (&label.class, found) {
            (Ok(None), _) => {}
            (Ok(Some(class)), None) => found = Some((label, class)),
            (Ok(Some(class)), Some((_, known))) if class == known => {}
            (Ok(Some(class)), Some((first, known))) => {
                let comparable =
                    matches!(class, ClassLabel::Number(_)) == matches!(known, ClassLabel::Number(_));
                if comparable || is_cls(&first.name) == is_cls(&label.name) {
                    return StatedLabel::Differently(first, label);
                }
            }
            (Err(_), Some((first, _))) if is_cls(&first.name) && !is_cls(&label.name) => {}
            (Err(why), _) => return StatedLabel::Wrong(why),
        }
    }
    StatedLabel::Class(found.map(|(_, class)| class))
}

fn different(a: &LabelMember, b: &LabelMember) -> String {
    let class = |label: &LabelMember| match &label.class {
        Ok(Some(class)) => class.to_string(),
        _ => String::new(),
    };
    let (class_a, class_b) = (class(a), class(b));
    if a.name == b.name {
        format!("`{class_a}` and `{class_b}` in {}, which occurs twice", a.name)
    } else {
        format!("`{class_a}` in {} and `{class_b}` in {}", a.name, b.name)
    }
}

/// Whether the name is that of a text file with a class, `KEY.cls`.
pub(super) fn is_cls(name: &str) -> bool {
    has_extension(name, "cls")
}

/// Whether the name ends with the extension, in capitals or not.
pub(super) fn has_extension(name: &str, wanted: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| extension.eq_ignore_ascii_case(wanted))
}

/// Where the last component of a name begins.
fn own_name(name: &str) -> usize {
    name.rfind('/').map_or(0, |slash| slash + 1)
}

/// A member's name up to the first dot of its last component: WebDataset's key.
fn key_of(name: &str) -> &str {
    let start = own_name(name);
    name[start..].find('.').map_or(name, |dot| &name[..start + dot])
}

/// A member's name without its extension.
fn stem(name: &str) -> &str {
    let start = own_name(name);
    name[start..].rfind('.').map_or(name, |dot| &name[..start + dot])
}

/// Whether the last component of a name has a dot.
fn is_dotted(name: &str) -> bool {
    name[own_name(name)..].contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (Image, class) of each image, as text, of members `NAME` and `NAME=CLASS`; then the orphans.
    fn paired(members: &[&str]) -> Result<Vec<String>, String> {
        let mut images: Vec<&str> = members.iter().copied().filter(|name| !name.contains('=')).collect();
        let labels = members.iter().filter_map(|member| member.split_once('='));
        let mut labels: Vec<LabelMember> = labels
            .map(|(name, class)| LabelMember {
                name: name.to_owned(),
                class: match class {
                    "" => Ok(None),
                    "!" => Err("wrong".to_owned()),
                    class => {
                        Ok(Some(class.parse().map_or(ClassLabel::Name(class.to_owned()), ClassLabel::Number)))
                    }
                },
                is_silent: false,
            })
            .collect();
        images.sort_unstable();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let pairing = pair(&images, &labels)?;
        assert_eq!(pairing.verdicts.len(), images.len());
        let image = |(image, verdict): (&&str, &ImageVerdict<'_>)| match verdict {
            ImageVerdict::Class(class) => {
                format!("{image}={}", class.map_or_else(String::new, ToString::to_string))
            }
            ImageVerdict::Bad(why) => format!("{image}: {why}"),
            ImageVerdict::Further => format!("{image} further"),
        };
        let orphans = pairing.orphans.iter().map(|label| format!("{} of none", label.name));
        Ok(images.iter().zip(&pairing.verdicts).map(image).chain(orphans).collect())
    }

    fn assert_paired(members: &[&str], expected: &[&str]) {
        assert_eq!(
            paired(members),
            Ok(expected.iter().map(|&text| text.to_owned()).collect()),
            "{members:?}"
        );
    }

    #[test]
    fn a_key_ends_at_the_first_dot_as_webdataset_has_it() {
        assert_paired(&["a.jpg", "a.cls=x", "b.png", "b.json=y", "c.jpg"], &["a.jpg=x", "b.png=y", "c.jpg="]);
        assert_paired(
            &["7.left.jpg", "7.right.jpg", "7.cls=x", "8.left.jpg"],
            &["7.left.jpg=x", "7.right.jpg=x", "8.left.jpg="],
        );
        assert_paired(
            &["7.image.jpg", "7.target.cls=x", "8.image.jpg", "8.target.cls=y"],
            &["7.image.jpg=x", "8.image.jpg=y"],
        );
        assert_paired(&["v1.0/a.jpg", "v1.0/a.cls=x", "v2.0/a.jpg"], &["v1.0/a.jpg=x", "v2.0/a.jpg="]);
        assert_paired(&["a.jpg", "a.png", "a.cls=x"], &["a.jpg=x", "a.png=x"]);
        assert_paired(&["A/0.JPG", "B/0.CLS=x", "B/0.Jpeg"], &["A/0.JPG=", "B/0.Jpeg=x"]);
    }

    #[test]
    fn whole_names_come_before_keys() {
        assert_paired(
            &["IMG.0.jpg", "IMG.0.cls=x", "IMG.1.jpg", "IMG.1.cls=y", "IMG.jpg", "IMG.cls=z"],
            &["IMG.0.jpg=x", "IMG.1.jpg=y", "IMG.jpg=z"],
        );
        // An image that lost its label takes no other's, a label that lost its image goes to no other.
        assert_paired(
            &["IMG.0.jpg", "IMG.0.cls=x", "IMG.1.jpg", "IMG.2.cls=y"],
            &["IMG.0.jpg=x", "IMG.1.jpg=", "IMG.2.cls of none"],
        );
        assert_paired(&["a.1.jpg", "a.1.cls=x", "a.2.jpg", "a.cls=y"], &["a.1.jpg=x", "a.2.jpg=y"]);
        assert_paired(&["a.jpg", "a.jpg.cls=x", "a.png", "a.png.json=y"], &["a.jpg=x", "a.png=y"]);
        assert_paired(
            &["2.5.1.jpg", "2.5.1.json=x", "2.5.10.jpg", "2.5.10.json=y"],
            &["2.5.1.jpg=x", "2.5.10.jpg=y"],
        );
    }

    #[test]
    fn a_further_picture_of_a_sample_is_no_image_of_its_class() {
        assert_paired(&["a.jpg", "a.seg.png", "a.cls=x"], &["a.jpg=x", "a.seg.png further"]);
        assert_paired(&["a.jpg", "a.seg.png", "a.y.cls=x"], &["a.jpg=x", "a.seg.png further"]);
        assert_paired(&["a.jpg", "a.seg.png"], &["a.jpg=", "a.seg.png="]);
    }

    #[test]
    fn two_classes_of_one_image_are_told() {
        assert_paired(
            &["a.jpg", "a.cls=x", "a.cls=y", "b.jpg", "b.cls=x", "b.cls=x"],
            &["a.jpg: its class is `x` and `y` in a.cls, which occurs twice; keep one of them", "b.jpg=x"],
        );
        assert_paired(
            &["a.jpg", "a.cls=x", "a.json=y"],
            &["a.jpg: its class is `x` in a.cls and `y` in a.json; keep one of them"],
        );
        // A number and a name may be of the same class.
        assert_paired(&["a.jpg", "a.cls=3", "a.json=y"], &["a.jpg=3"]);
        assert_paired(
            &["a.jpg", "a.cls=3", "a.cls=y"],
            &["a.jpg: its class is `3` and `y` in a.cls, which occurs twice; keep one of them"],
        );
        assert_eq!(
            paired(&["IMG.0.image.jpg", "IMG.0.y.cls=a", "IMG.1.image.jpg", "IMG.1.y.cls=b"]),
            Err("IMG.0.image.jpg may belong to either of two classes: `a` in IMG.0.y.cls and `b` in IMG.1.y.cls"
                .to_owned())
        );
    }

    #[test]
    fn a_label_that_is_wrong_makes_its_image_so() {
        assert_paired(&["a.jpg", "a.cls=!", "a.json=x"], &["a.jpg: wrong"]);
        assert_paired(&["a.jpg", "a.cls=x", "a.json=!"], &["a.jpg=x"]);
        assert_paired(&["a.jpg", "a.cls=", "a.json=x"], &["a.jpg=x"]);
        assert_paired(&["a.jpg", "a.cls=x", "a.cls=!"], &["a.jpg: wrong"]);
    }

    #[test]
    fn labels_without_an_image_are_orphans_wherever_they_stand() {
        assert_paired(
            &["b.jpg", "b.cls=x", "a.cls=x", "b-1.cls=x", "c.json="],
            &["b.jpg=x", "a.cls of none", "b-1.cls of none", "c.json of none"],
        );
        assert_paired(&["a.cls=x"], &["a.cls of none"]);
        assert_paired(&[], &[]);
    }
}
