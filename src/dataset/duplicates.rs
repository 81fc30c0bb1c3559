//! The duplicate search: which images are byte-identical, or near-identical by their perceptual hashes or by the cosine of
//! their features.
//!
//! A resized, recompressed or lighter copy of a photo has other bytes, nearly the same perceptual hash, and nearly the same
//! features. Hashes are of the pixels, so the same images are duplicates whatever the network and the layer. The cosine is
//! taken of features whose mean over all rows has been subtracted, because features after a ReLU all point roughly the same
//! way. Duplicates are joined transitively into groups (union-find).

mod hamming;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::Hash;

use cnncodes_linear_heads::{BoxedError, RowSource};
use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::hamming::near_pairs;
use crate::images::PerceptualHash;

/// Bits of 256 in which the perceptual hashes of duplicates differ at most, as PDQ's authors recommend. On 808 photos
/// duplicates differ in 8 and less, all other pairs in 52 and more.
pub const DUPLICATE_DISTANCE: u32 = 31;

/// Cosine of centred features above which two images count as duplicates if there are no hashes. On 808 photos with
/// MobileNetV2's pooled features this finds the same 765 groups as a cosine of 0.97 of the features as they are, none of them across classes; pairs below it
/// are different photos of one animal or scene.
pub const DUPLICATE_THRESHOLD: f64 = 0.95;

/// Rows above which near-identical images are looked for only when asked: n rows of d features take n² d / 2
/// multiplications; 20,000 x 2048 took 23 s on two cores.
pub const MOST_COMPARED: usize = 20_000;

/// Rows that are compared with as many others at once.
const BLOCK: usize = 256;

/// Which rows are duplicates of one another.
#[derive(Debug, Clone, PartialEq)]
pub struct Duplicates {
    /// A number for each row, equal for duplicates.
    pub groups: Vec<usize>,
    /// The groups of more than one row, in order of their first rows.
    pub sets: Vec<DuplicateSet<usize>>,
}

/// Images that are duplicates of one another; `I` is a row or a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DuplicateSet<I> {
    /// The images, in order of their rows.
    pub images: Vec<I>,
    /// The lowest likeness that joined any of them: the share of equal bits of their perceptual hashes, or the cosine of their
    /// features; 1 for byte-identical files and images that were said to belong together.
    pub similarity: f64,
}

/// What makes images of different bytes duplicates of one another.
#[derive(Clone, Copy)]
pub enum Likeness<'a> {
    /// Nothing does.
    None,
    /// Perceptual hashes, one an image, that differ in at most so many of 256 bits. An image without one is like no other.
    Hashes(&'a [Option<PerceptualHash>], u32),
    /// Centred features with a cosine above a threshold.
    Features {
        /// The features (n x d, finite), wherever they lie.
        source: &'a dyn RowSource,
        /// The cosine.
        threshold: f64,
        /// Bytes of the features that may be in memory at a time. With a share `m` of all, they are read `1 / 2m` times.
        memory: usize,
    },
}

impl fmt::Debug for Likeness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Hashes(hashes, distance) => write!(f, "Hashes of {} within {distance}", hashes.len()),
            Self::Features { source, threshold, .. } => {
                write!(f, "Features of {} above {threshold}", source.rows())
            }
        }
    }
}

/// Rows that are being joined.
#[derive(Debug)]
struct UnionFind {
    parents: Vec<usize>,
    links: Vec<(usize, f64)>,
}

impl UnionFind {
    /// Every row for itself.
    fn new(rows: usize) -> Self {
        Self { parents: (0..rows).collect(), links: Vec::new() }
    }

    /// Joins rows with equal keys, such as the SHA-256 of their files; rows without a key stay alone.
    fn equal<K: Hash + Eq>(&mut self, keys: impl IntoIterator<Item = Option<K>>) {
        let mut first = HashMap::new();
        for (row, key) in keys.into_iter().enumerate() {
            let Some(key) = key else { continue };
            let first = *first.entry(key).or_insert(row);
            self.join(first, row, 1.0);
        }
    }

    /// Joins rows whose `hashes` differ in at most `distance` of 256 bits; rows without a hash stay alone.
    fn near(&mut self, hashes: &[Option<PerceptualHash>], distance: u32) {
        self.equal(hashes.iter().copied());
        let mut seen = HashSet::with_capacity(hashes.len());
        let (rows, distinct): (Vec<usize>, Vec<PerceptualHash>) = hashes
            .iter()
            .enumerate()
            .filter_map(|(row, hash)| Some((row, (*hash)?)))
            .filter(|(_, hash)| seen.insert(*hash))
            .unzip();
        near_pairs(&distinct, distance, |pairs| {
            for (a, b, bits) in pairs {
                self.join(rows[a], rows[b], 1.0 - f64::from(bits) / 256.0);
            }
        });
    }

