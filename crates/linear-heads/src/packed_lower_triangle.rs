//! A symmetric positive definite matrix of which only the lower triangle is stored, in panels of columns: half the memory
//! of the whole, products of half the cost, and a Cholesky factor that takes its place.

use std::ops::Range;

use faer::{
    Accum, Mat, MatMut, MatRef, Par, Side,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch},
        matmul::matmul,
        triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
    },
    traits::RealField,
};
use rayon::prelude::*;

use super::simd::{self, TILE, products_of_few};

/// Most columns of a panel.
const WIDEST: usize = 256;

/// Columns of a panel: wide for speed, but so many of them that what is stored beyond the triangle is little.
fn width(order: usize) -> usize {
    (order / 16).next_multiple_of(16).clamp(16, WIDEST)
}

/// Small matrices are done sooner than threads have found together.
fn parallelism(order: usize) -> Par {
    if order < 1024 { Par::Seq } else { Par::rayon(0) }
}

/// The lower triangle, in panels of columns from the diagonal down. What lies above the diagonal within a panel's first rows
/// is symmetric too, but never read.
#[derive(Debug, Clone)]
pub(super) struct PackedLowerTriangle<T> {
    order: usize,
    panels: Vec<Mat<T>>,
}

impl<T: RealField + Copy> PackedLowerTriangle<T> {
    pub fn zeros(order: usize) -> Self {
        let width = width(order);
        let panel = |from: usize| Mat::zeros(order - from, width.min(order - from));
        Self { order, panels: (0..order).step_by(width).map(panel).collect() }
    }

    pub fn order(&self) -> usize {
        self.order
    }

    /// Makes all elements 0 again.
    pub fn clear(&mut self) {
        self.panels.iter_mut().for_each(|panel| panel.fill(T::zero_impl()));
    }

    /// Bytes that a matrix of this order takes.
    pub fn bytes(order: usize) -> usize {
        size_of::<T>() * order * (order + width(order)) / 2
    }

    /// Adds `factor · columns · columnsᵀ`.
    pub fn add_products(&mut self, factor: T, columns: MatRef<'_, T>) {
        for (from, panel) in (0..self.order).step_by(width(self.order)).zip(&mut self.panels) {
            let width = panel.ncols();
            let below = columns.subrows(from, self.order - from);
            let own = columns.subrows(from, width);
            matmul(panel.as_mut(), Accum::Add, below, own.transpose(), factor, parallelism(self.order));
        }
    }

    /// The diagonal.
    pub fn diagonal(&self) -> impl Iterator<Item = T> {
        self.panels.iter().flat_map(|panel| (0..panel.ncols()).map(|j| panel[(j, j)]))
    }

    /// Calls `change` with row, column and value of each stored element.
    pub fn change(&mut self, change: impl Fn(usize, usize, &mut T)) {
        for (from, panel) in (0..self.order).step_by(width(self.order)).zip(&mut self.panels) {
            for j in 0..panel.ncols() {
                for (i, value) in panel.col_as_slice_mut(j).iter_mut().enumerate() {
                    change(from + i, from + j, value);
                }
            }
        }
    }

    /// Adds `factor · other`, of the same order.
    pub fn add(&mut self, factor: T, other: &Self) {
        for (panel, other) in self.panels.iter_mut().zip(&other.panels) {
            for j in 0..panel.ncols() {
                let pairs = panel.col_as_slice_mut(j).iter_mut().zip(other.col_as_slice(j));
                pairs.for_each(|(value, other)| *value += factor * *other);
            }
        }
    }

    /// The whole lower triangle, zeros above it.
    pub fn whole(&self) -> Mat<T> {
        let mut whole = Mat::zeros(self.order, self.order);
        for (j, column) in self.columns() {
            whole.col_as_slice_mut(j)[j..].copy_from_slice(column);
        }
        whole
    }

    /// Each column with its index, from the diagonal down.
    pub fn columns(&self) -> impl DoubleEndedIterator<Item = (usize, &[T])> {
        let panels = (0..self.order).step_by(width(self.order)).zip(&self.panels);
        panels.flat_map(|(from, panel)| {
            (0..panel.ncols()).map(move |j| (from + j, &panel.col_as_slice(j)[j..]))
        })
    }

