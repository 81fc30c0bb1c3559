//! Linear support vector machine, one class against the rest, behind linfa's traits.
//!
//! Each class's binary problem is solved by dual coordinate descent ([`super::dual`] has the formulas). Two classes are
//! one problem, whose scores are mirrored. linfa-svm is no option for features: it builds a dense n x n kernel matrix for
//! every class even when the kernel is linear.

use ndarray::{Array1, Array2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Convergence, LinearModel, SolverError,
    adapter::{Solve, linfa_fit},
    batched::{MatrixRows, RowLoss, Sums, pass},
    dual::{Binary, DescentSettings, DualSolution, FromGram, FromWeights, Gram, combine},
    lbfgs::Termination,
    primal::{Linear, PrimalLoss, PrimalSolution, RowsInMemory, descend},
    simd,
    weighted_rows::WeightedRows,
};

/// Checked settings of the SVM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SvmValidParams {
    c: f64,
    tolerance: f64,
    max_passes: usize,
    seed: u64,
}

/// Settings of the SVM, checked when it is fitted.
///
/// ```
/// use cnncodes_linear_heads::SvmParams;
/// use linfa::{Dataset, traits::{Fit, Predict}};
/// use ndarray::{Array1, array};
///
/// let rows = array![[0.0f32, 1.0], [0.2, 0.9], [1.0, 0.1], [0.9, 0.0]];
/// let model = SvmParams::new().c(1.0).fit(&Dataset::new(rows.clone(), array![0usize, 0, 1, 1]))?;
/// let classes: Array1<usize> = model.predict(&rows);
/// assert_eq!(classes, array![0, 0, 1, 1]);
/// # Ok::<(), cnncodes_linear_heads::SolverError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SvmParams(SvmValidParams);

impl Default for SvmParams {
    fn default() -> Self {
        Self(SvmValidParams { c: 0.01, tolerance: 1e-4, max_passes: 1000, seed: 0 })
    }
}

impl SvmParams {
    /// C = 0.01, squared hinge, relative duality gap 1e-4, at most 1000 passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Weight of the losses against the regularisation, above 0.
    pub fn c(mut self, c: f64) -> Self {
        self.0.c = c;
        self
    }

    /// Relative duality gap (P - D) / P to stop at, at least 1e-9.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.0.tolerance = tolerance;
        self
    }

    /// Passes over the rows after which a class's problem is given up, and reported as not converged.
    pub fn max_passes(mut self, max_passes: usize) -> Self {
        self.0.max_passes = max_passes;
        self
    }

    /// Seed of the order in which rows are visited.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }
}

linfa_fit!(SvmParams, SvmValidParams => LinearModel);

impl Solve for SvmValidParams {
    type Model = LinearModel;

    fn check_settings(&self) -> Result<(), SolverError> {
        SolverError::check_positive("C", self.c)?;
        SolverError::check_tolerance(self.tolerance, 1e-9)?;
        SolverError::check_iterations(self.max_passes)
    }

    fn fit_set(&self, set: &WeightedRows<'_>) -> Result<LinearModel, SolverError> {
        Ok(self.solve_from(set, None))
    }
}

impl SvmValidParams {
    pub(super) fn c(&self) -> f64 {
        self.c
    }

    pub(super) fn tolerance(&self) -> f64 {
        self.tolerance
    }

    pub(super) fn max_passes(&self) -> usize {
        self.max_passes
    }

    /// Fits on rows that have been checked, by the method that suits their number, starting from the solution of a similar
    /// problem where one is given.
    pub(super) fn solve_from(&self, set: &WeightedRows<'_>, start: Option<&LinearModel>) -> LinearModel {
        let (rows, columns) = (set.rows.len(), set.columns());
        let by_primal = self.tolerance >= PRIMAL_TOLERANCE;
        if by_primal && prefers_primal(rows, columns) {
            return self.solve_primal_first(set, start);
        }
        if !by_primal || rows <= columns || self.max_passes <= MOST_IN_DUAL {
            return self.solve_dual(set, prefers_gram(rows, columns), start);
        }
        let found = Self { max_passes: MOST_IN_DUAL, ..self.clone() }.solve_dual(set, false, start);
        if found.convergence.converged {
            return found;
        }
        let mut model = self.solve_primal_first(set, Some(&found));
        model.convergence.iterations += found.convergence.iterations;
        model
    }

