//! The boxes of HEIC and AVIF files (ISO/IEC 23008-12): where the primary picture's data lie, and how it is to be shown.

#[cfg(feature = "avif")]
use std::borrow::Cow;

use image::RgbImage;
use image::imageops::crop_imm;
use image::metadata::Orientation;

/// The coded data of the primary picture.
#[cfg(feature = "avif")]
pub(super) struct CodedPicture<'a> {
    /// Its parts, row by row: one, or those of a grid.
    pub(super) parts: Vec<Cow<'a, [u8]>>,
    /// Parts of a row.
    pub(super) columns: usize,
    /// The size of a grid.
    pub(super) grid: Option<(u32, u32)>,
    /// The size that the file says, for a look before anything is decoded.
    pub(super) declared: Option<(u32, u32)>,
    /// Matrix (ITU-T H.273) and whether luma has its full range, where the file says it.
    pub(super) colours: Option<(u8, bool)>,
}

/// How a picture is to be shown.
pub(super) struct Presentation {
    /// Width, height, left and top of what is to be seen.
    crop: Option<[u32; 4]>,
    /// How what is to be seen is to be turned.
    pub(super) orientation: Orientation,
}

impl Presentation {
    /// That of the primary picture, if it is of one of the kinds.
    pub(super) fn of(file: &[u8], kinds: &[&[u8; 4]]) -> Option<Self> {
        let meta = MetaBox::of(file)?;
        let primary = meta.primary()?;
        let kind = meta.kind(primary)?;
        if !kinds.iter().any(|known| kind == *known) {
            return None;
        }
        let properties = meta.properties(primary)?;
        let size = size(&properties);
        let (mut turns, mut mirror, mut crop) = (0, None, None);
        for (kind, mut body) in properties {
            match kind {
                b"irot" => turns = body.number(1)? & 3,
                b"imir" => mirror = Some(body.number(1)? & 1),
                b"clap" => crop = size.and_then(|size| crop_of(body, size)),
                _ => {}
            }
        }
        // The number that EXIF has for it.
        let number = match (turns, mirror) {
            (0, None) => 1,
            (0, Some(0)) | (2, Some(1)) => 4,
            (0, Some(_)) | (2, Some(_)) => 2,
            (1, None) => 8,
            (1, Some(0)) | (3, Some(1)) => 5,
            (1, Some(_)) | (3, Some(_)) => 7,
            (2, None) => 3,
            _ => 6,
        };
        Some(Self { crop, orientation: Orientation::from_exif(number)? })
    }

    /// Whether a turn or a crop tears apart what shares a sample of chroma, or turns chroma that is fine across and coarse
    /// down. Libheif then interpolates chroma first.
    pub(super) fn splits_chroma(&self, size: (usize, usize), chroma: (usize, usize)) -> bool {
        use Orientation::{
            FlipHorizontal, FlipVertical, Rotate90, Rotate90FlipH, Rotate180, Rotate270, Rotate270FlipH,
        };

        let (across, down) = (chroma.0 < size.0, chroma.1 < size.1);
        let [width, height, left, top] =
            self.crop.map_or([size.0, size.1, 0, 0], |crop| crop.map(|n| n as usize));
        let turns = matches!(self.orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
        let reverses_x = matches!(self.orientation, FlipHorizontal | Rotate180 | Rotate270 | Rotate270FlipH);
        let reverses_y = matches!(self.orientation, FlipVertical | Rotate180 | Rotate90 | Rotate270FlipH);
        let splits =
            |start: usize, length: usize, reverses: bool| start % 2 == 1 || reverses && length % 2 == 1;
        (across != down && turns)
            || (across && splits(left, width, reverses_x))
            || (down && splits(top, height, reverses_y))
    }

    /// What is to be seen of the picture.
    pub(super) fn crop(&self, image: RgbImage) -> RgbImage {
        match self.crop {
            Some([width, height, left, top])
                if left.saturating_add(width) <= image.width()
                    && top.saturating_add(height) <= image.height() =>
            {
                crop_imm(&image, left, top, width, height).to_image()
            }
            _ => image,
        }
    }
}

/// Why there is none.
#[cfg(feature = "avif")]
pub(super) enum ContainerRefusal {
    Damaged,
    /// A kind of picture that is not read.
    Unsupported,
}

/// Numbers and bytes, from the start on; `None` at the end.
#[derive(Clone, Copy)]
struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of `width` bytes, 0 without any.
    fn number(&mut self, width: usize) -> Option<u64> {
        Some(self.take(width)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn size(&mut self, width: usize) -> Option<usize> {
        usize::try_from(self.number(width)?).ok()
    }

    /// The next box: its kind and its body.
    fn next_box(&mut self) -> Option<(&'a [u8], ByteReader<'a>)> {
        let mut header = *self;
        let length = header.size(4)?;
        let kind = header.take(4)?;
        let length = match length {
            0 => self.0.len(),
            1 => header.size(8)?,
            length => length,
        };
        let header_length = self.0.len() - header.0.len();
        let body = header.take(length.checked_sub(header_length)?)?;
        self.0 = header.0;
        Some((kind, ByteReader(body)))
    }

    /// The version of a box that has one, and its flags.
    fn version(&mut self) -> Option<(u8, u64)> {
        Some((*self.take(1)?.first()?, self.number(3)?))
    }

    fn boxes(mut self) -> impl Iterator<Item = (&'a [u8], ByteReader<'a>)> {
        std::iter::from_fn(move || self.next_box())
    }

    fn find(self, kind: &[u8]) -> Option<ByteReader<'a>> {
        self.boxes().find(|(found, _)| *found == kind).map(|(_, body)| body)
    }
}

/// The boxes of `meta` that matter here.
struct MetaBox<'a> {
    #[cfg(feature = "avif")]
    file: &'a [u8],
    body: ByteReader<'a>,
}

