//! `gristmill bench`: how fast this machine runs jobs, beside what it could do at most.
//!
//! Owns how the answer looks. A real component goes through a real tracker, and in the same run the two ceilings are
//! measured, so that ratios can be compared between machines. Never a test: speed is measured, not asserted.

mod bed;
mod ceilings;
mod history;
mod measure;

use std::path::PathBuf;
use std::thread::available_parallelism;

use gristmill_tracker::Synchronous;

use self::bed::{Bed, Plan};
use self::history::{Grown, grown};
use self::measure::{Measured, measure};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{bytes, count};
use crate::table::{Column, Table};

/// Measure how fast this machine runs jobs, beside what it could do at most
///
/// N items go through three chained stages that do nothing, in a real component: claimed, run in a fresh sandbox each,
/// settled with a result of 100 bytes. Beside it, in the same process, the two ceilings: (a) the same writes to the
/// same schema by bare statements, in batches as large as the host's, and nothing run; (b) the same component called as
/// often, and nothing written. Compare ratios: machines differ, and drift.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill bench
  gristmill bench --items 100000 --runs 5
  gristmill bench --history 1000000

With --json, one line a run: executions_per_second, discovered_per_second, cpu_micros_per_execution, latency_p50_ms, \
                        latency_p99_ms (from ready to settled), mean_batch, memory_bytes_max, database_bytes, \
                        writes_ceiling_per_second (a), sandbox_ceiling_per_second (b), ratio_to_writes, \
                        ratio_to_sandbox; with --history two lines a run, of the empty tracker and the grown one: history, \
                        executions_per_second, discovered_per_second, rediscovered_per_second, claim_micros, \
                        database_bytes.")]
pub(crate) struct Args {
    /// How many items
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    items: u32,

    /// Compare an empty tracker with one that holds so many finished items
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    history: Option<u32>,

    /// How often to measure: the difference between runs is the noise of this machine
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,

    /// How many attempts run at once [default: one a core]
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
    let (mut runs, mut pairs) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        let parent = args.folder.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::tempdir_in(&parent).map_err(|error| {
            Failure::new(Exit::Data, format!("cannot make a folder in {}: {error}", parent.display()))
                .hint("name another one with --folder")
        })?;
        let plan = Plan {
            items: args.items,
            workers,
            handler: args.handler.clone(),
            synchronous: Synchronous::Full,
            folder: folder.path().to_owned(),
        };
        let bed = Bed::new(plan)?;
        if let Some(items) = args.history {
            let pair = (grown(&bed, 0)?, grown(&bed, items)?);
            if context.out.json {
                context.out.records([&pair.0, &pair.1])?;
            }
            pairs.push(pair);
            continue;
        }
        let measured = measure(&bed)?;
        if context.out.json {
            context.out.records([&measured])?;
        }
        runs.push(measured);
    }
    match args.history {
        _ if context.out.json => {}
        Some(history) => context.out.line(describe_history(history, args.items, workers, &pairs))?,
        None => context.out.line(describe(args.items, workers, &runs))?,
    }
    Ok(Exit::Ok)
}

/// What is measured, how it is read off a run, and how it is shown.
type Line = (&'static str, fn(&Measured) -> f64, fn(f64) -> String);

const LINES: [Line; 12] = [
    ("stage executions/s", |run| run.executions_per_second, whole),
    ("  (a) the writes alone", |run| run.writes_ceiling_per_second, whole),
    ("  (b) the sandbox alone", |run| run.sandbox_ceiling_per_second, whole),
    ("  ratio to (a)", |run| run.ratio_to_writes, hundredths),
    ("  ratio to (b)", |run| run.ratio_to_sandbox, hundredths),
    ("CPU a stage execution, µs", |run| run.cpu_micros_per_execution, tenths),
    ("discovered items/s", |run| run.discovered_per_second, whole),
    ("ready to settled, p50, ms", |run| run.latency_p50_ms, tenths),
    ("ready to settled, p99, ms", |run| run.latency_p99_ms, tenths),
    ("mean batch", |run| run.mean_batch as f64, whole),
    ("peak memory of the process", |run| run.memory_bytes_max as f64, size),
    ("database", |run| run.database_bytes as f64, size),
];

fn describe(items: u32, workers: usize, runs: &[Measured]) -> String {
    let title = format!("{} items, 3 stages, {workers} threads, synchronous=FULL", count(u64::from(items)));
    let names: Vec<String> = (1..=runs.len()).map(|run| format!("run {run}")).collect();
    let columns = names.iter().map(|name| (name.as_str(), Column::Number));
    let mut table = Table::new([("", Column::Word), ("median", Column::Number)].into_iter().chain(columns));
    for (name, value, show) in LINES {
        let values: Vec<f64> = runs.iter().map(value).collect();
        let shown = values.iter().map(|value| show(*value));
        table.row([name.to_owned(), show(median(&values))].into_iter().chain(shown));
    }
    format!("{title}\n\n{}", table.render())
}

type GrownLine = (&'static str, fn(&Grown) -> f64, fn(f64) -> String);

const GROWN_LINES: [GrownLine; 5] = [
    ("stage executions/s", |run| run.executions_per_second, whole),
    ("discovered items/s, new", |run| run.discovered_per_second, whole),
    ("discovered items/s, unchanged", |run| run.rediscovered_per_second, whole),
    ("a claim of 64, µs", |run| run.claim_micros, whole),
    ("database", |run| run.database_bytes as f64, size),
];

/// The medians of both trackers, and the ratio in each run.
fn describe_history(history: u32, items: u32, workers: usize, pairs: &[(Grown, Grown)]) -> String {
    let (items, past) = (count(u64::from(items)), count(u64::from(history)));
    let title =
        format!("{items} items, 3 stages, {workers} threads, synchronous=FULL; with {past} finished items before");
    let names: Vec<String> = (1..=pairs.len()).map(|run| format!("ratio {run}")).collect();
    let columns = [("empty", Column::Number), ("grown", Column::Number)];
    let ratios = names.iter().map(|name| (name.as_str(), Column::Number));
    let mut table = Table::new([("", Column::Word)].into_iter().chain(columns).chain(ratios));
    for (name, value, show) in GROWN_LINES {
        let (empty, grown): (Vec<f64>, Vec<f64>) =
            pairs.iter().map(|(empty, grown)| (value(empty), value(grown))).unzip();
        let ratios = empty.iter().zip(&grown).map(|(empty, grown)| hundredths(grown / empty));
        let medians = [name.to_owned(), show(median(&empty)), show(median(&grown))];
        table.row(medians.into_iter().chain(ratios));
    }
    format!("{title}\n\n{}", table.render())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn whole(value: f64) -> String {
    count(value as u64)
}

fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

fn hundredths(value: f64) -> String {
    format!("{value:.2}")
}

fn size(value: f64) -> String {
    bytes(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[7.0]) - 7.0).abs() < f64::EPSILON);
    }
}
