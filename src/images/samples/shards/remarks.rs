//! What a set of shards holds beside images and labels, and what the user ought to know of it before hours of work.

use std::collections::{BTreeMap, BTreeSet};

use super::super::classes::ClassNames;
use super::folders::Folders;
use super::index::JSON_FIELDS;

/// Extensions and fields that are told apart: a hostile shard may have as many as it has members.
const MOST: usize = 100;
/// Of these, as many are named.
const NAMED: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// Members that hold labels, used or not.
    pub labels: usize,
    /// `.json` of images that have no field for a class.
    pub without_class: usize,
    /// The fields that they have instead.
    fields: BTreeSet<String>,
    /// Members that are neither images nor labels, by extension.
    others: BTreeMap<String, usize>,
    pub hidden: usize,
    /// Images that are a further picture of a sample, and the first of them.
    further: Option<(usize, String)>,
    /// The folders that became classes.
    pub folders: Option<Folders>,
}

impl Remarks {
    pub(super) fn add_fields(&mut self, fields: Vec<String>) {
        if self.fields.len() < MOST {
            self.fields.extend(fields);
        }
    }

    pub(super) fn add_other(&mut self, name: &str) {
        let own_name = name.rsplit('/').next().unwrap_or(name);
        let extension =
            own_name.rsplit_once('.').map_or_else(String::new, |(_, extension)| extension.to_lowercase());
        if self.others.len() < MOST || self.others.contains_key(&extension) {
            *self.others.entry(extension).or_default() += 1;
        }
    }

    pub(super) fn add_further(&mut self, name: &str) {
        self.further.get_or_insert_with(|| (0, name.to_owned())).0 += 1;
    }

    /// Whether a member says, or was meant to say, of which class an image is.
    pub(super) fn has_labels(&self) -> bool {
        self.labels > 0 || self.without_class > 0
    }

    /// What to tell of it, where the images are of `classes`.
    pub(super) fn notes(&self, classes: &ClassNames) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(Folders { root, names }) = &self.folders {
            let below = if root.is_empty() { String::new() } else { format!(" below {root}/") };
            notes.push(format!(
                "the shards hold no labels, so the classes are the folders of their images{below}: {}",
                listed(names.iter().map(String::as_str))
            ));
        }
        if let Some((count, first)) = &self.further {
            let were = if *count == 1 { "image was" } else { "images were" };
            notes.push(format!(
                "{count} {were} passed over, the first {first}: without a label of its own, it is a further picture of a sample \
                 that has one with a shorter name"
            ));
        }
        let keys = JSON_FIELDS.join(", ");
        if classes.is_empty() && (self.without_class > 0 || self.labels == 0 && !self.others.is_empty()) {
            let json = match self.without_class {
                0 => "and no KEY.json".to_owned(),
                count => format!(
                    "and the .json of {} have none of the fields {keys}, but {}",
                    images(count),
                    self.fields_listed()
                ),
            };
            let others = match self.others.is_empty() {
                true => String::new(),
                false => format!("; other members: {}", self.others_listed()),
            };
            notes.push(format!("no image has a class: there is no KEY.cls, {json}{others}"));
            return notes;
        }
        if self.without_class > 0 {
            notes.push(format!(
                "the .json of {} have none of the fields {keys}, but {}",
                images(self.without_class),
                self.fields_listed()
            ));
        }
        notes
    }

    fn fields_listed(&self) -> String {
        if self.fields.is_empty() {
            "no fields at all".to_owned()
        } else {
            listed(self.fields.iter().map(String::as_str))
        }
    }

    fn others_listed(&self) -> String {
        let named = |(extension, count): (&String, &usize)| match extension.as_str() {
            "" => format!("{count} without an extension"),
            extension => format!("{count} .{extension}"),
        };
        listed(self.others.iter().map(named))
    }
}

fn images(count: usize) -> String {
    if count == 1 { "1 image".to_owned() } else { format!("{count} images") }
}

/// The first few of the texts.
fn listed(texts: impl ExactSizeIterator<Item = impl AsRef<str>>) -> String {
    let more = texts.len().saturating_sub(NAMED);
    let mut line = String::new();
    for text in texts.take(NAMED) {
        let separator = if line.is_empty() { "" } else { ", " };
        line.push_str(separator);
        line.extend(text.as_ref().chars().take(60));
    }
    if more > 0 {
        line.push_str(&format!(" and {more} more"));
    }
    line
}
