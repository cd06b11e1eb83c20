//! The whole visible state of a tracker as text, without ids, which trackers choose.

use std::fmt::Write;

use gristmill_model::{AttemptId, HostId, ItemId, JobId, Outcome, StageKey};

use super::drive::{Side, key, tell_operation};
use gristmill_tracker::records::{
    AttemptRow, AttemptsFilter, DeadFilter, DeadRow, EventsFilter, ItemDetail, ItemsFilter,
};

/// More than a sequence creates of anything.
const ALL: u32 = 100_000;

impl Side<'_> {
    /// Returns everything, one fact on each line.
    pub(super) async fn observe(&self) -> String {
        let mut text = String::new();
        let outlook = self.tracker().outlook().await.expect("a read");
        writeln!(text, "{outlook:?}").expect("text");
        for job in self.jobs.iter().flatten() {
            self.see_job(&mut text, job.id).await;
        }
        for row in self.tracker().operations(None, ALL).await.expect("operations") {
            writeln!(text, "operation {}", tell_operation(row)).expect("text");
        }
        for line in self.events().await {
            writeln!(text, "event {line}").expect("text");
        }
        text
    }

    async fn see_job(&self, text: &mut String, job: JobId) {
        let tracker = self.tracker();
        let stats = tracker.stats(job).await.expect("counters");
        let mut items: Vec<_> = stats.items.iter().filter(|(_, n)| **n > 0).collect();
        items.sort();
        writeln!(text, "items {items:?} charges {:?}", stats.charges).expect("text");
        for stage in &stats.stages {
            let mut states: Vec<_> = stage.states.iter().filter(|(_, n)| **n > 0).collect();
            states.sort();
            let (bit, version) = (stage.id.bit(), stage.version);
            writeln!(text, "stage {} {bit:?} {version:?} {} {states:?}", stage.name, stage.other_versions)
                .expect("text");
        }
        let filter = ItemsFilter { job, status: None, prefix: String::new(), after: ItemId(0), limit: ALL };
        let rows = tracker.items(filter).await.expect("items");
        for row in &rows {
            let detail = tracker.item(job, &row.key).await.expect("a read").expect("the item");
            writeln!(text, "item {} {:?}", row.key, row.status).expect("text");
            self.see_item(text, detail);
        }
        let mut known = tracker.known(job, (0..8).map(key).collect()).await.expect("a read");
        known.sort_by(|one, other| one.key.cmp(&other.key));
        writeln!(text, "known {known:?}").expect("text");
        for stage in &stats.stages {
            let results = tracker.results(stage.id, ItemId(0), ALL).await.expect("results");
            let results: Vec<_> = results.iter().map(|row| (&row.item_key, &row.output)).collect();
            let outdated = tracker.outdated(stage.id, ItemId(0), ALL).await.expect("items");
            let outdated: Vec<_> =
                outdated.iter().map(|id| rows.iter().find(|row| row.id == *id).map(|row| &row.key)).collect();
            writeln!(text, "results of {} {results:?} outdated {outdated:?}", stage.name).expect("text");
        }
        let filter = AttemptsFilter { job, stage: None, outcome: None, limit: ALL };
        let mut attempts: Vec<String> =
            tracker.attempts(filter).await.expect("attempts").into_iter().map(|row| self.tell_attempt(row)).collect();
        // Attempts of one round may be numbered in any order.
        attempts.sort();
        writeln!(text, "attempts\n  {}", attempts.join("\n  ")).expect("text");
        let filter = AttemptsFilter { job, stage: None, outcome: Some(Outcome::Lost), limit: ALL };
        writeln!(text, "lost {}", tracker.attempts(filter).await.expect("attempts").len()).expect("text");
        let dead = tracker.dead(DeadFilter::all(job), StageKey(0), ALL).await.expect("dead stages");
        let count = tracker.count_dead(DeadFilter::all(job)).await.expect("a count");
        writeln!(text, "dead {count}").expect("text");
        for row in dead {
            let bit = row.key.bit();
            writeln!(text, "  {:?} {bit:?}", DeadRow { key: StageKey(0), ..row }).expect("text");
        }
    }

    fn see_item(&self, text: &mut String, mut detail: ItemDetail) {
        detail.row.id = ItemId(0);
        writeln!(text, "  {:?} {} {}", detail.row, detail.data, detail.priority).expect("text");
        let mut sightings: Vec<String> = detail.sightings.iter().map(|row| format!("{row:?}")).collect();
        sightings.sort();
        writeln!(text, "  {sightings:?}").expect("text");
        for mut stage in detail.stages {
            let attempts: Vec<String> =
                std::mem::take(&mut stage.attempts).into_iter().map(|row| self.tell_attempt(row)).collect();
            writeln!(text, "  {stage:?}\n    {}", attempts.join("\n    ")).expect("text");
        }
    }

    fn tell_attempt(&self, mut row: AttemptRow) -> String {
        let host = self.hosts.iter().position(|host| *host == row.host);
        row.item = ItemId(0);
        (row.id, row.host) = (AttemptId(0), HostId(host.map_or(-1, |host| host as i64)));
        format!("{row:?}")
    }

    async fn events(&self) -> Vec<String> {
        let filter = EventsFilter { job: None, kind: None, limit: ALL };
        let events = self.tracker().events(filter).await.expect("events");
        assert!(events.windows(2).all(|pair| pair[0].id > pair[1].id), "the newest first");
        let mut lines: Vec<String> = events
            .into_iter()
            .map(|event| {
                let job = self.jobs.iter().position(|job| job.as_ref().map(|job| job.id) == event.job);
                let operation = event.operation.and_then(|id| self.operations.iter().position(|other| *other == id));
                // The data of other events contains ids, and is for people.
                let data = if event.item.is_some() { event.data.as_str() } else { "" };
                format!("{:?} {} {job:?} {operation:?} {data}", event.at, event.kind)
            })
            .collect();
        lines.sort();
        lines
    }
}
