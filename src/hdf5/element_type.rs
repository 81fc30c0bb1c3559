//! What the elements of a dataset or an attribute are, and how their bytes become numbers.

use std::fmt;

use bytemuck::Zeroable;
use hdf5_reader::{ByteOrder, Datatype, StringPadding, StringSize, VarLenKind};

/// What an element is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "a variant says what its fields are")]
pub enum ElementType {
    /// A whole number.
    Integer(Integer),
    /// A number in IEEE 754's format of 2, 4 or 8 bytes.
    Float { size: usize, big_endian: bool },
    /// A text of at most `size` bytes.
    FixedText { size: usize, padding: Padding, utf8: bool },
    /// A text of any length.
    Text { utf8: bool },
    /// One of a list of names, each of which stands for a number.
    Enumeration { base: Integer, members: Vec<(String, i64)> },
    /// Anything else, in words; `size` bytes an element.
    Other { name: &'static str, size: usize },
}

/// How a whole number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer {
    /// In bytes.
    pub size: usize,
    /// Whether it may be negative.
    pub signed: bool,
    /// Whether the highest byte comes first.
    pub big_endian: bool,
}

/// What follows a text that is shorter than its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// NULs, the first of which ends the text.
    Null,
    /// Blanks.
    Space,
}

/// The properties of IEEE 754's formats in a datatype message: bit offset, precision, exponent (place, size), mantissa
/// (place, size), exponent's bias.
const HALF: [u8; 12] = [0, 0, 16, 0, 10, 5, 0, 10, 15, 0, 0, 0];
const SINGLE: [u8; 12] = [0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];
const DOUBLE: [u8; 12] = [0, 0, 64, 0, 52, 11, 0, 52, 0xff, 3, 0, 0];

impl ElementType {
    /// From the type as it was parsed and as it is stored. `reference` is the size of a reference to a text.
    pub(super) fn of(datatype: &Datatype, stored: &[u8], reference: usize) -> ElementType {
        match datatype {
            Datatype::FixedPoint { .. } => match whole(datatype, stored) {
                Some(integer) => ElementType::Integer(integer),
                None => ElementType::other("a whole number of an unusual size", datatype, reference),
            },
            Datatype::FloatingPoint { size, byte_order } => {
                let properties = stored.get(8..20);
                // Bytes in VAX's order have bit 6 set.
                let plain = stored.get(1).is_some_and(|flags| flags & 0x40 == 0);
                let ieee = match size {
                    2 => properties == Some(&HALF),
                    4 => properties == Some(&SINGLE),
                    8 => properties == Some(&DOUBLE),
                    _ => false,
                };
                if ieee && plain {
                    ElementType::Float {
                        size: usize::from(*size),
                        big_endian: *byte_order == ByteOrder::BigEndian,
                    }
                } else {
                    ElementType::other("a number in an unusual format", datatype, reference)
                }
            }
            Datatype::String { size: StringSize::Fixed(size), padding, encoding } => ElementType::FixedText {
                size: *size as usize,
                padding: if *padding == StringPadding::SpacePad { Padding::Space } else { Padding::Null },
                utf8: *encoding == hdf5_reader::StringEncoding::Utf8,
            },
            Datatype::String { size: StringSize::Variable, encoding, .. } => {
                ElementType::Text { utf8: *encoding == hdf5_reader::StringEncoding::Utf8 }
            }
            Datatype::VarLen { base, kind: VarLenKind::String, encoding, .. }
                if base.is_vlen_string_base() =>
            {
                ElementType::Text { utf8: *encoding == hdf5_reader::StringEncoding::Utf8 }
            }
            Datatype::Enum { base, members } => {
                // The type of the numbers stands behind the first eight bytes.
                let integer = whole(base, stored.get(8..).unwrap_or_default());
                let named = |integer: Integer| {
                    let named = members
                        .iter()
                        .map(|member| Some((member.name.clone(), integer.read(&member.value)?)));
                    Some(ElementType::Enumeration { base: integer, members: named.collect::<Option<_>>()? })
                };
                integer
                    .and_then(named)
                    .unwrap_or_else(|| ElementType::other("an enumeration", datatype, reference))
            }
            Datatype::Compound { .. } => ElementType::other("a compound type", datatype, reference),
            Datatype::Array { .. } => ElementType::other("an array type", datatype, reference),
            Datatype::VarLen { .. } => ElementType::other("lists of any length", datatype, reference),
            Datatype::Opaque { .. } => ElementType::other("opaque bytes", datatype, reference),
            Datatype::Reference { .. } => ElementType::other("references", datatype, reference),
            Datatype::Bitfield { .. } => ElementType::other("bit fields", datatype, reference),
        }
    }

