//! The form of an image's activations at a layer (a vector, a map, or tokens), and how they are pooled.

use super::layer::{Layer, Tokens};
use super::pool::Pooling;

/// The form of one image's activations at a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activations {
    /// Without the batch: `[values]`, `[channels, height, width]`, or `[tokens, values]` for the tokens of a transformer.
    pub shape: Vec<usize>,
    /// What the rows are, if they are tokens.
    pub tokens: Option<TokenRows>,
}

/// What the rows of a layer of tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRows {
    /// Rows before the patches: class, distillation and register tokens.
    pub prefix: usize,
    /// Whether the first of them is a class token.
    pub class_token: bool,
    /// Rows and columns of the patches, which follow row by row.
    pub grid: [usize; 2],
}

/// Why a pooling cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum PoolingMismatch {
    #[error(
        "it has no tokens, so there is no class token to take; choose none, flatten, avg, max, gem or a grid"
    )]
    NoTokens,
    #[error("it has no class token; choose mean, max, gem, none, or a grid such as 2x2")]
    NoClassToken,
    #[error(
        "it is neither a map (channels x height x width) nor tokens that this program recognises; choose none or flatten, or name \
         another layer"
    )]
    NoPlaces,
    #[error("a grid of {k} x {k} is finer than its {rows} x {columns} places")]
    Finer { k: u32, rows: u32, columns: u32 },
}

impl Activations {
    /// The activations of `layer`, which have this shape, for images of `size` (width, height).
    pub(super) fn of(layer: &Layer, shape: Vec<usize>, size: (u32, u32)) -> Activations {
        let rows = match (&layer.tokens, &shape[..]) {
            (Some(tokens), &[rows, _]) => token_rows(tokens, rows, size),
            _ => None,
        };
        match rows {
            Some(rows) if layer.gives_channels_last() => Self::of_shape(rows.map_shape(shape[1]).to_vec()),
            tokens => Activations { shape, tokens },
        }
    }

    /// Activations of this shape that are not tokens.
    pub fn of_shape(shape: Vec<usize>) -> Activations {
        Activations { shape, tokens: None }
    }

    /// Rows and columns of the places at which there are values, for a map or tokens.
    pub fn places(&self) -> Option<[usize; 2]> {
        match (&self.tokens, &self.shape[..]) {
            (Some(tokens), _) => Some(tokens.grid),
            (None, &[_, height, width]) => Some([height, width]),
            _ => None,
        }
    }

