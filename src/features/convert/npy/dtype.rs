//! [`DType`]: what the values of an array are, and how numbers and texts are read from their bytes.

use half::f16;

/// What a value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::features::convert) struct DType {
    pub(super) big_endian: bool,
    /// NumPy's letter: f, i, u, b, S, U.
    pub(super) kind: u8,
    /// Bytes of a value.
    pub(super) size: usize,
}

impl DType {
    pub(in crate::features::convert) const F32: Self = Self::little(b'f', 4);
    pub(in crate::features::convert) const I64: Self = Self::little(b'i', 8);
    pub(in crate::features::convert) const U8: Self = Self::little(b'u', 1);

    /// Numbers in little-endian order of bytes, by NumPy's letter and their size.
    pub(in crate::features::convert) const fn little(kind: u8, size: usize) -> Self {
        Self { big_endian: false, kind, size }
    }

    /// Texts of up to so many characters.
    pub(in crate::features::convert) fn text(characters: usize) -> Self {
        Self { big_endian: false, kind: b'U', size: 4 * characters.max(1) }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refused =
            || format!("its values are of NumPy's type {text:?}, which is neither numbers nor texts");
        let (order, rest) = match text.as_bytes() {
            [order @ (b'<' | b'>' | b'|' | b'='), rest @ ..] => (*order, rest),
            rest => (b'=', rest),
        };
        let (kind, digits) = rest.split_first().ok_or_else(refused)?;
        if *kind == b'O' {
            return Err("it is a pickle of Python objects, which may run code and is never opened; save it as an array of \
                        numbers or texts, with np.save(path, np.asarray(x, dtype=\"float32\")) or dtype=\"str\""
                .to_owned());
        }
        let count: usize =
            str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(refused)?;
        let size = if *kind == b'U' { count.checked_mul(4) } else { Some(count) }.ok_or_else(refused)?;
        let known = match kind {
            b'f' => matches!(size, 2 | 4 | 8),
            b'i' | b'u' => matches!(size, 1 | 2 | 4 | 8),
            b'b' => size == 1,
            b'S' | b'U' => (1..1 << 24).contains(&size),
            _ => false,
        };
        if !known {
            return Err(refused());
        }
        let big_endian = order == b'>' || (order == b'=' && cfg!(target_endian = "big"));
        Ok(Self { big_endian, kind: *kind, size })
    }

    pub(super) fn describe(self) -> String {
        let order = if self.size == 1 { '|' } else { '<' };
        let count = if self.kind == b'U' { self.size / 4 } else { self.size };
        format!("{order}{}{count}", char::from(self.kind))
    }

    pub(in crate::features::convert) fn is_text(self) -> bool {
        matches!(self.kind, b'S' | b'U')
    }

    pub(in crate::features::convert) fn is_float(self) -> bool {
        self.kind == b'f'
    }

    pub(in crate::features::convert) fn is_integer(self) -> bool {
        matches!(self.kind, b'i' | b'u' | b'b')
    }

    /// NumPy's usual name.
    pub(in crate::features::convert) fn name(self) -> String {
        match self.kind {
            b'f' => format!("float{}", 8 * self.size),
            b'i' => format!("int{}", 8 * self.size),
            b'u' => format!("uint{}", 8 * self.size),
            b'b' => "bool".to_owned(),
            _ => "texts".to_owned(),
        }
    }

    /// What the user should know where values are not stored as they were.
    pub(in crate::features::convert) fn note(self) -> Option<String> {
        match (self.kind, self.size) {
            (b'f', 4) => None,
            (b'f', 2) => Some("float16 values became float32, exactly".to_owned()),
            _ => {
                Some(format!("{} values became float32, rounded where float32 cannot hold them", self.name()))
            }
        }
    }

