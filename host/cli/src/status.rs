//! `gristmill status`: shows how far jobs are.
//!
//! Owns the table of a job's counters, which `run` also prints at its end. Never counts rows: it reads counters.

use gristmill_model::{ItemStatus, State};
use gristmill_server::views::JobDetailView;
use gristmill_tracker::{JobStats, StageStats};

use crate::context::{Context, wait};
use crate::data::{self, Known};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{count, plural};
use crate::table::{Column, Table};

/// Show how far a job is, or all jobs of a data folder
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill status handlers/audit.yaml

With --json, an object a job: job, items_total, items (by status), stages (stage, version, other_versions, and how \
                        many items are ready, leased, waiting, done, skipped, dead), charges (by meter).")]
pub(crate) struct Args {
    #[arg(help = data::JOB_HELP)]
    job: Option<String>,
}

pub(crate) fn status(args: &Args, context: &Context) -> Result<Exit, Failure> {
    wait(async {
        let known = Known::open(context, args.job.as_deref()).await?;
        let jobs = match &args.job {
            Some(job) => vec![known.job(job)?],
            None => known.jobs.iter().collect(),
        };
        for (index, job) in jobs.iter().enumerate() {
            let stats = known.reader.stats(job.id).await?;
            if context.out.json {
                context.out.records([JobDetailView::new(&job.name, &stats)])?;
                continue;
            }
            if index > 0 {
                context.out.line("")?;
            }
            context.out.line(format_args!("{}: {}", job.name, items_line(&stats)))?;
            context.out.line(stages_table(&stats))?;
            context.out.lines(notes(&stats))?;
        }
        if jobs.is_empty() && !context.out.json {
            context.out.line("no job was run here yet")?;
        }
        Ok(Exit::Ok)
    })
}

/// `612 items: 610 done, 2 failed`.
pub(crate) fn items_line(stats: &JobStats) -> String {
    let known = ItemStatus::ALL.into_iter().filter_map(|status| Some((status, *stats.items.get(&status)?)));
    let parts: Vec<String> = known
        .filter(|(_, number)| *number > 0)
        .map(|(status, number)| format!("{} {}", count(number), status.name()))
        .collect();
    let total = plural(stats.total(), "item");
    match parts.as_slice() {
        [] => total,
        [_] if stats.total() == stats.items.get(&ItemStatus::Done).copied().unwrap_or(0) => {
            format!("{total}, all done")
        }
        parts => format!("{total}: {}", parts.join(", ")),
    }
}

/// A table with one row for each stage.
pub(crate) fn stages_table(stats: &JobStats) -> String {
    let numbers = ["done", "skipped", "dead", "running", "waiting"].map(|name| (name, Column::Number));
    let columns = [("stage", Column::Word)].into_iter().chain(numbers).chain([("version", Column::Word)]);
    let mut table = Table::new(columns);
    for stage in &stats.stages {
        let sum = |states: &[State]| count(states.iter().map(|state| stage.count(*state)).sum());
        table.row([
            stage.name.clone(),
            sum(&[State::Done]),
            sum(&[State::Skipped]),
            sum(&[State::Dead]),
            sum(&[State::Leased]),
            sum(&[State::Ready, State::Waiting]),
            stage.version.map(|version| version.short()).unwrap_or_default(),
        ]);
    }
    table.render()
}

/// What a person should know in addition to the numbers.
pub(crate) fn notes(stats: &JobStats) -> Vec<String> {
    let older = |stage: &StageStats| {
        let (results, them) = match stage.other_versions {
            0 => return None,
            1 => ("1 result".to_owned(), "is of an older version; it stays until it is reprocessed"),
            number => (plural(number, "result"), "are of an older version; they stay until they are reprocessed"),
        };
        Some(format!("{results} of `{}` {them}", stage.name))
    };
    let charged = stats.charges.iter().map(|(meter, amount)| format!("charged so far: {amount:.2} {meter}"));
    stats.stages.iter().filter_map(older).chain(charged).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn stats(items: &[(ItemStatus, u64)]) -> JobStats {
        JobStats { items: items.iter().copied().collect::<HashMap<_, _>>(), ..JobStats::default() }
    }

    #[test]
    fn items_are_told_by_status() {
        assert_eq!(items_line(&stats(&[])), "0 items");
        assert_eq!(items_line(&stats(&[(ItemStatus::Done, 1), (ItemStatus::Failed, 0)])), "1 item, all done");
        assert_eq!(items_line(&stats(&[(ItemStatus::Failed, 2)])), "2 items: 2 failed");
        let mixed = stats(&[(ItemStatus::Failed, 2), (ItemStatus::Done, 6100)]);
        assert_eq!(items_line(&mixed), "6 102 items: 6 100 done, 2 failed");
    }
}
