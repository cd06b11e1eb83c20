//! Tests of cancelled and restored items.

use std::time::Duration;

use gristmill_model::{DeadReason, Disposition, ItemStatus, OnUpdate, Outcome, Rediscovery, State};

use super::{Bench, Open, item};
use gristmill_tracker::records::{Cancel, Cancelled, EventsFilter, Release, Upsert};

const CHAIN: [(&str, &[usize]); 2] = [("fetch", &[]), ("extract", &[0])];

impl Bench {
    pub async fn cancel(&self, keys: &[&str], undo: bool) -> Cancelled {
        let cancel = Cancel {
            job: self.job.id,
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            undo,
            actor: "ann".to_owned(),
            why: "a test".to_owned(),
            now: self.now,
        };
        self.tracker.cancel(cancel).await.expect("a cancellation")
    }
}

pub async fn a_cancelled_item_is_left_alone(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
    bench.pass(0, Outcome::Retry, Disposition::Wait(Duration::from_secs(5))).await;
    let done = bench.cancel(&["a", "b", "nobody"], false).await;
    assert_eq!(done, Cancelled { changed: 2, running: 0, unknown: vec!["nobody".to_owned()] });
    for key in ["a", "b"] {
        assert_eq!(bench.item(key).await.row.status, ItemStatus::Cancelled);
        assert_eq!(bench.states(key).await, [State::Cancelled, State::Cancelled]);
        assert_eq!(bench.item(key).await.row.masks.live, 0);
    }
    assert_eq!(bench.tracker.outlook().await.expect("a read").next_due, None, "what waited is gone, too");
    bench.recount().await;
    let stats = bench.tracker.stats(bench.job.id).await.expect("counters");
    assert_eq!(stats.in_states(&State::ALL), 1, "cancelled stages are not counted");
    assert_eq!(bench.claim_one(0).await.1.item_key, "c");
    assert!(bench.claim(0, 9, 9).await.is_empty());
}

pub async fn cancelling_twice_is_cancelling_once(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("a", "1")]).await;
    assert_eq!(bench.cancel(&["a"], true).await.changed, 0, "it was not cancelled");
    assert_eq!(bench.cancel(&["a", "a"], false).await.changed, 1);
    assert_eq!(bench.cancel(&["a"], false).await, Cancelled::default());
    assert_eq!(bench.cancel(&["a"], true).await.changed, 1);
    assert_eq!(bench.cancel(&["a"], true).await.changed, 0);
    assert_eq!(bench.states("a").await, [State::Ready, State::Blocked]);
    bench.recount().await;
}

pub async fn what_is_running_is_let_finish_and_nothing_follows_from_it(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("a", "1")]).await;
    let (fence, claim) = bench.claim_one(0).await;
    assert_eq!(bench.cancel(&["a"], false).await, Cancelled { changed: 1, running: 1, unknown: Vec::new() });
    assert_eq!(bench.states("a").await, [State::Leased, State::Cancelled]);
    bench.recount().await;
    let done = bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    assert_eq!((done.applied, done.late, done.released), (1, 0, 0));
    assert_eq!(bench.states("a").await, [State::Done, State::Cancelled]);
    assert_eq!(bench.item("a").await.stages[0].attempts.len(), 1);
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Cancelled);
    bench.recount().await;
    bench.cancel(&["a"], true).await;
    assert_eq!(bench.states("a").await, [State::Done, State::Ready], "it goes on from there");
    bench.recount().await;
}

