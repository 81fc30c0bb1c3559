//! Principal components of streamed rows: one for the training rows of each fold, and those of all rows.
//!
//! A first pass finds how the columns are to be standardised for each problem (a fold's training rows, or all rows). A second one
//! adds up the products of the columns, `Σ z zᵀ`, in float64 and for each fold by itself, so that those of every problem follow
//! by subtraction; what a problem's own mean and deviation change about them is done to the sums. So the components are exact,
//! as in memory. Where the columns are so many that their products are too large, the components are found by subspace
//! iteration (N. Halko, P. G. Martinsson, J. A. Tropp: "Finding structure with randomness", SIAM Review 53, 2011, algorithm
//! 4.4, repeated until the variances stand), which takes several passes.

use faer::{Accum, Mat, Par, Side, linalg::matmul::matmul};
use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{StreamedRows, first_pass::FirstPass};
use crate::{
    LONGEST_PCA_SIDE, Pca, Preparation, PreparationSteps, SolverError, Standardizer,
    fold_scaling::FoldScaling, packed_lower_triangle::PackedLowerTriangle, prepare::inverse_length,
    row_source::scan,
};

/// Most bytes of the features that are read at a time.
const BLOCK_BYTES: usize = 16 << 20;
/// Directions that subspace iteration follows beside those that are asked for.
const MORE_DIRECTIONS: usize = 16;
/// Share of the first variance by which another one still may change when the iteration ends.
const SETTLED: f64 = 1e-12;
/// Passes after which the iteration ends in any case.
const MOST_PASSES: usize = 60;

/// How rows are prepared that are projected on their principal components.
#[derive(Debug, Clone, Copy)]
pub struct ProjectionSettings {
    /// Whether each row is divided by its Euclidean length first.
    pub l2_normalize: bool,
    /// Whether each column is then brought to deviation 1; its mean becomes 0 in any case.
    pub standardize: bool,
    /// Number of principal components.
    pub components: usize,
    /// Seed of the directions that subspace iteration begins with.
    pub seed: u64,
    /// Bytes that may be used.
    pub max_memory: usize,
    /// Bytes that the caller keeps of each row, which count as used.
    pub kept_of_row: usize,
}

impl ProjectionSettings {
    /// The settings for the steps of a preparation; `None` where it has no components.
    pub fn of(steps: PreparationSteps, seed: u64, max_memory: usize, kept_of_row: usize) -> Option<Self> {
        let PreparationSteps { l2_normalize, standardize, pca } = steps;
        pca.map(|components| Self { l2_normalize, standardize, components, seed, max_memory, kept_of_row })
    }
}

/// What was learned from streamed rows about their preparation.
pub struct StreamedProjection<'a> {
    rows: StreamedRows<'a>,
    /// Of the training rows of each fold, then of all rows.
    preparations: Vec<Preparation>,
    constant_columns: usize,
    /// Whether all components are as exact as they get.
    settled: bool,
    block: usize,
}

/// How the memory is divided.
struct ProjectionPlan {
    block: usize,
    /// Whether there is room for the products of all columns.
    exact: bool,
}

impl ProjectionPlan {
    fn new(data: &StreamedRows<'_>, settings: &ProjectionSettings) -> Result<Self, SolverError> {
        let (rows, columns, bound) = (data.source.rows(), data.source.columns(), settings.max_memory);
        let problems = data.fold_count + 1;
        let of_row = 4 * columns;
        let block = (BLOCK_BYTES.min(bound / 32) / of_row.max(1)).clamp(1, rows.max(1));
        // Two blocks, and one in float64, twice.
        let reading = 6 * block * of_row;
        let always = rows.saturating_mul(settings.kept_of_row)
            + problems * (of_row * settings.components + 24 * columns);
        // Sums of each fold and of one problem, which becomes a whole matrix with its eigenvectors.
        let exact =
            (data.fold_count + 1) * PackedLowerTriangle::<f64>::bytes(columns) + 4 * 8 * columns * columns;
        // Directions of each problem, and their products.
        let directions = settings.components + MORE_DIRECTIONS;
        let iterated = (problems + 1) * 2 * 8 * columns * directions;
        // Afterwards the components of each row, and a good half of that for the solver.
        let projected = rows.saturating_mul(6 * settings.components);
        let least = always + reading + projected.max(iterated.min(exact));
        if least > bound {
            return Err(SolverError::TooLittleMemory { needed: (least >> 20) + 1, bound: bound >> 20 });
        }
        let fits = columns <= LONGEST_PCA_SIDE && always + reading + exact <= bound;
        Ok(Self { block, exact: fits || iterated >= exact })
    }
}

