//! `gristmill tracker copy`: copies a tracker to another backend.
//!
//! Owns the check that no host is at work on either side. Never copies itself: the tracker does, and verifies the copy.

use clap::Subcommand;
use gristmill_tracker::{CopyProgress, Reader, copy as copy_all};
use serde::Serialize;

use crate::context::{Context, wait};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, plural};
use crate::location::{Location, URL_HELP};

const TEMPLATE: &str = "[{bar:28}] {wide_msg}";

/// Move everything that is known from one tracker to another
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill tracker copy --from sqlite:.gristmill --to postgres://ann@db.example.org/mill")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: TrackerCommand,
}

#[derive(Subcommand)]
enum TrackerCommand {
    Copy(CopyArgs),
}

/// Copy a tracker into an empty one, and verify every row
///
/// Items, results, the queue and all of history go from a data folder to a Postgres database, or back. Both sides are
/// read again in the end, and compared row by row. No host may be at work on either of them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill tracker copy --from sqlite:.gristmill --to postgres://ann@db.example.org/mill
  gristmill tracker copy --from sqlite:.gristmill --to-env MILL_URL

With --json, one object: from, to, rows_total, tables (rows by name).")]
struct CopyArgs {
    #[arg(long, value_name = "URL", required_unless_present = "from_env", help = format!("Where it is: {URL_HELP}"))]
    from: Option<String>,

    /// The variable of the environment that has this URL, in place of --from: a password in it is out of sight there
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    from_env: Option<String>,

    #[arg(long, value_name = "URL", required_unless_present = "to_env", help = format!("Where it goes, an empty place: {URL_HELP}"))]
    to: Option<String>,

    /// The variable of the environment that has this URL, in place of --to
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    to_env: Option<String>,
}

/// The location of a tracker, from the option or from the variable.
fn location(given: Option<&str>, variable: Option<&str>) -> Result<Location, Failure> {
    match (given, variable) {
        (Some(url), _) => Location::parse(url),
        (None, Some(name)) => match std::env::var(name) {
            Ok(url) => Location::parse(&url),
            Err(_) => Err(Failure::new(Exit::Usage, format!("the environment has no `{name}` with a URL"))
                .hint(format!("set it to {URL_HELP}"))),
        },
        (None, None) => unreachable!("the command line takes one of both"),
    }
}

#[derive(Serialize)]
struct Record {
    from: String,
    to: String,
    rows_total: u64,
    tables: serde_json::Map<String, serde_json::Value>,
}

pub(crate) fn tracker(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let TrackerCommand::Copy(args) = &args.command;
    wait(copy(args, context))
}

async fn copy(args: &CopyArgs, context: &Context) -> Result<Exit, Failure> {
    let from = location(args.from.as_deref(), args.from_env.as_deref())?;
    let to = location(args.to.as_deref(), args.to_env.as_deref())?;
    if from.is(&to) {
        return Err(Failure::new(Exit::Usage, "--from and --to are the same place").hint("name two trackers"));
    }
    // Opened to read first, so that a missing tracker is an error and not created.
    drop(from.read(context)?);
    let source = from.hold_alone(context).await?;
    let target = to.hold_alone(context).await?;
    let bar = context.out.start_bar(TEMPLATE);
    let mut show = |progress: CopyProgress| {
        let Some(bar) = &bar else { return };
        let what = if progress.verifying { "verifying" } else { "copying" };
        let tables = gristmill_tracker::tables::TABLES.len();
        bar.set_length(2 * tables as u64);
        bar.set_position((progress.place + if progress.verifying { tables } else { 0 }) as u64);
        bar.set_message(format!("{what} {}: {}", progress.table, plural(progress.rows, "row")));
    };
    let source: &dyn Reader = source.as_ref();
    let copied = copy_all(source, target.as_ref(), &to.to_string(), &mut show).await;
    context.out.end_bar();
    let copied = copied?;
    let rows_total = copied.tables.iter().map(|(_, rows)| rows).sum();
    if context.out.json {
        let tables = copied.tables.iter().map(|(name, rows)| ((*name).to_owned(), (*rows).into())).collect();
        context.out.document(&Record { from: from.to_string(), to: to.to_string(), rows_total, tables })?;
        return Ok(Exit::Ok);
    }
    let (rows, tables) = (count(rows_total), copied.tables.len());
    context.out.line(format_args!("{rows} rows of {tables} tables copied from {from} to {to}, and verified"))?;
    context.out.note(format_args!("from here on: --tracker, or the variable GRISTMILL_TRACKER; {from} is as it was"));
    Ok(Exit::Ok)
}
