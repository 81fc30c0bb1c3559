//! What a label means, however it is written: as a folder's name, in a CSV file, in a shard or in an array.
//!
//! This is the one place of the rule, and docs/images.md says the same to users:
//!
//! - White space around a label, and a byte order mark before it or NULs after it, do not count.
//! - A label that is empty, below zero (`-1`), or one of pandas' words for a missing value (`NaN`, `None`, `NA`, `null` …)
//!   means that the class is unknown.
//! - A whole number is that number however it is written: `1`, `+1` and `1.0` are the class 1. Leading zeros make a name:
//!   `007` is the class 007.
//! - Everything else is the name of the class, as it stands. A line end or a NUL in it is an error.
//! - Classes are ordered by number where all of their names are whole numbers (2 before 10), else bytewise.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::SampleList;
use super::classes::ClassLabel;

/// What stands for a missing value where pandas reads a CSV file; the empty text is one more.
const MISSING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// The class that a label's text stands for; `None` where it says that the class is unknown. Numbers that the data have as
/// floating-point ones are given as Rust prints them.
///
/// # Errors
/// The text is no label, and why.
pub(super) fn parse_label(text: &str) -> Result<Option<ClassLabel>, String> {
    let text = text.trim_start_matches('\u{feff}').trim_end_matches('\0').trim();
    if text.is_empty() || MISSING.contains(&text) {
        return Ok(None);
    }
    if text.contains(['\n', '\r']) {
        return Err("it contains a line end".to_owned());
    }
    if text.contains('\0') {
        return Err("it contains a NUL character".to_owned());
    }
    if is_number_below_zero(text) {
        return Ok(None);
    }
    Ok(Some(whole_number(text).map_or_else(|| ClassLabel::Name(text.to_owned()), ClassLabel::Number)))
}

/// The name of the class that a label's text stands for, as [`parse_label`] has it.
///
/// # Errors
/// The text is no label, and why.
pub(crate) fn class_name_of(text: &str) -> Result<Option<String>, String> {
    Ok(parse_label(text)?.map(|label| match label {
        ClassLabel::Number(number) => number.to_string(),
        ClassLabel::Name(name) => name,
    }))
}

/// Puts names of classes into their order: by number where all are whole numbers, else bytewise.
pub(crate) fn sort_class_names(names: &mut [String]) {
    if names.iter().all(|name| is_digits(name)) {
        names.sort_by(|a, b| by_number(a, b));
    } else {
        names.sort();
    }
}

/// What the user ought to know of the labels of a set that was to have some.
pub(super) fn notes_of_labels(samples: &SampleList, class_names: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut unlabelled = samples.iter().filter(|sample| sample.label.is_none());
    if let Some(first) = unlabelled.next() {
        let (count, total) = (1 + unlabelled.count(), samples.len());
        notes.push(format!("{count} of {total} images have no class, the first: {}", first.name));
    }
    let mut by_lower_case: HashMap<String, &String> = HashMap::with_capacity(class_names.len());
    for name in class_names {
        if let Some(other) = by_lower_case.insert(name.to_lowercase(), name) {
            notes.push(format!(
                "the classes {other} and {name} differ only in upper and lower case; if they are one class, \
                 give them one name"
            ));
            break;
        }
    }
    notes
}

/// The order of two texts of digits, of any length; those of one number bytewise.
fn by_number(a: &str, b: &str) -> Ordering {
    let (short_a, short_b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    short_a.len().cmp(&short_b.len()).then_with(|| short_a.cmp(short_b)).then_with(|| a.cmp(b))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `12`, `+12` and `12.0`, and zero with a sign before it, but not `012`.
fn whole_number(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let canonical = is_digits(digits) && (digits == "0" || !digits.starts_with('0'));
    let whole = !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0');
    (canonical && whole).then(|| digits.parse().ok()).flatten()
}

/// A minus sign, and digits of which not all are zeros, perhaps with a point among them.
fn is_number_below_zero(text: &str) -> bool {
    let Some(number) = text.strip_prefix('-') else { return false };
    number.starts_with(|first: char| first.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && number.parse::<f64>().is_ok_and(|number| number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<Option<String>, String> {
        class_name_of(text)
    }

    #[test]
    fn blanks_marks_and_padding_around_a_label_do_not_count() {
        for text in ["cat", " cat ", "\u{feff}cat", "cat\r\n", "\tcat\n", "cat\0\0\0", "cat\u{a0}", "cat\n\0"]
        {
            assert_eq!(name(text), Ok(Some("cat".to_owned())), "{text:?}");
        }
        assert_eq!(name("big  cat"), Ok(Some("big  cat".to_owned())));
    }

    #[test]
    fn missing_values_mean_that_the_class_is_unknown() {
        for text in [
            "", "  ", "\0\0", "\u{feff}", "-1", "-1.0", "-2", "-0.5", " -1\n", "nan", "NaN", "NULL", "null",
            "None", "NA", "n/a", "<NA>",
        ] {
            assert_eq!(name(text), Ok(None), "{text:?}");
        }
        // Words of pandas' own list alone: these are names.
        for text in ["none", "nil", "unknown", "-", "-1a", "--1", "Nan"] {
            assert_eq!(name(text), Ok(Some(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn a_whole_number_is_one_class_however_it_is_written() {
        for (text, number) in
            [("0", 0), ("7", 7), ("+7", 7), ("7.0", 7), ("7.00", 7), ("-0", 0), ("-0.0", 0), ("10", 10)]
        {
            assert_eq!(parse_label(text), Ok(Some(ClassLabel::Number(number))), "{text}");
        }
        for text in ["007", "00", "1.5", "1.", ".0", "1e3", "1,0", "99999999999999999999", "١"] {
            assert_eq!(parse_label(text), Ok(Some(ClassLabel::Name(text.to_owned()))), "{text}");
        }
        // As the labels of an array of doubles are given.
        for (value, class) in [(3.0, Some("3")), (2.5, Some("2.5")), (f64::NAN, None), (-1.0, None)] {
            assert_eq!(name(&value.to_string()), Ok(class.map(str::to_owned)), "{value}");
        }
    }

    #[test]
    fn a_line_end_in_a_label_is_an_error() {
        for text in ["cat\ndog", "cat\rdog", "blue\nimg/red1.jpg,red"] {
            assert_eq!(name(text), Err("it contains a line end".to_owned()), "{text:?}");
        }
        assert_eq!(name("cat\0dog"), Err("it contains a NUL character".to_owned()));
    }

    #[test]
    fn classes_that_are_numbers_are_in_the_order_of_numbers() {
        let sorted = |names: &[&str]| {
            let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            sort_class_names(&mut names);
            names
        };
        assert_eq!(sorted(&["10", "1", "2"]), ["1", "2", "10"]);
        assert_eq!(
            sorted(&["010", "2", "02", "99999999999999999999"]),
            ["02", "2", "010", "99999999999999999999"]
        );
        assert_eq!(sorted(&["10", "2", "cat"]), ["10", "2", "cat"]);
        assert_eq!(sorted(&["b", "B", "a"]), ["B", "a", "b"]);
    }
}
