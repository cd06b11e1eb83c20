//! Fails as the item's data says: `{"kind": "retry", "message": "busy", "after_ms": 50}`. The kind `ok` succeeds, and
//! `once` is a retry on the first attempt and succeeds on the second.

use std::time::Duration;

use gristmill_guest::{Failure, Work};
use serde::Deserialize;

#[derive(Deserialize)]
struct Wanted {
    kind: String,
    #[serde(default)]
    message: String,
    after_ms: Option<u64>,
}

pub(crate) fn run(work: &Work) -> Result<u32, Failure> {
    let Wanted { kind, message, after_ms } = work.data()?;
    let failure = match kind.as_str() {
        "ok" => return Ok(work.attempt),
        "once" if work.attempt > 1 => return Ok(work.attempt),
        "retry" | "once" => Failure::retry(message),
        "later" => Failure::later(message),
        "permanent" => Failure::permanent(message),
        "skip" => Failure::skip(message),
        other => Failure::other(other, message),
    };
    Err(match after_ms {
        Some(wait) => failure.after(Duration::from_millis(wait)),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_names_the_failure() -> Result<(), Failure> {
        let fail = |kind: &str| {
            let data = serde_json::json!({ "kind": kind, "message": "m", "after_ms": 5 });
            Work::new("failures", "a", &data).and_then(|work| run(&work))
        };
        assert_eq!(fail("retry"), Err(Failure::retry("m").after(Duration::from_millis(5))));
        assert_eq!(fail("skip"), Err(Failure::skip("m")));
        assert_eq!(fail("odd"), Err(Failure::other("odd", "m")));
        assert_eq!(fail("ok"), Ok(1));
        Ok(())
    }
}
