//! Finds a job's data folder, and the job that a person means.
//!
//! Owns the search for the data folder, and for a job by its name or file, and the errors if there is none. Never
//! writes.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gristmill_model::{JobId, StageId};
use gristmill_tracker::{JobRow, Reader};
use serde::Deserialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{list, nearest, printable, shell_word};
use crate::jobs::{is_stdin, shown};
use crate::location::Location;

/// The data folder's name, beside the job's file.
const FOLDER: &str = ".gristmill";
/// The environment variable with the data folder.
pub(crate) const VARIABLE: &str = "GRISTMILL_DATA";
/// Its text in `--help`.
pub(crate) const JOB_HELP: &str = "The job's name, or its YAML file (`-` is the standard input)";

/// The data folder: from `--data`, else from the environment, else beside the job's file, else in the current folder. A
/// folder that a person names may be a link; one beside a job's file may not.
pub(crate) fn folder(context: &Context, job_file: Option<&Path>) -> Result<PathBuf, Failure> {
    let by_environment = || std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    if let Some(named) = context.data.clone().or_else(by_environment) {
        return Ok(named);
    }
    let folder = job_file.and_then(Path::parent).unwrap_or(Path::new("")).join(FOLDER);
    if folder.is_symlink() {
        let message = format!("{} is a symbolic link, which may have come with the job's file", folder.display());
        return Err(Failure::new(Exit::Data, message).hint("name the folder that it leads to with --data"));
    }
    Ok(folder)
}

/// An absolute path, with links and `..` resolved as far as the path exists. Its end may not exist yet.
pub(crate) fn real(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|ancestor| {
        let there = if ancestor == Path::new("") { Path::new(".") } else { ancestor };
        Some((there.canonicalize().ok()?, path.strip_prefix(ancestor).ok()?))
    });
    found.map_or_else(|| path.to_owned(), |(there, rest)| there.join(rest))
}

/// A tracker, opened to read, and the jobs in it.
pub(crate) struct Known {
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) jobs: Vec<JobRow>,
    pub(crate) location: Location,
    /// The job as the person named it; its name if it came from the standard input.
    job_argument: Option<String>,
}

impl Known {
    /// Opens the tracker for a job's name or file, or for the current folder if there is neither.
    pub(crate) async fn open(context: &Context, job: Option<&str>) -> Result<Self, Failure> {
        let location = Location::of(context, job.and_then(job_file))?;
        let reader = location.read(context)?;
        let jobs = reader.jobs().await?;
        let job_argument = match job.filter(|job| is_stdin(Path::new(job))) {
            // The standard input can be read only once.
            Some(stdin) => Some(name_in(Path::new(stdin))?),
            None => job.map(str::to_owned),
        };
        Ok(Self { reader, jobs, location, job_argument })
    }

    /// Opens the tracker of a job file that is already read.
    pub(crate) async fn open_beside(context: &Context, file: &Path) -> Result<Self, Failure> {
        let location = Location::of(context, Some(file))?;
        let reader = location.read(context)?;
        let jobs = reader.jobs().await?;
        Ok(Self { reader, jobs, location, job_argument: None })
    }

    /// The job that a name or a file means.
    pub(crate) fn job(&self, argument: &str) -> Result<&JobRow, Failure> {
        let name = match (job_file(argument), &self.job_argument) {
            (Some(path), Some(name)) if is_stdin(path) => name.clone(),
            (Some(path), _) => name_in(path)?,
            (None, _) => argument.to_owned(),
        };
        self.jobs.iter().find(|job| job.name == name).ok_or_else(|| {
            let names: Vec<String> = self.jobs.iter().map(|job| job.name.clone()).collect();
            unknown("job", &name, &format!("in {}", self.location), &names, "no job was run there yet")
        })
    }

    /// The name of a job.
    pub(crate) fn name(&self, job: JobId) -> Option<&str> {
        self.jobs.iter().find(|row| row.id == job).map(|row| row.name.as_str())
    }

