//! Limited-memory BFGS for a smooth convex function whose value and gradient come from one pass over the features.
//!
//! J. Nocedal, S. J. Wright: "Numerical Optimization", 2nd edition, algorithms 7.4 and 7.5; the line search brackets a
//! point that meets the weak Wolfe conditions (A. S. Lewis, M. L. Overton, Math. Program. 141, 2013) and interpolates.
//! The two-loop recursion starts from an estimate of the inverse Hessian, which may be replaced on the way: steps and
//! gradient changes are kept in the function's own variables, so what was learned from them is not lost.
//! Written here because argmin asks for value and gradient in separate calls, and for the gradient once more after its
//! line search: two to three passes over the features where one is enough.

use std::collections::VecDeque;

use rayon::prelude::*;

/// Pairs of steps and gradient changes that are kept. With a good preconditioner 4 to 14 take much the same number of
/// iterations.
const MEMORY: usize = 6;
/// Sufficient decrease and curvature constants of the Wolfe conditions.
const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// Trial points of one line search.
const MAX_TRIALS: usize = 30;
/// Relative error of the function's value with float32 features: smaller increases are not taken for increases.
const VALUE_NOISE: f64 = 1e-8;

/// Why the iteration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Termination {
    /// The criterion fell to the tolerance.
    Converged,
    /// The iteration limit was hit first.
    IterationLimit,
    /// No step lowered the function any more: rounding dominates.
    NoProgress,
}

/// Where a descent ended.
pub(super) struct Minimum {
    pub at: EvaluatedPoint,
    pub iterations: usize,
    pub outcome: Termination,
}

/// A point with what the function says about it.
pub(super) struct EvaluatedPoint {
    pub point: Vec<f64>,
    pub value: FunctionValue,
    gradient: Vec<f64>,
}

impl EvaluatedPoint {
    pub fn new(function: &mut impl FnMut(&[f64], &mut [f64]) -> FunctionValue, point: Vec<f64>) -> Self {
        let mut gradient = vec![0.0; point.len()];
        let value = function(&point, &mut gradient);
        Self { point, value, gradient }
    }
}

/// Step, gradient change, and one over their product.
struct CurvaturePair {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse: f64,
}

/// The last steps: what is known of the curvature.
#[derive(Default)]
pub(super) struct CurvatureHistory(VecDeque<CurvaturePair>);

/// What a function says about a point, besides its gradient.
#[derive(Debug, Clone, Copy)]
pub(super) struct FunctionValue {
    /// What is minimised.
    pub value: f64,
    /// What the stopping rule looks at.
    pub criterion: f64,
}

/// Minimises `function`, which writes the gradient at its first argument into its second, until its criterion is
/// `tolerance` or less. `precondition` replaces a vector, or several one after the other, by the product
/// with an estimate of the inverse Hessian (symmetric, positive definite).
pub(super) fn minimize(
    mut function: impl FnMut(&[f64], &mut [f64]) -> FunctionValue,
    precondition: impl Fn(&mut [f64]),
    CurvatureHistory(pairs): &mut CurvatureHistory,
    mut at: EvaluatedPoint,
    tolerance: f64,
    max_iterations: usize,
) -> Minimum {
    let mut iterations = 0;
    let outcome = loop {
        if at.value.criterion <= tolerance {
            break Termination::Converged;
        }
        if iterations == max_iterations {
            break Termination::IterationLimit;
        }
        let direction = descent_direction(&at.gradient, pairs, &precondition);
        let Some(next) = line_search(&mut function, &at, &direction) else {
            if pairs.is_empty() {
                break Termination::NoProgress;
            }
            // The curvature memory may be at fault: once more from the estimate alone.
            pairs.clear();
            continue;
        };
        let step: Vec<f64> = next.point.iter().zip(&at.point).map(|(n, a)| n - a).collect();
        let change: Vec<f64> = next.gradient.iter().zip(&at.gradient).map(|(n, a)| n - a).collect();
        let product = dot(&step, &change);
        if product > f64::EPSILON * norm(&step) * norm(&change) {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(CurvaturePair { step, change, inverse: 1.0 / product });
        }
        at = next;
        iterations += 1;
    };
    Minimum { at, iterations, outcome }
}

/// Two-loop recursion: minus the approximate inverse Hessian times the gradient.
fn descent_direction(
    gradient: &[f64],
    pairs: &VecDeque<CurvaturePair>,
    precondition: impl Fn(&mut [f64]),
) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let factor = pair.inverse * dot(&pair.step, &direction);
        add_scaled(&mut direction, -factor, &pair.change);
        factors.push(factor);
    }
    match pairs.back() {
        None => precondition(&mut direction),
        Some(last) => {
            // Both at once: the estimate is read from memory once.
            let length = direction.len();
            direction.extend_from_slice(&last.change);
            precondition(&mut direction);
            let scale = 1.0 / (last.inverse * dot(&last.change, &direction[length..]));
            direction.truncate(length);
            direction.iter_mut().for_each(|d| *d *= scale);
        }
    }
    for (pair, factor) in pairs.iter().zip(factors.iter().rev()) {
        let correction = pair.inverse * dot(&pair.change, &direction);
        add_scaled(&mut direction, factor - correction, &pair.step);
    }
    direction
}

