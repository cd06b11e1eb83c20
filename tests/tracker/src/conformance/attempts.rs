//! Tests of claimed work: settled, given back, lost.

use std::collections::HashMap;
use std::time::Duration;

use gristmill_model::{DeadReason, Disposition, Fence, ItemStatus, Need, Outcome, RetryPolicy, State, Timestamp};

use super::{Bench, NOW, Open, stage};
use gristmill_tracker::records::{HostInfo, Lost, Reap, Release};

const DIAMOND: [(&str, &[usize]); 4] = [("fetch", &[]), ("price", &[0]), ("score", &[0]), ("report", &[1, 2])];

pub async fn a_diamond_runs_each_stage_once(open: Open<'_>) {
    let bench = Bench::new(open, &DIAMOND).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    assert_eq!(bench.states("a").await, [State::Done, State::Ready, State::Ready, State::Blocked]);
    bench.done(1).await;
    assert_eq!(bench.item("a").await.stages[3].blocked_by, ["score"]);
    bench.done(2).await;
    let report = bench.done(3).await;
    let given: Vec<&str> = report.upstream.iter().map(|upstream| upstream.output.text.as_str()).collect();
    assert_eq!(given, ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    bench.recount().await;
}

pub async fn both_sides_of_a_fan_in_in_one_round_release_it_once(open: Open<'_>) {
    let bench = Bench::new(open, &DIAMOND).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    let mut settlements = Vec::new();
    for place in [1, 2] {
        let (fence, claim) = bench.claim_one(place).await;
        let completions = vec![bench.completion(&claim, Outcome::Done, Disposition::Done)];
        settlements.push(gristmill_tracker::records::Settlement { fence, completions });
    }
    let done = bench.round(settlements, Vec::new()).await;
    assert_eq!((done.applied, done.released), (2, 1));
    assert_eq!(bench.claim(3, 9, 9).await.len(), 1);
    bench.recount().await;
}

pub async fn a_completion_under_another_fence_is_late(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    let (fence, claim) = bench.claim_one(0).await;
    let completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
    let late = bench.settle(Fence(fence.0 + 1), vec![completion.clone()]).await;
    assert_eq!((late.applied, late.late), (0, 1));
    assert_eq!(bench.states("a").await, [State::Leased]);
    let done = bench.settle(fence, vec![completion.clone()]).await;
    assert_eq!((done.applied, done.late), (1, 0));
    let again = bench.settle(fence, vec![completion]).await;
    assert_eq!((again.applied, again.late), (0, 1));
    assert_eq!(bench.item("a").await.stages[0].attempts.len(), 1, "recorded exactly once");
    bench.recount().await;
}

pub async fn waiting_work_comes_back_when_it_is_due(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.pass(0, Outcome::Retry, Disposition::Wait(Duration::from_secs(5))).await;
    assert_eq!(bench.states("a").await, [State::Waiting]);
    let due = Timestamp(bench.now.0 + 5_000_000);
    assert_eq!(bench.tracker.outlook().await.expect("a read").next_due, Some(due));
    assert_eq!(bench.tracker.promote(Timestamp(due.0 - 1), 9).await.expect("a promotion"), 0);
    assert!(bench.claim(0, 9, 9).await.is_empty());
    bench.recount().await;
    assert_eq!(bench.tracker.promote(due, 9).await.expect("a promotion"), 1);
    let (fence, claim) = bench.claim_one(0).await;
    assert_eq!((claim.counters.attempts, claim.counters.deferrals, claim.counters.lost), (1, 0, 0));
    bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    let outcomes: Vec<Outcome> = bench.item("a").await.stages[0].attempts.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Retry], "the newest first");
    bench.recount().await;
}

pub async fn a_dead_stage_blocks_its_descendants_only(open: Open<'_>) {
    let bench = Bench::new(open, &DIAMOND).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    bench.pass(1, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Active, "a sibling goes on");
    bench.done(2).await;
    let item = bench.item("a").await;
    assert_eq!(item.row.status, ItemStatus::Failed);
    assert_eq!(item.stages[1].reason, Some(DeadReason::Permanent));
    assert_eq!(item.stages[3].state, State::Blocked);
    assert_eq!(item.stages[3].blocked_by, ["price"]);
    bench.recount().await;
}

