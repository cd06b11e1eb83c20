//! The summary of a run.
//!
//! Owns its JSON record, its tables and its exit code. Reads the tracker, with a bound. Never changes it.

use std::collections::BTreeMap;

use gristmill_model::{ItemId, ItemStatus, Outcome, State};
use gristmill_scheduler::Summary;
use gristmill_server::views::JobDetailView;
use gristmill_tracker::{ItemsFilter, JobRow, JobStats, Tracker};
use serde::Serialize;

use crate::context::Context;
use crate::data::command;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, duration, one_line, plural, rate, shell_word};
use crate::run::highlights::{Found, Highlights};
use crate::status::{items_line, notes, stages_table};
use crate::table::{Column, Table};

/// How many dead stages are listed.
const DEAD_MAX: u32 = 10;
/// The longest error in their table.
const ERROR_CHARS_MAX: usize = 200;

/// A job of a run.
pub(crate) struct Part {
    /// Its file, as the person named it.
    pub(crate) file: String,
    /// Its name.
    pub(crate) name: String,
    /// The summary that its `display` asks for.
    pub(crate) highlights: Option<Highlights>,
}

/// A job's row and counters; none before its first run.
pub(crate) type Counters = Vec<Option<(JobRow, JobStats)>>;

/// Reads the counters of these jobs, in their order.
pub(crate) async fn counters(tracker: &dyn Tracker, parts: &[Part]) -> Result<Counters, Failure> {
    let known = tracker.jobs().await?;
    let mut counters = Vec::with_capacity(parts.len());
    for part in parts {
        counters.push(match known.iter().find(|job| job.name == part.name) {
            Some(job) => Some((job.clone(), tracker.stats(job.id).await?)),
            None => None,
        });
    }
    Ok(counters)
}

/// The summary of a run.
pub(crate) struct Account {
    summary: Summary,
    executions: u64,
    items_done: u64,
    jobs: Vec<JobAccount>,
}

struct JobAccount {
    file: String,
    name: String,
    stats: JobStats,
    dead: Vec<Dead>,
    found: Option<Found>,
}

#[derive(Serialize)]
struct Dead {
    item: String,
    stage: String,
    error: String,
}

/// The summary of a run, for programs.
#[derive(Serialize)]
pub(crate) struct Record<'a> {
    elapsed_seconds: f64,
    interrupted: bool,
    discovered: BTreeMap<&'static str, u64>,
    executions: u64,
    outcomes: BTreeMap<&'static str, u64>,
    late: u64,
    lost: u64,
    in_flight_bytes_max: u64,
    discovery_failures: Vec<DiscoveryFailure<'a>>,
    jobs: Vec<JobRecord<'a>>,
}

#[derive(Serialize)]
struct DiscoveryFailure<'a> {
    job: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct JobRecord<'a> {
    #[serde(flatten)]
    status: JobDetailView<'a>,
    dead: &'a [Dead],
    summary: Option<&'a Found>,
}

fn done(stats: &JobStats) -> u64 {
    stats.items.get(&ItemStatus::Done).copied().unwrap_or(0)
}

impl Account {
    pub(crate) async fn new(
        tracker: &dyn Tracker,
        summary: Summary,
        before: Counters,
        parts: Vec<Part>,
    ) -> Result<Self, Failure> {
        let (mut jobs, mut items_done) = (Vec::new(), 0);
        let after = counters(tracker, &parts).await?;
        for ((counters, before), part) in after.into_iter().zip(before).zip(parts) {
            // A host that was stopped early may not have registered this job.
            let Some((row, stats)) = counters else { continue };
            items_done += done(&stats).saturating_sub(before.map_or(0, |(_, stats)| done(&stats)));
            let found = match &part.highlights {
                Some(highlights) => Some(highlights.find(tracker, &row).await?),
                None => None,
            };
            let dead = dead(tracker, &row).await?;
            jobs.push(JobAccount { dead, file: part.file, name: part.name, stats, found });
        }
        let executions = summary.outcomes.values().sum();
        Ok(Self { summary, executions, items_done, jobs })
    }

    /// How the binary ends.
    pub(crate) fn exit(&self) -> Exit {
        let all_well = self.dead() == 0 && self.summary.discovery_failures.is_empty();
        // A person who stops a host wants to know that it stopped, not the state of its items.
        if all_well || self.summary.interrupted { Exit::Ok } else { Exit::Incomplete }
    }

    fn dead(&self) -> u64 {
        self.jobs.iter().map(|job| job.stats.in_states(&[State::Dead])).sum()
    }

