//! A column of a CSV file about images that are named already: labels, groups, splits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use super::labels::class_name_of;
use super::{CsvTable, text_of};
use crate::messages::Cause;

/// What the `column` of a CSV file beside `path` says about each image, `None` for those that the file does not name or
/// says nothing of; and how many paths are of no image. Values are read as labels are: `1.0` is 1, and `-1` nothing.
///
/// # Errors
/// The file cannot be read as such a CSV, contradicts itself, or says nothing of any of the images.
pub(crate) fn column_values(
    csv: &Path,
    column: &str,
    names: &[String],
) -> Result<(Vec<Option<String>>, usize), Cause> {
    let positions: HashMap<Cow<'_, str>, usize> =
        names.iter().enumerate().map(|(row, name)| (plain(name), row)).collect();
    // The value of each image, and the line that it stands on.
    let mut values: Vec<Option<(Option<String>, u64)>> = vec![None; names.len()];
    let mut unknown = 0;
    let bytes = std::fs::read(csv)?;
    let text = text_of(&bytes)?;
    let wanted = |header: &[String]| header.iter().any(|name| name.eq_ignore_ascii_case("path"));
    let mut table = CsvTable::new(&text, wanted)?;
    let position = |wanted: &str| -> Result<usize, Cause> {
        let position = table.column(wanted)?;
        let seen = || format!("it has no column {wanted} (columns seen: {})", table.header.join(", "));
        Ok(position.ok_or_else(seen)?)
    };
    let (path_at, value_at) = (position("path")?, position(column)?);
    while let Some(row) = table.next_row()? {
        let path = row.fields[path_at].on_one_line("path")?;
        let value = row.fields[value_at].on_one_line(column)?;
        let value =
            class_name_of(value).map_err(|reason| format!("the {column} on line {}: {reason}", row.line))?;
        let Some(&at) = positions.get(&plain(path)) else {
            unknown += 1;
            continue;
        };
        match &values[at] {
            Some((other, line)) if *other != value => {
                return Err(format!(
                    "lines {line} and {} of {} give {} different {column}s; remove one of them",
                    row.line,
                    csv.display(),
                    names[at]
                )
                .into());
            }
            _ => values[at] = Some((value, row.line)),
        }
    }
    let values: Vec<Option<String>> =
        values.into_iter().map(|value| value.and_then(|(value, _)| value)).collect();
    if values.iter().all(Option::is_none) {
        return Err(format!(
            "no line of {} gives a {column} to an image; its paths must be the images' names, such as {}",
            csv.display(),
            names.first().map_or("cats/1.jpg", String::as_str)
        )
        .into());
    }
    Ok((values, unknown))
}

/// A path as it is compared: `.\cats\1.jpg` is `cats/1.jpg`.
fn plain(path: &str) -> Cow<'_, str> {
    let path = path.trim_start_matches("./");
    if path.contains('\\') {
        Cow::Owned(path.replace('\\', "/").trim_start_matches("./").to_owned())
    } else {
        Cow::Borrowed(path)
    }
}
