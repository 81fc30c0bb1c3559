//! The order of an array's dimensions: which of them counts images, rows, columns and channels.

use std::fmt;
use std::str::FromStr;

/// What a dimension counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArrayAxis {
    /// Images.
    N,
    /// Rows of pixels.
    H,
    /// Pixels in a row.
    W,
    /// Colours of a pixel: red, green, blue, or only grey.
    C,
}

const LETTERS: [(char, ArrayAxis); 4] =
    [('N', ArrayAxis::N), ('H', ArrayAxis::H), ('W', ArrayAxis::W), ('C', ArrayAxis::C)];

/// The order of dimensions as letters: `NHWC` has the images first, then rows, columns and colours. They are those of the
/// shape that h5py shows. Without `N` the array is a single image, without `C` its images are grey.
///
/// ```
/// # use cnncodes::dataset::ArrayAxes;
/// assert_eq!("nchw".parse::<ArrayAxes>().unwrap().to_string(), "NCHW");
/// assert!("NHC".parse::<ArrayAxes>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayAxes(Vec<ArrayAxis>);

/// Letters that are no order of dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected H and W, with N and C if there are several images and colours, each once, in the order of the \
     array's dimensions: NHWC, NCHW, NWHC, NHW, HWC, HWCN …"
)]
pub struct NoAxes;

impl FromStr for ArrayAxes {
    type Err = NoAxes;

    fn from_str(text: &str) -> Result<Self, NoAxes> {
        let axis = |letter: char| {
            LETTERS.iter().find(|(known, _)| *known == letter.to_ascii_uppercase()).map(|(_, axis)| *axis)
        };
        let axes: Vec<ArrayAxis> = text.chars().map(axis).collect::<Option<_>>().ok_or(NoAxes)?;
        let twice = axes.iter().enumerate().any(|(at, axis)| axes[..at].contains(axis));
        if twice || !axes.contains(&ArrayAxis::H) || !axes.contains(&ArrayAxis::W) {
            Err(NoAxes)
        } else {
            Ok(Self(axes))
        }
    }
}

impl fmt::Display for ArrayAxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |axis: &ArrayAxis| {
            LETTERS.iter().find(|(_, known)| known == axis).map_or('?', |(letter, _)| *letter)
        };
        f.write_str(&self.0.iter().map(letter).collect::<String>())
    }
}

/// What a shape can be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AxesReading {
    /// One order of dimensions.
    Clear(ArrayAxes),
    /// Several, or one that is not what such a shape mostly means.
    Unclear(Vec<ArrayAxes>),
    /// No image at all.
    Nothing,
}

impl ArrayAxes {
    /// Whether the shape says so itself: programs that keep the dimensions in Python's order write these.
    pub(super) fn is_usual(&self) -> bool {
        matches!(self.to_string().as_str(), "NHWC" | "NCHW" | "NHW")
    }

    /// What an array of that shape holds, by the places where its 3 or 1 colours are.
    ///
    /// A program that counts columns first, such as MATLAB, writes the dimensions in the reverse of its own order.
    pub(super) fn of(shape: &[u64], reversed: bool) -> AxesReading {
        let own: Vec<u64> = if reversed { shape.iter().rev().copied().collect() } else { shape.to_vec() };
        let colours = |at: usize| matches!(own[at], 1 | 3);
        // Pictures of a single row or column are no pictures.
        let pixels = own.iter().filter(|&&n| n > 1).count();
        let readings: &[&str] = match own.len() {
            _ if own.contains(&0) || pixels < 2 => &[],
            3 if reversed => match (colours(0), colours(1), colours(2)) {
                (false, false, true) => &["HWC"],
                // Images are counted last in MATLAB, unless the sizes speak against it.
                (false, false, false) if own[1] == own[2] && own[0] != own[1] => &["HWN", "NHW"],
                (false, false, false) => &["HWN"],
                (true, false, false) => &["CHW", "HWN"],
                (_, true, false) => &["HWN", "HCW"],
                _ => &["HWC", "HWN"],
            },
            3 => match (own[0] == 3, colours(1), colours(2)) {
                (false, false, true) => &["HWC"],
                (false, false, false) => &["NHW"],
                (true, false, false) => &["CHW", "NHW"],
                (true, _, true) => &["HWC", "CHW", "NHW"],
                _ => &["NHW", "HCW"],
            },
            4 if reversed => match (colours(1), colours(2), colours(3)) {
                (false, true, false) => &["HWCN"],
                (false, false, true) => &["NHWC"],
                (true, false, false) => &["NCHW"],
                (false, true, true) => &["HWCN", "NHWC"],
                (true, true, false) => &["HWCN", "NCHW"],
                (true, false, true) => &["NHWC", "NCHW"],
                (true, true, true) => &["HWCN", "NHWC", "NCHW"],
                (false, false, false) => &[],
            },
            4 => match (colours(1), colours(2), colours(3)) {
                (false, false, true) => &["NHWC"],
                (false, true, true) => &["NHWC", "HWCN"],
                (true, false, false) => &["NCHW"],
                (true, true, false) => &["NCHW", "HWCN"],
                (true, _, true) => &["NHWC", "NCHW"],
                (false, true, false) => &["HWCN", "NHCW"],
                (false, false, false) if colours(0) => &["CHWN"],
                (false, false, false) => &[],
            },
            _ => &[],
        };
        let in_order = |letters: &&str| {
            let letters: String =
                if reversed { letters.chars().rev().collect() } else { (*letters).to_owned() };
            letters.parse::<ArrayAxes>().ok()
        };
        let axes: Vec<ArrayAxes> = readings.iter().filter_map(in_order).collect();
        // These are read only by who asks for them: another meaning is as likely.
        let doubtful = !reversed && matches!(readings, ["CHWN"]);
        match axes.len() {
            0 => AxesReading::Nothing,
            1 if !doubtful => AxesReading::Clear(axes.into_iter().next().unwrap_or(ArrayAxes(Vec::new()))),
            _ => AxesReading::Unclear(axes),
        }
    }