    /// In the primal; where float32 does not get there, the dual's float64 does.
    fn solve_primal_first(&self, set: &WeightedRows<'_>, start: Option<&LinearModel>) -> LinearModel {
        let found = self.solve_primal(set, start);
        if found.convergence.converged || found.convergence.iterations >= self.max_passes {
            return found;
        }
        self.solve_dual(set, false, Some(&found))
    }

    /// In the primal.
    fn solve_primal(&self, set: &WeightedRows<'_>, start: Option<&LinearModel>) -> LinearModel {
        let loss = SvmLoss::new(set, self.c);
        let known = RowsInMemory { rows: MatrixRows::of(set), loss: &loss, matrix: true };
        let pass = |weights: &[f32], bias: &[f64]| Some(pass(known.rows, &loss, weights, bias));
        let limit = self.max_passes.min(MOST_IN_PRIMAL);
        let start = start.map(|model| loss.linear(model));
        self.model(&loss, descend(&known, set.columns(), &pass, start, self.tolerance, limit), set.columns())
    }

    /// The model of a solution in the primal.
    pub(super) fn model(&self, loss: &SvmLoss<'_>, solution: PrimalSolution, columns: usize) -> LinearModel {
        let PrimalSolution { linear: (weights, bias), objective, gap, iterations, outcome } = solution;
        let converged = outcome == Termination::Converged;
        let mut model = LinearModel {
            weights: Array2::zeros((loss.classes, columns)),
            bias: Array1::zeros(loss.classes),
            convergence: Convergence {
                converged,
                iterations,
                objective,
                criterion: gap,
                message: (!converged).then(|| self.message(gap, "")),
            },
        };
        for ((&class, weights), &bias) in loss.positives.iter().zip(weights.chunks(columns)).zip(&bias) {
            model.weights.row_mut(class).iter_mut().zip(weights).for_each(|(to, from)| *to = *from);
            model.bias[class] = bias;
        }
        mirror(&mut model);
        model
    }

    /// In the dual, through the Gram matrix or with the features themselves.
    fn solve_dual(
        &self,
        set: &WeightedRows<'_>,
        through_gram: bool,
        start: Option<&LinearModel>,
    ) -> LinearModel {
        let columns = set.columns();
        let squares: Vec<f64> = set.rows.par_iter().map(|row| simd::dot(row, row) + 1.0).collect();
        let costs: Vec<f64> = set.weights.iter().map(|weight| self.c * weight).collect();
        let gram = through_gram.then(|| Gram::new(&set.rows));
        let positives = positives(set.classes);
        let solved: Vec<(Vec<f64>, f64, DualSolution)> = positives
            .par_iter()
            .map(|&class| {
                let sign = |&label: &usize| if label == class { 1.0 } else { -1.0 };
                let signs: Vec<f64> = set.labels.iter().map(sign).collect();
                let problem = Binary { rows: &set.rows, squares: &squares, signs: &signs, costs: &costs };
                let descent = DescentSettings {
                    tolerance: self.tolerance,
                    max_passes: self.max_passes,
                    seed: self.seed.wrapping_add(class as u64),
                };
                let start = self.start(set, class, &signs, &costs, start);
                let mut weights = FromWeights::new(&set.rows, columns);
                let solution = match &gram {
                    Some(gram) => {
                        let first = problem.solve(start, &mut FromGram::new(gram), &descent.tightened());
                        // The Gram matrix holds rounded products: what counts is the gap with the features themselves.
                        let mut last = problem.solve(first.alpha, &mut weights, &descent);
                        last.passes += first.passes;
                        last
                    }
                    None => problem.solve(start, &mut weights, &descent),
                };
                let coefficients: Vec<f64> = solution.alpha.iter().zip(&signs).map(|(a, y)| a * y).collect();
                (combine(&set.rows, &coefficients, columns), coefficients.iter().sum(), solution)
            })
            .collect();
        let convergence = self.convergence(solved.iter().map(|(_, _, solution)| solution));
        let mut weights = Array2::zeros((set.classes, columns));
        let mut bias = Array1::zeros(set.classes);
        for (&class, (w, b, _)) in positives.iter().zip(&solved) {
            weights.row_mut(class).iter_mut().zip(w).for_each(|(to, &from)| *to = from as f32);
            bias[class] = *b;
        }
        let mut model = LinearModel { weights, bias, convergence };
        mirror(&mut model);
        model
    }

