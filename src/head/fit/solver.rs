//! The solver of a head, whichever it is, on some of the rows.

use ndarray::{Array1, Array2, ArrayView2};

use crate::head::{
    ClassWeights, Convergence, KernelMap, KernelSvmValidParams, LinearModel, LogisticValidParams,
    RidgeValidParams, SvmValidParams, linear::TrainingSet,
};

/// Fits with each solver in turn, each but the first starting from the solution of the last.
pub(super) fn fit_path(
    solvers: &[Solver],
    codes: &Array2<f32>,
    labels: &[usize],
    rows: &[usize],
    classes: usize,
) -> Vec<Fitted> {
    let mut models: Vec<Fitted> = Vec::with_capacity(solvers.len());
    for solver in solvers {
        let model = solver.fit_from(codes, labels, rows, classes, models.last().map(|fitted| &fitted.linear));
        models.push(model);
    }
    models
}

/// A solver with checked settings.
#[derive(Debug, Clone)]
pub(super) struct Solver {
    pub method: Method,
    pub class_weights: ClassWeights,
}

#[derive(Debug, Clone)]
pub(super) enum Method {
    Svm(SvmValidParams),
    Logistic(LogisticValidParams),
    Ridge(RidgeValidParams),
    Kernel(KernelSvmValidParams),
}

/// What a solver makes of prepared codes.
pub(super) struct Fitted {
    /// Linear in the codes, or in the map's values.
    pub linear: LinearModel,
    pub map: Option<KernelMap>,
}

impl Fitted {
    /// Scores of each class for each row of prepared codes (n x d), n x classes.
    pub fn scores(&self, prepared: ArrayView2<'_, f32>) -> Array2<f64> {
        match &self.map {
            Some(map) => self.linear.scores(map.apply(prepared).view()),
            None => self.linear.scores(prepared),
        }
    }
}

impl Solver {
    /// Fits on the given rows of standardised `codes`. Classes without a row among them are never predicted.
    pub fn fit(&self, codes: &Array2<f32>, labels: &[usize], rows: &[usize], classes: usize) -> Fitted {
        self.fit_from(codes, labels, rows, classes, None)
    }

    /// As [`Self::fit`], starting from the solution of a similar problem on the same rows.
    fn fit_from(
        &self,
        codes: &Array2<f32>,
        labels: &[usize],
        rows: &[usize],
        classes: usize,
        start: Option<&LinearModel>,
    ) -> Fitted {
        /// Score of a class that was not trained on; e^-30 leaves nothing of its probability.
        const ABSENT: f64 = -30.0;
        let mut present: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        present.sort_unstable();
        present.dedup();
        let mut set = TrainingSet::select(codes, labels, rows, present.len());
        for label in &mut set.labels {
            *label = present.binary_search(label).expect("`present` holds every label of these rows");
        }
        self.class_weights.apply(&mut set, |label| present[label]);
        if present.len() == classes {
            return self.solve(&set, start);
        }
        let mut bias = Array1::from_elem(classes, ABSENT);
        if let [only] = present[..] {
            bias[only] = 0.0;
            let convergence =
                Convergence { converged: true, iterations: 0, objective: 0.0, criterion: 0.0, message: None };
            let weights = Array2::zeros((classes, codes.ncols()));
            return Fitted { linear: LinearModel { weights, bias, convergence }, map: None };
        }
        let Fitted { linear: part, map } = self.solve(&set, None);
        let mut weights = Array2::zeros((classes, part.weights.ncols()));
        for (k, &class) in present.iter().enumerate() {
            weights.row_mut(class).assign(&part.weights.row(k));
            bias[class] = part.bias[k];
        }
        Fitted { linear: LinearModel { weights, bias, convergence: part.convergence }, map }
    }

    fn solve(&self, set: &TrainingSet<'_>, start: Option<&LinearModel>) -> Fitted {
        let (linear, map) = match &self.method {
            Method::Svm(params) => (params.solve_from(set, start), None),
            Method::Logistic(params) => (params.solve_from(set, start), None),
            Method::Ridge(params) => (params.fit_linear(set), None),
            Method::Kernel(params) => {
                let (linear, map) = params.solve(set);
                (linear, Some(map))
            }
        };
        Fitted { linear, map }
    }
}
