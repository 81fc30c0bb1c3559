//! Dual coordinate descent for one binary linear SVM.
//!
//! C.-J. Hsieh, K.-W. Chang, C.-J. Lin, S. S. Keerthi, S. Sundararajan: "A dual coordinate descent method for
//! large-scale linear SVM", ICML 2008; algorithm 3 with shrinking, as in LIBLINEAR. With signs y of ±1 and cost C of
//! each row, the problems are
//!
//! ```text
//! primal  P(w) = ½ w·w + Σ C ξ²,                      ξ = max(0, 1 - y w·x)
//! dual    D(α) = Σ α - ½ w·w - Σ α² / 4C  with α ≥ 0,  w = Σ α y x
//! ```
//!
//! Every row has a constant feature 1 appended, whose weight is the bias: the bias is regularised like any weight, as
//! LIBLINEAR (`-B 1`) and scikit-learn's `LinearSVC` (`intercept_scaling=1`) have it. P(w) - D(α) bounds the distance
//! to the optimum, so that is what the stopping rule looks at.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;

use super::simd::{self, TILE};

/// One class against the others.
pub(super) struct Binary<'a> {
    pub rows: &'a [&'a [f32]],
    /// `x·x + 1` of each row: the diagonal of the Gram matrix.
    pub squares: &'a [f64],
    /// +1 or -1 of each row.
    pub signs: &'a [f64],
    /// C of each row, at least 0.
    pub costs: &'a [f64],
}

/// When to stop, and the order of the visits.
pub(super) struct DescentSettings {
    /// Stop when (P - D) / P is at most this.
    pub tolerance: f64,
    /// Passes over the rows after which to give up.
    pub max_passes: usize,
    pub seed: u64,
}

impl DescentSettings {
    /// Asks for a little more, so that a change of rounding afterwards does not undo the convergence.
    pub fn tightened(&self) -> Self {
        Self { tolerance: 0.9 * self.tolerance, ..*self }
    }
}

/// The multipliers found, and the bounds that they prove.
pub(super) struct DualSolution {
    pub alpha: Vec<f64>,
    pub primal: f64,
    pub dual: f64,
    pub passes: usize,
    pub converged: bool,
}

impl DualSolution {
    /// (P - D) / P: at most this share of the objective could still be gained.
    pub fn gap(&self) -> f64 {
        relative_gap(self.primal, self.dual)
    }
}

/// The scores `f = w·x` that coordinate descent reads and changes. There are two ways to keep them.
pub(super) trait RowScores {
    /// Score of row `i`.
    fn score(&self, i: usize) -> f64;
    /// Adds `change` times row `i` to w.
    fn add(&mut self, i: usize, change: f64);
    /// Computes w anew from `coefficients` (α y), forgetting the rounding of many small changes, and returns w·w.
    fn rebuild(&mut self, coefficients: &[f64]) -> f64;
}

/// Keeps w itself: a score costs d operations.
pub(super) struct FromWeights<'a> {
    rows: &'a [&'a [f32]],
    weights: Vec<f64>,
    bias: f64,
}

impl<'a> FromWeights<'a> {
    pub fn new(rows: &'a [&'a [f32]], columns: usize) -> Self {
        Self { rows, weights: vec![0.0; columns], bias: 0.0 }
    }
}

impl RowScores for FromWeights<'_> {
    fn score(&self, i: usize) -> f64 {
        simd::dot_wide(self.rows[i], &self.weights) + self.bias
    }

    fn add(&mut self, i: usize, change: f64) {
        simd::add_scaled_wide(&mut self.weights, change, self.rows[i]);
        self.bias += change;
    }

    fn rebuild(&mut self, coefficients: &[f64]) -> f64 {
        self.weights = combine(self.rows, coefficients, self.weights.len());
        self.bias = coefficients.iter().sum();
        self.weights.iter().map(|w| w * w).sum::<f64>() + self.bias * self.bias
    }
}

/// Keeps the scores of all rows, from the Gram matrix: reading one is free, a change costs n operations. Cheaper than
/// [`FromWeights`] when n is well below d.
pub(super) struct FromGram<'a> {
    gram: &'a Gram,
    /// Without the bias.
    scores: Vec<f64>,
    bias: f64,
}

impl<'a> FromGram<'a> {
    pub fn new(gram: &'a Gram) -> Self {
        Self { gram, scores: vec![0.0; gram.count], bias: 0.0 }
    }
}

impl RowScores for FromGram<'_> {
    fn score(&self, i: usize) -> f64 {
        self.scores[i] + self.bias
    }

    fn add(&mut self, i: usize, change: f64) {
        simd::add_scaled_wide(&mut self.scores, change, self.gram.row(i));
        self.bias += change;
    }

    fn rebuild(&mut self, coefficients: &[f64]) -> f64 {
        self.scores.fill(0.0);
        self.bias = 0.0;
        for (i, &coefficient) in coefficients.iter().enumerate() {
            if coefficient != 0.0 {
                self.add(i, coefficient);
            }
        }
        coefficients.iter().enumerate().map(|(i, c)| c * self.score(i)).sum()
    }
}

