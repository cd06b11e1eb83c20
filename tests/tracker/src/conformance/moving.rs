//! Tests of copying a tracker to another one.

use std::time::Duration;

use gristmill_model::{
    DeadReason, Digest, Disposition, Fence, ItemId, OnUpdate, Outcome, Rediscovery, StageKey, State,
};

use super::{Bench, Open, item};
use crate::{Location, Model};
use gristmill_tracker::Tracker;
use gristmill_tracker::records::{DeadFilter, EventsFilter, OperationRow, Outputs, Redrive, Upsert};
use gristmill_tracker::tables::{Row, TABLES, Table};

const DIAMOND: [(&str, &[usize]); 4] = [("fetch", &[]), ("price", &[0]), ("score", &[0]), ("report", &[1, 2])];

/// All rows of a table, three at a time.
pub async fn rows(tracker: &dyn Tracker, table: &'static Table) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map(|row| row[..table.key].to_vec());
        let page = tracker.export(table, after, 3).await.expect("rows");
        assert!(page.len() <= 3);
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

/// Moves everything.
pub async fn copy(from: &dyn Tracker, to: &dyn Tracker) {
    for table in &TABLES {
        let rows = rows(from, table).await;
        for page in rows.chunks(2) {
            to.import(table, page.to_vec()).await.expect("an import");
        }
    }
    to.set_sequences(from.sequences().await.expect("numbers")).await.expect("numbers");
}

/// A tracker with something in every table, and nobody at work.
async fn furnished(open: Open<'_>) -> (Bench, OperationRow) {
    let mut bench = Bench::new(open, &DIAMOND).await;
    bench.upsert(vec![item("done", "1", 0), item("dead", "1", 0), item("wait", "1", 0)], Some("page 2")).await;
    bench.upsert(vec![item("ready", "{\"ä\":\"\\u0000\"}", -3), item("cancelled", "1", 0)], Some("page 3")).await;
    let (fence, claim) = bench.claim_one(0).await;
    let mut completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
    completion.charges = vec![("tokens".to_owned(), 0.1), ("tokens".to_owned(), 0.2)];
    completion.log = Some("a line\n".to_owned());
    bench.settle(fence, vec![completion]).await;
    for _ in 0..2 {
        bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    }
    bench.cancel(&["cancelled"], false).await;
    for place in [1, 2, 3] {
        bench.done(place).await;
    }
    let redrive = Redrive {
        filter: DeadFilter { error: Some("was".to_owned()), ..DeadFilter::all(bench.job.id) },
        limit: 9,
        rate: Some(1.0),
        actor: "ann".to_owned(),
        why: "a test".to_owned(),
        now: bench.now,
    };
    let operation = bench.tracker.begin_redrive(redrive).await.expect("an operation");
    let operation = bench.tracker.step_operation(operation.id, 9, bench.now).await.expect("a step");
    let rediscovery = Rediscovery { on_update: OnUpdate::Reprocess, ..Rediscovery::default() };
    let page = Upsert { rediscovery, ..bench.page(vec![item("done", "2", 0)], Some("page 4")) };
    bench.tracker.upsert(page).await.expect("an upsert");
    let (fence, claim) = bench.claim_one(0).await;
    bench
        .settle(fence, vec![bench.completion(&claim, Outcome::Later, Disposition::Wait(Duration::from_secs(5)))])
        .await;
    bench.now.0 += 1;
    bench.tracker.retire_host(bench.host, bench.now).await.expect("an end");
    (bench, operation)
}

/// What can be seen of a tracker, numbers and all.
async fn sight(tracker: &dyn Tracker, bench: &Bench) -> String {
    let job = bench.job.id;
    let mut lines = Vec::new();
    for key in ["done", "dead", "wait", "ready", "cancelled"] {
        lines.push(format!("{:?}", tracker.item(job, key).await.expect("a read")));
    }
    let stats = tracker.stats(job).await.expect("counters");
    for stage in stats.stages {
        let states = State::ALL.map(|state| (state, stage.count(state)));
        lines.push(format!("{} {:?} {:?} {}", stage.name, stage.version, states, stage.other_versions));
    }
    let mut statuses: Vec<_> = stats.items.into_iter().collect();
    statuses.sort();
    lines.push(format!("{statuses:?} {:?}", stats.charges));
    lines.push(format!("{:?}", tracker.jobs().await.expect("jobs")));
    lines.push(format!("{:?}", tracker.operations(None, 9).await.expect("operations")));
    lines.push(format!("{:?}", tracker.dead(DeadFilter::all(job), StageKey(0), 9).await.expect("dead stages")));
    let filter = EventsFilter { job: None, kind: None, limit: 99 };
    lines.push(format!("{:?}", tracker.events(filter).await.expect("events")));
    lines.push(format!("{:?}", tracker.outlook().await.expect("a read")));
    lines.push(format!("{:?}", tracker.sequences().await.expect("numbers")));
    lines.join("\n")
}

/// Goes on with a tracker that was moved.
async fn go_on(mut bench: Bench, tracker: Box<dyn Tracker>, operation: &OperationRow) {
    let before = bench.tracker.sequences().await.expect("numbers");
    let stages = DIAMOND.iter().map(|(name, needs)| {
        let needs = needs.iter().map(|stage| gristmill_model::Need { stage: *stage, output: false }).collect();
        super::stage(name, needs)
    });
    let moved = Bench::with(tracker, stages.collect()).await;
    assert_eq!(moved.job.cursor.as_deref(), Some("page 4"));
    assert!(moved.host.0 > before.host, "a host's number does not come back");
    assert_eq!(moved.job.stages.iter().map(|stage| stage.id).collect::<Vec<_>>(), {
        bench.job.stages.iter().map(|stage| stage.id).collect::<Vec<_>>()
    });
    bench = Bench { now: operation.next_at, ..moved };
    bench.recount().await;
    let operation = bench.tracker.step_operation(operation.id, 9, bench.now).await.expect("a step");
    assert_eq!(operation.done, 2);
    bench.now.0 += 60_000_000;
    bench.tracker.promote(bench.now, 9).await.expect("a promotion");
    let leases = bench.claim(0, 9, 9).await;
    assert!(leases[0].fence > Fence(before.fence), "nor that of a lease");
    assert_eq!(leases[0].claims.len(), 4);
    let completions =
        leases[0].claims.iter().map(|claim| bench.completion(claim, Outcome::Done, Disposition::Done)).collect();
    assert_eq!(bench.settle(leases[0].fence, completions).await.applied, 4);
    assert_eq!(bench.discover(&[("new", "1"), ("done", "2")]).await.new, 1);
    assert_eq!(bench.tracker.results(bench.stage(0), ItemId(0), 9).await.expect("results").len(), 4);
    bench.recount().await;
}

pub async fn a_tracker_moves_into_another_of_its_kind(open: Open<'_>) {
    let (bench, operation) = furnished(open).await;
    let place = Model::default();
    let between = place.open();
    copy(bench.tracker.as_ref(), between.as_ref()).await;
    let seen = sight(bench.tracker.as_ref(), &bench).await;
    assert_eq!(sight(between.as_ref(), &bench).await, seen);
    let found = between.examine().await.expect("an examination");
    assert_eq!(found.differences, []);
    go_on(bench, between, &operation).await;
}

pub async fn a_tracker_is_filled_from_another(open: Open<'_>) {
    let place = Model::default();
    let (bench, operation) = furnished(&|| place.open()).await;
    let tracker = open();
    copy(bench.tracker.as_ref(), tracker.as_ref()).await;
    assert_eq!(sight(tracker.as_ref(), &bench).await, sight(bench.tracker.as_ref(), &bench).await);
    for table in &TABLES {
        let (there, here) = (rows(tracker.as_ref(), table).await, rows(bench.tracker.as_ref(), table).await);
        assert_eq!(there, here, "{}", table.name);
    }
    go_on(bench, tracker, &operation).await;
}

pub async fn attempts_name_their_spec_and_their_operation(open: Open<'_>) {
    let (bench, operation) = furnished(open).await;
    bench.done(0).await;
    let column = |name: &str, table: &Table| table.columns.iter().position(|(column, _)| *column == name).expect(name);
    let table = |name: &str| TABLES.iter().find(|table| table.name == name).expect("a table");
    let (specs, attempts) = (table("job_specs"), table("attempts"));
    let spec = rows(bench.tracker.as_ref(), specs).await.remove(0)[column("number", specs)].clone();
    let attempts_rows = rows(bench.tracker.as_ref(), attempts).await;
    assert!(attempts_rows.iter().all(|row| row[column("spec", attempts)] == spec));
    let by_operation = attempts_rows
        .iter()
        .filter(|row| row[column("operation_id", attempts)] == gristmill_tracker::tables::Cell::Int(operation.id.0));
    assert_eq!(by_operation.count(), 1, "what was redriven, and no more");
}

pub async fn a_large_output_is_whole_wherever_it_is_read(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    bench.discover(&[("a", "1")]).await;
    let text = format!("\"{}\"", "x".repeat(200_000));
    let (fence, claim) = bench.claim_one(0).await;
    let mut completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
    completion.output =
        Some(gristmill_tracker::records::Output { hash: Digest::of(text.as_bytes()), text: text.clone() });
    bench.settle(fence, vec![completion]).await;
    assert!(bench.item("a").await.stages[0].output.as_ref() == Some(&text));
    let results = bench.tracker.results(bench.stage(0), ItemId(0), 9).await.expect("results");
    assert!(results[0].output == text);
    bench.recount().await;
    let place = Model::default();
    let between = place.open();
    copy(bench.tracker.as_ref(), between.as_ref()).await;
    assert!(
        between.item(bench.job.id, "a").await.expect("a read").expect("it").stages[0].output.as_ref() == Some(&text)
    );
    let (fence, claim) = bench.claim_one(1).await;
    assert!(claim.upstream[0].output.text == text);

    // And it is left out where it is not wanted.
    bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    for (wanted, there) in [
        (Outputs::All, [true, true]),
        (Outputs::Of("fetch".to_owned()), [true, false]),
        (Outputs::Of("extract".to_owned()), [false, true]),
        (Outputs::UpTo(1000), [false, true]),
        (Outputs::UpTo(0), [false, false]),
    ] {
        let item = bench.tracker.item_with(bench.job.id, "a", wanted.clone()).await.expect("a read").expect("it");
        assert_eq!(item.stages.iter().map(|stage| stage.output.is_some()).collect::<Vec<_>>(), there, "{wanted:?}");
        assert_eq!(item.stages[0].output_bytes, Some(200_002));
    }
}
