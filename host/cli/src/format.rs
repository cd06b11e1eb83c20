//! Formats numbers, times and foreign text for people.
//!
//! Owns the form of counts, durations, sizes and rates, and makes text from guests harmless for a terminal. Never
//! prints.

use std::fmt::Write;
use std::time::Duration;

use gristmill_model::Timestamp;

/// Digits in groups of three: `12 000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1 item`, `12 000 items`.
pub(crate) fn plural(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A rate: `583/s`, `0.4/s`.
pub(crate) fn rate(number: u64, elapsed: Duration) -> String {
    let per_second = number as f64 / elapsed.as_secs_f64().max(1e-3);
    if per_second < 10.0 { format!("{per_second:.1}/s") } else { format!("{}/s", count(per_second.round() as u64)) }
}

/// A duration in its two largest units, cut and not rounded: `850 µs`, `12 ms`, `4.2 s`, `30 s`, `3 min 05 s`, `2 h 03
/// min`, `4 d 02 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", duration.as_millis()),
        1_000_000..10_000_000 => format!("{}.{} s", seconds, duration.subsec_millis() / 100),
        _ if seconds < 60 => format!("{seconds} s"),
        _ if seconds < 3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `512 B`, `57.6 KiB`, `1.2 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

fn instant(time: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(time.0).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

/// RFC 3339, UTC, to the second: for people.
pub(crate) fn second(time: Timestamp) -> String {
    instant(Timestamp(time.0.div_euclid(1_000_000) * 1_000_000))
}

/// The text with `?` in place of each character that could control a terminal, except tabs and line breaks.
pub(crate) fn printable(text: &str) -> String {
    let is_command = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_command(c) { '?' } else { c }).collect()
}

/// One printable line of at most `chars_max` characters.
pub(crate) fn one_line(text: &str, chars_max: usize) -> String {
    let line = printable(text.trim().lines().next().unwrap_or_default().trim_end()).replace('\t', " ");
    match line.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A word quoted for a shell.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// At most `lines_max` lines of a text, each after `spaces` spaces; then how many more there are.
pub(crate) fn indented(text: &str, spaces: usize, lines_max: usize) -> String {
    let mut block = String::new();
    for line in text.lines().take(lines_max) {
        let _ = writeln!(block, "{:spaces$}{}", "", printable(line));
    }
    let more = text.lines().count().saturating_sub(lines_max);
    if more > 0 {
        let _ = writeln!(block, "{:spaces$}… {}: --full shows all", "", plural(more as u64, "more line"));
    }
    block
}

/// JSON with one value on each line. The order of keys and every digit stay as stored.
pub(crate) fn pretty_json(json: &str) -> String {
    let mut pretty = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut is_escaped) = (0usize, false, false);
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        if in_text {
            in_text = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            pretty.push(c);
            continue;
        }
        match c {
            '{' | '[' => {
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                pretty.push(c);
                if let Some(end) = rest.next_if(|next| ['}', ']'].contains(next)) {
                    pretty.push(end);
                } else {
                    depth += 1;
                    new_line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut pretty, depth);
                pretty.push(c);
            }
            ',' => {
                pretty.push(c);
                new_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                in_text = c == '"';
                pretty.push(c);
            }
        }
    }
    pretty
}

fn new_line(text: &mut String, depth: usize) {
    let _ = write!(text, "\n{:width$}", "", width = 2 * depth);
}

/// The name among `names` that is most like `wrong`, if any is.
pub(crate) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wrong.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([0, 1, 1000].map(|n| plural(n, "item")), ["0 items", "1 item", "1 000 items"]);
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let texts = [850, 12_000, 999_999, 4_290_000, 59_960_000, 185_000_000, 7_380_000_000, 353_000_000_000]
            .map(|micros| duration(Duration::from_micros(micros)));
        let wanted = ["850 µs", "12 ms", "999 ms", "4.2 s", "59 s", "3 min 05 s", "2 h 03 min", "4 d 02 h"];
        assert_eq!(texts, wanted);
    }

    #[test]
    fn sizes_and_rates_keep_one_digit_where_it_tells_something() {
        let sizes = [0, 1023, 1024, 59_000, 1_048_570, 1 << 20, 5 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "57.6 KiB", "1.0 MiB", "1.0 MiB", "5.0 TiB"]);
        let rates = [0, 4, 5830].map(|number| rate(number, Duration::from_secs(10)));
        assert_eq!(rates, ["0.0/s", "0.4/s", "583/s"]);
        assert_eq!(rate(3, Duration::ZERO), "3 000/s");
    }

    #[test]
    fn times_are_rfc_3339() {
        let time = Timestamp(1_700_000_000_123_456);
        assert_eq!(instant(time), "2023-11-14T22:13:20.123456Z");
        assert_eq!(second(time), "2023-11-14T22:13:20Z");
        assert_eq!(instant(Timestamp(i64::MAX)), i64::MAX.to_string());
    }

    #[test]
    fn a_guest_cannot_command_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}c\u{202e}\td\r\ne"), "a?[2Jb?c?\td?\ne");
        assert_eq!(one_line("  first \nsecond", 100), "first");
        assert_eq!(one_line("éééé", 3), "ééé…");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("serde@1.0.0"), "serde@1.0.0");
        assert_eq!(shell_word("it's $(x)"), r"'it'\''s $(x)'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn long_blocks_are_cut_and_say_so() {
        assert_eq!(indented("a\nb", 2, 5), "  a\n  b\n");
        assert_eq!(indented("a\nb\nc", 2, 1), "  a\n  … 2 more lines: --full shows all\n");
    }

    #[test]
    fn json_is_laid_out_and_not_touched() {
        let json = r#"{"b": 1.10,"a":[ ],"t":"x\\\",{[:","n":[{},[1,2]]}"#;
        let laid_out = r#"{
  "b": 1.10,
  "a": [],
  "t": "x\\\",{[:",
  "n": [
    {},
    [
      1,
      2
    ]
  ]
}"#;
        assert_eq!(pretty_json(json), laid_out);
        assert_eq!(pretty_json("null"), "null");
    }

    #[test]
    fn only_a_near_name_is_proposed() {
        assert_eq!(nearest("audti", ["audit", "bench"]), Some("audit"));
        assert_eq!(nearest("x", ["audit", "bench"]), None);
    }
}
