//! `gristmill redrive`: has dead stages tried again.
//!
//! Owns the options and the preview: without `--yes`, nothing is redriven. Never decides whether a stage can run again:
//! the tracker does. `operations` runs the steps.

use std::collections::BTreeMap;

use gristmill_model::StageKey;
use gristmill_tracker::{DeadFilter, DeadRow, JobRow, Redrive};
use serde::Serialize;

use crate::args::rate;
use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::dead::Filter;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, plural};
use crate::operations::{self, actor};
use crate::table::{Column, Table};

/// How many dead stages the preview reads.
const PREVIEW_MAX: u64 = 100_000;
/// How many it reads at once.
const PAGE: u32 = 5000;

/// Try dead stages again: of exact items, or of all that a filter finds
///
/// Says what it would do, and does it with --yes. A stage that is redriven has all its attempts again, and keeps its
/// history; a running host takes it up at once. Ctrl-C pauses it: `gristmill operations --resume` goes on.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill redrive audit serde@1.0.228
  gristmill redrive audit --reason exhausted --error 'timed out' --limit 500 --rate 10/s --why 'mirror is back' --yes

With --json, before: job, dead, meant, kinds (stage, reason, count; of the first 100 000); with --yes, the operation, \
                        as in `gristmill operations --json`.")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: String,

    /// The items' keys. Without them: every item that the filter finds, as far as --limit goes
    #[arg(value_name = "ITEM")]
    items: Vec<String>,

    #[command(flatten)]
    filter: Filter,

    /// How many stages at most. Needed unless items are named
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), required_unless_present = "items")]
    limit: Option<u64>,

    /// How many at most in a time, such as 10/s: without it, as fast as may be
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<f64>,

    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,

    /// Do it
    #[arg(long, short)]
    yes: bool,
}

/// What a redrive would do.
#[derive(Serialize)]
struct Preview<'a> {
    job: &'a str,
    dead: u64,
    meant: u64,
    kinds: Vec<Kind>,
}

/// Stages that are dead for the same reason.
#[derive(Serialize)]
struct Kind {
    stage: String,
    reason: &'static str,
    count: u64,
}

pub(crate) fn redrive(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, Some(&args.job)).await?;
        let job = known.job(&args.job)?;
        let filter = filter(args, &known, job, context).await?;
        let dead = known.reader.count_dead(filter.clone()).await?;
        let meant = dead.min(args.limit.unwrap_or(u64::MAX));
        if meant == 0 {
            return nothing(args, job, context);
        }
        if !args.yes {
            let kinds = kinds(&known, filter, meant).await?;
            show(&Preview { job: &job.name, dead, meant, kinds }, context)?;
            context.out.note("nothing was changed: --yes does it");
            return Ok(Exit::Ok);
        }
        let redrive = Redrive {
            filter,
            limit: meant,
            rate: args.rate,
            actor: actor(),
            why: args.why.clone(),
            now: context.clock.now(),
        };
        let tracker = known.location.operate(context)?;
        let operation = tracker.begin_redrive(redrive).await?;
        operations::go_on(tracker.as_ref(), operation, &known, context).await
    })
}

async fn filter(args: &Args, known: &Known, job: &JobRow, context: &Context) -> Result<DeadFilter, Failure> {
    let filter = args.filter.resolve(job, context.clock.as_ref())?;
    if args.items.is_empty() {
        return Ok(filter);
    }
    known.expect_items(job, &args.items, context).await?;
    Ok(DeadFilter { keys: Some(args.items.clone()), ..filter })
}

fn nothing(args: &Args, job: &JobRow, context: &Context) -> Result<Exit, Failure> {
    if context.out.json {
        context.out.document(&Preview { job: &job.name, dead: 0, meant: 0, kinds: Vec::new() })?;
        return Ok(Exit::Ok);
    }
    context.out.line(match args.items.len() {
        0 => "no such dead stages: there is nothing to redrive",
        1 => "this item has no such dead stage: there is nothing to redrive",
        _ => "these items have no such dead stages: there is nothing to redrive",
    })?;
    Ok(Exit::Ok)
}

/// How many of them are dead in each stage, for each reason.
async fn kinds(known: &Known, filter: DeadFilter, meant: u64) -> Result<Vec<Kind>, Failure> {
    let mut counts: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    let (mut after, mut left) = (StageKey(0), meant.min(PREVIEW_MAX));
    while left > 0 {
        let limit = left.min(PAGE.into()) as u32;
        let rows: Vec<DeadRow> = known.reader.dead(filter.clone(), after, limit).await?;
        let Some(last) = rows.last() else { break };
        after = last.key;
        left -= rows.len() as u64;
        for row in rows {
            *counts.entry((row.stage, row.reason.name())).or_default() += 1;
        }
    }
    Ok(counts.into_iter().map(|((stage, reason), count)| Kind { stage, reason, count }).collect())
}

fn show(preview: &Preview<'_>, context: &Context) -> Result<(), Failure> {
    if context.out.json {
        return context.out.document(preview);
    }
    let Preview { job, dead, meant, kinds } = preview;
    let of = if meant < dead { format!(", of {}", count(*dead)) } else { String::new() };
    context.out.line(format_args!("{} of {job} would be redriven{of}:", plural(*meant, "dead stage")))?;
    let mut table = Table::new([("stage", Column::Word), ("reason", Column::Word), ("number", Column::Number)]);
    for kind in kinds {
        table.row([kind.stage.as_str(), kind.reason, &count(kind.count)]);
    }
    context.out.line(table.render())?;
    if *meant > PREVIEW_MAX {
        context.out.note(format_args!("the table is of the first {}", count(PREVIEW_MAX)));
    }
    Ok(())
}
