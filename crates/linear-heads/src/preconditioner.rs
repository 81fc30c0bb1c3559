//! A factorised estimate of the Hessian, by whose inverse the primal problems' descents are preconditioned.
//!
//! All classes share the part for the weights: their Hessians differ in which rows count, and the estimate takes each row
//! by its mean over the classes. What they do not share is where their rows lie: those near the border of a class have a
//! mean of their own, so that moving along it does what moving the bias does. A bias is then far less stiff than its
//! second derivative says (of 100 classes a tenth), and a descent that does not know creeps along it. So each class has
//! its own tie between weights and bias.
//!
//! From more rows than columns the estimate is made from a sample, since a preconditioner need not be exact. Rows are
//! drawn by what they weigh, and those that weigh most are all taken (P. Xu et al.: "Sub-sampled Newton methods with
//! non-uniform sampling", NIPS 2016): near the optimum few rows have a say, and an even sample would miss most of them.

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use rayon::prelude::*;

use super::{
    batched::{FEW, MatrixRows},
    packed_lower_triangle::{CholeskyFactor, PackedLowerTriangle},
};

/// How many times its own diagonal is added to an estimate from as many rows as columns; from more rows, less. The
/// eigenvalues of a sample of about as many rows as columns spread too far, the small ones towards 0, and along those steps
/// would be far too long; shrunk towards the diagonal the estimate is nearer to the truth (O. Ledoit, M. Wolf: "A
/// well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Anal. 88, 2004). On sets that are
/// easy and hard to tell apart, of 10 and 100 classes, 0.5 to 2 are much alike.
pub(super) const SHRINKAGE: f32 = 1.0;
/// Rows that are added at a time: many for speed, but few beside the columns, so that they take little beside the matrix.
fn rows_of_block(columns: usize) -> usize {
    (columns / 16).clamp(32, 128)
}

/// For each problem k, near the Hessian of its weights and its bias,
///
/// ```text
/// R L Lᵀ R + m_k m_kᵀ / s_k    m_k
/// m_kᵀ                         s_k
/// ```
///
/// where R (diagonal) and L (lower triangular) are common to all: `R L Lᵀ R` is the penalty and how the rows
/// [scatter](Scatter) about the problems' means, with its diagonal [added](SHRINKAGE); s_k is the sum of problem k's own
/// weights and the bias's penalty, and m_k the sum of rows times these weights. Without a matrix, its diagonal.
pub(super) struct Preconditioner {
    /// Diagonal of R.
    roots: Vec<f64>,
    /// L; `None` is the unit matrix.
    factor: Option<CholeskyFactor<f32>>,
    /// m_k / s_k (problems x d).
    centres: Vec<f32>,
    /// s_k.
    stiffnesses: Vec<f64>,
    /// Whether the problems are [balanced](project_out_class_mean).
    joint: bool,
}

/// Second derivatives (rows x problems) of the rows with the given numbers, whose features are the block.
pub(super) type Derivatives<'a> = dyn Fn(&[usize], &[f32], &mut [f64]) + 'a;

/// What a preconditioner is made from.
pub(super) struct PreconditionerInput<'a> {
    pub rows: MatrixRows<'a>,
    /// What each row weighs: the mean of its second derivatives, times the number of rows that it stands for.
    pub weights: &'a [f64],
    pub problems: usize,
    pub derivatives: &'a Derivatives<'a>,
}

/// How an estimate is made.
pub(super) struct EstimateSettings {
    /// Penalties of a weight and of the bias.
    pub penalties: (f64, f64),
    /// Rows for each column that are taken at most.
    pub sampled: usize,
    /// How many times its own diagonal is added.
    pub shrinkage: f32,
    /// Whether there is memory for a matrix; else its diagonal has to do.
    pub matrix: bool,
    /// Whether the problems make up one, in which nothing changes when all do alike.
    pub joint: bool,
}

