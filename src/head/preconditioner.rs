//! A factorised estimate of the Hessian, in whose variables the primal problems are well conditioned.
//!
//! All classes share one: their Hessians differ in which rows count, and the estimate takes each row by its mean over the
//! classes. From at most four rows a column it is made from a sample: a preconditioner need not be exact.

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::{
        matmul::triangular::{BlockStructure, matmul},
        triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
    },
};

/// Added to the unit diagonal before it is factorised in float32.
const JITTER: f32 = 1e-3;
/// Rows a column from which on a sample is taken.
const SAMPLED: usize = 4;

/// `R L Lᵀ R` (R diagonal, L lower triangular), near `penalties + Σ weight x xᵀ` with a constant code 1 appended to x.
pub(super) struct Preconditioner {
    /// Diagonal of R.
    roots: Vec<f64>,
    /// L, row after row; what lies above its diagonal is not looked at. `None` is the unit matrix.
    factor: Option<Vec<f32>>,
}

impl Preconditioner {
    /// From `rows` of d codes with a weight each. `penalties` are those of a weight and of the bias.
    pub fn new(rows: &[&[f32]], weights: &[f64], columns: usize, penalties: (f64, f64)) -> Self {
        const BLOCK: usize = 256;
        let size = columns + 1;
        let mut chosen: Vec<usize> = (0..rows.len()).filter(|&i| weights[i] > 0.0).collect();
        let count = chosen.len();
        let sampled = count.min(SAMPLED * size);
        chosen = (0..sampled).map(|s| chosen[s * count / sampled]).collect();
        let whole: f64 = weights.iter().sum();
        let drawn: f64 = chosen.iter().map(|&i| weights[i]).sum();
        let scale = whole / drawn.max(f64::MIN_POSITIVE);
        let mut gram = vec![0f32; size * size];
        let mut block = Vec::with_capacity(BLOCK.min(sampled) * size);
        for chosen in chosen.chunks(BLOCK) {
            block.clear();
            for &i in chosen {
                let root = (scale * weights[i]).sqrt() as f32;
                block.extend(rows[i].iter().map(|x| root * x));
                block.push(root);
            }
            let block = MatRef::from_row_major_slice(&block, chosen.len(), size);
            matmul(
                MatMut::from_row_major_slice_mut(&mut gram, size, size),
                BlockStructure::TriangularLower,
                Accum::Add,
                block.transpose(),
                BlockStructure::Rectangular,
                block,
                BlockStructure::Rectangular,
                1.0,
                Par::rayon(0),
            );
        }
        drop(block);
        let roots = roots((0..size).map(|j| f64::from(gram[j * size + j])), columns, penalties);
        for i in 0..size {
            for j in 0..i {
                gram[i * size + j] /= (roots[i] * roots[j]) as f32;
            }
            gram[i * size + i] = 1.0 + JITTER;
        }
        let factor = factorise(&mut gram, size).then_some(gram);
        Self { roots, factor }
    }

