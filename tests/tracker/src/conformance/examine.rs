//! Tests of examining and rebuilding a tracker.

use std::time::Duration;

use gristmill_model::{DeadReason, Disposition, ItemId, ItemStatus, Outcome, StageKey, State};

use super::{Bench, NOW, Open, item};
use gristmill_tracker::records::{DeadFilter, EventsFilter, Redrive};
use gristmill_tracker::tables::{Cell, TABLES};

const CHAIN: [(&str, &[usize]); 2] = [("fetch", &[]), ("extract", &[0])];

pub async fn a_whole_tracker_has_no_differences(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    let empty = bench.tracker.examine().await.expect("an examination");
    assert_eq!((empty.items, empty.differences_total), (0, 0));
    bench.discover(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
    bench.done(0).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    bench.pass(0, Outcome::Retry, Disposition::Wait(Duration::from_secs(5))).await;
    bench.claim_one(0).await;
    bench.cancel(&["a"], false).await;
    let found = bench.tracker.examine().await.expect("an examination");
    assert_eq!((found.items, found.differences_total, found.differences), (4, 0, Vec::new()));
}

pub async fn a_rebuilt_queue_holds_what_may_run(open: Open<'_>) {
    let mut bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("done", "1"), ("half", "1"), ("dead", "1"), ("wait", "1"), ("cancelled", "1")]).await;
    bench.done(0).await;
    bench.done(1).await;
    bench.done(0).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    bench.pass(0, Outcome::Retry, Disposition::Wait(Duration::from_secs(5))).await;
    bench.cancel(&["cancelled"], false).await;
    bench.tracker.retire_host(bench.host, bench.now).await.expect("an end");
    bench.now.0 += 3_600_000_000;
    bench.tracker.rebuild(bench.now).await.expect("a rebuilding");
    let outlook = gristmill_tracker::records::Outlook { next_due: Some(NOW + Duration::from_secs(5)), leases: 0 };
    assert_eq!(bench.tracker.outlook().await.expect("a read"), outlook, "what waited still does");
    let filter = EventsFilter { job: None, kind: None, limit: 1 };
    assert_eq!(bench.tracker.events(filter).await.expect("events")[0].kind, "queue.rebuilt");
    let mut position = Some(ItemId(0));
    while let Some(after) = position {
        position = bench.tracker.reconcile(bench.job.id, after, 2, bench.now).await.expect("a page");
    }
    assert_eq!(bench.states("done").await, [State::Done, State::Done]);
    assert_eq!(bench.states("half").await, [State::Done, State::Ready]);
    assert_eq!(bench.states("dead").await, [State::Dead, State::Blocked]);
    assert_eq!(bench.states("wait").await, [State::Waiting, State::Blocked]);
    assert_eq!(bench.states("cancelled").await, [State::Cancelled, State::Cancelled]);
    assert_eq!(bench.item("half").await.row.status, ItemStatus::Active);
    bench.recount().await;
    bench.done(1).await;
    assert_eq!(bench.item("half").await.row.status, ItemStatus::Done);
    bench.recount().await;
}

/// The row of the queue of a stage of an item, but for its place in line.
async fn queued(bench: &Bench, key: &str, place: usize) -> Vec<Cell> {
    let table = TABLES.iter().find(|table| table.name == "queue").expect("a queue");
    let key = StageKey::new(bench.item(key).await.row.id, bench.stage(place).bit());
    let rows = super::moving::rows(bench.tracker.as_ref(), table).await;
    rows.into_iter().find(|row| row[0] == Cell::Int(key.0)).expect("a row")
}

