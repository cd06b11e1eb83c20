//! No text makes the reader panic, and no small text makes it work long.

use crate::{fixtures, parse_bare};
use gristmill_config::FILE_BYTES_MAX;
use proptest::prelude::*;

const HEAD: &str = "version: 1\njob: a\nstages: [{ name: s, handler: s.wasm }]\ndisplay: ";

/// The one sentence about a text that is refused for its size.
fn refused(text: &str) -> String {
    let report = parse_bare(text).unwrap_err();
    assert_eq!(report.problems.len(), 1, "{report}");
    report.problems[0].message.clone()
}

#[test]
fn bombs_are_refused() {
    let nodes = "a job file may hold at most 20000 values, what aliases repeat included";
    let depth = "a job file may nest at most 32 levels deep";
    assert_eq!(refused(&format!("{HEAD}[{}]", "x,".repeat(20_000))), nodes);
    assert_eq!(refused(&format!("{HEAD}{}", "[".repeat(500_000))), depth);
    assert_eq!(refused(&format!("{HEAD}{}", "{a: ".repeat(200_000))), depth);
    assert_eq!(refused(&format!("{HEAD}\n  {}", "- ".repeat(500_000))), depth);
    let anchors = (0..1000).map(|n| format!("&a{n} x,")).collect::<Vec<_>>().concat();
    assert_eq!(refused(&format!("{HEAD}[{anchors}]")), "a job file may have at most 200 anchors and 200 aliases");
    let long = "x".repeat(500_000);
    assert_eq!(
        refused(&format!("{HEAD}[&a {long}{}]", ", *a".repeat(10))),
        "a job file may hold at most 2097152 bytes of text, what aliases repeat included"
    );
    let references =
        format!("params: {{ x: {} }}\ndiscover: {{ handler: '{}' }}", &long[..9999], "${param:x}".repeat(200));
    assert_eq!(
        refused(&format!("{HEAD}1\n{references}")),
        "the references of this file become more than 1048576 bytes"
    );
    let large = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    assert_eq!(refused(&large), "the job file is larger than a job file may be (1048576 bytes)");
}

#[test]
fn a_file_that_is_all_faults_ends_in_a_short_report() {
    let text = format!("{HEAD}1\n{}", (0..9000).map(|n| format!("k{n}: 1\n")).collect::<Vec<_>>().concat());
    let report = parse_bare(&text).unwrap_err();
    assert_eq!(report.problems.len(), 9000);
    assert!(report.to_string().ends_with("… and 8950 more"));
    let long_line = format!("{HEAD}1\n{}: 1\n{}: x", "k".repeat(900), "é\u{1b}".repeat(10));
    assert!(parse_bare(&long_line).unwrap_err().to_string().lines().all(|line| line.chars().count() < 300));
}

#[test]
fn what_a_file_says_does_not_reach_the_terminal_raw() {
    let report = parse_bare("version: 1\njob: \"\\e[31m\"\n\"\\e[2J\": 1\nstages: []\n").unwrap_err().to_string();
    assert!(!report.contains('\u{1b}'), "{report}");
}

#[test]
fn a_byte_order_mark_moves_no_place() {
    let report = parse_bare("\u{feff}version: 2\njob: a\nstages: [{ name: s, handler: s.wasm }]\n").unwrap_err();
    assert!(report.to_string().ends_with("version: 2\n      |          ^"), "{report}");
}

/// A valid file with a piece taken out, doubled or replaced.
fn mutated() -> impl Strategy<Value = String> {
    let texts: Vec<String> = fixtures("valid").into_iter().map(|(_, text)| text).collect();
    let piece = prop_oneof![
        Just(String::new()),
        "[-\\[\\]{}:,&*!|>'\"%@`#?~ \\t\\n]{1,4}",
        Just("\u{feff}".to_owned()),
        Just("\r".to_owned()),
        Just("&a [*a]".to_owned()),
        Just("${env:".to_owned()),
        any::<String>(),
    ];
    (prop::sample::select(texts), any::<prop::sample::Index>(), 0usize..20, piece).prop_map(
        |(text, at, length, piece)| {
            let chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            let end = (at + length).min(chars.len());
            chars[..at].iter().copied().chain(piece.chars()).chain(chars[end..].iter().copied()).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_a_job_or_a_report(text in any::<String>()) {
        if let Err(report) = parse_bare(&text) {
            prop_assert!(!report.problems.is_empty());
            prop_assert!(!report.to_string().is_empty());
        }
    }

    #[test]
    fn mutated_files_are_a_job_or_a_report_with_places(text in mutated()) {
        if let Err(report) = parse_bare(&text) {
            prop_assert!(!report.to_string().is_empty());
            for place in report.problems.iter().filter_map(|problem| problem.place.as_ref()) {
                prop_assert!(place.column + place.width <= place.text.chars().count() + 2, "{:?}", place);
            }
        }
    }
}
