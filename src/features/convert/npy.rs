//! The `.npy` format of NumPy: its header, and arrays of numbers and texts.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. The header is a Python literal of three
//! known keys, which is why it is read here: the crates for it parse all of Python's literals with a grammar of their own.
//! Arrays of Python objects are pickles, which run code when they are opened; they are refused by their type alone.

mod columns;
mod dtype;
mod rows;

use std::io::{self, Read, Write};
use std::path::Path;

pub(super) use self::columns::{read_floats, read_integers, read_texts, write_one_text, write_texts};
pub(super) use self::dtype::DType;
pub(super) use self::rows::{NpyRows, each_block_c, write_values};
use super::ConvertError;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy itself refuses headers above 10,000 bytes.
const MAX_HEADER: usize = 1 << 16;

/// The header of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NpyHeader {
    pub(super) dtype: DType,
    pub(super) fortran: bool,
    pub(super) shape: Vec<usize>,
    /// Bytes before the values.
    pub(super) length: u64,
}

impl NpyHeader {
    /// Reads the header at the beginning of `reader`; `what` is the array's name in messages.
    pub(super) fn read(reader: &mut dyn Read, path: &Path, what: &str) -> Result<Self, ConvertError> {
        let cut = || ConvertError::cut(path, format!("the header of {what} ends too early"));
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(cut())?;
        if &start[..6] != MAGIC {
            let why = format!("{what} is not a NumPy array; save it with np.save");
            return Err(ConvertError::unusable(path, why));
        }
        let mut length = [0; 4];
        let width = if start[6] == 1 { 2 } else { 4 };
        reader.read_exact(&mut length[..width]).map_err(cut())?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER || !(1..=3).contains(&start[6]) {
            return Err(ConvertError::damaged(path, format!("{what} has an impossible header")));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(cut())?;
        let text = String::from_utf8_lossy(&text);
        let parsed = Literal { rest: &text }.header();
        let (descr, fortran, shape) = parsed
            .ok_or_else(|| ConvertError::damaged(path, format!("the header of {what} cannot be read")))?;
        let dtype = match descr {
            Some(descr) => DType::parse(&descr),
            None => {
                Err("its values have several fields; save the features alone, as an array of numbers"
                    .to_owned())
            }
        };
        let dtype =
            dtype.map_err(|why| ConvertError::unusable(path, format!("{what} cannot be used: {why}")))?;
        Ok(Self { dtype, fortran, shape, length: (8 + width + length) as u64 })
    }

    /// Bytes of all values; `None` where no file can hold so many.
    pub(super) fn bytes(&self) -> Option<u64> {
        let values = self.shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n))?;
        u64::try_from(values.checked_mul(self.dtype.size)?).ok()
    }

    /// Number of values in a row, and its bytes; 0 where that is impossible.
    fn row(&self) -> (usize, usize) {
        let width = self.shape.iter().skip(1).try_fold(1_usize, |product, &n| product.checked_mul(n));
        let bytes = width.and_then(|width| width.checked_mul(self.dtype.size));
        (width.unwrap_or(0), bytes.unwrap_or(0))
    }

    /// Makes sure that it is a table of numbers with at least one value a row.
    pub(super) fn check_features(&self, path: &Path, what: &str) -> Result<(), ConvertError> {
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let shape = format!("{} of {}", self.dtype.name(), shape.join(" x "));
        if self.dtype.is_text() || self.dtype.kind == b'b' || self.shape.len() < 2 || self.row().1 == 0 {
            let why = format!("{what} is {shape}, and features are numbers of rows x values");
            return Err(ConvertError::unusable(path, why));
        }
        Ok(())
    }

    /// Writes a header of format 1.0 as NumPy does.
    pub(super) fn write(out: &mut dyn Write, dtype: DType, shape: &[usize]) -> io::Result<()> {
        let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
        let sizes = if shape.len() > 1 { sizes.trim_end_matches(", ") } else { sizes.trim_end() };
        let mut text =
            format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({sizes}), }}", dtype.describe());
        let padding = 63 - (10 + text.len()) % 64;
        text.extend(std::iter::repeat_n(' ', padding).chain(['\n']));
        let length = u16::try_from(text.len()).map_err(io::Error::other)?;
        out.write_all(MAGIC)?;
        out.write_all(&[1, 0])?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(text.as_bytes())
    }
}