pub async fn work_that_waited_counts_and_waits_on_after_a_rebuilding(open: Open<'_>) {
    let mut bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("late", "1"), ("dead", "1"), ("held", "1"), ("new", "1")]).await;
    bench.pass(0, Outcome::Later, Disposition::Wait(Duration::from_secs(9000))).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    let redrive = Redrive {
        filter: DeadFilter::all(bench.job.id),
        limit: 9,
        rate: None,
        actor: "ann".to_owned(),
        why: "a test".to_owned(),
        now: bench.now,
    };
    let operation = bench.tracker.begin_redrive(redrive).await.expect("an operation");
    bench.now.0 += 1;
    bench.tracker.step_operation(operation.id, 9, bench.now).await.expect("a step");
    let (fence, held) = bench.claim_one(0).await;
    assert_eq!(held.item_key, "held", "it was ready before what was redriven");
    let mut before = Vec::new();
    for key in ["late", "dead", "held", "new"] {
        before.push((bench.item(key).await.stages.remove(0), queued(&bench, key, 0).await));
    }
    assert_eq!(before[0].0.counters.deferrals, 1);
    assert_eq!(before[1].1.last(), Some(&Cell::Int(operation.id.0)));
    bench.tracker.retire_host(bench.host, bench.now).await.expect("an end");
    bench.now.0 += 3_600_000_000;
    bench.tracker.rebuild(bench.now).await.expect("a rebuilding");
    assert_eq!(bench.tracker.reconcile(bench.job.id, ItemId(0), 9, bench.now).await.expect("a page"), None);
    for (key, (stage, mut row)) in ["late", "dead", "held", "new"].into_iter().zip(before) {
        if key == "held" {
            row[2] = Cell::Int(State::Ready.code());
        }
        assert_eq!(queued(&bench, key, 0).await, row, "{key}");
        let now = bench.item(key).await.stages.remove(0);
        assert_eq!(
            (now.counters, now.due_at, now.attempts.len()),
            (stage.counters, stage.due_at, stage.attempts.len())
        );
    }
    bench.recount().await;
    let late = bench.settle(fence, vec![bench.completion(&held, Outcome::Done, Disposition::Done)]).await;
    assert_eq!((late.applied, late.late), (0, 1), "who held it has lost it");
    // What was given up meanwhile, or needs what is not there, does not come back.
    bench.cancel(&["new"], false).await;
    bench.tracker.rebuild(bench.now).await.expect("a rebuilding");
    bench.tracker.reconcile(bench.job.id, ItemId(0), 9, bench.now).await.expect("a page");
    assert_eq!(bench.states("new").await, [State::Cancelled, State::Cancelled]);
    bench.recount().await;
    bench.done(0).await;
    bench.done(1).await;
    bench.recount().await;
}

pub async fn a_rebuilt_tracker_says_that_every_job_is_to_be_reconciled(open: Open<'_>) {
    {
        let bench = Bench::new(open, &CHAIN).await;
        bench.discover(&[("a", "1")]).await;
        bench.tracker.retire_host(bench.host, NOW).await.expect("an end");
        bench.tracker.rebuild(crate::conformance::NOW + Duration::from_secs(3600)).await.expect("a rebuilding");
    }
    let bench = Bench::new(open, &CHAIN).await;
    assert_eq!(bench.job.reconcile, Some(ItemId(0)));
    assert_eq!(bench.tracker.reconcile(bench.job.id, ItemId(0), 9, NOW).await.expect("a page"), None);
    assert_eq!(bench.states("a").await, [State::Ready, State::Blocked]);
    bench.recount().await;
}

pub async fn old_leases_are_no_longer_valid_after_a_rebuilding(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.upsert(vec![item("a", "1", 0)], None).await;
    let (fence, claim) = bench.claim_one(0).await;
    bench.tracker.retire_host(bench.host, NOW).await.expect("an end");
    bench.tracker.rebuild(NOW + Duration::from_secs(3600)).await.expect("a rebuilding");
    bench.tracker.reconcile(bench.job.id, ItemId(0), 9, NOW).await.expect("a page");
    let late = bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    assert_eq!((late.applied, late.late), (0, 1));
    let (next, _) = bench.claim_one(0).await;
    assert!(next > fence);
    bench.recount().await;
}
