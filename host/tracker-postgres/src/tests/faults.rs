//! Connections that break, servers that stop, networks that fall silent: afterwards a batch is applied completely or
//! not at all, applied completions are reported as applied, and no lease is without a host.

use std::time::Duration;

use gristmill_model::{DeadReason, Disposition, Outcome, State};
use gristmill_test_postgres::{Database, Server, Setup};

use super::super::PostgresOptions;
use super::proxy::Proxy;
use super::{open, options};
use gristmill_test_tracker::conformance::{Bench, block_on, item, stage};
use gristmill_tracker::Error;
use gristmill_tracker::records::{ClaimRequest, DeadFilter, Redrive, Settlement};

/// More messages than any of the operations here sends.
const MESSAGES_MAX: i64 = 1000;

const END_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'gristmill' AND datname = current_database()";

async fn bench(url: &str, options: PostgresOptions) -> Bench {
    let stages =
        vec![stage("fetch", Vec::new()), stage("extract", vec![gristmill_model::Need { stage: 0, output: false }])];
    Bench::with(Box::new(open(url, options).expect("a tracker")), stages).await
}

fn through_a_proxy(database: &Database<'_>) -> (Proxy, String) {
    let address = Server::shared().address();
    let proxy = Proxy::to(address);
    let url = proxy.url(&database.url(), address);
    (proxy, url)
}

async fn is_consistent(bench: &Bench, leases: u64) {
    let examined = bench.tracker.examine().await.expect("an examination");
    assert_eq!(examined.differences, []);
    assert_eq!(bench.tracker.outlook().await.expect("an outlook").leases, leases, "nothing is leased to nobody");
}

#[test]
fn a_round_that_is_cut_anywhere_is_whole_and_told_as_it_is() {
    let database = Server::shared().database();
    let (proxy, url) = through_a_proxy(&database);
    block_on(async {
        let bench = bench(&url, options()).await;
        let mut n = 1;
        loop {
            // Two items of an earlier round are settled, and two new ones claimed.
            let keys = [format!("{n}-a"), format!("{n}-b"), format!("{n}-c"), format!("{n}-d")];
            bench.upsert(keys.iter().map(|key| item(key, "{}", 0)).collect(), None).await;
            let leases = bench.claim(0, 2, 2).await;
            let fence = leases[0].fence;
            let completions = leases[0]
                .claims
                .iter()
                .map(|claim| bench.completion(claim, Outcome::Done, Disposition::Done))
                .collect();
            let wish = ClaimRequest { stage: bench.stage(0), limit: 2, chunk: 2, bytes: u64::MAX };
            proxy.cut_behind(n);
            let done = bench.round(vec![Settlement { fence, completions }], vec![wish]).await;
            let was_cut = !proxy.call_off();
            assert_eq!((done.applied, done.late, done.released), (2, 0, 2), "cut behind message {n}");
            assert_eq!(done.leases.iter().map(|lease| lease.claims.len()).collect::<Vec<_>>(), [2]);
            is_consistent(&bench, 1).await;
            for lease in done.leases {
                let keys = lease.claims.iter().map(|claim| claim.key).collect();
                let release = gristmill_tracker::records::Release { fence: lease.fence, keys };
                assert_eq!(bench.tracker.release(vec![release]).await.expect("a release"), 2);
            }
            // The next round finds two ready ones again that are older than its own.
            for _ in 0..2 {
                bench.done(0).await;
            }
            if !was_cut {
                break;
            }
            n += 1;
            assert!(n < MESSAGES_MAX, "the round ends");
        }
        assert!(n > 30, "it was cut in {n} places");
    });
}

#[test]
fn an_upsert_that_is_cut_anywhere_is_whole() {
    let database = Server::shared().database();
    let (proxy, url) = through_a_proxy(&database);
    block_on(async {
        let bench = bench(&url, options()).await;
        bench.upsert(vec![item("old", "0", 0)], None).await;
        let mut n = 1;
        loop {
            let data = format!("{n}");
            proxy.cut_behind(n);
            let page = vec![item(&format!("{n}"), "{}", 0), item("old", &data, 0)];
            let done = bench.upsert(page, Some(&data)).await;
            let was_cut = !proxy.call_off();
            assert_eq!((done.new, done.changed, done.unchanged), (1, 1, 0), "cut behind message {n}");
            is_consistent(&bench, 0).await;
            if !was_cut {
                break;
            }
            n += 1;
            assert!(n < MESSAGES_MAX, "the upsert ends");
        }
        assert!(n > 15, "it was cut in {n} places");
        assert_eq!(database.query("SELECT cursor FROM gristmill.cursors"), [format!("{n}")]);
    });
}

