//! A map of the features: images of similar features stand side by side.
//!
//! Two maps are drawn: the first two principal components, which keep the large distances, and t-SNE of the first fifty,
//! which keeps neighbours together (L. van der Maaten, G. Hinton: "Visualizing data using t-SNE", JMLR 9, 2008;
//! Barnes-Hut approximation: L. van der Maaten, JMLR 15, 2014).

use linfa::traits::Transformer;
use linfa_tsne::TSneParams;
use ndarray::{Array2, ArrayView2, Axis};
use rand::{SeedableRng, seq::SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use crate::head::{Pca, Standardizer};

/// Images on the map: more make neither a readable map nor a small file.
pub const MOST_MAPPED: usize = 2000;
/// Principal components that t-SNE looks at.
const COMPONENTS: usize = 50;
/// About how many neighbours t-SNE keeps together.
const PERPLEXITY: f64 = 30.0;
/// Neighbours by features whose class is compared with an image's own.
const NEIGHBOURS: usize = 5;

/// Where each image stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimilarityMap {
    /// Rows that are on the map, in order.
    pub rows: Vec<usize>,
    /// First two principal components of each.
    pub pca: Vec<[f64; 2]>,
    /// Share of the variance that each of these two explains.
    pub explained: [f64; 2],
    /// t-SNE coordinates of each, between -1 and 1; `None` for fewer than 16 images.
    pub tsne: Option<Vec<[f64; 2]>>,
    /// For each class the mean share of its images' five nearest neighbours (in the space of the first fifty components) that are of the class
    /// itself; `None` for a class that is not on the map.
    pub own_neighbours: Vec<Option<f64>>,
}

impl SimilarityMap {
    /// Maps the finite `features` (n x d), standardised column by column, or [`MOST_MAPPED`] random rows of them. The same
    /// features give the same map. `None` where there are fewer than three rows or the features do not vary.
    pub fn draw(features: ArrayView2<'_, f32>, labels: &[usize], classes: usize) -> Option<Self> {
        let mut rows: Vec<usize> = (0..features.nrows()).collect();
        if rows.len() > MOST_MAPPED {
            rows.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(0));
            rows.truncate(MOST_MAPPED);
            rows.sort_unstable();
        }
        if rows.len() < 3 {
            return None;
        }
        let chosen = features.select(Axis(0), &rows);
        let everything: Vec<usize> = (0..rows.len()).collect();
        let standardized = Standardizer::fit(chosen.view(), &everything).transform(chosen.view());
        let (components, shares) = principal_components(standardized.view())?;
        let share = |component: usize| shares.get(component).copied().unwrap_or(0.0);
        let coordinate =
            |row: usize, component: usize| components.get([row, component]).copied().unwrap_or(0.0);
        let labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        Some(Self {
            pca: everything.iter().map(|&row| [coordinate(row, 0), coordinate(row, 1)]).collect(),
            explained: [share(0), share(1)],
            own_neighbours: own_neighbours(&components, &labels, classes),
            tsne: tsne(components),
            rows,
        })
    }
}

/// Scores of the rows of `data` (n x d, each column of mean 0) on the first [`COMPONENTS`] principal components (fewer
/// where there are no more), and the share of the variance that each explains. `None` without variance.
fn principal_components(data: ArrayView2<'_, f32>) -> Option<(Array2<f64>, Vec<f64>)> {
    let (rows, columns) = data.dim();
    let most = COMPONENTS.min(columns).min(rows - 1);
    let pca = Pca::fit((rows, columns), |row, column| f64::from(data[[row, column]]), most).ok()?;
    let shares = pca.variances().iter().map(|variance| variance / pca.total_variance()).collect();
    (pca.total_variance() > 0.0).then(|| (data.dot(&pca.components().t()).mapv(f64::from), shares))
}

/// t-SNE of the principal components, scaled to -1 … 1.
fn tsne(components: Array2<f64>) -> Option<Vec<[f64; 2]>> {
    /// Fewer images make no map that says more than their principal components.
    const FEWEST: usize = 16;
    let (rows, columns) = components.dim();
    if rows < FEWEST || columns < 2 {
        return None;
    }
    let perplexity = PERPLEXITY.min((rows - 1) as f64 / 3.0 - 0.01);
    // The parameters are within their ranges, so this cannot fail; if it does, the principal components remain.
    let embedding =
        TSneParams::embedding_size(2).perplexity(perplexity).max_iter(1000).transform(components).ok()?;
    let largest = embedding.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let sound = embedding.iter().all(|x| x.is_finite()) && largest > 0.0;
    sound.then(|| embedding.rows().into_iter().map(|row| [row[0] / largest, row[1] / largest]).collect())
}

/// See [`SimilarityMap::own_neighbours`].
fn own_neighbours(components: &Array2<f64>, labels: &[usize], classes: usize) -> Vec<Option<f64>> {
    let rows = components.nrows();
    let most = NEIGHBOURS.min(rows - 1);
    let squares: Vec<f64> = components.rows().into_iter().map(|row| row.dot(&row)).collect();
    let mut sums = vec![(0usize, 0usize); classes];
    for row in 0..rows {
        let products = components.dot(&components.row(row));
        let mut others: Vec<(f64, usize)> = (0..rows)
            .filter(|&other| other != row)
            .map(|other| (squares[other] - 2.0 * products[other], other))
            .collect();
        others.select_nth_unstable_by(most - 1, |a, b| a.0.total_cmp(&b.0));
        let own = others[..most].iter().filter(|(_, other)| labels[*other] == labels[row]).count();
        sums[labels[row]].0 += own;
        sums[labels[row]].1 += most;
    }
    sums.into_iter().map(|(own, all)| (all > 0).then(|| own as f64 / all as f64)).collect()
}
