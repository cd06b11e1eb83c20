//! The job file from outside: what the host sees.
//!
//! Owns what these tests share: the fixtures, and a lookup in place of the environment. Never looks inside the crate.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fixtures;
mod job;
mod robust;
mod schema;
mod values;

use std::path::{Path, PathBuf};

use gristmill_config::{Draft, Overrides, Report};
use gristmill_model::Job;

/// The fixtures of a folder, by name, sorted. Cargo tells where they are: a target folder that clones share keeps what
/// was so when this was built.
fn fixtures(folder: &str) -> Vec<(PathBuf, String)> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let folder = Path::new(&manifest).join("../../tests/fixtures").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(!paths.is_empty());
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Parses as if in the folder `/jobs`, with an empty environment.
fn parse_bare(text: &str) -> Result<Job, Report> {
    parse_with(text, &[], &|_| None)
}

/// Parses as if in the folder `/jobs`, where the environment has a home folder.
fn parse_at_home(text: &str) -> Result<Job, Report> {
    parse_with(text, &[], &|name| (name == "HOME").then(|| "/home/ann".to_owned()))
}

fn parse_with(text: &str, params: &[(&str, &str)], env: &dyn Fn(&str) -> Option<String>) -> Result<Job, Report> {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let env = |name: &str| env(name).map(Into::into);
    Draft::parse(text.as_bytes(), "job.yaml", Path::new("/jobs"), &Overrides { params, env: &env })?.finish()
}