impl Preconditioner {
    /// `previous` is one that is no longer needed, whose memory is taken over.
    pub fn new(
        of: &PreconditionerInput<'_>,
        columns: usize,
        estimate: &EstimateSettings,
        previous: Option<Self>,
    ) -> Self {
        let chosen = drawn(of.weights, estimate.sampled * (columns + 1));
        let previous = previous.and_then(|previous| previous.factor).map(CholeskyFactor::into_storage);
        let gram = estimate.matrix.then(|| match previous {
            Some(mut panels) if panels.order() == columns => {
                panels.clear();
                panels
            }
            _ => PackedLowerTriangle::zeros(columns),
        });
        let (of_weight, of_bias) = estimate.penalties;
        let mut scatter = Scatter::new(of, &chosen, columns, gram);
        scatter.about_means();
        if of_bias > 0.0 {
            // A bias that is penalised does not take over all that the means explain.
            scatter.add_means(|weight| of_bias / (weight + of_bias));
        }
        let Scatter { shift, gram, squares, sums: mut centres, weights: mut stiffnesses } = scatter;
        // A problem that no row weighs in must not take steps without end.
        let least = 1e-6 * stiffnesses.iter().fold(of_bias, |most, &s| most.max(s));
        for (centre, stiffness) in centres.chunks_mut(columns.max(1)).zip(&mut stiffnesses) {
            let weight = *stiffness;
            *stiffness = if least > 0.0 { (weight + of_bias).max(least) } else { 1.0 };
            for (c, shift) in centre.iter_mut().zip(&shift) {
                *c = ((f64::from(*c) + weight * shift) / *stiffness) as f32;
            }
        }
        let root = |square: f64| {
            let penalised = square.max(0.0) + of_weight;
            if penalised > 0.0 { penalised.sqrt() } else { 1.0 }
        };
        let roots: Vec<f64> = match &gram {
            Some(gram) => gram.diagonal().map(|square| root(f64::from(square))).collect(),
            None => squares.into_iter().map(root).collect(),
        };
        let factor = gram.and_then(|mut gram| {
            gram.change(|i, j, value| {
                *value =
                    if i == j { 1.0 + estimate.shrinkage } else { *value / (roots[i] * roots[j]) as f32 };
            });
            gram.factor(0.0)
        });
        Self { roots, factor, centres, stiffnesses, joint: estimate.joint }
    }

    /// Diagonal of the estimate for the weights, with the penalty.
    pub fn diagonal_of_estimate(&self) -> impl Iterator<Item = f64> {
        self.roots.iter().map(|root| root * root)
    }

    /// Replaces vectors (weights and bias of each problem; one or several sets of them) by their products with the inverse.
    pub fn apply(&self, vectors: &mut [f64]) {
        let columns = self.roots.len();
        let centre = |k: usize| &self.centres[k * columns..][..columns];
        let problems = self.stiffnesses.len();
        vectors.par_chunks_mut(columns + 1).enumerate().for_each(|(i, vector)| {
            let (weights, bias) = vector.split_at_mut(columns);
            for ((v, &c), root) in weights.iter_mut().zip(centre(i % problems)).zip(&self.roots) {
                *v = (*v - f64::from(c) * bias[0]) / root;
            }
        });
        if let Some(factor) = &self.factor {
            let of_weights =
                |vector: &[f64]| vector[..columns].iter().fold(0f64, |most, v| most.max(v.abs()));
            // A common scale, so that gradients of any size fit into float32.
            let largest = vectors.chunks(columns + 1).map(of_weights).fold(0f64, f64::max);
            if largest > 0.0 && largest.is_finite() {
                // Threads that solve for columns of their own need not wait for each other.
                let together = (vectors.len() / (columns + 1)).div_ceil(2).clamp(1, 16);
                vectors.par_chunks_mut((columns + 1) * together).for_each(|vectors| {
                    let mut rounded = Vec::with_capacity(columns * together);
                    for vector in vectors.chunks(columns + 1) {
                        rounded.extend(vector[..columns].iter().map(|v| (v / largest) as f32));
                    }
                    let count = vectors.len() / (columns + 1);
                    let solved = MatMut::from_column_major_slice_mut(&mut rounded, columns, count);
                    if count <= FEW {
                        factor.solve_few(solved);
                    } else {
                        factor.solve(solved, Par::Seq);
                    }
                    for (vector, solved) in vectors.chunks_mut(columns + 1).zip(rounded.chunks(columns)) {
                        vector.iter_mut().zip(solved).for_each(|(v, &z)| *v = largest * f64::from(z));
                    }
                });
            }
        }
        vectors.par_chunks_mut(columns + 1).enumerate().for_each(|(i, vector)| {
            let (weights, bias) = vector.split_at_mut(columns);
            let mut along = 0.0;
            for ((v, &c), root) in weights.iter_mut().zip(centre(i % problems)).zip(&self.roots) {
                *v /= root;
                along += f64::from(c) * *v;
            }
            bias[0] = bias[0] / self.stiffnesses[i % problems] - along;
        });
        if self.joint {
            vectors
                .chunks_mut((columns + 1) * problems)
                .for_each(|set| project_out_class_mean(set, problems));
        }
    }
}

