//! What can be chosen about a head, and the solver that the choices make.

use linfa::ParamGuard;
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::solver::{Method, Solver, fit_path};
use crate::evaluate::FoldError;
use crate::head::{
    CalibrationMethod, ClassWeights, HeadError, Kernel, KernelSvmParams, LogisticParams, Loss, RidgeParams,
    SvmParams, Tuning,
    prepare::Steps,
    tune::{Choice, Problem},
};

/// Which classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// Support vector machine, one class against the rest: linear, or with a kernel ([`FitSettings::kernel`]).
    Svm,
    /// Multinomial logistic regression.
    Logistic,
    /// Ridge regression on targets of ±1.
    Ridge,
}

/// How a head is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitSettings {
    /// Which classifier.
    pub kind: HeadKind,
    /// Weight of the losses against the regularisation; `None` for the kind's default (see [`Self::c`]). For ridge
    /// regression it is 1 / 2α, and `None` chooses α by leave-one-out among the training rows.
    pub c: Option<f64>,
    /// Whether each column is brought to mean 0 and deviation 1 first. Without it, C means something else for every
    /// network, and codes of very small or large values may not be learned from at all.
    pub standardize: bool,
    /// Whether each row is brought to length 1 before that.
    #[serde(default)]
    pub l2_normalize: bool,
    /// Number of principal components that the codes are projected on after that; `None` to take them as they are.
    #[serde(default)]
    pub pca: Option<usize>,
    /// Loss of the linear SVM. With a kernel it is always the plain hinge.
    pub loss: Loss,
    /// Kernel of the SVM, for up to [`MOST_KERNEL_ROWS`](crate::head::MOST_KERNEL_ROWS) rows without class weights.
    #[serde(default)]
    pub kernel: Kernel,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Seed of the folds and of the SVM's order of visits.
    pub seed: u64,
    /// Duality gap, relative to the objective, at which the solver stops: at most this share is left to gain.
    pub tolerance: f64,
    /// Passes (SVM) or iterations (logistic) after which the solver gives up, and says so.
    pub max_iterations: usize,
    /// How scores become probabilities; `None` for Platt's sigmoids for the SVM and ridge regression, and a temperature for
    /// logistic regression. With fewer images than [`CalibrationMethod::fewest_images`] all classes share one function.
    #[serde(default)]
    pub calibration: Option<CalibrationMethod>,
    /// How much mistakes on each class count; not with a kernel.
    #[serde(default)]
    pub class_weights: ClassWeights,
    /// Chooses C, in place of `c`; not for ridge regression. The head that is returned has the chosen value in `c`.
    #[serde(default)]
    pub tuning: Option<Tuning>,
}

impl FitSettings {
    /// The defaults: standardised, squared hinge, 5 folds, seed 0, tolerance 1e-4, 1000 iterations.
    pub fn new(kind: HeadKind) -> Self {
        Self {
            kind,
            c: None,
            standardize: true,
            l2_normalize: false,
            pca: None,
            loss: Loss::default(),
            kernel: Kernel::default(),
            folds: 5,
            seed: 0,
            tolerance: 1e-4,
            max_iterations: 1000,
            calibration: None,
            class_weights: ClassWeights::default(),
            tuning: None,
        }
    }

    /// C, or its default: 0.01 for the linear SVM, 1 for a kernel's and for logistic regression. On standardised codes of 512 to 4096 columns
    /// accuracy hardly depends on C; smaller values regularise more.
    pub fn c(&self) -> f64 {
        self.c.unwrap_or(match self.kind {
            HeadKind::Svm if self.kernel == Kernel::Linear => 0.01,
            HeadKind::Svm => 1.0,
            HeadKind::Logistic | HeadKind::Ridge => 1.0,
        })
    }

    /// How scores become probabilities, or the kind's default.
    pub fn calibration(&self) -> CalibrationMethod {
        self.calibration.unwrap_or(match self.kind {
            HeadKind::Svm | HeadKind::Ridge => CalibrationMethod::Platt,
            HeadKind::Logistic => CalibrationMethod::Temperature,
        })
    }

    /// What is done to the codes first.
    pub fn steps(&self) -> Steps {
        Steps { l2_normalize: self.l2_normalize, standardize: self.standardize, pca: self.pca }
    }

    /// The solver's checked settings, with C = `c`.
    fn solver_with(&self, c: f64) -> Result<Solver, HeadError> {
        let method = match self.kind {
            HeadKind::Svm if self.kernel != Kernel::Linear => {
                let params = KernelSvmParams::new(self.kernel).c(c);
                Method::Kernel(params.tolerance(self.tolerance).check()?)
            }
            HeadKind::Svm => {
                let params = SvmParams::new().c(c).loss(self.loss).seed(self.seed);
                Method::Svm(params.tolerance(self.tolerance).max_passes(self.max_iterations).check()?)
            }
            HeadKind::Logistic => {
                let params = LogisticParams::new().c(c).tolerance(self.tolerance);
                Method::Logistic(params.max_iterations(self.max_iterations).check()?)
            }
            HeadKind::Ridge if self.c.is_none() => Method::Ridge(RidgeParams::new().check()?),
            HeadKind::Ridge => {
                HeadError::check_positive("C", c)?;
                Method::Ridge(RidgeParams::new().alphas(vec![0.5 / c]).check()?)
            }
        };
        Ok(Solver { method, class_weights: self.class_weights.clone() })
    }

    /// As [`Self::solver_with`] the settings' own C, after a check of everything else.
    pub(super) fn solver(&self) -> Result<Solver, HeadError> {
        HeadError::check(self.folds >= 2, "the number of folds", self.folds as f64, "at least 2")?;
        if self.kind == HeadKind::Ridge && self.tuning.is_some() {
            return Err(HeadError::NotForRidge);
        }
        if self.kernel != Kernel::Linear {
            if self.kind != HeadKind::Svm {
                return Err(HeadError::NotForKernels { what: "any head but an SVM" });
            }
            if self.class_weights != ClassWeights::Uniform {
                return Err(HeadError::NotForKernels { what: "class weights" });
            }
        }
        if let Some(tuning) = &self.tuning {
            tuning.check()?;
        }
        self.solver_with(self.c())
    }

    /// The solver for the rows `problem` may look at: with the settings' own C, or with the one chosen by tuning, which is
    /// returned as well.
    pub(super) fn tuned(
        &self,
        problem: &Problem<'_>,
        plain: &Solver,
    ) -> Result<(Solver, Option<Choice>), HeadError> {
        let Some(tuning) = &self.tuning else { return Ok((plain.clone(), None)) };
        let solvers = |path: &[f64]| path.iter().map(|&c| self.solver_with(c)).collect::<Result<Vec<_>, _>>();
        solvers(&tuning.grid)?;
        let classes = problem.class_names.len();
        let chosen = tuning.choose(problem, |rows, path| {
            let solvers = solvers(path).expect("every C of the grid has just been checked");
            let path = fit_path(&solvers, problem.codes, problem.labels, rows, classes);
            path.into_iter()
                .map(|fitted| move |prepared: ArrayView2<'_, f32>| fitted.scores(prepared))
                .collect()
        });
        let chosen = match chosen {
            // Of two images a class, a fold is left with one.
            Err(FoldError::OneGroupPerClass) => {
                let rows = problem.rows.len();
                Choice { c: self.c(), mistakes: rows, rows, by_default: true }
            }
            chosen => chosen?,
        };
        Ok((self.solver_with(chosen.c)?, Some(chosen)))
    }
}
