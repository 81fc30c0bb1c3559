//! The order of the classes for an image, and so its answer: the one place where classes are ranked.
//!
//! The more probable class comes first. Probabilities tie where a calibration has a plateau or where rounding leaves
//! nothing between them; then the raw scores decide, since they still tell the classes apart.

use std::cmp::Ordering;

use ndarray::{ArrayView1, ArrayView2, Axis};

/// The classes of one image, the first to answer with first.
pub fn ranked(probabilities: ArrayView1<'_, f64>, scores: ArrayView1<'_, f64>) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..probabilities.len()).collect();
    classes.sort_by(|&a, &b| order(probabilities, scores, a, b));
    classes
}

/// The answer for each image, from its probabilities and scores (both n x classes).
pub fn answers(probabilities: ArrayView2<'_, f64>, scores: ArrayView2<'_, f64>) -> Vec<usize> {
    let first = |(probabilities, scores): (ArrayView1<'_, f64>, ArrayView1<'_, f64>)| {
        (0..probabilities.len()).min_by(|&a, &b| order(probabilities, scores, a, b)).unwrap_or(0)
    };
    probabilities.axis_iter(Axis(0)).zip(scores.axis_iter(Axis(0))).map(first).collect()
}

/// By falling probability, then by falling score, then as the classes are listed.
fn order(probabilities: ArrayView1<'_, f64>, scores: ArrayView1<'_, f64>, a: usize, b: usize) -> Ordering {
    let falling = |values: ArrayView1<'_, f64>| values[b].total_cmp(&values[a]);
    falling(probabilities).then_with(|| falling(scores)).then(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn the_more_probable_class_is_first_whatever_its_score() {
        let (probabilities, scores) = (array![[0.2, 0.5, 0.3]], array![[9.0, -1.0, 0.0]]);
        assert_eq!(ranked(probabilities.row(0), scores.row(0)), [1, 2, 0]);
        assert_eq!(answers(probabilities.view(), scores.view()), [1]);
    }

    #[test]
    fn scores_decide_between_equal_probabilities_and_the_list_between_equal_scores() {
        let probabilities = array![[0.25, 0.25, 0.25, 0.25], [0.4, 0.4, 0.2, 0.0], [0.0, 0.5, 0.0, 0.5]];
        let scores = array![[-3.0, 1.0, 2.0, 1.0], [0.1, 0.2, 5.0, 9.0], [1.0, 0.5, 2.0, 0.5]];
        let found: Vec<Vec<usize>> =
            (0..3).map(|row| ranked(probabilities.row(row), scores.row(row))).collect();
        assert_eq!(found, [vec![2, 1, 3, 0], vec![1, 0, 2, 3], vec![1, 3, 2, 0]]);
        assert_eq!(answers(probabilities.view(), scores.view()), [2, 1, 1]);
    }
}
