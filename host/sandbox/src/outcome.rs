//! From what a guest did to an outcome.
//!
//! Owns the sentences that people read about a failed attempt, and the checks of what a guest returned. Never shows a
//! backtrace or a debug dump, and never copies more of a guest's text than a bound.

use std::time::Duration;

use gristmill_model::{Limits, Outcome};
use thiserror::Error;
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

use crate::log::{bounded, head};
use crate::names::{cursor_fault, key_fault};
use crate::state::State;
use crate::{GuestFailure, NewItem, Page, abi};

/// How many bytes of a guest's message are kept.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// The message for a guest that gives none.
const NO_REASON: &str = "the handler gave no reason";

/// A request that the host refuses with a trap. This is the reason.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// Why a call ended without a result.
pub(crate) fn of_error(error: &wasmtime::Error, state: &State, limits: &Limits) -> GuestFailure {
    let (outcome, what) = describe(error, state, limits);
    let message = match state.log.lock().last_words() {
        Some(words) if outcome == Outcome::Trap && error.downcast_ref() == Some(&Trap::UnreachableCodeReached) => {
            format!("panicked: {words}")
        }
        Some(words) if outcome == Outcome::Trap => format!("{what}: {words}"),
        _ => what,
    };
    GuestFailure { outcome, after: None, message: self::message(&message) }
}

fn describe(error: &wasmtime::Error, state: &State, limits: &Limits) -> (Outcome, String) {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return (Outcome::Timeout, format!("ran longer than its limit of {:?}", limits.timeout));
    }
    if let Some(refusal) = state.limiter.refusal() {
        return (Outcome::Later, format!("this machine refused it memory that its limit allows: {refusal}"));
    }
    if let Some(refused) = state.limiter.refused_bytes() {
        let (wanted, limit) = (bytes(refused as u64), bytes(limits.memory_bytes_max));
        return (Outcome::Memory, format!("wanted {wanted} of memory, and its limit is {limit}"));
    }
    let what = if let Some(trap) = trap {
        in_words(*trap)
    } else if let Some(Refused(reason)) = error.downcast_ref() {
        reason.clone()
    } else if let Some(I32Exit(status)) = error.downcast_ref() {
        format!("called exit({status})")
    } else {
        let cause = error.root_cause().to_string();
        format!("broke the rules of the component model: {}", cause.lines().next().unwrap_or_default())
    };
    (Outcome::Trap, what)
}

fn in_words(trap: Trap) -> String {
    match trap {
        Trap::UnreachableCodeReached => "trapped: it panicked or aborted".to_owned(),
        Trap::StackOverflow => "trapped: it ran out of stack, as in an endless recursion".to_owned(),
        Trap::MemoryOutOfBounds => "trapped: it reached outside its memory".to_owned(),
        other => {
            let words = other.to_string();
            format!("trapped: {}", words.strip_prefix("wasm trap: ").unwrap_or(&words))
        }
    }
}

/// The failure that a guest returned, as the host sees it.
pub(crate) fn of_failure(failure: abi::Failure) -> GuestFailure {
    let (outcome, after_ms, message) = match failure {
        abi::Failure::Retry(hint) => (Outcome::Retry, hint.after_ms, hint.message),
        abi::Failure::Later(hint) => (Outcome::Later, hint.after_ms, hint.message),
        abi::Failure::Permanent(message) => (Outcome::Permanent, None, message),
        abi::Failure::Skip(reason) => (Outcome::Skipped, None, reason),
        abi::Failure::Other((kind, message)) => (Outcome::Permanent, None, format!("{kind}: {message}")),
    };
    let after = after_ms.map(|ms| Duration::from_millis(ms.into()));
    let message = if message.trim().is_empty() { NO_REASON } else { &message };
    GuestFailure { outcome, after, message: self::message(message) }
}

/// Checks an output: small enough, and JSON.
pub(crate) fn check_output(output: String, limits: &Limits) -> Result<String, GuestFailure> {
    check_size("its output", output.len() as u64, limits)?;
    check_json("its output", &output)?;
    Ok(output)
}

/// Checks a page of items: each item, and the page as a whole.
pub(crate) fn check_page(page: abi::Page, limit: u32, limits: &Limits) -> Result<Page, GuestFailure> {
    let size: usize = page.items.iter().map(|item| item.key.len() + item.data.len()).sum();
    check_size("its page", (size + page.next.as_ref().map_or(0, String::len)) as u64, limits)?;
    if page.items.len() > limit as usize {
        return Err(bad(format!("returned {} items, and was asked for {limit} at most", page.items.len())));
    }
    if let Some(fault) = page.next.as_deref().and_then(cursor_fault) {
        return Err(bad(format!("its cursor for the next page {fault}")));
    }
    let mut items = Vec::with_capacity(page.items.len());
    for abi::NewItem { key, data, priority } in page.items {
        if let Some(fault) = key_fault(&key) {
            return Err(bad(format!("an item's key {fault}: {}", quoted(&key))));
        }
        check_json(&format!("the data of item {}", quoted(&key)), &data)?;
        items.push(NewItem { key, data, priority: priority.unwrap_or(0) });
    }
    Ok(Page { items, next: page.next })
}

