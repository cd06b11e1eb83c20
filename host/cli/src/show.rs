//! `gristmill show`: shows everything that is known about one item.
//!
//! Owns the page of an item. Never changes the item.

use std::fmt::Write;

use gristmill_model::ItemId;
use gristmill_server::views::ItemDetailView;
use gristmill_tracker::{ItemDetail, ItemStageDetail, ItemsFilter, JobRow};

use crate::attempts::took;
use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, indented, nearest, one_line, plural, pretty_json, printable, second};

/// How many lines of an output, an error or a log are shown without `--full`.
const LINES_MAX: usize = 30;
/// How many sightings are listed without `--full`, and how much of each cursor.
const SIGHTINGS_MAX: usize = 5;
const CURSOR_CHARS_MAX: usize = 40;
/// How many attempts are listed without `--full`.
const ATTEMPTS_MAX: usize = 10;
/// How many keys are searched for the one that was meant.
const NEAR_KEYS_MAX: u32 = 10_000;

/// Show one item: its data, and every stage with its output, attempts, error and log
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill show audit serde@1.0.228

With --json, one object: job, item, status, discovered_at, changed_at, priority, data, data_bytes, sightings (at, source, cursor, \
                        data_hash), stages (stage, state, reason, \
                        due_at, settled_at, counters (attempts, lost, deferrals), version, current, output, output_bytes, error, blocked_by, attempts as in `gristmill \
                        attempts --json`).")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: String,

    /// The item's key
    item: String,

    /// Show outputs, errors and logs to their end, and all attempts
    #[arg(long)]
    full: bool,
}

pub(crate) fn show(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, Some(&args.job)).await?;
        let job = known.job(&args.job)?;
        let Some(item) = known.reader.item(job.id, &args.item).await? else {
            return Err(unknown(&known, job, &args.item, context).await?);
        };
        if context.out.json {
            context.out.document(&ItemDetailView::new(&job.name, &item))?;
        } else {
            context.out.line(page(&job.name, &item, args.full).trim_end())?;
        }
        Ok(Exit::Ok)
    })
}

/// The error for an item that does not exist, with the most similar key, if there is one.
async fn unknown(known: &Known, job: &JobRow, key: &str, context: &Context) -> Result<Failure, Failure> {
    let mut prefix: String = key.chars().take(key.chars().count().div_ceil(2)).collect();
    let near = loop {
        let filter =
            ItemsFilter { job: job.id, status: None, prefix: prefix.clone(), after: ItemId(0), limit: NEAR_KEYS_MAX };
        let rows = known.reader.items(filter).await?;
        let keys = || rows.iter().map(|row| row.key.as_str());
        // A key that begins with the whole text was most likely meant: the text may lack a version.
        let near = keys().find(|known| known.starts_with(key)).or_else(|| nearest(key, keys()));
        if near.is_some() || prefix.is_empty() {
            break near.map(str::to_owned);
        }
        prefix.clear();
    };
    let hint = near.map_or_else(
        || format!("`{}` lists its items", known.command(context, "items", "")),
        |near| format!("did you mean `{}`?", printable(&near)),
    );
    Ok(Failure::new(Exit::Usage, format!("there is no item `{}` in job `{}`", printable(key), job.name)).hint(hint))
}

fn page(job: &str, item: &ItemDetail, full: bool) -> String {
    let lines_max = if full { usize::MAX } else { LINES_MAX };
    let row = &item.row;
    let mut text = format!("{} of {job}: {}\n", printable(&row.key), row.status.name());
    let _ = writeln!(text, "discovered {}, changed {}", second(row.discovered_at), second(row.changed_at));
    if item.priority != 0 {
        let _ = writeln!(text, "priority {}", item.priority);
    }
    block(&mut text, "data", &pretty_json(&item.data), lines_max);
    sightings(&mut text, item, full);
    for stage in &item.stages {
        let _ = writeln!(text, "\n{}: {}", stage.name, headline(stage));
        if let Some(output) = &stage.output {
            block(&mut text, "output", &pretty_json(output), lines_max);
        }
        if let Some(error) = &stage.error {
            block(&mut text, "error", error, lines_max);
        }
        if let Some(log) = stage.attempts.first().and_then(|attempt| attempt.log.as_ref()) {
            block(&mut text, "log of the last attempt", log, lines_max);
        }
        attempts(&mut text, stage, full);
    }
    text
}

fn sightings(text: &mut String, item: &ItemDetail, full: bool) {
    // A single sighting adds nothing to the data that is shown.
    if item.sightings.len() < 2 && !full {
        return;
    }
    let _ = writeln!(text, "  seen with different data: {}", count(item.sightings.len() as u64));
    let shown = if full { usize::MAX } else { SIGHTINGS_MAX };
    for sighting in item.sightings.iter().take(shown) {
        let cursor = sighting.cursor.as_ref().map(|cursor| format!(", page {}", one_line(cursor, CURSOR_CHARS_MAX)));
        let (source, hash) = (printable(&sighting.source), sighting.data_hash.short());
        let _ = writeln!(text, "    {} by {source}{}, data {hash}", second(sighting.at), cursor.unwrap_or_default());
    }
    let more = item.sightings.len().saturating_sub(shown);
    if more > 0 {
        let _ = writeln!(text, "    … {more} earlier: --full shows all");
    }
}

fn headline(stage: &ItemStageDetail) -> String {
    let mut line = stage.state.name().to_owned();
    if let Some(reason) = stage.reason {
        let _ = write!(line, " ({})", reason.name());
    }
    if let Some(due) = stage.due_at {
        let _ = write!(line, ", due {}", second(due));
    }
    if !stage.blocked_by.is_empty() {
        let _ = write!(line, ", needs {}", stage.blocked_by.join(", "));
    }
    if let Some(version) = &stage.version {
        let age = if stage.current { "current" } else { "older" };
        let _ = write!(line, ", version {} ({age})", version.short());
    }
    line
}

fn block(text: &mut String, title: &str, content: &str, lines_max: usize) {
    let _ = write!(text, "  {title}\n{}", indented(content.trim_end(), 4, lines_max));
}

fn attempts(text: &mut String, stage: &ItemStageDetail, full: bool) {
    let shown = if full { usize::MAX } else { ATTEMPTS_MAX };
    if stage.attempts.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {}", plural(stage.attempts.len() as u64, "attempt"));
    for attempt in stage.attempts.iter().take(shown) {
        let took = took(attempt).map(|took| format!(" in {took}")).unwrap_or_default();
        let host = attempt.host;
        let _ = writeln!(text, "    {} {}{took}, host {host}", second(attempt.ended_at), attempt.outcome.name());
    }
    let more = stage.attempts.len().saturating_sub(shown);
    if more > 0 {
        let _ = writeln!(text, "    … {}: --full shows all", plural(more as u64, "earlier attempt"));
    }
}
