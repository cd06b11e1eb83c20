//! `gristmill run`: runs jobs until nothing is left.
//!
//! Owns the order of a run: job files, components, data folder, host, summary. Never claims or settles anything itself:
//! the scheduler does.

mod account;
mod highlights;
mod listen;
mod progress;
mod signals;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gristmill_config::{Draft, Report};
use gristmill_model::Job;
use gristmill_scheduler::{Host, HostOptions, LoadedJob, Summary};
use gristmill_tracker::{Reader, Tracker};
use gristmill_tracker_sqlite::Synchronous;

use crate::args::time;
use crate::context::{Context, runtime};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::grants;
use crate::jobs::{self, Source};
use crate::location::Location;

use self::account::{Account, Part};
use self::highlights::Highlights;
use self::progress::Progress;
use self::signals::Signals;

/// How many attempts may run at once, however many cores there are.
const WORKERS_MAX: u16 = 1024;

/// Run jobs until nothing is left
///
/// Discovers items, and runs every stage that is not done. What was done by an earlier run is not done again. Ctrl-C,
/// SIGTERM or SIGHUP lets running attempts finish; a second one stops at once. Neither loses a result.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill run handlers/audit.yaml
  gristmill run jobs/*.yaml --param model=small --watch

With --json, one object at the end: elapsed_seconds, interrupted, discovered (new, changed, unchanged), executions, \
                        outcomes (by name), late, lost, in_flight_bytes_max, discovery_failures (job, message), jobs (as in `gristmill \
                        status --json`, with dead: item, stage, error, and summary: stage, results, complete, \
                        counted_by, counts, worst_by, top).

A job file may ask for a summary of its results:
  display:
    summary: { stage: verdict, count_by: verdict, worst_by: score, top: 10, columns: [verdict, score, line] }")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,

    /// Stay when everything is done, and discover again when a job says so
    #[arg(long)]
    watch: bool,

    /// How many attempts run at once [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKERS_MAX)))]
    workers: Option<u16>,

    /// What survives a power cut: all that was recorded, or (faster) all but the last moments
    #[arg(long, value_enum, default_value_t = Durability::Full)]
    durability: Durability,

    /// How long running attempts may go on after Ctrl-C
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    grace: Duration,

    /// How long after its last heartbeat another host of a shared database counts as lost, and its work is taken over
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = takeover)]
    takeover_after: Duration,

    /// How long to wait for a tracker that another process holds, or a database server that is away. Nothing is lost
    /// meanwhile, and after that the run ends
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    patience: Duration,

    /// How much data and output attempts may be given at once, and hold until they are settled. Beyond it no more is
    /// claimed
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = size)]
    max_in_flight: u64,

    /// How much stays free on the disk of the data folder. Below it nothing new is discovered, below half of it nothing
    /// more is begun; 0 leaves nothing free
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    min_free: u64,

    /// Add a line to this file before each attempt: host, fence, stage, item, attempt, as JSON
    #[arg(long, value_name = "FILE")]
    trace_file: Option<PathBuf>,

    /// Show the state over HTTP while it runs, read-only: `/health`, `/metrics`, `/api/jobs`. It has no passwords:
    /// listen on this machine alone, or behind a proxy
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Answer over HTTP for this host name as well, which a proxy passes on for one. On loopback only `localhost`,
    /// `127.0.0.1`, `[::1]` and the address itself are answered. May be given more than once
    #[arg(long = "allow-host", value_name = "NAME", requires = "listen")]
    allow_hosts: Vec<String>,

    /// Print warnings and errors alone: no progress, no account
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Durability {
    Full,
    Normal,
}

/// With a shorter time, a busy host would count as vanished.
const TAKEOVER_MIN: Duration = Duration::from_secs(1);

fn takeover(text: &str) -> Result<Duration, String> {
    time(text).and_then(|time| if time < TAKEOVER_MIN { Err("it is at least 1s".to_owned()) } else { Ok(time) })
}

fn size(text: &str) -> Result<u64, String> {
    gristmill_config::size(text).ok_or_else(|| "it is written as 0, 64KiB, 256MiB or 2GiB".to_owned())
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let signals = Signals::listen(context.out.clone(), args.grace)?;
    args.source.expect_distinct()?;
    let files = &args.source.files;
    let read: Vec<_> = files.iter().map(|file| grants::read(&args.source, file, context)).collect();
    let workers = args.workers.map_or_else(cores, usize::from);
    let sandbox = || jobs::sandbox(context, read.iter().flatten().map(Draft::job), workers, args.quiet);
    if !read.iter().all(|draft| draft.as_ref().is_ok_and(Draft::is_sound)) {
        let sandbox = sandbox()?;
        jobs::fit_all(&sandbox, read, context)?;
        unreachable!("a job file that is wrong does not fit");
    }
    expect_other_names(&read)?;
    let location = location(files, context)?;
    let progress = Progress::start(context, args.quiet);
    let open = || open(args, &location, workers, context);
    // A tracker that cannot be used is reported before anything is compiled. Nothing is created for a faulty job.
    let is_there = location.folder().is_none_or(Path::exists);
    let opened = is_there.then(open).transpose()?;
    let sandbox = sandbox()?;
    let loaded = jobs::fit_all(&sandbox, read, context)?;
    let parts: Vec<Part> = files.iter().zip(&loaded).map(|(file, loaded)| part(file, &loaded.job, context)).collect();
    let host = opened.map_or_else(open, Ok)?;
    let tracker = host.tracker();
    let reader = Arc::clone(&tracker) as Arc<dyn Reader>;
    runtime()?.block_on(async {
        let listening = listen::start(args.listen, args.allow_hosts.clone(), reader, &context.out).await?;
        let before = account::counters(tracker.as_ref(), &parts).await?;
        let summary = drive(host, loaded, tracker.as_ref(), progress, &parts, signals.stop()).await?;
        if let Some(listening) = listening {
            listening.end().await;
        }
        let account = Account::new(tracker.as_ref(), summary, before, parts).await?;
        let printed = match (context.out.json, args.quiet) {
            (true, _) => context.out.document(&account.record()),
            (false, false) => account.print(context),
            (false, true) => Ok(()),
        };
        match printed {
            // The run counts, even if nobody reads its summary.
            Ok(()) | Err(Failure::PipeClosed) => Ok(account.exit()),
            Err(error) => Err(error),
        }
    })
}

fn open(args: &Args, location: &Location, workers: usize, context: &Context) -> Result<Host, Failure> {
    let synchronous = match args.durability {
        Durability::Full => Synchronous::Full,
        Durability::Normal => Synchronous::Normal,
    };
    let tracker = location.host(synchronous, args.patience, context)?;
    let options = HostOptions {
        workers,
        watch: args.watch,
        grace: args.grace,
        takeover_after: args.takeover_after,
        in_flight_bytes_max: args.max_in_flight.max(1),
        min_free_bytes: args.min_free,
        trace_file: args.trace_file.clone(),
        clock: Arc::clone(&context.clock),
    };
    Ok(Host::new(options, tracker))
}

fn part(file: &Path, job: &Job, context: &Context) -> Part {
    let highlights = Highlights::of(job, &context.out);
    let name = job.spec.name.clone();
    // A job from the standard input is found again by its name.
    let file = if jobs::is_stdin(file) { name.clone() } else { file.display().to_string() };
    Part { file, name, highlights }
}

/// Two files must not declare the same job, since its results could belong to either.
fn expect_other_names(read: &[Result<Draft, Report>]) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    match read.iter().flatten().map(|draft| &draft.job().spec.name).find(|name| !names.insert(*name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!("two of these files are job `{name}`");
            Err(Failure::new(Exit::Job, message).hint("rename one of them"))
        }
    }
}

/// One host has one tracker. Job files of several folders do not say which one.
fn location(files: &[PathBuf], context: &Context) -> Result<Location, Failure> {
    let mut locations = files.iter().map(|file| Location::of(context, Some(file)));
    let first = locations.next().unwrap_or_else(|| Location::of(context, None))?;
    for other in locations {
        if !first.is(&other?) {
            let message = "these job files are in several folders, and the data is kept beside them";
            return Err(Failure::new(Exit::Usage, message).hint("say where to keep it with --data"));
        }
    }
    Ok(first)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX.into())
}

/// Runs the host, and shows its progress.
async fn drive(
    host: Host,
    loaded: Vec<LoadedJob>,
    tracker: &dyn Tracker,
    mut progress: Progress,
    parts: &[Part],
    stop: impl Future<Output = ()>,
) -> Result<Summary, Failure> {
    let mut running = std::pin::pin!(host.run(loaded, stop));
    let mut tick = tokio::time::interval(progress.pace());
    let summary = loop {
        tokio::select! {
            biased;
            summary = &mut running => break summary,
            _ = tick.tick() => progress.show(tracker, parts).await,
        }
    };
    progress.end();
    Ok(summary?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_a_time() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("0s"), Ok(Duration::ZERO));
        assert_eq!(takeover("2s"), Ok(Duration::from_secs(2)));
        assert!(takeover("999ms").is_err());
        assert_eq!((size("0"), size("2GiB")), (Ok(0), Ok(2 << 30)));
        assert!(size("much").is_err());
        for wrong in ["", "30", "-3s", "soon"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