    /// For programs.
    pub(crate) fn record(&self) -> Record<'_> {
        let summary = &self.summary;
        let discovered = summary.discovered;
        let failures = summary.discovery_failures.iter();
        Record {
            elapsed_seconds: summary.elapsed.as_secs_f64(),
            interrupted: summary.interrupted,
            discovered: BTreeMap::from([
                ("new", discovered.new),
                ("changed", discovered.changed),
                ("unchanged", discovered.unchanged),
            ]),
            executions: self.executions,
            outcomes: Outcome::ALL
                .into_iter()
                .map(|outcome| (outcome.name(), summary.outcomes.get(&outcome).copied().unwrap_or(0)))
                .collect(),
            late: summary.late,
            lost: summary.lost,
            in_flight_bytes_max: summary.in_flight_bytes_max,
            discovery_failures: failures.map(|(job, message)| DiscoveryFailure { job, message }).collect(),
            jobs: self.jobs.iter().map(JobAccount::record).collect(),
        }
    }

    /// For people.
    pub(crate) fn print(&self, context: &Context) -> Result<(), Failure> {
        let nothing_done = self.nothing_done();
        for job in &self.jobs {
            let nothing = if nothing_done { "nothing to do: " } else { "" };
            context.out.line(format_args!("{}: {nothing}{}", job.name, items_line(&job.stats)))?;
            if !nothing_done && job.stats.total() > 0 {
                context.out.line(stages_table(&job.stats))?;
            }
            context.out.lines(notes(&job.stats))?;
            job.print_dead(context)?;
            for table in job.found.iter().flat_map(Found::tables) {
                context.out.line(format_args!("\n{table}"))?;
            }
            context.out.line("")?;
        }
        context.out.line(self.last_line())
    }

    fn nothing_done(&self) -> bool {
        let Summary { discovered, interrupted, discovery_failures, .. } = &self.summary;
        let found = discovered.new + discovered.changed;
        self.executions == 0 && found == 0 && !interrupted && discovery_failures.is_empty()
    }

    fn last_line(&self) -> String {
        let elapsed = self.summary.elapsed;
        let ended = if self.summary.interrupted { "stopped after" } else { "done in" };
        if self.executions == 0 {
            return format!("{ended} {}", duration(elapsed));
        }
        let (items, executions) = (self.items_done, self.executions);
        format!(
            "{ended} {}: {} done ({}), {} ({})",
            duration(elapsed),
            plural(items, "item"),
            rate(items, elapsed),
            plural(executions, "stage execution"),
            rate(executions, elapsed)
        )
    }
}

impl JobAccount {
    fn record(&self) -> JobRecord<'_> {
        let status = JobDetailView::new(&self.name, &self.stats);
        JobRecord { status, dead: &self.dead, summary: self.found.as_ref() }
    }

    fn print_dead(&self, context: &Context) -> Result<(), Failure> {
        let total = self.stats.in_states(&[State::Dead]);
        let Some(first) = self.dead.first() else { return Ok(()) };
        let shown = self.dead.len() as u64;
        let which = if shown < total { format!(", {} of them", count(shown)) } else { String::new() };
        context.out.line(format_args!("\n{}{which}:", plural(total, "dead stage")))?;
        let mut table = Table::new([("item", Column::Key), ("stage", Column::Word), ("error", Column::Text)]);
        for dead in &self.dead {
            table.row([&dead.item, &dead.stage, &one_line(&dead.error, ERROR_CHARS_MAX)]);
        }
        context.out.line(table.render())?;
        context.out.line(format_args!("more: {}", command(context, "show", &self.file, &shell_word(&first.item))))?;
        if shown < total {
            context.out.line(format_args!("all:  {}", command(context, "items", &self.file, "--status failed")))?;
        }
        Ok(())
    }
}

/// The first dead stages of a job's failed items.
async fn dead(tracker: &dyn Tracker, job: &JobRow) -> Result<Vec<Dead>, Failure> {
    let status = Some(ItemStatus::Failed);
    let filter = ItemsFilter { job: job.id, status, prefix: String::new(), after: ItemId(0), limit: DEAD_MAX };
    let mut dead = Vec::new();
    for row in tracker.items(filter).await? {
        let Some(item) = tracker.item(job.id, &row.key).await? else { continue };
        let stages = item.stages.into_iter().filter(|stage| stage.state == State::Dead);
        dead.extend(stages.map(|stage| Dead {
            item: row.key.clone(),
            stage: stage.name,
            error: stage.error.unwrap_or_default(),
        }));
    }
    dead.truncate(DEAD_MAX as usize);
    Ok(dead)
}
