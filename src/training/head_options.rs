//! [`HeadOptions`]: what a user chooses about a head, and the settings that follow from the choices. The command line and
//! Python have the same options, and refuse the same combinations.

use std::str::FromStr;

use super::TrainingError;
use crate::head::{CalibrationMethod, Engine, FitSettings, HeadKind, Kernel, Loss, Tuning};

/// Which kernel an SVM has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelFamily {
    /// `exp(-gamma |x - y|²)`.
    Rbf,
    /// `(gamma x·y + coef0)^degree`.
    Poly,
}

/// The weight of the losses against the regularisation.
#[derive(Debug, Clone, PartialEq)]
pub enum Cost {
    /// This one.
    Fixed(f64),
    /// The best of several, by cross-validation within the training images.
    Tuned(Tuning),
}

impl Cost {
    /// The only one of `values`, or the best of them.
    pub fn of(values: &[f64]) -> Self {
        match values {
            [only] => Self::Fixed(*only),
            grid => Self::Tuned(Tuning::new(grid.to_vec())),
        }
    }
}

impl FromStr for Cost {
    type Err = String;

    /// A number, several separated by commas, or `auto`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Tuned(Tuning::auto()));
        }
        let number = |part: &str| part.trim().parse::<f64>().map_err(|error| format!("`{part}`: {error}"));
        Ok(Self::of(&text.split(',').map(number).collect::<Result<Vec<_>, _>>()?))
    }
}

/// What a user chooses about a head; `None` is the default of the kind of head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadOptions {
    /// Which classifier.
    pub kind: HeadKind,
    /// Kernel of an SVM; `None` is a linear one.
    pub kernel: Option<KernelFamily>,
    /// Parameter of the kernel.
    pub gamma: Option<f64>,
    /// Degree of the polynomial; 3 by default.
    pub degree: Option<u32>,
    /// What is added before the polynomial's power; 1 by default.
    pub coef0: Option<f64>,
    /// Whose solver.
    pub solver: Engine,
    /// Weight of the losses against the regularisation.
    pub cost: Option<Cost>,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Seed of the folds.
    pub seed: u64,
    /// Whether each image's features are divided by their length first.
    pub l2_normalize: bool,
    /// Whether each feature is brought to mean 0 and deviation 1.
    pub standardize: bool,
    /// Principal components to keep.
    pub pca: Option<usize>,
    /// How scores become probabilities.
    pub calibration: Option<CalibrationMethod>,
}

impl HeadOptions {
    /// The defaults, with a head of this kind.
    pub fn new(kind: HeadKind) -> Self {
        let FitSettings { solver, folds, seed, l2_normalize, standardize, pca, .. } = FitSettings::new(kind);
        Self {
            kind,
            kernel: None,
            gamma: None,
            degree: None,
            coef0: None,
            solver,
            cost: None,
            folds,
            seed,
            l2_normalize,
            standardize,
            pca,
            calibration: None,
        }
    }

    /// The settings of the head.
    ///
    /// # Errors
    /// [`TrainingError::KernelOfLinearHead`] and [`TrainingError::ParameterOfKernel`]: the options do not go together.
    pub fn fit_settings(&self) -> Result<FitSettings, TrainingError> {
        let (kernel, plain) = (self.kernel()?, FitSettings::new(self.kind));
        let hinge = kernel != Kernel::Linear || self.solver == Engine::Linfa;
        let (c, tuning) = match &self.cost {
            None => (None, None),
            Some(Cost::Fixed(c)) => (Some(*c), None),
            Some(Cost::Tuned(tuning)) => (None, Some(tuning.clone())),
        };
        Ok(FitSettings {
            c,
            tuning,
            kernel,
            solver: self.solver,
            loss: if self.kind == HeadKind::Svm && hinge { Loss::Hinge } else { plain.loss },
            folds: self.folds,
            seed: self.seed,
            standardize: self.standardize,
            l2_normalize: self.l2_normalize,
            pca: self.pca,
            calibration: self.calibration,
            ..plain
        })
    }

    fn kernel(&self) -> Result<Kernel, TrainingError> {
        let of_poly = self.degree.is_some() || self.coef0.is_some();
        match self.kernel {
            None if of_poly || self.gamma.is_some() => Err(TrainingError::ParameterOfKernel {
                options: "--gamma, --degree and --coef0",
                kernels: "a kernel; --kernel names one",
            }),
            None => Ok(Kernel::Linear),
            Some(_) if self.kind != HeadKind::Svm => Err(TrainingError::KernelOfLinearHead),
            Some(KernelFamily::Rbf) if of_poly => Err(TrainingError::ParameterOfKernel {
                options: "--degree and --coef0",
                kernels: "--kernel poly; --kernel rbf takes --gamma alone",
            }),
            Some(KernelFamily::Rbf) => Ok(Kernel::Rbf { gamma: self.gamma }),
            Some(KernelFamily::Poly) => Ok(Kernel::Poly {
                gamma: self.gamma,
                degree: self.degree.unwrap_or(3),
                constant: self.coef0.unwrap_or(1.0),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_is_a_number_several_numbers_or_auto() {
        assert_eq!("0.1".parse(), Ok(Cost::Fixed(0.1)));
        assert_eq!("auto".parse(), Ok(Cost::Tuned(Tuning::auto())));
        assert_eq!("0.01, 1".parse(), Ok(Cost::Tuned(Tuning::new(vec![0.01, 1.0]))));
        assert!("0.01,much".parse::<Cost>().unwrap_err().contains("`much`"));
    }

    #[test]
    fn an_svm_has_the_plain_hinge_with_a_kernel_and_by_linfa_alone() {
        let loss = |options: HeadOptions| options.fit_settings().unwrap().loss;
        let svm = HeadOptions::new(HeadKind::Svm);
        let rbf = HeadOptions { kernel: Some(KernelFamily::Rbf), gamma: Some(0.5), ..svm.clone() };
        assert_eq!(rbf.fit_settings().unwrap().kernel, Kernel::Rbf { gamma: Some(0.5) });
        let linfa = HeadOptions { solver: Engine::Linfa, ..svm.clone() };
        assert_eq!([svm, rbf, linfa].map(loss), [Loss::SquaredHinge, Loss::Hinge, Loss::Hinge]);
    }

    #[test]
    fn parameters_without_their_kernel_are_refused() {
        let refused = |options: HeadOptions| options.fit_settings().unwrap_err().to_string();
        let svm = HeadOptions::new(HeadKind::Svm);
        let said = refused(HeadOptions { gamma: Some(1.0), ..svm.clone() });
        assert!(said.contains("--kernel names one"), "{said}");
        let said = refused(HeadOptions { kernel: Some(KernelFamily::Rbf), degree: Some(2), ..svm });
        assert!(said.contains("--kernel rbf takes --gamma alone"), "{said}");
        let ridge = HeadOptions::new(HeadKind::Ridge);
        let said = refused(HeadOptions { kernel: Some(KernelFamily::Poly), ..ridge });
        assert!(said.contains("--kernel is for the SVM"), "{said}");
    }
}
