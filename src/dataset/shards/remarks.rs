//! What a set of shards holds beside images and labels, and what the user ought to know of it before hours of work.

use std::collections::{BTreeMap, BTreeSet};

use super::super::classes::ClassNames;
use super::folders::ClassFolders;
use super::index::JSON_FIELDS;

/// Extensions and fields that are told apart: a hostile shard may have as many as it has members.
const MOST: usize = 100;
/// Of these, as many are named.
const NAMED: usize = 12;

#[derive(Debug, Default)]
pub(super) struct ShardRemarks {
    /// Members that hold labels, used or not.
    pub labels: usize,
    /// `.json` of images that have no field for a class.
    pub without_class: usize,
    /// The fields that they have instead.
    fields: BTreeSet<String>,
    /// Members that are neither images nor labels, by extension.
    others: BTreeMap<String, usize>,
    /// The folders that became classes.
    pub folders: Option<ClassFolders>,
    /// An image outside of the folders that could be classes otherwise.
    pub outside_of_folders: Option<String>,
}

impl ShardRemarks {
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

    /// Whether a member says, or was meant to say, of which class an image is.
    pub(super) fn has_labels(&self) -> bool {
        self.labels > 0 || self.without_class > 0
    }

    /// Why no image has a label, where the shards hold `.json` that were to say, or had to in the field `field`.
    pub(super) fn why_no_labels(&self, field: Option<&str>) -> Option<String> {
        if self.labels > 0 || self.without_class == 0 && field.is_none() {
            return None;
        }
        Some(match (field, self.without_class) {
            (Some(field), 0) => format!("no image has a .json, so none has the field {field}"),
            (Some(field), _) => format!("no .json has the field {field}{}", self.fields_seen()),
            (None, _) => {
                format!(
                    "there is no KEY.cls, and no .json has one of the fields {}{}",
                    JSON_FIELDS.join(", "),
                    self.fields_seen()
                )
            }
        })
    }

    /// What to tell of it, where the images are of `classes`.
    pub(super) fn notes(&self, classes: &ClassNames) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(ClassFolders { root, names }) = &self.folders {
            let below = if root.is_empty() { String::new() } else { format!(" below {root}/") };
            notes.push(format!(
                "the shards hold no labels, so the classes are the folders of their images{below}: {}",
                listed(names.iter().map(String::as_str))
            ));
        }
        if self.without_class > 0 {
            let images = if self.without_class == 1 { "image" } else { "images" };
            notes.push(format!(
                "the .json of {} {images} has no field for the class{}",
                self.without_class,
                self.fields_seen()
            ));
        }
        let outside = match &self.outside_of_folders {
            Some(image) => format!(", and folders are not classes, because {image} is in none of them"),
            None => String::new(),
        };
        let others = match self.others.is_empty() {
            true => String::new(),
            false => format!(" (other members: {})", self.others_listed()),
        };
        if classes.is_empty() && self.labels == 0 && !(outside.is_empty() && others.is_empty()) {
            notes.push(format!("no image has a label: there is no KEY.cls and no KEY.json{outside}{others}"));
        }
        notes
    }

    fn fields_seen(&self) -> String {
        match self.fields.is_empty() {
            true => String::new(),
            false => format!(" (fields seen: {})", listed(self.fields.iter().map(String::as_str))),
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