    /// Joins rows whose centred features (n x d, finite) have a cosine above `threshold`. Exact: n² d / 2 multiplications. A row that
    /// is the mean itself has no direction and is joined to none.
    ///
    /// As many rows as `memory` holds are compared with those after them, which pass block by block; then the next ones are.
    fn similar(&mut self, source: &dyn RowSource, threshold: f64, memory: usize) -> Result<(), BoxedError> {
        let (rows, columns) = (source.rows(), source.columns());
        let mean = mean(source)?;
        let blocks = rows.div_ceil(BLOCK);
        let of_block = 4 * BLOCK * columns.max(1);
        // Two blocks pass: as they are read, and their directions.
        let at_once = (memory / of_block).saturating_sub(2).max(1);
        for first in (0..blocks).step_by(at_once) {
            let own = first..blocks.min(first + at_once);
            let kept: Vec<Array2<f32>> =
                own.clone().map(|block| directions(source, &mean, block)).collect::<Result<_, _>>()?;
            let mut pairs: Vec<(usize, usize, f64)> = Vec::new();
            for block in first..blocks {
                let passing =
                    if own.contains(&block) { None } else { Some(directions(source, &mean, block)?) };
                let other = passing.as_ref().unwrap_or_else(|| &kept[block - first]);
                let compared = &kept[..kept.len().min(block - first + 1)];
                pairs.par_extend(compared.par_iter().enumerate().flat_map_iter(|(at, own)| {
                    alike(own, other, threshold, ((first + at) * BLOCK, block * BLOCK))
                }));
            }
            // The order of the comparisons does not show in what is found.
            pairs.sort_unstable_by_key(|&(a, b, _)| (a / BLOCK, b / BLOCK, a, b));
            for (a, b, cosine) in pairs {
                self.join(a, b, cosine);
            }
        }
        Ok(())
    }

    /// The groups that have come about.
    fn finish(mut self) -> Duplicates {
        let rows = self.parents.len();
        // By root; `rows` where a group has none yet.
        let mut numbers = vec![rows; rows];
        let mut sizes: Vec<usize> = Vec::new();
        let groups: Vec<usize> = (0..rows)
            .map(|row| {
                let root = self.root(row);
                if numbers[root] == rows {
                    numbers[root] = sizes.len();
                    sizes.push(0);
                }
                sizes[numbers[root]] += 1;
                numbers[root]
            })
            .collect();
        // Most images stand alone, and those of a few million are not worth a list each.
        let mut sets: BTreeMap<usize, DuplicateSet<usize>> = BTreeMap::new();
        for (row, group) in groups.iter().enumerate().filter(|&(_, group)| sizes[*group] > 1) {
            let set = sets.entry(*group);
            let set = set.or_insert_with(|| DuplicateSet { images: Vec::new(), similarity: 1.0 });
            set.images.push(row);
        }
        for (row, similarity) in self.links {
            if let Some(set) = sets.get_mut(&groups[row]) {
                set.similarity = set.similarity.min(similarity);
            }
        }
        Duplicates { groups, sets: sets.into_values().collect() }
    }

    fn root(&mut self, mut row: usize) -> usize {
        while self.parents[row] != row {
            // Halving the path on the way keeps later walks short.
            self.parents[row] = self.parents[self.parents[row]];
            row = self.parents[row];
        }
        row
    }

    fn join(&mut self, a: usize, b: usize, similarity: f64) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parents[a.max(b)] = a.min(b);
            self.links.push((a, similarity));
        }
    }
}

impl Duplicates {
    /// Finds the duplicates among images: those of the same `sha256` (an empty one is unknown), those of the same one of
    /// `groups` (which may be empty, or else has one element an image), and those that are alike.
    ///
    /// # Errors
    /// Features cannot be read from where they lie.
    pub fn find(
        sha256: &[String],
        groups: &[Option<String>],
        likeness: Likeness<'_>,
    ) -> Result<Self, BoxedError> {
        let mut rows = UnionFind::new(sha256.len());
        rows.equal(sha256.iter().map(|hash| (!hash.is_empty()).then_some(hash)));
        rows.equal(groups.iter().map(Option::as_ref));
        match likeness {
            Likeness::None => {}
            Likeness::Hashes(hashes, distance) => rows.near(hashes, distance),
            Likeness::Features { source, threshold, memory } => rows.similar(source, threshold, memory)?,
        }
        Ok(rows.finish())
    }

