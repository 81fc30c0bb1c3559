//! Descents whose passes over all rows are dear, as when these are read from a file: each step is Newton's, with the
//! Hessian of some rows that are kept in memory.
//!
//! They are drawn anew in every pass, by what they weigh in the Hessian there: priority sampling takes exactly as many as
//! there is room for without knowing beforehand what all weigh together (N. Duffield, C. Lund, M. Thorup, J. ACM 54, 2007).
//! Their system is solved by conjugate gradients, which see how classes depend on each other; the [`Preconditioner`] that
//! all classes share makes for few steps. On subsampled Newton methods: R. H. Byrd et al., SIAM J. Optim. 21, 2011;
//! P. Xu et al., NIPS 2016. [`minimize`] adds the line search, and what the last steps showed of the curvature.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::atomic::{AtomicU64, Ordering},
};

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;

use super::{
    batched::{BLOCK, MatrixRows, RowBlock, RowLoss, Sums, add_rows, products},
    fold_scaling::FoldScaling,
    lbfgs::{CurvatureHistory, EvaluatedPoint, minimize},
    preconditioner::{EstimateSettings, Preconditioner, PreconditionerInput, SHRINKAGE},
    primal::{
        Linear, PassOverRows, PrimalLoss, PrimalSolution, curvatures, evaluate, joined, separate,
        starting_point,
    },
};

/// Part of a system's right side, as the preconditioner measures it, that its solution may leave.
const LEFT: f64 = 0.3;
/// Steps of the conjugate gradients for a solution.
const MOST_STEPS: usize = 100;
/// Sampled rows for each column from which the preconditioner is made.
const PRECONDITIONED: usize = 4;

/// Descends from `start`, or from 0, until the relative duality gap is at most `tolerance`. `direct` replaces gradients by
/// Newton steps.
pub(super) fn descend<L: PrimalLoss>(
    loss: &L,
    columns: usize,
    pass: &PassOverRows<'_>,
    start: Option<&Linear>,
    direct: impl Fn(&mut [f64]),
    (tolerance, max_iterations): (f64, usize),
) -> PrimalSolution {
    let mut evaluate = |point: &[f64], gradient: &mut [f64]| evaluate(loss, columns, pass, point, gradient);
    let at = EvaluatedPoint::new(&mut evaluate, starting_point(start, loss, columns));
    let found = minimize(evaluate, direct, &mut CurvatureHistory::default(), at, tolerance, max_iterations);
    PrimalSolution::new(&found.at, columns, found.iterations, found.outcome)
}

/// Rows that are drawn as they come by, with probabilities in proportion to their weights.
pub(super) struct PrioritySample {
    /// Most rows that are kept.
    capacity: usize,
    columns: usize,
    rng: Xoshiro256PlusPlus,
    /// Row after row.
    rows: Vec<f32>,
    /// Their numbers among all rows.
    numbers: Vec<usize>,
    weights: Vec<f64>,
    /// The bits of each kept row's priority, which have the same order, and its place; the least first.
    priorities: BinaryHeap<Reverse<(u64, usize)>>,
    /// The highest priority that was not kept.
    threshold: f64,
}

impl PrioritySample {
    /// Keeps at most `capacity` rows of d features, at least 1.
    pub fn new(capacity: usize, columns: usize, seed: u64) -> Self {
        Self {
            capacity: capacity.max(1),
            columns,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            rows: Vec::with_capacity(capacity * columns),
            numbers: Vec::new(),
            weights: Vec::new(),
            priorities: BinaryHeap::new(),
            threshold: 0.0,
        }
    }

