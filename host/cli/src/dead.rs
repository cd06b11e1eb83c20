//! `gristmill dead`: lists dead stages.
//!
//! Owns the filter of dead stages, which `redrive` also uses, and their table. Never changes a stage.

use std::time::Duration;

use gristmill_model::{Clock, DeadReason, StageKey};
use gristmill_server::views::DeadView;
use gristmill_tracker::{DeadFilter, DeadRow, JobRow};

use crate::args::{one_of, time};
use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, duration, one_line};
use crate::table::{Column, Table};

/// The longest error in a table.
const ERROR_CHARS_MAX: usize = 200;

/// List dead stages of a job, and why they failed
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill dead audit --stage source --error 'no such file'

`gristmill redrive` takes the same filters, and tries them again.

With --json, an object a dead stage: job, item, stage, reason, counters (attempts, lost, deferrals), settled_at, error.")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: String,

    #[command(flatten)]
    filter: Filter,

    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// Which dead stages.
#[derive(clap::Args)]
pub(crate) struct Filter {
    /// Only of this stage
    #[arg(long)]
    stage: Option<String>,

    /// Only those that are dead for this reason
    #[arg(long, value_parser = one_of(&DeadReason::ALL, DeadReason::name))]
    reason: Option<DeadReason>,

    /// Only those whose error contains this text
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,

    /// Only those that have been dead for longer than this
    #[arg(long, value_name = "TIME", value_parser = time)]
    older_than: Option<Duration>,
}

impl Filter {
    /// The filter in the tracker's form.
    pub(crate) fn resolve(&self, job: &JobRow, clock: &dyn Clock) -> Result<DeadFilter, Failure> {
        Ok(DeadFilter {
            job: job.id,
            stage: self.stage.as_ref().map(|name| data::stage(job, name)).transpose()?,
            reason: self.reason,
            error: self.error.clone(),
            before: self.older_than.map(|age| clock.now() - age),
            keys: None,
        })
    }

    /// Whether the person gave no filter at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.stage.is_none() && self.reason.is_none() && self.error.is_none() && self.older_than.is_none()
    }
}

pub(crate) fn dead(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, Some(&args.job)).await?;
        let job = known.job(&args.job)?;
        let filter = args.filter.resolve(job, context.clock.as_ref())?;
        let mut rows = known.reader.dead(filter.clone(), StageKey(0), args.limit.saturating_add(1)).await?;
        let more = rows.len() > args.limit as usize;
        rows.truncate(args.limit as usize);
        if context.out.json {
            context.out.records(rows.iter().map(|row| DeadView::new(&job.name, row)))?;
        } else if rows.is_empty() {
            let none = if args.filter.is_empty() { "no stage is dead" } else { "no such dead stages" };
            context.out.line(none)?;
        } else {
            context.out.line(table(&rows, context))?;
        }
        if more {
            let all = known.reader.count_dead(filter).await?;
            let shown = count(args.limit.into());
            context.out.note(format_args!("these are {shown} of {}: see --limit", count(all)));
        }
        Ok(Exit::Ok)
    })
}

fn table(rows: &[DeadRow], context: &Context) -> String {
    let mut table = Table::new([
        ("item", Column::Key),
        ("stage", Column::Word),
        ("reason", Column::Word),
        ("attempts", Column::Number),
        ("age", Column::Number),
        ("error", Column::Text),
    ]);
    let now = context.clock.now();
    for row in rows {
        table.row([
            row.item_key.clone(),
            row.stage.clone(),
            row.reason.name().to_owned(),
            count((row.counters.attempts + row.counters.lost + row.counters.deferrals).into()),
            duration(now.since(row.settled_at)),
            row.error.as_deref().map(|error| one_line(error, ERROR_CHARS_MAX)).unwrap_or_default(),
        ]);
    }
    table.render()
}