    /// Fails unless the job has all of these items.
    pub(crate) async fn expect_items(&self, job: &JobRow, keys: &[String], context: &Context) -> Result<(), Failure> {
        let known = self.reader.known(job.id, keys.to_vec()).await?;
        let Some(unknown) = keys.iter().find(|key| !known.iter().any(|known| known.key == **key)) else {
            return Ok(());
        };
        let message = format!("there is no item `{}` in job `{}`", printable(unknown), job.name);
        let hint = format!("`{}` lists its items", self.command(context, "items", ""));
        Err(Failure::new(Exit::Usage, message).hint(hint))
    }

    /// A follow-up command for the person: with the job as it was named, and with `--data` if that was given.
    pub(crate) fn command(&self, context: &Context, verb: &str, rest: &str) -> String {
        command(context, verb, self.job_argument.as_deref().unwrap_or_default(), rest)
    }
}

/// A command line that finds the same data as the current one.
pub(crate) fn command(context: &Context, verb: &str, job: &str, rest: &str) -> String {
    // A URL may contain a password, so it is not repeated.
    let data = match (&context.tracker, &context.data) {
        (Some(_), _) => Some("--tracker …".to_owned()),
        (None, Some(data)) => Some(format!("--data {}", shell_word(&data.display().to_string()))),
        (None, None) => None,
    };
    let job = if job.is_empty() { String::new() } else { shell_word(job) };
    let words = ["gristmill", verb, &job, rest, data.as_deref().unwrap_or_default()];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The stage of that name.
pub(crate) fn stage(job: &JobRow, name: &str) -> Result<StageId, Failure> {
    job.stages.iter().find(|(_, known)| known == name).map(|(id, _)| *id).ok_or_else(|| {
        let names: Vec<String> = job.stages.iter().map(|(_, name)| name.clone()).collect();
        unknown("stage", name, &format!("in job `{}`", job.name), &names, "it has none")
    })
}

fn unknown(kind: &str, name: &str, place: &str, names: &[String], none: &str) -> Failure {
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => none.to_owned(),
        None => format!("there is {}", list(names)),
    };
    Failure::new(Exit::Usage, format!("there is no {kind} `{name}` {place}")).hint(hint)
}

/// The argument as a path, if it is one: job names have neither a slash nor an ending.
fn job_file(argument: &str) -> Option<&Path> {
    let path = Path::new(argument);
    let is_yaml =
        path.extension().is_some_and(|ending| ["yaml", "yml"].iter().any(|yaml| ending.eq_ignore_ascii_case(yaml)));
    (is_yaml || is_stdin(path) || argument.contains('/')).then_some(path)
}

/// The only key of a job file that commands need to find the job. The rest may be broken, or need variables that are
/// not set.
#[derive(Deserialize)]
struct Named {
    job: String,
}

fn name_in(path: &Path) -> Result<String, Failure> {
    let (shown, mut text) = (shown(path), Vec::new());
    let opened = if is_stdin(path) { Ok(Box::new(io::stdin()) as Box<dyn Read>) } else { open(path) };
    opened
        .and_then(|file| file.take(gristmill_config::FILE_BYTES_MAX).read_to_end(&mut text))
        .map_err(|error| Failure::new(Exit::Usage, format!("the job file {shown} cannot be read: {error}")))?;
    let named: Option<Named> = std::str::from_utf8(&text).ok().and_then(|text| serde_yaml::from_str(text).ok());
    named.map(|named| named.job).ok_or_else(|| {
        Failure::new(Exit::Job, format!("{shown} does not say which job it is"))
            .hint(format!("`gristmill check {}` tells what is wrong with it", shell_word(&path.display().to_string())))
    })
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    Ok(Box::new(gristmill_files::open(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_a_name() {
        assert_eq!(job_file("audit"), None);
        for path in ["audit.yaml", "jobs/audit", "./audit.yml", "AUDIT.YAML", "audit.Yml", "-"] {
            assert_eq!(job_file(path), Some(Path::new(path)));
        }
    }

    #[test]
    fn the_name_is_read_from_a_file_that_is_wrong_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, "version: 7\njob: audit\nparams: { a: \"${env:NOT_SET}\" }\nnonsense: [1]\n").unwrap();
        assert_eq!(name_in(&path).unwrap(), "audit");
        std::fs::write(&path, "job: [").unwrap();
        assert_eq!(name_in(&path).unwrap_err().exit(), Exit::Job);
    }
}
