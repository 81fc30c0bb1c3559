//! A factorised estimate of the Hessian, by whose inverse the primal problems' descents are preconditioned.
//!
//! All classes share one: their Hessians differ in which rows count, and the estimate takes each row by its mean over the
//! classes. From more rows than columns it is made from a sample, since a preconditioner need not be exact. Rows are
//! drawn by what they weigh, and those that weigh most are all taken (P. Xu et al.: "Sub-sampled Newton methods with
//! non-uniform sampling", NIPS 2016): near the optimum few rows have a say, and an even sample would miss most of them.

use faer::{MatMut, MatRef, Par};
use rayon::prelude::*;

use super::panels::{Factor, Panels};

/// How many times its own diagonal is added to an estimate from as many rows as columns; from more rows, less. The eigenvalues of a sample of about as many rows as columns
/// spread too far, the small ones towards 0, and along those steps would be far too long; shrunk towards the diagonal the
/// estimate is nearer to the truth (O. Ledoit, M. Wolf: "A well-conditioned estimator for large-dimensional covariance
/// matrices", J. Multivariate Anal. 88, 2004). Of 0.001 to 8, which takes twice as many iterations at the low end, 0.5 to 2
/// are much alike on sets that are easy and hard to tell apart, of 10 and 100 classes.
const SHRINKAGE: f32 = 1.0;
/// Rows a column that are taken where all rows are in memory.
pub(super) const SAMPLED: usize = 1;

/// `R L Lᵀ R` (R diagonal, L lower triangular), near `penalties + Σ weight x xᵀ` with a constant code 1 appended to x, and its
/// diagonal [shrunk to](SHRINKAGE).
pub(super) struct Preconditioner {
    /// Diagonal of R.
    roots: Vec<f64>,
    /// L; `None` is the unit matrix.
    factor: Option<Factor<f32>>,
}

impl Preconditioner {
    /// From `rows` of d codes with a weight each, of which at most `sampled` for each column are taken; without a number, the
    /// diagonal alone, where a matrix would take too much memory. `penalties` are those of a weight and of the bias.
    pub fn new(
        rows: &[&[f32]],
        weights: &[f64],
        columns: usize,
        penalties: (f64, f64),
        sampled: Option<usize>,
    ) -> Self {
        const BLOCK: usize = 256;
        let Some(sampled) = sampled else { return Self::diagonal(rows, weights, columns, penalties) };
        let size = columns + 1;
        let chosen = drawn(weights, sampled * size);
        let mut gram = Panels::zeros(size);
        let mut block = Vec::with_capacity(BLOCK.min(chosen.len()) * size);
        for chosen in chosen.chunks(BLOCK) {
            block.clear();
            for &(i, weight) in chosen {
                let root = weight.sqrt() as f32;
                block.extend(rows[i].iter().map(|x| root * x));
                block.push(root);
            }
            gram.add_products(MatRef::from_column_major_slice(&block, size, chosen.len()));
        }
        drop(block);
        let roots = roots(gram.diagonal().map(f64::from), columns, penalties);
        let shrinkage = SHRINKAGE / sampled as f32;
        gram.change(|i, j, value| {
            *value = if i == j { 1.0 + shrinkage } else { *value / (roots[i] * roots[j]) as f32 };
        });
        Self { factor: gram.factor(0.0), roots }
    }