    /// Forgets the rows, so that others can be drawn.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.numbers.clear();
        self.weights.clear();
        self.priorities.clear();
        self.threshold = 0.0;
    }

    /// Considers a row. One that weighs nothing is not kept.
    pub fn insert(&mut self, number: usize, weight: f64, row: &[f32]) {
        if weight <= 0.0 {
            return;
        }
        let priority = weight / (1.0 - self.rng.random::<f64>());
        if self.numbers.len() < self.capacity {
            self.priorities.push(Reverse((priority.to_bits(), self.numbers.len())));
            self.rows.extend_from_slice(row);
            self.numbers.push(number);
            self.weights.push(weight);
            return;
        }
        let mut least = self.priorities.peek_mut().expect("there is room for a row, so one is kept");
        let Reverse((bits, place)) = *least;
        let lowest = f64::from_bits(bits);
        self.threshold = self.threshold.max(priority.min(lowest));
        if priority > lowest {
            self.rows[place * self.columns..][..self.columns].copy_from_slice(row);
            self.numbers[place] = number;
            self.weights[place] = weight;
            *least = Reverse((priority.to_bits(), place));
        }
    }

    /// How many rows the one at this place stands for: so weighted, they add up to all rows on the average.
    fn share(&self, place: usize) -> f64 {
        self.weights[place].max(self.threshold) / self.weights[place]
    }

    /// The Hessian at weights (problems x d) and biases of a problem with this view, as these rows have it; with a matrix as
    /// the preconditioner where there is memory for one.
    pub fn hessian<'a, L: PrimalLoss>(
        &'a self,
        loss: &'a L,
        view: &'a FoldScaling,
        (weights, bias): &Linear,
        matrix: bool,
    ) -> SampledHessian<'a, L> {
        let problems = loss.problems();
        let linear = &view.to_shared(weights, bias);
        let mut states = vec![0f32; self.numbers.len() * problems];
        let mut heavy = vec![0f64; self.numbers.len()];
        let blocks = states.par_chunks_mut(BLOCK * problems).zip(heavy.par_chunks_mut(BLOCK));
        blocks.enumerate().for_each(|(block, (states, heavy))| {
            let first = block * BLOCK;
            let rows = &self.rows[first * self.columns..][..heavy.len() * self.columns];
            products(rows, &linear.0, self.columns, states);
            for (i, (states, heavy)) in states.chunks_mut(problems).zip(heavy).enumerate() {
                let (row, share) = (self.numbers[first + i], self.share(first + i));
                states
                    .iter_mut()
                    .zip(&linear.1)
                    .for_each(|(score, b)| *score = (f64::from(*score) + b) as f32);
                let mut scores: Vec<f64> = states.iter().map(|&score| f64::from(score)).collect();
                *heavy = share * loss.curvature(row, &mut scores);
                loss.hessian_state(row, states);
            }
        });
        let derivatives = |places: &[usize], block: &[f32], derivatives: &mut [f64]| {
            let numbers: Vec<usize> = places.iter().map(|&place| self.numbers[place]).collect();
            curvatures(loss, &numbers, &RowBlock::Whole(block), linear, derivatives);
        };
        let rows = MatrixRows::Whole(&self.rows);
        let curved = PreconditionerInput { rows, weights: &heavy, problems, derivatives: &derivatives };
        let estimate = EstimateSettings {
            penalties: loss.penalties(),
            sampled: PRECONDITIONED,
            shrinkage: SHRINKAGE / PRECONDITIONED as f32,
            matrix,
            joint: loss.joint(),
        };
        let preconditioner = Preconditioner::new(&curved, self.columns, &estimate, None);
        // As with the preconditioner: the fewer rows, the more they misjudge the directions in which they vary little. On
        // random features of ten classes, descents with 1 to 64 rows a column take 0.2 to 0.8 of the passes that they take
        // without.
        let shrinkage = self.columns as f64 / self.numbers.len().max(1) as f64;
        let ridge = preconditioner.diagonal_of_estimate().map(|d| shrinkage * d).chain([0.0]).collect();
        SampledHessian { drawn: self, loss, view, states, ridge, preconditioner }
    }
}

/// A loss that also tells what each row of a block weighs in the Hessian.
pub(super) struct WeighedLoss<'a, L> {
    loss: &'a L,
    first: usize,
    /// Bits of the weights, which threads write side by side.
    weights: Vec<AtomicU64>,
}

impl<'a, L: PrimalLoss> WeighedLoss<'a, L> {
    /// For `count` rows from number `first` on.
    pub fn new(loss: &'a L, first: usize, count: usize) -> Self {
        Self { loss, first, weights: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Of each row, after the pass.
    pub fn weights(&self) -> impl Iterator<Item = f64> {
        self.weights.iter().map(|bits| f64::from_bits(bits.load(Ordering::Relaxed)))
    }
}

impl<L: PrimalLoss> RowLoss for WeighedLoss<'_, L> {
    fn differentiate(&self, first: usize, scores: &mut [f32], sums: &mut Sums) {
        let mut wide = vec![0f64; sums.bias.len()];
        for (row, scores) in (first..).zip(scores.chunks(wide.len())) {
            wide.iter_mut().zip(scores).for_each(|(to, &score)| *to = f64::from(score));
            let weight = self.loss.curvature(row, &mut wide);
            self.weights[row - self.first].store(weight.to_bits(), Ordering::Relaxed);
        }
        self.loss.differentiate(first, scores, sums);
    }
}

/// The Hessian of drawn rows at a point.
pub(super) struct SampledHessian<'a, L> {
    drawn: &'a PrioritySample,
    loss: &'a L,
    view: &'a FoldScaling,
    /// What each row's second derivative is made of (rows x problems).
    states: Vec<f32>,
    /// What is added to the diagonal.
    ridge: Vec<f64>,
    preconditioner: Preconditioner,
}