impl<'a> StreamedProjection<'a> {
    /// Learns the preparation of every problem.
    ///
    /// # Errors
    /// [`SolverError::NoRows`], [`SolverError::Mismatch`], [`SolverError::TooManyComponents`], [`SolverError::TooLittleMemory`],
    /// [`SolverError::NotFinite`], [`SolverError::Read`].
    pub fn new(rows: StreamedRows<'a>, settings: &ProjectionSettings) -> Result<Self, SolverError> {
        let count = rows.source.rows();
        if count == 0 {
            return Err(SolverError::NoRows);
        }
        SolverError::check_equal("labels", count, rows.labels.len())?;
        SolverError::check_equal("folds", count, rows.folds.len())?;
        let plan = ProjectionPlan::new(&rows, settings)?;
        Self::with_plan(rows, settings, &plan)
    }

    fn with_plan(
        rows: StreamedRows<'a>,
        settings: &ProjectionSettings,
        plan: &ProjectionPlan,
    ) -> Result<Self, SolverError> {
        let mut sizes = vec![0; rows.fold_count];
        rows.folds.iter().for_each(|&fold| sizes[fold] += 1);
        let (count, columns) = (rows.source.rows(), rows.source.columns());
        let counts: Vec<usize> = sizes.iter().map(|size| count - size).chain([count]).collect();
        for &rows in &counts {
            let most = columns.min(rows.saturating_sub(1));
            let asked = settings.components;
            if asked == 0 || asked > most {
                return Err(SolverError::TooManyComponents { asked, rows, columns, most });
            }
        }
        let first = FirstPass::new(&rows, (plan.block, 0), settings.seed, settings.l2_normalize)?;
        let problems = || (0..rows.fold_count).map(Some).chain([None]);
        let standardizers: Vec<Standardizer> = problems()
            .map(|fold| first.standardizer(fold, true))
            .map(|learned| if settings.standardize { learned } else { learned.centring() })
            .collect();
        let everything = &standardizers[rows.fold_count];
        let constant_columns = everything.constant().iter().filter(|&&constant| constant).count();
        let problem = |fold: Option<usize>, own: &Standardizer, rows: usize| Problem {
            fold,
            rows,
            scaling: FoldScaling::new(everything, own),
            // Population variances of the columns as the problem sees them.
            variance: first.scaled_variance(fold, own),
        };
        let described: Vec<Problem> = problems()
            .zip(&standardizers)
            .zip(&counts)
            .map(|((fold, own), &rows)| problem(fold, own, rows))
            .collect();
        let pass = Pass { rows: &rows, block: plan.block, everything, l2_normalize: settings.l2_normalize };
        let (found, settled) = match plan.exact {
            true => (pass.components(&described, settings.components)?, true),
            false => pass.iterated(&described, settings.components, settings.seed)?,
        };
        let preparations = standardizers.iter().cloned().zip(found).map(|(standardizer, pca)| {
            Preparation::from_parts(settings.l2_normalize, standardizer, Some(pca))
                .expect("the components are of these columns")
        });
        Ok(Self { preparations: preparations.collect(), rows, constant_columns, settled, block: plan.block })
    }

    /// Number of columns that are the same for all rows.
    pub fn constant_columns(&self) -> usize {
        self.constant_columns
    }

    /// Whether the components are exact; if not, subspace iteration ended before they stood still.
    pub fn is_exact(&self) -> bool {
        self.settled
    }

    /// What is done to features before the model of a fold sees them, which was learned from its training rows; or before that of
    /// all rows does.
    ///
    /// # Panics
    /// There is no such fold.
    pub fn preparation(&self, fold: Option<usize>) -> &Preparation {
        &self.preparations[fold.unwrap_or(self.rows.fold_count)]
    }

