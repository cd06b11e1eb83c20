//! `gristmill cancel`: cancels items, or restores them.
//!
//! Owns only the command. Never stops a running attempt: the tracker decides what becomes of it.

use gristmill_tracker::{Cancel, Cancelled};
use serde::Serialize;

use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::plural;
use crate::operations::actor;

/// Cancel items, so that nothing more runs for them; or restore cancelled ones
///
/// An attempt that is running may finish, and its result is recorded. Results stay.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill cancel audit serde@1.0.228 --why 'yanked'
  gristmill cancel audit serde@1.0.228 --why 'a mistake' --undo

With --json, one object: job, changed, unchanged, running (stages that are let finish).")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: String,

    /// The items' keys
    #[arg(required = true, value_name = "ITEM")]
    items: Vec<String>,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    why: String,

    /// Restore them: they go on where they were
    #[arg(long)]
    undo: bool,
}

#[derive(Serialize)]
struct Record<'a> {
    job: &'a str,
    changed: u64,
    unchanged: u64,
    running: u64,
}

pub(crate) fn cancel(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, Some(&args.job)).await?;
        let job = known.job(&args.job)?;
        known.expect_items(job, &args.items, context).await?;
        let mut keys = args.items.clone();
        keys.sort();
        keys.dedup();
        let total = keys.len() as u64;
        let cancel = Cancel {
            job: job.id,
            keys,
            undo: args.undo,
            actor: actor(),
            why: args.why.clone(),
            now: context.clock.now(),
        };
        let tracker = known.location.operate(context)?;
        let Cancelled { changed, running, unknown } = tracker.cancel(cancel).await?;
        // An item may have been pruned in the meantime.
        let unchanged = total.saturating_sub(changed + unknown.len() as u64);
        if context.out.json {
            context.out.document(&Record { job: &job.name, changed, unchanged, running })?;
            return Ok(Exit::Ok);
        }
        let what = if args.undo { "taken up again" } else { "cancelled" };
        let so_already = match unchanged {
            0 => String::new(),
            some if args.undo => format!("; {} not cancelled", were(some)),
            some => format!("; {} so already", were(some)),
        };
        context.out.line(format_args!("{} {what}{so_already}", plural(changed, "item")))?;
        if running > 0 {
            let stages = plural(running, "stage");
            context.out.note(format_args!("{stages} of them still running: let finish, and the result is kept"));
        }
        Ok(Exit::Ok)
    })
}

fn were(number: u64) -> String {
    if number == 1 { "1 was".to_owned() } else { format!("{number} were") }
}
