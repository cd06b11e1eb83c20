//! Tests of retention, archives and events.

use std::time::Duration;

use gristmill_model::{DeadReason, Digest, Disposition, Expiring, ItemId, JobId, Outcome, State, Timestamp};

use super::{Bench, NOW, Open, item, registration, stage};
use gristmill_tracker::records::{
    AttemptCharge, AttemptsFilter, EventsFilter, Expired, ExpiredAttempt, ExpiredCharge, ExpiredEvent, ExpiredItem,
    ExpiredOutcome, ExpiredPage, ExpiredResult, ExpiredRow, ExpiredSighting, HostInfo, JobRegistration, NewEvent,
    Prune, Source, Upsert,
};

impl Bench {
    async fn expired(&self, what: Expiring, before: Timestamp, after: i64, limit: u32) -> ExpiredPage {
        let now = Timestamp(i64::MAX);
        let expired = Expired { job: Some(self.job.id), what, before, now, after, limit };
        let page = self.tracker.expired(expired).await.expect("a page");
        let number = |row: &ExpiredRow| match row {
            ExpiredRow::Attempt(row) => row.id,
            ExpiredRow::Charge(row) => row.id,
            ExpiredRow::Event(row) => row.id,
            ExpiredRow::Item(row) => row.id,
            ExpiredRow::Result(row) => row.outcome.key,
        };
        assert_eq!(page.rows.iter().map(number).collect::<Vec<_>>(), page.numbers, "in the same order");
        page
    }

    async fn prune(&self, what: Expiring, before: Timestamp, numbers: Vec<i64>) -> u64 {
        let prune = Prune { job: Some(self.job.id), what, before, numbers };
        self.tracker.prune(prune).await.expect("a pruning")
    }

    /// Prunes whatever is old enough, two rows looked at a time.
    pub async fn prune_all(&self, what: Expiring, before: Timestamp) -> u64 {
        let (mut gone, mut after) = (0, Some(0));
        while let Some(behind) = after {
            let page = self.expired(what, before, behind, 2).await;
            assert!(page.next.is_none_or(|next| next > behind), "it goes on");
            gone += self.prune(what, before, page.numbers).await;
            after = page.next;
        }
        gone
    }

    async fn attempts(&self) -> Vec<String> {
        let filter = AttemptsFilter { job: self.job.id, stage: None, outcome: None, limit: 99 };
        self.tracker.attempts(filter).await.expect("attempts").into_iter().filter_map(|row| row.item_key).collect()
    }

    async fn charged(&self, place: usize) {
        let (fence, claim) = self.claim_one(place).await;
        let mut completion = self.completion(&claim, Outcome::Done, Disposition::Done);
        completion.charges = vec![("tokens".to_owned(), 2.0)];
        assert_eq!(self.settle(fence, vec![completion]).await.applied, 1);
    }
}

const LATER: Timestamp = Timestamp(NOW.0 + 1000);

pub async fn old_attempts_go_with_their_charges_and_sums_stay(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
    bench.charged(0).await;
    bench.charged(0).await;
    bench.now = LATER;
    bench.charged(0).await;
    assert_eq!(bench.expired(Expiring::Attempts, NOW, 0, 9).await, ExpiredPage::default(), "none is older than that");
    let page = bench.expired(Expiring::Attempts, LATER, 0, 9).await;
    assert_eq!((page.numbers.len(), page.next), (2, None), "the third is too young");
    let first = bench.expired(Expiring::Attempts, LATER, 0, 1).await;
    assert_eq!((&first.numbers[..], first.next), (&page.numbers[..1], Some(page.numbers[0])));
    assert_eq!(bench.prune(Expiring::Attempts, LATER, page.numbers.clone()).await, 2);
    assert_eq!(bench.prune(Expiring::Attempts, LATER, page.numbers).await, 0);
    assert_eq!(bench.attempts().await, ["c"]);
    let known = bench.item("a").await.stages.remove(0);
    assert_eq!((known.state, known.attempts.len(), known.output.is_some()), (State::Done, 0, true), "its result stays");
    let stats = bench.tracker.stats(bench.job.id).await.expect("counters");
    assert_eq!(stats.charges, [("tokens".to_owned(), 6.0)]);
    bench.recount().await;
}

