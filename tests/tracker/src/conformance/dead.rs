//! Tests of dead stages and redrives.

use gristmill_model::{
    DeadReason, Disposition, ItemStatus, Need, OnUpdate, OperationId, Outcome, Rediscovery, StageKey, State, Timestamp,
};

use super::{Bench, Open, item, stage};
use gristmill_tracker::Error;
use gristmill_tracker::records::{DeadFilter, EventsFilter, OperationRow, OperationState, Redrive};

const CHAIN: [(&str, &[usize]); 2] = [("fetch", &[]), ("extract", &[0])];

impl Bench {
    /// Discovers items whose first stage dies at once, in this order.
    async fn dead(&self, keys: &[&str]) {
        for key in keys {
            self.discover(&[(key, "1")]).await;
            self.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
        }
    }

    async fn begin(&self, filter: DeadFilter, limit: u64, rate: Option<f64>) -> OperationRow {
        let redrive = Redrive { filter, limit, rate, actor: "ann".to_owned(), why: "a test".to_owned(), now: self.now };
        self.tracker.begin_redrive(redrive).await.expect("an operation")
    }

    async fn step(&self, id: OperationId, limit: u32) -> OperationRow {
        self.tracker.step_operation(id, limit, self.now).await.expect("a step")
    }

    async fn set(&self, id: OperationId, to: OperationState) -> Result<OperationRow, Error> {
        self.tracker.set_operation(id, to, "ann".to_owned(), self.now).await
    }

    async fn list_dead(&self, filter: DeadFilter) -> Vec<String> {
        let count = self.tracker.count_dead(filter.clone()).await.expect("a count");
        let rows = self.tracker.dead(filter, StageKey(0), 99).await.expect("dead stages");
        assert_eq!(rows.len() as u64, count, "the count is that of the list");
        rows.into_iter().map(|row| format!("{}/{}", row.item_key, row.stage)).collect()
    }

    async fn kinds(&self, prefix: &str) -> Vec<String> {
        let filter = EventsFilter { job: Some(self.job.id), kind: Some(prefix.to_owned()), limit: 99 };
        self.tracker.events(filter).await.expect("events").into_iter().map(|event| event.kind).collect()
    }
}

pub async fn dead_stages_are_listed_and_filtered(open: Open<'_>) {
    let mut bench = Bench::new(open, &CHAIN).await;
    bench.dead(&["a"]).await;
    bench.discover(&[("b", "1")]).await;
    bench.done(0).await;
    bench.now.0 += 10;
    bench.pass(1, Outcome::Trap, Disposition::Dead(DeadReason::Exhausted)).await;
    bench.discover(&[("c", "1")]).await;
    let all = DeadFilter::all(bench.job.id);
    assert_eq!(bench.list_dead(all.clone()).await, ["a/fetch", "b/extract"]);
    let row = bench.tracker.dead(all.clone(), StageKey(0), 1).await.expect("dead stages").remove(0);
    assert_eq!((row.reason, row.counters.attempts), (DeadReason::Permanent, 1));
    assert_eq!((row.settled_at.0, row.error.as_deref()), (bench.now.0 - 10, Some("it was permanent")));
    let behind = bench.tracker.dead(all.clone(), row.key, 9).await.expect("dead stages");
    assert_eq!(behind.iter().map(|row| row.item_key.as_str()).collect::<Vec<_>>(), ["b"]);
    for (filter, found) in [
        (DeadFilter { stage: Some(bench.stage(1)), ..all.clone() }, vec!["b/extract"]),
        (DeadFilter { reason: Some(DeadReason::Permanent), ..all.clone() }, vec!["a/fetch"]),
        (DeadFilter { reason: Some(DeadReason::Poison), ..all.clone() }, vec![]),
        (DeadFilter { error: Some("was trap".to_owned()), ..all.clone() }, vec!["b/extract"]),
        (DeadFilter { error: Some("WAS TRAP".to_owned()), ..all.clone() }, vec![]),
        (DeadFilter { error: Some("%".to_owned()), ..all.clone() }, vec![]),
        (DeadFilter { error: Some("it_was".to_owned()), ..all.clone() }, vec![]),
        (DeadFilter { before: Some(bench.now), ..all.clone() }, vec!["a/fetch"]),
        (DeadFilter { before: Some(Timestamp(bench.now.0 + 1)), ..all.clone() }, vec!["a/fetch", "b/extract"]),
        (DeadFilter { keys: Some(vec!["b".to_owned(), "c".to_owned()]), ..all.clone() }, vec!["b/extract"]),
        (DeadFilter { keys: Some(Vec::new()), ..all.clone() }, vec![]),
        (DeadFilter { job: gristmill_model::JobId(99), ..all.clone() }, vec![]),
    ] {
        assert_eq!(bench.list_dead(filter.clone()).await, found, "{filter:?}");
    }
}

