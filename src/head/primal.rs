//! The squared-hinge SVM in the primal, all classes at once, for more rows than columns.
//!
//! Minimises `½ w·w + Σ C max(0, 1 - y w·x)²` of every class (constant code 1 appended, as in [`super::dual`]) by L-BFGS
//! in variables v = Lᵀ R w, where `R L Lᵀ R = I + 2 C XᵀX` (R diagonal, L lower triangular) is the Hessian that every
//! row within its margin would give. It bounds the true Hessian from above, so a unit step always descends, and the
//! condition that is left is that of the rows outside the margin alone. From at most four rows a column it is estimated
//! by a sample: a preconditioner need not be exact. With a large C few rows stay within their margin; so a descent that has
//! not arrived after some iterations goes on with the Hessian of the rows that are within it where it stands, each row
//! weighted by the share of the problems in which it is.
//!
//! With α = 2 C ξ, which is feasible in the dual, the duality gap is half the squared norm of the gradient: the stopping
//! rule is exact here as well.

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::{
        matmul::triangular::{BlockStructure, matmul},
        triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
    },
};
use ndarray::{Array1, Array2};
use rayon::prelude::*;

use super::{
    batched::{RowLoss, Rows, Sums, add_rows},
    kernel,
    lbfgs::{Minimum, Outcome, Value, minimize},
    linear::TrainingSet,
};

/// Added to the unit diagonal before it is factorised in float32.
const JITTER: f32 = 1e-3;
/// Iterations after which the preconditioner is made anew, and how often it is worth it.
const ROUND: usize = 60;
const ROUNDS: usize = 6;

/// The problems of `positives` (each class against the rest).
pub(super) struct Primal<'a> {
    set: &'a TrainingSet<'a>,
    positives: &'a [usize],
    /// C of each row.
    costs: &'a [f64],
    preconditioner: Preconditioner,
}

/// What was found, one row a problem.
pub(super) struct PrimalSolution {
    pub weights: Array2<f32>,
    pub bias: Array1<f64>,
    pub minimum: Minimum,
}

impl<'a> Primal<'a> {
    pub fn new(set: &'a TrainingSet<'a>, positives: &'a [usize], costs: &'a [f64]) -> Self {
        let preconditioner = Preconditioner::new(set, costs);
        Self { set, positives, costs, preconditioner }
    }

    /// C of each row times the share of the problems in which it is within its margin.
    fn active_costs(&self, weights: &Array2<f32>, bias: &Array1<f64>) -> Vec<f64> {
        let weights: Vec<&[f32]> =
            weights.rows().into_iter().map(|row| row.to_slice().expect("made in standard layout")).collect();
        let share = |i: usize| {
            let mut scores = vec![0f64; weights.len()];
            kernel::products(&[self.set.rows[i]], &weights, &mut scores);
            let within = |(k, score): (usize, &f64)| self.sign(i, k) * (score + bias[k]) < 1.0;
            scores.iter().enumerate().filter(|&pair| within(pair)).count() as f64 / weights.len() as f64
        };
        (0..self.set.rows.len()).into_par_iter().map(|i| self.costs[i] * share(i)).collect()
    }

    fn sign(&self, row: usize, problem: usize) -> f64 {
        if self.positives[problem] == self.set.labels[row] { 1.0 } else { -1.0 }
    }

    /// Descends from `start` (weights and biases of each problem), or from 0, until every problem's relative duality gap
    /// is at most `tolerance`.
    pub fn solve(
        mut self,
        mut start: Option<(Array2<f32>, Array1<f64>)>,
        tolerance: f64,
        max_iterations: usize,
    ) -> PrimalSolution {
        let mut iterations = 0;
        loop {
            let mut solution = self.descend(start, tolerance, ROUND.min(max_iterations - iterations));
            iterations += solution.minimum.iterations;
            solution.minimum.iterations = iterations;
            let stopped = solution.minimum.outcome != Outcome::IterationLimit;
            if stopped || iterations >= max_iterations.min(ROUNDS * ROUND) {
                return solution;
            }
            self.preconditioner =
                Preconditioner::new(self.set, &self.active_costs(&solution.weights, &solution.bias));
            start = Some((solution.weights, solution.bias));
        }
    }