    /// Prepares all rows as a problem sees them, into `out` (n x components).
    ///
    /// # Errors
    /// [`SolverError::Read`].
    ///
    /// # Panics
    /// There is no such fold, or `out` has another shape.
    pub fn prepare(&self, fold: Option<usize>, out: &mut Array2<f32>) -> Result<(), SolverError> {
        let preparation = self.preparation(fold);
        let (columns, components) = (preparation.columns(), preparation.prepared_columns());
        assert_eq!(out.dim(), (self.rows.source.rows(), components), "there is a row for each row");
        let out = out.as_slice_mut().expect("an array that was made in standard layout is contiguous");
        scan(self.rows.source, self.block, |first, block| {
            let rows = block.len() / columns;
            preparation.apply(block, &mut out[first * components..(first + rows) * components]);
            Ok(())
        })
    }
}

/// Rows whose components are wanted.
struct Problem {
    /// The fold whose rows are left out.
    fold: Option<usize>,
    /// Number of rows.
    rows: usize,
    /// How the problem sees values that are standardised by all rows.
    scaling: FoldScaling,
    /// Sum of the variances of all columns.
    variance: f64,
}

/// Passes over the rows.
struct Pass<'a> {
    rows: &'a StreamedRows<'a>,
    block: usize,
    everything: &'a Standardizer,
    l2_normalize: bool,
}

impl Pass<'_> {
    /// Hands on the rows block by block: the first, and all as columns, standardised by all rows.
    fn each(&self, mut visit: impl FnMut(usize, &Mat<f64>)) -> Result<(), SolverError> {
        let columns = self.rows.source.columns();
        let mut standardized = Mat::<f64>::zeros(columns, 0);
        scan(self.rows.source, self.block, |first, block| {
            let view = ArrayView2::from_shape((block.len() / columns, columns), &*block)
                .expect("whole rows are read");
            if standardized.ncols() != view.nrows() {
                standardized = Mat::zeros(columns, view.nrows());
            }
            for (i, row) in view.rows().into_iter().enumerate() {
                let factor = if self.l2_normalize { inverse_length(row.iter()) } else { 1.0 };
                let values = standardized.col_as_slice_mut(i).iter_mut().zip(row).enumerate();
                values.for_each(|(j, (z, &x))| *z = self.everything.value(j, factor * f64::from(x)));
            }
            visit(first, &standardized);
            Ok(())
        })
    }

    /// The rows of a block that are of a fold, or of all but one.
    fn selected(&self, first: usize, block: &Mat<f64>, wanted: impl Fn(usize) -> bool) -> Mat<f64> {
        let own: Vec<usize> = (0..block.ncols()).filter(|&i| wanted(self.rows.folds[first + i])).collect();
        let mut selected = Mat::zeros(block.nrows(), own.len());
        for (to, from) in own.into_iter().enumerate() {
            selected.col_as_slice_mut(to).copy_from_slice(block.col_as_slice(from));
        }
        selected
    }

    /// The components by the products of the columns.
    fn components(&self, problems: &[Problem], components: usize) -> Result<Vec<Pca>, SolverError> {
        let columns = self.rows.source.columns();
        let mut of_folds = vec![PackedLowerTriangle::<f64>::zeros(columns); self.rows.fold_count];
        self.each(|first, block| {
            for (fold, products) in of_folds.iter_mut().enumerate() {
                let own = self.selected(first, block, |of_row| of_row == fold);
                if own.ncols() > 0 {
                    products.add_products(1.0, own.as_ref());
                }
            }
        })?;
        let found = problems.iter().map(|problem| {
            let mut products = PackedLowerTriangle::<f64>::zeros(columns);
            let others = of_folds.iter().enumerate().filter(|&(fold, _)| Some(fold) != problem.fold);
            others.for_each(|(_, of_fold)| products.add(1.0, of_fold));
            let FoldScaling { shift, factor } = &problem.scaling;
            let rows = problem.rows as f64;
            products
                .change(|i, j, value| *value = factor[i] * factor[j] * (*value - rows * shift[i] * shift[j]));
            Pca::of_products(products, problem.rows, components)
        });
        Ok(found.collect())
    }

    /// The components by subspace iteration, and whether it came to an end.
    fn iterated(
        &self,
        problems: &[Problem],
        components: usize,
        seed: u64,
    ) -> Result<(Vec<Pca>, bool), SolverError> {
        let columns = self.rows.source.columns();
        let most = problems.iter().map(|problem| problem.rows - 1).min().unwrap_or(0).min(columns);
        let directions = (components + MORE_DIRECTIONS).min(most);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut subspaces: Vec<Subspace> = problems
            .iter()
            .map(|_| Subspace::new(Mat::from_fn(columns, directions, |_, _| rng.random_range(-1.0..1.0))))
            .collect();
        for _ in 0..MOST_PASSES {
            let mut products: Vec<Mat<f64>> = vec![Mat::zeros(columns, directions); problems.len()];
            self.each(|first, block| {
                for ((problem, subspace), products) in problems.iter().zip(&subspaces).zip(&mut products) {
                    if subspace.settled {
                        continue;
                    }
                    let mut own = self.selected(first, block, |of_row| Some(of_row) != problem.fold);
                    let FoldScaling { shift, factor } = &problem.scaling;
                    for i in 0..own.ncols() {
                        let values = own.col_as_slice_mut(i).iter_mut().enumerate();
                        values.for_each(|(j, z)| *z = factor[j] * (*z - shift[j]));
                    }
                    let mut scores = Mat::zeros(own.ncols(), directions);
                    let par = Par::rayon(0);
                    matmul(
                        scores.as_mut(),
                        Accum::Replace,
                        own.transpose(),
                        subspace.basis.as_ref(),
                        1.0,
                        par,
                    );
                    matmul(products.as_mut(), Accum::Add, own.as_ref(), scores.as_ref(), 1.0, par);
                }
            })?;
            for (subspace, products) in subspaces.iter_mut().zip(products) {
                if !subspace.settled {
                    subspace.follow(products, components);
                }
            }
            if subspaces.iter().all(|subspace| subspace.settled) {
                break;
            }
        }
        let pca = |(subspace, problem): (Subspace, &Problem)| {
            let total = problem.variance * problem.rows as f64;
            Pca::of_vectors(&subspace.vectors, &subspace.values, total, problem.rows)
        };
        let settled = subspaces.iter().all(|subspace| subspace.settled);
        Ok((subspaces.into_iter().zip(problems).map(pca).collect(), settled))
    }
}

