//! The dual of a support vector machine with a kernel and an intercept, by sequential minimal optimisation:
//! `max_α Σ α_i - ½ Σ α_i α_j y_i y_j K_ij` under `0 <= α_i <= C` and `Σ α_i y_i = 0`.
//!
//! In each step two multipliers change that violate the optimality conditions together, the second chosen for the gain that
//! the curvature promises (R.-E. Fan, P.-H. Chen, C.-J. Lin: "Working set selection using second order information for
//! training support vector machines", JMLR 6, 2005), as in LIBSVM. The matrix of all pairs is in memory, so a step costs two
//! looks through its columns, and nothing is shrunk.

use faer::{Col, MatRef};

/// Curvature of pairs that the kernel does not tell apart.
const LEAST_CURVATURE: f64 = 1e-12;
/// Violations that rounding does not let fall further.
const LEAST_VIOLATION: f64 = 1e-10;
/// Steps a row after which the solver gives up.
const MOST_STEPS: usize = 5000;

/// A solution.
pub(super) struct Multipliers {
    /// `α_i y_i`.
    pub coefficients: Vec<f64>,
    /// What is added to `Σ α_i y_i K_i`.
    pub bias: f64,
}

/// Solves for rows with the finite kernel `matrix` (n x n, symmetric), of which `positive` are on the one side, until the
/// duality gap is at most `tolerance` of the objective.
pub(super) fn solve(matrix: MatRef<'_, f64>, positive: &[bool], c: f64, tolerance: f64) -> Multipliers {
    let count = positive.len();
    // The gap is looked at when no pair violates the conditions by more.
    let mut violation = (0.1 * tolerance).min(1e-3);
    let sign = |i: usize| if positive[i] { 1.0 } else { -1.0 };
    let diagonal: Col<f64> = Col::from_fn(count, |i| matrix[(i, i)]);
    // y α, which lies between 0 and C or between -C and 0; and y less the score without a bias: the bias that each row asks
    // for.
    let mut coefficients = vec![0.0; count];
    let mut wanted: Vec<f64> = (0..count).map(sign).collect();
    // How far a coefficient can still grow, and shrink.
    let up = |i: usize, coefficient: f64| if positive[i] { c - coefficient } else { -coefficient };
    let down = |i: usize, coefficient: f64| if positive[i] { coefficient } else { c + coefficient };
    for _ in 0..MOST_STEPS * count {
        let (mut first, mut highest) = (None, f64::NEG_INFINITY);
        for i in 0..count {
            if wanted[i] > highest && up(i, coefficients[i]) > 0.0 {
                (first, highest) = (Some(i), wanted[i]);
            }
        }
        let Some(i) = first else { break };
        let column = matrix.col(i);
        let (mut second, mut lowest, mut most) = (None, f64::INFINITY, f64::NEG_INFINITY);
        for j in 0..count {
            if down(j, coefficients[j]) <= 0.0 {
                continue;
            }
            lowest = lowest.min(wanted[j]);
            let difference = highest - wanted[j];
            if difference > 0.0 {
                let curvature = (diagonal[i] + diagonal[j] - 2.0 * column[j]).max(LEAST_CURVATURE);
                let gain = difference * difference / curvature;
                if gain > most {
                    (second, most) = (Some((j, difference / curvature)), gain);
                }
            }
        }
        let Some((j, step)) = second else { break };
        if highest - lowest < violation {
            let bias = f64::midpoint(highest, lowest);
            let (_, gap) = objective_and_gap(&coefficients, bias, positive, c, |i| sign(i) - wanted[i]);
            if gap <= tolerance || violation < LEAST_VIOLATION {
                break;
            }
            violation *= 0.25;
        }
        let (room_up, room_down) = (up(i, coefficients[i]), down(j, coefficients[j]));
        let step = step.min(room_up).min(room_down);
        // At a bound exactly, so that it is seen to be there.
        coefficients[i] = if step < room_up {
            coefficients[i] + step
        } else if positive[i] {
            c
        } else {
            0.0
        };
        coefficients[j] = if step < room_down {
            coefficients[j] - step
        } else if positive[j] {
            0.0
        } else {
            -c
        };
        for ((wanted, &of_i), &of_j) in wanted.iter_mut().zip(column.iter()).zip(matrix.col(j).iter()) {
            *wanted -= step * (of_i - of_j);
        }
    }
    let bias =
        bias(&coefficients, &wanted, |i| (up(i, coefficients[i]) > 0.0, down(i, coefficients[i]) > 0.0));
    Multipliers { coefficients, bias }
}

