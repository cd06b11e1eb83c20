//! `gristmill check`: everything that can be known before a run.
//!
//! Owns how the answer looks. Loads components as a run does, and writes nothing: not even compiled code is kept.

use std::path::Path;

use gristmill_config::Report;
use gristmill_sandbox::Sandbox;
use gristmill_scheduler::{Error, LoadedJob, load};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::plural;
use crate::jobs::{self, Source};
use crate::table::{Column, Table};

/// Check job files, their components, grants and folders, without running anything
///
/// Prints every problem at once, or the versions of the stages. Writes nothing.
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill check jobs/audit.yaml --param crates=vendor

With --json, an object a file: file, ok, job, stages (stage, version, component, handler), problems (line, column, \
                        place, message, hint).")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
}

/// What is known about a job file.
#[derive(Default, Serialize)]
struct Checked {
    file: String,
    ok: bool,
    job: Option<String>,
    stages: Vec<CheckedStage>,
    problems: Vec<CheckedProblem>,
    /// The problems as a person reads them.
    #[serde(skip)]
    layout: String,
}

#[derive(Serialize)]
struct CheckedStage {
    stage: String,
    version: String,
    component: String,
    handler: String,
}

#[derive(Serialize)]
struct CheckedProblem {
    line: Option<usize>,
    column: Option<usize>,
    place: Option<String>,
    message: String,
    hint: Option<String>,
}

pub(crate) fn check(args: &Args, context: &Context) -> Result<Exit, Failure> {
    args.source.expect_distinct()?;
    let files = &args.source.files;
    let read: Vec<_> = files.iter().map(|file| args.source.read(file)).collect();
    let sandbox = jobs::sandbox(context, read.iter().filter_map(|job| job.as_ref().ok()), None, 1)?;
    let mut all = Vec::with_capacity(files.len());
    for (file, job) in files.iter().zip(read) {
        all.push(match job {
            Err(report) => broken(report),
            Ok(job) => fit(&sandbox, file, job)?,
        });
    }
    print(context, &all)?;
    let wrong = || all.iter().filter(|checked| !checked.ok);
    match wrong().count() {
        0 => Ok(Exit::Ok),
        files => {
            let problems = wrong().map(|checked| checked.problems.len()).sum();
            Err(Failure::new(Exit::Job, jobs::refusal(problems, files)))
        }
    }
}

fn broken(report: Report) -> Checked {
    let layout = report.to_string();
    let problems = report.problems.into_iter().map(|problem| CheckedProblem {
        line: problem.place.as_ref().map(|place| place.line),
        column: problem.place.as_ref().map(|place| place.column),
        place: None,
        message: problem.message,
        hint: problem.hint,
    });
    Checked { file: report.file, problems: problems.collect(), layout, ..Checked::default() }
}

fn fit(sandbox: &Sandbox, file: &Path, job: gristmill_model::Job) -> Result<Checked, Failure> {
    let shown = jobs::shown(file);
    match load(sandbox, job) {
        Ok(loaded) => Ok(Checked { ok: true, stages: stages(&loaded), ..named(shown, loaded.job.spec.name) }),
        Err(Error::Job { job, problems }) => {
            let layout = jobs::layout(file, &problems);
            let problems = problems.into_iter().map(|problem| CheckedProblem {
                line: None,
                column: None,
                place: Some(problem.place),
                message: problem.message,
                hint: problem.hint,
            });
            Ok(Checked { problems: problems.collect(), layout, ..named(shown, job) })
        }
        Err(other) => Err(other.into()),
    }
}

fn named(file: String, job: String) -> Checked {
    Checked { file, job: Some(job), ..Checked::default() }
}

fn stages(loaded: &LoadedJob) -> Vec<CheckedStage> {
    let stages = loaded.job.spec.stages.iter().zip(&loaded.stages);
    stages
        .map(|(spec, stage)| CheckedStage {
            stage: spec.name.clone(),
            version: stage.version.to_string(),
            component: stage.handler.hash().to_string(),
            handler: spec.handler.display().to_string(),
        })
        .collect()
}

fn print(context: &Context, all: &[Checked]) -> Result<(), Failure> {
    if context.out.json {
        return context.out.records(all);
    }
    for (place, checked) in all.iter().enumerate() {
        if !checked.ok {
            context.out.note(&checked.layout);
            context.out.note("");
            continue;
        }
        if place > 0 {
            context.out.line("")?;
        }
        context.out.line(format_args!("{}: ok ({})", checked.file, plural(checked.stages.len() as u64, "stage")))?;
        let mut table = Table::new([("stage", Column::Word), ("version", Column::Word), ("handler", Column::Text)]);
        for stage in &checked.stages {
            table.row([stage.stage.as_str(), &stage.version[..12], &stage.handler]);
        }
        context.out.line(table.render())?;
    }
    Ok(())
}
