//! Pooling of spatial maps: from a channel's H x W activations to one number, or to a small grid of numbers. Tokens are pooled
//! by [`Activations`](super::Activations), which knows which of them are patches.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number of partial sums of a sum over a map, so that an addition need not wait for the one before it.
const LANES: usize = 16;

/// The exponent of generalised-mean pooling, as Radenović et al. start from it.
pub(crate) const GEM_EXPONENT: f64 = 3.0;

/// The smallest activation in generalised-mean pooling; smaller ones count as this, so that the root has a slope everywhere.
pub(crate) const GEM_LEAST: f32 = 1e-6;

/// The largest grid that is plausible.
const MAX_GRID: usize = 64;

/// How maps of C x H x W, or the tokens of a transformer, become features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pooling {
    /// The whole map, which keeps its shape.
    #[default]
    None,
    /// The whole map as one vector, in the order C, H, W.
    Flatten,
    /// The mean of each channel: C features.
    Average,
    /// The maximum of each channel: C features.
    Max,
    /// The generalised mean `(mean x^p)^(1/p)` of each channel with p = 3 and x at least 1e-6 (Radenović, Tolias &
    /// Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018): C features.
    Gem,
    /// The mean of each cell of a k x k grid over the map: C x k x k features. A cell goes from `floor(i H / k)` to
    /// `ceil((i + 1) H / k)`, as PyTorch's adaptive average pooling has it, so cells of an uneven map overlap.
    Grid(usize),
    /// The class token, of a layer of tokens.
    ClassToken,
    /// The mean of the tokens that are patches.
    PatchMean,
    /// The class token, then the mean of the patches.
    ClassTokenAndMean,
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pooling::None => f.write_str("none"),
            Pooling::Flatten => f.write_str("flatten"),
            Pooling::Average => f.write_str("avg"),
            Pooling::Max => f.write_str("max"),
            Pooling::Gem => f.write_str("gem"),
            Pooling::Grid(k) => write!(f, "{k}x{k}"),
            Pooling::ClassToken => f.write_str("cls"),
            Pooling::PatchMean => f.write_str("mean"),
            Pooling::ClassTokenAndMean => f.write_str("cls+mean"),
        }
    }
}

impl From<Pooling> for String {
    fn from(pooling: Pooling) -> String {
        pooling.to_string()
    }
}

impl TryFrom<String> for Pooling {
    type Error = UnknownPooling;

    fn try_from(text: String) -> Result<Pooling, UnknownPooling> {
        text.parse()
    }
}

/// A word that is no pooling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pooling; choose none, flatten, avg, max, gem, a square grid such as 2x2, or for tokens cls, mean or cls+mean"
)]
pub struct UnknownPooling(String);

impl FromStr for Pooling {
    type Err = UnknownPooling;

    fn from_str(text: &str) -> Result<Pooling, UnknownPooling> {
        let unknown = || UnknownPooling(text.to_owned());
        Ok(match text {
            "none" => Pooling::None,
            "flatten" => Pooling::Flatten,
            "avg" => Pooling::Average,
            "max" => Pooling::Max,
            "gem" => Pooling::Gem,
            "cls" => Pooling::ClassToken,
            "mean" => Pooling::PatchMean,
            "cls+mean" => Pooling::ClassTokenAndMean,
            _ => {
                let (rows, columns) = text.split_once('x').ok_or_else(unknown)?;
                match rows.parse() {
                    // Only the plain spelling, so that a pooling has one name.
                    Ok(k @ 1..=MAX_GRID) if rows == columns && rows == k.to_string() => Pooling::Grid(k),
                    _ => return Err(unknown()),
                }
            }
        })
    }
}

impl Pooling {
    /// The pooling that is done to activations of `shape`: none if they are not a map.
    pub fn on(self, shape: &[usize]) -> Pooling {
        if shape.len() == 3 { self } else { Pooling::None }
    }

    /// The shape of one image's features, given that of its activations.
    pub fn shape(self, shape: &[usize]) -> Vec<usize> {
        match (self.on(shape), shape) {
            (Pooling::None, _) => shape.to_vec(),
            (Pooling::Flatten, _) => vec![shape.iter().product()],
            (Pooling::Grid(k), &[channels, ..]) => vec![channels, k, k],
            (_, &[channels, ..]) => vec![channels],
            (_, &[]) => Vec::new(),
        }
    }