    /// How the bytes of an array of that shape make images.
    ///
    /// # Errors
    /// The letters and the shape do not go together, and why.
    pub(super) fn geometry(&self, shape: &[u64]) -> Result<ArrayGeometry, String> {
        if self.0.len() != shape.len() {
            return Err(format!("it has {} dimensions, and {self} names {}", shape.len(), self.0.len()));
        }
        // How far apart neighbours in each dimension are.
        let mut strides = vec![1_u64; shape.len()];
        for at in (0..shape.len().saturating_sub(1)).rev() {
            strides[at] = strides[at + 1].saturating_mul(shape[at + 1]);
        }
        let of = |axis: ArrayAxis| {
            let at = self.0.iter().position(|found| *found == axis);
            at.map_or((1, 0), |at| (shape[at], strides[at]))
        };
        let ((images, image_stride), (height, row), (width, column)) =
            (of(ArrayAxis::N), of(ArrayAxis::H), of(ArrayAxis::W));
        let (colours, colour) = of(ArrayAxis::C);
        if !matches!(colours, 1 | 3) {
            return Err(format!("{self} makes it {colours} colours, expected 3 or 1"));
        }
        let sizes = [images, height, width].map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let [images, height, width] = sizes;
        let strides = [row, column, if colours == 3 { colour } else { 0 }]
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let first = self.0.first() == Some(&ArrayAxis::N) || !self.0.contains(&ArrayAxis::N);
        let image_stride = usize::try_from(image_stride).unwrap_or(usize::MAX);
        Ok(ArrayGeometry { images, height, width, colours: colours as usize, strides, image_stride, first })
    }

    /// Whether there is but one image.
    pub(super) fn is_single(&self) -> bool {
        !self.0.contains(&ArrayAxis::N)
    }
}

/// Where the bytes of an image lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArrayGeometry {
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// 3 or 1.
    pub(super) colours: usize,
    /// From one row, pixel and colour to the next.
    strides: [usize; 3],
    /// From one image to the next.
    pub(super) image_stride: usize,
    /// Whether each image lies in one piece.
    pub(super) first: bool,
}