    fn descend(
        &self,
        start: Option<(Array2<f32>, Array1<f64>)>,
        tolerance: f64,
        max_iterations: usize,
    ) -> PrimalSolution {
        let stride = self.set.columns() + 1;
        let mut point = vec![0f32; self.positives.len() * stride];
        if let Some((weights, bias)) = start {
            for ((point, weights), b) in point.chunks_mut(stride).zip(weights.rows()).zip(&bias) {
                point.iter_mut().zip(weights.iter().copied().chain([*b as f32])).for_each(|(p, w)| *p = w);
            }
            self.preconditioner.enter(&mut point);
        }
        let point = point.into_iter().map(f64::from).collect();
        let evaluate = |point: &[f64], gradient: &mut [f64]| self.evaluate(point, gradient);
        let minimum = minimize(evaluate, point, tolerance, max_iterations);
        let (weights, bias) = self.weights(&minimum.point);
        let weights = Array2::from_shape_vec((self.positives.len(), stride - 1), weights)
            .expect("one row of weights a problem");
        PrimalSolution { weights, bias: Array1::from(bias), minimum }
    }

    /// Weights (problems x d) and biases at a point.
    fn weights(&self, point: &[f64]) -> (Vec<f32>, Vec<f64>) {
        let stride = self.set.columns() + 1;
        let mut variables: Vec<f32> = point.iter().map(|&v| v as f32).collect();
        self.preconditioner.leave(&mut variables);
        let bias = variables.chunks(stride).map(|row| f64::from(row[stride - 1])).collect();
        let weights = variables.chunks(stride).flat_map(|row| &row[..stride - 1]).copied().collect();
        (weights, bias)
    }

    fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> Value {
        let columns = self.set.columns();
        let (weights, bias) = self.weights(point);
        let mut sums = Sums::zeros(self.positives.len(), columns);
        add_rows(Rows::of(self.set), 0, &weights, &bias, self, &mut sums);
        let mut scaled = Vec::with_capacity(gradient.len());
        let (mut value, mut criterion) = (0f64, 0f64);
        for (k, &b) in bias.iter().enumerate() {
            let weights = &weights[k * columns..(k + 1) * columns];
            let of_losses = &sums.gradient[k * columns..(k + 1) * columns];
            let (mut norm, mut gap) = (b * b, (sums.bias[k] + b).powi(2));
            for (&w, &loss) in weights.iter().zip(of_losses) {
                let w = f64::from(w);
                let g = loss + w;
                norm += w * w;
                gap += g * g;
                scaled.push(g as f32);
            }
            scaled.push((sums.bias[k] + b) as f32);
            let primal = 0.5 * norm + sums.loss[k];
            value += primal;
            criterion = criterion.max(0.5 * gap / primal.max(f64::MIN_POSITIVE));
        }
        self.preconditioner.gradient(&mut scaled);
        gradient.iter_mut().zip(&scaled).for_each(|(to, &from)| *to = f64::from(from));
        Value { value, criterion }
    }
}

impl RowLoss for Primal<'_> {
    fn differentiate(&self, first: usize, scores: &mut [f32], sums: &mut Sums) {
        let count = self.positives.len();
        for (i, scores) in scores.chunks_mut(count).enumerate() {
            let cost = self.costs[first + i];
            for (k, score) in scores.iter_mut().enumerate() {
                let sign = self.sign(first + i, k);
                let slack = (1.0 - sign * f64::from(*score)).max(0.0);
                let residual = -2.0 * cost * sign * slack;
                sums.loss[k] += cost * slack * slack;
                sums.bias[k] += residual;
                *score = residual as f32;
            }
        }
    }
}

/// `R L Lᵀ R`, near `I + 2 C XᵀX` (constant code included).
struct Preconditioner {
    /// Diagonal of R.
    roots: Vec<f32>,
    /// L, row after row; what lies above its diagonal is not looked at. `None` is the unit matrix.
    factor: Option<Vec<f32>>,
}