    /// The pooling that [`pool`](Self::pool) does if `pooling` is asked for. A vector has nothing to pool. The mean over places
    /// is called `mean` for tokens and `avg` for maps.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn pooling(&self, pooling: Pooling) -> Result<Pooling, PoolingMismatch> {
        let takes_class = matches!(pooling, Pooling::ClassToken | Pooling::ClassTokenAndMean);
        match (&self.tokens, self.shape.len()) {
            (Some(tokens), _) if takes_class && !tokens.class_token => Err(PoolingMismatch::NoClassToken),
            (Some(_), _) if pooling == Pooling::Average => Ok(Pooling::PatchMean),
            (Some(TokenRows { grid: [rows, columns], .. }), _) => match pooling {
                Pooling::Grid(k) if k > *rows || k > *columns => {
                    // None is larger than a side of an image.
                    let [k, rows, columns] = [k, *rows, *columns].map(|number| number as u32);
                    Err(PoolingMismatch::Finer { k, rows, columns })
                }
                pooling => Ok(pooling),
            },
            (None, 1) if takes_class => Err(PoolingMismatch::NoTokens),
            (None, 1) => Ok(Pooling::None),
            (None, 3) if takes_class => Err(PoolingMismatch::NoTokens),
            (None, 3) if pooling == Pooling::PatchMean => Ok(Pooling::Average),
            (None, 3) => Ok(pooling),
            (None, _) if matches!(pooling, Pooling::None | Pooling::Flatten) => Ok(pooling),
            (None, _) => Err(PoolingMismatch::NoPlaces),
        }
    }

    /// The shape of one image's features under `pooling`, which [`pooling`](Self::pooling) gave.
    pub fn pooled_shape(&self, pooling: Pooling) -> Vec<usize> {
        match (&self.tokens, &self.shape[..]) {
            (Some(_), &[rows, width]) => match pooling {
                Pooling::None => self.shape.clone(),
                Pooling::Flatten => vec![rows * width],
                Pooling::ClassTokenAndMean => vec![2 * width],
                Pooling::Grid(k) => vec![width, k, k],
                _ => vec![width],
            },
            (None, shape) if pooling == Pooling::Flatten => vec![shape.iter().product()],
            _ => pooling.shape(&self.shape),
        }
    }

    /// Pools rows of activations, one image after another, into `out`, under a pooling that [`pooling`](Self::pooling) gave.
    pub fn pool(&self, pooling: Pooling, rows: &[f32], out: &mut Vec<f32>) {
        let (Some(tokens), &[count, width]) = (&self.tokens, &self.shape[..]) else {
            return pooling.apply(rows, &self.shape, out);
        };
        out.clear();
        if matches!(pooling, Pooling::None | Pooling::Flatten) {
            out.extend_from_slice(rows);
            return;
        }
        let mut pooled = Vec::new();
        for image in rows.chunks_exact(count * width) {
            if matches!(pooling, Pooling::ClassToken | Pooling::ClassTokenAndMean) {
                out.extend_from_slice(&image[..width]);
            }
            let on_map = match pooling {
                Pooling::ClassToken => continue,
                Pooling::PatchMean | Pooling::ClassTokenAndMean => Pooling::Average,
                pooling => pooling,
            };
            on_map.apply(&tokens.map(image, width), &tokens.map_shape(width), &mut pooled);
            out.extend_from_slice(&pooled);
        }
    }
}

impl TokenRows {
    /// The patches of one image as a map, width of a token x rows x columns.
    pub(crate) fn map(&self, image: &[f32], width: usize) -> Vec<f32> {
        let places = self.grid[0] * self.grid[1];
        let mut map = vec![0.0; width * places];
        for (place, token) in image[self.prefix * width..].chunks_exact(width).take(places).enumerate() {
            for (channel, &value) in token.iter().enumerate() {
                map[channel * places + place] = value;
            }
        }
        map
    }

    pub(crate) fn map_shape(&self, width: usize) -> [usize; 3] {
        [width, self.grid[0], self.grid[1]]
    }
}

/// What the rows of `count` tokens are; `None` if the tokens after the prefix do not form a grid of the image's proportions.
fn token_rows(tokens: &Tokens, count: usize, size: (u32, u32)) -> Option<TokenRows> {
    let patches = count.checked_sub(tokens.prefix)?;
    let grid = grid_of(patches, size)?;
    Some(TokenRows { prefix: tokens.prefix, class_token: tokens.class_token, grid })
}

/// Rows and columns of `count` square patches that cover an image of `size` (width, height), except for a rest at the borders.
pub(super) fn grid_of(patches: usize, (width, height): (u32, u32)) -> Option<[usize; 2]> {
    let (width, height) = (f64::from(width), f64::from(height));
    let fits = |&rows: &usize| {
        let columns = patches / rows;
        // A patch is at most the image's side over the number of patches, and at least that over one more.
        let patch = |length: f64, count: usize| (length / (count + 1) as f64, length / count as f64);
        let ((low, high), (other_low, other_high)) = (patch(height, rows), patch(width, columns));
        low < other_high && other_low < high
    };
    let skew = |&rows: &usize| {
        let columns = patches / rows;
        let ratio = (rows as f64 * width / (columns as f64 * height)).ln().abs();
        (ratio * 1e6) as u64
    };
    let most = patches.min(MOST_ROWS);
    (1..=most)
        .filter(|rows| patches.is_multiple_of(*rows))
        .filter(fits)
        .min_by_key(skew)
        .map(|rows| [rows, patches / rows])
}

