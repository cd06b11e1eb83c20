//! Judges an SPDX expression by lists of licences.
//! Owns what an expression means to a policy: `OR` takes its best side, `AND` its worst.
//! Never guesses: what no list names is for a person to review.

use serde::{Deserialize, Serialize};
use spdx::{Expression, LicenseReq, ParseMode};

/// What to do about a licence, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decision {
    Allow,
    Review,
    Deny,
}

/// The job's policy. An entry is a licence (`MIT`), one with its exception (`Apache-2.0 WITH LLVM-exception`), or the
/// beginning of some (`GPL-*`). Where several lists name a licence, the strictest holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rules {
    allow: Vec<String>,
    review: Vec<String>,
    deny: Vec<String>,
}

/// What this stage reads of the output of `manifest`.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    licence: Option<String>,
    licence_file: Option<String>,
    build_script: bool,
    proc_macro: bool,
}

/// The output of `licence`. The last two are passed on, because `verdict` does not see the manifest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Judged {
    pub(crate) verdict: Decision,
    pub(crate) why: String,
    pub(crate) build_script: bool,
    pub(crate) proc_macro: bool,
}

pub(crate) fn judge(manifest: &Manifest, rules: &Rules) -> Judged {
    let (verdict, why) = match (&manifest.licence, &manifest.licence_file) {
        (Some(text), _) => judge_expression(text, rules),
        (None, Some(file)) => (Decision::Review, format!("the licence is in {file} only")),
        (None, None) => (Decision::Review, "no licence is declared".to_owned()),
    };
    Judged { verdict, why, build_script: manifest.build_script, proc_macro: manifest.proc_macro }
}

/// Lenient as to spelling: `MIT/Apache-2.0`, `GPL-3.0+` and deprecated names are in crates that people use.
fn judge_expression(text: &str, rules: &Rules) -> (Decision, String) {
    let Ok(expression) = Expression::parse_mode(text, ParseMode::LAX) else {
        return (Decision::Review, format!("`{text}` is no SPDX expression"));
    };
    let verdict = if expression.evaluate(|req| rules.decide(req) == Some(Decision::Allow)) {
        Decision::Allow
    } else if expression.evaluate(|req| rules.decide(req) != Some(Decision::Deny)) {
        Decision::Review
    } else {
        Decision::Deny
    };
    if verdict == Decision::Allow {
        return (verdict, format!("the policy allows {text}"));
    }
    let mut reasons = Vec::new();
    for req in expression.requirements().map(|req| &req.req) {
        let reason = match rules.decide(req) {
            Some(Decision::Deny) if verdict == Decision::Deny => format!("licence {req} is not allowed by the policy"),
            Some(Decision::Review) if verdict == Decision::Review => format!("the policy wants licence {req} reviewed"),
            None if verdict == Decision::Review => format!("the policy does not know licence {req}"),
            _ => continue,
        };
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    (verdict, reasons.join(", "))
}

impl Rules {
    /// The strictest list that names the licence; none if no list does.
    fn decide(&self, req: &LicenseReq) -> Option<Decision> {
        let full = req.to_string();
        let base = req.license.id().map_or(full.as_str(), |id| id.name);
        let named = |list: &[String]| {
            list.iter().any(|entry| match entry.strip_suffix('*') {
                Some(beginning) => full.starts_with(beginning),
                None => *entry == full || entry == base,
            })
        };
        [(&self.deny, Decision::Deny), (&self.review, Decision::Review), (&self.allow, Decision::Allow)]
            .into_iter()
            .find_map(|(list, decision)| named(list).then_some(decision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Rules {
            allow: list(&["MIT", "Apache-2.0", "Unicode-3.0", "LGPL-2.1-or-later"]),
            review: list(&["MPL-2.0"]),
            deny: list(&["GPL-*", "AGPL-*"]),
        }
    }

    fn decide(text: &str) -> (Decision, String) {
        judge_expression(text, &rules())
    }

    #[test]
    fn or_takes_the_best_side_and_and_the_worst() {
        assert_eq!(decide("MIT OR GPL-3.0-only").0, Decision::Allow);
        assert_eq!(decide("MIT AND GPL-3.0-only").0, Decision::Deny);
        assert_eq!(decide("(MIT OR Apache-2.0) AND Unicode-3.0").0, Decision::Allow);
        assert_eq!(decide("MPL-2.0 OR GPL-2.0-only").0, Decision::Review);
    }

    #[test]
    fn legacy_spellings_are_understood() {
        assert_eq!(decide("MIT/Apache-2.0").0, Decision::Allow);
        assert_eq!(decide("MIT / Apache-2.0").0, Decision::Allow);
        assert_eq!(decide("GPL-3.0+").0, Decision::Deny);
        assert_eq!(decide("GPL-2.0").0, Decision::Deny);
    }

    #[test]
    fn an_exception_allows_no_less_than_its_licence() {
        assert_eq!(decide("Apache-2.0 WITH LLVM-exception").0, Decision::Allow);
    }

    #[test]
    fn a_beginning_is_no_middle() {
        assert_eq!(decide("LGPL-2.1-or-later").0, Decision::Allow);
    }

    #[test]
    fn reasons_name_the_licences_at_issue_alone() {
        assert_eq!(decide("GPL-3.0-only").1, "licence GPL-3.0-only is not allowed by the policy");
        assert_eq!(decide("MIT AND Zlib").1, "the policy does not know licence Zlib");
        assert_eq!(decide("MPL-2.0").1, "the policy wants licence MPL-2.0 reviewed");
        assert_eq!(decide("Zlib OR GPL-2.0-only").1, "the policy does not know licence Zlib");
    }

    #[test]
    fn what_is_unclear_is_reviewed() {
        assert_eq!(decide("as you like").0, Decision::Review);
        assert_eq!(decide("").0, Decision::Review);
        assert_eq!(decide("LicenseRef-ours").0, Decision::Review);
        let manifest = |file: Option<&str>| Manifest {
            licence: None,
            licence_file: file.map(str::to_owned),
            build_script: true,
            proc_macro: false,
        };
        assert_eq!(judge(&manifest(Some("COPYING")), &rules()).why, "the licence is in COPYING only");
        assert_eq!(judge(&manifest(None), &rules()).why, "no licence is declared");
    }

    #[test]
    fn the_strictest_list_holds() {
        let twice = Rules { allow: vec!["MIT".to_owned()], deny: vec!["MIT".to_owned()], ..Rules::default() };
        assert_eq!(judge_expression("MIT", &twice).0, Decision::Deny);
    }
}