impl Preconditioner {
    fn new(set: &TrainingSet<'_>, costs: &[f64]) -> Self {
        const BLOCK: usize = 256;
        let size = set.columns() + 1;
        let mut rows: Vec<usize> = (0..set.rows.len()).filter(|&i| costs[i] > 0.0).collect();
        let count = rows.len();
        let sampled = count.min(4 * size);
        rows = (0..sampled).map(|s| rows[s * count / sampled]).collect();
        let whole: f64 = costs.iter().sum();
        let drawn: f64 = rows.iter().map(|&i| costs[i]).sum();
        let scale = 2.0 * whole / drawn.max(f64::MIN_POSITIVE);
        let mut gram = vec![0f32; size * size];
        let mut block = Vec::with_capacity(BLOCK * size);
        for rows in rows.chunks(BLOCK) {
            block.clear();
            for &i in rows {
                let root = (scale * costs[i]).sqrt() as f32;
                block.extend(set.rows[i].iter().map(|x| root * x));
                block.push(root);
            }
            let rows = MatRef::from_row_major_slice(&block, rows.len(), size);
            matmul(
                MatMut::from_row_major_slice_mut(&mut gram, size, size),
                BlockStructure::TriangularLower,
                Accum::Add,
                rows.transpose(),
                BlockStructure::Rectangular,
                rows,
                BlockStructure::Rectangular,
                1.0,
                Par::rayon(0),
            );
        }
        let roots: Vec<f32> = (0..size).map(|j| (1.0 + gram[j * size + j]).sqrt()).collect();
        for i in 0..size {
            for j in 0..i {
                gram[i * size + j] /= roots[i] * roots[j];
            }
            gram[i * size + i] = 1.0 + JITTER;
        }
        let factor = factorise(&mut gram, size).then_some(gram);
        Self { roots, factor }
    }

    fn size(&self) -> usize {
        self.roots.len()
    }

    /// From v to w = R⁻¹ L⁻ᵀ v, for each problem's variables.
    fn leave(&self, variables: &mut [f32]) {
        let (size, count) = (self.size(), variables.len() / self.size());
        if let Some(factor) = &self.factor {
            let lower = MatRef::from_row_major_slice(factor, size, size);
            let columns = MatMut::from_column_major_slice_mut(variables, size, count);
            solve_upper_triangular_in_place(lower.transpose(), columns, Par::rayon(0));
        }
        self.divide(variables);
    }

    /// From the gradient with respect to w to that with respect to v, L⁻¹ R⁻¹ g.
    fn gradient(&self, gradient: &mut [f32]) {
        let (size, count) = (self.size(), gradient.len() / self.size());
        self.divide(gradient);
        if let Some(factor) = &self.factor {
            let lower = MatRef::from_row_major_slice(factor, size, size);
            let columns = MatMut::from_column_major_slice_mut(gradient, size, count);
            solve_lower_triangular_in_place(lower, columns, Par::rayon(0));
        }
    }

    /// From w to v = Lᵀ R w.
    fn enter(&self, variables: &mut [f32]) {
        let size = self.size();
        for row in variables.chunks_mut(size) {
            row.iter_mut().zip(&self.roots).for_each(|(v, root)| *v *= root);
            if let Some(factor) = &self.factor {
                for j in 0..size {
                    row[j] = (j..size).map(|i| factor[i * size + j] * row[i]).sum();
                }
            }
        }
    }

    fn divide(&self, variables: &mut [f32]) {
        for row in variables.chunks_mut(self.size()) {
            row.iter_mut().zip(&self.roots).for_each(|(v, root)| *v /= root);
        }
    }
}

/// Replaces the lower triangle by its Cholesky factor; false when it is not positive definite in float32.
fn factorise(matrix: &mut [f32], size: usize) -> bool {
    use faer::{
        dyn_stack::{MemBuffer, MemStack},
        linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch},
    };
    let mut memory =
        MemBuffer::new(cholesky_in_place_scratch::<f32>(size, Par::rayon(0), Default::default()));
    cholesky_in_place(
        MatMut::from_row_major_slice_mut(matrix, size, size),
        Default::default(),
        Par::rayon(0),
        MemStack::new(&mut memory),
        Default::default(),
    )
    .is_ok()
}
