//! Tests of edited job files and exchanged components.

use std::collections::HashMap;

use gristmill_model::{Digest, Disposition, ItemId, ItemStatus, Need, Outcome, RetryPolicy, State, Timestamp};

use super::{Bench, NOW, Open, registration, stage};
use gristmill_tracker::records::{EventsFilter, HostInfo, Reap, Release};

async fn reconcile(bench: &Bench) -> u32 {
    let mut pages = 0;
    let mut position = bench.job.reconcile;
    while let Some(after) = position {
        position = bench.tracker.reconcile(bench.job.id, after, 2, NOW).await.expect("a page");
        pages += 1;
    }
    pages
}

fn needs(place: usize) -> Vec<Need> {
    vec![Need { stage: place, output: false }]
}

pub async fn a_new_stage_is_released_for_items_that_were_done(open: Open<'_>) {
    {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        bench.discover(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
        bench.done(0).await;
        bench.done(0).await;
    }
    let stages = || vec![stage("fetch", vec![]), stage("extract", needs(0))];
    let bench = Bench::with(open(), stages()).await;
    assert_eq!(bench.job.reconcile, Some(ItemId(0)));
    // Interrupted after one page: the next host goes on from there.
    bench.tracker.reconcile(bench.job.id, ItemId(0), 2, NOW).await.expect("a page");
    drop(bench);
    let bench = Bench::with(open(), stages()).await;
    assert_eq!(bench.job.reconcile, Some(ItemId(2)));
    assert_eq!(reconcile(&bench).await, 1);
    assert_eq!(bench.states("a").await, [State::Done, State::Ready]);
    assert_eq!(bench.states("c").await, [State::Ready, State::Blocked]);
    bench.recount().await;
    bench.done(1).await;
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    drop(bench);
    assert_eq!(Bench::with(open(), stages()).await.job.reconcile, None, "all is in line");
}

pub async fn a_retired_stage_gives_up_its_queue_and_keeps_its_results(open: Open<'_>) {
    let both = || vec![stage("fetch", vec![]), stage("extract", needs(0))];
    {
        let bench = Bench::with(open(), both()).await;
        bench.discover(&[("a", "1"), ("b", "1")]).await;
        bench.done(0).await;
    }
    let bench = Bench::with(open(), vec![stage("extract", vec![])]).await;
    reconcile(&bench).await;
    assert_eq!(bench.states("b").await, [State::Ready], "it needs nothing any more");
    bench.recount().await;
    bench.done(0).await;
    bench.done(0).await;
    assert_eq!(bench.item("b").await.row.status, ItemStatus::Done);
    drop(bench);
    let bench = Bench::with(open(), both()).await;
    reconcile(&bench).await;
    assert_eq!(bench.states("a").await, [State::Done, State::Done], "its result was kept");
    assert_eq!(bench.states("b").await, [State::Ready, State::Done]);
    bench.recount().await;
}

pub async fn another_version_leaves_results_and_counts_them(open: Open<'_>) {
    {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        bench.discover(&[("a", "1"), ("b", "1")]).await;
        bench.done(0).await;
    }
    let mut changed = stage("fetch", vec![]);
    changed.version = Digest::of(b"another");
    let bench = Bench::with(open(), vec![changed]).await;
    assert_eq!(bench.job.reconcile, None, "the DAG is the same");
    bench.done(0).await;
    let stats = bench.tracker.stats(bench.job.id).await.expect("counters");
    assert_eq!(stats.stages[0].other_versions, 1);
    assert_eq!(stats.stages[0].version, Some(Digest::of(b"another")));
    assert!(!bench.item("a").await.stages[0].current);
    assert!(bench.item("b").await.stages[0].current);
    bench.recount().await;
}

pub async fn going_back_to_an_earlier_spec_or_version_is_an_event(open: Open<'_>) {
    for version in ["one", "two", "two", "one"] {
        let mut changed = stage("fetch", vec![]);
        changed.version = Digest::of(version.as_bytes());
        let mut job = registration(vec![changed]);
        job.spec_id = Digest::of(version.as_bytes());
        open().register_job(job).await.expect("a job");
    }
    let filter = EventsFilter { job: None, kind: None, limit: 99 };
    let events = open().events(filter).await.expect("events");
    for (kind, name) in [("job.spec", "spec"), ("stage.version", "version")] {
        let told: Vec<(bool, bool)> = events
            .iter()
            .filter(|event| event.kind == kind)
            .map(|event| {
                let of =
                    |version: &str| event.data.contains(&format!("\"{name}\":\"{}\"", Digest::of(version.as_bytes())));
                (of("one"), event.data.contains("\"new\":true"))
            })
            .collect();
        assert_eq!(told, [(true, false), (false, true), (true, true)], "{kind}, the newest first: {events:?}");
    }
}

pub async fn a_stage_keeps_its_bit_whatever_its_place(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    let (fetch, extract) = (bench.stage(0), bench.stage(1));
    drop(bench);
    let moved = vec![stage("extract", needs(2)), stage("new", vec![]), stage("fetch", vec![])];
    let bench = Bench::with(open(), moved).await;
    assert_eq!((bench.stage(2), bench.stage(0)), (fetch, extract));
    assert_eq!(bench.stage(1).bit().0, 2);
    bench.recount().await;
}

pub async fn the_lost_work_of_a_job_that_nobody_runs_now_waits_for_its_host(open: Open<'_>) {
    for _ in 0..4 {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        bench.discover(&[("a", "1")]).await;
        bench.tracker.promote(Timestamp(i64::MAX), 9).await.expect("a promotion");
        bench.claim_one(0).await;
        drop(bench);
        // The next host runs another job: it was told of no DAG for this one.
        let other = open();
        let info = HostInfo { name: "other".to_owned(), pid: 2, app_version: "0".to_owned(), now: NOW };
        let host = other.register_host(info).await.expect("a host");
        let heartbeat_before = Timestamp(NOW.0 + 1);
        let reap = Reap { host, now: NOW, heartbeat_before, leases_max: 9, policies: HashMap::new() };
        let lost = other.reap(reap).await.expect("a reaping");
        assert_eq!((lost.attempts, lost.dead), (1, 0));
    }
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    assert_eq!(bench.states("a").await, [State::Waiting]);
    assert_eq!(bench.item("a").await.stages[0].counters.lost, 4, "each loss is charged");
    bench.recount().await;
}

pub async fn lost_work_of_a_job_that_is_not_in_line_yet_is_counted_once(open: Open<'_>) {
    {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        bench.discover(&[("a", "1"), ("b", "1")]).await;
        bench.claim_one(0).await;
    }
    // Its file was edited, and its host ended before any item was brought in line.
    let bench = Bench::with(open(), vec![stage("fetch", vec![]), stage("extract", needs(0))]).await;
    let policies = HashMap::from([(bench.stage(0), RetryPolicy { max_lost: 1, ..RetryPolicy::default() })]);
    let heartbeat_before = Timestamp(NOW.0 + 1);
    let reap = Reap { host: bench.host, now: NOW, heartbeat_before, leases_max: 9, policies };
    let lost = bench.tracker.reap(reap).await.expect("a reaping");
    assert_eq!((lost.attempts, lost.dead), (1, 1));
    reconcile(&bench).await;
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Failed);
    bench.recount().await;
}

