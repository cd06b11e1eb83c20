//! Discovery, claims and their order.

use gristmill_model::{ItemStatus, Outcome, State};

use super::{Bench, Open, item};
use gristmill_tracker::records::Upserted;

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
    let wish = ClaimRequest { stage: bench.stage(0), limit: 1, chunk: 64 };
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
    // A step of priority is worth a minute: the last one came two minutes after the first.
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
    use gristmill_model::{DeadReason, Disposition, ItemId};
    use gristmill_tracker::records::{AttemptsFilter, ItemsFilter};
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
    assert_eq!(attempts.iter().map(|row| row.item_key.as_str()).collect::<Vec<_>>(), ["a/2"]);
    bench.recount().await;
}
