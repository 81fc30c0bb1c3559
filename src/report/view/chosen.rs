//! Which rows the page shows one by one.

use std::collections::HashMap;

use super::{MOST_MISTAKES, MOST_OF_A_SET, MOST_SETS, MOST_SUSPECTS};
use crate::report::Report;

/// The rows whose photos are looked at one by one, in the order of the page.
pub(in crate::report) fn featured(report: &Report<'_>, predicted: &[usize]) -> Vec<usize> {
    let mut rows = mistakes(report, predicted);
    let rows_of: HashMap<&str, usize> = by_name(report);
    if let Some(suspects) = &report.suspects {
        let labels = suspects.labels.iter().take(MOST_SUSPECTS).map(|suspect| suspect.image.as_str());
        let outliers = suspects.outliers.iter().take(MOST_SUSPECTS).map(|outlier| outlier.image.as_str());
        let copies = suspects.copies.iter().take(MOST_SUSPECTS);
        let copies = copies.flat_map(|set| set.images.iter().take(MOST_OF_A_SET).map(String::as_str));
        rows.extend(labels.chain(outliers).chain(copies).filter_map(|name| rows_of.get(name).copied()));
    }
    let sets = report.duplicates.iter().take(MOST_SETS);
    rows.extend(sets.flat_map(|set| set.images.iter().take(MOST_OF_A_SET).copied()));
    rows
}

pub(super) fn by_name<'a>(report: &'a Report<'_>) -> HashMap<&'a str, usize> {
    report.names.iter().enumerate().map(|(row, name)| (name.as_str(), row)).collect()
}

/// The rows of the most confident mistakes and the least probable labels: those whose answers are worth an explanation.
pub(in crate::report) fn doubtful(report: &Report<'_>, predicted: &[usize]) -> Vec<usize> {
    let mut rows = mistakes(report, predicted);
    let rows_of = by_name(report);
    let labels = report.suspects.iter().flat_map(|suspects| suspects.labels.iter().take(MOST_SUSPECTS));
    for row in labels.filter_map(|suspect| rows_of.get(suspect.image.as_str()).copied()) {
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

/// Rows of the most confident mistakes, most confident first.
pub(super) fn mistakes(report: &Report<'_>, predicted: &[usize]) -> Vec<usize> {
    let claim = |row: usize| report.probabilities[[row, predicted[row]]];
    let mut rows: Vec<usize> =
        (0..predicted.len()).filter(|&row| predicted[row] != report.labels[row]).collect();
    rows.sort_by(|&a, &b| claim(b).total_cmp(&claim(a)).then(a.cmp(&b)));
    rows.truncate(MOST_MISTAKES);
    rows
}
