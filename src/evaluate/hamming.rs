//! Pairs of 256-bit hashes that differ in few bits, without comparing each with each.
//!
//! Multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012): a
//! hash is 16 bands of 16 bits. Two hashes that differ in fewer than 32 bits differ in at most one bit of at least one band, as
//! 16 bands of two bits each would make 32. So a hash is compared only with those that have, in some band, the same bits
//! or all but one. Of a million hashes in all directions that are 4,000 a hash.

use rayon::prelude::*;

use crate::images::{PerceptualHash, hamming_distance};

/// Bands of a hash.
const BANDS: usize = 16;

/// Values of a band.
const VALUES: usize = 1 << 16;

/// Distances from which on each hash is compared with each.
const FAR: u32 = 2 * BANDS as u32;

/// Comparisons whose finds are held in memory at a time.
const AT_ONCE: usize = 4 << 20;

/// Two hashes by their places, and in how many bits they differ.
pub(super) type Pair = (usize, usize, u32);

/// Hands out the pairs of `hashes` that differ in at most `distance` bits, in lists, in an order that depends on nothing else.
/// A pair may come several times.
pub(super) fn near_pairs(hashes: &[PerceptualHash], distance: u32, mut take: impl FnMut(Vec<Pair>)) {
    let each_with_each = hashes.len().saturating_mul(hashes.len()) / 2;
    if distance < FAR {
        let indices: Vec<Band> = (0..BANDS).map(|band| Band::new(hashes, band)).collect();
        if indices.iter().map(Band::comparisons).sum::<usize>() < each_with_each {
            return indices.iter().for_each(|band| band.search(hashes, distance, &mut take));
        }
    }
    let step = (AT_ONCE / hashes.len().max(1)).max(1);
    for start in (0..hashes.len()).step_by(step) {
        let rows = start..hashes.len().min(start + step);
        let near = |a: usize| (a + 1..hashes.len()).filter_map(move |b| pair(hashes, a, b, distance));
        take(rows.into_par_iter().flat_map_iter(near).collect());
    }
}

fn pair(hashes: &[PerceptualHash], a: usize, b: usize, most: u32) -> Option<Pair> {
    let distance = hamming_distance(&hashes[a], &hashes[b]);
    (distance <= most).then_some((a, b, distance))
}

/// The hashes by their bits in one band.
struct Band {
    number: usize,
    /// Where in `places` the hashes of each value begin, and one end more.
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl Band {
    fn new(hashes: &[PerceptualHash], number: usize) -> Self {
        let mut starts = vec![0u32; VALUES + 1];
        for hash in hashes {
            starts[value(hash, number) + 1] += 1;
        }
        for at in 0..VALUES {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut places = vec![0; hashes.len()];
        for (place, hash) in (0..).zip(hashes) {
            let slot = &mut next[value(hash, number)];
            places[*slot as usize] = place;
            *slot += 1;
        }
        Self { number, starts, places }
    }

    fn having(&self, value: usize) -> &[u32] {
        &self.places[self.starts[value] as usize..self.starts[value + 1] as usize]
    }

    /// Hashes that are compared with one of this value.
    fn neighbours(&self, value: usize) -> usize {
        probes(value).map(|probe| self.having(probe).len()).sum()
    }

    fn comparisons(&self) -> usize {
        (0..VALUES)
            .map(|value| self.having(value).len())
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(value, count)| count * self.neighbours(value) / 2)
            .sum()
    }

    fn search(&self, hashes: &[PerceptualHash], distance: u32, take: &mut impl FnMut(Vec<Pair>)) {
        let near = |a: usize| {
            probes(value(&hashes[a], self.number))
                .flat_map(|probe| self.having(probe))
                .map(|&b| b as usize)
                .filter(move |&b| a < b)
                .filter_map(move |b| pair(hashes, a, b, distance))
        };
        let mut start = 0;
        while start < hashes.len() {
            let (mut end, mut compared) = (start, 0);
            while end < hashes.len() && compared < AT_ONCE {
                compared += self.neighbours(value(&hashes[end], self.number));
                end += 1;
            }
            take((start..end).into_par_iter().flat_map_iter(near).collect());
            start = end;
        }
    }
}

fn value(hash: &PerceptualHash, band: usize) -> usize {
    usize::from(u16::from_be_bytes([hash[2 * band], hash[2 * band + 1]]))
}

/// A value, and those that differ from it in one bit.
fn probes(value: usize) -> impl Iterator<Item = usize> {
    std::iter::once(value).chain((0..16).map(move |bit| value ^ 1 << bit))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn found(hashes: &[PerceptualHash], distance: u32) -> BTreeSet<Pair> {
        let mut pairs = BTreeSet::new();
        near_pairs(hashes, distance, |found| pairs.extend(found));
        pairs
    }

    fn expected(hashes: &[PerceptualHash], distance: u32) -> BTreeSet<Pair> {
        let all = (0..hashes.len()).flat_map(|a| (a + 1..hashes.len()).map(move |b| (a, b)));
        let differ = |a: usize, b: usize| -> u32 {
            hashes[a].iter().zip(&hashes[b]).map(|(a, b)| (a ^ b).count_ones()).sum()
        };
        all.map(|(a, b)| (a, b, differ(a, b))).filter(|pair| pair.2 <= distance).collect()
    }

    /// Random hashes, and copies of some of them with up to `most` bits turned.
    fn hashes(count: usize, most: usize) -> Vec<PerceptualHash> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
        let mut hashes: Vec<PerceptualHash> = (0..count).map(|_| rng.random()).collect();
        for copy in (0..count).step_by(3) {
            let mut hash = hashes[rng.random_range(0..count)];
            for _ in 0..rng.random_range(0..=most) {
                let bit = rng.random_range(0..256);
                hash[bit / 8] ^= 1 << (bit % 8);
            }
            hashes[copy] = hash;
        }
        hashes
    }

    #[test]
    fn pairs_are_those_of_comparing_each_with_each() {
        let hashes = hashes(1500, 50);
        for distance in [0, 1, 15, 16, 31, 32, 40] {
            let expected = expected(&hashes, distance);
            assert!(distance < 15 || expected.len() > 100, "{}", expected.len());
            assert_eq!(found(&hashes, distance), expected, "{distance}");
        }
    }

    #[test]
    fn turned_bits_are_found_however_they_are_spread_over_the_bands() {
        let mut one_a_band = [0; 32];
        (0..16).for_each(|band| one_a_band[2 * band] = 1);
        let mut two_a_band_but_one = one_a_band;
        (0..15).for_each(|band| two_a_band_but_one[2 * band + 1] = 128);
        let far = [255; 32];
        let hashes = [[0; 32], one_a_band, two_a_band_but_one, far];
        let expected = BTreeSet::from([(0, 1, 16), (0, 2, 31), (1, 2, 15)]);
        assert_eq!(found(&hashes, 31), expected);
    }

    #[test]
    fn hashes_that_are_all_near_one_another_are_found_as_well() {
        let mut hashes = vec![[7; 32]; 300];
        for (row, hash) in hashes.iter_mut().enumerate() {
            hash[row % 32] ^= 1 << (row / 32 % 8);
        }
        assert_eq!(found(&hashes, 31), expected(&hashes, 31));
        assert_eq!(found(&hashes, 31).len(), 300 * 299 / 2);
    }

    #[test]
    fn no_hash_and_one_hash_have_no_pairs() {
        assert_eq!(found(&[], 31), BTreeSet::new());
        assert_eq!(found(&[[1; 32]], 31), BTreeSet::new());
    }
}