pub async fn the_number_of_an_attempt_does_not_come_back(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    bench.done(0).await;
    bench.now = LATER;
    bench.prune_all(Expiring::Attempts, LATER).await;
    let kept = bench.item("a").await.stages.remove(0).attempts;
    bench.done(0).await;
    let attempts = bench.item("a").await.stages.remove(0).attempts;
    assert_eq!(attempts.len(), kept.len(), "another item's attempt is none of this one");
    assert!(attempts.iter().all(|row| row.item_key.as_deref() == Some("a")));
}

pub async fn old_charges_go_and_their_attempts_stay(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    bench.charged(0).await;
    bench.now = LATER;
    bench.charged(0).await;
    assert_eq!(bench.prune_all(Expiring::Costs, LATER).await, 1);
    assert_eq!(bench.item("a").await.stages[0].attempts[0].charges, []);
    assert_eq!(bench.item("b").await.stages[0].attempts[0].charges.len(), 1);
    let stats = bench.tracker.stats(bench.job.id).await.expect("counters");
    assert_eq!(stats.charges, [("tokens".to_owned(), 4.0)]);
    bench.recount().await;
}

pub async fn old_events_go(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    let record = async |kind: &str, job, now| {
        let event = NewEvent { kind: kind.to_owned(), job, data: "{}".to_owned(), now };
        bench.tracker.record_event(event).await.expect("an event");
    };
    record("test.mine", Some(bench.job.id), NOW).await;
    record("test.other", Some(JobId(99)), NOW).await;
    record("test.none", None, NOW).await;
    record("test.young", Some(bench.job.id), LATER).await;
    record("test.last", Some(bench.job.id), NOW).await;
    bench.prune_all(Expiring::Events, LATER).await;
    let kinds = async |job, kind: Option<&str>| {
        let filter = EventsFilter { job, kind: kind.map(str::to_owned), limit: 9 };
        let events = bench.tracker.events(filter).await.expect("events");
        events.into_iter().map(|event| event.kind).collect::<Vec<_>>()
    };
    let left = ["test.last", "test.young", "test.none", "test.other"];
    assert_eq!(kinds(None, Some("test.")).await, left, "looked through up to a young one, and those of the job alone");
}

pub async fn events_are_recorded_and_filtered(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    for (kind, job) in [("disk.low", None), ("job.paused", Some(bench.job.id)), ("jobs.odd", Some(bench.job.id))] {
        let event = NewEvent { kind: kind.to_owned(), job, data: "{\"x\":1}".to_owned(), now: LATER };
        bench.tracker.record_event(event).await.expect("an event");
    }
    let list = async |job, kind: Option<&str>, limit| {
        let filter = EventsFilter { job, kind: kind.map(str::to_owned), limit };
        bench.tracker.events(filter).await.expect("events")
    };
    let all = list(None, None, 99).await;
    assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id), "the newest first");
    let kinds =
        |events: Vec<gristmill_tracker::records::EventRow>| events.into_iter().map(|row| row.kind).collect::<Vec<_>>();
    let expected = ["jobs.odd", "job.paused", "disk.low", "job.spec", "stage.version", "host.started"];
    assert_eq!(kinds(all), expected);
    assert_eq!(kinds(list(None, None, 1).await), ["jobs.odd"]);
    assert_eq!(kinds(list(None, Some("disk.low"), 9).await), ["disk.low"]);
    assert_eq!(kinds(list(None, Some("disk"), 9).await), Vec::<String>::new());
    assert_eq!(kinds(list(Some(bench.job.id), Some("job."), 9).await), ["job.paused", "job.spec"]);
    assert_eq!(kinds(list(Some(bench.job.id), Some("disk.low"), 9).await), Vec::<String>::new());
    let odd = list(None, Some("jobs.odd"), 9).await.remove(0);
    assert_eq!((odd.at, odd.job, odd.item, odd.operation), (LATER, Some(bench.job.id), None, None));
    assert_eq!(odd.data, "{\"x\":1}");
}

