//! From a job file to a draft of its job, or a report.
//!
//! Owns the order of the steps, and which files are refused unread. Reads only the job file, and does not check whether
//! handlers and folders exist. Never reads the environment or the arguments: the caller passes both.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;

use gristmill_model::{Job, check_json};

use crate::check::{check, check_duplicates, did_you_mean};
use crate::draft::{Draft, Places};
use crate::encoding;
use crate::interpolate::{Param, Params, Sources};
use crate::keys::{EXTENSION, JOB};
use crate::report::{Problem, Report, quoted};
use crate::resolve::Resolver;
use crate::yaml::{self, Node, Value};

/// The largest job file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the person who starts a job sets in addition to its file.
pub struct Overrides<'a> {
    /// Names and values that replace declared parameters. If the file has text, the value is text. Otherwise it is JSON
    /// if it can be read as JSON, and text if not.
    pub params: Vec<(String, String)>,
    /// Looks up a variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Draft {
    /// Reads a job from its file. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// If it cannot be read, or is no YAML at all. Other faults are in the draft.
    pub fn read(path: &Path, overrides: &Overrides<'_>) -> Result<Self, Report> {
        let (file, base_dir) = (path.display().to_string(), path.parent().unwrap_or(Path::new("")));
        Self::read_from(gristmill_files::open(path), &file, base_dir, overrides)
    }

    /// Reads a job from an opened file. `file` names it in reports; relative paths start at `base_dir`.
    ///
    /// # Errors
    /// If it cannot be read, or is no YAML at all. Other faults are in the draft.
    pub fn read_from(
        opened: io::Result<impl Read>,
        file: &str,
        base_dir: &Path,
        overrides: &Overrides<'_>,
    ) -> Result<Self, Report> {
        let bytes = opened.and_then(head).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let cause = format!("the job file cannot be read: {error}");
            let message = if missing { "there is no such file".to_owned() } else { cause };
            let hint = missing.then(|| "a relative path starts in the current folder".to_owned());
            Report::new(file, "", vec![Problem::new(None, message).hint(hint)])
        })?;
        Self::parse(&bytes, file, base_dir, overrides)
    }

    /// Reads a job from a file's bytes. `file` names it in reports; relative paths start at `base_dir`.
    ///
    /// # Errors
    /// If it cannot be read, or is no YAML at all. Other faults are in the draft.
    pub fn parse(bytes: &[u8], file: &str, base_dir: &Path, overrides: &Overrides<'_>) -> Result<Self, Report> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let message = format!("the job file is larger than a job file may be ({FILE_BYTES_MAX} bytes)");
            return Err(Report::new(file, "", vec![Problem::new(None, message)]));
        }
        let text = encoding::text(bytes).map_err(|(shown, problem)| Report::new(file, &shown, vec![*problem]))?;
        let mut problems = Vec::new();
        let mut root = yaml::parse(text, &mut problems).map_err(|problem| Report::new(file, text, vec![*problem]))?;
        check_duplicates(&root, &mut problems);
        // Such keys only hold anchors, and the parser has already followed those.
        if let Value::Map(entries) = &mut root.value {
            entries.retain(|entry| !entry.key.starts_with(EXTENSION));
        }
        let mut sources = Sources::new(overrides.env);
        let params = params(&mut root, overrides, &mut sources, &mut problems);
        sources.expand_job(&mut root, &params, &mut problems);
        check(&root, &JOB, "the job file", &mut problems);
        let mut resolver = Resolver { base_dir, env: overrides.env, problems };
        let (spec, tuning, display) = resolver.job(&root, &params);
        let job = Job { spec, tuning, display, yaml: text.to_owned() };
        Ok(Self::new(job, file, Places::of(&root), resolver.problems))
    }
}