/// How rows scatter about the means of problems, on the average over these.
struct Scatter {
    /// What the rows are taken less of in the sums: the mean of all, so that these do not cancel.
    shift: Vec<f64>,
    /// `1/K Σ_k Σ_i w_ik (x_i - mean_k)(x_i - mean_k)ᵀ` of K problems, where there is memory for it, or
    gram: Option<PackedLowerTriangle<f32>>,
    /// its diagonal.
    squares: Vec<f64>,
    /// `Σ_i w_ik (x_i - shift)` of each problem (problems x d).
    sums: Vec<f32>,
    /// `Σ_i w_ik`.
    weights: Vec<f64>,
}

impl Scatter {
    /// Of chosen rows, with what each weighs on the average. `gram` is zero.
    fn new(
        of: &PreconditionerInput<'_>,
        chosen: &[(usize, f64)],
        columns: usize,
        mut gram: Option<PackedLowerTriangle<f32>>,
    ) -> Self {
        let problems = of.problems;
        let (mut shift, mut row) = (vec![0f64; columns], Vec::with_capacity(columns));
        let total: f64 = chosen.iter().map(|&(_, weight)| weight).sum();
        for &(i, weight) in chosen {
            let share = weight / total;
            row.clear();
            of.rows.copy(i, columns, &mut row);
            shift.iter_mut().zip(&row).for_each(|(m, &x)| *m += share * f64::from(x));
        }
        let mut squares = vec![0f64; columns];
        let mut sums = vec![0f32; problems * columns];
        let mut weights = vec![0f64; problems];
        let together = rows_of_block(columns).min(chosen.len()).max(1);
        let mut block = Vec::with_capacity(together * columns);
        let mut shares = Vec::new();
        let mut derivatives = vec![0f64; together * problems];
        for chosen in chosen.chunks(together) {
            let derivatives = &mut derivatives[..chosen.len() * problems];
            let numbers: Vec<usize> = chosen.iter().map(|&(i, _)| i).collect();
            block.clear();
            numbers.iter().for_each(|&i| of.rows.copy(i, columns, &mut block));
            (of.derivatives)(&numbers, &block, derivatives);
            shares.clear();
            for (&(_, weight), derivatives) in chosen.iter().zip(derivatives.chunks(problems)) {
                let all: f64 = derivatives.iter().sum();
                let scale = if all > 0.0 { weight * problems as f64 / all } else { 0.0 };
                let root = weight.sqrt();
                shares.extend(derivatives.iter().map(|d| (scale * d / root) as f32));
                weights.iter_mut().zip(derivatives).for_each(|(w, d)| *w += scale * *d);
            }
            block.par_chunks_mut(columns.max(1)).zip(chosen).for_each(|(row, &(_, weight))| {
                let root = weight.sqrt();
                row.iter_mut().zip(&shift).for_each(|(x, m)| *x = (root * (f64::from(*x) - m)) as f32);
            });
            let scaled = MatRef::from_column_major_slice(&block, columns, chosen.len());
            match &mut gram {
                Some(gram) => gram.add_products(1.0, scaled),
                None => block.chunks(columns.max(1)).for_each(|row| {
                    squares.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x).powi(2));
                }),
            }
            let shares = MatRef::from_column_major_slice(&shares, problems, chosen.len());
            let sums = MatMut::from_column_major_slice_mut(&mut sums, columns, problems);
            matmul(sums, Accum::Add, scaled, shares.transpose(), 1.0, Par::rayon(0));
        }
        Self { shift, gram, squares, sums, weights }
    }

    /// Takes the rows less the problems' means: so far it was less the shift.
    fn about_means(&mut self) {
        let mut means = self.sums.clone();
        for (mean, &weight) in means.chunks_mut(self.shift.len().max(1)).zip(&self.weights) {
            let scale = if weight > 0.0 { weight.sqrt().recip() } else { 0.0 };
            mean.iter_mut().for_each(|m| *m = (scale * f64::from(*m)) as f32);
        }
        self.add(-1.0, &mut means);
    }

    /// Adds `1/K Σ_k share w_k mean_k mean_kᵀ`, where `share` depends on w_k.
    fn add_means(&mut self, share: impl Fn(f64) -> f64) {
        let mut means = self.sums.clone();
        for (mean, &weight) in means.chunks_mut(self.shift.len().max(1)).zip(&self.weights) {
            let scale = if weight > 0.0 { (share(weight) / weight).sqrt() } else { 0.0 };
            for (m, shift) in mean.iter_mut().zip(&self.shift) {
                *m = (scale * (f64::from(*m) + weight * shift)) as f32;
            }
        }
        self.add(1.0, &mut means);
    }

    /// Adds `factor / K` times the vectors' products with themselves.
    fn add(&mut self, factor: f32, vectors: &mut [f32]) {
        let (columns, problems) = (self.shift.len(), self.weights.len());
        let scale = (problems as f32).sqrt().recip();
        vectors.iter_mut().for_each(|v| *v *= scale);
        match &mut self.gram {
            Some(gram) => {
                gram.add_products(factor, MatRef::from_column_major_slice(vectors, columns, problems));
            }
            None => vectors.chunks(columns.max(1)).for_each(|vector| {
                let pairs = self.squares.iter_mut().zip(vector);
                pairs.for_each(|(s, &v)| *s += f64::from(factor) * f64::from(v).powi(2));
            }),
        }
    }
}

