//! linfa's own solvers, linfa-svm and linfa-logistic, for the same problems and with the same interface as this crate's.
//!
//! They are there to be chosen and compared with. Both work on a float64 copy of the rows, and know no weights of rows. What
//! they find is judged as this crate's solutions are: by the duality gap, computed from the weights that they return.
//!
//! - linfa-svm minimises the plain hinge `½ w·w + Σ C max(0, 1 - y f)` with an intercept that is not penalised. It builds the
//!   matrix of all pairs of rows for every class, also where the kernel is linear.
//! - linfa-logistic minimises what [`super::LogisticParams`] does. It takes log Σ exp relative to the maximum of all scores of
//!   all rows (version 0.8.1). Where scores differ by more than some 700 between rows, all exponentials of a row vanish, and it
//!   can return zero weights without an error: bring columns to a common size first ([`super::Standardizer`]).

use std::cmp::Ordering;

use linfa::{DatasetBase, traits::Fit};
use linfa_logistic::{LogisticRegression, MultiLogisticRegression};
use linfa_svm::Svm;
use ndarray::{Array1, Array2, Axis};

use super::{
    Convergence, LinearModel, SolverError,
    adapter::{Solve, linfa_fit},
    batched::{MatrixRows, pass},
    logistic::LogisticLoss,
    primal::{evaluate, joined},
    smo,
    weighted_rows::WeightedRows,
};

/// Most rows that linfa-svm is given: the matrix of their pairs takes 128 MB.
pub const MOST_LINFA_SVM_ROWS: usize = 4000;

/// Checked settings of linfa-svm.
#[derive(Debug, Clone, PartialEq)]
pub struct LinfaSvmValidParams {
    c: f64,
    tolerance: f64,
}

/// Settings of linfa-svm with a linear kernel, each class against the rest; checked when it is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct LinfaSvmParams(LinfaSvmValidParams);

impl Default for LinfaSvmParams {
    fn default() -> Self {
        Self(LinfaSvmValidParams { c: 0.01, tolerance: 1e-4 })
    }
}

impl LinfaSvmParams {
    /// C = 0.01, relative duality gap 1e-4.
    pub fn new() -> Self {
        Self::default()
    }

    /// Weight of the losses against the regularisation, above 0.
    pub fn c(mut self, c: f64) -> Self {
        self.0.c = c;
        self
    }

    /// Duality gap, relative to the objective, at which the optimum counts as reached: 1e-9 to 1. linfa-svm stops when no two
    /// rows violate the optimality conditions by more than a tenth of it.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.0.tolerance = tolerance;
        self
    }
}

linfa_fit!(LinfaSvmParams, LinfaSvmValidParams => LinearModel);

impl Solve for LinfaSvmValidParams {
    type Model = LinearModel;

    fn check_settings(&self) -> Result<(), SolverError> {
        SolverError::check_positive("C", self.c)?;
        SolverError::check_tolerance(self.tolerance, 1e-9)
    }

    fn fit_set(&self, set: &WeightedRows<'_>) -> Result<LinearModel, SolverError> {
        let rows = set.rows.len();
        if rows > MOST_LINFA_SVM_ROWS {
            return Err(SolverError::TooManyForLinfaSvm { rows });
        }
        check_unweighted(set)?;
        let features = wide(set);
        let mut model = LinearModel {
            weights: Array2::zeros((set.classes, set.columns())),
            bias: Array1::zeros(set.classes),
            convergence: Convergence {
                converged: true,
                iterations: 0,
                objective: 0.0,
                criterion: 0.0,
                message: None,
            },
        };
        // Two classes are one problem, the second against the first.
        let classes = if set.classes == 2 { 1..2 } else { 0..set.classes };
        for class in classes {
            let positive: Vec<bool> = set.labels.iter().map(|&label| label == class).collect();
            let targets = Array1::from(positive.clone());
            let dataset = DatasetBase::new(features.view(), targets.view());
            let params = Svm::<f64, bool>::params().linear_kernel().pos_neg_weights(self.c, self.c);
            let found = params.eps((0.1 * self.tolerance).min(1e-3)).fit(&dataset).map_err(boxed)?;
            let (alpha, bias) = (Array1::from(found.alpha), -found.rho);
            let weights = features.t().dot(&alpha);
            let scores = features.dot(&weights);
            let coefficients = alpha.to_vec();
            let (objective, gap) =
                smo::objective_and_gap(&coefficients, bias, &positive, self.c, |row| scores[row]);
            model.weights.row_mut(class).assign(&weights.mapv(|w| w as f32));
            model.bias[class] = bias;
            model.convergence.objective += objective;
            model.convergence.criterion = model.convergence.criterion.max(gap);
        }
        if set.classes == 2 {
            let mirrored = model.weights.row(1).mapv(|w| -w);
            model.weights.row_mut(0).assign(&mirrored);
            model.bias[0] = -model.bias[1];
        }
        judge(&mut model.convergence, "linfa-svm", self.tolerance);
        Ok(model)
    }
}

