//! Linear classifiers in the primal, all classes at once: L-BFGS with a [`Preconditioner`].
//!
//! Minimises `½ λ |W|² + ½ μ |b|² + Σ loss(W x + b)`. It starts with the Hessian at zero weights as the preconditioner.
//! As the fit goes on, ever fewer rows have a say; so a descent that has not arrived after some iterations goes on with
//! the Hessian where it stands. The rounds between two preconditioners begin with what one costs in passes, and grow.
//!
//! The losses' derivatives are feasible in the dual, and the duality gap there is half the squared norm of the
//! gradient over the penalty (Fenchel's inequality is an equality): the stopping rule is exact. Where the bias is not
//! penalised, what is to be gained by moving it is estimated from its gradient and curvature, and added.

use std::cell::{Cell, OnceCell};

use rayon::prelude::*;

use super::{
    batched::{MatrixRows, RowBlock, RowLoss, Sums, rows_of_block},
    lbfgs::{CurvatureHistory, EvaluatedPoint, FunctionValue, Termination, minimize},
    preconditioner::{
        EstimateSettings, Preconditioner, PreconditionerInput, SHRINKAGE, project_out_class_mean,
    },
};

/// Iterations of the first round: the fewest and the most before the preconditioner is made anew.
const SHORTEST_ROUND: usize = 4;
const LONGEST_ROUND: usize = 60;
/// The preconditioner's [shrinkage](SHRINKAGE) at zero weights, at most, where the problems depend on each other. There
/// all rows have a say, and the Hessian lets those directions go furthest in which rows vary least; in the end few rows
/// have any, and the penalty weighs as much as they do. With many rows for each column 8, of 1 to 32, takes the fewest
/// iterations on sets that are easy and hard to tell apart, of 10 and 100 classes: 0.35 to 1 of those with 1. With as
/// many rows as columns 1 is best.
const AT_ZERO: f32 = 8.0;
/// Rows for each column, at most, from which the preconditioner is made. On sets that are easy and hard to tell apart,
/// SVMs take 0.55 to 0.7 of the iterations with 4 that they take with 1, and as many with 16; logistic regressions 0.7
/// to 1.1.
const MOST_SAMPLED: usize = 4;

/// A loss that is minimised in the primal.
pub(super) trait PrimalLoss: RowLoss {
    /// Number of weight vectors.
    fn problems(&self) -> usize;
    /// λ of the weights and μ of the biases.
    fn penalties(&self) -> (f64, f64);
    /// Whether the problems make up one objective; else each is one of its own, and the worst gap counts.
    fn joint(&self) -> bool;
    /// Replaces a row's scores by the second derivatives of its loss with respect to each.
    fn curvatures(&self, row: usize, scores: &mut [f64]);
    /// As [`Self::curvatures`]; their mean, which is what the row weighs in the Hessian.
    fn curvature(&self, row: usize, scores: &mut [f64]) -> f64 {
        self.curvatures(row, scores);
        mean(scores)
    }
    /// Replaces a row's scores by what its second derivatives are made of.
    fn hessian_state(&self, row: usize, scores: &mut [f32]);
    /// Replaces changes of a row's scores by the changes of the loss's derivatives that come of it, where its scores have
    /// these [states](Self::hessian_state).
    fn hessian_vector_product(&self, row: usize, states: &[f32], changes: &mut [f32]);
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What a pass over all rows adds up to at weights (problems x d) and biases; `None` when the rows could not be read.
pub(super) type PassOverRows<'a> = dyn Fn(&[f32], &[f64]) -> Option<Sums> + 'a;

/// The rows, in memory, from which the preconditioner is made.
pub(super) struct RowsInMemory<'a, L> {
    pub rows: MatrixRows<'a>,
    /// The loss of these rows.
    pub loss: &'a L,
    /// Whether there is memory for a matrix.
    pub matrix: bool,
}

/// Weights (problems x d) and biases.
pub(super) type Linear = (Vec<f32>, Vec<f64>);

/// What was found.
pub(super) struct PrimalSolution {
    pub linear: Linear,
    pub objective: f64,
    /// Relative duality gap.
    pub gap: f64,
    pub iterations: usize,
    pub outcome: Termination,
}

