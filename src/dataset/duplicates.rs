//! The duplicate search: which images are byte-identical, or near-identical by their perceptual hashes or by the cosine of
//! their features.
//!
//! A resized, recompressed or lighter copy of a photo has other bytes, nearly the same perceptual hash, and nearly the same
//! features. Hashes are of the pixels, so the same images are duplicates whatever the network and the layer. The cosine is
//! taken of features whose mean over all rows has been subtracted, because features after a ReLU all point roughly the same
//! way. Duplicates are joined transitively into groups (union-find).

mod hamming;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use ndarray::{Array1, Array2, ArrayView2, s};
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
#[derive(Debug, Clone, Copy)]
pub enum Likeness<'a> {
    /// Nothing does.
    None,
    /// Perceptual hashes, one an image, that differ in at most so many of 256 bits. An image without one is like no other.
    Hashes(&'a [Option<PerceptualHash>], u32),
    /// Centred features (n x d, finite) with a cosine above this.
    Features(ArrayView2<'a, f32>, f64),
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

    /// Joins rows whose centred `features` (n x d, finite) have a cosine above `threshold`. Exact: n² d / 2
    /// multiplications, in blocks that take little memory. A row that is the mean itself has no direction and is joined
    /// to none.
    fn similar(&mut self, features: ArrayView2<'_, f32>, threshold: f64) {
        let mut mean = Array1::<f64>::zeros(features.ncols());
        features.rows().into_iter().for_each(|row| mean.zip_mut_with(&row, |sum, &x| *sum += f64::from(x)));
        mean /= features.nrows().max(1) as f64;
        let starts: Vec<usize> = (0..features.nrows()).step_by(BLOCK).collect();
        let pairs: Vec<(usize, usize, f64)> = starts
            .par_iter()
            .flat_map_iter(|&left| {
                let a = directions(features, &mean, left);
                let mut found = Vec::new();
                for &right in starts.iter().filter(|&&right| right >= left) {
                    let products = a.dot(&directions(features, &mean, right).t());
                    for ((i, j), &cosine) in products.indexed_iter() {
                        if f64::from(cosine) > threshold && left + i < right + j {
                            found.push((left + i, right + j, f64::from(cosine).min(1.0)));
                        }
                    }
                }
                found
            })
            .collect();
        for (a, b, cosine) in pairs {
            self.join(a, b, cosine);
        }
    }

    /// The groups that have come about.
    fn finish(mut self) -> Duplicates {
        let rows = self.parents.len();
        let mut numbers = HashMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let groups: Vec<usize> = (0..rows)
            .map(|row| {
                let root = self.root(row);
                let number = *numbers.entry(root).or_insert_with(|| {
                    members.push(Vec::new());
                    members.len() - 1
                });
                members[number].push(row);
                number
            })
            .collect();
        let mut lowest = vec![1.0f64; members.len()];
        for &(row, similarity) in &self.links {
            let of_group = &mut lowest[groups[row]];
            *of_group = of_group.min(similarity);
        }
        let sets = members
            .into_iter()
            .zip(lowest)
            .filter(|(images, _)| images.len() > 1)
            .map(|(images, similarity)| DuplicateSet { images, similarity })
            .collect();
        Duplicates { groups, sets }
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
    pub fn find(sha256: &[String], groups: &[Option<String>], likeness: Likeness<'_>) -> Self {
        let mut rows = UnionFind::new(sha256.len());
        rows.equal(sha256.iter().map(|hash| (!hash.is_empty()).then_some(hash)));
        rows.equal(groups.iter().map(Option::as_ref));
        match likeness {
            Likeness::None => {}
            Likeness::Hashes(hashes, distance) => rows.near(hashes, distance),
            Likeness::Features(features, threshold) => rows.similar(features, threshold),
        }
        rows.finish()
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

/// The rows of a block, centred and brought to length 1.
fn directions(features: ArrayView2<'_, f32>, mean: &Array1<f64>, start: usize) -> Array2<f32> {
    let end = (start + BLOCK).min(features.nrows());
    let mut block = Array2::zeros((end - start, features.ncols()));
    for (row, mut out) in features.slice(s![start..end, ..]).rows().into_iter().zip(block.rows_mut()) {
        let square: f64 = row.iter().zip(mean).map(|(&x, m)| (f64::from(x) - m).powi(2)).sum();
        // A cosine that overflows float64 belongs to no features that could be learned from.
        let length = if square > 0.0 && square.is_finite() { square.sqrt() } else { continue };
        let centred = row.iter().zip(mean).map(|(&x, m)| ((f64::from(x) - m) / length) as f32);
        out.iter_mut().zip(centred).for_each(|(to, value)| *to = value);
    }
    block
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
        joining.similar(features.view(), 0.95);
        let found = joining.finish();
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
        joining.similar(features.view(), 0.9);
        assert!((joining.finish().sets[0].similarity - expected).abs() < 1e-6);
    }

    #[test]
    fn bytes_groups_and_hashes_join_together() {
        let sha256 = ["a", "", "b", "a", "", "c"].map(String::from);
        let groups = [None, Some("g"), Some("g"), None, None, None].map(|group| group.map(str::to_owned));
        let hashes = [Some([0; 32]), None, None, None, Some([0; 32]), None];
        let found = |groups: &[Option<String>], likeness| Duplicates::find(&sha256, groups, likeness).groups;
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
        joining.similar(Array2::from_elem((4, 3), 2.5).view(), 0.95);
        assert_eq!(joining.finish().sets, []);
        let mut none = UnionFind::new(0);
        none.similar(Array2::zeros((0, 3)).view(), 0.95);
        assert_eq!(none.finish().groups, [0usize; 0]);
    }
}
