//! `gristmill run`: jobs, until nothing is left.
//!
//! Owns the order of a run: job files, components, data folder, host, account. What happens in between is the
//! scheduler's. Never claims or settles anything itself.

mod account;
mod highlights;
mod listen;
mod progress;
mod signals;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::Job;
use gristmill_scheduler::{Error, Host, HostOptions, LoadedJob, Store, Summary, load};
use gristmill_tracker::{Reader, Synchronous, Tracker};

use crate::args::time;
use crate::context::{Context, runtime};
use crate::data;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::{self, Source};
use crate::place::Place;

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
                        outcomes (by name), late, lost, discovery_failures (job, message), jobs (as in `gristmill \
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

    /// How long after its last sign of life another host of a shared database has vanished, and its work is done here
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = takeover)]
    takeover_after: Duration,

    /// How much stays free on the disk of the data folder. Below it nothing new is discovered, below half of it nothing
    /// more is begun; 0 leaves nothing free
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    min_free: u64,

    /// Add a line to this file before each attempt: host, fence, stage, item, attempt, as JSON
    #[arg(long, value_name = "FILE")]
    trace_file: Option<PathBuf>,

    /// Tell the state over HTTP while it runs, read-only: `/health`, `/metrics`, `/api/jobs`. It has no passwords: listen
    /// on this machine alone, or behind a proxy
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Print warnings and errors alone: no progress, no account
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Durability {
    Full,
    Normal,
}

/// Shorter, and a busy machine would be taken for a dead one.
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
    let read = read(&args.source, context)?;
    let place = place(&args.source.files, context)?;
    let progress = Progress::start(context, args.quiet);
    let workers = args.workers.map_or_else(cores, usize::from);
    let (data, store) = store(args, &place, context);
    let cache = data.join("cache");
    let open = || open(args, store.clone(), workers, context);
    // Whoever may not run here is told before anything is compiled; and nothing is made for a job that does not fit.
    let opened = data.exists().then(open).transpose()?;
    let there = data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("")).to_owned();
    let sandbox = jobs::sandbox(context, &read, Some(cache), workers)?;
    for warning in sandbox.warnings() {
        tracing::warn!("{warning}");
    }
    let parts: Vec<Part> = args.source.files.iter().zip(&read).map(|(file, job)| part(file, job, context)).collect();
    let loaded = fit(&sandbox, &args.source.files, read, context).inspect_err(|_| unmake(&data, &there))?;
    let host = opened.map_or_else(open, Ok).inspect_err(|_| unmake(&data, &there))?;
    let tracker = host.tracker();
    runtime()?.block_on(async {
        let listening = listen::start(args.listen, Arc::clone(&tracker) as Arc<dyn Reader>, &context.out).await?;
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
            // The run is what was asked for, whoever reads its account.
            Ok(()) | Err(Failure::PipeClosed) => Ok(account.exit()),
            Err(error) => Err(error),
        }
    })
}

/// Where everything is recorded, and the folder of what is only this machine's.
fn store(args: &Args, place: &Place, context: &Context) -> (PathBuf, Store) {
    match place {
        Place::Folder(data) => {
            let synchronous = match args.durability {
                Durability::Full => Synchronous::Full,
                Durability::Normal => Synchronous::Normal,
            };
            (data.clone(), Store::Sqlite { data: data.clone(), synchronous })
        }
        Place::Postgres(url) => (
            data::folder(context, args.source.files.first().map(PathBuf::as_path)),
            Store::Postgres { url: url.clone() },
        ),
    }
}

fn open(args: &Args, store: Store, workers: usize, context: &Context) -> Result<Host, Failure> {
    Ok(Host::open(HostOptions {
        store,
        workers,
        watch: args.watch,
        grace: args.grace,
        takeover_after: args.takeover_after,
        min_free_bytes: args.min_free,
        trace_file: args.trace_file.clone(),
        clock: Arc::clone(&context.clock),
    })?)
}

fn part(file: &Path, job: &Job, context: &Context) -> Part {
    let highlights = Highlights::of(job, &context.out);
    let name = job.spec.name.clone();
    // What came by the standard input is found again by its name.
    let file = if jobs::is_stdin(file) { name.clone() } else { file.display().to_string() };
    Part { file, name, highlights }
}

/// Takes the compiled code of a job that does not run away again, with all folders that were made for it.
fn unmake(data: &Path, there: &Path) {
    if data != there {
        let _ = std::fs::remove_dir_all(data.join("cache"));
        // Each only if it is empty.
        let _ = data.ancestors().take_while(|made| *made != there).try_for_each(std::fs::remove_dir);
    }
}

/// Reads all job files, or says everything that is wrong with them.
fn read(source: &Source, context: &Context) -> Result<Vec<Job>, Failure> {
    let (mut read, mut problems, mut wrong) = (Vec::new(), 0, 0);
    for file in &source.files {
        match source.read(file) {
            Ok(job) => read.push(job),
            Err(report) => {
                (problems, wrong) = (problems + report.problems.len(), wrong + 1);
                context.out.note(format_args!("{report}\n"));
            }
        }
    }
    if wrong > 0 {
        return Err(Failure::new(Exit::Job, jobs::refusal(problems, wrong)));
    }
    let name = |place: usize| &read[place].spec.name;
    if let Some(double) = (1..read.len()).find(|place| (0..*place).any(|earlier| name(earlier) == name(*place))) {
        let name = name(double);
        return Err(Failure::new(Exit::Job, format!("two of these files are job `{name}`")).hint("rename one of them"));
    }
    Ok(read)
}

/// One host has one tracker: job files of several folders do not say which.
fn place(files: &[PathBuf], context: &Context) -> Result<Place, Failure> {
    let mut places = files.iter().map(|file| Place::of(context, Some(file)));
    let first = places.next().unwrap_or_else(|| Place::of(context, None))?;
    for other in places {
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

/// Loads the components of all jobs, or says everything that does not fit.
fn fit(
    sandbox: &gristmill_sandbox::Sandbox,
    files: &[PathBuf],
    read: Vec<Job>,
    context: &Context,
) -> Result<Vec<LoadedJob>, Failure> {
    let (mut loaded, mut problems_sum, mut wrong) = (Vec::new(), 0, 0);
    for (file, job) in files.iter().map(PathBuf::as_path).zip(read) {
        match load(sandbox, job) {
            Ok(job) => loaded.push(job),
            Err(Error::Job { problems, .. }) => {
                (problems_sum, wrong) = (problems_sum + problems.len(), wrong + 1);
                context.out.note(format_args!("{}\n", jobs::layout(Path::new(file), &problems)));
            }
            Err(other) => return Err(other.into()),
        }
    }
    if wrong > 0 { Err(Failure::new(Exit::Job, jobs::refusal(problems_sum, wrong))) } else { Ok(loaded) }
}

/// Runs the host, and shows how far it is.
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