pub async fn a_redriven_stage_starts_anew_and_keeps_its_history(open: Open<'_>) {
    let mut bench = Bench::new(open, &CHAIN).await;
    bench.dead(&["a"]).await;
    bench.now.0 += 10;
    let operation = bench.begin(DeadFilter::all(bench.job.id), 9, None).await;
    assert_eq!((operation.state, operation.planned, operation.done), (OperationState::Running, 1, 0));
    assert_eq!(bench.states("a").await, [State::Dead, State::Blocked], "nothing is redriven yet");
    let operation = bench.step(operation.id, 9).await;
    assert_eq!((operation.state, operation.done), (OperationState::Done, 1));
    let known = bench.item("a").await;
    assert_eq!((known.row.status, known.stages[0].state), (ItemStatus::Active, State::Ready));
    assert_eq!((known.stages[0].attempts.len(), known.stages[0].reason), (1, None));
    assert_eq!(bench.list_dead(DeadFilter::all(bench.job.id)).await, Vec::<String>::new());
    bench.recount().await;
    let (fence, claim) = bench.claim_one(0).await;
    assert_eq!(claim.counters, gristmill_model::Counters::default());
    assert_eq!((claim.ready_at, claim.first_ready_at), (bench.now, bench.now), "its age begins anew");
    bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    let outcomes: Vec<Outcome> = bench.item("a").await.stages[0].attempts.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Permanent]);
    assert_eq!(bench.states("a").await, [State::Done, State::Ready]);
    bench.recount().await;
}

pub async fn a_redrive_goes_in_steps_up_to_its_limit(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.dead(&["a", "b", "c", "d", "e"]).await;
    let operation = bench.begin(DeadFilter::all(bench.job.id), 3, None).await;
    assert_eq!((operation.planned, operation.limit), (3, 3));
    let operation = bench.step(operation.id, 2).await;
    assert_eq!((operation.state, operation.done), (OperationState::Running, 2));
    assert_eq!(bench.list_dead(DeadFilter::all(bench.job.id)).await, ["c/fetch", "d/fetch", "e/fetch"]);
    bench.recount().await;
    let operation = bench.step(operation.id, 2).await;
    assert_eq!((operation.state, operation.done), (OperationState::Done, 3));
    assert_eq!(bench.list_dead(DeadFilter::all(bench.job.id)).await, ["d/fetch", "e/fetch"]);
    assert_eq!(bench.step(operation.id, 2).await, operation, "it is over");
    bench.recount().await;
}

pub async fn what_dies_again_is_not_redriven_twice_by_one_operation(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.dead(&["a", "b"]).await;
    let operation = bench.begin(DeadFilter::all(bench.job.id), 9, None).await;
    bench.step(operation.id, 1).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    assert_eq!(bench.list_dead(DeadFilter::all(bench.job.id)).await, ["a/fetch", "b/fetch"]);
    let operation = bench.step(operation.id, 9).await;
    assert_eq!((operation.state, operation.done), (OperationState::Done, 2));
    assert_eq!(bench.list_dead(DeadFilter::all(bench.job.id)).await, ["a/fetch"]);
    bench.recount().await;
}

pub async fn a_redrive_keeps_its_rate(open: Open<'_>) {
    let mut bench = Bench::new(open, &CHAIN).await;
    bench.dead(&["a", "b", "c", "d", "e"]).await;
    let operation = bench.begin(DeadFilter::all(bench.job.id), 9, Some(2.0)).await;
    assert_eq!((operation.rate, operation.next_at), (Some(2.0), bench.now));
    let operation = bench.step(operation.id, 9).await;
    assert_eq!((operation.done, operation.next_at.0), (2, bench.now.0 + 1_000_000), "at most a second's worth");
    bench.now.0 += 999_999;
    assert_eq!(bench.step(operation.id, 9).await, operation, "not before its time");
    bench.now.0 += 1_000_001;
    let operation = bench.step(operation.id, 1).await;
    assert_eq!((operation.done, operation.next_at.0), (3, bench.now.0 + 500_000));
    // Slower than one a second is still one a step.
    let slow = bench.begin(DeadFilter::all(bench.job.id), 9, Some(0.5)).await;
    let slow = bench.step(slow.id, 9).await;
    assert_eq!((slow.done, slow.next_at.0), (1, bench.now.0 + 2_000_000));
    bench.recount().await;
}

