//! Support vector machines with a kernel, one class against the rest.
//!
//! For each class the plain hinge loss with an intercept that is not penalised is minimised, as scikit-learn's `SVC` does for
//! two classes ([`super::smo`] has the formula). Whether the optimum was reached is not taken on trust: the duality gap is
//! computed from the solution.
//!
//! linfa-svm computes the kernel of every pair of rows for every class anew, each from vectors of its own, and takes no matrix:
//! at 2000 rows and 10 classes 93 s for five folds and the final fit, where this takes 1.4. It is what the solver is tested
//! against.

use faer::{Accum, Mat, Par, linalg::matmul::matmul};
use ndarray::{Array1, Array2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Convergence, FittedModel, Kernel, KernelMap, LinearModel, SolverError,
    adapter::{Solve, linfa_fit},
    smo,
    weighted_rows::WeightedRows,
};

/// Most rows that a kernel SVM is fitted to: memory and time grow with their square. This many take 1.4 GB and half a minute on
/// two cores, five folds included.
pub const MOST_KERNEL_ROWS: usize = 10_000;
/// Columns that are brought to float64 at a time.
const BLOCK: usize = 512;

/// Checked settings of a kernel SVM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelSvmValidParams {
    c: f64,
    kernel: Kernel,
    tolerance: f64,
}

/// Settings of a kernel SVM, checked when it is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelSvmParams(KernelSvmValidParams);

impl KernelSvmParams {
    /// C = 1 and a duality gap of 1e-4 of the objective.
    pub fn new(kernel: Kernel) -> Self {
        Self(KernelSvmValidParams { c: 1.0, kernel, tolerance: 1e-4 })
    }

    /// Weight of the losses against the regularisation, above 0.
    pub fn c(mut self, c: f64) -> Self {
        self.0.c = c;
        self
    }

    /// Duality gap, relative to the objective, at which the optimum counts as reached: 1e-9 to 1.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.0.tolerance = tolerance;
        self
    }
}

linfa_fit!(KernelSvmParams, KernelSvmValidParams => FittedModel);

impl Solve for KernelSvmValidParams {
    type Model = FittedModel;

    fn check_settings(&self) -> Result<(), SolverError> {
        SolverError::check_positive("C", self.c)?;
        SolverError::check_tolerance(self.tolerance, 1e-9)?;
        self.kernel.check()
    }

    /// Every weight must be 1.
    fn fit_set(&self, set: &WeightedRows<'_>) -> Result<FittedModel, SolverError> {
        if set.rows.len() > MOST_KERNEL_ROWS {
            return Err(SolverError::TooManyForKernels { rows: set.rows.len() });
        }
        if let Some(&weight) = set.weights.iter().find(|&&weight| weight != 1.0) {
            let requirement = "1 for every row: a kernel SVM knows no weights";
            return Err(SolverError::Setting { name: "the weight of a row", value: weight, requirement });
        }
        let (linear, map) = self.solve(set);
        Ok(FittedModel { linear, kernel: Some(map) })
    }
}

/// One class's part of the solution.
struct BinarySvm {
    /// `α_i y_i` of each row.
    coefficients: Vec<f64>,
    bias: f64,
    objective: f64,
    /// Duality gap relative to the objective.
    gap: f64,
}

impl KernelSvmValidParams {
    /// Fits on rows that have been checked, at most [`MOST_KERNEL_ROWS`], each of weight 1. The weights are those of the
    /// map's values.
    pub(super) fn solve(&self, set: &WeightedRows<'_>) -> (LinearModel, KernelMap) {
        let kernel = self.kernel.on(&set.rows);
        let matrix = kernel_matrix(kernel, &set.rows);
        // Two classes are one problem.
        let problems = if set.classes == 2 { 1 } else { set.classes };
        let finite = matrix.col_iter().all(|column| column.iter().all(|value| value.is_finite()));
        let mut machines: Vec<BinarySvm> = if finite {
            (0..problems).into_par_iter().map(|class| self.machine(&matrix, &set.labels, class)).collect()
        } else {
            (0..problems).map(|_| BinarySvm::nothing(set.rows.len())).collect()
        };
        let convergence = self.convergence(&machines);
        if let [first] = &machines[..] {
            let coefficients = first.coefficients.iter().map(|a| -a).collect();
            machines.push(BinarySvm { coefficients, bias: -first.bias, ..*first });
        }
        let used: Vec<usize> = (0..set.rows.len())
            .filter(|&row| machines.iter().any(|machine| machine.coefficients[row] != 0.0))
            .collect();
        // A head has a support vector at least, also where nothing could be learned.
        let used = if used.is_empty() { vec![0] } else { used };
        let vectors = Array2::from_shape_fn((used.len(), set.columns()), |(i, j)| set.rows[used[i]][j]);
        let weights = Array2::from_shape_fn((set.classes, used.len()), |(k, s)| {
            machines[k].coefficients[used[s]] as f32
        });
        let bias = Array1::from_iter(machines.iter().map(|machine| machine.bias));
        (LinearModel { weights, bias, convergence }, KernelMap::new(kernel, vectors))
    }