/// Takes from the vectors of all problems their mean. What is added to all classes alike changes no probability: a joint
/// problem's gradients have no such part, and its steps are to have none.
pub(super) fn project_out_class_mean(vectors: &mut [f64], problems: usize) {
    let size = vectors.len() / problems;
    let mut mean = vec![0f64; size];
    for vector in vectors.chunks(size) {
        mean.iter_mut().zip(vector).for_each(|(mean, v)| *mean += v / problems as f64);
    }
    for vector in vectors.chunks_mut(size) {
        vector.iter_mut().zip(&mean).for_each(|(v, mean)| *v -= mean);
    }
}

/// Rows drawn with probabilities in proportion to their weights, about `most` of them, each with its weight over its
/// probability: what they add up to is that of all rows on the average. Rows that weigh much are drawn for certain, and
/// all rows that weigh anything where there are no more. The same rows for the same weights.
fn drawn(weights: &[f64], most: usize) -> Vec<(usize, f64)> {
    let weighing = weights.iter().filter(|&&weight| weight > 0.0).count();
    if weighing <= most {
        let all = weights.iter().copied().enumerate();
        return all.filter(|&(_, weight)| weight > 0.0).collect();
    }
    // A row is certain where its weight reaches the level. Fewer rows are left to share the rest, which lowers it again.
    let mut level = weights.iter().sum::<f64>() / most as f64;
    for _ in 0..20 {
        let (mut certain, mut rest) = (0, 0.0);
        for &weight in weights {
            if weight >= level { certain += 1 } else { rest += weight }
        }
        if certain >= most {
            break;
        }
        let next = rest / (most - certain) as f64;
        if next >= level {
            break;
        }
        level = next;
    }
    let mut rows = Vec::with_capacity(most + 1);
    let mut due = 0.5;
    for (i, &weight) in weights.iter().enumerate() {
        if weight >= level {
            rows.push((i, weight));
        } else if weight > 0.0 {
            due += weight / level;
            if due >= 1.0 {
                due -= 1.0;
                rows.push((i, level));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applying_undoes_the_estimate_of_each_problem() {
        const COLUMNS: usize = 7;
        // As many rows weigh anything as are taken without drawing.
        let features: Vec<f32> =
            (0..10 * COLUMNS).map(|i| ((i / 7 * 31 + i % 7 * 17) as f32 * 0.61).sin()).collect();
        let row = |i: usize| features[i * COLUMNS..][..COLUMNS].iter().map(|&x| f64::from(x));
        // Of two problems.
        let derivatives = |i: usize| [0.1 * (i % 4) as f64, 0.05 * (i % 4 * i) as f64];
        let weights: Vec<f64> = (0..10).map(|i| derivatives(i).iter().sum::<f64>() / 2.0).collect();
        let of_block = |numbers: &[usize], block: &[f32], out: &mut [f64]| {
            for ((i, features), out) in numbers.iter().zip(block.chunks(COLUMNS)).zip(out.chunks_mut(2)) {
                assert!(row(*i).eq(features.iter().map(|&x| f64::from(x))), "not row {i}");
                out.copy_from_slice(&derivatives(*i));
            }
        };
        let curved = PreconditionerInput {
            rows: MatrixRows::Whole(&features),
            weights: &weights,
            problems: 2,
            derivatives: &of_block,
        };
        let shrinkage = 0.7;
        let mut previous = None;
        for matrix in [true, false] {
            let estimate =
                EstimateSettings { penalties: (2.0, 0.5), sampled: 1, shrinkage, matrix, joint: false };
            // Made twice: the memory of the first is used again.
            previous = Some(Preconditioner::new(&curved, COLUMNS, &estimate, previous));
            let preconditioner = Preconditioner::new(&curved, COLUMNS, &estimate, previous.take());
            // Two sets of vectors.
            let points: Vec<f64> = (0..4 * (COLUMNS + 1)).map(|j| (j as f64 - 3.0) * 0.3).collect();
            for scale in [1e-60, 1.0, 1e60] {
                let mut products = vec![0f64; points.len()];
                for (v, (point, product)) in
                    points.chunks(COLUMNS + 1).zip(products.chunks_mut(COLUMNS + 1)).enumerate()
                {
                    let (point, bias) = (&point[..COLUMNS], point[COLUMNS]);
                    let mut diagonal = [2.0; COLUMNS];
                    // All that the rows weigh, less what the bias takes over, on the average over the problems.
                    let mut kept = point.iter().map(|w| 2.0 * w).collect::<Vec<f64>>();
                    let stiffness = |k: usize| 0.5 + (0..10).map(|i| derivatives(i)[k]).sum::<f64>();
                    let centre = |k: usize| {
                        let mut centre = [0f64; COLUMNS];
                        for i in 0..10 {
                            centre.iter_mut().zip(row(i)).for_each(|(c, x)| *c += derivatives(i)[k] * x);
                        }
                        centre
                    };
                    let mut add = |factor: f64, vector: &[f64]| {
                        let score: f64 = vector.iter().zip(point).map(|(x, w)| x * w).sum();
                        for (j, x) in vector.iter().enumerate() {
                            diagonal[j] += factor * x * x;
                            kept[j] += factor * x * score;
                        }
                    };
                    for k in 0..2 {
                        (0..10).for_each(|i| add(0.5 * derivatives(i)[k], &row(i).collect::<Vec<f64>>()));
                        add(-0.5 / stiffness(k), &centre(k));
                    }
                    let (stiffness, centre) = (stiffness(v % 2), centre(v % 2));
                    let along: f64 = centre.iter().zip(point).map(|(c, w)| c * w).sum();
                    for j in 0..COLUMNS {
                        let of_diagonal = diagonal[j] * point[j];
                        let kept =
                            if matrix { kept[j] + f64::from(shrinkage) * of_diagonal } else { of_diagonal };
                        product[j] = kept + centre[j] * (along / stiffness + bias);
                    }
                    product[COLUMNS] = along + stiffness * bias;
                }
                products.iter_mut().for_each(|product| *product *= scale);
                preconditioner.apply(&mut products);
                for (found, point) in products.iter().zip(&points) {
                    assert!((found / scale - point).abs() < 2e-5 * point.abs().max(1.0), "{products:?}");
                }
            }
        }
    }

    #[test]
    fn steps_of_a_joint_problem_add_up_to_nothing_and_are_still_those_of_a_symmetric_matrix() {
        let features: Vec<f32> = (0..12).map(|i| (i as f32 * 1.7).sin()).collect();
        let derivatives = |numbers: &[usize], _: &[f32], out: &mut [f64]| {
            for (i, out) in numbers.iter().zip(out.chunks_mut(3)) {
                out.copy_from_slice(&[1.0, 0.2 * *i as f64, 0.5]);
            }
        };
        let weights: Vec<f64> = (0..6).map(|i| (1.5 + 0.2 * f64::from(i)) / 3.0).collect();
        let curved = PreconditionerInput {
            rows: MatrixRows::Whole(&features),
            weights: &weights,
            problems: 3,
            derivatives: &derivatives,
        };
        let estimate =
            EstimateSettings { penalties: (1.0, 0.0), sampled: 9, shrinkage: 1.0, matrix: true, joint: true };
        let preconditioner = Preconditioner::new(&curved, 2, &estimate, None);
        let vector = |phase: f64| {
            let mut vector: Vec<f64> = (0..9).map(|j| (f64::from(j) * 1.3 + phase).sin()).collect();
            project_out_class_mean(&mut vector, 3);
            vector
        };
        let (a, b) = (vector(0.0), vector(1.0));
        let (mut of_a, mut of_b) = (a.clone(), b.clone());
        preconditioner.apply(&mut of_a);
        preconditioner.apply(&mut of_b);
        for j in 0..3 {
            assert!((of_a[j] + of_a[3 + j] + of_a[6 + j]).abs() < 1e-12, "{of_a:?}");
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        assert!((dot(&a, &of_b) - dot(&b, &of_a)).abs() < 1e-6, "{} {}", dot(&a, &of_b), dot(&b, &of_a));
        assert!(dot(&a, &of_a) > 0.1 && dot(&b, &of_b) > 0.1);
    }

    #[test]
    fn a_problem_in_which_no_row_weighs_anything_gets_finite_steps() {
        let features = [1.0f32, 2.0, -1.0, 0.5];
        let derivatives = |_: &[usize], _: &[f32], out: &mut [f64]| {
            out.chunks_mut(2).for_each(|of_row| of_row.copy_from_slice(&[2.0, 0.0]));
        };
        let curved = PreconditionerInput {
            rows: MatrixRows::Whole(&features),
            weights: &[1.0, 1.0],
            problems: 2,
            derivatives: &derivatives,
        };
        let estimate = EstimateSettings {
            penalties: (1.0, 0.0),
            sampled: 1,
            shrinkage: 1.0,
            matrix: true,
            joint: false,
        };
        let mut vectors = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        Preconditioner::new(&curved, 2, &estimate, None).apply(&mut vectors);
        // The first has 4, with a mean of (0, 1.25) and a scatter of [4, 3; 3, 2.25], of which half counts, twice on the diagonal
        // with the penalty: 1 / 4 + 1.25² · 6 / (6 · 4.25 - 1.5²). The other has the least that is taken, a millionth of 4.
        assert!((vectors[2] - (0.25 + 9.375 / 23.25)).abs() < 1e-6, "{vectors:?}");
        assert!((vectors[5] - 1e6 / 4.0).abs() < 1.0, "{vectors:?}");
    }

    #[test]
    fn heavy_rows_are_all_drawn_and_light_ones_stand_for_others() {
        let weights: Vec<f64> =
            (0..1000).map(|i| if i % 100 == 7 { 50.0 } else { f64::from(i % 5) * 0.1 }).collect();
        let rows = drawn(&weights, 60);
        assert!((59..=61).contains(&rows.len()), "{}", rows.len());
        for i in (7..1000).step_by(100) {
            assert!(rows.contains(&(i, 50.0)), "{rows:?}");
        }
        assert!(rows.iter().all(|&(i, _)| weights[i] > 0.0));
        let (drawn_weight, whole): (f64, f64) = (rows.iter().map(|row| row.1).sum(), weights.iter().sum());
        assert!((drawn_weight / whole - 1.0).abs() < 0.01, "{drawn_weight} {whole}");
        // As many as are asked for, or fewer: all that weigh anything, as they are.
        let all = drawn(&weights[..10], 60);
        let expected: Vec<(usize, f64)> =
            weights[..10].iter().copied().enumerate().filter(|row| row.1 > 0.0).collect();
        assert_eq!(all, expected);
    }
}