/// The directions that are followed for a problem.
struct Subspace {
    /// D x l, orthonormal.
    basis: Mat<f64>,
    /// The best approximations so far: D x components, and what is scattered along each.
    vectors: Mat<f64>,
    values: Vec<f64>,
    settled: bool,
}

impl Subspace {
    fn new(start: Mat<f64>) -> Self {
        let basis = orthonormal(&start);
        Self { basis, vectors: Mat::zeros(0, 0), values: Vec::new(), settled: false }
    }

    /// Goes on with the products of the matrix and the basis.
    fn follow(&mut self, products: Mat<f64>, components: usize) {
        let within = self.basis.transpose() * &products;
        let symmetric =
            Mat::from_fn(within.nrows(), within.ncols(), |i, j| 0.5 * (within[(i, j)] + within[(j, i)]));
        let eigen = symmetric
            .self_adjoint_eigen(Side::Lower)
            .expect("a symmetric matrix of finite values has eigenvectors");
        let order = symmetric.nrows();
        // Eigenvalues rise.
        let values: Vec<f64> =
            (0..components).map(|at| eigen.S().column_vector()[order - 1 - at].max(0.0)).collect();
        let chosen = Mat::from_fn(order, components, |i, at| eigen.U()[(i, order - 1 - at)]);
        self.vectors = &self.basis * chosen;
        let first = values.first().copied().unwrap_or(0.0);
        let change = |(new, old): (&f64, &f64)| (new - old).abs() <= SETTLED * first;
        self.settled = self.values.len() == values.len() && values.iter().zip(&self.values).all(change);
        self.values = values;
        if !self.settled {
            self.basis = orthonormal(&products);
        }
    }
}

/// An orthonormal basis of the columns.
fn orthonormal(columns: &Mat<f64>) -> Mat<f64> {
    columns.qr().compute_thin_Q()
}

#[cfg(test)]
mod tests;
