//! `gristmill prune`: deletes what a job's retention does not keep.
//!
//! Owns the report. Never decides what is old, or the order of archive and deletion: the tracker does.

use std::collections::BTreeMap;
use std::time::Duration;

use gristmill_config::Draft;
use gristmill_model::{Expiring, Job, JobId, Retention};
use gristmill_tracker::{
    HOST_EVENTS_KEPT, JobRow, Pruned, Pruning, PruningPosition, Tracker, count_expired, host_retention,
    prune as prune_all,
};
use serde::Serialize;

use crate::context::{Context, wait};
use crate::data::Known;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{bytes, count, plural};
use crate::jobs::{self, Source};
use crate::table::{Column, Table};

/// A younger file of a large output may belong to a result that is just being recorded.
const BLOB_AGE_MIN: Duration = Duration::from_mins(1);
/// How many files are checked in a transaction.
const SWEEP_FILES_MAX: u32 = 1000;

/// Delete what a job keeps no longer, as the `retention` of its file says
///
/// A running host does so by itself, a little at a time. What is to be archived is on the disk before it is deleted.
/// The newest attempt, event and item stay, however old. In a data folder, the files of large outputs that no result
/// names any more go too, and so do events of no job (of hosts, for one) that are older than 90 days. The bytes of
/// components go that no job's file names any more, and that made no result.
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill prune jobs/audit.yaml --dry-run

With --json, an object a job: job, dry_run, deleted (by kind), archived (files), host_events_deleted, blobs_removed, \
                        blob_bytes_removed, components_removed, component_bytes_removed.")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,

    /// Count what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Default, Serialize)]
struct Record {
    job: String,
    dry_run: bool,
    deleted: BTreeMap<&'static str, u64>,
    archived: Vec<String>,
    /// The number of deleted events of no job.
    host_events_deleted: u64,
    blobs_removed: u64,
    blob_bytes_removed: u64,
    components_removed: u64,
    component_bytes_removed: u64,
}

pub(crate) fn prune(args: &Args, context: &Context) -> Result<Exit, Failure> {
    args.source.expect_distinct()?;
    wait(async {
        for file in &args.source.files {
            let job = args.source.read(file).and_then(Draft::finish).map_err(|report| {
                context.out.note(format_args!("{report}\n"));
                jobs::refusal(report.problems.len(), 1)
            })?;
            let known = Known::open_beside(context, file).await?;
            let row = known.job(&job.spec.name)?;
            let record = if args.dry_run {
                dry(&known, &job, row, context).await?
            } else {
                really(&known, &job, row, context).await?
            };
            show(&record, context)?;
        }
        Ok(Exit::Ok)
    })
}

fn pruning<'j>(job: Option<JobId>, name: &'j str, retention: &'j Retention, context: &Context) -> Pruning<'j> {
    Pruning { job, name, retention, now: context.clock.now(), rows_max: u64::MAX }
}

fn by_name(counts: BTreeMap<Expiring, u64>) -> BTreeMap<&'static str, u64> {
    counts.into_iter().map(|(what, number)| (what.name(), number)).collect()
}

async fn dry(known: &Known, job: &Job, row: &JobRow, context: &Context) -> Result<Record, Failure> {
    let reader = known.reader.as_ref();
    let counts = count_expired(reader, pruning(Some(row.id), &row.name, &job.tuning.retention, context)).await?;
    let of_hosts = count_expired(reader, pruning(None, "", &host_retention(), context)).await?;
    let host_events_deleted = of_hosts.values().sum();
    Ok(Record {
        job: row.name.clone(),
        dry_run: true,
        deleted: by_name(counts),
        host_events_deleted,
        ..Record::default()
    })
}

async fn really(known: &Known, job: &Job, row: &JobRow, context: &Context) -> Result<Record, Failure> {
    let tracker = known.location.operate(context)?;
    let (tracker, clock) = (tracker.as_ref(), context.clock.as_ref());
    let of_job = pruning(Some(row.id), &row.name, &job.tuning.retention, context);
    let Pruned { deleted, archived, .. } = prune_all(tracker, clock, of_job, &mut PruningPosition::default()).await?;
    let retention = host_retention();
    let of_hosts = pruning(None, "", &retention, context);
    let of_hosts = prune_all(tracker, clock, of_hosts, &mut PruningPosition::default()).await?;
    let archived = archived.iter().map(|path| path.display().to_string()).collect();
    let mut record = Record { job: row.name.clone(), deleted: by_name(deleted), archived, ..Record::default() };
    record.host_events_deleted = of_hosts.deleted.values().sum();
    (record.blobs_removed, record.blob_bytes_removed) = sweep(tracker, context).await?;
    let components = tracker.sweep_components().await?;
    (record.components_removed, record.component_bytes_removed) = (components.removed, components.bytes);
    Ok(record)
}

/// Deletes unused files of large outputs. Returns their number and their bytes.
async fn sweep(tracker: &dyn Tracker, context: &Context) -> Result<(u64, u64), Failure> {
    let before = context.clock.now() - BLOB_AGE_MIN;
    let (mut files, mut bytes, mut position) = (0, 0, Some(0));
    while let Some(from) = position {
        let swept = tracker.sweep(from, SWEEP_FILES_MAX, before).await?;
        (files, bytes, position) = (files + swept.removed, bytes + swept.bytes, swept.next);
    }
    Ok((files, bytes))
}

fn show(record: &Record, context: &Context) -> Result<(), Failure> {
    if context.out.json {
        return context.out.records([record]);
    }
    let verb = if record.dry_run { "would be deleted" } else { "deleted" };
    if record.deleted.is_empty() {
        context.out.line(format_args!("{}: its file has no `retention`: everything is kept", record.job))?;
    } else {
        context.out.line(format_args!("{}: {verb}", record.job))?;
        let mut table = Table::new([("kind", Column::Word), ("number", Column::Number)]);
        for (kind, number) in &record.deleted {
            table.row([*kind, &count(*number)]);
        }
        context.out.line(table.render())?;
    }
    for path in &record.archived {
        context.out.note(format_args!("archived in {path}"));
    }
    if record.host_events_deleted > 0 {
        let events = plural(record.host_events_deleted, "event");
        let days = HOST_EVENTS_KEPT.as_secs() / (24 * 60 * 60);
        context.out.note(format_args!("{events} of no job, older than {days} days: {verb}"));
    }
    if record.blobs_removed > 0 {
        let (files, size) = (plural(record.blobs_removed, "large output"), bytes(record.blob_bytes_removed));
        context.out.note(format_args!("{files} that no result named: {size} removed"));
    }
    if record.components_removed > 0 {
        let (files, size) = (plural(record.components_removed, "component"), bytes(record.component_bytes_removed));
        context.out.note(format_args!("{files} that nothing needed: {size} removed"));
    }
    Ok(())
}
