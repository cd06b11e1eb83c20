//! `gristmill operations`: lists and controls operations on many stages.
//!
//! Owns the table of operations, and the loop over an operation's steps. Never decides what a step does: the tracker
//! does.

use std::time::Duration;

use gristmill_model::OperationId;
use gristmill_server::views::OperationView;
use gristmill_tracker::{OperationRow, OperationState, Tracker};
use tokio::signal::unix::{SignalKind, signal};

use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, one_line, plural, second};
use crate::table::{Column, Table};

/// How many stages a step redrives: few enough that nobody waits long for the transaction.
const STEP: u32 = 500;
/// The longest sleep between two steps, so that a pause from another process takes effect soon.
const PAUSE_MAX: Duration = Duration::from_secs(1);
const WHY_CHARS_MAX: usize = 100;
const TEMPLATE: &str = "[{bar:28}] {wide_msg}";

/// List operations, the newest first; or go on with one, pause it, or end it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill operations audit
  gristmill operations --resume 3

With --json, an object an operation: operation, kind, job, state, planned, done, limit, rate, actor, why, created_at, \
                        updated_at.")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: Option<String>,

    /// Go on with this operation, here, until it is done
    #[arg(long, value_name = "ID", conflicts_with_all = ["pause", "cancel"])]
    resume: Option<i64>,

    /// Stop this operation for now, wherever it is under way
    #[arg(long, value_name = "ID", conflicts_with = "cancel")]
    pause: Option<i64>,

    /// End this operation for good. What it has done stays done
    #[arg(long, value_name = "ID")]
    cancel: Option<i64>,

    /// How many are listed at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// Who runs the command, for the record: `ann@mill`.
pub(crate) fn actor() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => user,
        host => format!("{user}@{host}"),
    }
}

pub(crate) fn operations(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, args.job.as_deref()).await?;
        match (args.resume, args.pause, args.cancel) {
            (Some(id), ..) => resume(&known, OperationId(id), context).await,
            (_, Some(id), _) => set(&known, OperationId(id), OperationState::Paused, context).await,
            (.., Some(id)) => set(&known, OperationId(id), OperationState::Cancelled, context).await,
            (None, None, None) => list(args, &known, context).await,
        }
    })
}

async fn list(args: &Args, known: &Known, context: &Context) -> Result<Exit, Failure> {
    let job = args.job.as_ref().map(|job| known.job(job)).transpose()?;
    let mut rows = known.reader.operations(job.map(|job| job.id), args.limit.saturating_add(1)).await?;
    let more = rows.len() > args.limit as usize;
    rows.truncate(args.limit as usize);
    if context.out.json {
        context.out.records(rows.iter().map(|row| OperationView::new(known.name(row.job), row)))?;
    } else if rows.is_empty() {
        context.out.line("no operations")?;
    } else {
        context.out.line(table(&rows, known))?;
    }
    if more {
        context.out.note(format_args!("there are more than these {}: see --limit", count(args.limit.into())));
    }
    Ok(Exit::Ok)
}

fn table(rows: &[OperationRow], known: &Known) -> String {
    let mut table = Table::new([
        ("id", Column::Number),
        ("kind", Column::Word),
        ("job", Column::Word),
        ("state", Column::Word),
        ("done", Column::Number),
        ("planned", Column::Number),
        ("began", Column::Word),
        ("by", Column::Text),
        ("why", Column::Text),
    ]);
    for row in rows {
        table.row([
            row.id.to_string(),
            row.kind.clone(),
            known.name(row.job).unwrap_or_default().to_owned(),
            row.state.name().to_owned(),
            count(row.done),
            count(row.planned),
            second(row.created_at),
            row.actor.clone(),
            one_line(&row.why, WHY_CHARS_MAX),
        ]);
    }
    table.render()
}

async fn set(known: &Known, id: OperationId, to: OperationState, context: &Context) -> Result<Exit, Failure> {
    let tracker = known.location.operate(context)?;
    let row = tracker.set_operation(id, to, actor(), context.clock.now()).await?;
    tell(&row, known, context)?;
    Ok(Exit::Ok)
}

async fn resume(known: &Known, id: OperationId, context: &Context) -> Result<Exit, Failure> {
    let row = known.reader.operation(id).await?;
    let tracker = known.location.operate(context)?;
    let row = match row {
        // Another process may still run it. Two processes that run one operation do each stage only once.
        Some(row) if row.state == OperationState::Running => row,
        _ => tracker.set_operation(id, OperationState::Running, actor(), context.clock.now()).await?,
    };
    go_on(tracker.as_ref(), row, known, context).await
}

/// Runs the steps of an operation until it is over, or somebody stops it.
pub(crate) async fn go_on(
    tracker: &dyn Tracker,
    mut row: OperationRow,
    known: &Known,
    context: &Context,
) -> Result<Exit, Failure> {
    let failed = |error| Failure::new(Exit::Internal, format!("signals cannot be listened to: {error}"));
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let bar = context.out.start_bar(TEMPLATE);
    let mut stopped = false;
    while row.state == OperationState::Running && !stopped {
        row = tracker.step_operation(row.id, STEP, context.clock.now()).await?;
        if let Some(bar) = &bar {
            bar.set_length(row.planned.max(1));
            bar.set_position(row.done);
            bar.set_message(format!("{} of {} redriven", count(row.done), plural(row.planned, "stage")));
        }
        let rest = row.next_at.since(context.clock.now()).min(PAUSE_MAX);
        stopped = tokio::select! {
            biased;
            _ = interrupted.recv() => true,
            _ = terminated.recv() => true,
            () = tokio::time::sleep(rest) => false,
        };
    }
    context.out.end_bar();
    if row.state == OperationState::Running {
        row = tracker.set_operation(row.id, OperationState::Paused, actor(), context.clock.now()).await?;
    }
    tell(&row, known, context)?;
    Ok(if row.state == OperationState::Done { Exit::Ok } else { Exit::Incomplete })
}

/// Prints an operation's state, and what a person can do about it.
fn tell(row: &OperationRow, known: &Known, context: &Context) -> Result<(), Failure> {
    if context.out.json {
        return context.out.document(&OperationView::new(known.name(row.job), row));
    }
    let (done, id) = (plural(row.done, "stage"), row.id);
    match row.state {
        OperationState::Done => {
            context.out.line(format_args!("{done} redriven (operation {id})"))?;
            context.out.note("a running host takes them up at once; else `gristmill run` does");
        }
        OperationState::Running | OperationState::Paused => {
            let planned = count(row.planned);
            context.out.line(format_args!("{}: {done} of {planned} redriven (operation {id})", row.state.name()))?;
            context.out.note(format_args!(
                "`{}` goes on",
                data::command(context, "operations", "", &format!("--resume {id}"))
            ));
        }
        OperationState::Cancelled => {
            context.out.line(format_args!("cancelled: {done} redriven until then (operation {id})"))?;
        }
    }
    Ok(())
}
