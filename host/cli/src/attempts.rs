//! `gristmill attempts`: lists attempts, and how they ended.
//!
//! Owns the table of attempts. Never reads more of them than asked for.

use gristmill_model::Outcome;
use gristmill_server::views::AttemptView;
use gristmill_tracker::{AttemptRow, AttemptsFilter};

use crate::args::one_of;
use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, duration, one_line, second};
use crate::table::{Column, Table};

/// The longest error in a table.
const ERROR_CHARS_MAX: usize = 200;

/// List attempts of a job, the newest first
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill attempts audit --stage source --outcome timeout

With --json, an object an attempt: attempt, item (none: it was deleted), item_number, stage, outcome, host, fence, queued_at, started_at, ended_at, version, \
                        memory_bytes_max, error, log, charges (by meter).")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: String,

    /// Only attempts of this stage
    #[arg(long)]
    stage: Option<String>,

    /// Only attempts with this outcome
    #[arg(long, value_parser = one_of(&Outcome::ALL, Outcome::name))]
    outcome: Option<Outcome>,

    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// How long an attempt took; none if its host did not report when it began.
pub(crate) fn took(row: &AttemptRow) -> Option<String> {
    row.started_at.map(|started| duration(row.ended_at.since(started)))
}

pub(crate) fn attempts(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, Some(&args.job)).await?;
        let job = known.job(&args.job)?;
        let stage = args.stage.as_ref().map(|name| data::stage(job, name)).transpose()?;
        let limit = args.limit.saturating_add(1);
        let filter = AttemptsFilter { job: job.id, stage, outcome: args.outcome, limit };
        let mut rows = known.reader.attempts(filter).await?;
        let more = rows.len() > args.limit as usize;
        rows.truncate(args.limit as usize);
        if context.out.json {
            context.out.records(rows.iter().map(AttemptView::from))?;
        } else if rows.is_empty() {
            context.out.line("no such attempts")?;
        } else {
            context.out.line(table(&rows))?;
        }
        if more {
            context.out.note(format_args!("there are more than these {}: see --limit", count(args.limit.into())));
        }
        Ok(Exit::Ok)
    })
}

fn table(rows: &[AttemptRow]) -> String {
    let mut table = Table::new([
        ("ended", Column::Word),
        ("item", Column::Key),
        ("stage", Column::Word),
        ("outcome", Column::Word),
        ("took", Column::Number),
        ("error", Column::Text),
    ]);
    for row in rows {
        table.row([
            second(row.ended_at),
            row.item_key.clone().unwrap_or_else(|| format!("#{}", row.item)),
            row.stage.clone(),
            row.outcome.name().to_owned(),
            took(row).unwrap_or_default(),
            row.error.as_deref().map(|error| one_line(error, ERROR_CHARS_MAX)).unwrap_or_default(),
        ]);
    }
    table.render()
}