/// A point along `direction` that meets the weak Wolfe conditions, or the lowest point seen when none could be found.
fn line_search(
    function: &mut impl FnMut(&[f64], &mut [f64]) -> FunctionValue,
    from: &EvaluatedPoint,
    direction: &[f64],
) -> Option<EvaluatedPoint> {
    let slope = dot(&from.gradient, direction);
    if !slope.is_finite() || slope >= 0.0 {
        return None;
    }
    let start = from.value.value;
    let noise = VALUE_NOISE * start.abs();
    // Bracket: (length, value, slope) of the lower end, (length, value) of the upper end where one is known.
    let mut low = (0.0, start, slope);
    let mut high: Option<(f64, f64)> = None;
    let mut length = 1.0;
    let mut lowest: Option<EvaluatedPoint> = None;
    for _ in 0..MAX_TRIALS {
        let point = from.point.iter().zip(direction).map(|(p, d)| p + length * d).collect();
        let trial = EvaluatedPoint::new(function, point);
        let (value, here) = (trial.value.value, dot(&trial.gradient, direction));
        let decreased = value.is_finite() && value <= start + DECREASE * length * slope + noise;
        let flat_enough = here >= CURVATURE * slope;
        if decreased && flat_enough {
            return Some(trial);
        }
        if value < lowest.as_ref().map_or(start, |seen| seen.value.value) {
            lowest = Some(trial);
        }
        if decreased {
            low = (length, value, here);
        } else {
            high = Some((length, value));
        }
        length = match high {
            None => 2.0 * length,
            Some((end, end_value)) => {
                // Minimum of the parabola through the lower end's value and slope and the upper end's value.
                let width = end - low.0;
                let curvature = end_value - low.1 - low.2 * width;
                let share = -0.5 * low.2 * width / curvature;
                let share = if share.is_finite() { share.clamp(0.1, 0.9) } else { 0.5 };
                low.0 + share * width
            }
        };
    }
    lowest
}

/// Elements that are added up at a time: the sum does not depend on the number of threads.
const PART: usize = 1 << 14;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let of_part = |(a, b): (&[f64], &[f64])| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let parts: Vec<f64> = a.par_chunks(PART).zip(b.par_chunks(PART)).map(of_part).collect();
    parts.iter().sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn add_scaled(sum: &mut [f64], factor: f64, values: &[f64]) {
    sum.par_chunks_mut(PART)
        .zip(values.par_chunks(PART))
        .for_each(|(sum, values)| sum.iter_mut().zip(values).for_each(|(s, v)| *s += factor * v));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ½ Σ j² (x_j - j)²: condition number 400. The criterion is the gradient norm.
    fn bowl(point: &[f64], gradient: &mut [f64]) -> FunctionValue {
        let mut value = 0.0;
        for (j, (x, g)) in point.iter().zip(&mut *gradient).enumerate() {
            let j = (j + 1) as f64;
            *g = j * j * (x - j);
            value += 0.5 * j * j * (x - j).powi(2);
        }
        FunctionValue { value, criterion: norm(gradient) }
    }

    /// Descends from `start` without a preconditioner.
    fn plain(
        mut function: impl FnMut(&[f64], &mut [f64]) -> FunctionValue,
        start: Vec<f64>,
        tolerance: f64,
        most: usize,
    ) -> Minimum {
        let at = EvaluatedPoint::new(&mut function, start);
        minimize(function, |_| {}, &mut CurvatureHistory::default(), at, tolerance, most)
    }

    #[test]
    fn the_minimum_of_a_quadratic_is_found() {
        let minimum = plain(bowl, vec![0.0; 20], 1e-8, 200);
        assert_eq!(minimum.outcome, Termination::Converged);
        assert!(minimum.at.value.criterion <= 1e-8 && minimum.at.value.value < 1e-15);
        for (j, x) in minimum.at.point.iter().enumerate() {
            assert!((x - (j + 1) as f64).abs() < 1e-7);
        }
    }

    #[test]
    fn with_the_inverse_hessian_one_step_is_enough_and_a_poor_one_may_be_replaced() {
        let inverse = |v: &mut [f64]| v.iter_mut().zip(1..).for_each(|(v, j)| *v /= f64::from(j * j));
        let start = EvaluatedPoint::new(&mut bowl, vec![0.0; 20]);
        let minimum = minimize(bowl, inverse, &mut CurvatureHistory::default(), start, 1e-9, 200);
        assert_eq!((minimum.iterations, minimum.outcome), (1, Termination::Converged));

        let start = EvaluatedPoint::new(&mut bowl, vec![0.0; 20]);
        let mut memory = CurvatureHistory::default();
        let poor = |v: &mut [f64]| v.iter_mut().zip(1..).for_each(|(v, j)| *v *= f64::from(j));
        let first = minimize(bowl, poor, &mut memory, start, 1e-9, 4);
        assert_eq!(first.outcome, Termination::IterationLimit);
        let second = minimize(bowl, inverse, &mut memory, first.at, 1e-9, 200);
        assert_eq!(second.outcome, Termination::Converged);
        assert!(second.iterations < 20, "{}", second.iterations);
    }

    #[test]
    fn a_starting_point_that_is_the_minimum_is_returned() {
        let start: Vec<f64> = (1..=20).map(f64::from).collect();
        let minimum = plain(bowl, start.clone(), 1e-9, 200);
        assert_eq!((minimum.iterations, minimum.at.point), (0, start));
    }

    #[test]
    fn the_iteration_limit_is_told_from_convergence() {
        let minimum = plain(bowl, vec![0.0; 20], 1e-9, 3);
        assert_eq!((minimum.outcome, minimum.iterations), (Termination::IterationLimit, 3));
    }

    #[test]
    fn a_function_whose_value_cannot_fall_ends_without_progress() {
        // The gradient promises a descent that never comes.
        let lying = |_: &[f64], gradient: &mut [f64]| {
            gradient.fill(1.0);
            FunctionValue { value: 7.0, criterion: 1.0 }
        };
        let minimum = plain(lying, vec![0.0; 3], 1e-3, 50);
        assert_eq!((minimum.outcome, minimum.at.value.value), (Termination::NoProgress, 7.0));
    }
}
