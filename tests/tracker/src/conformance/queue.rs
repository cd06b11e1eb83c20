//! Tests of discovery, claims and their order.

use std::time::Duration;

use gristmill_model::{DeadReason, Disposition, ItemId, ItemStatus, JobId, Outcome, State};

use super::{Bench, NOW, Open, item};
use gristmill_tracker::records::{
    AttemptRow, AttemptsFilter, Claim, ClaimRequest, Completion, EventRow, EventsFilter, ItemRow, ItemsFilter,
    NewEvent, Output, Round, RoundDone, Settlement, Upserted,
};

pub async fn a_discovered_item_is_ready_once(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    let page = [("a", "1"), ("b", "2")];
    assert_eq!(bench.discover(&page).await, Upserted { new: 2, changed: 0, unchanged: 0 });
    assert_eq!(bench.discover(&page).await, Upserted { new: 0, changed: 0, unchanged: 2 });
    assert_eq!(bench.states("a").await, [State::Ready, State::Blocked]);
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Active);
    assert_eq!(bench.item("a").await.stages[1].blocked_by, ["fetch"]);
    bench.recount().await;
}

pub async fn changed_data_is_given_to_the_next_attempt(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    assert_eq!(bench.discover(&[("a", "{\"x\":0}")]).await, Upserted { new: 0, changed: 1, unchanged: 0 });
    let (_, claim) = bench.claim_one(0).await;
    assert_eq!((claim.item_key.as_str(), claim.data.as_str()), ("a", "{\"x\":0}"));
    bench.recount().await;
}

pub async fn nothing_is_claimed_twice(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    let keys: Vec<String> = (0..10).map(|n| format!("item-{n}")).collect();
    bench.upsert(keys.iter().map(|key| item(key, "{}", 0)).collect(), None).await;
    let leases = bench.claim(0, 7, 3).await;
    let sizes: Vec<usize> = leases.iter().map(|lease| lease.claims.len()).collect();
    assert_eq!(sizes, [3, 3, 1], "leases of one chunk each");
    assert!(leases.windows(2).all(|pair| pair[0].fence < pair[1].fence), "fences rise");
    let rest = bench.claim(0, 7, 3).await;
    let mut claimed: Vec<String> =
        leases.iter().chain(&rest).flat_map(|lease| &lease.claims).map(|claim| claim.item_key.clone()).collect();
    claimed.sort();
    assert_eq!(claimed, keys);
    assert!(bench.claim(0, 7, 3).await.is_empty());
    bench.recount().await;
}

pub async fn a_claim_that_gets_less_than_it_wants_says_so(open: Open<'_>) {
    use gristmill_tracker::records::ClaimRequest;
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    let wish = ClaimRequest { stage: bench.stage(0), limit: 1, chunk: 64, bytes: u64::MAX };
    assert!(bench.round(Vec::new(), vec![wish]).await.drained.is_empty());
    assert_eq!(bench.round(Vec::new(), vec![ClaimRequest { limit: 2, ..wish }]).await.drained, [bench.stage(0)]);
}

pub async fn higher_priority_goes_first_until_the_other_is_old(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.upsert(vec![item("old and low", "1", 0)], None).await;
    bench.now.0 += 30_000_000;
    bench.upsert(vec![item("young and high", "1", 1)], None).await;
    bench.now.0 += 90_000_000;
    bench.upsert(vec![item("younger and high", "1", 1)], None).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(bench.claim_one(0).await.1.item_key);
    }
    // A step of priority counts as much as a minute: the last one came two minutes after the first.
    assert_eq!(order, ["young and high", "old and low", "younger and high"]);
}

pub async fn items_and_their_cursor_come_together(open: Open<'_>) {
    {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        assert_eq!(bench.job.cursor, None);
        bench.upsert(vec![item("a", "1", 0)], Some("page 2")).await;
    }
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    assert_eq!(bench.job.cursor.as_deref(), Some("page 2"));
    bench.upsert(vec![item("b", "1", 0)], None).await;
    drop(bench);
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    assert_eq!(bench.job.cursor, None, "the pass came to its end");
    bench.recount().await;
}

pub async fn a_bad_operation_fails_alone(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    let good = bench.page(vec![item("a", "1", 0)], None);
    let bad = gristmill_tracker::records::Upsert { job: gristmill_model::JobId(999), ..good.clone() };
    let other = gristmill_tracker::records::Upsert { items: vec![item("b", "1", 0)], ..good.clone() };
    let (first, second, third) =
        tokio::join!(bench.tracker.upsert(good), bench.tracker.upsert(bad), bench.tracker.upsert(other));
    assert_eq!(first.expect("good").new, 1);
    assert!(second.is_err());
    assert_eq!(third.expect("good").new, 1);
    bench.recount().await;
}

