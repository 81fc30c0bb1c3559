//! Features that are NaN or infinite: the image is skipped with the reason, before anything is stored or classified.
//!
//! Such numbers arise where a network of 16-bit floats overflows, where its weights are damaged, or where it is shown pixels on
//! another scale than it was trained with. A head cannot be fitted to them.

use std::collections::BTreeMap;

use crate::network::{Tap, TapOutput};

/// The rows of `layers` that hold finite numbers alone; the others by their index, each with the reason. `rows` is their number.
pub(super) fn finite_rows(
    taps: &[Tap],
    layers: Vec<TapOutput>,
    rows: usize,
) -> (Vec<TapOutput>, BTreeMap<usize, String>) {
    let mut bad = BTreeMap::new();
    for (tap, values) in taps.iter().zip(&layers) {
        for (row, reason) in rows_not_finite(&tap.layer.name, tap.width(), values) {
            if row < rows {
                bad.entry(row).or_insert(reason);
            }
        }
    }
    if bad.is_empty() {
        return (layers, bad);
    }
    let kept = |(tap, values): (&Tap, TapOutput)| TapOutput::from(without_rows(&values, tap.width(), &bad));
    let layers = taps.iter().zip(layers).map(kept).collect();
    (layers, bad)
}

/// The rows of `values`, each of `width` features, but those that are `bad`.
pub(super) fn without_rows(values: &[f32], width: usize, bad: &BTreeMap<usize, String>) -> Vec<f32> {
    let rows = values.chunks(width.max(1)).enumerate();
    rows.filter(|(row, _)| !bad.contains_key(row)).flat_map(|(_, row)| row).copied().collect()
}

/// The rows of `values`, each of `width` features of `layer`, that hold NaN or infinite numbers, by their index with the reason.
pub(super) fn rows_not_finite(layer: &str, width: usize, values: &[f32]) -> BTreeMap<usize, String> {
    if values.iter().all(|value| value.is_finite()) {
        return BTreeMap::new();
    }
    let count = |row: &[f32]| row.iter().filter(|value| !value.is_finite()).count();
    let rows = values.chunks(width.max(1)).enumerate().map(|(row, values)| (row, values, count(values)));
    rows.filter(|&(.., count)| count > 0)
        .map(|(row, values, count)| (row, reason(layer, count, values)))
        .collect()
}

fn reason(layer: &str, count: usize, values: &[f32]) -> String {
    let what = if values.iter().any(|value| value.is_nan()) { "NaN" } else { "infinite" };
    format!(
        "{count} of its {} features of {layer} are {what}; if all images are skipped for this, check the preprocessing and the \
         network's file, and whether its numbers are 16-bit floats",
        values.len()
    )
}