/// Checked settings of linfa-logistic.
#[derive(Debug, Clone, PartialEq)]
pub struct LinfaLogisticValidParams {
    c: f64,
    tolerance: f64,
    max_iterations: usize,
}

/// Settings of linfa-logistic, checked when it is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct LinfaLogisticParams(LinfaLogisticValidParams);

impl Default for LinfaLogisticParams {
    fn default() -> Self {
        Self(LinfaLogisticValidParams { c: 1.0, tolerance: 1e-4, max_iterations: 1000 })
    }
}

impl LinfaLogisticParams {
    /// C = 1, relative duality gap 1e-4, at most 1000 iterations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Weight of the losses against the regularisation, above 0; linfa's alpha is one over it.
    pub fn c(mut self, c: f64) -> Self {
        self.0.c = c;
        self
    }

    /// Relative duality gap that counts as the optimum, at least 1e-7. linfa-logistic stops at a length of the gradient; it is
    /// called again with a shorter one, from where it stopped, until the gap is reached.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.0.tolerance = tolerance;
        self
    }

    /// Iterations of each call after which it gives up.
    pub fn max_iterations(mut self, max_iterations: usize) -> Self {
        self.0.max_iterations = max_iterations;
        self
    }
}

linfa_fit!(LinfaLogisticParams, LinfaLogisticValidParams => LinearModel);

impl Solve for LinfaLogisticValidParams {
    type Model = LinearModel;

    fn check_settings(&self) -> Result<(), SolverError> {
        SolverError::check_positive("C", self.c)?;
        SolverError::check_tolerance(self.tolerance, 1e-7)?;
        SolverError::check_iterations(self.max_iterations)
    }

    fn fit_set(&self, set: &WeightedRows<'_>) -> Result<LinearModel, SolverError> {
        /// Calls, each with a shorter gradient to stop at.
        const CALLS: usize = 5;
        check_unweighted(set)?;
        let dataset = DatasetBase::new(wide(set), Array1::from(set.labels.clone()));
        let loss = LogisticLoss::new(set, self.c);
        let of_rows = |weights: &[f32], bias: &[f64]| Some(pass(MatrixRows::of(set), &loss, weights, bias));
        let mut start = None;
        let mut model = None;
        // The gap is half the gradient's square; linfa's objective and gradient are ours over C. At zero weights the objective
        // is C n log K.
        let enough = |objective: f64| (2.0 * self.tolerance * objective).sqrt() / self.c;
        let mut gradient = enough(self.c * set.rows.len() as f64 * (set.classes as f64).ln());
        for _ in 0..CALLS {
            let found = match self.minimize(&dataset, set.classes, gradient, start.as_ref()) {
                Ok(found) => found,
                // Its line search gives up where rounding leaves nothing to gain: what was found before stands.
                Err(_) if model.is_some() => break,
                Err(error) => return Err(error),
            };
            let (weights, bias) = found.by_class();
            let flat: Vec<f32> = weights.iter().copied().collect();
            let point = joined(&flat, &bias.to_vec());
            let mut slope = vec![0.0; point.len()];
            let value = evaluate(&loss, set.columns(), &of_rows, &point, &mut slope);
            let convergence = Convergence {
                converged: true,
                iterations: 0,
                objective: value.value,
                criterion: value.criterion,
                message: None,
            };
            model = Some(LinearModel { weights, bias, convergence });
            if value.criterion <= self.tolerance {
                break;
            }
            start = Some(found);
            gradient = (0.5 * enough(value.value)).min(0.3 * gradient);
        }
        let mut model = model.expect("the first attempt made one, or its error was returned");
        judge(&mut model.convergence, "linfa-logistic", self.tolerance);
        Ok(model)
    }
}

/// What linfa-logistic found: weights and intercept in the last row; one column a class, or one for two classes.
struct Parameters(Array2<f64>);

