//! Probabilities from scores, learned from out-of-fold scores: those of rows that the model had not seen.
//!
//! SVM scores are no probabilities; each class gets a sigmoid of its own (Platt scaling), and the classes' values are
//! normalised to sum to 1. Logistic scores become probabilities by softmax after division by one temperature.
//!
//! A calibration never turns the order of a class's scores round, and never makes it flat. With few images all classes share one
//! sigmoid (or function), learned from the scores of all: so the classes keep the order of their scores, and there is
//! less to learn by chance. Where even that does not rise, or where a class's own does not, one temperature stands in, which
//! keeps the order whatever it is.

use std::ops::RangeInclusive;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, parallel::prelude::*};
use rayon::slice::ParallelSlice;
use serde::{Deserialize, Serialize};

use super::{Isotonic, Sigmoid, sigmoid::smoothed};

/// Rows that a thread looks at at a time.
const PART: usize = 1 << 12;
/// The temperatures to choose from.
const TEMPERATURES: RangeInclusive<f64> = 0.05..=20.0;
/// The temperatures to choose from by few images, which may all be right by chance: a score of 1 against one of -1, the margins
/// of an SVM, then becomes a probability of at most 0.9997.
const CAUTIOUS_TEMPERATURES: RangeInclusive<f64> = 0.25..=20.0;
/// The steepest slope of a sigmoid that few images may ask for, with the same effect.
const STEEPEST: f64 = -8.0;
/// Scores that a shared function is learned from at most; of more, those of rows that are spread evenly.
const MOST_SHARED: usize = 1 << 18;
/// By how much the log-odds must at least rise with one standard deviation of a class's scores. A sigmoid that rises less says
/// nearly the same of all images.
const LEAST_RISE: f64 = 0.05;

/// How probabilities are learned from scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationMethod {
    /// A sigmoid a class; of few images one for all classes.
    Platt,
    /// A function a class that never falls: follows any shape, but wants some hundreds of images a class.
    Isotonic,
    /// Softmax after division by one temperature: keeps the order of the classes.
    Temperature,
}

impl CalibrationMethod {
    /// Different images of each class that the method needs to learn a function for each of them.
    ///
    /// With fewer, heads on MobileNetV2's features of photos answered worse by their probabilities than by their scores: by
    /// more than a point below 20 images a class for Platt's sigmoids, and below 100 for isotonic functions. One sigmoid for all
    /// classes had the lower log-loss up to 50 images a class.
    pub const fn fewest_images(self) -> usize {
        match self {
            Self::Platt => 30,
            Self::Isotonic => 100,
            Self::Temperature => 0,
        }
    }
}

/// From scores to probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "method")]
pub enum Calibration {
    /// `p_k ∝ 1 / (1 + exp(slope_k f_k + offset_k))`.
    Platt {
        /// One sigmoid a class.
        sigmoids: Vec<Sigmoid>,
    },
    /// `p_k ∝ g_k(f_k)`; equal for all classes where every `g_k` is 0.
    Isotonic {
        /// One function a class.
        functions: Vec<Isotonic>,
    },
    /// `p_k ∝ exp(f_k / temperature)`.
    Softmax {
        /// 1 leaves the model's own probabilities as they are; above 1 they become more cautious.
        temperature: f64,
    },
}

impl Calibration {
    /// By the given method from out-of-fold `scores` (n x classes) and labels. Where that would turn the order of a class's
    /// scores round, or make it flat, it is one temperature, and the class is returned.
    pub fn fit(
        method: CalibrationMethod,
        scores: ArrayView2<'_, f64>,
        labels: &[usize],
    ) -> (Self, Option<usize>) {
        let fitted = match method {
            CalibrationMethod::Platt => Self::fit_platt(scores, labels),
            CalibrationMethod::Isotonic => Self::fit_isotonic(scores, labels),
            CalibrationMethod::Temperature => Self::fit_temperature(scores, labels),
        };
        match fitted.not_rising(scores) {
            Some(class) => (Self::fit_temperature(scores, labels), Some(class)),
            None => (fitted, None),
        }
    }

