//! `gristmill bench`: how fast this machine runs jobs, compared with the most that it could do.
//!
//! Owns the output. A real component runs with a real tracker. The same run also measures the two ceilings, so that
//! ratios can be compared between machines. Never a test: speed is measured, not asserted.

mod bed;
mod ceilings;
mod history;
mod hosts;
mod measure;
mod report;

use std::path::PathBuf;
use std::thread::available_parallelism;

use gristmill_tracker::Error;
use gristmill_tracker_postgres::Scratch;
use gristmill_tracker_sqlite::Synchronous;
use serde::Serialize;

use self::bed::{Bed, Plan};
use self::history::grown;
use self::hosts::shared;
use self::measure::measure;
use self::report::{medians, ratios};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::count;
use crate::location::Location;

/// Measure how fast this machine runs jobs, beside what it could do at most
///
/// N items go through three chained stages that do nothing, in a real component: claimed, run in a fresh sandbox each,
/// settled with a result of 100 bytes. Beside it, in the same process, the two ceilings: (a) the same writes to the
/// same schema by bare statements, in batches as large as the host's, and nothing run; (b) the same component called as
/// often, and nothing written. Compare ratios: machines differ, and drift.
///
/// With --tracker postgres://... several hosts share that database, which must have no tracker yet and has none
/// afterwards; (a) is then one connection that writes batches of 256. Whatever else the server's machine does counts.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill bench
  gristmill bench --items 100000 --runs 5 --data-bytes 1
  gristmill bench --history 1000000
  gristmill bench --tracker postgres://me@localhost/empty --hosts 2

With --json, one line a run: executions_per_second, discovered_per_second, cpu_micros_per_execution, latency_p50_ms, \
                        latency_p99_ms (from ready to settled), mean_batch, memory_bytes_max, database_bytes, \
                        writes_ceiling_per_second (a), sandbox_ceiling_per_second (b), ratio_to_writes, \
                        ratio_to_sandbox; with --history two lines a run, of the empty tracker and the grown one: history, \
                        executions_per_second, discovered_per_second, rediscovered_per_second, claim_micros, \
                        database_bytes; on Postgres: hosts, and what is measured there.")]
pub(crate) struct Args {
    /// How many items
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    items: u32,

    /// How many bytes of data each item has
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    data_bytes: u32,

    /// Compare an empty tracker with one that holds N finished items
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    history: Option<u32>,

    /// How many hosts share a Postgres database
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    hosts: u8,

    /// How often to measure: the difference between runs is the noise of this machine
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,

    /// How many attempts run at once, of all hosts together [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// The component: `gristmill build handlers/noop` makes it
    #[arg(long, value_name = "FILE.wasm", default_value = "handlers/noop/noop.wasm")]
    handler: PathBuf,

    /// Where the databases are made, and removed again [default: the system's folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(crate) fn bench(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let workers = args.workers.map_or_else(|| available_parallelism().map_or(1, usize::from), usize::from);
    let (items, bytes) = (count(u64::from(args.items)), count(u64::from(args.data_bytes)));
    let work = format!("{items} items of {bytes} bytes, 3 stages, {workers} threads");
    // Only the command line counts: the environment names a tracker that people work with.
    let location = context.tracker.as_deref().map(Location::parse).transpose()?;
    match (location, args.history) {
        (Some(Location::Folder(_)), _) => Err(Failure::new(Exit::Usage, "a data folder cannot be measured")
            .hint("leave `--tracker` out: the bench makes data folders of its own, in `--folder`")),
        (Some(Location::Postgres(_)), Some(_)) => {
            Err(Failure::new(Exit::Usage, "a history is made on SQLite alone")
                .hint("leave `--history` or `--tracker` out"))
        }
        (Some(Location::Postgres(url)), None) => {
            let scratch = Scratch::take(&url).map_err(not_empty)?;
            let hosts = usize::from(args.hosts);
            let runs = measured(args, workers, context, |bed| Ok([shared(bed, &scratch, hosts)?]))?;
            let title = format!("{work}, {hosts} hosts on one Postgres");
            report(context, &title, || medians(&hosts::LINES, &runs))
        }
        (None, Some(history)) => {
            let pairs = measured(args, workers, context, |bed| Ok([grown(bed, 0)?, grown(bed, history)?]))?;
            let past = count(u64::from(history));
            let title = format!("{work}, synchronous=FULL; with {past} finished items before");
            report(context, &title, || ratios(["empty", "grown"], &history::LINES, &pairs))
        }
        (None, None) => {
            let runs = measured(args, workers, context, |bed| Ok([measure(bed)?]))?;
            report(context, &format!("{work}, synchronous=FULL"), || medians(&measure::LINES, &runs))
        }
    }
}

fn not_empty(error: Error) -> Failure {
    match error {
        Error::NotEmpty(_) => Failure::from(error).hint("name a database without a tracker: what is in it would be deleted; if a bench was killed there, `DROP SCHEMA gristmill CASCADE`"),
        other => other.into(),
    }
}

/// Measures as often as asked, each time in a new folder.
fn measured<T: Serialize, const N: usize>(
    args: &Args,
    workers: usize,
    context: &Context,
    measure: impl Fn(&Bed) -> Result<[T; N], gristmill_scheduler::Error>,
) -> Result<Vec<[T; N]>, Failure> {
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        let parent = args.folder.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::tempdir_in(&parent).map_err(|error| {
            Failure::new(Exit::Data, format!("cannot make a folder in {}: {error}", parent.display()))
                .hint("name another one with --folder")
        })?;
        let plan = Plan {
            items: args.items,
            data_bytes: args.data_bytes,
            workers,
            handler: args.handler.clone(),
            synchronous: Synchronous::Full,
            folder: folder.path().to_owned(),
        };
        let measured = measure(&Bed::new(plan)?)?;
        if context.out.json {
            context.out.records(&measured)?;
        }
        runs.push(measured);
    }
    Ok(runs)
}

fn report(context: &Context, title: &str, table: impl FnOnce() -> String) -> Result<Exit, Failure> {
    if !context.out.json {
        context.out.line(format!("{title}\n\n{}", table()))?;
    }
    Ok(Exit::Ok)
}