pub async fn an_operation_is_paused_resumed_and_ended_by_hand(open: Open<'_>) {
    let mut bench = Bench::new(open, &CHAIN).await;
    bench.dead(&["a", "b", "c"]).await;
    let id = bench.begin(DeadFilter::all(bench.job.id), 9, None).await.id;
    bench.step(id, 1).await;
    bench.now.0 += 10;
    let paused = bench.set(id, OperationState::Paused).await.expect("paused");
    assert_eq!((paused.state, paused.updated_at), (OperationState::Paused, bench.now));
    assert_eq!(bench.step(id, 1).await, paused, "nothing is done meanwhile");
    bench.set(id, OperationState::Running).await.expect("running");
    assert_eq!(bench.step(id, 1).await.done, 2);
    bench.set(id, OperationState::Cancelled).await.expect("cancelled");
    for to in [OperationState::Running, OperationState::Paused, OperationState::Done] {
        match bench.set(id, to).await {
            Err(Error::OperationState { id: of, from, to: wanted }) => {
                assert_eq!((of, from, wanted), (id.0, OperationState::Cancelled, to));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.step(id, 1).await.done, 2);
    assert_eq!(bench.list_dead(DeadFilter::all(bench.job.id)).await, ["c/fetch"]);
    let kinds = bench.kinds("operation.").await;
    assert_eq!(kinds, ["operation.cancelled", "operation.resumed", "operation.paused", "operation.started"]);
    bench.recount().await;
}

pub async fn an_operation_goes_on_after_its_host_ended(open: Open<'_>) {
    let (id, mut filter) = {
        let bench = Bench::new(open, &CHAIN).await;
        bench.dead(&["a", "b"]).await;
        let filter = DeadFilter { keys: Some(vec!["b".to_owned()]), ..DeadFilter::all(bench.job.id) };
        let filter =
            DeadFilter { error: Some("it was".to_owned()), stage: Some(bench.stage(0)), before: None, ..filter };
        (bench.begin(filter.clone(), 9, None).await.id, filter)
    };
    // An operator's process, which runs no job.
    let operator = open();
    let operation = operator.step_operation(id, 9, super::NOW).await.expect("a step");
    assert_eq!((operation.state, operation.done), (OperationState::Done, 1));
    filter.keys = None;
    let left = operator.dead(filter, StageKey(0), 9).await.expect("dead stages");
    assert_eq!(left.iter().map(|row| row.item_key.as_str()).collect::<Vec<_>>(), ["a"], "its filter was kept");
}

pub async fn each_redriven_stage_is_an_event(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.dead(&["a", "b"]).await;
    let id = bench.begin(DeadFilter::all(bench.job.id), 9, None).await.id;
    bench.step(id, 9).await;
    let filter = EventsFilter { job: Some(bench.job.id), kind: Some("stage.redriven".to_owned()), limit: 9 };
    let events = bench.tracker.events(filter).await.expect("events");
    assert_eq!(events.len(), 2);
    assert_eq!((events[0].operation, events[0].item), (Some(id), Some(bench.item("b").await.row.id)));
    let data: serde_json::Value = serde_json::from_str(&events[0].data).expect("JSON");
    assert_eq!(data, serde_json::json!({ "item": "b", "stage": "fetch" }));
    assert_eq!(bench.kinds("operation.").await, ["operation.done", "operation.started"]);
}

pub async fn cancelled_items_are_passed_over_by_a_redrive(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.dead(&["a", "b", "c"]).await;
    bench.cancel(&["b"], false).await;
    let id = bench.begin(DeadFilter::all(bench.job.id), 2, None).await.id;
    assert_eq!(bench.step(id, 9).await.done, 2);
    assert_eq!(bench.states("b").await, [State::Dead, State::Cancelled]);
    assert_eq!(bench.states("c").await, [State::Ready, State::Blocked]);
    bench.recount().await;
}

pub async fn an_older_result_is_there_again_while_it_is_redriven(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    bench.done(1).await;
    let rediscovery = Rediscovery { on_update: OnUpdate::Reprocess, ..Rediscovery::default() };
    let page = gristmill_tracker::records::Upsert { rediscovery, ..bench.page(vec![item("a", "2", 0)], None) };
    bench.tracker.upsert(page).await.expect("an upsert");
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    let id = bench.begin(DeadFilter::all(bench.job.id), 9, None).await.id;
    assert_eq!(bench.step(id, 9).await.done, 1);
    let known = bench.item("a").await;
    let bit = bench.stage(0).bit().mask();
    assert_eq!((known.row.masks.done & bit, known.row.masks.stale & bit, known.row.masks.dead), (bit, bit, 0));
    assert_eq!((known.stages[0].state, known.stages[0].attempts.len()), (State::Ready, 2));
    assert!(known.stages[0].output.is_some());
    bench.recount().await;
    // The same output as before its death: nothing else runs.
    bench.done(0).await;
    assert_eq!(bench.states("a").await, [State::Done, State::Done]);
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    bench.recount().await;
}

pub async fn a_redriven_stage_that_may_not_run_any_more_is_blocked(open: Open<'_>) {
    {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        bench.dead(&["a"]).await;
    }
    let edited = vec![stage("login", vec![]), stage("fetch", vec![Need { stage: 0, output: false }])];
    let bench = Bench::with(open(), edited).await;
    let mut position = bench.job.reconcile;
    while let Some(after) = position {
        position = bench.tracker.reconcile(bench.job.id, after, 9, bench.now).await.expect("a page");
    }
    let id = bench.begin(DeadFilter::all(bench.job.id), 9, None).await.id;
    assert_eq!(bench.step(id, 9).await.done, 1);
    assert_eq!(bench.states("a").await, [State::Ready, State::Blocked]);
    bench.recount().await;
    bench.done(0).await;
    assert_eq!(bench.states("a").await, [State::Done, State::Ready]);
    bench.recount().await;
}

pub async fn a_redriven_stage_that_can_never_run_is_skipped_along(open: Open<'_>) {
    let need = |stage, output| vec![Need { stage, output }];
    let stages = vec![stage("fetch", vec![]), stage("extract", need(0, true)), stage("note", need(1, false))];
    let bench = Bench::with(open(), stages).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    bench.pass(1, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    let rediscovery = Rediscovery { on_update: OnUpdate::Reprocess, ..Rediscovery::default() };
    let page = gristmill_tracker::records::Upsert { rediscovery, ..bench.page(vec![item("a", "2", 0)], None) };
    bench.tracker.upsert(page).await.expect("an upsert");
    bench.pass(0, Outcome::Skipped, Disposition::Skipped).await;
    assert_eq!(bench.states("a").await, [State::Skipped, State::Dead, State::Blocked]);
    let id = bench.begin(DeadFilter::all(bench.job.id), 9, None).await.id;
    assert_eq!(bench.step(id, 9).await.done, 1);
    assert_eq!(bench.states("a").await, [State::Skipped, State::Skipped, State::Ready]);
    let extract = bench.item("a").await.stages.remove(1);
    assert_eq!((extract.reason, extract.attempts.len()), (None, 1), "its history stays");
    bench.recount().await;
    bench.done(2).await;
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    bench.recount().await;
}

pub async fn operations_are_listed_the_newest_first(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    let first = bench.begin(DeadFilter::all(bench.job.id), 9, None).await;
    let second = bench.begin(DeadFilter::all(bench.job.id), 1, Some(4.0)).await;
    assert_eq!((second.kind.as_str(), second.job), ("redrive", bench.job.id));
    assert_eq!((second.actor.as_str(), second.why.as_str()), ("ann", "a test"));
    assert_eq!((second.created_at, second.updated_at), (bench.now, bench.now));
    let list = async |job, limit| bench.tracker.operations(job, limit).await.expect("operations");
    assert_eq!(list(None, 9).await, [second.clone(), first.clone()]);
    let one = async |id| bench.tracker.operation(id).await.expect("an operation");
    assert_eq!((one(first.id).await.as_ref(), one(OperationId(99)).await), (Some(&first), None));
    assert_eq!(list(Some(bench.job.id), 1).await, [second]);
    assert_eq!(list(Some(gristmill_model::JobId(99)), 9).await, []);
    assert_eq!(bench.step(first.id, 9).await.state, OperationState::Done, "there was nothing to do");
}

pub async fn an_operation_that_is_not_there_is_said_to_be_so(open: Open<'_>) {
    let bench = Bench::new(open, &CHAIN).await;
    let id = OperationId(99);
    assert!(matches!(bench.set(id, OperationState::Paused).await, Err(Error::UnknownOperation(99))));
    let step = bench.tracker.step_operation(id, 9, bench.now).await;
    assert!(matches!(step, Err(Error::UnknownOperation(99))));
    let redrive = Redrive {
        filter: DeadFilter::all(gristmill_model::JobId(99)),
        limit: 1,
        rate: None,
        actor: String::new(),
        why: String::new(),
        now: bench.now,
    };
    assert!(matches!(bench.tracker.begin_redrive(redrive).await, Err(Error::UnknownJob(99))));
}