/// The first bytes of a job file: one more than the largest file has.
fn head(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The parameters: as declared, with the environment filled in, and with the caller's replacements.
fn params(
    root: &mut Node,
    overrides: &Overrides<'_>,
    sources: &mut Sources<'_>,
    problems: &mut Vec<Problem>,
) -> Params {
    let mut params = Params::new();
    if let Some(Node { value: Value::Map(entries), .. }) = root.get_mut("params") {
        for entry in entries {
            // A parameter that is replaced may refer to variables that are not set.
            if !overrides.params.iter().any(|(name, _)| *name == entry.key) {
                sources.expand_all(&mut entry.node, problems);
            }
            params.insert(entry.key.clone(), declared(&entry.node));
        }
    }
    let mut unknown = BTreeSet::new();
    for (name, value) in &overrides.params {
        match params.get_mut(name) {
            Some(declared) => match replaced(name, declared, value) {
                Ok(value) => *declared = value,
                Err(problem) => problems.push(*problem),
            },
            None => drop(unknown.insert(name)),
        }
    }
    problems.extend(unknown.into_iter().map(|name| undeclared(name, &params)));
    params
}

fn declared(node: &Node) -> Param {
    match &node.value {
        Value::Text(text) => Param::Text(text.clone()),
        Value::Faulty => Param::Faulty,
        _ => Param::Json(node.to_json()),
    }
}

/// The new value of a replaced parameter. Text stays text: `1.10` may be a version, `215e6` a commit.
fn replaced(name: &str, declared: &Param, value: &str) -> Result<Param, Box<Problem>> {
    match (declared, check_json(value)) {
        (Param::Text(_), _) => Ok(Param::Text(value.to_owned())),
        (_, Ok(())) => Ok(match serde_json::from_str(value) {
            Ok(text) => Param::Text(text),
            Err(_) => Param::Json(value.trim().to_owned()),
        }),
        (Param::Json(declared), Err(reason)) if declared.starts_with(['[', '{']) => {
            let message = format!("the value of `--param {name}` {reason}");
            let hint = "the job file has a list or a mapping there; JSON has its names and texts in double quotes";
            Err(Box::new(Problem::new(None, message).hint(hint.to_owned())))
        }
        (Param::Json(_) | Param::Faulty, Err(_)) => Ok(Param::Text(value.to_owned())),
    }
}

fn undeclared(name: &str, params: &Params) -> Problem {
    let names = || params.keys().map(String::as_str);
    let all = if params.is_empty() { "it declares none".to_owned() } else { names().collect::<Vec<_>>().join(", ") };
    let hint = did_you_mean(name, names()).map_or_else(String::new, |hint| format!("{hint} "));
    let problem = Problem::new(None, format!("this job declares no parameter {}", quoted(name)));
    problem.hint(format!("{hint}declared: {all}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_keeps_the_digits_that_were_typed() {
        let replaced = |declared: &str, value| {
            let declared = match declared.strip_prefix('"') {
                Some(text) => Param::Text(text.to_owned()),
                None => Param::Json(declared.to_owned()),
            };
            replaced("p", &declared, value).map(|value| value.to_json().unwrap())
        };
        for text in ["1.10", "215e6", "01234", "true", "[1]", "12345678901234567890123"] {
            assert_eq!(replaced("\"x", text).unwrap(), format!("{text:?}"));
        }
        assert_eq!(replaced("1", "1.10").unwrap(), "1.10");
        assert_eq!(replaced("1", "12345678901234567890123").unwrap(), "12345678901234567890123");
        assert_eq!(replaced("1", "01234").unwrap(), "\"01234\"");
        assert_eq!(replaced("null", "x").unwrap(), "\"x\"");
        assert_eq!(replaced("null", "\"x\"").unwrap(), "\"x\"");
        assert_eq!(replaced("[1]", " [2.0] ").unwrap(), "[2.0]");
        let refused = replaced("[1]", "a, b").unwrap_err();
        assert!(refused.message.starts_with("the value of `--param p` is not JSON"), "{}", refused.message);
    }
}