impl Parameters {
    /// Weights (classes x d) and biases. The weights of two classes are each half of their difference.
    fn by_class(&self) -> (Array2<f32>, Array1<f64>) {
        let (columns, problems) = (self.0.nrows() - 1, self.0.ncols());
        if problems == 1 {
            let half = |class: usize, j: usize| if class == 1 { 0.5 } else { -0.5 } * self.0[[j, 0]];
            let weights = Array2::from_shape_fn((2, columns), |(class, j)| half(class, j) as f32);
            return (weights, Array1::from_iter((0..2).map(|class| half(class, columns))));
        }
        let weights = Array2::from_shape_fn((problems, columns), |(class, j)| self.0[[j, class]] as f32);
        (weights, self.0.row(columns).to_owned())
    }
}

impl LinfaLogisticValidParams {
    fn minimize(
        &self,
        dataset: &DatasetBase<Array2<f64>, Array1<usize>>,
        classes: usize,
        gradient: f64,
        start: Option<&Parameters>,
    ) -> Result<Parameters, SolverError> {
        let limit = self.max_iterations as u64;
        if classes == 2 {
            let mut params = LogisticRegression::default()
                .alpha(1.0 / self.c)
                .gradient_tolerance(gradient)
                .max_iterations(limit);
            if let Some(Parameters(start)) = start {
                let sign = if first_counts(dataset.targets()) { -1.0 } else { 1.0 };
                params = params.initial_params(sign * &start.column(0));
            }
            let found = params.fit(dataset).map_err(boxed)?;
            let positive = found.labels().pos.class;
            let values = found.params().iter().copied().chain([found.intercept()]);
            let column = Array1::from_iter(values.map(|value| if positive == 1 { value } else { -value }));
            return Ok(Parameters(column.insert_axis(Axis(1))));
        }
        let mut params = MultiLogisticRegression::default()
            .alpha(1.0 / self.c)
            .gradient_tolerance(gradient)
            .max_iterations(limit);
        if let Some(Parameters(start)) = start {
            params = params.initial_params(start.clone());
        }
        let found = params.fit(dataset).map_err(boxed)?;
        let mut parameters = found.params().to_owned();
        parameters.push_row(found.intercept().view()).map_err(boxed)?;
        Ok(Parameters(parameters))
    }
}

/// Whether linfa-logistic's weights are those of class 0 against class 1: it takes the class with more rows for the positive
/// one, and of equal classes the first that it meets.
fn first_counts(labels: &Array1<usize>) -> bool {
    let ones = labels.iter().filter(|&&label| label == 1).count();
    match ones.cmp(&(labels.len() - ones)) {
        Ordering::Less => true,
        Ordering::Equal => labels[0] == 0,
        Ordering::Greater => false,
    }
}

/// A copy of the rows in float64.
fn wide(set: &WeightedRows<'_>) -> Array2<f64> {
    Array2::from_shape_fn((set.rows.len(), set.columns()), |(i, j)| f64::from(set.rows[i][j]))
}

fn check_unweighted(set: &WeightedRows<'_>) -> Result<(), SolverError> {
    match set.weights.iter().find(|&&weight| weight != 1.0) {
        None => Ok(()),
        Some(&value) => Err(SolverError::Setting {
            name: "the weight of a row",
            value,
            requirement: "1 for every row: linfa's solvers know no weights",
        }),
    }
}

/// Says where the gap is larger than what was asked.
fn judge(convergence: &mut Convergence, solver: &str, tolerance: f64) {
    let gap = convergence.criterion;
    convergence.converged = gap <= tolerance;
    if !convergence.converged {
        convergence.message = Some(format!(
            "{solver} stopped with a duality gap of {gap:.1e} of the objective where {tolerance:.1e} was asked; standardize the \
             features, lower C, or use this program's own solver"
        ));
    }
}

fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> SolverError {
    SolverError::Linfa(Box::new(error))
}

#[cfg(test)]
mod tests {
    use linfa::ParamGuard;

    use super::*;
    use crate::{ClassWeights, Kernel, KernelSvmParams, LogisticParams, Solver, Standardizer, TrainingRows};

    /// Noisy rows around centres that a linear model can tell apart.
    fn example(rows: usize, classes: usize) -> (Array2<f32>, Vec<usize>) {
        let labels: Vec<usize> = (0..rows).map(|i| i % classes).collect();
        let noise = |i: usize, j: usize| ((i * 7919 + j * 104_729) as f32 * 0.37).sin() * 2.0;
        let feature = |(i, j): (usize, usize)| noise(i, j) + if j % classes == labels[i] { 0.8 } else { 0.0 };
        (Array2::from_shape_fn((rows, 12), feature), labels)
    }