pub async fn no_work_of_a_cancelled_item_comes_back(open: Open<'_>) {
    let mut bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("wait", "1"), ("back", "1"), ("lost", "1"), ("dead", "1")]).await;
    let leases = bench.claim(0, 4, 1).await;
    assert_eq!(bench.cancel(&["wait", "back", "lost", "dead"], false).await.running, 4);
    let claim = |key: &str| {
        let lease = leases.iter().find(|lease| lease.claims[0].item_key == key).expect("a lease");
        (lease.fence, lease.claims[0].clone())
    };
    let (fence, wait) = claim("wait");
    let later = bench.completion(&wait, Outcome::Later, Disposition::Wait(Duration::from_secs(5)));
    assert_eq!(bench.settle(fence, vec![later]).await.applied, 1);
    assert_eq!(bench.states("wait").await, [State::Cancelled, State::Cancelled]);
    let (fence, back) = claim("back");
    let release = Release { fence, keys: vec![back.key] };
    assert_eq!(bench.tracker.release(vec![release]).await.expect("a release"), 1);
    assert_eq!(bench.states("back").await, [State::Cancelled, State::Cancelled]);
    let (fence, dead) = claim("dead");
    let permanent = bench.completion(&dead, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent));
    bench.settle(fence, vec![permanent]).await;
    assert_eq!(bench.states("dead").await, [State::Dead, State::Cancelled], "but what came of it is recorded");
    bench.recount().await;
    let info = gristmill_tracker::records::HostInfo {
        name: "next".to_owned(),
        pid: 2,
        app_version: "0".to_owned(),
        now: bench.now,
    };
    bench.host = bench.tracker.register_host(info).await.expect("a host");
    let lost = super::attempts::reap(&bench, bench.host).await;
    assert_eq!((lost.leases, lost.attempts, lost.dead), (1, 1, 0));
    assert_eq!(bench.states("lost").await, [State::Cancelled, State::Cancelled]);
    assert_eq!(bench.tracker.outlook().await.expect("a read"), gristmill_tracker::records::Outlook::default());
    let filter = gristmill_tracker::records::AttemptsFilter { job: bench.job.id, stage: None, outcome: None, limit: 9 };
    let mut attempts: Vec<String> =
        bench.tracker.attempts(filter).await.expect("attempts").into_iter().filter_map(|row| row.item_key).collect();
    attempts.sort();
    assert_eq!(attempts, ["dead", "lost", "wait"], "what was given back is no attempt");
    bench.recount().await;
    assert_eq!(bench.cancel(&["wait", "back", "lost", "dead"], true).await.changed, 4);
    assert_eq!(bench.states("wait").await, [State::Ready, State::Blocked]);
    assert_eq!(bench.states("dead").await, [State::Dead, State::Blocked]);
    assert_eq!(bench.item("dead").await.row.status, ItemStatus::Failed);
    bench.recount().await;
}

pub async fn an_item_that_was_cancelled_is_found_again_and_stays_cancelled(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    bench.cancel(&["a"], false).await;
    let rediscovery = Rediscovery { on_update: OnUpdate::Reprocess, ..Rediscovery::default() };
    let page = Upsert { rediscovery, ..bench.page(vec![item("a", "2", 0)], None) };
    assert_eq!(bench.tracker.upsert(page).await.expect("an upsert").changed, 1);
    assert_eq!(bench.item("a").await.data, "2");
    assert_eq!(bench.states("a").await, [State::Done, State::Cancelled], "nobody works on it");
    bench.recount().await;
    bench.cancel(&["a"], true).await;
    assert_eq!(bench.states("a").await, [State::Ready, State::Blocked], "the new data is not forgotten");
    bench.recount().await;
}

pub async fn each_cancellation_is_an_event(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    bench.cancel(&["a", "b"], false).await;
    bench.cancel(&["a", "b"], false).await;
    bench.cancel(&["b"], true).await;
    let filter = EventsFilter { job: Some(bench.job.id), kind: Some("item.".to_owned()), limit: 9 };
    let events = bench.tracker.events(filter).await.expect("events");
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["item.restored", "item.cancelled", "item.cancelled"], "the newest first");
    assert_eq!((events[0].item, events[0].at), (Some(bench.item("b").await.row.id), bench.now));
    let data: serde_json::Value = serde_json::from_str(&events[0].data).expect("JSON");
    assert_eq!(data, serde_json::json!({ "item": "b", "actor": "ann", "why": "a test" }));
}

pub async fn nothing_is_cancelled_in_a_job_that_is_not_there(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    let cancel = Cancel {
        job: gristmill_model::JobId(99),
        keys: vec!["a".to_owned()],
        undo: false,
        actor: String::new(),
        why: String::new(),
        now: bench.now,
    };
    assert!(matches!(bench.tracker.cancel(cancel).await, Err(gristmill_tracker::Error::UnknownJob(99))));
}

pub async fn an_operator_cancels_without_having_registered_the_job(open: Open<'_>) {
    let (job, now) = {
        let bench = Bench::new(open, &CHAIN).await;
        bench.discover(&[("a", "1")]).await;
        bench.done(0).await;
        bench.cancel(&["a"], false).await;
        (bench.job.id, bench.now)
    };
    let operator = open();
    let undo = Cancel { job, keys: vec!["a".to_owned()], undo: true, actor: String::new(), why: String::new(), now };
    assert_eq!(operator.cancel(undo).await.expect("a cancellation").changed, 1);
    let known = operator.item(job, "a").await.expect("a read").expect("the item");
    assert_eq!(known.stages[1].state, State::Ready, "what may run is known from the tracker alone");
}
