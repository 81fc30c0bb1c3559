//! Class activation maps: the score of a linear head as a sum over the places of the map that its features come from.
//!
//! B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba: "Learning Deep Features for Discriminative Localization"
//! (CVPR 2016), for the global average: a feature is the mean of its channel, so the score `Σ v (mean A - m) + b` is the
//! sum over places p of `Σ v (A_p - m) / P`, and `b` is left. Each feature's own mean m is thus spread over the places that
//! it is pooled from, so that 0 stands for the average training image. The other poolings split alike: a maximum belongs
//! to the places that reach it, a grid's mean to its cell, a whole map's feature to its own place. A generalised mean is
//! homogeneous of degree 1, so by Euler's theorem it is the sum of its activations times its slopes, which are its parts.

use std::ops::Range;

use ndarray::Array2;

use crate::head::HeadModel;
use crate::network::pool::{GEM_EXPONENT, GEM_LEAST, cell_range};
use crate::network::{Activations, Pooling};

/// One class of a linear head in terms of an image's own features: `score = Σ weights (features - means) + bias`.
pub(super) struct LinearTerms {
    weights: Vec<f64>,
    means: Vec<f64>,
    pub(super) bias: f64,
}

impl LinearTerms {
    /// Of an image with these features: only its length depends on them, for a head that brings rows to length 1.
    pub(super) fn of(head: &HeadModel, class: usize, features: &[f32]) -> LinearTerms {
        let scaler = head.preparation.standardizer();
        let factor = head.preparation.row_factor(features);
        let row = head.preparation.unprojected(head.weights.row(class));
        let weights = row.iter().zip(scaler.scale()).zip(scaler.constant());
        // The standardizer makes constant columns 0.
        let weight = |((&weight, &scale), &constant): ((&f64, &f64), &bool)| {
            if constant { 0.0 } else { factor * weight / scale }
        };
        LinearTerms {
            weights: weights.map(weight).collect(),
            means: scaler.mean().iter().map(|mean| mean / factor).collect(),
            bias: head.bias[class],
        }
    }
}

/// What each place of an image's activations adds to the score, rows x columns, and what belongs to no place: the bias, and of
/// tokens those that are no patches. Together they are the score. None for activations that have no places, such as a class
/// token's.
pub(super) fn explained(
    terms: &LinearTerms,
    values: &[f32],
    activations: &Activations,
    pooling: Pooling,
) -> Option<(Array2<f64>, f64)> {
    let (tokens, width) = match (&activations.tokens, &activations.shape[..]) {
        (None, &[channels, height, width]) => {
            return Some((contributions(terms, values, [channels, height, width], pooling), terms.bias));
        }
        (Some(tokens), &[_, width]) => (tokens, width),
        _ => return None,
    };
    let of_features = |features: Range<usize>| -> f64 {
        features
            .map(|feature| terms.weights[feature] * (f64::from(values[feature]) - terms.means[feature]))
            .sum()
    };
    // The terms of the patches, in the order in which `contributions` has them, and how these are pooled.
    let (order, on_map, elsewhere): (Vec<usize>, _, f64) = match pooling {
        Pooling::ClassToken => return None,
        Pooling::None | Pooling::Flatten => {
            let places = tokens.grid[0] * tokens.grid[1];
            let feature = |at: usize| (tokens.prefix + at % places) * width + at / places;
            ((0..places * width).map(feature).collect(), Pooling::None, of_features(0..tokens.prefix * width))
        }
        Pooling::ClassTokenAndMean => ((width..2 * width).collect(), Pooling::Average, of_features(0..width)),
        Pooling::PatchMean => ((0..width).collect(), Pooling::Average, 0.0),
        pooling => ((0..terms.weights.len()).collect(), pooling, 0.0),
    };
    let of_patches = LinearTerms {
        weights: order.iter().map(|&feature| terms.weights[feature]).collect(),
        means: order.iter().map(|&feature| terms.means[feature]).collect(),
        bias: terms.bias,
    };
    let map = contributions(&of_patches, &tokens.map(values, width), tokens.map_shape(width), on_map);
    Some((map, terms.bias + elsewhere))
}

/// Whether activations under `pooling` have places, so that there is something that [`explained`] explains.
pub(super) fn has_places(activations: &Activations, pooling: Pooling) -> bool {
    activations.places().is_some() && pooling != Pooling::ClassToken
}