/// All products `x_i·x_j` (n x n), no more exact than float32 features make them; the classes share one.
pub(super) struct Gram {
    products: Vec<f32>,
    count: usize,
}

impl Gram {
    pub fn new(rows: &[&[f32]]) -> Self {
        let count = rows.len();
        let mut products = vec![0f32; count * count];
        products.par_chunks_mut(TILE * count).enumerate().for_each(|(block, out)| {
            let from = block * TILE;
            let mine = &rows[from..(from + TILE).min(count)];
            // Columns up to the block's last row: the rest follows by symmetry.
            let upto = from + mine.len();
            for start in (0..upto).step_by(TILE) {
                let others = &rows[start..(start + TILE).min(upto)];
                simd::each_product(mine, others, |r, k, product| out[r * count + start + k] = product as f32);
            }
        });
        for i in 0..count {
            for j in i + 1..count {
                products[i * count + j] = products[j * count + i];
            }
        }
        Self { products, count }
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.products[i * self.count..(i + 1) * self.count]
    }
}

/// Σ coefficient · row, in float64.
pub(super) fn combine(rows: &[&[f32]], coefficients: &[f64], columns: usize) -> Vec<f64> {
    let mut sum = vec![0f64; columns];
    for (row, &coefficient) in rows.iter().zip(coefficients) {
        if coefficient != 0.0 {
            simd::add_scaled_wide(&mut sum, coefficient, row);
        }
    }
    sum
}

fn relative_gap(primal: f64, dual: f64) -> f64 {
    (primal - dual) / primal.max(f64::MIN_POSITIVE)
}

impl Binary<'_> {
    /// What the loss adds to the diagonal of the Gram matrix, for row `i`.
    fn diagonal(&self, i: usize) -> f64 {
        0.5 / self.costs[i]
    }

    /// P and D at `alpha`, from freshly computed scores.
    fn objectives(&self, alpha: &[f64], scores: &mut impl RowScores) -> (f64, f64) {
        let coefficients: Vec<f64> = alpha.iter().zip(self.signs).map(|(a, y)| a * y).collect();
        let half_norm = 0.5 * scores.rebuild(&coefficients);
        let (mut primal, mut dual) = (half_norm, -half_norm);
        for i in 0..self.rows.len() {
            let (alpha, cost) = (alpha[i], self.costs[i]);
            let slack = (1.0 - self.signs[i] * scores.score(i)).max(0.0);
            dual += alpha;
            if cost > 0.0 {
                primal += cost * slack * slack;
                dual -= alpha * alpha / (4.0 * cost);
            }
        }
        (primal, dual)
    }

    /// Descends from `alpha` (zeros, or the solution of a similar problem) to the asked duality gap.
    pub fn solve(
        &self,
        mut alpha: Vec<f64>,
        scores: &mut impl RowScores,
        descent: &DescentSettings,
    ) -> DualSolution {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(descent.seed);
        // A row without cost has no say; leaving it out also spares a division by zero.
        let mut order: Vec<usize> = (0..self.rows.len()).filter(|&i| self.costs[i] > 0.0).collect();
        let mut active = order.len();
        // Multipliers of 0 whose gradient is above this are left out of a pass.
        let mut shrink_above = f64::INFINITY;
        // Spread of the projected gradient at which computing the gap becomes worth its pass.
        let mut spread_limit = 0.1;
        let (mut primal, mut dual) = self.objectives(&alpha, scores);
        let mut passes = 0;
        while relative_gap(primal, dual) > descent.tolerance && passes < descent.max_passes {
            for s in 0..active {
                let other = rng.random_range(s..active);
                order.swap(s, other);
            }
            let (mut highest, mut lowest) = (f64::NEG_INFINITY, f64::INFINITY);
            let mut s = 0;
            while s < active {
                let i = order[s];
                let diagonal = self.diagonal(i);
                let gradient = self.signs[i] * scores.score(i) - 1.0 + alpha[i] * diagonal;
                let at_zero = alpha[i] == 0.0;
                if at_zero && gradient > shrink_above {
                    active -= 1;
                    order.swap(s, active);
                    continue;
                }
                let projected = if at_zero { gradient.min(0.0) } else { gradient };
                highest = highest.max(projected);
                lowest = lowest.min(projected);
                if projected.abs() > 1e-12 {
                    let next = (alpha[i] - gradient / (self.squares[i] + diagonal)).max(0.0);
                    scores.add(i, (next - alpha[i]) * self.signs[i]);
                    alpha[i] = next;
                }
                s += 1;
            }
            passes += 1;
            if highest - lowest <= spread_limit || passes == descent.max_passes {
                (primal, dual) = self.objectives(&alpha, scores);
                active = order.len();
                shrink_above = f64::INFINITY;
                spread_limit *= 0.3;
            } else {
                // A multiplier of 0 whose gradient lies above those of this pass is unlikely to move, and is left out until
                // the others have settled.
                shrink_above = if highest <= 0.0 { f64::INFINITY } else { highest };
            }
        }
        let converged = relative_gap(primal, dual) <= descent.tolerance;
        DualSolution { alpha, primal, dual, passes, converged }
    }
}
