//! Several hosts on one database: they share the work, hear of each other, and agree on the time.

use std::collections::HashSet;
use std::time::Duration;

use gristmill_model::{Disposition, Outcome, Timestamp};
use gristmill_test_postgres::Server;

use super::super::{PostgresOptions, Scratch};
use super::{open, options};
use gristmill_test_tracker::conformance::{Bench, block_on, item, stage};
use gristmill_tracker::records::{ClaimRequest, Round, Settlement};
use gristmill_tracker::{Ceiling, Error, Reader, Rounds};

/// Runs statements, from wherever.
pub(super) fn execute(url: &str, sql: &str) {
    let work = async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("a connection");
        let driven = tokio::spawn(connection);
        client.batch_execute(sql).await.expect("a statement");
        drop(client);
        let _ = driven.await;
    };
    block_on(work);
}

async fn host(url: &str, options: PostgresOptions) -> Bench {
    let stages =
        vec![stage("fetch", Vec::new()), stage("extract", vec![gristmill_model::Need { stage: 0, output: false }])];
    Bench::with(Box::new(open(url, options).expect("a tracker")), stages).await
}

#[test]
fn two_hosts_share_the_work_and_do_each_piece_once() {
    const ITEMS: usize = 400;
    let database = Server::shared().database();
    block_on(async {
        let hosts = [host(&database.url(), options()).await, host(&database.url(), options()).await];
        hosts[0].upsert((0..ITEMS).map(|n| item(&format!("{n}"), "{}", 0)).collect(), None).await;
        let run = async |bench: &Bench| {
            let (mut seen, mut fences, mut settlements) = (Vec::new(), Vec::new(), Vec::new());
            loop {
                let wish = |place| ClaimRequest { stage: bench.stage(place), limit: 16, chunk: 4, bytes: u64::MAX };
                let round = Round {
                    host: bench.host,
                    now: bench.now,
                    settlements: std::mem::take(&mut settlements),
                    claims: vec![wish(0), wish(1)],
                };
                let is_last = round.settlements.is_empty();
                let done = bench.tracker.round(round.into()).await.expect("a round");
                assert_eq!(done.late, 0);
                if done.leases.is_empty() && is_last && !seen.is_empty() {
                    return (seen, fences);
                }
                for lease in done.leases {
                    fences.push(lease.fence);
                    seen.extend(lease.claims.iter().map(|claim| claim.key));
                    let done = |claim| bench.completion(claim, Outcome::Done, Disposition::Done);
                    let completions = lease.claims.iter().map(done).collect();
                    settlements.push(Settlement { fence: lease.fence, completions });
                }
            }
        };
        let ((first, ours), (second, theirs)) = tokio::join!(run(&hosts[0]), run(&hosts[1]));
        assert!(!first.is_empty() && !second.is_empty(), "both worked");
        let all: HashSet<_> = first.iter().chain(&second).collect();
        assert_eq!((all.len(), first.len() + second.len()), (2 * ITEMS, 2 * ITEMS), "each once");
        let fences: HashSet<_> = ours.iter().chain(&theirs).collect();
        assert_eq!(fences.len(), ours.len() + theirs.len(), "no fence twice");
        let examined = hosts[1].tracker.examine().await.expect("an examination");
        assert_eq!(examined.differences, []);
    });
}

#[test]
fn the_ceiling_writes_what_a_host_would() {
    let database = Server::shared().database();
    let scratch = Scratch::take(&database.url()).expect("an empty database");
    let size = Ceiling { items: 300, stages: 3, batch: 256, data_bytes: 100, output_bytes: 64 };
    crate::ceiling(&size, &scratch, &gristmill_model::SystemClock).expect("a run");
    let count = |table: &str| database.query(&format!("SELECT count(*) FROM gristmill.{table}"));
    assert_eq!((count("attempts"), count("item_stages")), (vec!["900".to_owned()], vec!["900".to_owned()]));
    assert_eq!((count("queue"), count("leases")), (vec!["0".to_owned()], vec!["0".to_owned()]));
    assert!(matches!(Scratch::take(&database.url()), Err(Error::NotEmpty(_))), "it holds something now");
    drop(scratch);
    Scratch::take(&database.url()).expect("an empty database again");
}

#[test]
fn a_host_hears_of_what_another_one_made_ready() {
    let database = Server::shared().database();
    block_on(async {
        let (ours, theirs) = (host(&database.url(), options()).await, host(&database.url(), options()).await);
        // Whatever there was to hear of the beginning.
        while tokio::time::timeout(Duration::from_millis(300), ours.tracker.changed_elsewhere()).await.is_ok() {}
        theirs.discover(&[("a", "1")]).await;
        let heard = tokio::time::timeout(Duration::from_secs(3), ours.tracker.changed_elsewhere());
        heard.await.expect("in time").expect("a wake-up");
    });
}

#[test]
fn the_dag_in_the_database_is_the_truth_for_every_host() {
    let database = Server::shared().database();
    block_on(async {
        let first = host(&database.url(), options()).await;
        first.discover(&[("a", "1")]).await;
        let mut job = gristmill_test_tracker::conformance::registration(vec![stage("fetch", Vec::new())]);
        job.yaml = "edited".to_owned();
        let other = open(&database.url(), options()).expect("a tracker");
        let edited = other.register_job(job).await.expect("a job");
        let mut position = edited.reconcile;
        while let Some(after) = position {
            position = other.reconcile(edited.id, after, 9, first.now).await.expect("a page");
        }
        // The first host was told of a DAG with a second stage: nothing of it is released any more.
        let (fence, claim) = first.claim_one(0).await;
        let done = first.settle(fence, vec![first.completion(&claim, Outcome::Done, Disposition::Done)]).await;
        assert_eq!((done.applied, done.released), (1, 0));
        assert_eq!(other.examine().await.expect("an examination").differences, []);
    });
}

#[test]
fn the_databases_clock_decides_whatever_a_host_believes() {
    let database = Server::shared().database();
    block_on(async {
        let options = PostgresOptions { time: super::Time::Database, ..options() };
        let mut bench = host(&database.url(), options).await;
        // This host's clock stands in 1970.
        bench.now = Timestamp(5);
        bench.discover(&[("a", "1")]).await;
        let (fence, claim) = bench.claim_one(0).await;
        assert!(claim.ready_at > Timestamp(1_600_000_000_000_000), "{}", claim.ready_at);
        let wait = Disposition::Wait(Duration::from_secs(3600));
        bench.settle(fence, vec![bench.completion(&claim, Outcome::Retry, wait)]).await;
        // What is told of it is on this host's clock.
        let due = bench.tracker.outlook().await.expect("an outlook").next_due.expect("something waits");
        assert!(Timestamp(3_500_000_000) < due && due < Timestamp(3_700_000_000), "{due}");
        assert_eq!(bench.tracker.promote(Timestamp(i64::MAX), 9).await.expect("a promotion"), 0, "an hour is an hour");
        let ages = database.query(
            "SELECT abs(extract(epoch FROM clock_timestamp()) * 1000000 + 3600000000 - due_at) < 60000000 FROM gristmill.queue",
        );
        assert_eq!(ages, ["t"]);
    });
}
