//! The first pass over streamed features: how each fold's rows are scattered, and a sample of all.

use ndarray::{Array2, ArrayView2};
use rand::{SeedableRng, seq::index};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;

use super::{RowSample, StreamedRows};
use crate::{SolverError, Standardizer, prepare::inverse_length, row_source::scan};

/// Sums of the columns of some rows, each value less a shift.
#[derive(Clone)]
struct Moments {
    count: f64,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

/// What the first pass finds: sums of each fold's rows, and the sample.
pub(super) struct FirstPass {
    shift: Vec<f64>,
    of_folds: Vec<Moments>,
    sample: RowSample,
}

impl FirstPass {
    /// Reads `block` rows at a time, and draws a sample of that size.
    pub(super) fn new(
        data: &StreamedRows<'_>,
        (block, sample): (usize, usize),
        seed: u64,
        l2_normalize: bool,
    ) -> Result<Self, SolverError> {
        /// Columns that a thread sums up.
        const WIDTH: usize = 128;
        let (rows, columns) = (data.source.rows(), data.source.columns());
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut chosen = index::sample(&mut rng, rows, sample).into_vec();
        chosen.sort_unstable();
        let mut sample = Array2::zeros((chosen.len(), columns));
        let mut next = 0;
        let mut shift = Vec::new();
        let empty = Moments { count: 0.0, sums: vec![0.0; columns], squares: vec![0.0; columns] };
        let mut of_folds = vec![empty; data.fold_count];
        data.folds.iter().for_each(|&fold| of_folds[fold].count += 1.0);
        // Sums of a strip of columns, fold after fold.
        let mut strips: Vec<Vec<[f64; 2]>> = (0..columns)
            .step_by(WIDTH)
            .map(|from| vec![[0.0; 2]; WIDTH.min(columns - from) * data.fold_count])
            .collect();
        scan(data.source, block, |first, block| {
            let count = block.len() / columns;
            let view = ArrayView2::from_shape((count, columns), &*block).expect("whole rows are read");
            SolverError::check_finite(block.chunks_exact(columns)).map_err(|error| match error {
                SolverError::NotFinite { row, column, value } => {
                    SolverError::NotFinite { row: first + row, column, value }
                }
                other => other,
            })?;
            let length = |row: &[f32]| if l2_normalize { inverse_length(row.iter()) } else { 1.0 };
            let factors: Vec<f64> = block.par_chunks_exact(columns).map(length).collect();
            if first == 0 {
                // Any value near the mean keeps the sums of squares from cancelling.
                shift = view.row(0).iter().map(|&x| factors[0] * f64::from(x)).collect();
            }
            let assignment = &data.folds[first..first + count];
            strips.par_iter_mut().enumerate().for_each(|(s, strip)| {
                let width = strip.len() / data.fold_count;
                let from = s * WIDTH;
                let shift = &shift[from..from + width];
                for ((row, &fold), factor) in block.chunks_exact(columns).zip(assignment).zip(&factors) {
                    let sums = &mut strip[fold * width..(fold + 1) * width];
                    for ((sums, &x), shift) in sums.iter_mut().zip(&row[from..from + width]).zip(shift) {
                        let x = factor * f64::from(x) - shift;
                        sums[0] += x;
                        sums[1] += x * x;
                    }
                }
            });
            while next < chosen.len() && chosen[next] < first + count {
                sample.row_mut(next).assign(&view.row(chosen[next] - first));
                next += 1;
            }
            Ok(())
        })?;
        for (s, strip) in strips.iter().enumerate() {
            let width = strip.len() / data.fold_count;
            for (fold, sums) in strip.chunks(width).enumerate() {
                for (j, &[sum, square]) in sums.iter().enumerate() {
                    of_folds[fold].sums[s * WIDTH + j] = sum;
                    of_folds[fold].squares[s * WIDTH + j] = square;
                }
            }
        }
        Ok(Self { shift, of_folds, sample: RowSample { rows: chosen, features: sample } })
    }

    /// The sample of the rows.
    pub(super) fn into_sample(self) -> RowSample {
        self.sample
    }

    /// Mean and variance of each column over all rows, or all but the fold's.
    fn moments(&self, without: Option<usize>) -> (Vec<f64>, Vec<f64>) {
        let others = || {
            self.of_folds
                .iter()
                .enumerate()
                .filter(move |&(fold, _)| Some(fold) != without)
                .map(|(_, sums)| sums)
        };
        let count: f64 = others().map(|sums| sums.count).sum();
        (0..self.shift.len())
            .map(|j| {
                let offset = others().map(|sums| sums.sums[j]).sum::<f64>() / count;
                let square = others().map(|sums| sums.squares[j]).sum::<f64>() / count;
                (self.shift[j] + offset, square - offset * offset)
            })
            .unzip()
    }

    /// That of all rows, or all but the fold's.
    pub(super) fn standardizer(&self, without: Option<usize>, standardize: bool) -> Standardizer {
        if !standardize {
            return Standardizer::identity(self.shift.len());
        }
        let (mean, variances) = self.moments(without);
        Standardizer::from_variances(mean, variances)
    }

    /// Sum of the variances of all columns after `standardizer`, over all rows, or all but the fold's.
    pub(super) fn scaled_variance(&self, without: Option<usize>, standardizer: &Standardizer) -> f64 {
        let (_, variances) = self.moments(without);
        let varying = variances.iter().zip(standardizer.constant()).zip(standardizer.scale());
        let varying = varying.filter(|((_, constant), _)| !**constant);
        varying.map(|((variance, _), scale)| variance.max(0.0) / (scale * scale)).sum()
    }

    /// Mean of each column of all rows after `standardizer`, and the mean of the rows' squared lengths.
    pub(super) fn standardized(&self, standardizer: &Standardizer) -> (Vec<f64>, f64) {
        let (mean, variances) = self.moments(None);
        let mean: Vec<f64> = mean.iter().enumerate().map(|(j, &mean)| standardizer.value(j, mean)).collect();
        let scaled =
            |j: usize| if standardizer.constant()[j] { 0.0 } else { standardizer.scale()[j].powi(-2) };
        let squared = mean.iter().zip(&variances).enumerate();
        let squared = squared.map(|(j, (mean, variance))| mean * mean + variance.max(0.0) * scaled(j)).sum();
        (mean, squared)
    }
}
