//! Classes that are known by a number or a name in the data themselves, and the list of names that goes with numbers.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::labels::{parse_label, sort_class_names};
use super::places::read_text;

/// Why a list of class names cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassesError {
    /// The file cannot be read as text.
    #[error("cannot read the class names in {}; expected a text file with one name on each line, class 0 \
             first", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A name that is missing or there twice.
    #[error("cannot use the class names in {}: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        why: String,
    },
}

/// A class as the data have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ClassLabel {
    /// By number, from 0 on.
    Number(i64),
    /// By name.
    Name(String),
}

impl ClassLabel {
    /// A number where the text is one, else a name, by the rule of [`labels`](super::labels).
    pub(super) fn parse(text: &str) -> Result<Option<ClassLabel>, String> {
        parse_label(text)
    }

    /// `None` for a negative number, which means that the class is unknown.
    pub(super) fn of_number(number: i64) -> Option<ClassLabel> {
        (number >= 0).then_some(ClassLabel::Number(number))
    }
}

impl fmt::Display for ClassLabel {
    /// The class's name, if no list has another for its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassLabel::Number(number) => write!(f, "{number}"),
            ClassLabel::Name(name) => f.write_str(name),
        }
    }
}

/// Classes in the order in which they were met, and the list of names where there is one.
#[derive(Debug, Default)]
pub(super) struct ClassNames {
    /// The names of the numbers 0, 1 …, and where they came from.
    listed: Option<(Vec<String>, PathBuf)>,
    met: Vec<String>,
    number_of: HashMap<String, usize>,
}

impl ClassNames {
    /// With the names of a text file: one a line, that of class 0 first.
    pub(super) fn read(path: &Path) -> Result<ClassNames, ClassesError> {
        let read = |source| ClassesError::Read { path: path.to_owned(), source };
        let text = read_text(path).map_err(read)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
        let invalid = |why: String| ClassesError::Invalid { path: path.to_owned(), why };
        let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        let mut seen = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(invalid(format!("line {} is empty", index + 1)));
            }
            if let Some(first) = seen.insert(name, index) {
                return Err(invalid(format!("lines {} and {} are both {name}", first + 1, index + 1)));
            }
        }
        Ok(ClassNames { listed: Some((names, path.to_owned())), ..ClassNames::default() })
    }

    /// The running number of a class, in the order in which classes are met.
    ///
    /// # Errors
    /// There is a list of names, and the class is not on it.
    pub(super) fn number(&mut self, label: ClassLabel) -> Result<usize, String> {
        let label = match (label, &self.listed) {
            // A number with zeros before it is a name, unless there are names for numbers.
            (ClassLabel::Name(name), Some((names, _))) if !names.contains(&name) => {
                name.parse().ok().and_then(ClassLabel::of_number).unwrap_or(ClassLabel::Name(name))
            }
            (label, _) => label,
        };
        let name = match (label, &self.listed) {
            (ClassLabel::Number(number), Some((names, path))) => {
                let name = usize::try_from(number).ok().and_then(|number| names.get(number));
                name.cloned().ok_or_else(|| {
                    let (last, path) = (names.len().saturating_sub(1), path.display());
                    format!("its class is {number}, but {path} names the classes 0 to {last}")
                })?
            }
            (label, _) => label.to_string(),
        };
        if let Some(&number) = self.number_of.get(&name) {
            return Ok(number);
        }
        if let Some((names, path)) = &self.listed
            && !names.contains(&name)
        {
            return Err(format!("its class {name:?} is not one of those in {}", path.display()));
        }
        self.met.push(name.clone());
        self.number_of.insert(name, self.met.len() - 1);
        Ok(self.met.len() - 1)
    }

    /// Whether no class was met.
    pub(super) fn is_empty(&self) -> bool {
        self.met.is_empty()
    }

    /// The names of the classes that were met, and for each running number its place among them.
    ///
    /// The order is that of the list where there is one, else that of [`sort_class_names`].
    pub(super) fn finish(self) -> (Vec<String>, Vec<usize>) {
        let mut names = self.met.clone();
        match &self.listed {
            Some((listed, _)) => {
                let place: HashMap<&String, usize> = listed.iter().zip(0..).collect();
                names.sort_by_key(|name| place.get(name).copied());
            }
            None => sort_class_names(&mut names),
        }
        let place: HashMap<&String, usize> = names.iter().zip(0..).collect();
        let place = self.met.iter().map(|name| place.get(name).copied().unwrap_or_default()).collect();
        (names, place)
    }
}
