//! What a person wrote is what a handler reads, to the digit; or it is refused.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use gristmill_config::{Draft, Overrides};

use crate::{parse_bare, parse_with};

fn job(params: &str) -> String {
    format!("version: 1\njob: a\nparams:\n{params}\nstages: [{{ name: s, handler: s.wasm }}]\n")
}

/// What a handler is given for the parameter `p`.
fn given(value: &str) -> String {
    parse_bare(&job(&format!("  p: {value}"))).unwrap_or_else(|report| panic!("{report}")).spec.params["p"].clone()
}

#[test]
fn a_number_keeps_its_digits() {
    for number in ["0", "-7", "1.10", "215e6", "1E5", "18446744073709551616", "0.1000000000000000055511151231257827"] {
        assert_eq!(given(number), number);
    }
    assert_eq!(given("[1.0, { a: 12345678901234567890123 }]"), r#"[1.0,{"a":12345678901234567890123}]"#);
    // Behind characters of several bytes, a byte order mark and an alias, too.
    let text = format!("\u{feff}{}", job("  é資: &a 1.10 # ü\n  p: [\"é\", 2.20, *a]").replace("é資", "q"));
    assert_eq!(parse_bare(&text).unwrap().spec.params["p"], r#"["é",2.20,1.10]"#);
}

#[test]
fn a_number_that_json_cannot_write_is_refused_with_its_place() {
    for (number, read) in
        [("01234", "1234"), ("-007", "-7"), ("+32", "32"), (".5", "0.5"), ("5.", "5"), ("0x1F", "31"), ("0o17", "15")]
    {
        let report = parse_bare(&job(&format!("  p: {number}"))).unwrap_err();
        assert_eq!(report.problems.len(), 1, "{report}");
        let problem = &report.problems[0];
        assert_eq!(problem.message, format!("the number `{number}` cannot be kept as it is written"));
        let hint = format!("put it in quotes if it is text; a number is written `{read}`");
        assert_eq!(problem.hint.as_ref(), Some(&hint));
        assert_eq!(problem.place.as_ref().map(|place| (place.line, place.column)), Some((4, 6)));
    }
    for beyond in ["1e999", ".inf", "-.inf", ".nan"] {
        assert_eq!(parse_bare(&job(&format!("  p: {beyond}"))).unwrap_err().problems.len(), 1, "{beyond}");
    }
}

#[test]
fn text_stays_text() {
    for text in ["\"01234\"", "'1.10'", "!!str 01234", "1.2.3", "1_000", "no", "off", "12:30", "2024-01-01", "0x_1"] {
        let bare = text.trim_start_matches("!!str ").trim_matches(['"', '\'']);
        assert_eq!(given(text), format!("\"{bare}\""));
    }
    let text = job("  p: 0");
    for (declared, typed) in [("\"x\"", "1.10"), ("\"x\"", "true"), ("\"${env:UNSET}\"", "1")] {
        let text = text.replace("p: 0", &format!("p: {declared}"));
        let replaced = parse_with(&text, &[("p", typed)], &|_| None).unwrap();
        assert_eq!(replaced.spec.params["p"], format!("\"{typed}\""));
    }
}

#[test]
fn a_condition_keeps_the_type_of_its_parameter() {
    let job = "version: 1\njob: a\nparams: { text: \"1.10\", number: 1.10 }\nstages:\n  - name: s\n    handler: s.wasm\n    \
               when: { /a: \"${param:text}\", /b: \"${param:number}\", /c: \"${env:C}\", /d: \"${param:number}x\" }\n";
    let when = parse_with(job, &[], &|_| Some("2".to_owned())).unwrap().spec.stages[0].when.clone();
    let values: Vec<String> = when.conditions.iter().map(|condition| condition.values[0].clone()).collect();
    assert_eq!(values, ["\"1.10\"", "1.10", "\"2\"", "\"1.10x\""]);
}

#[test]
fn an_unset_variable_is_one_problem() {
    let job = "version: 1\njob: a\nparams: { folder: \"${env:UNSET}\" }\n\
               discover: { handler: \"${param:folder}/a.wasm\", grants: { files: { /a: \"${env:UNSET}\" } } }\n\
               stages: [{ name: s, handler: \"${param:folder}/s.wasm\" }]\n";
    let report = parse_bare(job).unwrap_err();
    assert_eq!(report.problems.len(), 1, "{report}");
    assert_eq!(report.problems[0].message, "the environment has no `UNSET`");
}

#[test]
fn a_variable_that_is_no_text_is_refused() {
    let env = |_: &str| Some(OsString::from_vec(b"caf\xE9".to_vec()));
    let overrides = Overrides { params: Vec::new(), env: &env };
    let text = job("  p: \"${env:NAME:-x}\"");
    let report = Draft::parse(text.as_bytes(), "job.yaml", Path::new("/"), &overrides).unwrap().finish().unwrap_err();
    assert_eq!(report.problems[0].message, "the environment's `NAME` is not UTF-8 text");
}

#[test]
fn what_a_reference_became_is_not_shown() {
    let job = "version: 1\njob: a\ndiscover: { handler: d.wasm, page: \"${env:TOKEN}\", every: \"${env:TOKEN}\" }\n\
               stages: [{ name: s, handler: s.wasm, retry: { backoff: { jitter: \"${env:TOKEN}\" } } }]\n";
    let report = parse_with(job, &[], &|_| Some("hunter2".to_owned())).unwrap_err();
    assert_eq!(report.problems.len(), 3, "{report}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
    assert!(report.problems[0].message.ends_with("not `${env:TOKEN}`"), "{report}");
}

#[test]
fn keys_for_anchors_are_the_authors_own() {
    let job = "version: 1\njob: a\nx-common: &common { timeout: 7s }\nx-: [\"${env:UNSET}\"]\n\
               stages: [{ name: s, handler: s.wasm, limits: *common }]\n";
    assert_eq!(parse_bare(job).unwrap().tuning.stages[0].limits.timeout.as_secs(), 7);
    let nested = parse_bare("version: 1\njob: a\nstages: [{ name: s, handler: s.wasm, x-note: 1 }]\n").unwrap_err();
    assert!(nested.problems[0].message.starts_with("unknown key `x-note`"), "{nested}");
}

#[test]
fn a_quoted_number_is_told_as_text() {
    let report = parse_bare("version: \"1\"\njob: a\nstages: [{ name: s, handler: s.wasm }]\n").unwrap_err();
    assert_eq!(report.problems[0].message, "`version` must be 1, not the text `1`");
    assert_eq!(report.problems[0].hint.as_deref(), Some("write it without quotes"));
}

#[test]
fn faults_of_a_component_stand_among_those_of_the_file() {
    let text = "version: 1\njob: A\ndiscover: { handler: d.wasm }\nstages:\n  - name: s\n    handler: s.wasm\n  - t\n\
                display: 01\n";
    let overrides = Overrides { params: Vec::new(), env: &|_| None };
    let mut draft = Draft::parse(text.as_bytes(), "job.yaml", Path::new("/"), &overrides).unwrap();
    assert!(!draft.is_sound());
    assert_eq!(draft.job().spec.stages.len(), 2);
    draft.add(Some("t"), "it is not there", Some("build it".to_owned()));
    draft.add(Some("s"), "it has no such stage", None);
    draft.add(None, "it finds nothing", None);
    let report = draft.finish().unwrap_err();
    let lines: Vec<usize> = report.problems.iter().map(|problem| problem.place.as_ref().unwrap().line).collect();
    assert_eq!(lines, [2, 3, 6, 7, 8]);
    assert_eq!(report.problems[2].message, "stage `s`: it has no such stage");
}