pub async fn a_skipped_stage_takes_along_who_needs_its_output(open: Open<'_>) {
    let need = |place, output| vec![Need { stage: place, output }];
    let stages = vec![
        stage("fetch", vec![]),
        stage("extract", need(0, true)),
        stage("index", need(1, true)),
        stage("note", need(0, false)),
        stage("report", need(2, false)),
    ];
    let bench = Bench::with(open(), stages).await;
    bench.discover(&[("a", "1")]).await;
    bench.pass(0, Outcome::Skipped, Disposition::Skipped).await;
    // The report needs a stage that was skipped along, but can do without its output.
    let expected = [State::Skipped, State::Skipped, State::Skipped, State::Ready, State::Ready];
    assert_eq!(bench.states("a").await, expected);
    let claim = bench.done(3).await;
    assert!(claim.upstream.is_empty(), "a skipped stage has no output");
    bench.done(4).await;
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    bench.recount().await;
}

pub async fn released_work_is_not_charged(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    let lease = bench.claim(0, 2, 2).await.remove(0);
    let keys: Vec<_> = lease.claims.iter().map(|claim| claim.key).collect();
    let release = Release { fence: lease.fence, keys: keys.clone() };
    assert_eq!(bench.tracker.release(vec![release.clone()]).await.expect("a release"), 2);
    assert_eq!(bench.tracker.release(vec![release]).await.expect("a release"), 0, "nothing is held any more");
    let (_, claim) = bench.claim_one(0).await;
    assert_eq!(claim.counters, gristmill_model::Counters::default());
    assert!(bench.item("a").await.stages[0].attempts.is_empty());
    bench.recount().await;
}

/// Gives up every other host, as one that runs the bench's job does.
pub async fn reap(bench: &Bench, by: gristmill_model::HostId) -> Lost {
    let reap = Reap {
        host: by,
        now: bench.now,
        heartbeat_before: Timestamp(bench.now.0 + 1),
        leases_max: 100,
        policies: bench.job.stages.iter().map(|stage| (stage.id, RetryPolicy::default())).collect(),
    };
    bench.tracker.reap(reap).await.expect("a reaping")
}