    fn other(name: &'static str, datatype: &Datatype, reference: usize) -> ElementType {
        ElementType::Other { name, size: size_of_element(datatype, reference).unwrap_or(0) }
    }

    /// Bytes an element; 0 where that is not known.
    pub(super) fn size(&self, reference: usize) -> usize {
        match self {
            ElementType::Integer(integer) | ElementType::Enumeration { base: integer, .. } => integer.size,
            ElementType::Float { size, .. }
            | ElementType::FixedText { size, .. }
            | ElementType::Other { size, .. } => *size,
            ElementType::Text { .. } => reference,
        }
    }

    /// Whether it is the type `T`, in this machine's order of bytes or the other.
    pub fn is<T: Number>(&self) -> bool {
        match self {
            ElementType::Integer(integer) => {
                !T::FLOAT && integer.signed == T::SIGNED && integer.size == size_of::<T>()
            }
            ElementType::Float { size, .. } => T::FLOAT && *size == size_of::<T>(),
            _ => false,
        }
    }

    /// Whether it is exactly `T`, in this machine's order of bytes.
    pub(super) fn is_native<T: Number>(&self) -> bool {
        self.is::<T>() && self.big_endian() == cfg!(target_endian = "big")
    }

    fn big_endian(&self) -> bool {
        match self {
            ElementType::Integer(integer) => integer.big_endian,
            ElementType::Float { big_endian, .. } => *big_endian,
            _ => false,
        }
    }

    /// The numbers in `bytes`, where the elements are exactly of the type `T`.
    pub(super) fn numbers<T: Number>(&self, bytes: &[u8]) -> Option<Vec<T>> {
        if !self.is::<T>() {
            return None;
        }
        let mut numbers = vec![<T as Zeroable>::zeroed(); bytes.len() / size_of::<T>()];
        let raw: &mut [u8] = bytemuck::cast_slice_mut(&mut numbers);
        let whole = raw.len();
        raw.copy_from_slice(&bytes[..whole]);
        self.to_native::<T>(raw);
        Some(numbers)
    }

    /// Turns stored bytes of the type `T` into this machine's.
    pub(super) fn to_native<T: Number>(&self, bytes: &mut [u8]) {
        if self.big_endian() != cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
    }

    /// The numbers in `bytes` as whole numbers: integers, enumerations, and floats without a fraction. `None` where the
    /// elements are no numbers; the inner `None` where a float has a fraction or is out of range, NaN among them.
    pub(super) fn whole_numbers(&self, bytes: &[u8]) -> Option<Vec<Option<i64>>> {
        match self {
            ElementType::Integer(integer) | ElementType::Enumeration { base: integer, .. } => {
                Some(bytes.chunks_exact(integer.size).map(|bytes| integer.read(bytes)).collect())
            }
            ElementType::Float { .. } => Some(self.floats(bytes)?.into_iter().map(whole_float).collect()),
            _ => None,
        }
    }

    /// The floats in `bytes`, whatever their size.
    pub(super) fn floats(&self, bytes: &[u8]) -> Option<Vec<f64>> {
        match self {
            ElementType::Float { size: 8, .. } => self.numbers(bytes),
            ElementType::Float { size: 4, .. } => {
                Some(self.numbers::<f32>(bytes)?.into_iter().map(f64::from).collect())
            }
            ElementType::Float { size: 2, big_endian } => {
                let halves = bytes.chunks_exact(2).map(|pair| {
                    let pair = [pair[0], pair[1]];
                    half(if *big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
                });
                Some(halves.collect())
            }
            _ => None,
        }
    }
}

/// A float as a whole number, where it is one.
fn whole_float(value: f64) -> Option<i64> {
    // Up to there every whole number has a float of its own.
    const EXACT: f64 = (1_u64 << 53) as f64;
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

/// The value of a float of 16 bits (IEEE 754, 3.6).
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + mantissa / 1024.0) * 2f64.powi(exponent - 15),
    }
}

impl Integer {
    /// The number in as many bytes as it has; `None` for an unsigned one above `i64`'s.
    fn read(self, bytes: &[u8]) -> Option<i64> {
        let bytes = bytes.get(..self.size)?;
        let mut wide = [0; 8];
        for (index, byte) in bytes.iter().enumerate() {
            wide[if self.big_endian { self.size - 1 - index } else { index }] = *byte;
        }
        let value = u64::from_le_bytes(wide);
        if self.signed {
            // Shifted up and back, so that the sign fills what is not stored.
            let unused = 64 - 8 * self.size as u32;
            Some((value << unused) as i64 >> unused)
        } else {
            i64::try_from(value).ok()
        }
    }
}