    /// The Cholesky factor of this matrix plus `ridge` times the identity; `None` where rounding leaves it without one.
    pub fn factor(mut self, ridge: T) -> Option<CholeskyFactor<T>> {
        self.change(|i, j, value| {
            if i == j {
                *value += ridge;
            }
        });
        let par = parallelism(self.order);
        let widest = self.panels.first().map_or(0, Mat::ncols);
        let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(widest, par, Default::default()));
        for p in 0..self.panels.len() {
            let (done, rest) = self.panels.split_at_mut(p + 1);
            let panel = &mut done[p];
            let width = panel.ncols();
            let (mut diagonal, mut below) = panel.split_at_row_mut(width);
            let stack = MemStack::new(&mut memory);
            cholesky_in_place(diagonal.as_mut(), Default::default(), par, stack, Default::default()).ok()?;
            for j in 1..width {
                (0..j).for_each(|i| diagonal[(i, j)] = T::zero_impl());
            }
            solve_lower_triangular_in_place(diagonal.as_ref(), below.as_mut().transpose_mut(), par);
            let below = below.as_ref();
            let mut from = 0;
            for later in rest {
                let (rows, columns) = (later.nrows(), later.ncols());
                let (left, own) = (below.subrows(from, rows), below.subrows(from, columns));
                matmul(later.as_mut(), Accum::Add, left, own.transpose(), -T::one_impl(), par);
                from += columns;
            }
        }
        Some(CholeskyFactor(self))
    }
}

impl PackedLowerTriangle<f64> {
    /// The products of rows with one another.
    pub fn of_rows(rows: &[&[f32]]) -> Self {
        let mut products = Self::zeros(rows.len());
        let width = width(rows.len());
        products.panels.par_iter_mut().enumerate().for_each(|(p, panel)| {
            let below = &rows[p * width..];
            panel.as_mut().par_col_chunks_mut(TILE).enumerate().for_each(|(s, mut strip)| {
                let from = s * TILE;
                let others = &below[from..from + strip.ncols()];
                for (down, rows) in (from..).step_by(TILE).zip(below[from..].chunks(TILE)) {
                    simd::each_product(rows, others, |i, j, product| strip[(down + i, j)] = product);
                }
            });
        });
        products
    }

    /// Eigenvalues, none below 0, and eigenvectors of a matrix that rounding alone may have left with negative ones.
    pub fn spectrum(self) -> (Vec<f64>, Mat<f64>) {
        let whole = self.whole();
        drop(self);
        let eigen = whole
            .self_adjoint_eigen(Side::Lower)
            .expect("a symmetric matrix of finite values has eigenvectors");
        drop(whole);
        let values = eigen.S().column_vector().iter().map(|value| value.max(0.0)).collect();
        (values, eigen.U().to_owned())
    }
}

/// L of `L Lᵀ`. What lies above the diagonal within a panel's first rows is 0.
#[derive(Debug)]
pub(super) struct CholeskyFactor<T>(PackedLowerTriangle<T>);

impl CholeskyFactor<f64> {
    /// In float32, panel by panel: beside this one there is never more than a panel of the other.
    pub fn narrowed(self) -> CholeskyFactor<f32> {
        let PackedLowerTriangle { order, panels } = self.0;
        let narrow =
            |panel: Mat<f64>| Mat::from_fn(panel.nrows(), panel.ncols(), |i, j| panel[(i, j)] as f32);
        CholeskyFactor(PackedLowerTriangle { order, panels: panels.into_iter().map(narrow).collect() })
    }
}

impl CholeskyFactor<f32> {
    /// As [`Self::solve`] for a few columns, in this thread. A general product would lay out L anew for so few.
    pub fn solve_few(&self, mut columns: MatMut<'_, f32>) {
        self.forward(columns.as_mut(), Par::Seq);
        let (mut gathered, mut sums) = (Vec::new(), Vec::new());
        self.backward(columns, Par::Seq, |mut own, left, below| {
            sums.resize(own.nrows() * own.ncols(), 0.0);
            column_products(left, below, &mut gathered, &mut sums);
            for (j, sums) in sums.chunks(own.ncols()).enumerate() {
                sums.iter().enumerate().for_each(|(k, sum)| own[(j, k)] -= sum);
            }
        });
    }
}

/// `out[j * m + k]` becomes the product of column j of part of a panel with vector k of m, which are columns; for few of
/// them. `gathered` is for a copy of these.
pub(super) fn column_products(
    part: MatRef<'_, f32>,
    vectors: MatRef<'_, f32>,
    gathered: &mut Vec<f32>,
    out: &mut [f32],
) {
    let part = part.try_as_col_major().expect("panels are stored by columns");
    gathered.clear();
    vectors.col_iter().for_each(|vector| gathered.extend(vector.iter()));
    products_of_few(|j| part.col(j).as_slice(), gathered, part.nrows(), out);
}

impl<T: RealField + Copy> CholeskyFactor<T> {
    /// The panels, to be used for another matrix.
    pub fn into_storage(self) -> PackedLowerTriangle<T> {
        self.0
    }

    pub fn order(&self) -> usize {
        self.0.order
    }

    /// Each column with its index, from the diagonal down.
    pub fn columns(&self) -> impl DoubleEndedIterator<Item = (usize, &[T])> {
        self.0.columns()
    }

