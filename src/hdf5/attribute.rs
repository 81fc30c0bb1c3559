//! Attributes: small values that belong to the file, a group or a dataset.

use std::sync::Arc;

use hdf5_reader::RawAttribute;
use hdf5_reader::messages::dataspace::DataspaceType;

use super::dataset::{describe, reference_size};
use super::source::Hdf5Source;
use super::{ElementType, Hdf5Error, Number, strings};

/// A small value that belongs to the file or to a dataset.
#[derive(Debug)]
pub struct Attribute {
    name: String,
    kind: ElementType,
    shape: Vec<u64>,
    bytes: Vec<u8>,
    source: Arc<Hdf5Source>,
}

impl Attribute {
    pub(super) fn of(attribute: RawAttribute, source: &Arc<Hdf5Source>) -> Result<Self, Hdf5Error> {
        let (message, stored) = attribute.into_parts();
        let kind = ElementType::of(&message.datatype, &stored, reference_size(source));
        let elements = message.dataspace.num_elements().ok().and_then(|n| usize::try_from(n).ok());
        let fits = elements.and_then(|n| n.checked_mul(kind.size(reference_size(source))));
        if fits != Some(message.raw_data.len()) {
            let object = format!("the attribute {}", message.name);
            return Err(Hdf5Error::damaged(object, "its size is not that of its values"));
        }
        let shape = match message.dataspace.dataspace_type {
            DataspaceType::Null => vec![0],
            _ => message.dataspace.dims,
        };
        Ok(Self { name: message.name, kind, shape, bytes: message.raw_data, source: Arc::clone(source) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its elements are.
    pub fn kind(&self) -> &ElementType {
        &self.kind
    }

    /// Its sizes; empty for a single value.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Its one text.
    ///
    /// # Errors
    /// It is something else, or damaged.
    pub fn text(&self) -> Result<String, Hdf5Error> {
        let single = matches!(self.shape[..], [] | [1]);
        let texts =
            strings::read(&self.kind, &self.bytes, &self.source, &format!("the attribute {}", self.name))?;
        texts.into_iter().next().filter(|_| single).ok_or_else(|| self.wrong("one text"))
    }

    /// Its numbers, which are exactly of the type `T`.
    ///
    /// # Errors
    /// They are not.
    pub fn numbers<T: Number>(&self) -> Result<Vec<T>, Hdf5Error> {
        self.kind.numbers(&self.bytes).ok_or_else(|| self.wrong(T::NAME))
    }

    /// Its one number.
    ///
    /// # Errors
    /// It is not one number of the type `T`.
    pub fn number<T: Number>(&self) -> Result<T, Hdf5Error> {
        match self.numbers()?[..] {
            [number] if self.shape.is_empty() => Ok(number),
            _ => Err(self.wrong(&format!("one {}", T::NAME))),
        }
    }

    fn wrong(&self, expected: &str) -> Hdf5Error {
        Hdf5Error::WrongType { found: describe(&self.kind, &self.shape), expected: expected.to_owned() }
    }
}