    /// The diagonal alone, where a matrix would take too much memory.
    pub fn diagonal(rows: &[&[f32]], weights: &[f64], columns: usize, penalties: (f64, f64)) -> Self {
        let mut squares = vec![0f64; columns + 1];
        for (row, weight) in rows.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
            squares.iter_mut().zip(*row).for_each(|(s, &x)| *s += weight * f64::from(x).powi(2));
        }
        squares[columns] = weights.iter().sum();
        Self { roots: roots(squares.into_iter(), columns, penalties), factor: None }
    }

    fn size(&self) -> usize {
        self.roots.len()
    }

    /// From v to w = R⁻¹ L⁻ᵀ v of each problem: its weights (problems x d) and biases.
    pub fn leave(&self, point: &[f64]) -> (Vec<f32>, Vec<f64>) {
        let (size, count) = (self.size(), point.len() / self.size());
        let mut weights = Vec::with_capacity(point.len() - count);
        let mut bias = Vec::with_capacity(count);
        let mut divided = |variables: &mut dyn Iterator<Item = f64>| {
            for (j, variable) in variables.enumerate() {
                let divided = variable / self.roots[j % size];
                if j % size + 1 == size { bias.push(divided) } else { weights.push(divided as f32) }
            }
        };
        match &self.factor {
            Some(factor) => {
                let mut variables: Vec<f32> = point.iter().map(|&v| v as f32).collect();
                let lower = MatRef::from_row_major_slice(factor, size, size);
                let columns = MatMut::from_column_major_slice_mut(&mut variables, size, count);
                solve_upper_triangular_in_place(lower.transpose(), columns, Par::rayon(0));
                divided(&mut variables.iter().map(|&v| f64::from(v)));
            }
            None => divided(&mut point.iter().copied()),
        }
        (weights, bias)
    }

    /// From the gradient with respect to w to that with respect to v, L⁻¹ R⁻¹ g.
    pub fn gradient(&self, gradient: &mut [f64]) {
        let (size, count) = (self.size(), gradient.len() / self.size());
        for of_problem in gradient.chunks_mut(size) {
            of_problem.iter_mut().zip(&self.roots).for_each(|(g, root)| *g /= root);
        }
        if let Some(factor) = &self.factor {
            let mut rounded: Vec<f32> = gradient.iter().map(|&g| g as f32).collect();
            let lower = MatRef::from_row_major_slice(factor, size, size);
            let columns = MatMut::from_column_major_slice_mut(&mut rounded, size, count);
            solve_lower_triangular_in_place(lower, columns, Par::rayon(0));
            gradient.iter_mut().zip(&rounded).for_each(|(to, &from)| *to = f64::from(from));
        }
    }

    /// From weights (problems x d) and biases to v = Lᵀ R w.
    pub fn enter(&self, weights: &[f32], bias: &[f64]) -> Vec<f64> {
        let size = self.size();
        let mut point = Vec::with_capacity(weights.len() + bias.len());
        for (weights, &bias) in weights.chunks(size - 1).zip(bias) {
            let variables = weights.iter().map(|&w| f64::from(w)).chain([bias]);
            let scaled: Vec<f64> = variables.zip(&self.roots).map(|(w, root)| w * root).collect();
            match &self.factor {
                Some(factor) => {
                    // Row after row of L, which is how it lies in memory.
                    let mut product = vec![0f64; size];
                    for (i, &w) in scaled.iter().enumerate() {
                        let lower = &factor[i * size..=i * size + i];
                        product.iter_mut().zip(lower).for_each(|(p, &l)| *p += f64::from(l) * w);
                    }
                    point.extend(product);
                }
                None => point.extend(scaled),
            }
        }
        point
    }
}
/// Square roots of the diagonal with the penalties; 1 where there is nothing to scale by.
fn roots(diagonal: impl Iterator<Item = f64>, columns: usize, penalties: (f64, f64)) -> Vec<f64> {
    let penalised = |(j, square): (usize, f64)| {
        let penalised = square + if j < columns { penalties.0 } else { penalties.1 };
        if penalised > 0.0 { penalised.sqrt() } else { 1.0 }
    };
    diagonal.enumerate().map(penalised).collect()
}

/// Replaces the lower triangle by its Cholesky factor; false when it is not positive definite in float32.
fn factorise(matrix: &mut [f32], size: usize) -> bool {
    use faer::{
        dyn_stack::{MemBuffer, MemStack},
        linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch},
    };
    let mut memory =
        MemBuffer::new(cholesky_in_place_scratch::<f32>(size, Par::rayon(0), Default::default()));
    cholesky_in_place(
        MatMut::from_row_major_slice_mut(matrix, size, size),
        Default::default(),
        Par::rayon(0),
        MemStack::new(&mut memory),
        Default::default(),
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_that_of_the_hessian_and_entering_undoes_leaving() {
        let codes: Vec<Vec<f32>> =
            (0..30).map(|i| (0..7).map(|j| ((i * 31 + j * 17) as f32 * 0.61).sin()).collect()).collect();
        let rows: Vec<&[f32]> = codes.iter().map(Vec::as_slice).collect();
        let weights: Vec<f64> = (0..30).map(|i| 0.1 * f64::from(i % 4)).collect();
        let preconditioner = Preconditioner::new(&rows, &weights, 7, (2.0, 0.5));
        let point: Vec<f32> = (0..8).map(|j| (j as f32 - 3.0) * 0.3).collect();
        // g = H w gives L⁻¹ R⁻¹ g = Lᵀ R w, but for the jitter.
        let mut product = vec![0f64; 8];
        for (row, weight) in rows.iter().zip(&weights) {
            let extended = || row.iter().copied().chain([1.0]).map(f64::from);
            let score: f64 = extended().zip(&point).map(|(x, &w)| x * f64::from(w)).sum();
            product.iter_mut().zip(extended()).for_each(|(p, x)| *p += weight * score * x);
        }
        for (j, (p, &w)) in product.iter_mut().zip(&point).enumerate() {
            *p += f64::from(w) * if j < 7 { 2.0 } else { 0.5 };
        }
        let mut left = product;
        preconditioner.gradient(&mut left);
        let bias = f64::from(point[7]);
        let right = preconditioner.enter(&point[..7], &[bias]);
        for (l, r) in left.iter().zip(&right) {
            assert!((l - r).abs() < 1e-2, "{left:?} {right:?}");
        }
        let (weights, back) = preconditioner.leave(&right);
        for (back, w) in weights.iter().zip(&point) {
            assert!((back - w).abs() < 1e-4, "{weights:?} {point:?}");
        }
        assert!((back[0] - bias).abs() < 1e-4);
    }
}