/// The objective, and the duality gap relative to it, where `score` is that of a row without the bias.
pub(super) fn objective_and_gap(
    coefficients: &[f64],
    bias: f64,
    positive: &[bool],
    c: f64,
    score: impl Fn(usize) -> f64,
) -> (f64, f64) {
    let (mut squared_norm, mut losses, mut sum) = (0.0, 0.0, 0.0);
    for (i, (coefficient, &positive)) in coefficients.iter().zip(positive).enumerate() {
        let score = score(i);
        squared_norm += coefficient * score;
        losses += (1.0 - if positive { score + bias } else { -score - bias }).max(0.0);
        sum += coefficient.abs();
    }
    let primal = 0.5 * squared_norm + c * losses;
    (primal, (primal - (sum - 0.5 * squared_norm)) / primal.abs().max(f64::MIN_POSITIVE))
}

/// The mean of what rows between the bounds ask for; where there are none, the middle of what the others allow.
fn bias(coefficients: &[f64], wanted: &[f64], moves: impl Fn(usize) -> (bool, bool)) -> f64 {
    let (mut sum, mut free) = (0.0, 0usize);
    let (mut highest, mut lowest) = (f64::NEG_INFINITY, f64::INFINITY);
    for (i, &wanted) in wanted.iter().enumerate() {
        let (up, down) = moves(i);
        if up && down && coefficients[i] != 0.0 {
            sum += wanted;
            free += 1;
        }
        if up {
            highest = highest.max(wanted);
        }
        if down {
            lowest = lowest.min(wanted);
        }
    }
    match (free, highest.is_finite(), lowest.is_finite()) {
        (0, true, true) => f64::midpoint(highest, lowest),
        (0, true, false) => highest,
        (0, false, true) => lowest,
        (0, false, false) => 0.0,
        _ => sum / free as f64,
    }
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use linfa::{DatasetBase, traits::Fit};
    use linfa_svm::Svm;
    use ndarray::{Array1, Array2};

    use super::*;

    #[test]
    fn the_solution_is_that_of_linfa_svm_and_meets_the_conditions() {
        let value =
            |i: usize, j: usize| ((i * 31 + j * 17) as f64 * 0.61).sin() + (i % 3 * (j % 3)) as f64 * 0.3;
        let rows = Array2::from_shape_fn((60, 8), |(i, j)| value(i, j));
        let matrix = Mat::from_fn(60, 60, |i, j| rows.row(i).dot(&rows.row(j)));
        let positive: Vec<bool> = (0..60).map(|i| i % 3 == 1 || i == 5).collect();
        let targets = Array1::from(positive.clone());
        for c in [0.01, 1.0, 30.0] {
            let ours = solve(matrix.as_ref(), &positive, c, 1e-7);
            let dataset = DatasetBase::new(rows.view(), targets.view());
            let params = Svm::<f64, bool>::params().linear_kernel().pos_neg_weights(c, c).eps(1e-7);
            let theirs = params.fit(&dataset).unwrap();
            assert!((ours.bias + theirs.rho).abs() < 1e-5 * ours.bias.abs().max(1.0), "{c}");
            assert!(ours.coefficients.iter().sum::<f64>().abs() < 1e-9 * c);
            for i in 0..60 {
                let score = |coefficients: &[f64]| -> f64 {
                    coefficients.iter().enumerate().map(|(j, a)| a * matrix[(i, j)]).sum()
                };
                let (found, expected) = (score(&ours.coefficients), score(&theirs.alpha));
                assert!((found - expected).abs() < 1e-5, "{c} {i}: {found}, not {expected}");
                // Beyond the margin, on it, or within it.
                let margin = (if positive[i] { 1.0 } else { -1.0 }) * (found + ours.bias) - 1.0;
                match ours.coefficients[i].abs() {
                    0.0 => assert!(margin > -1e-6, "{c} {i}: {margin}"),
                    bound if bound == c => assert!(margin < 1e-6, "{c} {i}: {margin}"),
                    _ => assert!(margin.abs() < 1e-6, "{c} {i}: {margin}"),
                }
            }
        }
    }

    #[test]
    fn rows_of_one_side_alone_and_rows_that_are_all_the_same_have_a_solution() {
        let same = Mat::from_fn(4, 4, |_, _| 1.0);
        let one_side = solve(same.as_ref(), &[true; 4], 1.0, 1e-6);
        assert_eq!((one_side.coefficients, one_side.bias), (vec![0.0; 4], 1.0));
        let both = solve(same.as_ref(), &[true, true, true, false], 1.0, 1e-6);
        assert!(both.coefficients.iter().sum::<f64>().abs() < 1e-12);
        let score: f64 = both.coefficients.iter().sum::<f64>() + both.bias;
        assert!(score > 0.0, "the larger side wins: {score}");
        let none = solve(Mat::zeros(0, 0).as_ref(), &[], 1.0, 1e-6);
        assert_eq!(none.bias, 0.0);
    }
}
