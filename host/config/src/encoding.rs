//! Turns the bytes of a job file into text.
//!
//! Owns the error for a file in another encoding, and the place of its first invalid byte. Never guesses what a byte
//! was meant to be.

use std::borrow::Cow;

use crate::report::{Problem, Span};

/// The text of a file; or the part that can be shown, and the problem.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, (Cow<'_, str>, Box<Problem>)> {
    if let Some(name) = wide(bytes) {
        let hint = "save it as UTF-8, for example with `iconv -f UTF-16 -t UTF-8`".to_owned();
        let problem = Problem::new(FIRST, format!("the file is {name} text, and a job file is UTF-8")).hint(hint);
        return Err((Cow::Borrowed(""), Box::new(problem)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let (before, line) = good
                .rsplit_once('\n')
                .map_or((0, good.as_str()), |(before, line)| (before.matches('\n').count() + 1, line));
            let span = Span { line: before + 1, column: line.chars().count() + 1, width: 1 };
            let message = format!("the byte 0x{:02X} is not UTF-8 text", bytes[error.valid_up_to()]);
            let hint = "save the file as UTF-8, for example with `iconv -f LATIN1 -t UTF-8`".to_owned();
            Err((String::from_utf8_lossy(bytes), Box::new(Problem::new(span, message).hint(hint))))
        }
    }
}

const FIRST: Span = Span { line: 1, column: 1, width: 1 };

/// The encoding of a file whose characters have two or four bytes each. It is recognised by its byte order mark, or by
/// the NUL beside each letter.
fn wide(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => Some("UTF-32"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, 1..=0xFF, ..] | [1..=0xFF, 0, ..] => Some("UTF-16"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn refused(bytes: &[u8]) -> String {
        let (shown, problem) = text(bytes).unwrap_err();
        Report::new("f", &shown, vec![*problem]).to_string()
    }

    #[test]
    fn utf_8_is_text() {
        assert_eq!(text("é".as_bytes()).unwrap(), "é");
        assert_eq!(text(b"").unwrap(), "");
    }

    #[test]
    fn a_latin_1_byte_has_its_line() {
        let report = refused(b"version: 1\njob: caf\xE9\n");
        assert!(report.starts_with("f:2:9: the byte 0xE9 is not UTF-8 text\n    2 | job: caf"), "{report}");
        assert!(report.contains("hint: save the file as UTF-8"), "{report}");
    }

    #[test]
    fn utf_16_is_told_as_that() {
        let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        for text in ["\u{feff}version: 1", "version: 1"] {
            assert!(refused(&wide(text, u16::to_le_bytes)).starts_with("f:1:1: the file is UTF-16 text"));
            assert!(refused(&wide(text, u16::to_be_bytes)).starts_with("f:1:1: the file is UTF-16 text"));
        }
    }
}