    /// The machine that tells `class` from the others.
    fn machine(&self, matrix: &Mat<f64>, labels: &[usize], class: usize) -> BinarySvm {
        let targets: Vec<bool> = labels.iter().map(|&label| label == class).collect();
        let smo::Multipliers { coefficients, bias } =
            smo::solve(matrix.as_ref(), &targets, self.c, self.tolerance);
        let (objective, gap) = smo::objective_and_gap(&coefficients, bias, &targets, self.c, |i| {
            coefficients.iter().zip(matrix.col(i).iter()).map(|(alpha, k)| alpha * k).sum()
        });
        BinarySvm { coefficients, bias, objective, gap }
    }

    fn convergence(&self, machines: &[BinarySvm]) -> Convergence {
        let criterion = machines.iter().map(|machine| machine.gap).fold(0.0, f64::max);
        let open = machines.iter().filter(|machine| machine.gap > self.tolerance || machine.gap.is_nan());
        let open = open.count();
        let failed = machines.iter().any(|machine| !machine.gap.is_finite());
        let message = if failed {
            Some(
                "the kernel's values are too large or too small to be computed with; choose another --gamma or \
                 --degree"
                    .to_owned(),
            )
        } else if open > 0 {
            Some(format!(
                "the solver stopped in {open} of {} problems with {:.1e} of the objective left to gain, more than {:.1e}; \
                 a smaller C would be reached",
                machines.len(),
                criterion,
                self.tolerance
            ))
        } else {
            None
        };
        Convergence {
            converged: message.is_none(),
            iterations: 1,
            objective: machines.iter().map(|machine| machine.objective).sum(),
            criterion,
            message,
        }
    }
}

impl BinarySvm {
    /// Where there is no solution.
    fn nothing(rows: usize) -> Self {
        Self { coefficients: vec![0.0; rows], bias: 0.0, objective: 0.0, gap: f64::INFINITY }
    }
}

/// The kernel of all pairs of rows, in float64.
fn kernel_matrix(kernel: Kernel, rows: &[&[f32]]) -> Mat<f64> {
    let (count, columns) = (rows.len(), rows.first().map_or(0, |row| row.len()));
    let mut products = Mat::zeros(count, count);
    for from in (0..columns).step_by(BLOCK) {
        let width = BLOCK.min(columns - from);
        let part = Mat::from_fn(count, width, |i, j| f64::from(rows[i][from + j]));
        matmul(products.as_mut(), Accum::Add, part.as_ref(), part.transpose(), 1.0, Par::rayon(0));
    }
    let squares: Vec<f64> = (0..count).map(|i| products[(i, i)]).collect();
    for j in 0..count {
        let column = products.col_as_slice_mut(j).iter_mut().zip(&squares);
        column.for_each(|(value, &square)| *value = kernel.value(*value, [square, squares[j]]));
    }
    products
}

#[cfg(test)]
mod tests {
    use linfa::ParamGuard;
    use ndarray::Axis;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Problem {
        classes: usize,
        columns: usize,
        #[serde(rename = "codes")]
        features: Vec<f32>,
        labels: Vec<usize>,
    }

    #[derive(Deserialize)]
    struct Problems {
        three_classes: Problem,
        two_classes: Problem,
    }

    #[derive(Deserialize)]
    struct Reference {
        fresh: Vec<f32>,
        three_classes: Vec<Case>,
        two_classes: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        kernel: String,
        gamma: Option<f64>,
        #[serde(default)]
        degree: u32,
        #[serde(default)]
        coef0: f64,
        #[serde(rename = "C")]
        c: f64,
        /// The gamma that scikit-learn used.
        scale: f64,
        objective: f64,
        /// One row a class: of the features, then of the fresh ones.
        decisions: Vec<Vec<f64>>,
    }