    /// Pools rows of activations of `shape`, C x H x W, one image after another, into `out`.
    pub fn apply(self, rows: &[f32], shape: &[usize], out: &mut Vec<f32>) {
        out.clear();
        let (pooling, &[_, height, width]) = (self.on(shape), shape) else {
            out.extend_from_slice(rows);
            return;
        };
        let maps = rows.chunks_exact(height * width);
        let mean = |map: &[f32]| sum(map, f64::from) / map.len() as f64;
        match pooling {
            // There are no tokens in a map.
            Pooling::None | Pooling::Flatten | Pooling::ClassToken | Pooling::ClassTokenAndMean => {
                out.extend_from_slice(rows);
            }
            Pooling::Average | Pooling::PatchMean => out.extend(maps.map(|map| mean(map) as f32)),
            Pooling::Max => out.extend(maps.map(|map| map.iter().copied().fold(f32::NEG_INFINITY, f32::max))),
            Pooling::Gem => out.extend(maps.map(|map| {
                let power = |x: f32| {
                    let x = f64::from(x.max(GEM_LEAST));
                    x * x * x
                };
                (sum(map, power) / map.len() as f64).cbrt() as f32
            })),
            Pooling::Grid(k) => {
                for map in maps {
                    for row in 0..k {
                        for column in 0..k {
                            out.push(cell(
                                map,
                                width,
                                cell_range(row, k, height),
                                cell_range(column, k, width),
                            ));
                        }
                    }
                }
            }
        }
    }
}

/// Sum of `term` over the places of a map.
fn sum(map: &[f32], term: impl Fn(f32) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (whole, rest) = map.as_chunks::<LANES>();
    for values in whole {
        for lane in 0..LANES {
            sums[lane] += term(values[lane]);
        }
    }
    rest.iter().zip(&mut sums).for_each(|(&value, sum)| *sum += term(value));
    sums.iter().sum()
}

/// Where the cell `index` of `k` begins and ends along a side of `length`.
pub(crate) fn cell_range(index: usize, k: usize, length: usize) -> std::ops::Range<usize> {
    index * length / k..((index + 1) * length).div_ceil(k)
}

fn cell(map: &[f32], width: usize, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> f32 {
    let count = rows.len() * columns.len();
    let total: f64 = rows.map(|row| sum(&map[row * width..][columns.clone()], f64::from)).sum();
    (total / count as f64) as f32
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::Pooling;

    #[test]
    fn words_and_poolings_correspond() {
        for text in ["none", "flatten", "avg", "max", "gem", "1x1", "3x3", "cls", "mean", "cls+mean"] {
            assert_eq!(text.parse::<Pooling>().unwrap().to_string(), text);
        }
        for text in ["", "median", "2x3", "0x0", "x", "2x", "+2x+2", "1000x1000"] {
            let error = text.parse::<Pooling>().unwrap_err().to_string();
            assert!(error.contains("gem"), "{error}");
        }
    }

    #[test]
    fn shapes_follow_the_pooling_and_vectors_stay() {
        let map = [512, 7, 7];
        assert_eq!(Pooling::None.shape(&map), [512, 7, 7]);
        assert_eq!(Pooling::Flatten.shape(&map), [25_088]);
        assert_eq!(Pooling::Gem.shape(&map), [512]);
        assert_eq!(Pooling::Grid(2).shape(&map), [512, 2, 2]);
        assert_eq!(Pooling::Max.shape(&[4096]), [4096]);
        let mut out = Vec::new();
        Pooling::Max.apply(&[1.0, 5.0, 2.0], &[3], &mut out);
        assert_eq!(out, [1.0, 5.0, 2.0]);
    }

    /// Reference values from PyTorch (`scripts/reference/make_pooling_reference.py`).
    #[test]
    fn poolings_equal_pytorchs() {
        let text = include_str!("../../tests/reference/pooling.json");
        let reference: Value = serde_json::from_str(text).unwrap();
        let numbers = |value: &Value| -> Vec<f32> {
            value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
        };
        let shape: Vec<usize> =
            reference["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        let input = numbers(&reference["input"]);
        let mut out = Vec::new();
        let poolings = reference["pooled"].as_object().unwrap();
        assert_eq!(poolings.len(), 6);
        for (name, expected) in poolings {
            name.parse::<Pooling>().unwrap().apply(&input, &shape, &mut out);
            let expected = numbers(expected);
            assert_eq!(out.len(), expected.len(), "{name}");
            for (found, expected) in out.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                    "{name}: {found}, not {expected}"
                );
            }
        }
    }
}
