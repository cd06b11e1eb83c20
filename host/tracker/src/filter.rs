//! The text form of a filter, which an operation stores.
//!
//! Owns its JSON, which is the same in every backend, since operations are copied between them. Never applies a filter.

use gristmill_model::{DeadReason, JobId, StageId, Timestamp};
use serde_json::{Value, json};

use crate::Error;
use crate::records::DeadFilter;

/// Writes a filter. Its job is not part of it.
pub fn to_json(filter: &DeadFilter) -> String {
    let DeadFilter { job: _, stage, reason, error, before, keys } = filter;
    json!({
        "stage": stage.map(|stage| stage.0),
        "reason": reason.map(DeadReason::name),
        "error": error,
        "before": before.map(|before| before.0),
        "keys": keys,
    })
    .to_string()
}

/// Reads a filter.
///
/// # Errors
/// If `to_json` did not write the text.
pub fn from_json(job: JobId, text: &str) -> Result<DeadFilter, Error> {
    read(job, text).ok_or_else(|| Error::Damaged(format!("the filter of an operation: {text}")))
}

fn read(job: JobId, text: &str) -> Option<DeadFilter> {
    let value: Value = serde_json::from_str(text).ok()?;
    let given = |name| value.get(name).filter(|value| !value.is_null());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(DeadFilter {
        job,
        stage: given("stage").map(|stage| stage.as_i64().map(StageId).ok_or(())).transpose().ok()?,
        reason: given("reason").map(|name| name.as_str().and_then(DeadReason::from_name).ok_or(())).transpose().ok()?,
        error: given("error").map(|error| text(error).ok_or(())).transpose().ok()?,
        before: given("before").map(|before| before.as_i64().map(Timestamp).ok_or(())).transpose().ok()?,
        keys: given("keys")
            .map(|keys| keys.as_array().and_then(|keys| keys.iter().map(text).collect::<Option<_>>()).ok_or(()))
            .transpose()
            .ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_as_it_was_written() {
        let job = JobId(7);
        let full = DeadFilter {
            job,
            stage: Some(StageId(449)),
            reason: Some(DeadReason::Poison),
            error: Some("\"quoted\"".to_owned()),
            before: Some(Timestamp(-1)),
            keys: Some(vec!["a".to_owned(), String::new()]),
        };
        for filter in [full, DeadFilter::all(job)] {
            assert_eq!(from_json(job, &to_json(&filter)).expect("a filter"), filter);
        }
        for text in ["", "[]x", r#"{"stage":"a"}"#, r#"{"keys":[1]}"#, r#"{"reason":"boredom"}"#] {
            assert!(from_json(job, text).is_err(), "{text}");
        }
    }
}