pub async fn finished_items_go_with_all_but_their_attempts(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench
        .discover(&[("done", "1"), ("dead", "1"), ("cancelled", "1"), ("ready", "1"), ("young", "1"), ("last", "1")])
        .await;
    bench.done(0).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    bench.cancel(&["cancelled"], false).await;
    bench.pass(0, Outcome::Retry, Disposition::Wait(Duration::from_secs(9))).await;
    bench.now = LATER;
    bench.done(0).await;
    let page = bench.expired(Expiring::Items, LATER, 0, 9).await;
    let gone = ["done", "cancelled"];
    let mut ids = Vec::new();
    for key in gone {
        ids.push(bench.item(key).await.row.id.0);
    }
    assert_eq!((page.numbers, page.next), (ids, None));
    assert_eq!(bench.prune_all(Expiring::Items, LATER).await, 2);
    for key in gone {
        assert!(bench.tracker.item(bench.job.id, key).await.expect("a read").is_none());
    }
    assert_eq!(bench.tracker.results(bench.stage(0), ItemId(0), 9).await.expect("results").len(), 1);
    bench.recount().await;
    // Found again after that, it is new.
    assert_eq!(bench.discover(&[("done", "1")]).await.new, 1);
    assert_eq!(bench.item("done").await.sightings.len(), 1);
    assert_eq!(bench.item("done").await.stages[0].attempts.len(), 0);
    bench.recount().await;
}

pub async fn an_archived_attempt_has_its_charges(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    let (fence, claim) = bench.claim_one(0).await;
    let mut completion = bench.completion(&claim, Outcome::Retry, Disposition::Wait(Duration::ZERO));
    completion.charges = vec![("tokens".to_owned(), 0.1), ("calls".to_owned(), 2.0), ("tokens".to_owned(), 0.2)];
    completion.log = Some("a \"line\"\n".to_owned());
    bench.settle(fence, vec![completion]).await;
    bench.now = LATER;
    bench.done(0).await;
    let attempt = bench.item("a").await.stages.remove(0).attempts.remove(0);
    let charge = |meter: &str, amount| AttemptCharge { meter: meter.to_owned(), amount };
    let expected = ExpiredAttempt {
        id: attempt.id.0,
        key: claim.key.0,
        stage_id: bench.stage(0).0,
        prev: None,
        outcome: Outcome::Retry.code(),
        host_id: bench.host.0,
        fence: fence.0,
        queued_at: NOW.0,
        started_at: Some(NOW.0),
        ended_at: NOW.0,
        version_id: Some(bench.job.stages[0].version.0),
        memory_bytes_max: Some(65536),
        input_hash: Some(Digest::of(b"1")),
        spec: Some(1),
        operation_id: None,
        error: Some("it was retry".to_owned()),
        log: Some("a \"line\"\n".to_owned()),
        charges: vec![charge("tokens", 0.1), charge("calls", 2.0), charge("tokens", 0.2)],
    };
    let page = bench.expired(Expiring::Attempts, LATER, 0, 9).await;
    assert_eq!(page.rows, [ExpiredRow::Attempt(Box::new(expected))]);
    let page = bench.expired(Expiring::Costs, LATER, 0, 1).await;
    let expected = ExpiredCharge {
        id: page.numbers[0],
        attempt_id: attempt.id.0,
        stage_id: Some(bench.stage(0).0),
        key: Some(claim.key.0),
        ended_at: Some(NOW.0),
        meter: "tokens".to_owned(),
        amount: 0.1,
    };
    assert_eq!(page.rows, [ExpiredRow::Charge(expected)]);
    let event = NewEvent { kind: "odd".to_owned(), job: Some(bench.job.id), data: "{\"x\":1.50}".to_owned(), now: NOW };
    bench.tracker.record_event(event.clone()).await.expect("an event");
    bench.tracker.record_event(NewEvent { kind: "last".to_owned(), ..event }).await.expect("an event");
    let last = bench.expired(Expiring::Events, LATER, 0, 99).await.rows.pop();
    let Some(ExpiredRow::Event(event)) = last else { panic!("{last:?}") };
    let expected = ExpiredEvent {
        id: event.id,
        at: NOW.0,
        kind: "odd".to_owned(),
        job_id: Some(bench.job.id.0),
        item_id: None,
        operation_id: None,
        data: "{\"x\":1.50}".to_owned(),
    };
    assert_eq!(event, expected);
}