    /// By the given method from few out-of-fold `scores` (n x classes) and labels: one function for all classes, so that they keep
    /// the order of their scores. Where it would not rise, or would be surer than few images can be, it is one temperature, and
    /// `false` is returned.
    pub fn fit_shared(
        method: CalibrationMethod,
        scores: ArrayView2<'_, f64>,
        labels: &[usize],
    ) -> (Self, bool) {
        let classes = scores.ncols();
        let every = scores.len().div_ceil(MOST_SHARED).max(1);
        let rows = || scores.rows().into_iter().zip(labels).step_by(every);
        let pooled: Vec<f64> = rows().flat_map(|(row, _)| row.to_vec()).collect();
        let positive: Vec<bool> =
            rows().flat_map(|(_, &label)| (0..classes).map(move |class| class == label)).collect();
        let shared = match method {
            CalibrationMethod::Platt => {
                let sigmoid = Sigmoid::fit(&pooled, &positive);
                let rise = -sigmoid.slope * ArrayView1::from(&pooled).std(0.0);
                (rise >= LEAST_RISE && sigmoid.slope >= STEEPEST)
                    .then(|| Self::Platt { sigmoids: vec![sigmoid; classes] })
            }
            CalibrationMethod::Isotonic => {
                let [negative, hit] = smoothed(&positive);
                let targets: Vec<f64> = positive.iter().map(|&p| if p { hit } else { negative }).collect();
                let function = Isotonic::fit(&pooled, &targets);
                function.rises().then(|| Self::Isotonic { functions: vec![function; classes] })
            }
            CalibrationMethod::Temperature => {
                return (Self::fit_temperature_within(scores, labels, CAUTIOUS_TEMPERATURES), true);
            }
        };
        let rises = shared.is_some();
        let temperature = || Self::fit_temperature_within(scores, labels, CAUTIOUS_TEMPERATURES);
        (shared.unwrap_or_else(temperature), rises)
    }