    fn diagonal(rows: &[&[f32]], weights: &[f64], columns: usize, penalties: (f64, f64)) -> Self {
        let mut squares = vec![0f64; columns + 1];
        for (row, weight) in rows.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
            squares.iter_mut().zip(*row).for_each(|(s, &x)| *s += weight * f64::from(x).powi(2));
        }
        squares[columns] = weights.iter().sum();
        Self { roots: roots(squares.into_iter(), columns, penalties), factor: None }
    }

    /// Diagonal of the estimate, with the penalties.
    pub fn diagonal_of_estimate(&self) -> impl Iterator<Item = f64> {
        self.roots.iter().map(|root| root * root)
    }

    fn size(&self) -> usize {
        self.roots.len()
    }

    /// Replaces the vectors of all problems (weights and bias of each) by their products with R⁻¹ L⁻ᵀ L⁻¹ R⁻¹.
    pub fn apply(&self, vectors: &mut [f64]) {
        let size = self.size();
        let divide = |vectors: &mut [f64]| {
            vectors.par_chunks_mut(size).for_each(|of_problem| {
                of_problem.iter_mut().zip(&self.roots).for_each(|(v, root)| *v /= root)
            });
        };
        divide(vectors);
        if let Some(factor) = &self.factor {
            // A common scale, so that gradients of any size fit into float32.
            let largest = vectors.iter().fold(0f64, |largest, v| largest.max(v.abs()));
            if largest == 0.0 || !largest.is_finite() {
                return;
            }
            let mut rounded: Vec<f32> = vectors.par_iter().map(|&v| (v / largest) as f32).collect();
            // Threads that solve for columns of their own need not wait for each other.
            let together = (vectors.len() / size).div_ceil(2).min(16);
            rounded.par_chunks_mut(size * together).for_each(|columns| {
                let count = columns.len() / size;
                factor.solve(MatMut::from_column_major_slice_mut(columns, size, count), Par::Seq);
            });
            vectors.par_iter_mut().zip(&rounded).for_each(|(to, &from)| *to = largest * f64::from(from));
        }
        divide(vectors);
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

/// Square roots of the diagonal with the penalties; 1 where there is nothing to scale by.
fn roots(diagonal: impl Iterator<Item = f64>, columns: usize, penalties: (f64, f64)) -> Vec<f64> {
    let penalised = |(j, square): (usize, f64)| {
        let penalised = square + if j < columns { penalties.0 } else { penalties.1 };
        if penalised > 0.0 { penalised.sqrt() } else { 1.0 }
    };
    diagonal.enumerate().map(penalised).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applying_undoes_the_shrunk_hessian() {
        // As many rows weigh anything as are taken without drawing.
        let codes: Vec<Vec<f32>> =
            (0..10).map(|i| (0..7).map(|j| ((i * 31 + j * 17) as f32 * 0.61).sin()).collect()).collect();
        let rows: Vec<&[f32]> = codes.iter().map(Vec::as_slice).collect();
        let weights: Vec<f64> = (0..10).map(|i| 0.1 * f64::from(i % 4)).collect();
        let preconditioner = Preconditioner::new(&rows, &weights, 7, (2.0, 0.5), Some(SAMPLED));
        let points: Vec<f64> = (0..16).map(|j| (f64::from(j) - 3.0) * 0.3).collect();
        for scale in [1e-60, 1.0, 1e60] {
            let mut products = vec![0f64; 16];
            for (point, product) in points.chunks(8).zip(products.chunks_mut(8)) {
                let mut diagonal = [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.5];
                for (j, (p, &w)) in product.iter_mut().zip(point).enumerate() {
                    *p = diagonal[j] * w;
                }
                for (row, weight) in rows.iter().zip(&weights) {
                    let extended = || row.iter().copied().chain([1.0]).map(f64::from);
                    let score: f64 = extended().zip(point).map(|(x, &w)| x * w).sum();
                    product.iter_mut().zip(extended()).for_each(|(p, x)| *p += weight * score * x);
                    diagonal.iter_mut().zip(extended()).for_each(|(d, x)| *d += weight * x * x);
                }
                for ((p, &w), d) in product.iter_mut().zip(point).zip(diagonal) {
                    *p = scale * (*p + f64::from(SHRINKAGE) * d * w);
                }
            }
            preconditioner.apply(&mut products);
            for (found, point) in products.iter().zip(&points) {
                assert!((found / scale - point).abs() < 1e-5 * point.abs().max(1.0), "{products:?}");
            }
        }
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