pub async fn an_archived_item_has_its_results_and_sightings(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    let page = |data: &str, cursor: &str, now| Upsert {
        source: Source::Page { cursor: Some(cursor.to_owned()), next: None },
        now,
        ..bench.page(vec![item("a", data, -2)], None)
    };
    bench.tracker.upsert(page("1", "first", NOW)).await.expect("an upsert");
    let large = format!("\"{}\"", "x".repeat(100_000));
    let (fence, claim) = bench.claim_one(0).await;
    let mut completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
    completion.output =
        Some(gristmill_tracker::records::Output { hash: Digest::of(large.as_bytes()), text: large.clone() });
    bench.settle(fence, vec![completion]).await;
    let extracted = bench.pass(1, Outcome::Skipped, Disposition::Skipped).await;
    bench.tracker.upsert(page("2", "second", Timestamp(NOW.0 + 1))).await.expect("an upsert");
    bench.now = LATER;
    bench.discover(&[("last", "1")]).await;
    let detail = bench.item("a").await;
    let attempts: Vec<i64> = detail.stages.iter().map(|stage| stage.attempts[0].id.0).collect();
    let outcome = |place: usize, key: i64, state: State| ExpiredOutcome {
        key,
        state: state.code(),
        reason: None,
        attempts: 1,
        lost: 0,
        deferrals: 0,
        settled_at: NOW.0,
        last_attempt: Some(attempts[place]),
        version_id: Some(bench.job.stages[place].version.0),
        input_hash: Some(Digest::of(b"1")),
        output_hash: None,
        output: None,
        error: None,
    };
    let (hash, output) = (Some(Digest::of(large.as_bytes())), Some(large.clone()));
    let fetched = ExpiredOutcome { output_hash: hash, output, ..outcome(0, claim.key.0, State::Done) };
    let skipped =
        ExpiredOutcome { error: Some("it was skipped".to_owned()), ..outcome(1, extracted.key.0, State::Skipped) };
    let sighting = |data: &str, cursor: &str, at| ExpiredSighting {
        item_id: detail.row.id.0,
        data_hash: Digest::of(data.as_bytes()),
        at,
        source: "discover".to_owned(),
        cursor: Some(cursor.to_owned()),
    };
    let expected = ExpiredItem {
        id: detail.row.id.0,
        job_id: bench.job.id.0,
        key: "a".to_owned(),
        done: 1,
        skipped: 2,
        dead: 0,
        live: 0,
        stale: 0,
        priority: -2,
        cancelled_at: None,
        discovered_at: NOW.0,
        changed_at: NOW.0 + 1,
        data_hash: Digest::of(b"2"),
        seen_hash: Digest::of(b"2"),
        data: "2".to_owned(),
        stages: vec![fetched.clone(), skipped],
        sightings: vec![sighting("1", "first", NOW.0), sighting("2", "second", NOW.0 + 1)],
    };
    let page = bench.expired(Expiring::Items, LATER, 0, 9).await;
    assert_eq!(page.rows, [ExpiredRow::Item(Box::new(expected))]);
    let edited = bench.tracker.register_job(registration(vec![stage("extract", Vec::new())])).await.expect("a job");
    bench.tracker.reconcile(edited.id, ItemId(0), 9, LATER).await.expect("a page");
    let page = bench.expired(Expiring::Results, LATER, 0, 9).await;
    let (job_id, item, stage) = (edited.id.0, "a".to_owned(), "fetch".to_owned());
    let expected = ExpiredResult { job_id, item, stage, outcome: fetched };
    assert_eq!(page.rows, [ExpiredRow::Result(Box::new(expected))]);
}