/// Descends from `start`, or from 0, until the relative duality gap is at most `tolerance`.
pub(super) fn descend<L: PrimalLoss>(
    known: &RowsInMemory<'_, L>,
    columns: usize,
    pass: &PassOverRows<'_>,
    start: Option<Linear>,
    tolerance: f64,
    max_iterations: usize,
) -> PrimalSolution {
    let warm = start.is_some();
    let point = starting_point(start.as_ref(), known.loss, columns);
    let mut evaluate =
        |point: &[f64], gradient: &mut [f64]| evaluate(known.loss, columns, pass, point, gradient);
    let mut at = EvaluatedPoint::new(&mut evaluate, point);
    let mut memory = CurvatureHistory::default();
    let full = known.round(columns);
    // The Hessian at zero weights says little about any other place where probabilities saturate.
    let mut round = if known.loss.joint() && !warm { SHORTEST_ROUND } else { full };
    let (mut iterations, mut rounds, mut stuck) = (0, 0, false);
    let previous = Cell::new(None);
    loop {
        let left = max_iterations - iterations;
        let most = if known.matrix { left.min(round) } else { left };
        let here = separate(&at.point, columns);
        // Where the descent has arrived already, none is made.
        let preconditioner = OnceCell::new();
        let make = || known.preconditioner(columns, &here, previous.take());
        let found = minimize(
            &mut evaluate,
            |v: &mut [f64]| preconditioner.get_or_init(make).apply(v),
            &mut memory,
            at,
            tolerance,
            most,
        );
        previous.set(preconditioner.into_inner());
        at = found.at;
        iterations += found.iterations;
        let done = match found.outcome {
            Termination::Converged => true,
            Termination::IterationLimit => iterations >= max_iterations,
            // With another preconditioner rounding may leave room for more.
            Termination::NoProgress => stuck || !known.matrix || found.iterations == 0,
        };
        if done {
            return PrimalSolution::new(&at, columns, iterations, found.outcome);
        }
        stuck = found.outcome == Termination::NoProgress;
        // The closer the optimum, the less the Hessian changes on the way.
        rounds += 1;
        round = full + full * rounds / 2;
    }
}

impl PrimalSolution {
    pub fn new(at: &EvaluatedPoint, columns: usize, iterations: usize, outcome: Termination) -> Self {
        let FunctionValue { value: objective, criterion: gap } = at.value;
        Self { linear: separate(&at.point, columns), objective, gap, iterations, outcome }
    }
}

/// The vector that is descended in: of each problem its weights, then its bias.
pub(super) fn joined<T: Copy + Into<f64>>(weights: &[T], bias: &[f64]) -> Vec<f64> {
    let columns = weights.len() / bias.len().max(1);
    let of_problem = |(weights, &bias): (&'_ [T], &f64)| {
        weights.iter().map(|&w| w.into()).chain([bias]).collect::<Vec<f64>>()
    };
    weights.chunks(columns.max(1)).zip(bias).flat_map(of_problem).collect()
}

/// That vector at `start`, or 0; of a joint problem, without what all classes have alike.
pub(super) fn starting_point<L: PrimalLoss>(start: Option<&Linear>, loss: &L, columns: usize) -> Vec<f64> {
    let mut point = match start {
        Some((weights, bias)) => joined(weights, bias),
        None => return vec![0.0; loss.problems() * (columns + 1)],
    };
    if loss.joint() {
        project_out_class_mean(&mut point, loss.problems());
    }
    point
}

/// Weights and biases of such a vector.
pub(super) fn separate(point: &[f64], columns: usize) -> Linear {
    let problems = || point.chunks(columns + 1);
    let weights = problems().flat_map(|problem| problem[..columns].iter().map(|&w| w as f32)).collect();
    (weights, problems().map(|problem| problem[columns]).collect())
}