    /// How many images could be left out without losing a photo.
    pub fn surplus(&self) -> usize {
        self.sets.iter().map(|set| set.images.len() - 1).sum()
    }

    /// The sets with the images' names.
    pub fn named(&self, names: &[String]) -> Vec<DuplicateSet<String>> {
        let named = |set: &DuplicateSet<usize>| DuplicateSet {
            images: set.images.iter().map(|&row| names[row].clone()).collect(),
            similarity: set.similarity,
        };
        self.sets.iter().map(named).collect()
    }

    /// What is left of the groups and sets when only the given rows are kept, which are numbered anew.
    pub fn select(&self, rows: &[usize]) -> Self {
        let position: HashMap<usize, usize> = rows.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let sets = self.sets.iter().map(|set| DuplicateSet {
            images: set.images.iter().filter_map(|row| position.get(row).copied()).collect(),
            similarity: set.similarity,
        });
        Self {
            groups: rows.iter().map(|&row| self.groups[row]).collect(),
            sets: sets.filter(|set| set.images.len() > 1).collect(),
        }
    }

    /// The smallest number of groups that any of the classes present has.
    pub fn fewest_of_a_class(&self, labels: &[usize]) -> usize {
        let mut seen: Vec<(usize, usize)> = labels.iter().copied().zip(self.groups.iter().copied()).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).min().unwrap_or(0)
    }
}