pub async fn attempts_of_a_deleted_item_are_listed_by_its_number(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("gone", "1"), ("last", "1")]).await;
    bench.charged(0).await;
    let item = bench.item("gone").await.row.id;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    bench.now = LATER;
    assert_eq!(bench.prune_all(Expiring::Items, LATER).await, 1);
    let list = async |outcome| {
        let filter = AttemptsFilter { job: bench.job.id, stage: None, outcome, limit: 99 };
        bench.tracker.attempts(filter).await.expect("attempts")
    };
    let rows = list(None).await;
    let seen: Vec<_> = rows.iter().map(|row| (row.item_key.as_deref(), row.outcome)).collect();
    assert_eq!(seen, [(Some("last"), Outcome::Permanent), (None, Outcome::Done)]);
    assert_eq!((rows[1].item, &rows[1].charges[..]), (item, &[("tokens".to_owned(), 2.0)][..]));
    assert_eq!(list(Some(Outcome::Done)).await.len(), 1);
    bench.now.0 += 1;
    bench.cancel(&["last"], false).await;
    bench.discover(&[("newest", "1")]).await;
    assert_eq!(bench.prune_all(Expiring::Items, Timestamp(LATER.0 + 2)).await, 1);
    assert_eq!(list(Some(Outcome::Permanent)).await[0].item_key, None);
}

pub async fn the_number_of_an_item_does_not_come_back(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    bench.now = LATER;
    bench.prune_all(Expiring::Items, LATER).await;
    bench.discover(&[("b", "1")]).await;
    assert!(bench.attempts().await.iter().all(|key| key != "b"), "it was not tried yet");
    let stages = bench.item("b").await.stages;
    assert_eq!((stages[0].state, stages[0].attempts.len()), (State::Ready, 0));
}

pub async fn what_changed_since_is_not_pruned(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    bench.cancel(&["a"], false).await;
    bench.now = LATER;
    let page = bench.expired(Expiring::Items, LATER, 0, 9).await;
    assert_eq!(page.numbers.len(), 1);
    bench.cancel(&["a"], true).await;
    assert_eq!(bench.prune(Expiring::Items, LATER, page.numbers).await, 0);
    assert_eq!(bench.states("a").await, [State::Ready]);
    bench.recount().await;
}

pub async fn a_cancelled_item_that_is_still_running_does_not_expire(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    bench.claim_one(0).await;
    bench.cancel(&["a"], false).await;
    bench.now = LATER;
    assert_eq!(bench.expired(Expiring::Items, LATER, 0, 9).await.numbers, Vec::<i64>::new());
}

pub async fn results_of_retired_stages_go(open: Open<'_>) {
    {
        let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[])]).await;
        bench.discover(&[("a", "1"), ("b", "1")]).await;
        for place in [0, 0, 1] {
            bench.done(place).await;
        }
        bench.pass(1, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
        assert_eq!(bench.prune_all(Expiring::Results, LATER).await, 0, "none is retired");
    }
    {
        let bench = Bench::with(open(), vec![stage("fetch", vec![])]).await;
        bench.tracker.reconcile(bench.job.id, ItemId(0), 9, NOW).await.expect("a page");
        assert_eq!(bench.prune_all(Expiring::Results, NOW).await, 0, "none is old enough");
        assert_eq!(bench.prune_all(Expiring::Results, LATER).await, 2);
        assert_eq!(bench.item("b").await.row.masks.dead, 0);
        bench.recount().await;
    }
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[])]).await;
    bench.tracker.reconcile(bench.job.id, ItemId(0), 9, NOW).await.expect("a page");
    assert_eq!(bench.states("a").await, [State::Done, State::Ready], "it is made anew");
    assert_eq!(bench.states("b").await, [State::Done, State::Ready]);
    bench.recount().await;
}

pub async fn what_one_job_retires_or_forgets_says_nothing_of_another(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    let other = |name| JobRegistration { name: "other".to_owned(), ..registration(vec![stage(name, Vec::new())]) };
    let theirs = bench.tracker.register_job(other("fetch")).await.expect("a job");
    let ours = std::mem::replace(&mut bench.job, theirs);
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    bench.job = ours;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    bench.done(0).await;
    bench.done(0).await;
    assert_eq!(bench.prune_all(Expiring::Attempts, LATER).await, 1, "the newest stays");
    bench.recount().await;
    let edited = bench.tracker.register_job(other("extract")).await.expect("a job");
    bench.tracker.reconcile(edited.id, ItemId(0), 9, NOW).await.expect("a page");
    assert_eq!(bench.prune_all(Expiring::Results, LATER).await, 0, "it is their stage that is retired");
    assert_eq!(bench.states("a").await, [State::Done]);
    bench.recount().await;
}

