//! Which texts of a guest may become names: of an item, of a meter, or a cursor.
//!
//! Owns the one check for them. A name that passes can be stored by both trackers, shown in one line of a table, and
//! archived unchanged. Never repairs a name: another name would mean another thing.

/// The longest key of an item: the contract's number.
const KEY_BYTES_MAX: usize = 1024;

/// The longest name of a meter or a parameter.
const NAME_BYTES_MAX: usize = 256;

/// The longest cursor. It is stored once for each page.
const CURSOR_BYTES_MAX: usize = 1 << 20;

/// Why a text cannot be an item's key; none if it can.
pub(crate) fn key_fault(text: &str) -> Option<String> {
    size_fault(text, KEY_BYTES_MAX).or_else(|| control_fault(text))
}

/// Why a text cannot name a meter or a parameter; none if it can.
pub(crate) fn name_fault(text: &str) -> Option<String> {
    size_fault(text, NAME_BYTES_MAX).or_else(|| control_fault(text))
}

/// Why a text cannot be a cursor; none if it can. A source may use any character except NUL, which Postgres cannot
/// store in a text. An empty cursor ends its pass; other code handles that.
pub(crate) fn cursor_fault(text: &str) -> Option<String> {
    if text.len() > CURSOR_BYTES_MAX {
        return Some(format!("has {} bytes, and may have {CURSOR_BYTES_MAX} at most", text.len()));
    }
    text.contains('\0').then(|| "holds the character NUL".to_owned())
}

fn size_fault(text: &str, bytes_max: usize) -> Option<String> {
    let fits = (1..=bytes_max).contains(&text.len());
    (!fits).then(|| format!("has {} bytes, and may have 1 to {bytes_max}", text.len()))
}

fn control_fault(text: &str) -> Option<String> {
    let control = text.chars().find(|c| c.is_control())?;
    Some(format!("holds a control character, U+{:04X}", u32::from(control)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_both_trackers_and_one_line() {
        assert_eq!(key_fault("a key/with: spaces, Ω and 🌾"), None);
        assert_eq!(key_fault("").as_deref(), Some("has 0 bytes, and may have 1 to 1024"));
        assert_eq!(key_fault(&"k".repeat(1025)).as_deref(), Some("has 1025 bytes, and may have 1 to 1024"));
        for (text, says) in [("a\0", "U+0000"), ("a\nb", "U+000A"), ("\u{1b}[31m", "U+001B"), ("a\u{85}", "U+0085")] {
            for fault in [key_fault(text), name_fault(text)] {
                assert!(fault.is_some_and(|fault| fault.ends_with(says)), "{text:?}");
            }
        }
    }

    #[test]
    fn a_cursor_is_the_sources_own_text() {
        assert_eq!(cursor_fault("{\"after\":\n\"\u{1}\"}"), None);
        assert_eq!(cursor_fault("a\0b").as_deref(), Some("holds the character NUL"));
        assert_eq!(cursor_fault(&"c".repeat(1 << 20)), None);
        assert!(cursor_fault(&"c".repeat((1 << 20) + 1)).is_some());
    }
}