impl ArrayGeometry {
    /// The image that begins at `start` of `bytes`, row by row: grey as it is, or red, green and blue by turns.
    pub(super) fn upright(&self, bytes: &[u8], start: usize) -> Option<Vec<u8>> {
        let [row, column, colour] = self.strides;
        let size = self.height * self.width * self.colours;
        let in_order = row == self.width * self.colours && column == self.colours && colour <= 1;
        if in_order {
            return Some(bytes.get(start..start.checked_add(size)?)?.to_vec());
        }
        let mut out = Vec::with_capacity(size);
        for y in 0..self.height {
            for x in 0..self.width {
                let at = start + y * row + x * column;
                for c in 0..self.colours {
                    out.push(*bytes.get(at + c * colour)?);
                }
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clear(shape: &[u64], reversed: bool) -> String {
        match ArrayAxes::of(shape, reversed) {
            AxesReading::Clear(axes) => axes.to_string(),
            AxesReading::Unclear(axes) => axes.iter().map(ArrayAxes::to_string).collect::<Vec<_>>().join("|"),
            AxesReading::Nothing => "-".to_owned(),
        }
    }

    #[test]
    fn letters_name_each_dimension_once() {
        for letters in ["NHWC", "nchw", "HW", "WHCN"] {
            assert_eq!(letters.parse::<ArrayAxes>().unwrap().to_string(), letters.to_uppercase());
        }
        for letters in ["", "NHC", "NHWW", "NHWX", "NCDHW", "N H W"] {
            assert_eq!(letters.parse::<ArrayAxes>(), Err(NoAxes), "{letters}");
        }
    }

    #[test]
    fn a_shape_says_where_its_colours_are() {
        for (shape, axes) in [
            (&[6, 48, 64, 3][..], "NHWC"),
            (&[6, 3, 48, 64], "NCHW"),
            (&[6, 48, 64, 1], "NHWC"),
            (&[6, 1, 48, 64], "NCHW"),
            (&[3, 48, 64, 3], "NHWC"),
            (&[6, 48, 64], "NHW"),
            (&[1, 48, 64], "NHW"),
            // One picture, not 48 of three columns.
            (&[48, 64, 3], "HWC"),
            (&[48, 64, 1], "HWC"),
        ] {
            assert_eq!(clear(shape, false), axes, "{shape:?}");
        }
    }

    #[test]
    fn a_shape_that_may_be_several_things_is_not_guessed() {
        for (shape, axes) in [
            (&[3, 3, 3, 3][..], "NHWC|NCHW"),
            (&[6, 3, 48, 3], "NHWC|NCHW"),
            (&[6, 1, 48, 3], "NHWC|NCHW"),
            (&[3, 48, 64], "CHW|NHW"),
            (&[3, 64, 3], "HWC|CHW|NHW"),
            (&[32, 32, 3, 6], "HWCN|NHCW"),
            (&[32, 32, 3, 3], "NHWC|HWCN"),
            (&[3, 32, 32, 6], "CHWN"),
        ] {
            assert_eq!(clear(shape, false), axes, "{shape:?}");
        }
        for shape in
            [&[6][..], &[6, 784], &[6, 48, 64, 4], &[6, 1, 1, 1], &[0, 48, 64, 3], &[2, 6, 48, 64, 3]]
        {
            assert_eq!(clear(shape, false), "-", "{shape:?}");
        }
    }

    #[test]
    fn a_matlab_file_has_the_reverse_order() {
        for (shape, axes) in [
            // In MATLAB 48 x 64 x 3 x 6, 48 x 64 x 3, 6 x 48 x 64 x 3, 6 x 3 x 48 x 64, and 48 x 64 x 6.
            (&[6, 3, 64, 48][..], "NCWH"),
            (&[3, 64, 48], "CWH"),
            (&[3, 64, 48, 6], "CWHN"),
            (&[64, 48, 3, 6], "WHCN"),
            (&[6, 64, 48], "NWH"),
            (&[60_000, 28, 28], "NWH"),
            // 60000 x 28 x 28 there: mostly images first, whatever MATLAB's custom.
            (&[28, 28, 60_000], "NWH|WHN"),
            (&[3, 3, 64, 48], "NCWH|CWHN"),
        ] {
            assert_eq!(clear(shape, true), axes, "{shape:?}");
        }
    }

    #[test]
    fn pixels_are_found_in_any_order() {
        // Two images of 2 x 3 pixels: image, row, column and colour are the digits of each byte's value.
        let value = |n: u64, h: u64, w: u64, c: u64| (n * 100 + h * 30 + w * 10 + c) as u8;
        let sizes = [('N', 2_u64), ('H', 2), ('W', 3), ('C', 3)];
        for letters in ["NHWC", "NCHW", "NWHC", "NCWH", "HWCN", "CWHN", "WHNC"] {
            let shape: Vec<u64> =
                letters.chars().map(|l| sizes.iter().find(|(known, _)| *known == l).unwrap().1).collect();
            let mut bytes = Vec::new();
            for index in 0..shape.iter().product::<u64>() {
                let mut at = std::collections::HashMap::new();
                let mut rest = index;
                for (letter, size) in letters.bytes().zip(&shape).rev() {
                    at.insert(char::from(letter), rest % size);
                    rest /= size;
                }
                bytes.push(value(at[&'N'], at[&'H'], at[&'W'], at[&'C']));
            }
            let geometry = letters.parse::<ArrayAxes>().unwrap().geometry(&shape).unwrap();
            assert_eq!((geometry.images, geometry.height, geometry.width, geometry.colours), (2, 2, 3, 3));
            for n in 0..2 {
                let expected: Vec<u8> = (0..2)
                    .flat_map(|h| (0..3).flat_map(move |w| (0..3).map(move |c| value(n, h, w, c))))
                    .collect();
                let found = geometry.upright(&bytes, n as usize * geometry.image_stride);
                assert_eq!(found.unwrap(), expected, "{letters}");
            }
        }
        assert!(
            "NHWC"
                .parse::<ArrayAxes>()
                .unwrap()
                .geometry(&[6, 3, 48, 64])
                .unwrap_err()
                .contains("64 colours")
        );
        assert!(
            "NHWC".parse::<ArrayAxes>().unwrap().geometry(&[6, 48, 64]).unwrap_err().contains("3 dimensions")
        );
    }
}
