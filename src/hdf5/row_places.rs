//! Where the rows of a dataset lie in its file, for who reads or writes them past everything that knows HDF5.

/// The places of all rows of a dataset. Rows that lie one after the other without a gap form a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPlaces {
    /// The first row of each run, and where in the file it begins; ascending, and the first row is 0.
    runs: Vec<(u64, u64)>,
    rows: u64,
    row_bytes: u64,
}

impl RowPlaces {
    /// `pieces` are the rows at which a new piece begins, ascending from 0, and where in the file it does. They follow each other, so
    /// that each ends where the next one begins; the last one ends after `rows`.
    pub(super) fn new(pieces: impl Iterator<Item = (u64, u64)>, rows: u64, row_bytes: u64) -> Self {
        let mut places = Self { runs: Vec::new(), rows, row_bytes };
        for (first, position) in pieces {
            let follows = places.runs.last().is_some_and(|&run| places.within(run, first) == position);
            if !follows {
                places.runs.push((first, position));
            }
        }
        places
    }

    fn within(&self, (first, position): (u64, u64), row: u64) -> u64 {
        position.saturating_add((row - first).saturating_mul(self.row_bytes))
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    /// Where a row begins in the file, in bytes, and how many rows lie there one after the other, itself included. `None` beyond the
    /// last row.
    pub fn at(&self, row: u64) -> Option<(u64, u64)> {
        if row >= self.rows {
            return None;
        }
        let next = self.runs.partition_point(|&(first, _)| first <= row);
        let run = *self.runs.get(next.checked_sub(1)?)?;
        let end = self.runs.get(next).map_or(self.rows, |&(first, _)| first);
        Some((self.within(run, row), end - row))
    }

    /// Where the first row begins, if all rows lie in one piece.
    pub fn in_one_piece(&self) -> Option<u64> {
        match self.runs[..] {
            [(_, position)] => Some(position),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_follow_each_other_are_one_run() {
        // Rows of 10 bytes in pieces of 4 rows; the third one lies elsewhere.
        let places = RowPlaces::new([(0, 100), (4, 140), (8, 20), (12, 60)].into_iter(), 14, 10);
        assert_eq!(places.runs, [(0, 100), (8, 20)]);
        for (row, place) in [(0, (100, 8)), (5, (150, 3)), (7, (170, 1)), (8, (20, 6)), (13, (70, 1))] {
            assert_eq!(places.at(row), Some(place), "row {row}");
        }
        assert_eq!((places.at(14), places.in_one_piece()), (None, None));
        assert_eq!(RowPlaces::new([(0, 7)].into_iter(), 3, 10).in_one_piece(), Some(7));
        assert_eq!(RowPlaces::new(std::iter::empty(), 0, 10).at(0), None);
    }
}
