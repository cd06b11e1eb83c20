//! `gristmill check`: finds everything that can be wrong before a run.
//!
//! Owns the output. Loads components as a run does. Never writes anything but the cache of compiled code.

use gristmill_config::{Draft, Report};
use gristmill_scheduler::LoadedJob;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::plural;
use crate::grants;
use crate::jobs::{self, Failed, Source};
use crate::table::{Column, Table};

/// Check job files, their components, grants and folders, without running anything
///
/// Prints every problem at once, or each stage's version (what its results are recorded under) and component. Writes
/// nothing but compiled code, which the run then takes from the cache.
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill check jobs/audit.yaml --param crates=vendor

With --json, an object a file: file, ok, job, stages (stage, version, component, handler), problems (line, column, \
                        message, hint), warnings (stage, message, hint).")]
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
    warnings: Vec<CheckedWarning>,
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
    message: String,
    hint: Option<String>,
}

#[derive(Serialize)]
struct CheckedWarning {
    /// None for `discover`.
    stage: Option<String>,
    message: String,
    hint: Option<String>,
}

pub(crate) fn check(args: &Args, context: &Context) -> Result<Exit, Failure> {
    args.source.expect_distinct()?;
    let files = &args.source.files;
    let read: Vec<_> = files.iter().map(|file| grants::read(&args.source, file, context)).collect();
    let sandbox = jobs::sandbox(context, read.iter().flatten().map(Draft::job), 1, false)?;
    let mut all = Vec::with_capacity(files.len());
    for (file, draft) in files.iter().zip(read) {
        let name = draft.as_ref().ok().map(|draft| draft.job().spec.name.clone()).filter(|name| !name.is_empty());
        let checked = match jobs::fit(&sandbox, draft) {
            Ok(loaded) => fits(&loaded),
            Err(Failed::Job(report)) => broken(report),
            Err(Failed::Other(failure)) => return Err(failure),
        };
        all.push(Checked { file: jobs::shown(file), job: name, ..checked });
    }
    print(context, &all)?;
    let wrong = || all.iter().filter(|checked| !checked.ok);
    match wrong().count() {
        0 => Ok(Exit::Ok),
        files => Err(jobs::refusal(wrong().map(|checked| checked.problems.len()).sum(), files)),
    }
}

fn broken(report: Report) -> Checked {
    let layout = report.to_string();
    let problems = report.problems.into_iter().map(|problem| CheckedProblem {
        line: problem.place.as_ref().map(|place| place.line),
        column: problem.place.as_ref().map(|place| place.column),
        message: problem.message,
        hint: problem.hint,
    });
    Checked { problems: problems.collect(), layout, ..Checked::default() }
}

fn fits(loaded: &LoadedJob) -> Checked {
    let warnings = loaded.warnings.iter().map(|warning| CheckedWarning {
        stage: warning.stage.clone(),
        message: warning.message.clone(),
        hint: warning.hint.clone(),
    });
    Checked { ok: true, stages: stages(loaded), warnings: warnings.collect(), ..Checked::default() }
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
    for (index, checked) in all.iter().enumerate() {
        if !checked.ok {
            context.out.note(&checked.layout);
            context.out.note("");
            continue;
        }
        if index > 0 {
            context.out.line("")?;
        }
        context.out.line(format_args!("{}: ok ({})", checked.file, plural(checked.stages.len() as u64, "stage")))?;
        let columns = ["stage", "version", "component"].map(|name| (name, Column::Word));
        let mut table = Table::new(columns.into_iter().chain([("handler", Column::Text)]));
        for stage in &checked.stages {
            table.row([stage.stage.as_str(), &stage.version[..12], &stage.component[..12], &stage.handler]);
        }
        context.out.line(table.render())?;
        for warning in &checked.warnings {
            warn(warning, context);
        }
    }
    Ok(())
}

fn warn(warning: &CheckedWarning, context: &Context) {
    let part = warning.stage.as_ref().map_or_else(|| "discover".to_owned(), |stage| format!("stage `{stage}`"));
    context.out.warning(format_args!("{part}: {}", warning.message));
    if let Some(hint) = &warning.hint {
        context.out.hint(hint);
    }
}
