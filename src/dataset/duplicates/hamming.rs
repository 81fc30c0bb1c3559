//! Pairs of 256-bit hashes that differ in few bits, without comparing each with each.
//!
//! Multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012): a
//! hash is 16 bands of 16 bits. Two hashes that differ in fewer than 32 bits differ in at most one bit of at least one band, as
//! 16 bands of two bits each would make 32. So a hash is compared only with those that have, in some band, the same bits
//! or all but one. Of a million hashes in all directions that are some 2,000 for each.

use std::ops::Range;

use rayon::prelude::*;

use crate::images::PerceptualHash;

/// Bands of a hash.
const BANDS: usize = 16;

/// Values of a band.
const VALUES: usize = 1 << 16;

/// Distances from which on each hash is compared with each.
const FAR: u32 = 2 * BANDS as u32;

/// Comparisons whose finds are held in memory at a time.
const AT_ONCE: usize = 4 << 20;

/// Two hashes by their places, and in how many bits they differ.
pub(super) type HashPair = (usize, usize, u32);

/// Hands out the pairs of `hashes` that differ in at most `distance` bits, in lists, in an order that depends on nothing else.
/// A pair may come several times.
pub(super) fn near_pairs(hashes: &[PerceptualHash], distance: u32, mut take: impl FnMut(Vec<HashPair>)) {
    let each_with_each = hashes.len().saturating_mul(hashes.len()) / 2;
    // Where many hashes have the same bits, the bands tell little.
    let compared = |band| Buckets::new(hashes, band).comparisons();
    if distance < FAR && (0..BANDS).map(compared).sum::<usize>() < each_with_each {
        (0..BANDS).for_each(|band| Band::new(hashes, band).search(distance, &mut take));
        return;
    }
    let step = (AT_ONCE / hashes.len().max(1)).max(1);
    for start in (0..hashes.len()).step_by(step) {
        let rows = start..hashes.len().min(start + step);
        let near = |a: usize| {
            let others = hashes.iter().enumerate().skip(a + 1);
            others.filter_map(move |(b, hash)| Some((a, b, within(&hashes[a], hash, distance)?)))
        };
        take(rows.into_par_iter().flat_map_iter(near).collect());
    }
}

/// In how many bits two hashes differ, if these are no more than `most`. Of most pairs half of the bits need not be looked at.
fn within(a: &PerceptualHash, b: &PerceptualHash, most: u32) -> Option<u32> {
    let mut distance = 0;
    for (&a, &b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        distance += (u64::from_ne_bytes(a) ^ u64::from_ne_bytes(b)).count_ones();
        if distance > most {
            return None;
        }
    }
    Some(distance)
}

/// Where the hashes of each value of a band begin once they are sorted by it, and where the last end.
struct Buckets(Vec<usize>);

impl Buckets {
    fn new(hashes: &[PerceptualHash], band: usize) -> Self {
        let mut starts = vec![0; VALUES + 1];
        hashes.iter().for_each(|hash| starts[value(hash, band) + 1] += 1);
        for at in 0..VALUES {
            starts[at + 1] += starts[at];
        }
        Self(starts)
    }

    fn of(&self, value: usize) -> Range<usize> {
        self.0[value]..self.0[value + 1]
    }

    /// The hashes that one of this value is compared with, beside those of its own value: those that differ from it in one
    /// bit, which they have and it has not.
    fn beside(&self, value: usize) -> impl Iterator<Item = Range<usize>> {
        (0..16).filter(move |bit| value >> bit & 1 == 0).map(move |bit| self.of(value | 1 << bit))
    }

    /// How many those are, and those of its own value.
    fn compared(&self, value: usize) -> usize {
        self.of(value).len() + self.beside(value).map(|bucket| bucket.len()).sum::<usize>()
    }

    fn comparisons(&self) -> usize {
        (0..VALUES).map(|value| self.of(value).len() * self.compared(value)).sum()
    }
}

/// The hashes sorted by their bits in one band, so that those that are compared lie side by side.
struct Band {
    number: usize,
    buckets: Buckets,
    sorted: Vec<PerceptualHash>,
    /// Where each stood before.
    places: Vec<u32>,
}

impl Band {
    fn new(hashes: &[PerceptualHash], number: usize) -> Self {
        let buckets = Buckets::new(hashes, number);
        let mut next = buckets.0.clone();
        let (mut sorted, mut places) = (vec![[0; 32]; hashes.len()], vec![0; hashes.len()]);
        for (place, hash) in (0..).zip(hashes) {
            let slot = &mut next[value(hash, number)];
            (sorted[*slot], places[*slot]) = (*hash, place);
            *slot += 1;
        }
        Self { number, buckets, sorted, places }
    }

    fn search(&self, distance: u32, take: &mut impl FnMut(Vec<HashPair>)) {
        let near = |at: usize| {
            let hash = &self.sorted[at];
            let value = value(hash, self.number);
            let own = at + 1..self.buckets.of(value).end;
            let others = std::iter::once(own).chain(self.buckets.beside(value)).flatten();
            others.filter_map(move |other| {
                let bits = within(hash, &self.sorted[other], distance)?;
                let (a, b) = (self.places[at] as usize, self.places[other] as usize);
                Some((a.min(b), a.max(b), bits))
            })
        };
        let mut start = 0;
        while start < self.sorted.len() {
            let (mut end, mut compared) = (start, 0);
            while end < self.sorted.len() && compared < AT_ONCE {
                compared += self.buckets.compared(value(&self.sorted[end], self.number));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn found(hashes: &[PerceptualHash], distance: u32) -> BTreeSet<HashPair> {
        let mut pairs = BTreeSet::new();
        near_pairs(hashes, distance, |found| pairs.extend(found));
        pairs
    }

    fn expected(hashes: &[PerceptualHash], distance: u32) -> BTreeSet<HashPair> {
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
