//! What a TIFF's directory says of its samples, and which of that is read.

use super::super::decode::DecodeError;
use super::super::ifd::Directory;
use super::super::sniff::ImageFormat;

pub(super) const PHOTOMETRIC: u16 = 262;
/// The compression of JPEG in TIFF.
pub(super) const JPEG: u64 = 7;

/// What a sample means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Photometric {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Palette,
    /// CMYK.
    Inks,
    YCbCr,
}

/// How a sample is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleKind {
    Unsigned,
    Float,
}

/// The page's size and the form of its samples.
#[derive(Debug)]
pub(super) struct PageLayout {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) photometric: Photometric,
    pub(super) compression: u64,
    /// Of one sample.
    pub(super) bits: usize,
    /// Of one pixel.
    pub(super) samples: usize,
    pub(super) kind: SampleKind,
    /// What the samples beyond the colours are: 1 is alpha that the colours are multiplied by.
    extra: Vec<u64>,
    /// Bytes have their lowest bit first.
    pub(super) reverses_bits: bool,
}

impl PageLayout {
    pub(super) fn of(directory: &Directory, name: &'static str) -> Result<Self, DecodeError> {
        let number = |tag| directory.first(tag);
        let size = |tag| number(tag).and_then(|length| u32::try_from(length).ok());
        let (Some(width), Some(height)) = (size(256), size(257)) else {
            return Err(DecodeError::Damaged { format: name });
        };
        let compression = number(259).unwrap_or(1);
        if let Some(compression) = unread_compression(compression) {
            return Err(DecodeError::unsupported(format!("{name} compressed with {compression}")));
        }
        let photometric = match number(PHOTOMETRIC).unwrap_or(0) {
            0 => Photometric::WhiteIsZero,
            1 => Photometric::BlackIsZero,
            2 => Photometric::Rgb,
            3 => Photometric::Palette,
            5 => Photometric::Inks,
            6 => Photometric::YCbCr,
            4 => return Err(DecodeError::unsupported(format!("{name} that is a mask for another picture"))),
            8..=10 => return Err(DecodeError::unsupported(format!("{name} in the colour space CIELab"))),
            32803 | 34892 => {
                let format = ImageFormat::CameraRaw;
                return Err(DecodeError::UnsupportedFormat {
                    format: format.name(),
                    remedy: format.remedy(),
                });
            }
            32844 | 32845 => {
                return Err(DecodeError::unsupported(format!("{name} in the colour space LogLuv")));
            }
            _ => return Err(DecodeError::unsupported(format!("{name} of a colour space that is not known"))),
        };
        let samples = usize::try_from(number(277).unwrap_or(1)).unwrap_or(usize::MAX);
        let all_bits = directory.numbers(258).unwrap_or_else(|| vec![1]);
        let bits = all_bits.first().copied().unwrap_or(1);
        if all_bits.iter().any(|&other| other != bits) {
            return Err(DecodeError::unsupported(format!("{name} with samples of different depths")));
        }
        let kind = match number(339).unwrap_or(1) {
            // Without a format they are what they are without the tag.
            1 | 4 => SampleKind::Unsigned,
            2 => return Err(DecodeError::unsupported(format!("{name} with signed samples of {bits} bits"))),
            3 => SampleKind::Float,
            _ => return Err(DecodeError::unsupported(format!("{name} with complex samples"))),
        };
        let extra = directory.numbers(338).unwrap_or_default();
        let layout = Self {
            width,
            height,
            photometric,
            compression,
            bits: usize::try_from(bits).unwrap_or(usize::MAX),
            samples,
            kind,
            extra,
            reverses_bits: number(266) == Some(2),
        };
        layout.check(directory, name)?;
        Ok(layout)
    }

    /// Refuses what would be read wrongly.
    fn check(&self, directory: &Directory, name: &'static str) -> Result<(), DecodeError> {
        let Self { photometric, bits, samples, kind, .. } = self;
        let is_read = match kind {
            SampleKind::Float => {
                matches!(bits, 16 | 32 | 64)
                    && !matches!(photometric, Photometric::Palette | Photometric::Inks | Photometric::YCbCr)
            }
            SampleKind::Unsigned => match photometric {
                Photometric::BlackIsZero | Photometric::WhiteIsZero | Photometric::Palette => {
                    matches!(bits, 1 | 2 | 4 | 8 | 16)
                }
                Photometric::Rgb | Photometric::Inks => matches!(bits, 8 | 16),
                Photometric::YCbCr => *bits == 8,
            },
        };
        if !is_read {
            let kind = if *kind == SampleKind::Float { "floating-point samples" } else { "samples" };
            return Err(DecodeError::unsupported(format!("{name} with {kind} of {bits} bits")));
        }
        // Samples beyond the colours have to be declared: several greys are bands of a satellite or a microscope.
        let beyond = samples.checked_sub(self.colours()).ok_or(DecodeError::Damaged { format: name })?;
        let declared = match photometric {
            // Many programs leave the declaration of alpha out.
            Photometric::Rgb => self.extra.len().max(1),
            _ => self.extra.len(),
        };
        if beyond > declared || *samples > 8 || (beyond > 0 && *bits < 8) {
            return Err(DecodeError::unsupported(format!("{name} of {samples} bands")));
        }
        let is_subsampled = directory.numbers(530).is_none_or(|factors| factors != [1, 1]);
        if *photometric == Photometric::YCbCr && self.compression != JPEG && is_subsampled {
            return Err(DecodeError::unsupported(format!(
                "{name} in YCbCr with subsampled colours, but not as JPEG,"
            )));
        }
        Ok(())
    }

    /// Samples of a pixel that are its colour.
    pub(super) fn colours(&self) -> usize {
        match self.photometric {
            Photometric::BlackIsZero | Photometric::WhiteIsZero | Photometric::Palette => 1,
            Photometric::Rgb | Photometric::YCbCr => 3,
            Photometric::Inks => 4,
        }
    }

    /// Whether the colours are multiplied by the sample behind them.
    pub(super) fn is_alpha_associated(&self) -> bool {
        matches!(self.photometric, Photometric::Rgb | Photometric::BlackIsZero)
            && self.samples > self.colours()
            && self.extra.first() == Some(&1)
            && self.kind == SampleKind::Unsigned
    }
}

/// The name of a compression that is not read.
fn unread_compression(compression: u64) -> Option<&'static str> {
    Some(match compression {
        1 | 4 | 5 | JPEG | 8 | 32773 | 32946 => return None,
        2 | 3 | 32771 => "a fax code of group 3",
        6 => "JPEG of TIFF's version 6, which is obsolete,",
        32809 => "ThunderScan",
        33003 | 33005 | 34712 => "JPEG 2000",
        34661 => "JBIG",
        34676 | 34677 => "SGI's LogLuv code",
        34887 => "LERC",
        34892 => "lossy DNG's code",
        34925 => "LZMA",
        34933 => "PNG",
        50000 => "Zstandard",
        50001 => "WebP",
        50002 | 52546 => "JPEG XL",
        32767 | 34713 | 65000 | 65535 => "a camera's raw code",
        _ => "a code that is not known",
    })
}

/// Where strips or tiles lie, and how long they are.
pub(super) fn chunks(directory: &Directory) -> Vec<(usize, usize)> {
    let (offsets, lengths) = match directory.numbers(324) {
        Some(offsets) => (offsets, directory.numbers(325)),
        None => (directory.numbers(273).unwrap_or_default(), directory.numbers(279)),
    };
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    offsets.into_iter().map(size).zip(lengths.unwrap_or_default().into_iter().map(size)).collect()
}
