//! The report on a job file's faults, in the style of a compiler.
//!
//! Owns the order and the layout of problems: place, sentence, the line itself with carets, hint. Never finds a fault
//! itself, never prints, and never passes a control character of the file on to a terminal.

use std::fmt;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many problems `Display` writes out. The rest are counted.
const SHOWN_MAX: usize = 50;
/// How many characters of a line are shown, and how many of those may stand before the fault.
const LINE_CHARS_MAX: usize = 110;
const BEFORE_CHARS_MAX: usize = 60;

/// Everything that is wrong with a job file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Layout(self))]
pub struct Report {
    /// The file, as the caller named it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; none if no line of the file causes it.
    pub place: Option<Place>,
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// A hint.
    pub hint: Option<String>,
    span: Option<Span>,
}

/// A place in a job file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters of the line are marked: at least 1.
    pub width: usize,
    /// The line, without its end.
    pub text: String,
}

/// The position of a value: line and column from 1; column and length in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
}

impl Problem {
    pub(crate) fn new(span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self { place: None, message: printable(&message.into()), hint: None, span: span.into() }
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().map(|hint| printable(&hint));
        self
    }
}

impl Report {
    /// Sorts problems by place, finds the line of each, and drops duplicates: an alias repeats the faults of its
    /// anchor.
    pub(crate) fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span);
        problems.dedup();
        // Counts as the parser does: a byte order mark is no character, a lone carriage return ends a line.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines: Vec<&str> =
            text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r')).collect();
        for problem in &mut problems {
            problem.place = problem.span.and_then(|span| span.place(&lines));
        }
        Self { file: file.to_owned(), problems }
    }
}

impl Span {
    /// The place on its line. It is cut at the end of the line; the end of the file is a place too.
    fn place(self, lines: &[&str]) -> Option<Place> {
        let line = self.line.min(lines.len().max(1));
        let text = lines.get(line.checked_sub(1)?).copied().unwrap_or_default();
        let length = text.chars().count();
        let column = if line == self.line { self.column.clamp(1, length + 1) } else { length + 1 };
        let width = self.width.min((length + 1).saturating_sub(column)).max(1);
        // A value of several lines includes the blanks at the end of its first line.
        let meant: String = text.chars().skip(column - 1).take(width).collect();
        let width = meant.trim_end().chars().count().max(1);
        Some(Place { line, column, width, text: text.to_owned() })
    }
}

/// Writes the report, for `thiserror` to show.
struct Layout<'a>(&'a Report);

impl fmt::Display for Layout<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { file, problems } = self.0;
        for (at, problem) in problems.iter().take(SHOWN_MAX).enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            match &problem.place {
                Some(place) => {
                    write!(f, "{file}:{}:{}: {}\n{place}", place.line, place.column, problem.message)?;
                }
                None => write!(f, "{file}: {}", problem.message)?,
            }
            if let Some(hint) = &problem.hint {
                write!(f, "\n   hint: {hint}")?;
            }
        }
        match problems.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n\n… and {more} more"),
        }
    }
}

impl fmt::Display for Place {
    /// The line, with carets under the fault. A long line is cropped around it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = self.text.chars().count() <= LINE_CHARS_MAX;
        let skipped = if fits { 0 } else { (self.column - 1).saturating_sub(BEFORE_CHARS_MAX) };
        let before: String = self.text.chars().skip(skipped).take(self.column - 1 - skipped).collect();
        let rest = LINE_CHARS_MAX - before.chars().count();
        let meant: String = self.text.chars().skip(self.column - 1).take(self.width.min(rest)).collect();
        let after_max = rest - meant.chars().count();
        let after: String = self.text.chars().skip(self.column - 1 + self.width).take(after_max).collect();
        let shown = format!("{:>5} | {}{}{}", self.line, printable(&before), printable(&meant), printable(&after));
        writeln!(f, "{}", shown.trim_end())?;
        // A tab under each tab aligns the carets, whatever the terminal's tab width is.
        let indent: String = before
            .chars()
            .flat_map(|c| match c {
                '\t' => vec!['\t'],
                c => vec![' '; c.width().unwrap_or(1)],
            })
            .collect();
        write!(f, "      | {indent}{}", "^".repeat(printable(&meant).width().max(1)))
    }
}

/// The text with its control characters made harmless, except tabs.
fn printable(text: &str) -> String {
    let show = |c: char| match c {
        '\t' => '\t',
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(show).collect()
}

/// The text in backquotes, cropped if it is long.
pub(crate) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize, width: usize) -> String {
        let problem = Problem::new(Span { line, column, width }, "wrong");
        Report::new("f", text, vec![problem]).to_string()
    }

    #[test]
    fn carets_stand_under_what_is_meant() {
        assert_eq!(shown("a: b\r\nc: d\r\n", 2, 4, 1), "f:2:4: wrong\n    2 | c: d\n      |    ^");
        assert_eq!(shown("a: b\rc: d", 2, 4, 1), "f:2:4: wrong\n    2 | c: d\n      |    ^");
        assert_eq!(shown("\ta: é資x", 1, 5, 2), "f:1:5: wrong\n    1 | \ta: é資x\n      | \t   ^^^");
        assert_eq!(shown("資: x", 1, 4, 1), "f:1:4: wrong\n    1 | 資: x\n      |     ^");
    }

    #[test]
    fn a_place_beyond_the_text_is_its_end() {
        assert_eq!(shown("a: [", 1, 5, 0), "f:1:5: wrong\n    1 | a: [\n      |     ^");
        assert_eq!(shown("a: |\n  b\n  c\n", 2, 3, 400), "f:2:3: wrong\n    2 |   b\n      |   ^");
        assert_eq!(shown("", 9, 9, 9), "f:1:1: wrong\n    1 |\n      | ^");
    }

    #[test]
    fn a_long_line_is_cropped_around_its_place() {
        let shown = shown(&"0123456789".repeat(100), 1, 501, 900);
        assert!(shown.lines().all(|line| line.len() <= LINE_CHARS_MAX + 8), "{shown}");
        let carets = shown.lines().last().unwrap();
        assert_eq!(carets.find('^'), Some(8 + BEFORE_CHARS_MAX));
    }
}