    impl Case {
        fn kernel(&self) -> Kernel {
            match &self.kernel[..] {
                "rbf" => Kernel::Rbf { gamma: self.gamma },
                _ => Kernel::Poly { gamma: self.gamma, degree: self.degree, constant: self.coef0 },
            }
        }
    }

    fn problems() -> Problems {
        serde_json::from_str(include_str!("../tests/reference/head.json")).unwrap()
    }

    impl Problem {
        fn features(&self) -> Array2<f32> {
            Array2::from_shape_vec((self.labels.len(), self.columns), self.features.clone()).unwrap()
        }

        fn solve(&self, features: &Array2<f32>, params: KernelSvmParams) -> (LinearModel, KernelMap) {
            let rows: Vec<usize> = (0..self.labels.len()).collect();
            let set = WeightedRows::select(features, &self.labels, &rows, self.classes);
            params.check().unwrap().solve(&set)
        }
    }

    #[test]
    fn decision_values_and_objective_are_those_of_scikit_learn() {
        let Problems { three_classes, two_classes } = problems();
        let json = include_str!("../tests/reference/kernel.json");
        let reference: Reference = serde_json::from_str(json).unwrap();
        let fresh = Array2::from_shape_vec((8, three_classes.columns), reference.fresh).unwrap();
        for (problem, cases) in
            [(three_classes, reference.three_classes), (two_classes, reference.two_classes)]
        {
            let features = problem.features();
            let rows = ndarray::concatenate![Axis(0), features, fresh];
            for case in cases {
                let params = KernelSvmParams::new(case.kernel()).c(case.c).tolerance(1e-7);
                let (model, map) = problem.solve(&features, params);
                assert!(model.convergence.converged, "{}: {:?}", case.kernel, model.convergence);
                // Two classes are one problem here and two equal ones there.
                let objective = case.objective / if problem.classes == 2 { 2.0 } else { 1.0 };
                let found = model.convergence.objective;
                // libsvm keeps its matrix in float32, and stops up to 3e-6 above the optimum.
                assert!(
                    (-1e-5..1e-6).contains(&(found / objective - 1.0)),
                    "{} C {}: {found} {objective}",
                    case.kernel,
                    case.c
                );
                let (Kernel::Rbf { gamma } | Kernel::Poly { gamma, .. }) = map.kernel() else { panic!() };
                assert!((gamma.unwrap() / case.scale - 1.0).abs() < 1e-9);
                let scores = model.scores(map.apply(rows.view()).view());
                let largest = case.decisions.iter().flatten().fold(0f64, |largest, f| largest.max(f.abs()));
                for (class, decisions) in case.decisions.iter().enumerate() {
                    for (row, expected) in decisions.iter().enumerate() {
                        let found = scores[[row, class]];
                        assert!(
                            (found - expected).abs() < 2e-3 * largest,
                            "{} {class} {row}: {found} {expected}",
                            case.kernel
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn only_rows_that_support_a_class_are_kept() {
        let problem = problems().three_classes;
        let features = problem.features();
        let (model, map) =
            problem.solve(&features, KernelSvmParams::new(Kernel::Rbf { gamma: Some(0.01) }).c(100.0));
        let kept = map.vectors().nrows();
        assert!((3..problem.labels.len()).contains(&kept), "{kept}");
        assert!(model.weights.columns().into_iter().all(|column| column.iter().any(|&w| w != 0.0)));
    }

    #[test]
    fn a_kernel_that_tells_no_two_rows_apart_or_overflows_is_no_panic() {
        let problem = problems().three_classes;
        let features = problem.features();
        // All values of the kernel are 1 to within float64.
        let (model, _) = problem.solve(&features, KernelSvmParams::new(Kernel::Rbf { gamma: Some(1e-30) }));
        assert!(model.bias.iter().all(|bias| bias.is_finite()));
        let huge = Kernel::Poly { gamma: Some(1e300), degree: 10, constant: 1.0 };
        let (model, map) = problem.solve(&features, KernelSvmParams::new(huge));
        let message = model.convergence.message.unwrap();
        assert!(message.contains("too large or too small") && !model.convergence.converged, "{message}");
        assert_eq!(map.vectors().nrows(), 1);
    }

    #[test]
    fn unusable_settings_are_refused() {
        let rbf = Kernel::Rbf { gamma: None };
        assert!(KernelSvmParams::new(rbf).c(0.0).check().is_err());
        assert!(KernelSvmParams::new(rbf).tolerance(1e-12).check().is_err());
        assert!(KernelSvmParams::new(Kernel::Rbf { gamma: Some(-1.0) }).check().is_err());
    }
}
