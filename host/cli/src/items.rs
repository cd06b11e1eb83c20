//! `gristmill items`: lists the items of a job.
//!
//! Owns the table of items. Never reads more of them than asked for.

use gristmill_model::{ItemId, ItemStatus};
use gristmill_server::views::ItemView;
use gristmill_tracker::{ItemRow, ItemsFilter, JobRow};

use crate::args::one_of;
use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, second};
use crate::table::{Column, Table};

/// List items of a job
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill items audit --status failed --limit 20

With --json, an object an item: job, item, status, done, skipped, dead, live, stale (names of stages), discovered_at, \
                        changed_at.")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: String,

    /// Only items of this status
    #[arg(long, value_parser = one_of(&ItemStatus::ALL, ItemStatus::name))]
    status: Option<ItemStatus>,

    /// Only items whose key starts with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,

    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// The stages in a mask.
fn names(job: &JobRow, mask: u64) -> Vec<&str> {
    let in_mask = job.stages.iter().filter(|(id, _)| id.bit().mask() & mask != 0);
    in_mask.map(|(_, name)| name.as_str()).collect()
}

pub(crate) fn items(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, Some(&args.job)).await?;
        let job = known.job(&args.job)?;
        // One more than asked for shows whether there are more.
        let filter = ItemsFilter {
            job: job.id,
            status: args.status,
            prefix: args.prefix.clone(),
            after: ItemId(0),
            limit: args.limit.saturating_add(1),
        };
        let mut rows = known.reader.items(filter).await?;
        let more = rows.len() > args.limit as usize;
        rows.truncate(args.limit as usize);
        if context.out.json {
            context.out.records(rows.iter().map(|row| ItemView::new(job, row)))?;
        } else if rows.is_empty() {
            context.out.line("no such items")?;
        } else {
            context.out.line(table(job, &rows))?;
        }
        if more {
            context.out.note(format_args!("there are more than these {}: see --limit", count(args.limit.into())));
        }
        Ok(Exit::Ok)
    })
}

fn table(job: &JobRow, rows: &[ItemRow]) -> String {
    let mut table = Table::new([
        ("item", Column::Key),
        ("status", Column::Word),
        ("settled", Column::Number),
        ("dead", Column::Text),
        ("changed", Column::Word),
    ]);
    for row in rows {
        table.row([
            row.key.clone(),
            row.status.name().to_owned(),
            format!("{} of {}", names(job, row.masks.fresh()).len(), job.stages.len()),
            names(job, row.masks.dead).join(", "),
            second(row.changed_at),
        ]);
    }
    table.render()
}
