//! `gristmill events`: lists what happened, except attempts.
//!
//! Owns the table of events. Never reads more of them than asked for.

use gristmill_server::views::EventView;
use gristmill_tracker::{EventRow, EventsFilter};

use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, one_line, second};
use crate::table::{Column, Table};

/// The longest data in a table.
const DATA_CHARS_MAX: usize = 200;

/// List events, the newest first: what people did, and what happened to the host
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill events audit
  gristmill events --kind operation. --limit 10

With --json, an object an event: event, at, kind, job, operation, data.")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: Option<String>,

    /// Only of this kind; with a dot at the end, all kinds that begin so: `item.`
    #[arg(long)]
    kind: Option<String>,

    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

pub(crate) fn events(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, args.job.as_deref()).await?;
        let job = args.job.as_ref().map(|job| known.job(job)).transpose()?;
        let filter =
            EventsFilter { job: job.map(|job| job.id), kind: args.kind.clone(), limit: args.limit.saturating_add(1) };
        let mut rows = known.reader.events(filter).await?;
        let more = rows.len() > args.limit as usize;
        rows.truncate(args.limit as usize);
        if context.out.json {
            context.out.records(rows.iter().map(|row| EventView::new(row.job.and_then(|job| known.name(job)), row)))?;
        } else if rows.is_empty() {
            context.out.line("no such events")?;
        } else {
            context.out.line(table(&rows, &known))?;
        }
        if more {
            context.out.note(format_args!("there are more than these {}: see --limit", count(args.limit.into())));
        }
        Ok(Exit::Ok)
    })
}

fn table(rows: &[EventRow], known: &Known) -> String {
    let mut table =
        Table::new([("at", Column::Word), ("kind", Column::Word), ("job", Column::Word), ("data", Column::Text)]);
    for row in rows {
        table.row([
            second(row.at),
            row.kind.clone(),
            row.job.and_then(|job| known.name(job)).unwrap_or_default().to_owned(),
            one_line(&row.data, DATA_CHARS_MAX),
        ]);
    }
    table.render()
}
