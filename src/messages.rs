//! What messages for people are made of: counted things, an error with its causes, and text that a terminal shows and
//! does not obey.
//!
//! A file's name may hold anything but `/` and NUL: line ends, escape sequences that colour or erase, marks that turn the
//! direction of writing. Where text is for people they stand escaped; in JSON, CSV and files names stay exact.

use std::borrow::Cow;
use std::error::Error;

/// The cause of an error, where its type belongs to another crate: no public error of this one names such types.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// `text` in one line, what is no visible character escaped as Rust escapes it: `\n`, `\u{1b}`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => out.extend(character.escape_default()),
            _ if is_unprintable(character) => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    Cow::Owned(out)
}

/// `text` of one or more lines, each of them printable.
#[cfg(feature = "cli")]
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(|character| character != '\n' && is_unprintable(character)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(printable).collect::<Vec<_>>().join("\n"))
}

fn is_unprintable(character: char) -> bool {
    // Ends of lines and paragraphs, marks and overrides of direction, and the mark of byte order.
    let is_format = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    character.is_control() || is_format
}

/// `n thing`, with a plural where one is due.
pub(crate) fn count(n: usize, thing: &str) -> String {
    count_of(n, thing, &format!("{thing}s"))
}

/// `n one` or `n many`.
pub(crate) fn count_of(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// An error and its chain of causes in one line, separated by ": ".
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries already paste their cause's text into their own.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, expected) in [
            ("cats/1.jpg", "cats/1.jpg"),
            ("Käuzchen 梟 👩‍🚀.jpg", "Käuzchen 梟 👩‍🚀.jpg"),
            ("a\nerror: b.jpg", "a\\nerror: b.jpg"),
            ("\u{1b}[2J\u{7}.jpg", "\\u{1b}[2J\\u{7}.jpg"),
            ("\u{9b}31m\u{7f}\r", "\\u{9b}31m\\u{7f}\\r"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
        ] {
            assert_eq!(printable(text), expected);
        }
        #[cfg(feature = "cli")]
        assert_eq!(printable_lines("a\nb\u{1b}c"), "a\nb\\u{1b}c");
    }
}
