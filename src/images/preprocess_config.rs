//! Preprocessing as others write it down beside a network: `preprocessor_config.json` of Hugging Face's transformers and
//! `config.json` of timm become a [`Preprocess`].
//!
//! Nothing in such a file is passed over in silence. A key that this program does not know, or cannot do, is an error that
//! names the file, the key and the remedy, because a recipe that is right but for one key gives features that look right.

use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::preprocess::{Preprocess, PreprocessError, PreprocessOverrides, Preset};
use crate::files::folder_of;
use crate::messages::Cause;

#[cfg(test)]
mod tests;
mod timm;
mod transformers;

/// A recipe that was found beside a network.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessConfig {
    /// The file that says it.
    pub path: PathBuf,
    /// What wrote it, such as `CLIPImageProcessor of transformers`.
    pub origin: String,
    /// The recipe.
    pub preprocess: Preprocess,
    /// What is not quite as the file says it, if anything.
    pub note: Option<String>,
}

/// Why a file's preprocessing is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum PreprocessConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not valid JSON; download it again, or give the preprocessing as a preset", path.display())]
    Json { path: PathBuf, source: Cause },
    #[error("{}: {key}: {problem}; {REMEDY}", path.display())]
    Key { path: PathBuf, key: String, problem: String },
    #[error("{}: {problem}; {REMEDY}", path.display())]
    Unknown { path: PathBuf, problem: String },
    #[error("{}: the preprocessing that it describes cannot be done here; {REMEDY}", path.display())]
    Recipe { path: PathBuf, source: PreprocessError },
}

/// What helps against every one of them.
const REMEDY: &str =
    "give the preprocessing with --preprocess torchvision|keras-caffe|tf and the options that change it";

/// Files that may say it, the most trusted first.
const FILES: [&str; 3] = ["preprocessor_config.json", "processor_config.json", "config.json"];

/// What the files beside `network`, or else those of the folder above, say about its preprocessing; `None` where there is
/// none that says anything.
///
/// # Errors
/// A file says it in a way that is not understood or cannot be done.
pub fn find(network: &Path) -> Result<Option<PreprocessConfig>, PreprocessConfigError> {
    let beside = folder_of(network);
    let above = match beside.components().next_back() {
        Some(Component::Normal(_)) => folder_of(beside).to_path_buf(),
        _ => beside.join(".."),
    };
    for folder in [beside, &above] {
        for name in FILES {
            let path = folder.join(name);
            if path.is_file()
                && let Some(found) = read(&path)?
            {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// What the file at `path` says; `None` where it says nothing about preprocessing, as a `config.json` of transformers.
///
/// # Errors
/// As for [`find`].
pub fn read(path: &Path) -> Result<Option<PreprocessConfig>, PreprocessConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| PreprocessConfigError::Read { path: path.to_path_buf(), source })?;
    let map: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|source| PreprocessConfigError::Json { path: path.to_path_buf(), source: source.into() })?;
    let is_model_config = path.file_name().is_some_and(|name| name == "config.json");
    let mut keys = UnusedKeys { path: path.to_path_buf(), map };
    if let Some(Value::Object(inner)) = keys.map.remove("image_processor") {
        return transformers::read(UnusedKeys { map: inner, ..keys }).map(Some);
    }
    if keys.map.contains_key("pretrained_cfg") || keys.is_flat_timm() {
        return timm::read(keys).map(Some);
    }
    if is_model_config || path.file_name().is_some_and(|name| name == "processor_config.json") {
        return Ok(None);
    }
    transformers::read(keys).map(Some)
}

/// The keys of a file that have not been used yet.
struct UnusedKeys {
    path: PathBuf,
    map: Map<String, Value>,
}

impl UnusedKeys {
    /// timm's files of early versions have the keys of `pretrained_cfg` at the top.
    fn is_flat_timm(&self) -> bool {
        ["architecture", "input_size", "mean"].iter().all(|key| self.map.contains_key(*key))
    }

    /// The value of `key`, used up; `None` where it is absent or null, which both mean that it was not set.
    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, PreprocessConfigError> {
        match self.map.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let shown = value.to_string();
                serde_json::from_value(value)
                    .map(Some)
                    .map_err(|error| self.error(key, format!("{shown} is not understood ({error})")))
            }
        }
    }

    /// As [`take`](Self::take), one number for all three channels or one for each.
    fn take_channels(&mut self, key: &str) -> Result<Option<[f64; 3]>, PreprocessConfigError> {
        let Some(value) = self.take::<Value>(key)? else { return Ok(None) };
        let numbers: Option<Vec<f64>> = match &value {
            Value::Number(number) => number.as_f64().map(|number| vec![number; 3]),
            Value::Array(numbers) => numbers.iter().map(Value::as_f64).collect(),
            _ => None,
        };
        match numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok()) {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.error(key, format!("{value} is not one number for each of 3 channels"))),
        }
    }

    /// Uses up keys that say nothing about pixels.
    fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.remove(*key);
        }
    }

    /// Makes sure that nothing is left but keys that are not set.
    fn finish(self) -> Result<PathBuf, PreprocessConfigError> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            Some((key, value)) => {
                let problem = format!("{value} is of an unknown meaning, and may change the pixels");
                Err(self.error(key, problem))
            }
            None => Ok(self.path),
        }
    }

    fn error(&self, key: &str, problem: impl Into<String>) -> PreprocessConfigError {
        PreprocessConfigError::Key { path: self.path.clone(), key: key.to_owned(), problem: problem.into() }
    }
}

/// The recipe with these fields, which leave nothing to the preset that they change.
fn recipe(path: &Path, fields: PreprocessOverrides) -> Result<Preprocess, PreprocessConfigError> {
    let base = Preprocess::preset(Preset::Torchvision).expect("only \"custom\" has no recipe of its own");
    match base.with(&fields) {
        Ok(recipe) => Ok(recipe.named()),
        Err(source) => Err(PreprocessConfigError::Recipe { path: path.to_path_buf(), source }),
    }
}
