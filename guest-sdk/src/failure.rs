//! How a stage, a page or a merge fails.
//! Owns the kinds of failure and the mapping from ordinary errors, so that `?` works.
//! Never decides how often or when something is tried again: the host does.

use std::error::Error;
use std::fmt::{self, Display};
use std::time::Duration;

use crate::bindings::base::gristmill::handler::types;

/// Why a handler has no result.
///
/// Any [`Error`] becomes [`permanent`](Self::permanent) through `?`: a handler is a function of its inputs, so what
/// failed once fails again. Where that is not so (a network, a file that is still being written), say it with
/// [`OrFail`]: `read().or_retry()?`.
///
/// It is not an [`Error`] itself, because then `?` could not take every error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Retry(Option<Duration>),
    Later(Option<Duration>),
    Permanent,
    Skip,
    Other(String),
}

impl Failure {
    /// Transient: trying again may help. Consumes an attempt.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Kind::Retry(None), message)
    }

    /// Something that this work needs is not there yet. Consumes no attempt, but has a cap of its own.
    pub fn later(message: impl Into<String>) -> Self {
        Self::new(Kind::Later(None), message)
    }

    /// Trying again cannot help: the stage is dead at once.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(Kind::Permanent, message)
    }

    /// No failure: the stage does not apply to this item. What depends on it goes on without its output.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::new(Kind::Skip, reason)
    }

    /// A kind that this SDK has no name for. A host that does not know it treats it as permanent.
    pub fn other(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Kind::Other(kind.into()), message)
    }

    /// Asks the host to wait at least this long (whole milliseconds, 49 days at most) before it tries again; without
    /// it the job's backoff decides. Means nothing where nothing is tried again, and is dropped there.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        if let Kind::Retry(after) | Kind::Later(after) = &mut self.kind {
            *after = Some(wait);
        }
        self
    }

    /// What people read.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    fn from_error(kind: Kind, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self { kind, message }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::from_error(Kind::Permanent, &error)
    }
}

/// Says what an error means where it happens; the error's text and its sources become the message.
pub trait OrFail<T> {
    /// Makes an error a [`Failure::retry`].
    ///
    /// # Errors
    /// If `self` is an error.
    fn or_retry(self) -> Result<T, Failure>;
    /// Makes an error a [`Failure::later`].
    ///
    /// # Errors
    /// If `self` is an error.
    fn or_later(self) -> Result<T, Failure>;
    /// Makes an error a [`Failure::skip`].
    ///
    /// # Errors
    /// If `self` is an error.
    fn or_skip(self) -> Result<T, Failure>;
    /// Makes an error a [`Failure::permanent`], whose message begins with `doing`: what was being done.
    ///
    /// # Errors
    /// If `self` is an error.
    fn or_permanent(self, doing: impl Display) -> Result<T, Failure>;
}

impl<T, E: Error> OrFail<T> for Result<T, E> {
    fn or_retry(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::from_error(Kind::Retry(None), &error))
    }

    fn or_later(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::from_error(Kind::Later(None), &error))
    }

    fn or_skip(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::from_error(Kind::Skip, &error))
    }

    fn or_permanent(self, doing: impl Display) -> Result<T, Failure> {
        self.map_err(|error| {
            let failure = Failure::from(error);
            Failure::permanent(format!("{doing}: {failure}"))
        })
    }
}

impl From<Failure> for types::Failure {
    fn from(Failure { kind, message }: Failure) -> Self {
        let hint = |after: Option<Duration>, message| types::Hint {
            after_ms: after.map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)),
            message,
        };
        match kind {
            Kind::Retry(after) => Self::Retry(hint(after, message)),
            Kind::Later(after) => Self::Later(hint(after, message)),
            Kind::Permanent => Self::Permanent(message),
            Kind::Skip => Self::Skip(message),
            Kind::Other(kind) => Self::Other((kind, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_mark_makes_an_error_permanent() {
        fn parse(text: &str) -> Result<u32, Failure> {
            Ok(text.parse::<u32>()?)
        }
        assert_eq!(parse("7"), Ok(7));
        assert_eq!(parse("x"), Err(Failure::permanent("invalid digit found in string")));
    }

    #[test]
    fn a_wait_crosses_the_border_in_milliseconds() {
        let failure = Failure::retry("busy").after(Duration::from_secs(2));
        let types::Failure::Retry(hint) = failure.into() else { panic!("not a retry") };
        assert_eq!((hint.after_ms, hint.message.as_str()), (Some(2_000), "busy"));
    }

    #[test]
    fn a_wait_too_long_to_carry_is_the_longest_there_is() {
        let failure = Failure::later("soon").after(Duration::MAX);
        let types::Failure::Later(hint) = failure.into() else { panic!("not a later") };
        assert_eq!(hint.after_ms, Some(u32::MAX));
    }

    #[test]
    fn a_wait_means_nothing_where_nothing_is_tried_again() {
        assert_eq!(Failure::skip("no").after(Duration::from_secs(1)), Failure::skip("no"));
    }

    #[test]
    fn an_error_can_be_made_transient() {
        let failure = "x".parse::<u32>().or_retry().expect_err("no number");
        assert_eq!(failure, Failure::retry("invalid digit found in string"));
    }

    #[test]
    fn a_message_can_say_what_was_being_done() {
        let failure = "x".parse::<u32>().or_permanent("count").expect_err("no number");
        assert_eq!(failure.message(), "count: invalid digit found in string");
    }
}
