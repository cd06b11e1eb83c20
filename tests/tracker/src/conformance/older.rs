//! Tests of a tracker that an older gristmill made.
//!
//! Owns what such a tracker must contain after its migration, on every backend. The fixtures have two jobs of three
//! stages, each with an item in every state, as a killed host left them.

use gristmill_model::{
    Digest, Disposition, ItemId, ItemStatus, Merge, MergePolicy, MergeRule, Outcome, Rediscovery, State, Timestamp,
    VersionId,
};

use super::{NOW, item};
use gristmill_tracker::Tracker;
use gristmill_tracker::records::{
    Claim, ClaimRequest, Completion, HostInfo, ItemsFilter, JobRow, Output, Reap, Round, Settlement, Source, Upsert,
    Upserted,
};
use gristmill_tracker::tables::TABLES;

/// Each item with its status, its data, and the number of its sightings with other data.
const ITEMS: [(&str, ItemStatus, &str, usize); 10] = [
    ("stale", ItemStatus::Active, "new", 2),
    ("changed", ItemStatus::Done, "new", 2),
    ("merely-seen", ItemStatus::Done, "merely-seen", 2),
    ("done", ItemStatus::Done, "done", 1),
    ("dead", ItemStatus::Failed, "dead", 1),
    ("waiting", ItemStatus::Active, "waiting", 1),
    ("skipped", ItemStatus::Done, "skipped", 1),
    ("cancelled", ItemStatus::Cancelled, "cancelled", 1),
    ("leased", ItemStatus::Active, "leased", 1),
    ("ready", ItemStatus::Active, "ready", 1),
];

fn data(of: &str) -> String {
    format!("{{\"url\":\"{of}\"}}")
}

pub async fn it_has_its_contents_and_goes_on(tracker: &dyn Tracker) {
    assert_eq!(tracker.examine().await.expect("an examination").differences, []);
    let jobs = tracker.jobs().await.expect("jobs");
    assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["links", "prices"]);
    for job in &jobs {
        contents(tracker, job).await;
    }
    let pages = TABLES.iter().find(|table| table.name == "pages").expect("a table of pages");
    assert_eq!(tracker.export(pages, None, 99).await.expect("pages").len(), 4, "two of each job");
    let info = HostInfo { name: "new".to_owned(), pid: 8, app_version: "1".to_owned(), now: NOW };
    let host = tracker.register_host(info).await.expect("a host");
    let reap = Reap {
        host,
        now: Timestamp(NOW.0 + 1000),
        heartbeat_before: Timestamp(NOW.0 + 1000),
        leases_max: 9,
        policies: std::collections::HashMap::new(),
    };
    assert_eq!(tracker.reap(reap).await.expect("a reaping").attempts, 2, "what the old host held");
    for job in &jobs {
        let round = |settlements, claims| Round { host, now: NOW, settlements, claims };
        let stage = job.stages[0].0;
        let version = VersionId(if job.name == "prices" { 1 } else { 4 });
        let claim = ClaimRequest { stage, limit: 9, chunk: 9, bytes: u64::MAX };
        let done = tracker.round(round(Vec::new(), vec![claim]).into()).await.expect("a round");
        let mut settlements = Vec::new();
        let mut keys = Vec::new();
        for lease in done.leases {
            keys.extend(lease.claims.iter().map(|claim| (claim.item_key.clone(), claim.data.clone())));
            settlements.push(Settlement {
                fence: lease.fence,
                completions: lease.claims.iter().map(|claim| complete(claim, version)).collect(),
            });
        }
        keys.sort_unstable();
        assert_eq!(keys, [("ready".to_owned(), data("ready")), ("stale".to_owned(), data("new"))]);
        assert_eq!(tracker.round(round(settlements, Vec::new()).into()).await.expect("a round").applied, 2);
        let found = rediscover(tracker, job, &[("merely-seen", "other"), ("done", "done"), ("one-more", "1")]).await;
        assert_eq!(found, Upserted { new: 1, changed: 0, unchanged: 2 });
        let found = rediscover(tracker, job, &[("changed", "newer")]).await;
        assert_eq!(found, Upserted { new: 0, changed: 1, unchanged: 0 });
        let one_more = tracker.item(job.id, "one-more").await.expect("a read").expect("the item");
        assert!(one_more.row.id > ItemId(20), "its number was given to no other item");
    }
    assert_eq!(tracker.examine().await.expect("an examination").differences, []);
}

async fn contents(tracker: &dyn Tracker, job: &JobRow) {
    let filter = ItemsFilter { job: job.id, status: None, prefix: String::new(), after: ItemId(0), limit: 99 };
    let rows = tracker.items(filter.clone()).await.expect("items");
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ITEMS.map(|(key, ..)| key), "in their order");
    for (key, status, of, sightings) in ITEMS {
        let detail = tracker.item(job.id, key).await.expect("a read").expect("the item");
        assert_eq!((detail.row.status, detail.data, detail.priority), (status, data(of), 1), "{key}");
        let cursors: Vec<_> = detail.sightings.iter().filter_map(|sighting| sighting.cursor.as_deref()).collect();
        assert_eq!(cursors.len(), sightings, "{key}");
        assert!(cursors.iter().all(|cursor| ["first", "second"].contains(cursor)), "{cursors:?}");
        let output = detail.stages[1].output.as_deref();
        let has_result = ["stale", "changed", "merely-seen", "done"].contains(&key);
        assert_eq!(output, has_result.then(|| format!("{{\"of\":\"{key}\"}}")).as_deref(), "{key}");
        let rows = tracker.items(ItemsFilter { prefix: key.to_owned(), ..filter.clone() }).await.expect("items");
        assert_eq!(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), [key]);
    }
    let failed = tracker.items(ItemsFilter { status: Some(ItemStatus::Failed), ..filter }).await.expect("items");
    assert_eq!(failed.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["dead"]);
    let dead = tracker.item(job.id, "dead").await.expect("a read").expect("the item");
    assert_eq!((dead.stages[0].state, dead.stages[0].attempts.len()), (State::Dead, 1));
    let waiting = tracker.item(job.id, "waiting").await.expect("a read").expect("the item");
    assert_eq!(waiting.stages[0].state, State::Waiting);
}

fn complete(claim: &Claim, version: VersionId) -> Completion {
    let text = "{}".to_owned();
    Completion {
        key: claim.key,
        version,
        outcome: Outcome::Done,
        disposition: Disposition::Done,
        output: Some(Output { hash: Digest::of(text.as_bytes()), text }),
        input_hash: claim.data_hash,
        error: None,
        log: None,
        ready_at: claim.ready_at,
        started_at: NOW,
        ended_at: NOW,
        memory_bytes_max: 0,
        charges: Vec::new(),
    }
}

async fn rediscover(tracker: &dyn Tracker, job: &JobRow, found: &[(&str, &str)]) -> Upserted {
    let merge = if found.len() == 1 {
        Merge::Replace
    } else {
        Merge::Fields(MergePolicy { fields: [("url".to_owned(), MergeRule::First)].into() })
    };
    let items = found.iter().map(|(key, of)| item(key, &data(of), 1)).collect();
    let source = Source::Page { cursor: Some("third".to_owned()), next: None };
    let rediscovery = Rediscovery { merge, ..Rediscovery::default() };
    tracker.upsert(Upsert { job: job.id, items, source, rediscovery, now: NOW }).await.expect("a page")
}