fn check_size(what: &str, size: u64, limits: &Limits) -> Result<(), GuestFailure> {
    if size <= limits.output_bytes_max {
        return Ok(());
    }
    Err(bad(format!("{what} has {}, and the limit is {}", bytes(size), bytes(limits.output_bytes_max))))
}

fn check_json(what: &str, text: &str) -> Result<(), GuestFailure> {
    gristmill_model::check_json(text).map_err(|reason| bad(format!("{what} {reason}")))
}

fn bad(message: String) -> GuestFailure {
    GuestFailure { outcome: Outcome::BadOutput, after: None, message }
}

/// A guest's message for people.
pub(crate) fn message(text: &str) -> String {
    bounded(text, MESSAGE_BYTES_MAX)
}

/// A name that a guest made up, in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("{:?}", head(name, 200))
}

/// `64 MiB`, `1.5 MiB`, `700 bytes`.
pub(crate) fn bytes(count: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) if count.is_multiple_of(unit) => format!("{} {name}", count / unit),
        Some((name, unit)) => format!("{:.1} {name}", count as f64 / unit as f64),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, data: &str) -> abi::NewItem {
        abi::NewItem { key: key.to_owned(), data: data.to_owned(), priority: None }
    }

    fn page(items: Vec<abi::NewItem>) -> Result<Page, GuestFailure> {
        let limits = Limits { output_bytes_max: 4000, ..Limits::default() };
        check_page(abi::Page { items, next: None, meta: Vec::new() }, 2, &limits)
    }

    #[test]
    fn outputs_are_json_within_the_limit_and_kept_byte_for_byte() {
        let limits = Limits { output_bytes_max: 10, ..Limits::default() };
        assert_eq!(check_output(" [1, 2] ".to_owned(), &limits).unwrap(), " [1, 2] ");
        for output in ["", "{", "nope", "[1] 2", "\"0123456789\""] {
            let failure = check_output(output.to_owned(), &limits).unwrap_err();
            assert_eq!(failure.outcome, Outcome::BadOutput, "{output}");
        }
    }

    #[test]
    fn pages_are_checked_item_by_item_and_in_all() {
        assert_eq!(page(vec![item("a", "1"), item("b", "{}")]).unwrap().items.len(), 2);
        for (items, says) in [
            (vec![item("a", "1"), item("b", "1"), item("c", "1")], "returned 3 items"),
            (vec![item("", "1")], "has 0 bytes"),
            (vec![item(&"k".repeat(1025), "1")], "has 1025 bytes"),
            (vec![item("a\0", "1")], "an item's key holds a control character, U+0000: \"a\\0\""),
            (vec![item("a", "nope")], "the data of item \"a\" is not JSON"),
            (vec![item("a", &"1".repeat(5000))], "its page has 4.9 KiB, and the limit is 3.9 KiB"),
        ] {
            let failure = page(items).unwrap_err();
            assert!(failure.message.contains(says), "{}", failure.message);
        }
    }

    #[test]
    fn a_cursor_that_no_tracker_holds_fails_its_page() {
        let page = abi::Page { items: Vec::new(), next: Some("a\0".to_owned()), meta: Vec::new() };
        let failure = check_page(page, 2, &Limits::default()).unwrap_err();
        assert_eq!(failure.message, "its cursor for the next page holds the character NUL");
    }

    #[test]
    fn a_failure_without_a_word_is_told_as_that() {
        for empty in ["", " \n"] {
            let failure = of_failure(abi::Failure::Permanent(empty.to_owned()));
            assert_eq!(failure.message, "the handler gave no reason");
        }
        let failure = of_failure(abi::Failure::Skip("x".repeat(10 << 20)));
        assert!(failure.message.len() < 2 * MESSAGE_BYTES_MAX);
    }

    #[test]
    fn json_that_only_some_of_the_host_could_read_is_refused_at_the_door() {
        for (data, says) in [
            ("[1e999]", "the data of item \"a\" has a number beyond ±1.8e308"),
            ("\"\\ud800\"", "the data of item \"a\" has half a character"),
            (&"[".repeat(130), "the data of item \"a\" nests more than 127 levels deep"),
        ] {
            let failure = page(vec![item("a", data)]).unwrap_err();
            assert!(failure.message.starts_with(says), "{}", failure.message);
        }
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!([700, 1024, 1536 << 10, 64 << 20].map(bytes), ["700 bytes", "1 KiB", "1.5 MiB", "64 MiB"]);
    }
}