    /// What there is of the given rows of L, in parts; each with its first row, as counted from the range's, and its first
    /// column.
    pub fn rows(&self, range: Range<usize>) -> impl Iterator<Item = (usize, usize, MatRef<'_, T>)> {
        let panels = (0..range.end).step_by(width(self.0.order)).zip(&self.0.panels);
        panels.map(move |(from, panel)| {
            let first = range.start.max(from);
            (first - range.start, from, panel.subrows(first - from, range.end - first))
        })
    }

    /// Turns each column x into `L⁻¹ x`.
    pub fn forward(&self, mut columns: MatMut<'_, T>, par: Par) {
        let mut from = 0;
        for panel in &self.0.panels {
            let width = panel.ncols();
            let (_, rest) = columns.as_mut().split_at_row_mut(from);
            let (mut own, below) = rest.split_at_row_mut(width);
            solve_lower_triangular_in_place(panel.subrows(0, width), own.as_mut(), par);
            let left = panel.subrows(width, panel.nrows() - width);
            matmul(below, Accum::Add, left, own.as_ref(), -T::one_impl(), par);
            from += width;
        }
    }

    /// Turns each column x into `(L Lᵀ)⁻¹ x`.
    pub fn solve(&self, mut columns: MatMut<'_, T>, par: Par) {
        self.forward(columns.as_mut(), par);
        self.backward(columns, par, |own, left, below| {
            matmul(own, Accum::Add, left.transpose(), below, -T::one_impl(), par);
        });
    }

    /// Turns each column x into `L⁻ᵀ x`; `subtract` takes `leftᵀ · below` from its first argument.
    fn backward(
        &self,
        mut columns: MatMut<'_, T>,
        par: Par,
        mut subtract: impl FnMut(MatMut<'_, T>, MatRef<'_, T>, MatRef<'_, T>),
    ) {
        let mut from = self.0.order;
        for panel in self.0.panels.iter().rev() {
            let width = panel.ncols();
            from -= width;
            let (_, rest) = columns.as_mut().split_at_row_mut(from);
            let (mut own, below) = rest.split_at_row_mut(width);
            let left = panel.subrows(width, panel.nrows() - width);
            if left.nrows() > 0 {
                subtract(own.as_mut(), left, below.as_ref());
            }
            solve_upper_triangular_in_place(panel.subrows(0, width).transpose(), own, par);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_factor_and_solutions_are_those_of_the_whole_matrix() {
        for order in [1, 5, 16, 130, 256, 542] {
            let columns = Mat::from_fn(order, 7, |i, j| ((i * 31 + j * 17) as f64 * 0.61).sin());
            let mut panels = PackedLowerTriangle::<f64>::zeros(order);
            panels.add_products(3.0, columns.as_ref());
            panels.add_products(-1.0, columns.as_ref());
            let mut whole = 2.0 * (&columns * columns.transpose());
            let found = panels.whole();
            for j in 0..order {
                for i in j..order {
                    assert!((found[(i, j)] - whole[(i, j)]).abs() < 1e-12);
                }
            }
            (0..order).for_each(|i| whole[(i, i)] += 0.3);
            let factor = panels.factor(0.3).unwrap();
            let mut solved = columns.clone();
            factor.solve(solved.as_mut(), Par::Seq);
            let residual = &whole * &solved - &columns;
            assert!(residual.norm_max() < 1e-10, "{order}: {}", residual.norm_max());
            // |L⁻¹ x|² = xᵀ (L Lᵀ)⁻¹ x.
            let mut forward = columns.clone();
            factor.forward(forward.as_mut(), Par::rayon(0));
            for j in 0..7 {
                let squared: f64 = forward.col(j).iter().map(|z| z * z).sum();
                let product: f64 = columns.col(j).iter().zip(solved.col(j).iter()).map(|(x, s)| x * s).sum();
                assert!((squared - product).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn products_of_rows_are_those_of_the_whole_matrix() {
        let value = |i: usize, j: usize| ((i * 7 + j * 3) as f64 * 0.37).sin() as f32;
        let rows: Vec<Vec<f32>> = (0..150).map(|i| (0..37).map(|j| value(i, j)).collect()).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let found = PackedLowerTriangle::of_rows(&rows).whole();
        let wide = Mat::from_fn(150, 37, |i, j| f64::from(value(i, j)));
        let expected = &wide * wide.transpose();
        for j in 0..150 {
            for i in j..150 {
                assert!((found[(i, j)] - expected[(i, j)]).abs() < 1e-6, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_no_factor() {
        assert!(PackedLowerTriangle::<f64>::zeros(3).factor(0.0).is_none());
        assert!(PackedLowerTriangle::<f64>::zeros(3).factor(1.0).is_some());
    }
}