/// What each place of the map, C x H x W, adds to the score: H x W. With the bias, their sum is the score.
fn contributions(
    terms: &LinearTerms,
    map: &[f32],
    [channels, height, width]: [usize; 3],
    pooling: Pooling,
) -> Array2<f64> {
    let places = height * width;
    let mut total = vec![0.0; places];
    for channel in 0..channels {
        let map = &map[channel * places..][..places];
        match pooling {
            Pooling::None | Pooling::Flatten | Pooling::ClassToken | Pooling::ClassTokenAndMean => {
                for (place, (total, &value)) in total.iter_mut().zip(map).enumerate() {
                    let (weight, mean) = terms.at(channel * places + place);
                    *total += weight * (f64::from(value) - mean);
                }
            }
            Pooling::Average | Pooling::PatchMean => {
                let (weight, mean) = terms.at(channel);
                let share = weight / places as f64;
                total
                    .iter_mut()
                    .zip(map)
                    .for_each(|(total, &value)| *total += share * (f64::from(value) - mean));
            }
            Pooling::Max => {
                let (weight, mean) = terms.at(channel);
                let maximum = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let winners = map.iter().filter(|&&value| value == maximum).count();
                let share = weight * (f64::from(maximum) - mean) / winners.max(1) as f64;
                let places = total.iter_mut().zip(map).filter(|(_, value)| **value == maximum);
                places.for_each(|(total, _)| *total += share);
            }
            Pooling::Gem => {
                let (weight, mean) = terms.at(channel);
                let powers = map.iter().map(|&value| f64::from(value.max(GEM_LEAST)).powf(GEM_EXPONENT));
                let sum: f64 = powers.clone().sum();
                let feature = (sum / places as f64).powf(1.0 / GEM_EXPONENT);
                let spread = mean / places as f64;
                total.iter_mut().zip(powers).for_each(|(total, power)| {
                    *total += weight * (feature * power / sum - spread);
                });
            }
            Pooling::Grid(k) => {
                for (row, column) in (0..k * k).map(|cell| (cell / k, cell % k)) {
                    let (rows, columns) = (cell_range(row, k, height), cell_range(column, k, width));
                    let (weight, mean) = terms.at(channel * k * k + row * k + column);
                    let share = weight / (rows.len() * columns.len()) as f64;
                    for place in rows.flat_map(|y| columns.clone().map(move |x| y * width + x)) {
                        total[place] += share * (f64::from(map[place]) - mean);
                    }
                }
            }
        }
    }
    Array2::from_shape_fn((height, width), |(row, column)| total[row * width + column])
}