/// Mean of each column.
fn mean(source: &dyn RowSource) -> Result<Vec<f64>, BoxedError> {
    let mut mean = vec![0.0; source.columns()];
    for block in 0..source.rows().div_ceil(BLOCK) {
        for row in read(source, block)?.rows() {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
    }
    let count = source.rows().max(1) as f64;
    mean.iter_mut().for_each(|sum| *sum /= count);
    Ok(mean)
}

/// The rows of a block.
fn read(source: &dyn RowSource, block: usize) -> Result<Array2<f32>, BoxedError> {
    let (start, columns) = (block * BLOCK, source.columns());
    let end = source.rows().min(start + BLOCK);
    let mut values = vec![0.0; (end - start) * columns];
    source.read(start..end, &mut values)?;
    Ok(Array2::from_shape_vec((end - start, columns), values)?)
}

/// The rows of a block, centred and brought to length 1.
fn directions(source: &dyn RowSource, mean: &[f64], block: usize) -> Result<Array2<f32>, BoxedError> {
    let mut rows = read(source, block)?;
    for mut row in rows.rows_mut() {
        let square: f64 = row.iter().zip(mean).map(|(&x, m)| (f64::from(x) - m).powi(2)).sum();
        // A cosine that overflows float64 belongs to no features that could be learned from.
        if square > 0.0 && square.is_finite() {
            let length = square.sqrt();
            row.iter_mut().zip(mean).for_each(|(x, m)| *x = ((f64::from(*x) - m) / length) as f32);
        } else {
            row.fill(0.0);
        }
    }
    Ok(rows)
}

/// The pairs of a row of one block and a later row of another one with a cosine above `threshold`, by their numbers; `from` are
/// the blocks' first rows.
fn alike(a: &Array2<f32>, b: &Array2<f32>, threshold: f64, from: (usize, usize)) -> Vec<(usize, usize, f64)> {
    let products = a.dot(&b.t());
    let pair = |((i, j), &cosine): ((usize, usize), &f32)| (from.0 + i, from.1 + j, f64::from(cosine));
    let is_alike = |&(a, b, cosine): &(usize, usize, f64)| cosine > threshold && a < b;
    let found = products.indexed_iter().map(pair).filter(is_alike);
    found.map(|(a, b, cosine)| (a, b, cosine.min(1.0))).collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    /// Rows in all directions, of which some are copies with a little noise.
    fn features(rows: usize, copies: &[(usize, usize)]) -> Array2<f32> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let mut features = Array2::from_shape_fn((rows, 40), |_| 5.0 + rng.random_range(-1.0..1.0));
        for &(of, copy) in copies {
            for j in 0..40 {
                features[[copy, j]] = features[[of, j]] + rng.random_range(-0.1..0.1);
            }
        }
        features
    }

    #[test]
    fn near_copies_are_joined_transitively_and_across_blocks() {
        let features = features(600, &[(3, 599), (599, 300), (10, 11)]);
        let mut joining = UnionFind::new(600);
        joining.similar(&features.view(), 0.95, usize::MAX).unwrap();
        let found = joining.finish();
        // However few rows are in memory, the same is found.
        for memory in [0, 4 * 4 * 256 * 40] {
            let mut joining = UnionFind::new(600);
            joining.similar(&features.view(), 0.95, memory).unwrap();
            assert_eq!(joining.finish(), found);
        }
        let rows: Vec<&[usize]> = found.sets.iter().map(|set| &set.images[..]).collect();
        assert_eq!(rows, [&[3, 300, 599][..], &[10, 11]]);
        assert!(found.sets.iter().all(|set| (0.95..1.0).contains(&set.similarity)));
        assert_eq!(found.groups.iter().max(), Some(&596));
        assert_eq!(found.surplus(), 3);
    }

    #[test]
    fn cosines_are_those_of_the_centred_rows() {
        let features = features(5, &[(0, 4)]);
        let mean = features.mapv(f64::from).mean_axis(ndarray::Axis(0)).unwrap();
        let centred = |row: usize| features.row(row).mapv(f64::from) - &mean;
        let (a, b) = (centred(0), centred(4));
        let expected = a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt();
        let mut joining = UnionFind::new(5);
        joining.similar(&features.view(), 0.9, usize::MAX).unwrap();
        assert!((joining.finish().sets[0].similarity - expected).abs() < 1e-6);
    }

    #[test]
    fn bytes_groups_and_hashes_join_together() {
        let sha256 = ["a", "", "b", "a", "", "c"].map(String::from);
        let groups = [None, Some("g"), Some("g"), None, None, None].map(|group| group.map(str::to_owned));
        let hashes = [Some([0; 32]), None, None, None, Some([0; 32]), None];
        let found =
            |groups: &[Option<String>], likeness| Duplicates::find(&sha256, groups, likeness).unwrap().groups;
        assert_eq!(found(&[], Likeness::None), [0, 1, 2, 0, 3, 4]);
        assert_eq!(found(&groups, Likeness::None), [0, 1, 1, 0, 2, 3]);
        assert_eq!(found(&groups, Likeness::Hashes(&hashes, 31)), [0, 1, 1, 0, 0, 2]);
    }

    #[test]
    fn equal_keys_join_and_missing_ones_do_not() {
        let mut joining = UnionFind::new(5);
        joining.equal([Some("a"), None, Some("b"), Some("a"), None]);
        let found = joining.finish();
        assert_eq!(found.groups, [0, 1, 2, 0, 3]);
        assert_eq!(found.sets, [DuplicateSet { images: vec![0, 3], similarity: 1.0 }]);
        assert_eq!(found.fewest_of_a_class(&[0, 0, 1, 0, 1]), 2);
    }

    #[test]
    fn hashes_join_within_a_distance_and_missing_ones_do_not() {
        let with = |bits: usize| {
            let mut hash = [3; 32];
            (0..bits).for_each(|bit| hash[bit % 32] ^= 1 << (bit / 32));
            Some(hash)
        };
        let hashes = [with(0), None, with(31), with(100), with(62), None, with(100)];
        let mut joining = UnionFind::new(7);
        joining.near(&hashes, 31);
        let found = joining.finish();
        assert_eq!(found.groups, [0, 1, 0, 2, 0, 3, 2]);
        let likeness: Vec<f64> = found.sets.iter().map(|set| set.similarity).collect();
        assert_eq!(likeness, [1.0 - 31.0 / 256.0, 1.0]);
        let mut joining = UnionFind::new(7);
        joining.near(&hashes, 30);
        assert_eq!(joining.finish().sets.len(), 1);
    }

    #[test]
    fn equal_rows_and_no_rows_are_no_problem() {
        let mut joining = UnionFind::new(4);
        joining.similar(&Array2::from_elem((4, 3), 2.5).view(), 0.95, 0).unwrap();
        assert_eq!(joining.finish().sets, []);
        let mut none = UnionFind::new(0);
        none.similar(&Array2::zeros((0, 3)).view(), 0.95, 0).unwrap();
        assert_eq!(none.finish().groups, [0usize; 0]);
    }
}