    /// The first class whose probability does not rise with its score, over the range of these `scores` (n x classes).
    fn not_rising(&self, scores: ArrayView2<'_, f64>) -> Option<usize> {
        match self {
            Self::Platt { sigmoids } => {
                let rise =
                    |(sigmoid, scores): (&Sigmoid, ArrayView1<'_, f64>)| -sigmoid.slope * scores.std(0.0);
                sigmoids.iter().zip(scores.columns()).position(|pair| rise(pair) < LEAST_RISE)
            }
            Self::Isotonic { functions } => functions.iter().position(|function| !function.rises()),
            Self::Softmax { .. } => None,
        }
    }

    /// One isotonic function a class from out-of-fold `scores` (n x classes) and labels.
    pub fn fit_isotonic(scores: ArrayView2<'_, f64>, labels: &[usize]) -> Self {
        let functions = scores
            .axis_iter(Axis(1))
            .into_par_iter()
            .enumerate()
            .map(|(class, scores)| {
                let targets: Vec<f64> =
                    labels.iter().map(|&label| f64::from(u8::from(label == class))).collect();
                Isotonic::fit(&scores.to_vec(), &targets)
            })
            .collect();
        Self::Isotonic { functions }
    }

    /// One sigmoid a class from out-of-fold `scores` (n x classes) and labels.
    pub fn fit_platt(scores: ArrayView2<'_, f64>, labels: &[usize]) -> Self {
        let sigmoids = scores
            .axis_iter(Axis(1))
            .into_par_iter()
            .enumerate()
            .map(|(class, scores)| {
                let positive: Vec<bool> = labels.iter().map(|&label| label == class).collect();
                Sigmoid::fit(&scores.to_vec(), &positive)
            })
            .collect();
        Self::Platt { sigmoids }
    }

    /// The temperature between 1/20 and 20 that minimises the log-loss of out-of-fold `scores` (n x classes).
    ///
    /// As in Platt's method the targets are smoothed, `(n + 1) / (n + K)` for the true class, since scores that are all
    /// right would otherwise ask for temperature 0. (C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: "On calibration of
    /// modern neural networks", ICML 2017.)
    pub fn fit_temperature(scores: ArrayView2<'_, f64>, labels: &[usize]) -> Self {
        Self::fit_temperature_within(scores, labels, TEMPERATURES)
    }

    fn fit_temperature_within(
        scores: ArrayView2<'_, f64>,
        labels: &[usize],
        temperatures: RangeInclusive<f64>,
    ) -> Self {
        let (count, classes) = (scores.nrows() as f64, scores.ncols() as f64);
        let other = 1.0 / (count + classes);
        let loss = |log_temperature: f64| -> f64 {
            let temperature = log_temperature.exp();
            let row_loss = |(row, &label): (ndarray::ArrayView1<'_, f64>, &usize)| {
                let logs = log_softmax(row.iter().map(|f| f / temperature).collect());
                let spread: f64 = logs.iter().sum::<f64>() * other;
                -spread - (1.0 - classes * other) * logs[label]
            };
            let of_part = |(scores, labels): (ArrayView2<'_, f64>, &[usize])| -> f64 {
                scores.rows().into_iter().zip(labels).map(row_loss).sum()
            };
            // Parts of a fixed size, so that the sum does not depend on the number of threads.
            let parts = scores.axis_chunks_iter(Axis(0), PART).into_par_iter();
            parts.zip(labels.par_chunks(PART)).map(of_part).collect::<Vec<f64>>().iter().sum()
        };
        let (coldest, hottest) = temperatures.into_inner();
        Self::Softmax { temperature: golden_section(loss, coldest.ln(), hottest.ln()).exp() }
    }

    /// Number of classes that the calibration is made for, where it depends on it.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::Platt { sigmoids } => Some(sigmoids.len()),
            Self::Isotonic { functions } => Some(functions.len()),
            Self::Softmax { .. } => None,
        }
    }

    /// The first class whose probability falls with its score or does not depend on it. No calibration that is made today has
    /// one; earlier versions of the program could make one from few images.
    pub fn reversed(&self) -> Option<usize> {
        match self {
            Self::Platt { sigmoids } => sigmoids.iter().position(|sigmoid| sigmoid.slope >= 0.0),
            Self::Isotonic { .. } | Self::Softmax { .. } => None,
        }
    }

    /// Whether all parameters are usable numbers.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Platt { sigmoids } => sigmoids.iter().all(|s| s.slope.is_finite() && s.offset.is_finite()),
            Self::Isotonic { functions } => functions.iter().all(Isotonic::is_sound),
            Self::Softmax { temperature } => temperature.is_finite() && *temperature > 0.0,
        }
    }

    /// Probabilities for `scores` (both n x classes); each row sums to 1.
    pub fn probabilities(&self, scores: ArrayView2<'_, f64>) -> Array2<f64> {
        let mut out = scores.to_owned();
        out.axis_iter_mut(Axis(0)).into_par_iter().with_min_len(PART).for_each(|mut row| {
            // In logarithms, since all sigmoids of a row may underflow at once.
            let logs: Vec<f64> = match self {
                Self::Platt { sigmoids } => {
                    row.iter().zip(sigmoids).map(|(&f, s)| s.log_probability(f)).collect()
                }
                Self::Isotonic { functions } => {
                    let values: Vec<f64> = row.iter().zip(functions).map(|(&f, g)| g.at(f)).collect();
                    let nowhere = values.iter().all(|&value| value == 0.0);
                    values.iter().map(|value| if nowhere { 0.0 } else { value.ln() }).collect()
                }
                Self::Softmax { temperature } => row.iter().map(|f| f / temperature).collect(),
            };
            row.iter_mut().zip(log_softmax(logs)).for_each(|(p, log)| *p = log.exp());
        });
        out
    }
}

/// Subtracts log Σ exp.
fn log_softmax(mut logs: Vec<f64>) -> Vec<f64> {
    let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = highest + logs.iter().map(|log| (log - highest).exp()).sum::<f64>().ln();
    logs.iter_mut().for_each(|log| *log -= total);
    logs
}