impl<L: PrimalLoss> RowsInMemory<'_, L> {
    /// Iterations that cost as much as a new preconditioner.
    fn round(&self, columns: usize) -> usize {
        let rows = self.rows.count(columns) as f64;
        let size = (columns + 1) as f64;
        let of_pass = 4.0 * rows * size * self.loss.problems() as f64;
        let of_renewal = rows.min(self.sampled(columns) as f64 * size) * size * size + size.powi(3) / 3.0;
        ((of_renewal / of_pass) as usize).clamp(SHORTEST_ROUND, LONGEST_ROUND)
    }

    /// Rows for each column from which the preconditioner is made: as many as cost about a pass, or a quarter of one where
    /// problems depend on each other, since their mean is then all that can be known exactly.
    fn sampled(&self, columns: usize) -> usize {
        let rows = self.rows.count(columns) as f64;
        let of_pass = 4.0 * rows * self.loss.problems() as f64 / (columns.max(1) as f64).powi(2);
        let share = if self.loss.joint() { 0.25 } else { 1.0 };
        ((share * of_pass).round() as usize).clamp(1, MOST_SAMPLED)
    }

    fn preconditioner(
        &self,
        columns: usize,
        linear: &Linear,
        previous: Option<Preconditioner>,
    ) -> Preconditioner {
        let problems = linear.1.len();
        let rows = self.rows.count(columns);
        let at_zero = linear.0.iter().all(|&w| w == 0.0);
        let size = rows_of_block(problems);
        let mut weights = vec![0f64; rows];
        weights.par_chunks_mut(size).enumerate().for_each(|(block, weights)| {
            let numbers: Vec<usize> = (block * size..).take(weights.len()).collect();
            let mut buffer = Vec::new();
            let block = self.rows.block(block * size..block * size + weights.len(), columns, &mut buffer);
            let mut derivatives = vec![0f64; weights.len() * problems];
            curvatures(self.loss, &numbers, &block, linear, &mut derivatives);
            for (weight, derivatives) in weights.iter_mut().zip(derivatives.chunks(problems)) {
                *weight = mean(derivatives);
            }
        });
        let derivatives = |numbers: &[usize], block: &[f32], derivatives: &mut [f64]| {
            curvatures(self.loss, numbers, &RowBlock::Whole(block), linear, derivatives);
        };
        let curved =
            PreconditionerInput { rows: self.rows, weights: &weights, problems, derivatives: &derivatives };
        let sampled = self.sampled(columns);
        let shrinkage = if at_zero && self.loss.joint() {
            let rows_of_column = rows as f32 / columns.max(1) as f32;
            (2.0 * rows_of_column - 1.0).clamp(SHRINKAGE, AT_ZERO)
        } else {
            SHRINKAGE / sampled as f32
        };
        let estimate = EstimateSettings {
            penalties: self.loss.penalties(),
            sampled,
            shrinkage,
            matrix: self.matrix,
            joint: self.loss.joint(),
        };
        Preconditioner::new(&curved, columns, &estimate, previous)
    }
}

/// Second derivatives (rows x problems), at weights and biases, of the rows of a block, which the loss knows by these
/// numbers.
pub(super) fn curvatures<L: PrimalLoss>(
    loss: &L,
    numbers: &[usize],
    block: &RowBlock<'_>,
    (weights, bias): &Linear,
    derivatives: &mut [f64],
) {
    let problems = bias.len();
    let mut scores = vec![0f32; derivatives.len()];
    // At zero weights the scores are 0.
    if weights.iter().any(|&w| w != 0.0) {
        block.scores(weights, weights.len() / problems, &mut scores);
    }
    let of_rows = derivatives.chunks_mut(problems).zip(scores.chunks(problems));
    for ((derivatives, scores), &number) in of_rows.zip(numbers) {
        for ((d, &score), bias) in derivatives.iter_mut().zip(scores).zip(bias) {
            *d = f64::from(score) + bias;
        }
        loss.curvatures(number, derivatives);
    }
}

/// Objective and relative duality gap at `point`, and the gradient.
pub(super) fn evaluate<L: PrimalLoss>(
    of: &L,
    columns: usize,
    pass: &PassOverRows<'_>,
    point: &[f64],
    gradient: &mut [f64],
) -> FunctionValue {
    let (weights, bias) = separate(point, columns);
    let Some(sums) = pass(&weights, &bias) else {
        // Ends the descent; whoever could not read the rows says so.
        return FunctionValue { value: f64::NAN, criterion: 0.0 };
    };
    let (penalty, of_bias) = of.penalties();
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
            let stiffness = if of_bias > 0.0 { of_bias } else { sums.curvature[k].max(f64::MIN_POSITIVE) };
            gap = gap / penalty + gradient[columns].powi(2) / stiffness;
            (sums.loss[k] + 0.5 * (penalty * squares + of_bias * b * b), 0.5 * gap)
        })
        .collect();
    let value: f64 = judged.iter().map(|(primal, _)| primal).sum();
    let share = |gap: f64, primal: f64| gap / primal.max(f64::MIN_POSITIVE);
    let criterion = if of.joint() {
        share(judged.iter().map(|(_, gap)| gap).sum(), value)
    } else {
        judged.iter().map(|&(primal, gap)| share(gap, primal)).fold(0.0, f64::max)
    };
    FunctionValue { value, criterion }
}
