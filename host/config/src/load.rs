//! A job file in, a job or a report out.
//!
//! Owns the order of the steps, and what may not even be read. Reads the job file and no other: whether handlers and
//! folders exist is not its business. Never reads the environment or the arguments: the caller hands both over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use gristmill_model::Job;
use serde_json::Value as Json;

use crate::check::{check, check_duplicates, did_you_mean};
use crate::interpolate::Sources;
use crate::keys::JOB;
use crate::report::{Problem, Report, quoted};
use crate::resolve::Resolver;
use crate::yaml::{self, Node, Value};

/// A job file may not be larger.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the person who starts a job adds to its file.
pub struct Overrides<'a> {
    /// Names and values that replace declared parameters. A value is JSON if it reads as JSON, otherwise text.
    pub params: Vec<(String, String)>,
    /// Looks a variable of the environment up.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// Why there is no text to parse.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is larger than a job file may be ({} bytes)", FILE_BYTES_MAX)]
    TooLarge,
    #[error("is not UTF-8 text (byte {0})")]
    NotText(usize),
}

/// Reads a job from its file. Relative paths in it count from its folder.
pub fn load(path: &Path, overrides: &Overrides<'_>) -> Result<Job, Report> {
    let (file, base_dir) = (path.display().to_string(), path.parent().unwrap_or(Path::new("")));
    load_from(File::open(path), &file, base_dir, overrides)
}

/// Reads a job from what was opened already. `file` names it in the report; relative paths count from `base_dir`.
pub fn load_from(
    opened: io::Result<impl Read>,
    file: &str,
    base_dir: &Path,
    overrides: &Overrides<'_>,
) -> Result<Job, Report> {
    let text = opened.map_err(Unreadable::Io).and_then(read).map_err(|error| {
        let missing = matches!(&error, Unreadable::Io(error) if error.kind() == io::ErrorKind::NotFound);
        let message = if missing { "there is no such file".to_owned() } else { format!("the job file {error}") };
        let hint = missing.then(|| "a relative path starts in the current folder".to_owned());
        Report::new(file, "", vec![Problem::new(None, message).hint(hint)])
    })?;
    parse(&text, file, base_dir, overrides)
}

fn read(opened: impl Read) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits, without reading all of it.
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Unreadable::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| Unreadable::NotText(error.utf8_error().valid_up_to()))
}

/// Reads a job from text. `file` names it in the report; relative paths count from `base_dir`.
pub fn parse(text: &str, file: &str, base_dir: &Path, overrides: &Overrides<'_>) -> Result<Job, Report> {
    let refuse = |problems| Err(Report::new(file, text, problems));
    if text.len() as u64 > FILE_BYTES_MAX {
        return refuse(vec![Problem::new(None, format!("the job file {}", Unreadable::TooLarge))]);
    }
    let mut root = match yaml::parse(text) {
        Ok(root) => root,
        Err(problem) => return refuse(vec![*problem]),
    };
    let mut problems = Vec::new();
    check_duplicates(&root, &mut problems);
    let params = params(&mut root, overrides, &mut problems);
    Sources::new(Some(&params), overrides.env).expand_job(&mut root, &mut problems);
    check(&root, &JOB, "the job file", &mut problems);
    let mut resolver = Resolver { base_dir, env: overrides.env, problems };
    let (spec, tuning, display) = resolver.job(&root, &params);
    if !resolver.problems.is_empty() {
        return refuse(resolver.problems);
    }
    Ok(Job { spec, tuning, display, yaml: text.to_owned() })
}

/// The parameters: as declared, with the environment filled in, and replaced where the caller says so.
fn params(root: &mut Node, overrides: &Overrides<'_>, problems: &mut Vec<Problem>) -> BTreeMap<String, Json> {
    let mut params = BTreeMap::new();
    let mut sources = Sources::new(None, overrides.env);
    if let Some(Node { value: Value::Map(entries), .. }) = root.get_mut("params") {
        for entry in entries {
            // What is replaced anyway may refer to what is not set.
            if !overrides.params.iter().any(|(name, _)| *name == entry.key) {
                sources.expand_all(&mut entry.node, problems);
            }
            params.insert(entry.key.clone(), entry.node.to_json());
        }
    }
    let unknown: Vec<&String> =
        overrides.params.iter().map(|(name, _)| name).filter(|name| !params.contains_key(*name)).collect();
    for name in unknown {
        let names = || params.keys().map(String::as_str);
        let all =
            if params.is_empty() { "it declares none".to_owned() } else { names().collect::<Vec<_>>().join(", ") };
        let hint = did_you_mean(name, names()).map_or_else(String::new, |hint| format!("{hint} "));
        let problem = Problem::new(None, format!("this job declares no parameter {}", quoted(name)));
        problems.push(problem.hint(format!("{hint}declared: {all}")));
    }
    for (name, value) in &overrides.params {
        let value = serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.clone()));
        params.entry(name.clone()).and_modify(|declared| *declared = value);
    }
    params
}