impl<'a> MetaBox<'a> {
    fn of(file: &'a [u8]) -> Option<Self> {
        let mut body = ByteReader(file).find(b"meta")?;
        body.version()?;
        Some(Self {
            #[cfg(feature = "avif")]
            file,
            body,
        })
    }

    fn primary(&self) -> Option<u64> {
        let mut body = self.body.find(b"pitm")?;
        let (version, _) = body.version()?;
        body.number(if version == 0 { 2 } else { 4 })
    }

    fn kind(&self, item: u64) -> Option<&'a [u8]> {
        let mut body = self.body.find(b"iinf")?;
        let (version, _) = body.version()?;
        body.number(if version == 0 { 2 } else { 4 })?;
        body.boxes().filter(|(kind, _)| *kind == b"infe").find_map(|(_, mut entry)| {
            let (version, _) = entry.version()?;
            let id = entry.number(if version < 3 { 2 } else { 4 })?;
            entry.number(2)?;
            (id == item).then(|| entry.take(4)).flatten()
        })
    }

    /// An item's bytes.
    #[cfg(feature = "avif")]
    fn data(&self, item: u64) -> Option<Cow<'a, [u8]>> {
        let mut body = self.body.find(b"iloc")?;
        let (version, _) = body.version()?;
        let (sizes, more) = (body.size(1)?, body.size(1)?);
        let (offset_size, length_size, base_size) = (sizes >> 4, sizes & 15, more >> 4);
        let index_size = if version == 0 { 0 } else { more & 15 };
        let id_size = if version < 2 { 2 } else { 4 };
        for _ in 0..body.number(id_size)? {
            let id = body.number(id_size)?;
            let method = if version == 0 { 0 } else { body.number(2)? & 15 };
            body.number(2)?;
            let base = body.size(base_size)?;
            let extents = body.size(2)?;
            let mut data: Option<Cow<'a, [u8]>> = None;
            for _ in 0..extents {
                body.number(index_size)?;
                let (offset, length) = (body.size(offset_size)?, body.size(length_size)?);
                if id != item {
                    continue;
                }
                let source = match method {
                    0 => self.file,
                    1 => self.body.find(b"idat")?.0,
                    _ => return None,
                };
                let start = base.checked_add(offset)?;
                let end = if length == 0 { source.len() } else { start.checked_add(length)? };
                let part = source.get(start..end)?;
                match &mut data {
                    None => data = Some(Cow::Borrowed(part)),
                    // Extents may overlap: no more than the file has.
                    Some(data) if data.len() + part.len() <= self.file.len() => {
                        data.to_mut().extend_from_slice(part)
                    }
                    Some(_) => return None,
                }
            }
            if id == item {
                return data;
            }
        }
        None
    }

    /// The items that `item` is derived from.
    #[cfg(feature = "avif")]
    fn sources(&self, item: u64) -> Option<Vec<u64>> {
        let mut body = self.body.find(b"iref")?;
        let (version, _) = body.version()?;
        let width = if version == 0 { 2 } else { 4 };
        body.boxes().filter(|(kind, _)| *kind == b"dimg").find_map(|(_, mut reference)| {
            let from = reference.number(width)?;
            let count = reference.number(2)?;
            let sources = (0..count).map(|_| reference.number(width)).collect::<Option<Vec<_>>>()?;
            (from == item).then_some(sources)
        })
    }

    /// An item's properties, in the order in which they apply.
    fn properties(&self, item: u64) -> Option<Vec<(&'a [u8], ByteReader<'a>)>> {
        let all = self.body.find(b"iprp")?;
        let known: Vec<_> = all.find(b"ipco")?.boxes().collect();
        for (_, mut body) in all.boxes().filter(|(kind, _)| *kind == b"ipma") {
            let (version, flags) = body.version()?;
            for _ in 0..body.number(4)? {
                let id = body.number(if version == 0 { 2 } else { 4 })?;
                let count = body.number(1)?;
                let mut found = Vec::new();
                for _ in 0..count {
                    let index = if flags & 1 == 1 { body.size(2)? & 0x7fff } else { body.size(1)? & 0x7f };
                    found.extend(index.checked_sub(1).and_then(|index| known.get(index)).copied());
                }
                if id == item {
                    return Some(found);
                }
            }
        }
        None
    }
}