    /// Multipliers to start from: those that a similar problem's solution defines, α = 2 C ξ, or zeros.
    fn start(
        &self,
        set: &WeightedRows<'_>,
        class: usize,
        signs: &[f64],
        costs: &[f64],
        from: Option<&LinearModel>,
    ) -> Vec<f64> {
        let Some(model) = from else {
            return vec![0.0; set.rows.len()];
        };
        let weights = model.weights.row(class).to_vec();
        let slack = |i: usize| 1.0 - signs[i] * (simd::dot(set.rows[i], &weights) + model.bias[class]);
        (0..set.rows.len()).map(|i| 2.0 * costs[i] * slack(i).max(0.0)).collect()
    }

    fn message(&self, gap: f64, where_: &str) -> String {
        format!(
            "the SVM stopped at its limit of {} passes{where_}, with a duality gap of {gap:.1e} of the objective where \
             {:.1e} was asked; standardize the features, lower C or raise the limit",
            self.max_passes, self.tolerance,
        )
    }

    fn convergence<'a>(&self, solutions: impl Iterator<Item = &'a DualSolution> + Clone) -> Convergence {
        let stopped = solutions.clone().filter(|solution| !solution.converged).count();
        let criterion = solutions.clone().map(DualSolution::gap).fold(0.0, f64::max);
        let problems = solutions.clone().count();
        let message =
            (stopped > 0).then(|| self.message(criterion, &format!(" in {stopped} of {problems} problems")));
        Convergence {
            converged: stopped == 0,
            iterations: solutions.clone().map(|solution| solution.passes).max().unwrap_or(0),
            objective: solutions.map(|solution| solution.primal).sum(),
            criterion,
            message,
        }
    }
}

/// float32 proves no smaller gap than this.
const PRIMAL_TOLERANCE: f64 = 1e-5;

/// Iterations in the primal before the dual takes over.
const MOST_IN_PRIMAL: usize = 360;

/// Passes in the dual before the primal takes over, where rows outnumber columns: a few columns that cannot tell the classes
/// apart need thousands of them.
const MOST_IN_DUAL: usize = 300;

/// Whether n rows of d features are better served by the primal with its d x d preconditioner, which takes less memory than the
/// features. At 2600, 3000 and 4000 rows of 2048 features it takes 0.6 to 0.3 of the dual's time, with fewer rows than features
/// several times as long. Below 16,384 values the dual takes no time, and is more exact.
fn prefers_primal(rows: usize, columns: usize) -> bool {
    4 * rows >= 5 * columns && columns <= 8192 && rows * columns >= 1 << 14
}

/// Squared hinge of each class against the rest, in the primal: `½ w·w + Σ C max(0, 1 - y w·x)²` each.
pub(super) struct SvmLoss<'a> {
    labels: &'a [usize],
    classes: usize,
    positives: Vec<usize>,
    /// C of each row.
    costs: Vec<f64>,
}

impl<'a> SvmLoss<'a> {
    pub fn new(set: &'a WeightedRows<'_>, c: f64) -> Self {
        Self::of(&set.labels, set.classes, set.weights.iter().map(|weight| c * weight).collect())
    }

    /// Of rows with these labels and C.
    pub fn of(labels: &'a [usize], classes: usize, costs: Vec<f64>) -> Self {
        Self { labels, classes, positives: positives(classes), costs }
    }

    /// Weights and biases of the problems.
    fn linear(&self, model: &LinearModel) -> Linear {
        let weights = self.positives.iter().flat_map(|&class| model.weights.row(class).to_vec()).collect();
        (weights, self.positives.iter().map(|&class| model.bias[class]).collect())
    }

    fn sign(&self, row: usize, problem: usize) -> f64 {
        if self.positives[problem] == self.labels[row] { 1.0 } else { -1.0 }
    }
}