/// More rows of patches than any network has.
const MOST_ROWS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_lie_in_a_grid_of_the_images_proportions() {
        assert_eq!(grid_of(196, (224, 224)), Some([14, 14]));
        assert_eq!(grid_of(16 * 9, (256, 144)), Some([9, 16]));
        assert_eq!(grid_of(37 * 37, (518, 518)), Some([37, 37]));
        // 225 / 16 leaves a pixel over.
        assert_eq!(grid_of(14 * 28, (450, 225)), Some([14, 28]));
        assert_eq!(grid_of(197, (224, 224)), None, "a class token was counted");
        assert_eq!(grid_of(0, (224, 224)), None);
    }

    /// Tokens of two values: class 1, register 9, patches (0 1) (2 3) / (4 5) (6 7).
    fn tokens() -> (Activations, Vec<f32>) {
        let rows = TokenRows { prefix: 2, class_token: true, grid: [2, 2] };
        let activations = Activations { shape: vec![6, 2], tokens: Some(rows) };
        (activations, vec![1., 1., 9., 9., 0., 1., 2., 3., 4., 5., 6., 7.])
    }

    #[test]
    fn tokens_are_pooled_without_those_that_are_no_patches() {
        let (activations, image) = tokens();
        let two = [&image[..], &image.iter().map(|x| -x).collect::<Vec<_>>()[..]].concat();
        for (pooling, expected) in [
            ("cls", vec![1., 1., -1., -1.]),
            ("mean", vec![3., 4., -3., -4.]),
            ("avg", vec![3., 4., -3., -4.]),
            ("cls+mean", vec![1., 1., 3., 4., -1., -1., -3., -4.]),
            ("max", vec![6., 7., 0., -1.]),
            ("2x2", vec![0., 2., 4., 6., 1., 3., 5., 7., 0., -2., -4., -6., -1., -3., -5., -7.]),
            ("none", two.clone()),
        ] {
            let pooling = activations.pooling(pooling.parse().unwrap()).unwrap();
            let mut out = Vec::new();
            activations.pool(pooling, &two, &mut out);
            assert_eq!(out, expected, "{pooling}");
            let width: usize = activations.pooled_shape(pooling).iter().product();
            assert_eq!(2 * width, expected.len(), "{pooling}");
        }
    }

    #[test]
    fn what_cannot_be_pooled_is_an_error_that_says_what_can() {
        let (activations, _) = tokens();
        assert_eq!(activations.pooling(Pooling::Average), Ok(Pooling::PatchMean));
        assert_eq!(
            activations.pooling(Pooling::Grid(3)),
            Err(PoolingMismatch::Finer { k: 3, rows: 2, columns: 2 })
        );
        let mut without = activations;
        without.tokens.as_mut().unwrap().class_token = false;
        assert_eq!(without.pooling(Pooling::ClassToken), Err(PoolingMismatch::NoClassToken));
        let of = |shape: &[usize], pooling| Activations::of_shape(shape.to_vec()).pooling(pooling);
        assert_eq!(of(&[8, 4, 4], Pooling::PatchMean), Ok(Pooling::Average));
        assert_eq!(of(&[8, 4, 4], Pooling::ClassToken), Err(PoolingMismatch::NoTokens));
        assert_eq!(of(&[4096], Pooling::Max), Ok(Pooling::None));
        assert_eq!(of(&[4096], Pooling::ClassToken), Err(PoolingMismatch::NoTokens));
        assert_eq!(of(&[50, 768], Pooling::Average), Err(PoolingMismatch::NoPlaces));
        assert_eq!(of(&[50, 768], Pooling::Flatten), Ok(Pooling::Flatten));
    }
}
