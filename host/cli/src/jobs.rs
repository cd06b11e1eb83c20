//! From job files to jobs that can run, for `run` and `check`.
//!
//! Owns the values that come from outside the file (parameters, the environment), the sandbox for loading components,
//! and the folder for their compiled code. Never uses a tracker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gristmill_config::{Draft, Overrides, Report};
use gristmill_model::Job;
use gristmill_sandbox::{Compiler, Sandbox, Settings};
use gristmill_scheduler::{Error, LoadedJob, load};

use crate::context::Context;
use crate::data;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{bytes, plural};

/// The memory of a sandbox without a job, to inspect a component in.
const MEMORY_BYTES_UNASKED: u64 = 1 << 30;

/// What a job file is given from outside.
#[derive(clap::Args)]
pub(crate) struct Source {
    /// The job files; `-` is the standard input, and paths in it start in the current folder
    #[arg(required = true, value_name = "JOB.yaml")]
    pub(crate) files: Vec<PathBuf>,

    /// Replace a parameter of the job: text where the file has text, elsewhere JSON, or else text. May be given more
    /// than once
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
    pub(crate) fn read(&self, file: &Path) -> Result<Draft, Report> {
        let overrides = Overrides { params: self.params.clone(), env: &|name| std::env::var_os(name) };
        if is_stdin(file) {
            return Draft::read_from(Ok(std::io::stdin()), &shown(file), Path::new(""), &overrides);
        }
        Draft::read(file, &overrides)
    }

    /// Refuses a file that is named twice, however it is spelled.
    pub(crate) fn expect_distinct(&self) -> Result<(), Failure> {
        let real = |file: &PathBuf| if is_stdin(file) { file.clone() } else { data::real(file) };
        let all: Vec<PathBuf> = self.files.iter().map(real).collect();
        for (index, file) in self.files.iter().enumerate() {
            let Some(earlier) = all[..index].iter().position(|earlier| *earlier == all[index]) else { continue };
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

/// The name of a job file in messages.
pub(crate) fn shown(file: &Path) -> String {
    if is_stdin(file) { "<stdin>".to_owned() } else { file.display().to_string() }
}

/// A sandbox that is large enough for every stage of these jobs. Without jobs, it is large enough for most components.
pub(crate) fn sandbox<'a>(
    context: &Context,
    jobs: impl IntoIterator<Item = &'a Job>,
    parallel: usize,
    quiet: bool,
) -> Result<Sandbox, Failure> {
    let largest = |job: &'a Job| {
        let stages = job.tuning.stages.iter().map(|stage| stage.limits.memory_bytes_max);
        stages.fold(job.tuning.discover.limits.memory_bytes_max, u64::max)
    };
    let memory_bytes_max = jobs.into_iter().map(largest).max().unwrap_or(MEMORY_BYTES_UNASKED);
    let (cache_dir, out) = (cache_dir(), context.out.clone());
    if cache_dir.is_none() {
        context.out.warning("the environment has no HOME, so compiled code is not kept: each start compiles again");
    }
    let compiling = Box::new(move |component: &str, size_bytes: u64| {
        if !quiet {
            out.note(format_args!("compiling {component} ({})", bytes(size_bytes)));
        }
    });
    let clock = Arc::clone(&context.clock);
    let sandbox =
        Sandbox::new(Settings { cache_dir, parallel, memory_bytes_max, clock, compiler: compiler()?, compiling })?;
    for warning in sandbox.warnings() {
        context.out.warning(warning);
    }
    Ok(sandbox)
}

/// The time and memory to compile a component. The largest one of a known toolchain takes 15 s and 400 MiB.
const COMPILE_TIME: Duration = Duration::from_mins(2);
const COMPILE_MEMORY_BYTES: u64 = 2 << 30;
/// The environment variables for both.
const COMPILE_TIME_VARIABLE: &str = "GRISTMILL_COMPILE_TIME";
const COMPILE_MEMORY_VARIABLE: &str = "GRISTMILL_COMPILE_MEMORY";

/// The compiler: this program once more, as a child.
fn compiler() -> Result<Compiler, Failure> {
    Ok(Compiler::Child {
        // This works even if the program's file was replaced meanwhile.
        program: PathBuf::from("/proc/self/exe"),
        time_max: variable(COMPILE_TIME_VARIABLE, "30s or 5m", gristmill_config::duration)?.unwrap_or(COMPILE_TIME),
        memory_bytes_max: variable(COMPILE_MEMORY_VARIABLE, "512MiB or 8GiB", gristmill_config::size)?
            .unwrap_or(COMPILE_MEMORY_BYTES),
    })
}

/// A variable of the environment, if it is set.
fn variable<T>(name: &str, form: &str, read: fn(&str) -> Option<T>) -> Result<Option<T>, Failure> {
    match std::env::var_os(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.to_str().and_then(read).map(Some).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("the environment's `{name}` cannot be read"))
                .hint(format!("it is written as {form}"))
        }),
    }
}

/// The folder for compiled code: in the user's cache folder, and never in a folder that came with a job.
fn cache_dir() -> Option<PathBuf> {
    let absolute = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("gristmill").join("compiled"))
}

/// Loads the components of a job even if its file has faults, so that a person gets all faults at once.
pub(crate) fn fit(sandbox: &Sandbox, read: Result<Draft, Report>) -> Result<LoadedJob, Failed> {
    let mut draft = read.map_err(Failed::Job)?;
    let loaded = match load(sandbox, draft.job().clone()) {
        Ok(loaded) if draft.is_sound() => return Ok(loaded),
        Ok(_) => Vec::new(),
        Err(Error::Job { problems, .. }) => problems,
        Err(other) => return Err(Failed::Other(other.into())),
    };
    for problem in loaded {
        draft.add(problem.stage.as_deref(), &problem.message, problem.hint);
    }
    match draft.finish() {
        Err(report) => Err(Failed::Job(report)),
        Ok(job) => unreachable!("job `{}` did not fit, and nothing is wrong with it", job.spec.name),
    }
}

/// Why there is no job to run.
pub(crate) enum Failed {
    /// Something is wrong with it.
    Job(Report),
    /// The job is not at fault.
    Other(Failure),
}

/// Loads the components of all jobs, or reports everything that is wrong with any of them.
pub(crate) fn fit_all(
    sandbox: &Sandbox,
    read: impl IntoIterator<Item = Result<Draft, Report>>,
    context: &Context,
) -> Result<Vec<LoadedJob>, Failure> {
    let (mut loaded, mut reports) = (Vec::new(), Vec::new());
    for draft in read {
        match fit(sandbox, draft) {
            Ok(job) => loaded.push(job),
            Err(Failed::Job(report)) => reports.push(report),
            Err(Failed::Other(failure)) => return Err(failure),
        }
    }
    if reports.is_empty() {
        return Ok(loaded);
    }
    for report in &reports {
        context.out.note(format_args!("{report}\n"));
    }
    Err(refusal(reports.iter().map(|report| report.problems.len()).sum(), reports.len()))
}

/// The last line of the report on faulty jobs.
pub(crate) fn refusal(problems: usize, files: usize) -> Failure {
    let message = format!("{} in {}", plural(problems as u64, "problem"), plural(files as u64, "job file"));
    Failure::new(Exit::Job, message)
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
}
