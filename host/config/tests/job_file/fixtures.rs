//! Every valid fixture is a job; every invalid one is refused with the report beside it. `UPDATE_EXPECT=1` writes the
//! reports anew.

use crate::{fixtures, parse_at_home, parse_bare};

#[test]
fn valid_files_are_jobs() {
    for (path, text) in fixtures("valid") {
        let job = parse_at_home(&text).unwrap_or_else(|report| panic!("{}:\n{report}", path.display()));
        assert_eq!(job.yaml, text);
        assert_eq!(job.spec.stages.len(), job.tuning.stages.len());
    }
}

#[test]
fn invalid_files_are_refused_with_their_report() {
    let mut wrong = Vec::new();
    for (path, text) in fixtures("invalid") {
        let report = parse_bare(&text).expect_err(&path.display().to_string());
        let shown = format!("{report}\n");
        let expected_path = path.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&expected_path, &shown).unwrap();
        }
        if std::fs::read_to_string(&expected_path).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
