//! Durations, sizes and rates as people write them.
//!
//! Owns their grammar: reads and writes them. Never decides which values a key allows: `keys` does.

use std::time::Duration;

/// The grammar of [`duration`], for the schema.
pub(crate) const DURATION_PATTERN: &str = "([0-9]{1,9}(ms|s|m|h|d))+";
/// The grammar of [`size`] as text, for the schema.
pub(crate) const SIZE_PATTERN: &str = "[0-9]{1,15}(B|KB|MB|GB|KiB|MiB|GiB)?";
/// The grammar of [`rate`], for the schema.
pub(crate) const RATE_PATTERN: &str = "[0-9]{1,9}/(s|m|h|d)";

/// Largest first, as they are shown.
const TIMES_MS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

/// Reads a duration as job files have it: `250ms`, `30s`, `1h30m`, `7d`; none if the text has another form.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (count, after) = digits(rest, 9)?;
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        total_ms = total_ms.checked_add(count.checked_mul(factor(&TIMES_MS, unit)?)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

/// Writes a duration as [`duration`] reads it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    for (unit, ms) in TIMES_MS {
        if rest >= ms {
            shown.push_str(&(rest / ms).to_string());
            shown.push_str(unit);
            rest %= ms;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// Reads a size such as `64MiB`, `500KB`, `4096`, in bytes; none if the text has another form.
pub fn size(text: &str) -> Option<u64> {
    let (count, unit) = digits(text, 15)?;
    let unit = if unit.is_empty() { "B" } else { unit };
    // An overflow becomes the largest number, which every range refuses.
    Some(count.saturating_mul(factor(&SIZES, unit)?))
}

/// Writes a number of bytes as [`size`] reads it, in the largest unit that leaves a whole number.
pub(crate) fn show_size(bytes: u64) -> String {
    let fitting = SIZES.into_iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let (unit, factor) = fitting.unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Reads a rate as job files have it: `10/s`, `600/m`, `1/h`. Returns the number per second; none if the text has
/// another form.
pub fn rate(text: &str) -> Option<f64> {
    let (count, unit) = digits(text, 9)?;
    let ms = factor(&TIMES_MS, unit.strip_prefix('/').filter(|unit| *unit != "ms")?)?;
    (count > 0).then(|| count as f64 * 1000.0 / ms as f64)
}

fn factor(units: &[(&str, u64)], name: &str) -> Option<u64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, factor)| *factor)
}

/// The number that a text begins with, and the rest.
fn digits(text: &str, digits_max: usize) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    (end <= digits_max).then(|| number.parse().ok()).flatten().map(|number| (number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_sizes_are_read() {
        assert_eq!(duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Some(Duration::from_hours(7 * 24)));
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("500KB"), Some(500_000));
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("999999999999999GiB"), Some(u64::MAX));
        assert_eq!(["10/s", "600/m", "36/h"].map(rate), [Some(10.0), Some(10.0), Some(0.01)]);
        assert_eq!(["0/s", "10", "10/ms", "10/", "/s"].map(rate), [None; 5]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["", "s", "30", "30 s", "-1s", "1.5s", "9999999999s", "1w", "1h30", "é"] {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1 MiB", "1mib"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0u64..u64::from(u32::MAX), bytes in 0u64..1_000_000_000_000) {
            prop_assert_eq!(duration(&show_duration(Duration::from_millis(ms))), Some(Duration::from_millis(ms)));
            prop_assert_eq!(size(&show_size(bytes)), Some(bytes));
        }

        #[test]
        fn the_patterns_say_what_is_read(time in DURATION_PATTERN, bytes in SIZE_PATTERN) {
            prop_assert!(duration(&time).is_some());
            prop_assert!(size(&bytes).is_some());
        }
    }
}
