//! `gristmill discover`: makes a job's discovery begin again.
//!
//! Owns only the command. Never asks for a page itself: the scheduler does.

use gristmill_tracker::Restart;
use serde::Serialize;

use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::one_line;
use crate::operations::actor;

/// How many characters of a cursor are shown.
const SHOWN_CHARS_MAX: usize = 80;

/// Have a job's discovery begin again at its first page
///
/// A run continues discovery where the last one stopped, at the recorded cursor. If the source does not accept that
/// cursor any more, each run would ask with it again. No host may be at work meanwhile. Items stay, and those that are
/// found again unchanged cost nothing.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill discover audit --from-start --why 'the registry forgot its cursors'

With --json, one object: job, cursor (where it was to go on; null: it was to begin at the first page anyway).")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: String,

    /// Begin at the first page, whatever cursor was recorded
    #[arg(long, required = true)]
    from_start: bool,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    why: String,
}

#[derive(Serialize)]
struct Record<'a> {
    job: &'a str,
    cursor: Option<String>,
}

pub(crate) fn discover(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, Some(&args.job)).await?;
        let job = known.job(&args.job)?;
        let tracker = known.location.hold_alone(context).await?;
        let restart = Restart { job: job.id, actor: actor(), why: args.why.clone(), now: context.clock.now() };
        let cursor = tracker.restart_discovery(restart).await?;
        if context.out.json {
            context.out.document(&Record { job: &job.name, cursor })?;
            return Ok(Exit::Ok);
        }
        let name = &job.name;
        match cursor {
            Some(cursor) => {
                let cursor = one_line(&cursor, SHOWN_CHARS_MAX);
                context
                    .out
                    .line(format_args!("{name}: the next run begins at the first page, and not at `{cursor}`"))?;
            }
            None => context.out.line(format_args!("{name}: the next run begins at the first page anyway"))?,
        }
        Ok(Exit::Ok)
    })
}