pub async fn lists_are_filtered_and_bounded(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a/1", "1"), ("a/2", "1"), ("b/1", "1")]).await;
    bench.done(0).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    let list = async |status, prefix: &str, after, limit| {
        let filter = ItemsFilter { job: bench.job.id, status, prefix: prefix.to_owned(), after, limit };
        let rows = bench.tracker.items(filter).await.expect("a list");
        rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
    };
    assert_eq!(list(None, "", ItemId(0), 2).await, ["a/1", "a/2"]);
    assert_eq!(list(None, "", bench.item("a/2").await.row.id, 2).await, ["b/1"]);
    assert_eq!(list(None, "a/", ItemId(0), 9).await, ["a/1", "a/2"]);
    assert_eq!(list(Some(ItemStatus::Failed), "", ItemId(0), 9).await, ["a/2"]);
    assert_eq!(list(Some(ItemStatus::Done), "", ItemId(0), 9).await, ["a/1"]);
    let results = bench.tracker.results(bench.stage(0), ItemId(0), 9).await.expect("results");
    assert_eq!(results.iter().map(|row| row.item_key.as_str()).collect::<Vec<_>>(), ["a/1"]);
    let filter = AttemptsFilter { job: bench.job.id, stage: None, outcome: Some(Outcome::Permanent), limit: 9 };
    let attempts = bench.tracker.attempts(filter).await.expect("attempts");
    assert_eq!(attempts.iter().map(|row| row.item_key.as_deref()).collect::<Vec<_>>(), [Some("a/2")]);
    bench.recount().await;
}

pub async fn a_list_by_status_and_prefix_is_that_of_all_items_filtered(open: Open<'_>) {
    // Two stages at once: an active item may have two rows in the queue.
    let bench = Bench::new(open, &[("fetch", &[]), ("probe", &[]), ("report", &[0, 1])]).await;
    let keys: Vec<String> = (0..24).map(|number| format!("{}/{number:02}", ["a", "b", "é"][number % 3])).collect();
    bench.discover(&keys.iter().map(|key| (key.as_str(), "1")).collect::<Vec<_>>()).await;
    for number in 0..24 {
        for place in [0, 1] {
            match (number % 4, place) {
                (2, 0) => drop(bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await),
                (0..=2, _) => drop(bench.done(place).await),
                _ => {}
            }
        }
    }
    for _ in 0..6 {
        bench.done(2).await;
    }
    bench.cancel(&["a/00", "b/01", "é/23"], false).await;
    let all = bench.list(None, "", ItemId(0), 99).await;
    assert_eq!(all.len(), 24);
    let statuses = ItemStatus::ALL.into_iter().map(Some).chain([None]);
    for status in statuses {
        for prefix in ["", "a/", "a/0", "é", "nobody", "\u{10ffff}"] {
            for after in [0, 5, 11] {
                let after = all.get(after).map_or(ItemId(0), |row| row.id);
                for limit in [2, 99] {
                    let is_meant = |row: &&ItemRow| {
                        row.id > after
                            && row.key.starts_with(prefix)
                            && status.is_none_or(|status| status == row.status)
                    };
                    let meant: Vec<ItemId> = all.iter().filter(is_meant).map(|row| row.id).take(limit).collect();
                    let found = bench.list(status, prefix, after, limit as u32).await;
                    let found: Vec<ItemId> = found.iter().map(|row| row.id).collect();
                    assert_eq!(found, meant, "{status:?}, `{prefix}`, behind {after}");
                }
            }
        }
    }
    bench.recount().await;
}

impl Bench {
    async fn list(&self, status: Option<ItemStatus>, prefix: &str, after: ItemId, limit: u32) -> Vec<ItemRow> {
        let filter = ItemsFilter { job: self.job.id, status, prefix: prefix.to_owned(), after, limit };
        self.tracker.items(filter).await.expect("a list")
    }
}

