//! Linear classifiers in the primal, all classes at once: L-BFGS in the variables of a [`Preconditioner`].
//!
//! Minimises `½ λ |W|² + ½ μ |b|² + Σ loss(W x + b)`. It starts with the Hessian at zero weights as the preconditioner.
//! As the fit goes on, ever fewer rows have a say; so a descent that has not arrived after some iterations goes on with
//! the Hessian where it stands. A preconditioner is made anew when it costs no more than the passes since the last.
//!
//! The losses' derivatives are feasible in the dual, and the duality gap there is half the squared norm of the
//! gradient over the penalty (Fenchel's inequality is an equality): the stopping rule is exact. Where the bias is not
//! penalised, what is to be gained by moving it is estimated from its gradient and curvature, and added.

use rayon::prelude::*;

use super::{
    batched::{RowLoss, Sums},
    kernel,
    lbfgs::{Minimum, Outcome, Value, minimize},
    preconditioner::Preconditioner,
};

/// Iterations of a round: the fewest and the most before the preconditioner is made anew.
const SHORTEST_ROUND: usize = 5;
const LONGEST_ROUND: usize = 60;

/// A loss that is minimised in the primal.
pub(super) trait PrimalLoss: RowLoss {
    /// Number of weight vectors.
    fn problems(&self) -> usize;
    /// λ of the weights and μ of the biases.
    fn penalties(&self) -> (f64, f64);
    /// Whether the problems make up one objective; else each is one of its own, and the worst gap counts.
    fn joint(&self) -> bool;
    /// Second derivative of a row's loss with respect to its scores, the mean over the problems.
    fn curvature(&self, row: usize, scores: &mut [f64]) -> f64;
}

/// What a pass over all rows adds up to at weights (problems x d) and biases; `None` when the rows could not be read.
pub(super) type Pass<'a> = dyn Fn(&[f32], &[f64]) -> Option<Sums> + 'a;

/// Rows in memory from which the preconditioner is made: all, or a sample.
pub(super) struct Known<'a, L> {
    pub rows: &'a [&'a [f32]],
    /// The loss of these rows.
    pub loss: &'a L,
    /// Rows that a pass looks through.
    pub passed: usize,
    /// Whether there is memory for a matrix.
    pub matrix: bool,
}

/// Weights (problems x d) and biases.
pub(super) type Linear = (Vec<f32>, Vec<f64>);

/// What was found.
pub(super) struct PrimalSolution {
    pub linear: Linear,
    pub minimum: Minimum,
}

/// Descends from `start`, or from 0, until the relative duality gap is at most `tolerance`.
pub(super) fn descend<L: PrimalLoss>(
    known: &Known<'_, L>,
    columns: usize,
    pass: &Pass<'_>,
    start: Option<Linear>,
    tolerance: f64,
    max_iterations: usize,
) -> PrimalSolution {
    let problems = known.loss.problems();
    let warm = start.is_some();
    let mut at = start.unwrap_or_else(|| (vec![0.0; problems * columns], vec![0.0; problems]));
    let full = known.round(columns);
    // The Hessian at zero weights says little about any other place where probabilities saturate.
    let mut round = if known.loss.joint() && !warm { SHORTEST_ROUND.min(full) } else { full };
    let (mut iterations, mut stuck) = (0, false);
    loop {
        let preconditioner = known.preconditioner(columns, &at);
        let evaluate = |point: &[f64], gradient: &mut [f64]| {
            known.evaluate(columns, pass, &preconditioner, point, gradient)
        };
        let most = if known.matrix { round.min(max_iterations - iterations) } else { max_iterations };
        let mut minimum = minimize(evaluate, preconditioner.enter(&at.0, &at.1), tolerance, most);
        at = preconditioner.leave(&minimum.point);
        let advanced = minimum.iterations > 0;
        iterations += minimum.iterations;
        minimum.iterations = iterations;
        let done = match minimum.outcome {
            Outcome::Converged => true,
            Outcome::IterationLimit => iterations >= max_iterations,
            // In other variables rounding may leave room for more.
            Outcome::NoProgress => stuck || !known.matrix || !advanced,
        };
        if done {
            return PrimalSolution { linear: at, minimum };
        }
        stuck = minimum.outcome == Outcome::NoProgress;
        round = full;
    }
}

impl<L: PrimalLoss> Known<'_, L> {
    /// Iterations after which a new preconditioner costs no more than they did.
    fn round(&self, columns: usize) -> usize {
        let (rows, passed) = (self.rows.len() as f64, self.passed as f64);
        let size = (columns + 1) as f64;
        let of_pass = 4.0 * passed * size * self.loss.problems() as f64;
        let of_renewal = rows.min(4.0 * size) * size * size + size.powi(3) / 3.0;
        ((of_renewal / of_pass) as usize).clamp(SHORTEST_ROUND, LONGEST_ROUND)
    }

    fn preconditioner(&self, columns: usize, (weights, bias): &Linear) -> Preconditioner {
        let vectors: Vec<&[f32]> = weights.chunks(columns).collect();
        let start = weights.iter().all(|&w| w == 0.0);
        let curvature = |(i, row): (usize, &&[f32])| {
            let mut scores = bias.clone();
            if !start {
                kernel::products(&[*row], &vectors, &mut scores);
                scores.iter_mut().zip(bias).for_each(|(score, b)| *score += b);
            }
            self.loss.curvature(i, &mut scores)
        };
        let curvatures: Vec<f64> = self.rows.par_iter().enumerate().map(curvature).collect();
        let make = if self.matrix { Preconditioner::new } else { Preconditioner::diagonal };
        make(self.rows, &curvatures, columns, self.loss.penalties())
    }

    fn evaluate(
        &self,
        columns: usize,
        pass: &Pass<'_>,
        preconditioner: &Preconditioner,
        point: &[f64],
        gradient: &mut [f64],
    ) -> Value {
        let (weights, bias) = preconditioner.leave(point);
        let Some(sums) = pass(&weights, &bias) else {
            // Ends the descent; whoever could not read the rows says so.
            return Value { value: f64::NAN, criterion: 0.0 };
        };
        let (penalty, of_bias) = self.loss.penalties();
        let judged: Vec<(f64, f64)> = gradient
            .par_chunks_mut(columns + 1)
            .enumerate()
            .map(|(k, gradient)| {
                let range = k * columns..(k + 1) * columns;
                let (mut squares, mut gap) = (0f64, 0f64);
                for ((g, &w), &loss) in
                    gradient.iter_mut().zip(&weights[range.clone()]).zip(&sums.gradient[range])
                {
                    let w = f64::from(w);
                    *g = loss + penalty * w;
                    squares += w * w;
                    gap += *g * *g;
                }
                let b = bias[k];
                gradient[columns] = sums.bias[k] + of_bias * b;
                let stiffness =
                    if of_bias > 0.0 { of_bias } else { sums.curvature[k].max(f64::MIN_POSITIVE) };
                gap = gap / penalty + gradient[columns].powi(2) / stiffness;
                (sums.loss[k] + 0.5 * (penalty * squares + of_bias * b * b), 0.5 * gap)
            })
            .collect();
        preconditioner.gradient(gradient);
        let value: f64 = judged.iter().map(|(primal, _)| primal).sum();
        let share = |gap: f64, primal: f64| gap / primal.max(f64::MIN_POSITIVE);
        let criterion = if self.loss.joint() {
            share(judged.iter().map(|(_, gap)| gap).sum(), value)
        } else {
            judged.iter().map(|&(primal, gap)| share(gap, primal)).fold(0.0, f64::max)
        };
        Value { value, criterion }
    }
}
