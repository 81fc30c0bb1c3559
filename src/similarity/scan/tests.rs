use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;

fn keep_all(_: usize, _: usize) -> bool {
    false
}

/// The nearest rows by comparing all of them in float64, with no shortcut.
fn brute_force(
    rows: &Array2<f32>,
    query: usize,
    queries: &Array2<f32>,
    k: usize,
    metric: Metric,
) -> Vec<(usize, f64)> {
    let query: Vec<f64> = queries.row(query).iter().map(|&x| f64::from(x)).collect();
    let mut all: Vec<(usize, f64)> = rows
        .rows()
        .into_iter()
        .map(|row| {
            let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            let sum =
                |term: fn(f64, f64) -> f64| row.iter().zip(&query).map(|(&a, &b)| term(a, b)).sum::<f64>();
            match metric {
                Metric::Euclidean => sum(|a, b| (a - b) * (a - b)).sqrt(),
                Metric::Cosine => {
                    1.0 - sum(|a, b| a * b) / (sum(|a, _| a * a).sqrt() * sum(|_, b| b * b).sqrt())
                }
            }
        })
        .enumerate()
        .collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

fn search(rows: &Array2<f32>, queries: &Array2<f32>, k: usize, metric: Metric) -> Vec<Vec<Neighbor>> {
    let width = rows.ncols();
    let queries = PreparedQueries::new(queries.view(), metric).unwrap();
    let mut best = vec![NearestRows::new(k); queries.len()];
    // In uneven parts, as a file's end has them.
    for (part, values) in rows.as_slice().unwrap().chunks(7 * width).enumerate() {
        queries.scan(values, part * 7, &mut best, &keep_all).unwrap();
    }
    best.into_iter().map(|best| best.into_neighbors(metric)).collect()
}

fn features(rows: usize, width: usize, seed: u64, scale: f32, offset: f32) -> Array2<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    Array2::from_shape_fn((rows, width), |_| offset + scale * rng.random_range(0.0..1.0f32).powi(3))
}

#[test]
fn the_nearest_are_those_of_a_comparison_with_every_row() {
    // Features that are nearly parallel, tiny and huge ones: the bound must never dismiss what float64 would keep.
    for (scale, offset) in [(1.0, 0.0), (1.0, 1000.0), (1e-30, 0.0), (1e30, 0.0), (1e-38, 0.0)] {
        let (rows, queries) = (features(200, 37, 1, scale, offset), features(5, 37, 2, scale, offset));
        for metric in [Metric::Cosine, Metric::Euclidean] {
            let found = search(&rows, &queries, 9, metric);
            for (query, found) in found.iter().enumerate() {
                let expected = brute_force(&rows, query, &queries, 9, metric);
                assert_eq!(found.len(), 9);
                let farthest = expected[8].1;
                for (found, (row, distance)) in found.iter().zip(expected) {
                    assert!(
                        (found.distance - distance).abs() <= 1e-9 * farthest + 1e-15,
                        "{metric} {scale}: {found:?}, not row {row} at {distance}"
                    );
                    assert_eq!(found.row, row, "{metric} {scale} {offset}: {found:?} at {distance}");
                }
            }
        }
    }
}

#[test]
fn of_equally_near_rows_the_earlier_is_the_nearer() {
    let mut rows = Array2::from_elem((40, 8), 1.0);
    rows.row_mut(3).fill(2.0);
    rows.row_mut(30).fill(2.0);
    let query = Array2::from_elem((1, 8), 2.0);
    let rows_of = |metric, k| -> Vec<usize> {
        search(&rows, &query, k, metric)[0].iter().map(|neighbor| neighbor.row).collect()
    };
    assert_eq!(rows_of(Metric::Euclidean, 4), [3, 30, 0, 1]);
    assert_eq!(rows_of(Metric::Cosine, 4), [0, 1, 2, 3], "they all point the same way");
    let found = search(&rows, &query, 50, Metric::Euclidean);
    assert_eq!(found[0].len(), 40);
    assert_eq!(found[0][0].distance, 0.0);
    assert_eq!(found[0][39].distance, 8f64.sqrt());
}

#[test]
fn features_without_direction_are_at_cosine_distance_one() {
    let rows = Array2::from_shape_vec((3, 2), vec![0.0, 0.0, 1.0, 1.0, -1.0, 0.0]).unwrap();
    let found =
        search(&rows, &Array2::from_shape_vec((2, 2), vec![1.0, 0.0, 0.0, 0.0]).unwrap(), 3, Metric::Cosine);
    let ranked = |query: usize| -> Vec<(usize, f64)> {
        found[query].iter().map(|neighbor| (neighbor.row, neighbor.distance)).collect()
    };
    assert_eq!(ranked(0)[1..], [(0, 1.0), (2, 2.0)]);
    assert_eq!(ranked(0)[0].0, 1);
    assert_eq!(ranked(1), [(0, 1.0), (1, 1.0), (2, 1.0)]);
}

#[test]
fn values_that_are_not_finite_are_named() {
    let mut rows = features(10, 4, 1, 1.0, 0.0);
    rows[[6, 2]] = f32::NAN;
    let queries = features(1, 4, 2, 1.0, 0.0);
    let prepared = PreparedQueries::new(queries.view(), Metric::Cosine).unwrap();
    let refused =
        prepared.scan(rows.as_slice().unwrap(), 100, &mut [NearestRows::new(1)], &keep_all).unwrap_err();
    assert!(refused.0 == 106 && refused.1.is_nan(), "{refused:?}");
    assert_eq!(PreparedQueries::new(rows.view(), Metric::Cosine).map(|_| ()).unwrap_err().0, 6);
}