pub async fn work_of_a_vanished_host_is_charged_and_comes_back(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    bench.discover(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
    for losses in 1..=3 {
        // The suspects of an earlier loss come in leases of their own.
        let leases = bench.claim(0, 9, 9).await;
        let sizes: Vec<usize> = leases.iter().map(|lease| lease.claims.len()).collect();
        assert_eq!(sizes, if losses == 1 { vec![3] } else { vec![1, 1, 1] });
        let dead = bench.host;
        let info = gristmill_tracker::records::HostInfo {
            name: "next".to_owned(),
            pid: 2,
            app_version: "0".to_owned(),
            now: bench.now,
        };
        bench.host = bench.tracker.register_host(info).await.expect("a host");
        let lost = reap(&bench, bench.host).await;
        assert_eq!((lost.attempts, lost.dead), (3, if losses == 3 { 3 } else { 0 }));
        assert_eq!(reap(&bench, bench.host).await, Lost::default());
        // What the vanished host says afterwards does not count.
        let late = leases.iter().flat_map(|lease| lease.claims.iter().map(move |claim| (lease.fence, claim)));
        for (fence, claim) in late {
            let round = gristmill_tracker::records::Round {
                host: dead,
                now: bench.now,
                settlements: vec![gristmill_tracker::records::Settlement {
                    fence,
                    completions: vec![bench.completion(claim, Outcome::Done, Disposition::Done)],
                }],
                claims: Vec::new(),
            };
            assert_eq!(bench.tracker.round(round.into()).await.expect("a round").late, 1);
        }
        bench.recount().await;
        bench.now.0 += 3_600_000_000;
        bench.tracker.promote(bench.now, 100).await.expect("a promotion");
    }
    let item = bench.item("a").await;
    assert_eq!(item.stages[0].reason, Some(DeadReason::Poison));
    assert_eq!(item.stages[0].attempts.len(), 3);
    assert!(item.stages[0].attempts.iter().all(|row| row.outcome == Outcome::Lost && row.started_at.is_none()));
}

pub async fn a_live_host_keeps_its_work_however_long_it_takes(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    let (fence, claim) = bench.claim_one(0).await;
    let info = HostInfo { name: "other".to_owned(), pid: 2, app_version: "0".to_owned(), now: bench.now };
    let other = bench.tracker.register_host(info).await.expect("a host");
    bench.now.0 += 86_400_000_000;
    assert_eq!(reap(&bench, bench.host).await, Lost::default(), "nobody reaps itself");
    assert!(bench.tracker.heartbeat(bench.host, bench.now).await.expect("a heartbeat"));
    let before = Timestamp(bench.now.0 - 1);
    let patient =
        Reap { host: other, now: bench.now, heartbeat_before: before, leases_max: 9, policies: HashMap::new() };
    assert_eq!(bench.tracker.reap(patient).await.expect("a reaping"), Lost::default());
    let done = bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    assert_eq!((done.applied, done.late), (1, 0));
    bench.recount().await;
}

pub async fn where_nobody_else_can_be_alive_no_clock_is_asked(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.claim_one(0).await;
    // Its clock was a day ahead.
    let ahead = Timestamp(bench.now.0 + 86_400_000_000);
    bench.tracker.heartbeat(bench.host, ahead).await.expect("a heartbeat");
    let info = HostInfo { name: "next".to_owned(), pid: 2, app_version: "0".to_owned(), now: bench.now };
    bench.host = bench.tracker.register_host(info).await.expect("a host");
    let all = Timestamp(i64::MAX);
    let owner =
        Reap { host: bench.host, now: bench.now, heartbeat_before: all, leases_max: 9, policies: HashMap::new() };
    assert_eq!(bench.tracker.reap(owner).await.expect("a reaping").attempts, 1);
    bench.recount().await;
}

pub async fn a_fence_never_comes_back(open: Open<'_>) {
    let mut last = Fence(0);
    for round in 0..3 {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        let key = format!("item-{round}");
        bench.discover(&[(&key, "1")]).await;
        let (fence, claim) = bench.claim_one(0).await;
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    }
}

pub async fn charges_add_up(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "1")]).await;
    for amount in [1.5, 2.0] {
        let (fence, claim) = bench.claim_one(0).await;
        let mut completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
        completion.charges = vec![("tokens".to_owned(), amount), ("requests".to_owned(), 1.0)];
        bench.settle(fence, vec![completion]).await;
    }
    let stats = bench.tracker.stats(bench.job.id).await.expect("counters");
    assert_eq!(stats.charges, [("requests".to_owned(), 2.0), ("tokens".to_owned(), 3.5)]);
    let attempts = bench.item("a").await.stages.remove(0).attempts;
    assert_eq!(attempts[0].charges, [("tokens".to_owned(), 1.5), ("requests".to_owned(), 1.0)]);
}

pub async fn a_wait_that_no_policy_can_have_set_is_brought_forward(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[]), ("note", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    // The clock is a day ahead, and then it is put right.
    bench.now = NOW + Duration::from_hours(24);
    for place in [0, 1] {
        bench.pass(place, Outcome::Retry, Disposition::Wait(Duration::from_secs(3))).await;
    }
    let longest = HashMap::from([(bench.stage(0), Duration::from_secs(5))]);
    let shortened = bench.tracker.shorten_waits(longest.clone(), NOW).await.expect("shorter waits");
    assert_eq!(shortened, 1, "of the other stage nothing is said");
    let due = async |place: usize| bench.item("a").await.stages[place].due_at.expect("it waits");
    assert_eq!(due(0).await, NOW + Duration::from_secs(5));
    assert_eq!(due(1).await, bench.now + Duration::from_secs(3));
    assert_eq!(bench.tracker.shorten_waits(longest, NOW).await.expect("shorter waits"), 0);
    assert_eq!(bench.tracker.promote(NOW + Duration::from_secs(5), 9).await.expect("a promotion"), 1);
    bench.recount().await;
}