pub async fn a_queued_stage_that_is_given_a_need_waits_for_it(open: Open<'_>) {
    let (fence, running) = {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        bench.discover(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
        bench.pass(0, Outcome::Retry, Disposition::Wait(std::time::Duration::from_secs(1))).await;
        bench.claim_one(0).await
    };
    let bench = Bench::with(open(), vec![stage("login", vec![]), stage("fetch", needs(0))]).await;
    reconcile(&bench).await;
    assert_eq!(bench.states("a").await, [State::Ready, State::Blocked], "it waited, and has no login");
    assert_eq!(bench.states("b").await, [State::Ready, State::Leased], "what is running is let finish");
    bench.tracker.release(vec![Release { fence, keys: vec![running.key] }]).await.expect("a release");
    assert_eq!(bench.states("b").await, [State::Ready, State::Blocked], "what is given back waits as well");
    assert_eq!(bench.states("c").await, [State::Ready, State::Blocked]);
    assert!(bench.claim(1, 9, 9).await.is_empty(), "nothing runs before what it needs");
    bench.recount().await;
    for _ in 0..3 {
        bench.done(0).await;
    }
    assert_eq!(bench.states("a").await, [State::Done, State::Ready]);
    assert_eq!(bench.states("c").await, [State::Done, State::Ready]);
    bench.recount().await;
}