pub async fn a_host_that_was_given_up_is_told_so(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    assert!(bench.tracker.heartbeat(bench.host, bench.now).await.expect("a heartbeat"));
    let info = HostInfo { name: "next".to_owned(), pid: 2, app_version: "0".to_owned(), now: bench.now };
    let first = std::mem::replace(&mut bench.host, bench.tracker.register_host(info).await.expect("a host"));
    super::attempts::reap(&bench, bench.host).await;
    assert!(!bench.tracker.heartbeat(first, bench.now).await.expect("a heartbeat"), "it was buried");
    assert!(bench.tracker.heartbeat(first, bench.now).await.expect("a heartbeat"), "and is back");
    let filter = EventsFilter { job: None, kind: Some("host.".to_owned()), limit: 2 };
    let kinds: Vec<String> =
        bench.tracker.events(filter).await.expect("events").into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["host.back", "host.lost"]);
}

pub async fn the_age_of_work_begins_with_its_first_readiness(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.upsert(vec![item("a", "1", 0)], None).await;
    for _ in 0..3 {
        let (fence, claim) = bench.claim_one(0).await;
        assert_eq!(claim.first_ready_at, NOW);
        assert_eq!(claim.ready_at, bench.now);
        let later = bench.completion(&claim, Outcome::Later, Disposition::Wait(Duration::from_secs(5)));
        bench.settle(fence, vec![later]).await;
        bench.now = bench.now + Duration::from_secs(5);
        assert_eq!(bench.tracker.promote(bench.now, 9).await.expect("a promotion"), 1);
    }
    // Giving back and losing it leave its age alone.
    let (fence, claim) = bench.claim_one(0).await;
    let release = gristmill_tracker::records::Release { fence, keys: vec![claim.key] };
    bench.tracker.release(vec![release]).await.expect("a release");
    assert_eq!(bench.claim_one(0).await.1.first_ready_at, NOW);
}

pub async fn results_of_other_versions_are_found(open: Open<'_>) {
    {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        bench.discover(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
        bench.done(0).await;
        bench.done(0).await;
        assert_eq!(bench.tracker.outdated(bench.stage(0), ItemId(0), 9).await.expect("items"), []);
    }
    let mut changed = stage("fetch", vec![]);
    changed.version = gristmill_model::Digest::of(b"another");
    let bench = Bench::with(open(), vec![changed]).await;
    bench.done(0).await;
    let id = |key: &'static str| async { bench.item(key).await.row.id };
    let (a, b) = (id("a").await, id("b").await);
    assert_eq!(bench.tracker.outdated(bench.stage(0), ItemId(0), 9).await.expect("items"), [a, b]);
    assert_eq!(bench.tracker.outdated(bench.stage(0), ItemId(0), 1).await.expect("items"), [a]);
    assert_eq!(bench.tracker.outdated(bench.stage(0), a, 9).await.expect("items"), [b]);
}

pub async fn what_a_clock_that_was_ahead_dated_keeps_nothing_behind_it(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    let day = Duration::from_hours(24);
    for (kind, at) in [("test.early", NOW), ("test.ahead", NOW + 30 * day), ("test.late", NOW), ("test.last", NOW)] {
        let event = NewEvent { kind: kind.to_owned(), job: Some(bench.job.id), data: "{}".to_owned(), now: at };
        bench.tracker.record_event(event).await.expect("an event");
    }
    let (what, before, now) = (Expiring::Events, NOW + day, NOW + 2 * day);
    let expired = Expired { job: Some(bench.job.id), what, before, now, after: 0, limit: 99 };
    let page = bench.tracker.expired(expired).await.expect("a page");
    let kinds = page.rows.iter().map(|row| match row {
        ExpiredRow::Event(event) => event.kind.as_str(),
        other => panic!("{other:?}"),
    });
    let kinds: Vec<&str> = kinds.filter(|kind| kind.starts_with("test.")).collect();
    assert_eq!(kinds, ["test.early", "test.late"], "the newest stays, whatever its age");
    assert_eq!(page.next, None);
}