/// The rest of a Python literal.
struct Literal<'t> {
    rest: &'t str,
}

impl<'t> Literal<'t> {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` in any order; a type of several fields is `None`.
    fn header(mut self) -> Option<(Option<String>, bool, Vec<usize>)> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.take('{')?;
        while !self.next_is('}') {
            let key = self.text()?;
            self.take(':')?;
            match key {
                "descr" if self.next_is('[') => {
                    let end = self.rest.find("'fortran_order'").or_else(|| self.rest.rfind('}'))?;
                    self.rest = &self.rest[end..];
                    descr = Some(None);
                    continue;
                }
                "descr" => descr = Some(Some(self.text()?.to_owned())),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.sizes()?),
                _ => return None,
            }
            if !self.next_is('}') {
                self.take(',')?;
            }
        }
        Some((descr?, fortran?, shape?))
    }

    fn next_is(&mut self, expected: char) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(expected)
    }

    fn take(&mut self, expected: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(expected)?;
        Some(())
    }

    fn text(&mut self) -> Option<&'t str> {
        self.rest = self.rest.trim_start();
        let quote = self.rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (text, rest) = self.rest[1..].split_once(quote)?;
        self.rest = rest;
        Some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        self.rest = self.rest.trim_start();
        let (value, rest) = match self.rest.strip_prefix("True") {
            Some(rest) => (true, rest),
            None => (false, self.rest.strip_prefix("False")?),
        };
        self.rest = rest;
        Some(value)
    }

    fn sizes(&mut self) -> Option<Vec<usize>> {
        self.take('(')?;
        let (inside, rest) = self.rest.split_once(')')?;
        self.rest = rest;
        // Python 2 wrote long numbers as 3L.
        let sizes =
            inside.split(',').map(|size| size.trim().trim_end_matches('L')).filter(|size| !size.is_empty());
        sizes.map(|size| size.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(text: &str) -> Result<NpyHeader, ConvertError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        NpyHeader::read(&mut &bytes[..], Path::new("x.npy"), "the array")
    }

    #[test]
    fn headers_are_read_in_any_order_and_what_is_written_is_read() {
        let header = header_of("{'shape': (3L, 4), 'descr': '>f8', 'fortran_order': True}").unwrap();
        assert_eq!((header.shape, header.fortran), (vec![3, 4], true));
        assert_eq!(header.dtype, DType { big_endian: true, kind: b'f', size: 8 });
        for shape in [vec![], vec![7], vec![2, 3], vec![5, 2, 1, 3]] {
            let mut bytes = Vec::new();
            NpyHeader::write(&mut bytes, DType::F32, &shape).unwrap();
            assert_eq!(bytes.len() % 64, 0);
            let read = NpyHeader::read(&mut &bytes[..], Path::new("x"), "the array").unwrap();
            assert_eq!(
                read,
                NpyHeader { dtype: DType::F32, fortran: false, shape, length: bytes.len() as u64 }
            );
        }
    }

    #[test]
    fn pickles_fields_and_nonsense_are_refused_by_their_header() {
        let message = |text: &str| header_of(text).unwrap_err().to_string();
        let pickle = message("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }");
        assert!(pickle.contains("pickle") && pickle.contains("np.save"), "{pickle}");
        let fields =
            message("{'descr': [('a', '<f4'), ('b', '<i8')], 'fortran_order': False, 'shape': (2,), }");
        assert!(fields.contains("several fields"), "{fields}");
        assert!(message("{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }").contains("\"<c8\""));
        for nonsense in
            ["", "{", "{'descr'", "{'descr': '<f4', 'shape': (-1,), 'fortran_order': False}", "{'a': 'b'}"]
        {
            assert!(message(nonsense).contains("cannot be read"), "{nonsense}");
        }
    }
}
