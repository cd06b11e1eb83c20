//! Says in one line what to do about a crate.
//! Owns the score: what is worth how many points of risk.
//! Never repeats what another stage found out: it only weighs.

use serde::{Deserialize, Serialize};

use crate::licence::{Decision, Judged};

/// What this stage reads of the output of `source`.
#[derive(Debug, Deserialize)]
pub(crate) struct Source {
    lines: u64,
    unsafe_lines: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    Review,
    Deny,
}

/// The output of `verdict`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the field's name is part of the output")]
pub(crate) struct Verdict {
    verdict: Outcome,
    /// Risk from 0 to 100.
    score: u64,
    /// One sentence that a person can act on.
    line: String,
}

/// From this score on a person should look.
const REVIEW_FROM: u64 = 20;
/// Runs on the machine of whoever builds it.
const BUILD_SCRIPT: u64 = 10;
const PROC_MACRO: u64 = 5;
/// Twenty lines of unsafe are a point, up to this many.
const UNSAFE_MAX: u64 = 30;
const UNSAFE_LINES_A_POINT: u64 = 20;
const LICENCE_REVIEW: u64 = 50;
const SCORE_MAX: u64 = 100;

pub(crate) fn judge(licence: &Judged, source: &Source) -> Verdict {
    let score = score(licence, source);
    let verdict = match licence.verdict {
        Decision::Deny => Outcome::Deny,
        Decision::Review => Outcome::Review,
        Decision::Allow if score >= REVIEW_FROM => Outcome::Review,
        Decision::Allow => Outcome::Ok,
    };
    let line = match verdict {
        Outcome::Deny => format!("deny: {}", licence.why),
        Outcome::Review => format!("review: {}", concerns(licence, source)),
        Outcome::Ok => format!("ok: {}, {}", licence.why, code(source)),
    };
    Verdict { verdict, score, line }
}

fn score(licence: &Judged, source: &Source) -> u64 {
    let licence_points = match licence.verdict {
        Decision::Allow => 0,
        Decision::Review => LICENCE_REVIEW,
        Decision::Deny => SCORE_MAX,
    };
    let points = licence_points
        + (source.unsafe_lines / UNSAFE_LINES_A_POINT).min(UNSAFE_MAX)
        + u64::from(licence.build_script) * BUILD_SCRIPT
        + u64::from(licence.proc_macro) * PROC_MACRO;
    points.min(SCORE_MAX)
}

fn concerns(licence: &Judged, source: &Source) -> String {
    let mut concerns = Vec::new();
    if licence.verdict != Decision::Allow {
        concerns.push(licence.why.clone());
    }
    if licence.build_script {
        concerns.push("a build script".to_owned());
    }
    if licence.proc_macro {
        concerns.push("a proc macro".to_owned());
    }
    if source.unsafe_lines > 0 {
        concerns.push(code(source));
    }
    match concerns.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => unreachable!("a review has a cause: its licence, or points"),
    }
}

fn code(source: &Source) -> String {
    match source.unsafe_lines {
        0 => format!("no unsafe in {}", lines(source.lines)),
        count => format!("{} of unsafe in {}", lines(count), grouped(source.lines)),
    }
}

fn lines(count: u64) -> String {
    format!("{} line{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// Digits in groups of three: `12 000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(verdict: Decision, why: &str) -> Judged {
        Judged { verdict, why: why.to_owned(), build_script: false, proc_macro: false }
    }

    fn source(lines: u64, unsafe_lines: u64) -> Source {
        Source { lines, unsafe_lines }
    }

    #[test]
    fn a_denied_licence_is_the_whole_story() {
        let licence = judged(Decision::Deny, "licence GPL-3.0-only is not allowed by the policy");
        let verdict = judge(&licence, &source(10, 5));
        assert_eq!(verdict.line, "deny: licence GPL-3.0-only is not allowed by the policy");
        assert_eq!((verdict.verdict, verdict.score), (Outcome::Deny, 100));
    }

    #[test]
    fn risks_add_up_to_a_review() {
        let licence = Judged { build_script: true, ..judged(Decision::Allow, "the policy allows MIT") };
        let verdict = judge(&licence, &source(12_000, 412));
        assert_eq!(verdict.line, "review: a build script and 412 lines of unsafe in 12 000");
        assert_eq!((verdict.verdict, verdict.score), (Outcome::Review, 30));
    }

    #[test]
    fn every_cause_is_in_the_line() {
        let licence =
            Judged { proc_macro: true, build_script: true, ..judged(Decision::Review, "no licence is declared") };
        let verdict = judge(&licence, &source(1_234_567, 1));
        assert_eq!(
            verdict.line,
            "review: no licence is declared, a build script, a proc macro and 1 line of unsafe in 1 234 567"
        );
        assert_eq!(verdict.score, 65);
    }

    #[test]
    fn a_small_risk_is_ok_and_is_said() {
        let licence = judged(Decision::Allow, "the policy allows MIT");
        let verdict = judge(&licence, &source(1_000, 20));
        assert_eq!(verdict.line, "ok: the policy allows MIT, 20 lines of unsafe in 1 000");
        assert_eq!(judge(&licence, &source(1, 0)).line, "ok: the policy allows MIT, no unsafe in 1 line");
    }

    #[test]
    fn the_border_between_ok_and_review() {
        let licence = judged(Decision::Allow, "the policy allows MIT");
        assert_eq!(judge(&licence, &source(10_000, 399)).verdict, Outcome::Ok);
        assert_eq!(judge(&licence, &source(10_000, 400)).verdict, Outcome::Review);
    }
}