impl<L: PrimalLoss> RowLoss for SampledHessian<'_, L> {
    /// What the rows' derivatives change by when their scores change by `scores`, of one or several points.
    fn differentiate(&self, first: usize, scores: &mut [f32], sums: &mut Sums) {
        let (problems, of_row) = (self.loss.problems(), sums.bias.len());
        for (i, changes) in scores.chunks_mut(of_row).enumerate() {
            let (place, number) = (first + i, self.drawn.numbers[first + i]);
            let (states, share) =
                (&self.states[place * problems..][..problems], self.drawn.share(place) as f32);
            for changes in changes.chunks_mut(problems) {
                self.loss.hessian_vector_product(number, states, changes);
                changes.iter_mut().for_each(|change| *change *= share);
            }
            sums.bias.iter_mut().zip(&*changes).for_each(|(bias, &change)| *bias += f64::from(change));
        }
    }
}

impl<L: PrimalLoss> SampledHessian<'_, L> {
    /// Replaces vectors (weights and bias of each problem; one or several sets of them) by the solutions of the systems
    /// whose right sides they are.
    pub fn solve(&self, vectors: &mut [f64]) {
        let size = self.drawn.columns + 1;
        // The problems of one objective are one system, others have one each.
        let system = if self.loss.joint() { size * self.loss.problems() } else { size };
        // A common scale, so that vectors of any size fit into float32.
        let largest = vectors.iter().fold(0f64, |largest, v| largest.max(v.abs()));
        if largest == 0.0 || !largest.is_finite() {
            return;
        }
        let dots = |a: &[f64], b: &[f64]| -> Vec<f64> {
            let of_system = |(a, b): (&[f64], &[f64])| a.iter().zip(b).map(|(x, y)| x * y).sum();
            a.par_chunks(system).zip(b.par_chunks(system)).map(of_system).collect()
        };
        let mut residual: Vec<f64> = vectors.iter().map(|v| v / largest).collect();
        let mut solution = vec![0.0; vectors.len()];
        let mut step = residual.clone();
        self.preconditioner.apply(&mut step);
        let mut errors = dots(&residual, &step);
        let enough: Vec<f64> = errors.iter().map(|error| LEFT * LEFT * error).collect();
        for _ in 0..MOST_STEPS {
            if errors.iter().zip(&enough).all(|(error, enough)| error <= enough) {
                break;
            }
            let products = self.products(&step);
            let stiffness = dots(&step, &products);
            let lengths: Vec<f64> =
                (0..errors.len())
                    .map(|s| {
                        if errors[s] > enough[s] && stiffness[s] > 0.0 {
                            errors[s] / stiffness[s]
                        } else {
                            0.0
                        }
                    })
                    .collect();
            let parts = solution.chunks_mut(system).zip(residual.chunks_mut(system));
            let along = step.chunks(system).zip(products.chunks(system));
            for ((length, (solution, residual)), (step, products)) in lengths.iter().zip(parts).zip(along) {
                solution.iter_mut().zip(step).for_each(|(x, s)| *x += length * s);
                residual.iter_mut().zip(products).for_each(|(r, p)| *r -= length * p);
            }
            let mut next = residual.clone();
            self.preconditioner.apply(&mut next);
            let left = dots(&residual, &next);
            for (s, (step, next)) in step.chunks_mut(system).zip(next.chunks(system)).enumerate() {
                let keep = if errors[s] > 0.0 { left[s] / errors[s] } else { 0.0 };
                step.iter_mut().zip(next).for_each(|(step, next)| *step = next + keep * *step);
            }
            errors = left;
        }
        vectors.iter_mut().zip(&solution).for_each(|(v, x)| *v = largest * x);
    }

    /// The Hessian's product with vectors.
    fn products(&self, vectors: &[f64]) -> Vec<f64> {
        let columns = self.drawn.columns;
        let (weights, bias) = separate(vectors, columns);
        let (weights, bias) = self.view.to_shared(&weights, &bias);
        let mut sums = Sums::zeros(bias.len(), columns);
        add_rows(MatrixRows::Whole(&self.drawn.rows), 0, &weights, &bias, self, &mut sums);
        self.view.gradient(&mut sums);
        let (penalty, of_bias) = self.loss.penalties();
        let mut products = joined(&sums.gradient, &sums.bias);
        for (products, vector) in products.chunks_mut(columns + 1).zip(vectors.chunks(columns + 1)) {
            let added = vector.iter().zip(&self.ridge);
            products.iter_mut().zip(added).for_each(|(p, (v, ridge))| *p += (penalty + ridge) * v);
            products[columns] += (of_bias - penalty) * vector[columns];
        }
        products
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Standardizer, logistic::LogisticLoss, svm::SvmLoss, weighted_rows::WeightedRows};

    const COLUMNS: usize = 6;

    #[test]
    fn heavy_rows_are_all_drawn_and_light_ones_stand_for_others() {
        let weight = |row: usize| if row % 100 == 7 { 50.0 } else { (row % 5) as f64 * 0.1 };
        let total: f64 = (0..5000).map(weight).sum();
        let mut drawn = PrioritySample::new(300, 2, 3);
        let mut mean = 0.0;
        for _ in 0..200 {
            drawn.clear();
            (0..5000).for_each(|row| drawn.insert(row, weight(row), &[row as f32, -1.0]));
            assert_eq!(drawn.numbers.len(), 300);
            for row in (7..5000).step_by(100) {
                let place = drawn.numbers.iter().position(|&number| number == row).expect("it is heavy");
                assert_eq!(drawn.share(place), 1.0);
            }
            for (place, &number) in drawn.numbers.iter().enumerate() {
                assert_eq!(drawn.rows[2 * place..][..2], [number as f32, -1.0]);
                assert!(weight(number) > 0.0 && drawn.weights[place] == weight(number));
            }
            let mut sorted = drawn.numbers.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 300, "no row twice");
            mean += (0..300).map(|place| drawn.share(place) * drawn.weights[place]).sum::<f64>() / 200.0;
        }
        assert!((mean / total - 1.0).abs() < 0.005, "{mean}, not {total}");
    }

    #[test]
    fn where_there_is_room_all_rows_that_weigh_anything_are_kept_as_they_are() {
        let mut drawn = PrioritySample::new(300, 1, 0);
        (0..100).for_each(|row| drawn.insert(row, (row % 3) as f64, &[0.0]));
        assert_eq!(drawn.numbers, (0..100).filter(|row| row % 3 > 0).collect::<Vec<_>>());
        assert!((0..drawn.numbers.len()).all(|place| drawn.share(place) == 1.0));
    }

    fn example() -> (Vec<f32>, Vec<usize>) {
        let labels: Vec<usize> = (0..80).map(|i| i * i % 7 % 3).collect();
        let value = |i: usize| {
            let (row, j) = (i / COLUMNS, i % COLUMNS);
            ((row * 31 + j * 17) as f32 * 0.61).sin() + (labels[row] * (j % 3)) as f32 * 0.2
        };
        ((0..80 * COLUMNS).map(value).collect(), labels.clone())
    }

    /// Changes of the gradient along `step`, and the Hessian's products with it, of problems with a view of their own.
    fn changes_and_products<L: PrimalLoss>(rows: &[f32], loss: &L, length: f64) -> (Vec<f64>, Vec<f64>) {
        let mut drawn = PrioritySample::new(200, COLUMNS, 0);
        rows.chunks(COLUMNS).enumerate().for_each(|(i, row)| drawn.insert(i, 1.0, row));
        let own = Standardizer::from_parts(
            vec![0.1, -0.2, 0.3, 0.0, 0.05, -0.1],
            vec![0.5, 2.0, 1.0, 1.5, 0.8, 1.0],
            vec![false, false, false, false, true, false],
        );
        let view = FoldScaling::new(&Standardizer::identity(COLUMNS), &own.unwrap());
        let size = loss.problems() * (COLUMNS + 1);
        let point: Vec<f64> = (0..size).map(|j| (j as f64 * 1.7).cos() * 0.4).collect();
        let step: Vec<f64> = (0..size).map(|j| (j as f64 * 0.9).sin()).collect();
        let gradient = |length: f64| {
            let at: Vec<f64> = point.iter().zip(&step).map(|(p, s)| p + length * s).collect();
            let pass = |weights: &[f32], bias: &[f64]| {
                let (weights, bias) = view.to_shared(weights, bias);
                let mut sums = Sums::zeros(bias.len(), COLUMNS);
                add_rows(MatrixRows::Whole(rows), 0, &weights, &bias, loss, &mut sums);
                view.gradient(&mut sums);
                Some(sums)
            };
            let mut gradient = vec![0.0; size];
            evaluate(loss, COLUMNS, &pass, &at, &mut gradient);
            gradient
        };
        let changes =
            gradient(length).into_iter().zip(gradient(-length)).map(|(a, b)| (a - b) / (2.0 * length));
        let hessian = drawn.hessian(loss, &view, &separate(&point, COLUMNS), true);
        let mut products = hessian.products(&step);
        for (products, step) in products.chunks_mut(COLUMNS + 1).zip(step.chunks(COLUMNS + 1)) {
            products.iter_mut().zip(step).zip(&hessian.ridge).for_each(|((p, s), ridge)| *p -= ridge * s);
        }
        (changes.collect(), products)
    }

    #[test]
    fn products_with_the_hessian_are_what_the_gradient_changes_by() {
        let (rows, labels) = example();
        let costs: Vec<f64> = (0..80).map(|row| 0.3 + 0.1 * (row % 4) as f64).collect();
        let logistic = LogisticLoss::of(&labels, 3, costs.clone(), vec![1.0; 80]);
        let svm = SvmLoss::of(&labels, 3, costs);
        for (changes, products) in
            [changes_and_products(&rows, &logistic, 1e-2), changes_and_products(&rows, &svm, 1e-4)]
        {
            let largest = changes.iter().fold(0f64, |largest, change| largest.max(change.abs()));
            assert!(largest > 1.0);
            for (change, product) in changes.iter().zip(&products) {
                assert!((change - product).abs() < 2e-3 * largest, "{changes:?} {products:?}");
            }
        }
    }

    #[test]
    fn solutions_leave_as_little_of_each_system_as_is_asked_for() {
        let (rows, labels) = example();
        let set: Vec<&[f32]> = rows.chunks(COLUMNS).collect();
        let set = WeightedRows {
            rows: set,
            whole: Some(&rows),
            labels: labels.clone(),
            weights: vec![1.0; 80],
            classes: 3,
        };
        let view = FoldScaling::new(&Standardizer::identity(COLUMNS), &Standardizer::identity(COLUMNS));
        let mut drawn = PrioritySample::new(60, COLUMNS, 0);
        set.rows.iter().enumerate().for_each(|(i, row)| drawn.insert(i, 1.0, row));
        check(&drawn, &view, &LogisticLoss::new(&set, 3.0), 21);
        check(&drawn, &view, &SvmLoss::new(&set, 3.0), 7);

        fn check<L: PrimalLoss>(drawn: &PrioritySample, view: &FoldScaling, loss: &L, system: usize) {
            let start = separate(&[0.2; 21], COLUMNS);
            for (matrix, scale) in [(true, 1.0), (false, 1e60), (true, 1e-60)] {
                let hessian = drawn.hessian(loss, view, &start, matrix);
                // Two sets of vectors, of very different lengths.
                let right: Vec<f64> = (0..42)
                    .map(|j| scale * (f64::from(j) * 1.3).sin() * if j < 21 { 1.0 } else { 100.0 })
                    .collect();
                let mut solution = right.clone();
                hessian.solve(&mut solution);
                let unscaled: Vec<f64> = solution.iter().map(|x| x / scale).collect();
                let left: Vec<f64> =
                    hessian.products(&unscaled).iter().zip(&right).map(|(p, r)| r / scale - p).collect();
                let right: Vec<f64> = right.iter().map(|r| r / scale).collect();
                let measure = |vector: &[f64]| -> Vec<f64> {
                    let mut preconditioned = vector.to_vec();
                    hessian.preconditioner.apply(&mut preconditioned);
                    let products =
                        vector.iter().zip(&preconditioned).map(|(a, b)| a * b).collect::<Vec<f64>>();
                    products.chunks(system).map(|products| products.iter().sum()).collect()
                };
                for (left, right) in measure(&left).iter().zip(measure(&right)) {
                    assert!(*left <= 1.001 * LEFT * LEFT * right, "{left} {right}");
                }
            }
        }
    }
}