#[test]
fn a_redrive_that_is_cut_anywhere_is_done_once() {
    let database = Server::shared().database();
    let (proxy, url) = through_a_proxy(&database);
    block_on(async {
        let bench = bench(&url, options()).await;
        bench.upsert(vec![item("a", "{}", 0), item("b", "{}", 0)], None).await;
        let mut n = 1;
        loop {
            for _ in 0..2 {
                bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
            }
            let redrive = Redrive {
                filter: DeadFilter::all(bench.job.id),
                limit: 9,
                rate: None,
                actor: "test".to_owned(),
                why: "to see".to_owned(),
                now: bench.now,
            };
            let operation = bench.tracker.begin_redrive(redrive).await.expect("an operation");
            proxy.cut_behind(n);
            let stepped = bench.tracker.step_operation(operation.id, 9, bench.now).await.expect("a step");
            let was_cut = !proxy.call_off();
            assert_eq!((stepped.planned, stepped.done), (2, 2), "cut behind message {n}");
            assert_eq!(bench.states("a").await, [State::Ready, State::Blocked]);
            is_consistent(&bench, 0).await;
            if !was_cut {
                break;
            }
            n += 1;
            assert!(n < MESSAGES_MAX, "the step ends");
        }
        assert!(n > 20, "it was cut in {n} places");
        let events = database.query("SELECT count(*) FROM gristmill.events WHERE kind = 'stage.redriven'");
        assert_eq!(events, [format!("{}", 2 * n)], "an event each, once");
    });
}

#[test]
fn connections_that_were_ended_are_opened_again() {
    let database = Server::shared().database();
    block_on(async {
        let bench = bench(&database.url(), options()).await;
        bench.upsert((0..20).map(|n| item(&format!("{n}"), "{}", 0)).collect(), None).await;
        for _ in 0..5 {
            database.execute(END_ALL);
            bench.done(0).await;
            // While it is under way.
            let ended = tokio::task::spawn_blocking({
                let url = database.url();
                move || super::hosts::execute(&url, END_ALL)
            });
            let (claim, ended) = tokio::join!(bench.done(0), ended);
            ended.expect("a thread");
            assert_eq!(claim.counters.attempts, 0);
        }
        is_consistent(&bench, 0).await;
    });
}

#[test]
fn a_server_that_is_stopped_and_started_is_waited_for() {
    // What was committed is there after a crash.
    let mut server = Server::start_with(Setup { synchronous_commit: true });
    let name = {
        let database = server.database();
        let name = database.name().to_owned();
        std::mem::forget(database);
        name
    };
    let url = server.url(&name);
    block_on(async {
        let bench = bench(&url, options()).await;
        bench.upsert(vec![item("a", "{}", 0), item("b", "{}", 0)], None).await;
        let (fence, claim) = bench.claim_one(0).await;
        server.stop();
        let completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
        let settled = bench.settle(fence, vec![completion]);
        let started = tokio::task::spawn_blocking(move || {
            server.start_again();
            server
        });
        let (done, server) = tokio::join!(settled, started);
        assert_eq!((done.applied, done.late), (1, 0));
        is_consistent(&bench, 0).await;
        drop(server);
    });
}

#[test]
fn a_server_that_stays_away_is_given_up_in_the_end() {
    let mut server = Server::start();
    let database = server.database();
    let url = database.url();
    std::mem::forget(database);
    block_on(async {
        let options =
            PostgresOptions { patience: Duration::from_secs(3), answer_within: Duration::from_secs(3), ..options() };
        let bench = bench(&url, options).await;
        server.stop();
        match bench.tracker.promote(bench.now, 1).await {
            Err(Error::Unreachable { place, .. }) => assert!(!place.contains("between-us"), "{place}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(bench.tracker.jobs().await, Err(Error::Unreachable { .. })));
    });
}

#[test]
fn a_connection_that_falls_silent_is_replaced() {
    let database = Server::shared().database();
    let (proxy, url) = through_a_proxy(&database);
    block_on(async {
        let options = PostgresOptions { answer_within: Duration::from_millis(1500), ..options() };
        let bench = bench(&url, options).await;
        bench.upsert(vec![item("a", "{}", 0), item("b", "{}", 0)], None).await;
        let (fence, claim) = bench.claim_one(0).await;
        proxy.fall_silent();
        let done = bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
        assert_eq!((done.applied, done.late), (1, 0));
        is_consistent(&bench, 0).await;
    });
}