impl RowLoss for SvmLoss<'_> {
    fn differentiate(&self, first: usize, scores: &mut [f32], sums: &mut Sums) {
        for (i, scores) in scores.chunks_mut(self.positives.len()).enumerate() {
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

impl PrimalLoss for SvmLoss<'_> {
    fn problems(&self) -> usize {
        self.positives.len()
    }

    /// The bias is penalised like any weight.
    fn penalties(&self) -> (f64, f64) {
        (1.0, 1.0)
    }

    fn joint(&self) -> bool {
        false
    }

    /// 2 C where the row is within its margin, else 0.
    fn curvatures(&self, row: usize, scores: &mut [f64]) {
        for (k, score) in scores.iter_mut().enumerate() {
            *score = if self.sign(row, k) * *score < 1.0 { 2.0 * self.costs[row] } else { 0.0 };
        }
    }

    /// The second derivatives.
    fn hessian_state(&self, row: usize, scores: &mut [f32]) {
        for (k, score) in scores.iter_mut().enumerate() {
            let within = self.sign(row, k) * f64::from(*score) < 1.0;
            *score = if within { (2.0 * self.costs[row]) as f32 } else { 0.0 };
        }
    }

    fn hessian_vector_product(&self, _row: usize, states: &[f32], changes: &mut [f32]) {
        changes.iter_mut().zip(states).for_each(|(change, hessian_state)| *change *= hessian_state);
    }
}

/// The classes that stand against the rest; two classes are one problem, the second against the first.
fn positives(classes: usize) -> Vec<usize> {
    if classes == 2 { vec![1] } else { (0..classes).collect() }
}

/// Gives the first of two classes the scores of the second with the opposite sign.
fn mirror(model: &mut LinearModel) {
    if model.bias.len() == 2 {
        let negated = model.weights.row(1).mapv(|w: f32| -w);
        model.weights.row_mut(0).assign(&negated);
        model.bias[0] = -model.bias[1];
    }
}

/// Whether n rows of d features are better served by the n x n Gram matrix. At six times as many columns as rows it takes
/// a third of the features' memory, and making it costs as much as a few passes.
fn prefers_gram(rows: usize, columns: usize) -> bool {
    rows * 6 <= columns
}

#[cfg(test)]
mod tests {
    use linfa::ParamGuard;

    use super::*;

    /// Few rows of many features, where both ways of keeping the scores are possible.
    fn wide() -> (Array2<f32>, Vec<usize>) {
        let labels: Vec<usize> = (0..41).map(|i| i % 3).collect();
        let value = |(i, j): (usize, usize)| {
            ((i * 31 + j * 17) as f32 * 0.61).sin() + (labels[i] * (j % 3)) as f32 * 0.1
        };
        (Array2::from_shape_fn((41, 300), value), labels)
    }

    #[test]
    fn the_gram_matrix_and_the_weights_lead_to_the_same_optimum() {
        let (features, labels) = wide();
        let rows: Vec<usize> = (0..labels.len()).collect();
        let set = WeightedRows::select(&features, &labels, &rows, 3);
        for c in [0.01, 1.0] {
            let params = SvmParams::new().c(c).tolerance(1e-6).max_passes(50_000).check().unwrap();
            let (direct, gram) = (params.solve_dual(&set, false, None), params.solve_dual(&set, true, None));
            assert!(direct.convergence.converged && gram.convergence.converged);
            let ratio = direct.convergence.objective / gram.convergence.objective;
            assert!((ratio - 1.0).abs() < 2e-6, "{ratio}");
            let difference = &direct.scores(features.view()) - &gram.scores(features.view());
            assert!(difference.iter().all(|d| d.abs() < 5e-3), "{difference}");
        }
    }

    #[test]
    fn the_primal_and_the_dual_lead_to_the_same_optimum_and_a_start_saves_passes() {
        for classes in [2, 4] {
            let labels: Vec<usize> = (0..400).map(|i| i % classes).collect();
            let value = |(i, j): (usize, usize)| {
                ((i * 31 + j * 17) as f32 * 0.61).sin() * (1 + j % 5) as f32
                    + (labels[i] * (j % 3)) as f32 * 0.1
            };
            let features = Array2::from_shape_fn((400, 37), value);
            let rows: Vec<usize> = (0..400).collect();
            let set = WeightedRows::select(&features, &labels, &rows, classes);
            for c in [0.001, 0.1] {
                let params = SvmParams::new().c(c).tolerance(1e-5).max_passes(50_000).check().unwrap();
                let (dual, primal) = (params.solve_dual(&set, false, None), params.solve_primal(&set, None));
                assert!(primal.convergence.converged, "{:?}", primal.convergence);
                let ratio = dual.convergence.objective / primal.convergence.objective;
                assert!((ratio - 1.0).abs() < 2e-5, "{ratio}");
                let difference = &dual.scores(features.view()) - &primal.scores(features.view());
                assert!(difference.iter().all(|d| d.abs() < 2e-2), "{difference}");
                let again = params.solve_primal(&set, Some(&primal)).convergence;
                assert!(again.iterations <= 2, "{again:?}");
                let again = params.solve_dual(&set, false, Some(&dual)).convergence;
                assert!(again.converged && again.iterations < dual.convergence.iterations, "{again:?}");
            }
        }
    }

    #[test]
    fn in_the_primal_two_rows_of_half_a_weight_are_one_row_and_their_order_is_nothing() {
        let labels: Vec<usize> = (0..300).map(|i| i * i % 7 % 3).collect();
        let value = |(i, j): (usize, usize)| {
            ((i * 31 + j * 17) as f32 * 0.61).sin() + (labels[i] * (j % 3)) as f32 * 0.1
        };
        let features = Array2::from_shape_fn((300, 23), value);
        let params = SvmParams::new().c(0.1).tolerance(1e-5).check().unwrap();
        let once: Vec<usize> = (0..300).collect();
        let once = params.solve_primal(&WeightedRows::select(&features, &labels, &once, 3), None).convergence;
        let twice: Vec<usize> = (0..300).rev().flat_map(|row| [row, row]).collect();
        let mut set = WeightedRows::select(&features, &labels, &twice, 3);
        set.weights.fill(0.5);
        let twice = params.solve_primal(&set, None).convergence;
        assert!(once.converged && twice.converged);
        assert!((once.objective / twice.objective - 1.0).abs() < 2e-5, "{once:?} {twice:?}");
    }

    #[test]
    fn few_columns_that_cannot_tell_the_classes_apart_are_no_obstacle() {
        // All columns are nearly the same few, as the pooled maps of an early layer are; the labels have little to do with them.
        let labels: Vec<usize> = (0..245).map(|i| i * i % 11 % 4).collect();
        let hidden = |i: usize, k: usize| ((i * 7919 + k * 104_729) as f64 * 0.37).sin();
        let feature = |(i, j): (usize, usize)| {
            let shared: f64 = (0..6).map(|k| hidden(i, k) * ((j * 6 + k) as f64 * 1.3).cos()).sum();
            let own = 0.05 * ((i * 31 + j * 1009) as f64 * 0.61).sin();
            (shared + own + 0.1 * (labels[i] * (j % 3)) as f64) as f32
        };
        let features = Array2::from_shape_fn((245, 64), feature);
        let rows: Vec<usize> = (0..245).collect();
        let set = WeightedRows::select(&features, &labels, &rows, 4);
        let params = SvmParams::new().c(10.0).check().unwrap();
        assert!(!params.solve_dual(&set, false, None).convergence.converged);
        let model = params.solve_from(&set, None);
        assert!(model.convergence.converged, "{:?}", model.convergence);
        let exact = SvmParams::new().c(10.0).tolerance(1e-6).max_passes(200_000).check().unwrap();
        let ratio = model.convergence.objective / exact.solve_from(&set, None).convergence.objective;
        assert!((-1e-6..1e-4).contains(&(ratio - 1.0)), "{ratio}");
    }

    #[test]
    fn the_primal_is_chosen_for_many_rows() {
        assert!(prefers_primal(10_000, 2048) && prefers_primal(3000, 2048));
        assert!(!prefers_primal(2048, 2048) && !prefers_primal(646, 1280) && !prefers_primal(120, 20));
    }

    #[test]
    fn the_gram_matrix_is_chosen_for_few_rows_of_many_features() {
        assert!(prefers_gram(646, 4096));
        assert!(!prefers_gram(10_000, 2048));
        assert!(!prefers_gram(2048, 2048));
    }

    #[test]
    fn the_seed_decides_the_order_and_nothing_else_is_random() {
        let (features, labels) = wide();
        let rows: Vec<usize> = (0..labels.len()).collect();
        let set = WeightedRows::select(&features, &labels, &rows, 3);
        let fit = |seed| SvmParams::new().seed(seed).check().unwrap().solve_from(&set, None);
        assert_eq!(fit(1), fit(1));
        assert_ne!(fit(1).weights, fit(2).weights);
    }
}