/// A whole number all of whose bits count, of 1, 2, 4 or 8 bytes. `stored` is its datatype message.
fn whole(datatype: &Datatype, stored: &[u8]) -> Option<Integer> {
    let Datatype::FixedPoint { size, signed, byte_order } = datatype else { return None };
    let bits = u16::from(*size) * 8;
    let whole = stored.get(8..12)? == [[0, 0], bits.to_le_bytes()].concat();
    let big_endian = *byte_order == ByteOrder::BigEndian;
    (whole && matches!(size, 1 | 2 | 4 | 8)).then_some(Integer {
        size: usize::from(*size),
        signed: *signed,
        big_endian,
    })
}

fn size_of_element(datatype: &Datatype, reference: usize) -> Option<usize> {
    match datatype {
        Datatype::FixedPoint { size, .. }
        | Datatype::FloatingPoint { size, .. }
        | Datatype::Bitfield { size, .. }
        | Datatype::Reference { size, .. } => Some(usize::from(*size)),
        Datatype::String { size: StringSize::Fixed(size), .. }
        | Datatype::Compound { size, .. }
        | Datatype::Opaque { size, .. } => usize::try_from(*size).ok(),
        Datatype::String { size: StringSize::Variable, .. } | Datatype::VarLen { .. } => Some(reference),
        Datatype::Enum { base, .. } => size_of_element(base, reference),
        Datatype::Array { base, dims } => {
            dims.iter().try_fold(size_of_element(base, reference)?, |size, &n| {
                size.checked_mul(usize::try_from(n).ok()?)
            })
        }
    }
}

/// `uint8`, `float32`, `text of 4 bytes`.
impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElementType::Integer(integer) => write!(f, "{integer}"),
            ElementType::Float { size, .. } => write!(f, "float{}", size * 8),
            ElementType::FixedText { size, .. } => write!(f, "text of {size} bytes"),
            ElementType::Text { .. } => write!(f, "text of any length"),
            ElementType::Enumeration { base, .. } => write!(f, "an enumeration of {base}"),
            ElementType::Other { name, .. } => write!(f, "{name}"),
        }
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}int{}", if self.signed { "" } else { "u" }, self.size * 8)
    }
}

/// A number that can be read as it is stored.
pub trait Number: bytemuck::Pod {
    /// Whether it may be negative.
    const SIGNED: bool;
    /// Whether it is a floating-point number.
    const FLOAT: bool;
    /// Its name.
    const NAME: &'static str;
}

macro_rules! number {
    ($($type:ty: $signed:literal, $float:literal, $name:literal;)*) => {
        $(impl Number for $type {
            const SIGNED: bool = $signed;
            const FLOAT: bool = $float;
            const NAME: &'static str = $name;
        })*
    };
}

number! {
    u8: false, false, "uint8";
    u32: false, false, "uint32";
    u64: false, false, "uint64";
    i8: true, false, "int8";
    i64: true, false, "int64";
    f32: true, true, "float32";
    f64: true, true, "float64";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_size_and_order_are_read() {
        let of = |size, signed, big_endian| Integer { size, signed, big_endian };
        assert_eq!(of(1, true, false).read(&[0xff]), Some(-1));
        assert_eq!(of(1, false, false).read(&[0xff]), Some(255));
        assert_eq!(of(2, true, true).read(&[0xff, 0xfe]), Some(-2));
        assert_eq!(of(4, false, true).read(&[0, 0, 1, 2]), Some(258));
        assert_eq!(of(8, true, false).read(&i64::MIN.to_le_bytes()), Some(i64::MIN));
        assert_eq!(of(8, false, false).read(&u64::MAX.to_le_bytes()), None);
        assert_eq!(of(4, true, false).read(&[1, 2]), None);
    }

    #[test]
    fn floats_are_whole_only_without_a_fraction() {
        for (value, whole) in [(3.0, Some(3)), (-1.0, Some(-1)), (0.5, None), (1e300, None), (f64::NAN, None)]
        {
            assert_eq!(whole_float(value), whole);
        }
    }

    #[test]
    fn half_precision_is_ieee_754s() {
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x3555, 0.333_251_953_125), (1, 2f64.powi(-24))]
        {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f64::NEG_INFINITY);
    }
}
