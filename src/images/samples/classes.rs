//! Classes that are known by a number or a name in the data themselves, and the list of names that goes with numbers.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::labels::{parse_label, sort_class_names};

/// Why a list of class names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClassesError {
    /// The file cannot be read as text.
    #[error("cannot read the class names in {}; expected a text file with one name a line, that of class 0 first", path.display())]
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

/// Classes in the order in which they were met, and the list of names where there is one.
#[derive(Debug, Default)]
pub(super) struct ClassNames {
    /// The names of the numbers 0, 1 …, and where they came from.
    listed: Option<(Vec<String>, PathBuf)>,
    met: Vec<ClassLabel>,
    number_of: HashMap<ClassLabel, usize>,
}

impl ClassNames {
    /// With the names of a text file: one a line, that of class 0 first.
    pub(super) fn read(path: &Path) -> Result<ClassNames, ClassesError> {
        let read = |source| ClassesError::Read { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(read)?;
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
        let label = match (label, &self.listed) {
            (ClassLabel::Number(number), Some((names, path))) => {
                let name = usize::try_from(number).ok().and_then(|number| names.get(number));
                let name = name.ok_or_else(|| {
                    let (last, path) = (names.len().saturating_sub(1), path.display());
                    format!("its class is {number}, but {path} names the classes 0 to {last}")
                })?;
                ClassLabel::Name(name.clone())
            }
            (label, _) => label,
        };
        if let Some(&number) = self.number_of.get(&label) {
            return Ok(number);
        }
        if let (ClassLabel::Name(name), Some((names, path))) = (&label, &self.listed)
            && !names.contains(name)
        {
            return Err(format!("its class {name:?} is not one of those in {}", path.display()));
        }
        self.met.push(label.clone());
        self.number_of.insert(label, self.met.len() - 1);
        Ok(self.met.len() - 1)
    }

    /// The names of the classes that were met, and for each running number its place among them.
    ///
    /// The order is that of the list where there is one, else that of [`sort_class_names`].
    pub(super) fn finish(self) -> (Vec<String>, Vec<usize>) {
        let name = |label: &ClassLabel| match label {
            ClassLabel::Number(number) => number.to_string(),
            ClassLabel::Name(name) => name.clone(),
        };
        let mut order: Vec<usize> = (0..self.met.len()).collect();
        match &self.listed {
            Some((names, _)) => {
                let place: HashMap<&String, usize> = names.iter().zip(0..).collect();
                order.sort_by_key(|&index| place.get(&name(&self.met[index])).copied());
            }
            None => {
                let mut names: Vec<String> = self.met.iter().map(name).collect();
                sort_class_names(&mut names);
                let place: HashMap<&String, usize> = names.iter().zip(0..).collect();
                order.sort_by_key(|&index| place.get(&name(&self.met[index])).copied());
            }
        }
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(new, &old)| place[old] = new);
        (order.iter().map(|&index| name(&self.met[index])).collect(), place)
    }
}
