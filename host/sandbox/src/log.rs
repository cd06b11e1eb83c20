//! The log of one attempt.
//!
//! Owns the kept lines of `host.log`, stdout and stderr: whole lines with their origin, in the order in which they
//! came, up to a bound. Never grows beyond the bound, and never keeps a character that could control a terminal.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many bytes of an attempt's log are kept. The rest is counted, and the log's last line says how much it was.
pub const LOG_BYTES_MAX: usize = 64 << 10;

/// A line longer than this is split.
const LINE_BYTES_MAX: usize = 8 << 10;

/// How many bytes are kept of the last line on stderr, which often says why a guest trapped.
const LAST_WORDS_BYTES_MAX: usize = 1 << 10;

/// One of the two streams that every program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// The log of one attempt, shared by the host's functions and the two streams.
#[derive(Clone, Default)]
pub(crate) struct SharedLog(Arc<Mutex<Log>>);

impl SharedLog {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(crate) struct Log {
    text: String,
    dropped_bytes: u64,
    /// The unfinished lines of stdout and stderr.
    begun: [Vec<u8>; 2],
    last_words: String,
}

impl Log {
    /// Adds a message, which may have several lines.
    pub(crate) fn message(&mut self, origin: &str, message: &str) {
        let mut rest = message;
        while !rest.is_empty() {
            if self.dropped_bytes > 0 {
                // Nothing more is kept, so the rest is not even read.
                self.dropped_bytes += rest.len() as u64;
                return;
            }
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            self.line(origin, line.strip_suffix('\r').unwrap_or(line));
            rest = after;
        }
    }

    /// Adds what a guest wrote to a stream.
    pub(crate) fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(stream, &bytes[..end]);
            self.end_line(stream);
            bytes = &bytes[end + 1..];
        }
        self.append(stream, bytes);
    }

    /// The whole log.
    pub(crate) fn finish(&mut self) -> String {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.begun[stream as usize].is_empty() {
                self.end_line(stream);
            }
        }
        let mut text = std::mem::take(&mut self.text);
        if self.dropped_bytes > 0 {
            // Cannot fail: a String accepts everything.
            let _ = writeln!(text, "[host] the log was cut here: {} more bytes", self.dropped_bytes);
        }
        text
    }

    /// The last line on stderr: a panic's message, if there was a panic.
    pub(crate) fn last_words(&self) -> Option<&str> {
        (!self.last_words.is_empty()).then_some(self.last_words.as_str())
    }

    fn append(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.chunks(LINE_BYTES_MAX) {
            if self.begun[stream as usize].len() + piece.len() > LINE_BYTES_MAX {
                self.end_line(stream);
            }
            self.begun[stream as usize].extend_from_slice(piece);
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let mut bytes = std::mem::take(&mut self.begun[stream as usize]);
        let line = String::from_utf8_lossy(&bytes);
        match stream {
            Stream::Stdout => self.line("stdout", &line),
            Stream::Stderr => {
                self.line("stderr", &line);
                // Rust ends a panic's message with a note about backtraces, which guests do not have.
                if !line.trim().is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE") {
                    self.last_words.clear();
                    push_clean(&mut self.last_words, head(line.trim(), LAST_WORDS_BYTES_MAX));
                }
            }
        }
        drop(line);
        // Its allocation is used again for the next line.
        bytes.clear();
        self.begun[stream as usize] = bytes;
    }

    fn line(&mut self, origin: &str, line: &str) {
        let frame = "[] \n".len() + origin.len();
        let room = LOG_BYTES_MAX.saturating_sub(self.text.len() + frame);
        if self.dropped_bytes > 0 || room == 0 {
            self.dropped_bytes += line.len().max(1) as u64;
            return;
        }
        let kept = head(line, room);
        self.dropped_bytes += (line.len() - kept.len()) as u64;
        let _ = write!(self.text, "[{origin}] ");
        push_clean(&mut self.text, kept);
        self.text.push('\n');
    }
}

/// The longest beginning of a text that fits into `bytes_max` bytes.
pub(crate) fn head(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Appends a text, with `?` in place of each control character except the tab: a log is printed on terminals. One byte
/// replaces one or more, so the text never grows.
fn push_clean(to: &mut String, text: &str) {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        to.extend(text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }));
    } else {
        to.push_str(text);
    }
}

/// A guest's message for people: bounded, without control characters except tab and line break.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> String {
    let kept = head(text, bytes_max);
    let mut clean = String::with_capacity(kept.len());
    for (index, line) in kept.split('\n').enumerate() {
        if index > 0 {
            clean.push('\n');
        }
        push_clean(&mut clean, line);
    }
    if kept.len() < text.len() {
        let _ = write!(clean, "… ({} more bytes)", text.len() - kept.len());
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_order_and_their_origin() {
        let mut log = Log::default();
        log.write(Stream::Stdout, b"be");
        log.message("info", "one\ntwo");
        log.write(Stream::Stdout, b"gun\nleft");
        log.write(Stream::Stderr, b"oops \x1b[31m\n");
        assert_eq!(log.last_words(), Some("oops ?[31m"));
        let text = log.finish();
        assert_eq!(text, "[info] one\n[info] two\n[stdout] begun\n[stderr] oops ?[31m\n[stdout] left\n");
    }

    #[test]
    fn a_flood_is_cut_counted_and_marked() {
        let mut log = Log::default();
        for _ in 0..100_000 {
            log.message("info", "0123456789");
        }
        let text = log.finish();
        let kept: usize = text.lines().filter_map(|line| line.strip_prefix("[info] ")).map(str::len).sum();
        let dropped = 1_000_000 - kept;
        assert!(text.ends_with(&format!("\n[host] the log was cut here: {dropped} more bytes\n")), "{text:.100}");
        assert!(text.len() <= LOG_BYTES_MAX + 100, "{}", text.len());
    }

    #[test]
    fn one_endless_line_is_cut_as_well() {
        let mut log = Log::default();
        for _ in 0..10_000 {
            log.write(Stream::Stderr, &[b'x'; 1000]);
        }
        assert!(log.begun.iter().all(|line| line.capacity() <= 2 * LINE_BYTES_MAX));
        assert!(log.last_words().is_some_and(|words| words.len() == LAST_WORDS_BYTES_MAX));
        assert!(log.finish().len() <= LOG_BYTES_MAX + 100);
        let mut log = Log::default();
        log.message("info", &"é".repeat(LOG_BYTES_MAX));
        assert!(log.finish().len() <= LOG_BYTES_MAX + 100);
    }

    #[test]
    fn the_last_words_are_the_panic_and_not_the_note() {
        let mut log = Log::default();
        log.write(Stream::Stderr, b"\nthread '<unnamed>' panicked at src/lib.rs:\nno such crate\n");
        log.write(Stream::Stderr, b"note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n");
        assert_eq!(log.last_words(), Some("no such crate"));
    }

    #[test]
    fn messages_are_bounded_and_clean() {
        assert_eq!(bounded("a\nb\u{7}", 100), "a\nb?");
        assert_eq!(bounded("ééé", 3), "é… (4 more bytes)");
    }
}