impl LinearTerms {
    fn at(&self, feature: usize) -> (f64, f64) {
        (self.weights[feature], self.means[feature])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{FitSettings, HeadKind, TrainingData, fit_head};
    use crate::network::TokenRows;

    #[test]
    fn the_terms_of_a_head_make_its_score_however_it_prepares_features() {
        let features =
            Array2::from_shape_fn((30, 6), |(i, j)| ((i * 7 + j * 3) as f32).sin() + (i % 3 * j) as f32);
        let labels: Vec<usize> = (0..30).map(|i| i % 3).collect();
        let class_names = ["a", "b", "c"].map(String::from);
        let (features_view, class_names) = (features.view(), &class_names[..]);
        let data = TrainingData {
            features: features_view,
            labels: &labels,
            class_names,
            groups: None,
            row_names: None,
        };
        for (l2_normalize, standardize, pca) in
            [(false, true, None), (true, true, Some(4)), (true, false, None), (false, false, Some(2))]
        {
            let settings =
                FitSettings { l2_normalize, standardize, pca, ..FitSettings::new(HeadKind::Logistic) };
            let head = fit_head(&data, &settings).unwrap().model;
            let scores = head.scores(features.view()).unwrap();
            for (row, class) in [(0, 0), (7, 2), (22, 1)] {
                let row_features = features.row(row).to_vec();
                let terms = LinearTerms::of(&head, class, &row_features);
                let parts = row_features.iter().enumerate().map(|(feature, &x)| {
                    let (weight, mean) = terms.at(feature);
                    weight * (f64::from(x) - mean)
                });
                let score = parts.sum::<f64>() + terms.bias;
                assert!((score - scores[[row, class]]).abs() < 1e-4, "{score} {}", scores[[row, class]]);
            }
        }
    }

    fn wave(count: usize, step: f64) -> Vec<f64> {
        (0..count).map(|index| (index as f64 * step).sin()).collect()
    }

    #[test]
    fn with_any_pooling_the_places_and_the_bias_add_up_to_the_score() {
        let shape = [6, 5, 4];
        let map: Vec<f32> = wave(120, 0.7).into_iter().map(|x| (x as f32).max(0.0) * 3.0).collect();
        for pooling in ["none", "flatten", "avg", "max", "gem", "2x2", "3x3", "4x4"] {
            let pooling: Pooling = pooling.parse().unwrap();
            let mut features = Vec::new();
            pooling.apply(&map, &shape, &mut features);
            let terms = LinearTerms {
                weights: wave(features.len(), 1.3),
                means: wave(features.len(), 2.1),
                bias: 0.25,
            };
            let score: f64 = (0..features.len())
                .map(|j| terms.weights[j] * (f64::from(features[j]) - terms.means[j]))
                .sum();
            let found = contributions(&terms, &map, shape, pooling);
            assert_eq!(found.dim(), (5, 4));
            assert!(
                (found.sum() - score).abs() < 1e-5 * (1.0 + score.abs()),
                "{pooling}: {} {score}",
                found.sum()
            );
        }
    }

    #[test]
    fn of_tokens_the_patches_and_what_has_no_place_add_up_to_the_score() {
        let rows = TokenRows { prefix: 2, class_token: true, grid: [3, 4] };
        let activations = Activations { shape: vec![14, 5], tokens: Some(rows) };
        let tokens: Vec<f32> = wave(70, 0.7).into_iter().map(|x| x as f32 * 3.0).collect();
        for pooling in ["none", "flatten", "mean", "cls+mean", "max", "gem", "2x2"] {
            let pooling: Pooling = pooling.parse().unwrap();
            let mut features = Vec::new();
            activations.pool(pooling, &tokens, &mut features);
            let terms = LinearTerms {
                weights: wave(features.len(), 1.3),
                means: wave(features.len(), 2.1),
                bias: 0.25,
            };
            let score: f64 = terms.bias
                + (0..features.len())
                    .map(|j| terms.weights[j] * (f64::from(features[j]) - terms.means[j]))
                    .sum::<f64>();
            let (map, elsewhere) = explained(&terms, &tokens, &activations, pooling).unwrap();
            assert_eq!(map.dim(), (3, 4));
            let found = map.sum() + elsewhere;
            assert!((found - score).abs() < 1e-5 * (1.0 + score.abs()), "{pooling}: {found} {score}");
        }
        let terms = LinearTerms { weights: wave(5, 1.3), means: wave(5, 2.1), bias: 0.25 };
        assert_eq!(explained(&terms, &tokens, &activations, Pooling::ClassToken), None);
    }

    #[test]
    fn a_patch_adds_its_share_of_the_mean_at_its_place() {
        let rows = TokenRows { prefix: 1, class_token: true, grid: [1, 2] };
        let activations = Activations { shape: vec![3, 1], tokens: Some(rows) };
        let terms = LinearTerms { weights: vec![2.0], means: vec![1.0], bias: 0.5 };
        let found = explained(&terms, &[9.0, 1.0, 4.0], &activations, Pooling::PatchMean).unwrap();
        assert_eq!(found, (ndarray::array![[0.0, 3.0]], 0.5));
    }

    #[test]
    fn a_maximum_belongs_to_the_places_that_reach_it() {
        let terms = LinearTerms { weights: vec![2.0], means: vec![1.0], bias: 0.0 };
        let map = [0.0, 4.0, 1.0, 4.0];
        let found = contributions(&terms, &map, [1, 2, 2], Pooling::Max);
        assert_eq!(found, ndarray::array![[0.0, 3.0], [0.0, 3.0]]);
    }

    #[test]
    fn an_average_is_the_weighted_map_itself() {
        let terms = LinearTerms { weights: vec![2.0, -1.0], means: vec![1.0, 0.0], bias: 0.0 };
        let map = [0.0, 4.0, 1.0, 3.0, 1.0, 0.0, 0.0, 2.0];
        let found = contributions(&terms, &map, [2, 2, 2], Pooling::Average);
        assert_eq!(found, ndarray::array![[-0.75, 1.5], [0.0, 0.5]]);
    }
}