    /// Appends the numbers of whole values.
    pub(super) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        /// Values of one type, whatever their order of bytes.
        fn each<const N: usize>(big: bool, bytes: &[u8], mut value: impl FnMut([u8; N])) {
            for chunk in bytes.as_chunks::<N>().0 {
                let mut chunk = *chunk;
                if big {
                    chunk.reverse();
                }
                value(chunk);
            }
        }
        let big = self.big_endian;
        match (self.kind, self.size) {
            (b'f', 2) => each(big, bytes, |b| out.push(f16::from_le_bytes(b).to_f32())),
            (b'f', 4) => each(big, bytes, |b| out.push(f32::from_le_bytes(b))),
            (b'f', _) => each(big, bytes, |b| out.push(f64::from_le_bytes(b) as f32)),
            (b'i', 1) => each(big, bytes, |b| out.push(f32::from(i8::from_le_bytes(b)))),
            (b'i', 2) => each(big, bytes, |b| out.push(f32::from(i16::from_le_bytes(b)))),
            (b'i', 4) => each(big, bytes, |b| out.push(i32::from_le_bytes(b) as f32)),
            (b'i', _) => each(big, bytes, |b| out.push(i64::from_le_bytes(b) as f32)),
            (b'u', 2) => each(big, bytes, |b| out.push(f32::from(u16::from_le_bytes(b)))),
            (b'u', 4) => each(big, bytes, |b| out.push(u32::from_le_bytes(b) as f32)),
            (b'u', 8) => each(big, bytes, |b| out.push(u64::from_le_bytes(b) as f32)),
            _ => out.extend(bytes.iter().map(|&byte| f32::from(byte))),
        }
    }

    /// A whole number; `None` where it is above what int64 holds.
    pub(super) fn integer(self, bytes: &[u8]) -> Option<i64> {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        if self.big_endian {
            wide[..bytes.len()].reverse();
        }
        let unused = 64 - 8 * bytes.len() as u32;
        match self.kind {
            b'i' => Some((i64::from_le_bytes(wide) << unused) >> unused),
            _ => i64::try_from(u64::from_le_bytes(wide)).ok(),
        }
    }

    /// A text without the NULs that fill it up.
    pub(super) fn text_of(self, bytes: &[u8]) -> Option<String> {
        if self.kind == b'S' {
            return String::from_utf8(bytes.to_vec()).ok().map(|text| text.trim_end_matches('\0').to_owned());
        }
        let units = bytes.as_chunks::<4>().0.iter();
        let number = |unit: &[u8; 4]| {
            if self.big_endian { u32::from_be_bytes(*unit) } else { u32::from_le_bytes(*unit) }
        };
        let text: Option<String> = units.map(|unit| char::from_u32(number(unit))).collect();
        text.map(|text| text.trim_end_matches('\0').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_number_is_read_in_both_orders_of_bytes() {
        for (text, bytes, value) in [
            ("<f2", &[0x00, 0xBC][..], -1.0),
            (">f2", &[0x3C, 0x01], 1.000_976_6),
            (">f4", &[0x80, 0, 0, 0], -0.0),
            ("<f4", &[1, 0, 0, 0], f32::from_bits(1)),
            ("<f8", &[0, 0, 0, 0, 0, 0, 0xF0, 0x3F], 1.0),
            ("|i1", &[0xFF], -1.0),
            (">i2", &[0xFF, 0xFE], -2.0),
            ("<i4", &[0xFD, 0xFF, 0xFF, 0xFF], -3.0),
            ("<i8", &[4, 0, 0, 0, 0, 0, 0, 0], 4.0),
            ("|u1", &[0xFF], 255.0),
            (">u2", &[1, 0], 256.0),
            ("<u4", &[5, 0, 0, 0], 5.0),
            (">u8", &[0, 0, 0, 0, 0, 0, 0, 6], 6.0),
        ] {
            let (dtype, mut values) = (DType::parse(text).unwrap(), Vec::new());
            dtype.decode(bytes, &mut values);
            assert_eq!(
                values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
                [f32::to_bits(value)],
                "{text}"
            );
            if dtype.kind != b'f' {
                assert_eq!(dtype.integer(bytes), Some(value as i64), "{text}");
            }
        }
        assert_eq!(DType::parse("<u8").unwrap().integer(&[0xFF; 8]), None);
        assert_eq!(DType::parse(">U2").unwrap().text_of(&[0, 0, 0, 0xFC, 0, 0, 0, 0]).as_deref(), Some("ü"));
        assert_eq!(DType::parse("|S4").unwrap().text_of("ü\0\0".as_bytes()).as_deref(), Some("ü"));
        assert_eq!(DType::parse("|S1").unwrap().text_of(&[0xFC]), None);
    }
}
