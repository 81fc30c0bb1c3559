//! A symmetric positive definite matrix of which only the lower triangle is stored, in panels of columns: half the memory
//! of the whole, products of half the cost, and a Cholesky factor that takes its place.

use faer::{
    Accum, Mat, MatMut, MatRef, Par, Side,
    linalg::{
        matmul::matmul,
        triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place},
    },
    traits::RealField,
};

/// Columns of a panel.
const WIDTH: usize = 256;

/// The lower triangle: panel p holds columns `WIDTH p ..` from the diagonal down. What lies above the diagonal within a
/// panel's first rows is symmetric too, but never read.
#[derive(Debug, Clone)]
pub(super) struct Panels<T> {
    order: usize,
    panels: Vec<Mat<T>>,
}

impl<T: RealField + Copy> Panels<T> {
    pub fn zeros(order: usize) -> Self {
        let panel = |from: usize| Mat::zeros(order - from, WIDTH.min(order - from));
        Self { order, panels: (0..order).step_by(WIDTH).map(panel).collect() }
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
        size_of::<T>() * order * (order + WIDTH) / 2
    }

    /// Adds `factor · columns · columnsᵀ`.
    pub fn add_products(&mut self, factor: T, columns: MatRef<'_, T>) {
        for (from, panel) in (0..self.order).step_by(WIDTH).zip(&mut self.panels) {
            let width = panel.ncols();
            let below = columns.subrows(from, self.order - from);
            let own = columns.subrows(from, width);
            matmul(panel.as_mut(), Accum::Add, below, own.transpose(), factor, Par::rayon(0));
        }
    }

    /// The diagonal.
    pub fn diagonal(&self) -> impl Iterator<Item = T> {
        self.panels.iter().flat_map(|panel| (0..panel.ncols()).map(|j| panel[(j, j)]))
    }

    /// Calls `change` with row, column and value of each stored element.
    pub fn change(&mut self, change: impl Fn(usize, usize, &mut T)) {
        for (from, panel) in (0..self.order).step_by(WIDTH).zip(&mut self.panels) {
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
        for (from, panel) in (0..self.order).step_by(WIDTH).zip(&self.panels) {
            for j in 0..panel.ncols() {
                whole.col_as_slice_mut(from + j)[from + j..].copy_from_slice(&panel.col_as_slice(j)[j..]);
            }
        }
        whole
    }

    /// The Cholesky factor of this matrix plus `ridge` times the identity; `None` where rounding leaves it without one.
    pub fn factor(mut self, ridge: T) -> Option<Factor<T>> {
        self.change(|i, j, value| {
            if i == j {
                *value += ridge;
            }
        });
        for p in 0..self.panels.len() {
            let (done, rest) = self.panels.split_at_mut(p + 1);
            let panel = &mut done[p];
            let width = panel.ncols();
            let factor = panel.subrows(0, width).llt(Side::Lower).ok()?;
            for j in 0..width {
                let column = &mut panel.col_as_slice_mut(j)[..width];
                column.iter_mut().enumerate().for_each(|(i, value)| {
                    *value = if i < j { T::zero_impl() } else { factor.L()[(i, j)] };
                });
            }
            let (diagonal, mut below) = panel.split_at_row_mut(width);
            solve_lower_triangular_in_place(diagonal.as_ref(), below.as_mut().transpose_mut(), Par::rayon(0));
            let below = below.as_ref();
            let mut from = 0;
            for later in rest {
                let (rows, columns) = (later.nrows(), later.ncols());
                let (left, own) = (below.subrows(from, rows), below.subrows(from, columns));
                matmul(later.as_mut(), Accum::Add, left, own.transpose(), -T::one_impl(), Par::rayon(0));
                from += columns;
            }
        }
        Some(Factor(self))
    }
}

/// L of `L Lᵀ`.
#[derive(Debug)]
pub(super) struct Factor<T>(Panels<T>);

impl<T: RealField + Copy> Factor<T> {
    /// The panels, to be used for another matrix.
    pub fn into_panels(self) -> Panels<T> {
        self.0
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
        let mut from = self.0.order;
        for panel in self.0.panels.iter().rev() {
            let width = panel.ncols();
            from -= width;
            let (_, rest) = columns.as_mut().split_at_row_mut(from);
            let (mut own, below) = rest.split_at_row_mut(width);
            let left = panel.subrows(width, panel.nrows() - width);
            matmul(own.as_mut(), Accum::Add, left.transpose(), below.as_ref(), -T::one_impl(), par);
            solve_upper_triangular_in_place(panel.subrows(0, width).transpose(), own, par);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_factor_and_solutions_are_those_of_the_whole_matrix() {
        for order in [1, 5, WIDTH, 2 * WIDTH + 30] {
            let columns = Mat::from_fn(order, 7, |i, j| ((i * 31 + j * 17) as f64 * 0.61).sin());
            let mut panels = Panels::<f64>::zeros(order);
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
    fn a_matrix_that_is_not_positive_definite_has_no_factor() {
        assert!(Panels::<f64>::zeros(3).factor(0.0).is_none());
        assert!(Panels::<f64>::zeros(3).factor(1.0).is_some());
    }
}