/// Minimum of a function with one minimum between `low` and `high`, to 1e-6.
fn golden_section(function: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let mut inner = [high - ratio * (high - low), low + ratio * (high - low)];
    let mut values = inner.map(&function);
    while high - low > 1e-6 {
        if values[0] < values[1] {
            high = inner[1];
            inner = [high - ratio * (high - low), inner[0]];
            values = [function(inner[0]), values[0]];
        } else {
            low = inner[0];
            inner = [inner[1], low + ratio * (high - low)];
            values = [values[1], function(inner[1])];
        }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use approx::{assert_abs_diff_eq, assert_relative_eq};
    use ndarray::array;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        temperature: TemperatureReference,
    }

    #[derive(Deserialize)]
    struct TemperatureReference {
        scores: Vec<f64>,
        labels: Vec<usize>,
        temperature: f64,
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("../../crates/linear-heads/tests/reference/head.json")).unwrap()
    }

    #[test]
    fn the_temperature_is_the_one_that_scipy_finds() {
        let TemperatureReference { scores, labels, temperature: expected } = reference().temperature;
        let scores = Array2::from_shape_vec((labels.len(), 3), scores).unwrap();
        let Calibration::Softmax { temperature } = Calibration::fit_temperature(scores.view(), &labels)
        else {
            panic!("a temperature was asked for");
        };
        assert_relative_eq!(temperature, expected, max_relative = 1e-5);
    }

    #[test]
    fn probabilities_sum_to_one_even_where_every_sigmoid_underflows() {
        let sigmoids = vec![Sigmoid { slope: -50.0, offset: 0.0 }; 3];
        let p = Calibration::Platt { sigmoids }
            .probabilities(array![[-100.0, -101.0, -99.0], [1.0, 2.0, 3.0]].view());
        for row in p.rows() {
            assert_abs_diff_eq!(row.sum(), 1.0, epsilon = 1e-12);
        }
        assert_abs_diff_eq!(p[[0, 2]], 1.0, epsilon = 1e-12);
    }

    #[test]
    fn isotonic_probabilities_are_the_normalised_values_and_equal_where_all_are_zero() {
        let scores = array![[-2.0, 1.0], [-1.0, 2.0], [1.0, -1.0], [2.0, -2.0]];
        let (calibration, not_rising) =
            Calibration::fit(CalibrationMethod::Isotonic, scores.view(), &[1, 1, 0, 0]);
        assert_eq!(not_rising, None);
        assert!(calibration.is_sound() && calibration.classes() == Some(2));
        let p = calibration.probabilities(array![[3.0, -3.0], [-3.0, -3.0], [0.0, 0.0]].view());
        assert_eq!(p.row(0).to_vec(), [1.0, 0.0]);
        assert_eq!(p.row(1).to_vec(), [0.5, 0.5]);
        assert_abs_diff_eq!(p[[2, 0]], 0.5, epsilon = 1e-12);
    }

    #[test]
    fn scores_that_point_the_wrong_way_turn_no_class_round() {
        // Of class 1 the low scores are right; those of class 0 are right as they are.
        let scores = array![[2.0, -1.0], [1.0, -0.5], [-1.0, -2.0], [-2.0, -1.5], [0.5, 1.0], [-0.5, 2.0]];
        let labels = [0, 0, 1, 1, 0, 1];
        let upright = Sigmoid::fit(&scores.column(0).to_vec(), &labels.map(|label| label == 0));
        let turned = Sigmoid::fit(&scores.column(1).to_vec(), &labels.map(|label| label == 1));
        assert!(upright.slope < 0.0 && turned.slope > 0.0, "{upright:?} {turned:?}");
        let reversed = Calibration::Platt { sigmoids: vec![upright, turned] };
        assert_eq!(reversed.reversed(), Some(1));
        let (fitted, not_rising) = Calibration::fit(CalibrationMethod::Platt, scores.view(), &labels);
        assert_eq!(not_rising, Some(1));
        assert_eq!(fitted, Calibration::fit_temperature(scores.view(), &labels));
        assert_eq!(fitted.reversed(), None);
        // An isotonic function of falling targets is flat.
        let falling = array![[1.0, -1.0], [2.0, -2.0], [-1.0, 1.0], [-2.0, 2.0]];
        let (fitted, not_rising) =
            Calibration::fit(CalibrationMethod::Isotonic, falling.view(), &[1, 1, 0, 0]);
        assert_eq!(not_rising, Some(0));
        assert!(matches!(fitted, Calibration::Softmax { .. }), "{fitted:?}");
    }

    #[test]
    fn a_sigmoid_that_hardly_rises_counts_as_flat_in_any_unit() {
        let rows = 1000;
        let labels: Vec<usize> = (0..rows).map(|row| row % 2).collect();
        for unit in [1e-6, 1.0, 1e6] {
            for (shift, expected) in [(0.01, Some(0)), (0.5, None)] {
                let score = |row: usize, sign: f64| {
                    let noise = (row / 2) as f64 / 500.0 - 0.5;
                    unit * sign * (noise * 3.0 + if labels[row] == 0 { shift } else { -shift })
                };
                let scores =
                    Array2::from_shape_fn((rows, 2), |(row, k)| score(row, if k == 0 { 1.0 } else { -1.0 }));
                let (_, not_rising) = Calibration::fit(CalibrationMethod::Platt, scores.view(), &labels);
                assert_eq!(not_rising, expected, "{unit} {shift}");
            }
        }
    }

    #[test]
    fn few_rows_share_one_function_and_keep_the_order_of_the_scores() {
        let scores = array![[0.9, -0.2, -0.7], [-0.4, 0.1, -0.3], [-0.9, -0.8, 0.6], [0.3, 0.2, -0.5]];
        let labels = [0, 1, 2, 1];
        for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic, CalibrationMethod::Temperature]
        {
            let (shared, rises) = Calibration::fit_shared(method, scores.view(), &labels);
            assert!(rises && shared.is_sound() && shared.reversed().is_none(), "{shared:?}");
            match &shared {
                Calibration::Platt { sigmoids } => assert!(sigmoids.iter().all(|own| *own == sigmoids[0])),
                Calibration::Isotonic { functions } => {
                    assert!(functions.iter().all(|own| *own == functions[0]));
                    // Of 4 right ones and 8 others.
                    assert!(functions[0].values.iter().all(|value| (0.0999..0.8334).contains(value)));
                }
                Calibration::Softmax { .. } => {}
            }
            let p = shared.probabilities(scores.view());
            let zeros = Array2::zeros(scores.raw_dim());
            let by_score = super::super::answers(zeros.view(), scores.view());
            assert_eq!(super::super::answers(p.view(), scores.view()), by_score, "{method:?}");
        }
        // Platt's sigmoid of all classes' scores is that of the pooled scores.
        let (shared, _) = Calibration::fit_shared(CalibrationMethod::Platt, scores.view(), &labels);
        let pooled: Vec<f64> = scores.iter().copied().collect();
        let positive: Vec<bool> = (0..12).map(|i| labels[i / 3] == i % 3).collect();
        assert_eq!(shared, Calibration::Platt { sigmoids: vec![Sigmoid::fit(&pooled, &positive); 3] });
    }

    #[test]
    fn few_rows_that_are_all_right_or_all_wrong_give_no_certainty() {
        let temperature = |(calibration, rises): (Calibration, bool)| match calibration {
            Calibration::Softmax { temperature } if !rises => temperature,
            other => panic!("{other:?}"),
        };
        // Right by far, compared with their size: the scores of other rows may be larger.
        let tiny = array![[0.02, -0.02], [-0.02, 0.02]];
        let fit = |scores: &Array2<f64>, labels: &[usize]| {
            Calibration::fit_shared(CalibrationMethod::Platt, scores.view(), labels)
        };
        assert_relative_eq!(temperature(fit(&tiny, &[0, 1])), 0.25, epsilon = 1e-6);
        // Wrong: as near to saying nothing as can be, and still in order.
        let scores = array![[0.5, -0.5], [-0.5, 0.5]];
        assert_relative_eq!(temperature(fit(&scores, &[1, 0])), 20.0, epsilon = 1e-4);
        let p = fit(&scores, &[1, 0]).0.probabilities(scores.view());
        assert!(p[[0, 0]] > 0.5 && p[[0, 0]] < 0.53, "{p}");
    }

    #[test]
    fn a_shared_function_of_many_rows_is_learned_from_a_part_of_them() {
        let rows = MOST_SHARED;
        let labels: Vec<usize> = (0..rows).map(|row| row % 2).collect();
        let scores = Array2::from_shape_fn((rows, 2), |(row, k)| {
            let noise = (row * 7919 % 1000) as f64 / 250.0 - 2.0;
            (noise + if labels[row] == 0 { 1.0 } else { -1.0 }) * if k == 0 { 1.0 } else { -1.0 }
        });
        let (all, _) = Calibration::fit(CalibrationMethod::Platt, scores.view(), &labels);
        let (shared, _) = Calibration::fit_shared(CalibrationMethod::Platt, scores.view(), &labels);
        let (Calibration::Platt { sigmoids: all }, Calibration::Platt { sigmoids: shared }) = (all, shared)
        else {
            panic!()
        };
        assert_relative_eq!(all[0].slope, shared[0].slope, max_relative = 0.05);
    }

    #[test]
    fn softmax_divides_by_the_temperature() {
        let scores = array![[2.0, 0.0]];
        let p = Calibration::Softmax { temperature: 2.0 }.probabilities(scores.view());
        assert_abs_diff_eq!(p[[0, 0]], 1.0 / (1.0 + (-1f64).exp()), epsilon = 1e-12);
    }
}
