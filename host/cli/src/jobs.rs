//! From job files to jobs that can run, for `run` and `check`.
//!
//! Owns what is added to a file from outside (parameters, the environment), and the layout of what does not fit. Never
//! touches a tracker.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gristmill_config::{Overrides, Report};
use gristmill_model::Job;
use gristmill_sandbox::{Sandbox, Settings};
use gristmill_scheduler::Problem;

use crate::context::Context;
use crate::data;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::plural;

/// The memory of a sandbox that belongs to no job: one to look at a component in.
const MEMORY_BYTES_UNASKED: u64 = 1 << 30;

/// What a job file is given from outside.
#[derive(clap::Args)]
pub(crate) struct Source {
    /// The job files; `-` is the standard input, and paths in it start in the current folder
    #[arg(required = true, value_name = "JOB.yaml")]
    pub(crate) files: Vec<PathBuf>,

    /// Replace a parameter of the job: JSON, or else text. May be given more than once
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) params: Vec<(String, String)>,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is written name=value".to_owned()),
    }
}

impl Source {
    /// Reads one of the files.
    pub(crate) fn read(&self, file: &Path) -> Result<Job, Report> {
        let overrides = Overrides { params: self.params.clone(), env: &|name| std::env::var(name).ok() };
        if is_stdin(file) {
            return gristmill_config::load_from(Ok(std::io::stdin()), &shown(file), Path::new(""), &overrides);
        }
        gristmill_config::load(file, &overrides)
    }

    /// Refuses a file that is named twice, however it is spelled.
    pub(crate) fn expect_distinct(&self) -> Result<(), Failure> {
        let real = |file: &PathBuf| if is_stdin(file) { file.clone() } else { data::real(file) };
        let all: Vec<PathBuf> = self.files.iter().map(real).collect();
        for (place, file) in self.files.iter().enumerate() {
            let Some(earlier) = all[..place].iter().position(|earlier| *earlier == all[place]) else { continue };
            let (earlier, file) = (shown(&self.files[earlier]), shown(file));
            let message = if earlier == file {
                format!("{file} is named twice")
            } else {
                format!("{earlier} and {file} are the same file")
            };
            return Err(Failure::new(Exit::Usage, message).hint("name each job file once"));
        }
        Ok(())
    }
}

/// Whether a job file is the standard input.
pub(crate) fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// What messages call a job file.
pub(crate) fn shown(file: &Path) -> String {
    if is_stdin(file) { "<stdin>".to_owned() } else { file.display().to_string() }
}

/// A sandbox that is large enough for every stage of these jobs; without jobs, for most components.
pub(crate) fn sandbox<'a>(
    context: &Context,
    jobs: impl IntoIterator<Item = &'a Job>,
    cache_dir: Option<PathBuf>,
    parallel: usize,
) -> Result<Sandbox, Failure> {
    let largest = |job: &'a Job| {
        let stages = job.tuning.stages.iter().map(|stage| stage.limits.memory_bytes_max);
        stages.fold(job.tuning.discover.limits.memory_bytes_max, u64::max)
    };
    let memory_bytes_max = jobs.into_iter().map(largest).max().unwrap_or(MEMORY_BYTES_UNASKED);
    Ok(Sandbox::new(Settings { cache_dir, parallel, memory_bytes_max, clock: Arc::clone(&context.clock) })?)
}

/// What is wrong with a job that cannot run, laid out as a report on its file is.
pub(crate) fn layout(file: &Path, problems: &[Problem]) -> String {
    let file = shown(file);
    let texts = problems.iter().map(|problem| {
        let place = match problem.place.as_str() {
            "discover" => "discover".to_owned(),
            stage => format!("stage `{stage}`"),
        };
        let hint = problem.hint.as_ref().map(|hint| format!("\n   hint: {hint}")).unwrap_or_default();
        format!("{file}: {place}: {}{hint}", problem.message)
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

/// The last line about jobs that are wrong.
pub(crate) fn refusal(problems: usize, files: usize) -> String {
    format!("{} in {}", plural(problems as u64, "problem"), plural(files as u64, "job file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_a_name_and_a_value() {
        assert_eq!(name_and_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(name_and_value("a="), Ok(("a".to_owned(), String::new())));
        assert!(name_and_value("a").is_err());
        assert!(name_and_value("=b").is_err());
    }

    #[test]
    fn problems_have_a_place_and_a_hint() {
        let problem = |place: &str, hint: Option<&str>| Problem {
            place: place.to_owned(),
            message: "is wrong".to_owned(),
            hint: hint.map(str::to_owned),
        };
        let text = layout(Path::new("a.yaml"), &[problem("discover", None), problem("fetch", Some("correct it"))]);
        assert_eq!(text, "a.yaml: discover: is wrong\n\na.yaml: stage `fetch`: is wrong\n   hint: correct it");
    }
}