    fn fit(solver: &Solver, features: &Array2<f32>, labels: &[usize]) -> Result<LinearModel, SolverError> {
        let rows: Vec<usize> = (0..labels.len()).collect();
        let classes = labels.iter().max().unwrap() + 1;
        let class_weights = &ClassWeights::Uniform;
        let to = TrainingRows { features, labels, rows: &rows, classes, class_weights };
        solver.fit(&to, None).map(|model| model.linear)
    }

    #[test]
    fn linfa_logistic_reaches_the_optimum_of_this_crates_solver_for_two_classes_and_three() {
        for classes in [2, 3] {
            let (features, labels) = example(150, classes);
            for c in [0.01, 1.0] {
                let ours = Solver::Logistic(LogisticParams::new().c(c).tolerance(1e-6).check().unwrap());
                let theirs = Solver::LinfaLogistic(LinfaLogisticParams::new().c(c).check().unwrap());
                let ours = fit(&ours, &features, &labels).unwrap();
                let theirs = fit(&theirs, &features, &labels).unwrap();
                assert!(theirs.convergence.converged, "{:?}", theirs.convergence);
                let ratio = theirs.convergence.objective / ours.convergence.objective;
                assert!((-2e-6..1e-4).contains(&(ratio - 1.0)), "{classes} {c}: {ratio}");
                let difference = &theirs.scores(features.view()) - &ours.scores(features.view());
                assert!(difference.iter().all(|d| d.abs() < 0.05), "{classes} {c}: {difference}");
            }
        }
    }

    #[test]
    fn linfa_svm_reaches_the_optimum_of_this_crates_kernel_svm_with_a_linear_kernel() {
        for classes in [2, 3] {
            let (features, labels) = example(90, classes);
            for c in [0.01, 1.0] {
                let ours = KernelSvmParams::new(Kernel::Linear).c(c).tolerance(1e-6).check().unwrap();
                let ours = fit_linear_kernel(&ours, &features, &labels);
                let theirs = Solver::LinfaSvm(LinfaSvmParams::new().c(c).check().unwrap());
                let theirs = fit(&theirs, &features, &labels).unwrap();
                assert!(theirs.convergence.converged, "{:?}", theirs.convergence);
                let ratio = theirs.convergence.objective / ours;
                assert!((ratio - 1.0).abs() < 1e-4, "{classes} {c}: {ratio}");
            }
        }
    }

    fn fit_linear_kernel(
        params: &crate::KernelSvmValidParams,
        features: &Array2<f32>,
        labels: &[usize],
    ) -> f64 {
        let solver = Solver::KernelSvm(params.clone());
        fit(&solver, features, labels).unwrap().convergence.objective
    }

    #[test]
    fn columns_of_very_different_size_are_not_passed_over_in_silence() {
        let (mut features, labels) = example(150, 3);
        for (j, mut column) in features.columns_mut().into_iter().enumerate() {
            column *= 10f32.powi(j as i32 % 7 - 3) * 100.0;
        }
        let solver = Solver::LinfaLogistic(LinfaLogisticParams::new().check().unwrap());
        let told = |found: &LinearModel| !found.convergence.converged && found.convergence.message.is_some();
        assert!(
            fit(&solver, &features, &labels).is_err_and(|error| matches!(error, SolverError::Linfa(_)))
                || told(&fit(&solver, &features, &labels).unwrap())
        );
        let rows: Vec<usize> = (0..150).collect();
        let standardized = Standardizer::fit(features.view(), &rows).transform(features.view());
        assert!(fit(&solver, &standardized, &labels).unwrap().convergence.converged);
    }

    #[test]
    fn too_many_rows_and_weights_are_refused() {
        let labels: Vec<usize> = (0..MOST_LINFA_SVM_ROWS + 1).map(|i| i % 2).collect();
        let features = Array2::zeros((labels.len(), 1));
        let svm = Solver::LinfaSvm(LinfaSvmParams::new().check().unwrap());
        let refused = fit(&svm, &features, &labels);
        assert!(matches!(refused, Err(SolverError::TooManyForLinfaSvm { rows: 4001 })), "{refused:?}");

        let (features, labels) = example(60, 3);
        let rows: Vec<usize> = (0..60).filter(|row| row % 9 != 0).collect();
        let class_weights = &ClassWeights::Balanced;
        let to =
            TrainingRows { features: &features, labels: &labels, rows: &rows, classes: 3, class_weights };
        let logistic = Solver::LinfaLogistic(LinfaLogisticParams::new().check().unwrap());
        for solver in [svm, logistic] {
            let said = solver.fit(&to, None).unwrap_err().to_string();
            assert!(said.contains("linfa's solvers know no weights"), "{said}");
        }
    }
}
