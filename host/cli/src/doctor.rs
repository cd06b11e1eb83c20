//! `gristmill doctor`: checks that everything agrees with the facts, and repairs it.
//!
//! Owns the report, and the order of a repair: rebuild, reconcile every job, check again. Never decides what is a fault
//! or how the queue is rebuilt: the tracker does.

use gristmill_model::ItemId;
use gristmill_server::views::ExaminationView;
use gristmill_tracker::{Examination, Tracker};

use crate::context::{Context, wait};
use crate::data::Known;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, plural};
use crate::table::{Column, Table};

/// How many items are reconciled at once.
const RECONCILE_MAX: u32 = 2000;

/// Compare everything that can be computed with the facts, and say what differs
///
/// Facts are items, results and attempts. Counters, masks and the queue can be computed from them, and --rebuild
/// recomputes them; leased stages are then ready again, and waiting ones wait on. It reads every row, and changes
/// nothing without --rebuild --yes.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill doctor
  gristmill doctor --rebuild --yes

Exits with 1 if something differs.

With --json, one object: items, blobs, differences_total, differences (kind, place, found, expected; the first 1 000).")]
pub(crate) struct Args {
    /// Recompute masks, counters and the queue from the facts. No host may be at work
    #[arg(long)]
    rebuild: bool,

    /// Do it
    #[arg(long, short, requires = "rebuild")]
    yes: bool,
}

pub(crate) fn doctor(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, None).await?;
        if args.rebuild && args.yes {
            let held = known.location.hold_alone(context).await?;
            rebuild(held.as_ref(), &known, context).await?;
            return report(&held.as_ref().examine().await?, context);
        }
        let exit = report(&known.reader.examine().await?, context)?;
        if args.rebuild {
            let jobs = plural(known.jobs.len() as u64, "job");
            context.out.note(format_args!(
                "nothing was changed: --yes makes masks, counters and the queue of {jobs} anew from the facts"
            ));
        }
        Ok(exit)
    })
}

async fn rebuild(tracker: &dyn Tracker, known: &Known, context: &Context) -> Result<(), Failure> {
    tracker.rebuild(context.clock.now()).await?;
    for job in &known.jobs {
        let mut position = Some(ItemId(0));
        while let Some(after) = position {
            position = tracker.reconcile(job.id, after, RECONCILE_MAX, context.clock.now()).await?;
        }
        context.out.note(format_args!("{}: the queue is made anew", job.name));
    }
    Ok(())
}

fn report(examination: &Examination, context: &Context) -> Result<Exit, Failure> {
    let exit = if examination.differences_total == 0 { Exit::Ok } else { Exit::Incomplete };
    if context.out.json {
        context.out.document(&ExaminationView::from(examination))?;
        return Ok(exit);
    }
    let looked = format!("{} and {}", plural(examination.items, "item"), plural(examination.blobs, "blob"));
    if exit == Exit::Ok {
        context.out.line(format_args!("looked at {looked}: everything is as the facts say"))?;
        return Ok(exit);
    }
    let mut table = Table::new([
        ("what", Column::Word),
        ("where", Column::Text),
        ("found", Column::Text),
        ("expected", Column::Text),
    ]);
    for difference in &examination.differences {
        table.row([difference.kind, &difference.place, &difference.found, &difference.expected]);
    }
    context.out.line(table.render())?;
    let shown = examination.differences.len() as u64;
    if shown < examination.differences_total {
        context.out.note(format_args!("these are the first {}", count(shown)));
    }
    let differences = plural(examination.differences_total, "difference");
    context
        .out
        .note(format_args!("{differences} in {looked}; `gristmill doctor --rebuild` makes anew what can be computed"));
    Ok(exit)
}
