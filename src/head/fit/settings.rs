//! What can be chosen about a head, and the solver that the choices make.

use cnncodes_linear_heads::{
    FittedModel, KernelSvmParams, LogisticParams, RidgeParams, Solver, SolverError, SvmParams, TrainingRows,
};
use linfa::ParamGuard;
use serde::{Deserialize, Serialize};

use crate::evaluate::FoldError;
use crate::head::{
    CalibrationMethod, ClassWeights, HeadError, Kernel, PreparationSteps, Tuning,
    tune::{ChosenC, TuningData},
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

/// Whose solver fits a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// That of the crate `cnncodes-linear-heads`.
    #[default]
    Own,
    /// linfa-svm or linfa-logistic: no kernels, no class weights, no streaming; standardised features for logistic regression, and
    /// a bounded number of images for the SVM. Only where the program was built with the feature `linfa-engines`.
    Linfa,
}

/// What an image on the wrong side of an SVM's margin costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// `C max(0, 1 - y f)²`, that of the linear SVM: the default of LIBLINEAR and of scikit-learn's `LinearSVC`.
    #[default]
    SquaredHinge,
    /// `C max(0, 1 - y f)`, that of an SVM with a kernel, and of linfa-svm.
    Hinge,
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
    /// network, and features of very small or large values may not be learned from at all.
    pub standardize: bool,
    /// Whether each row is brought to length 1 before that.
    #[serde(default)]
    pub l2_normalize: bool,
    /// Number of principal components that the features are projected on after that; `None` to take them as they are.
    #[serde(default)]
    pub pca: Option<usize>,
    /// Whose solver fits it.
    #[serde(default)]
    pub solver: Engine,
    /// Loss of the SVM. The linear SVM has the squared hinge; with a kernel, and by linfa's solver, it is always the hinge.
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
            solver: Engine::default(),
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

    /// C, or its default: 0.01 for the linear SVM, 1 for a kernel's and for logistic regression. On standardised features of 512 to 4096 columns
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

    /// What is done to the features first.
    pub fn steps(&self) -> PreparationSteps {
        PreparationSteps { l2_normalize: self.l2_normalize, standardize: self.standardize, pca: self.pca }
    }

    /// The solver's checked settings, with C = `c`.
    fn solver_with(&self, c: f64) -> Result<Solver, HeadError> {
        if self.solver == Engine::Linfa {
            return self.linfa_solver(c);
        }
        Ok(match self.kind {
            HeadKind::Svm if self.kernel != Kernel::Linear => {
                let params = KernelSvmParams::new(self.kernel).c(c);
                Solver::KernelSvm(params.tolerance(self.tolerance).check()?)
            }
            HeadKind::Svm => {
                let params = SvmParams::new().c(c).seed(self.seed);
                Solver::Svm(params.tolerance(self.tolerance).max_passes(self.max_iterations).check()?)
            }
            HeadKind::Logistic => {
                let params = LogisticParams::new().c(c).tolerance(self.tolerance);
                Solver::Logistic(params.max_iterations(self.max_iterations).check()?)
            }
            HeadKind::Ridge if self.c.is_none() => Solver::Ridge(RidgeParams::new().check()?),
            HeadKind::Ridge => {
                SolverError::check_positive("C", c)?;
                Solver::Ridge(RidgeParams::new().alphas(vec![0.5 / c]).check()?)
            }
        })
    }

    /// linfa's solver, with C = `c`.
    #[cfg(feature = "linfa-engines")]
    fn linfa_solver(&self, c: f64) -> Result<Solver, HeadError> {
        use cnncodes_linear_heads::{LinfaLogisticParams, LinfaSvmParams};
        let what = match self.kind {
            _ if self.kernel != Kernel::Linear => "a kernel",
            _ if self.class_weights != ClassWeights::Uniform => "class weights",
            HeadKind::Ridge => "ridge regression",
            // It subtracts the maximum of all scores where each row's own is meant.
            HeadKind::Logistic if !self.standardize => "features that are not standardised",
            HeadKind::Logistic => {
                let params = LinfaLogisticParams::new().c(c).tolerance(self.tolerance);
                return Ok(Solver::LinfaLogistic(params.max_iterations(self.max_iterations).check()?));
            }
            HeadKind::Svm => {
                return Ok(Solver::LinfaSvm(LinfaSvmParams::new().c(c).tolerance(self.tolerance).check()?));
            }
        };
        Err(HeadError::NotForLinfa { what })
    }

    /// Refuses: this build has none.
    #[cfg(not(feature = "linfa-engines"))]
    fn linfa_solver(&self, _c: f64) -> Result<Solver, HeadError> {
        Err(HeadError::WithoutLinfa)
    }

    /// As [`Self::solver_with`] the settings' own C, after a check of everything else.
    pub(super) fn solver(&self) -> Result<Solver, HeadError> {
        SolverError::check(self.folds >= 2, "the number of folds", self.folds as f64, "at least 2")?;
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
        let linear = self.kernel == Kernel::Linear && self.solver == Engine::Own;
        if self.kind == HeadKind::Svm && linear && self.loss == Loss::Hinge {
            return Err(HeadError::HingeOfLinearSvm);
        }
        if let Some(tuning) = &self.tuning {
            tuning.check()?;
        }
        self.solver_with(self.c())
    }

    /// What a solver is fitted to: the given rows of a problem.
    pub(super) fn training_rows<'a>(
        &'a self,
        problem: &TuningData<'a>,
        rows: &'a [usize],
    ) -> TrainingRows<'a> {
        TrainingRows {
            features: problem.features,
            labels: problem.labels,
            rows,
            classes: problem.class_names.len(),
            class_weights: &self.class_weights,
        }
    }

    /// The solver for the rows `problem` may look at: with the settings' own C, or with the one chosen by tuning, which is
    /// returned as well.
    pub(super) fn tuned(
        &self,
        problem: &TuningData<'_>,
        plain: &Solver,
    ) -> Result<(Solver, Option<ChosenC>), HeadError> {
        let Some(tuning) = &self.tuning else { return Ok((plain.clone(), None)) };
        let solvers = |path: &[f64]| path.iter().map(|&c| self.solver_with(c)).collect::<Result<Vec<_>, _>>();
        solvers(&tuning.grid)?;
        let chosen = tuning.choose(problem, |rows, path| {
            let training = self.training_rows(problem, rows);
            let mut models: Vec<FittedModel> = Vec::with_capacity(path.len());
            for solver in solvers(path)? {
                models.push(solver.fit(&training, models.last())?);
            }
            Ok(models)
        });
        let chosen = match chosen {
            // Of two images a class, a fold is left with one.
            Err(HeadError::Folds(FoldError::OneGroupPerClass)) => {
                let rows = problem.rows.len();
                ChosenC { c: self.c(), mistakes: rows, rows, by_default: true }
            }
            chosen => chosen?,
        };
        Ok((self.solver_with(chosen.c)?, Some(chosen)))
    }
}