pub async fn a_list_of_attempts_or_events_is_that_of_all_filtered(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("probe", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
    let retry = Disposition::Wait(Duration::from_secs(5));
    for (place, outcome, disposition) in [
        (0, Outcome::Done, Disposition::Done),
        (1, Outcome::Retry, retry),
        (1, Outcome::Done, Disposition::Done),
        (0, Outcome::Retry, retry),
        (0, Outcome::Skipped, Disposition::Skipped),
        (1, Outcome::Retry, retry),
    ] {
        bench.pass(place, outcome, disposition).await;
    }
    let attempts = async |stage: Option<usize>, outcome, limit| {
        let stage = stage.map(|place| bench.stage(place));
        let filter = AttemptsFilter { job: bench.job.id, stage, outcome, limit };
        bench.tracker.attempts(filter).await.expect("attempts")
    };
    let all = attempts(None, None, 99).await;
    assert!(all.len() == 6 && all.windows(2).all(|pair| pair[0].id > pair[1].id), "the newest first");
    for stage in [None, Some(0), Some(1)] {
        for outcome in [None, Some(Outcome::Done), Some(Outcome::Retry), Some(Outcome::Skipped), Some(Outcome::Trap)] {
            for limit in [1, 2, 99] {
                let is_meant = |row: &&AttemptRow| {
                    stage.is_none_or(|place| row.stage == ["fetch", "probe"][place])
                        && outcome.is_none_or(|outcome| row.outcome == outcome)
                };
                let meant: Vec<_> = all.iter().filter(is_meant).map(|row| row.id).take(limit).collect();
                let found: Vec<_> = attempts(stage, outcome, limit as u32).await.iter().map(|row| row.id).collect();
                assert_eq!(found, meant, "{stage:?} {outcome:?} {limit}");
            }
        }
    }
    for (kind, job) in [("disk.low", None), ("disk.full", None), ("item.odd", Some(bench.job.id)), ("disk.low", None)] {
        let event = NewEvent { kind: kind.to_owned(), job, data: "{}".to_owned(), now: NOW };
        bench.tracker.record_event(event).await.expect("an event");
    }
    bench.cancel(&["a", "d"], false).await;
    let events = async |job, kind: Option<&str>, limit| {
        let filter = EventsFilter { job, kind: kind.map(str::to_owned), limit };
        bench.tracker.events(filter).await.expect("events")
    };
    let all = events(None, None, 99).await;
    for job in [None, Some(bench.job.id), Some(JobId(99))] {
        for kind in [None, Some("disk."), Some("disk.low"), Some("item."), Some("item.cancelled"), Some("none.")] {
            for limit in [1, 3, 99] {
                let is_meant = |row: &&EventRow| {
                    job.is_none_or(|job| row.job == Some(job))
                        && kind.is_none_or(|kind| row.kind == kind || kind.ends_with('.') && row.kind.starts_with(kind))
                };
                let meant: Vec<i64> = all.iter().filter(is_meant).map(|row| row.id).take(limit).collect();
                let found: Vec<i64> = events(job, kind, limit as u32).await.iter().map(|row| row.id).collect();
                assert_eq!(found, meant, "{job:?} {kind:?} {limit}");
            }
        }
    }
}

pub async fn what_is_claimed_at_once_is_bounded_by_bytes(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let items = ["a", "b", "c", "d"].map(|key| item(key, &text(if key == "c" { 500 } else { 100 }), 0));
    bench.upsert(items.into(), None).await;
    let wish = |place, bytes| ClaimRequest { stage: bench.stage(place), limit: 9, chunk: 3, bytes };
    let claimed = |done: &RoundDone| -> Vec<String> {
        done.leases.iter().flat_map(|lease| &lease.claims).map(|claim| claim.item_key.clone()).collect()
    };
    let mut fences = Vec::new();
    for (bytes, expected, is_drained) in
        [(0, vec!["a"], false), (101, vec!["b", "c"], false), (1000, vec!["d"], true), (1000, vec![], true)]
    {
        let done = bench.round(Vec::new(), vec![wish(0, bytes)]).await;
        assert_eq!(claimed(&done), expected);
        assert_eq!(!done.drained.is_empty(), is_drained, "{bytes}");
        fences.extend(done.leases);
    }
    // The outputs that it needs count as well.
    let settlements = fences.iter().map(|lease| {
        let completion = |claim: &Claim| {
            let text = text(50);
            let output = Some(Output { hash: gristmill_model::Digest::of(text.as_bytes()), text });
            Completion { output, ..bench.completion(claim, Outcome::Done, Disposition::Done) }
        };
        Settlement { fence: lease.fence, completions: lease.claims.iter().map(completion).collect() }
    });
    let done = bench.round(settlements.collect(), vec![wish(1, 301)]).await;
    assert_eq!(claimed(&done), ["a", "b", "c"], "150 bytes each, but for the last");
    assert!(done.drained.is_empty());
    bench.recount().await;
}

pub async fn an_attempt_that_is_refused_is_reported_and_the_others_are_settled(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    let names: Vec<String> = (0..7).map(|number| format!("item-{number}")).collect();
    bench.upsert(names.iter().map(|name| item(name, "1", 0)).collect(), None).await;
    let leases = bench.claim(0, 7, 4).await;
    let settlements = leases.iter().map(|lease| {
        let completion = |claim: &Claim| {
            let mut done = bench.completion(claim, Outcome::Done, Disposition::Done);
            if claim.item_key == "item-2" {
                // Postgres cannot store this text, and SQLite cannot store this number.
                done.charges = vec![("to\0kens".to_owned(), f64::NAN)];
            }
            done
        };
        Settlement { fence: lease.fence, completions: lease.claims.iter().map(completion).collect() }
    });
    let round = Round { host: bench.host, now: bench.now, settlements: settlements.collect(), claims: Vec::new() };
    let done = gristmill_tracker::settle_and_claim(bench.tracker.as_ref(), round).await.expect("a round");
    assert_eq!((done.applied, done.late), (7, 0));
    let mut claims = leases.iter().flat_map(|lease| &lease.claims);
    let key = claims.find(|claim| claim.item_key == "item-2").map(|claim| claim.key).expect("its claim");
    let [(refused, why)] = &done.refused[..] else { panic!("{:?}", done.refused) };
    assert_eq!(*refused, key);
    assert!(why.starts_with("the tracker refused to record this attempt (done, "), "{why}");
    for name in &names {
        let stage = bench.item(name).await.stages.remove(0);
        let (state, error) = if name == "item-2" { (State::Dead, Some(why.as_str())) } else { (State::Done, None) };
        assert_eq!((stage.state, stage.error.as_deref()), (state, error), "{name}");
    }
    bench.recount().await;
}