#[cfg(feature = "avif")]
impl<'a> CodedPicture<'a> {
    pub(super) fn of(file: &'a [u8]) -> Result<Self, ContainerRefusal> {
        let meta = MetaBox::of(file).ok_or(ContainerRefusal::Damaged)?;
        let primary = meta.primary().ok_or(ContainerRefusal::Damaged)?;
        let mut picture = match meta.kind(primary).ok_or(ContainerRefusal::Damaged)? {
            b"av01" => Self::single(&meta, primary),
            b"grid" => Self::grid(&meta, primary),
            _ => return Err(ContainerRefusal::Unsupported),
        }
        .ok_or(ContainerRefusal::Damaged)?;
        if let Some(properties) = meta.properties(primary) {
            picture.colours = colours(&properties).or(picture.colours);
            picture.declared = picture.declared.or(size(&properties));
        }
        Ok(picture)
    }

    fn single(meta: &MetaBox<'a>, item: u64) -> Option<Self> {
        Some(Self { parts: vec![meta.data(item)?], columns: 1, grid: None, declared: None, colours: None })
    }

    fn grid(meta: &MetaBox<'a>, item: u64) -> Option<Self> {
        let data = meta.data(item)?;
        let mut grid = ByteReader(&data);
        grid.number(1)?;
        let width = if grid.number(1)? & 1 == 1 { 4 } else { 2 };
        let (rows, columns) = (grid.size(1)? + 1, grid.size(1)? + 1);
        let size = (u32::try_from(grid.number(width)?).ok()?, u32::try_from(grid.number(width)?).ok()?);
        let sources = meta.sources(item)?;
        if sources.len() != rows * columns {
            return None;
        }
        let parts = sources.iter().map(|&item| meta.data(item)).collect::<Option<_>>()?;
        let grid = Some(size);
        let mut picture = Self { parts, columns, grid, declared: grid, colours: None };
        // Where the grid does not say what its colours are, its parts do.
        picture.colours = meta.properties(*sources.first()?).and_then(|properties| colours(&properties));
        Some(picture)
    }
}

/// The size of a picture.
fn size(properties: &[(&[u8], ByteReader<'_>)]) -> Option<(u32, u32)> {
    let (_, mut body) = properties.iter().find(|(kind, _)| *kind == b"ispe").copied()?;
    body.version()?;
    Some((body.number(4)? as u32, body.number(4)? as u32))
}

#[cfg(feature = "avif")]
fn colours(properties: &[(&[u8], ByteReader<'_>)]) -> Option<(u8, bool)> {
    properties.iter().filter(|(kind, _)| *kind == b"colr").find_map(|(_, body)| {
        let mut body = *body;
        if body.take(4)? != b"nclx" {
            return None;
        }
        body.number(4)?;
        Some((u8::try_from(body.number(2)?).ok()?, body.number(1)? >> 7 == 1))
    })
}

/// A crop in whole pixels, of a picture of that size.
fn crop_of(mut body: ByteReader<'_>, (width, height): (u32, u32)) -> Option<[u32; 4]> {
    let mut fraction = || {
        let (above, below) = (body.number(4)? as u32 as i32, body.number(4)? as u32 as i32);
        (below != 0).then(|| f64::from(above) / f64::from(below))
    };
    let (w, h, x, y) = (fraction()?, fraction()?, fraction()?, fraction()?);
    let start = |whole: u32, part: f64, offset: f64| offset + (f64::from(whole) - part) / 2.0;
    let (left, top) = (start(width, w, x), start(height, h, y));
    let fits =
        |start: f64, part: f64, whole: u32| start >= 0.0 && part >= 1.0 && start + part <= f64::from(whole);
    let is_whole = [w, h, left, top].iter().all(|number| number.fract() == 0.0);
    (is_whole && fits(left, w, width) && fits(top, h, height))
        .then_some([w, h, left, top].map(|number| number as u32))
}
