//! Hosts and their leases.
//!
//! Owns heartbeats, giving work back, reaping vanished hosts, and promoting waiting work. Work that is reaped is
//! charged; work that is given back is not. Never decides which host has vanished: the caller says how old a heartbeat
//! may be.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use gristmill_model::{Fence, HostId, StageId, StageKey, State, Timestamp};

use super::changes::{Changes, items_of, lock_items};
use super::fail::Fail;
use super::record::{ATTEMPT_IDS, Attempt, Batch, TAKE, read_taken, shrink_leases};
use super::tx::{Lock, Tx};
use gristmill_tracker::records::{Completion, HostInfo, Lost, Reap, Release};
use gristmill_tracker::rules::cancel::give_up;
use gristmill_tracker::rules::events::{self, Event};
use gristmill_tracker::rules::lose::lose;
use gristmill_tracker::rules::{Item, Taken};

/// The row of a server process is kept for a day after its last commit.
const FORGET_COMMITS: &str =
    "DELETE FROM commits WHERE at < (extract(epoch FROM clock_timestamp() - interval '1 day') * 1000000)::bigint";
const REGISTER: &str = "INSERT INTO hosts (name, pid, app_version, started_at, heartbeat_at)
    VALUES ($1, $2, $3, $4, $4) RETURNING id";
const BEAT: &str = "UPDATE hosts SET heartbeat_at = $2, ended_at = NULL
    FROM (SELECT id, ended_at FROM hosts WHERE id = $1 FOR UPDATE) AS before
    WHERE hosts.id = before.id RETURNING before.ended_at IS NOT NULL";
const RETIRE: &str = "UPDATE hosts SET heartbeat_at = $2, ended_at = $2 WHERE id = $1 AND ended_at IS NULL";
const GIVE_BACK: &str =
    "UPDATE queue SET state = 1, fence = NULL, superseded = false FROM unnest($1::bigint[], $2::bigint[]) AS u (k, f)
    WHERE key = k AND state = 2 AND fence = f RETURNING key, f, stage_id, claim_key";
const GIVE_UP: &str = "DELETE FROM queue USING unnest($1::bigint[], $2::bigint[]) AS u (k, f)
    WHERE key = k AND state = 2 AND fence = f RETURNING key, f, stage_id";
pub(super) const OVERDUE: &str = "SELECT fence, host_id, members FROM leases JOIN hosts ON hosts.id = leases.host_id
    WHERE host_id <> $1 AND heartbeat_at < $2 ORDER BY fence LIMIT $3";
const BURY: &str =
    "UPDATE hosts SET ended_at = $3 WHERE ended_at IS NULL AND heartbeat_at < $2 AND id <> $1 RETURNING id";
pub(super) const PROMOTE: &str = "WITH due AS MATERIALIZED (
        SELECT key FROM queue WHERE state = 3 AND due_at <= $1 ORDER BY due_at, key LIMIT $2 FOR UPDATE SKIP LOCKED
    ) UPDATE queue SET state = 1 FROM due WHERE queue.key = due.key RETURNING stage_id, claim_key";

const SHORTEN_WAITS: &str = "UPDATE queue SET due_at = latest, claim_key = claim_key - (due_at - latest)
    FROM unnest($1::bigint[], $2::bigint[]) AS u (stage, latest)
    WHERE state = 3 AND stage_id = stage AND due_at > latest";

pub(super) async fn register_host(tx: &Tx<'_>, host: &HostInfo) -> Result<HostId, Fail> {
    tx.begin(Lock::Shared, host.now).await?;
    let now = tx.now().0;
    tx.execute(FORGET_COMMITS, &[]).await?;
    let rows = tx.query_writing(REGISTER, &[&host.name, &i64::from(host.pid), &host.app_version, &now]).await?;
    let id = HostId(rows.first().map_or(0, |row| row.get(0)));
    tx.note(&events::host_started(id, host)).await?;
    tx.core.slot.set(id.0 % i64::from(super::SLOTS));
    Ok(id)
}

pub(super) async fn heartbeat(tx: &Tx<'_>, host: HostId, now: Timestamp) -> Result<bool, Fail> {
    tx.begin(Lock::Shared, now).await?;
    let rows = tx.query_writing(BEAT, &[&host.0, &tx.now().0]).await?;
    let was_buried: Option<bool> = rows.first().map(|row| row.get(0));
    if was_buried == Some(true) {
        tx.note(&events::host_back(host)).await?;
    }
    Ok(was_buried == Some(false))
}

pub(super) async fn retire_host(tx: &Tx<'_>, host: HostId, now: Timestamp) -> Result<(), Fail> {
    tx.begin(Lock::Shared, now).await?;
    tx.execute(RETIRE, &[&host.0, &tx.now().0]).await?;
    tx.note(&events::host_ended(host)).await
}

/// Gives leased work back: ready again with its old claim key, and uncharged. Work of a cancelled item leaves the
/// queue.
pub(super) async fn release(tx: &Tx<'_>, releases: &[Release]) -> Result<u64, Fail> {
    tx.begin(Lock::Shared, None).await?;
    let pairs = releases.iter().flat_map(|Release { fence, keys }| keys.iter().map(|key| (*key, fence.0)));
    let mut items = lock_items(tx, &items_of(pairs.clone().map(|(key, _)| key))).await?;
    let give_up = |item: Option<&Item>, key: StageKey| {
        let item = item?;
        give_up(&*tx.dag(item.job).ok()?, *item, key.bit())
    };
    let leaves = |key: StageKey| give_up(items.get(&key.item()), key).is_some();
    let (given_up, given_back): (Vec<_>, Vec<_>) = pairs.partition(|(key, _)| leaves(*key));
    let mut settled: BTreeMap<i64, i64> = BTreeMap::new();
    let mut released = 0;
    let mut changes = Changes::default();
    for (sql, pairs) in [(GIVE_BACK, given_back), (GIVE_UP, given_up)] {
        let (keys, fences): (Vec<i64>, Vec<i64>) = pairs.into_iter().map(|(key, fence)| (key.0, fence)).unzip();
        if keys.is_empty() {
            continue;
        }
        for row in tx.query_writing(sql, &[&keys, &fences]).await? {
            let (key, stage) = (StageKey(row.get(0)), StageId(row.get(2)));
            *settled.entry(row.get(1)).or_default() += 1;
            released += 1;
            if sql == GIVE_BACK {
                tx.core.marks.lower(stage, row.get(3));
                tx.count_stage(stage, State::Leased, -1);
                tx.count_stage(stage, State::Ready, 1);
            } else if let Some(change) = give_up(items.get(&key.item()), key) {
                items.insert(key.item(), change.after);
                changes.push(tx, &*tx.dag(stage.job())?, &change, None);
            }
        }
    }
    changes.write(tx).await?;
    shrink_leases(tx, &settled).await?;
    Ok(released)
}

struct Held {
    fence: Fence,
    host: HostId,
    members: Vec<StageKey>,
}

/// Takes the leases of vanished hosts.
pub(super) async fn reap(tx: &Tx<'_>, reap: &Reap) -> Result<Lost, Fail> {
    tx.begin(Lock::Shared, reap.now).await?;
    let (now, before) = (tx.now(), tx.shifted(reap.heartbeat_before));
    let overdue = tx.query(OVERDUE, &[&reap.host.0, &before.0, &i64::from(reap.leases_max)]).await?;
    let held: Vec<Held> = overdue
        .iter()
        .map(|row| Held {
            fence: Fence(row.get(0)),
            host: HostId(row.get(1)),
            members: row.get::<_, Vec<i64>>(2).into_iter().map(StageKey).collect(),
        })
        .collect();
    let mut lost = Lost { leases: held.len() as u64, ..Lost::default() };
    if !held.is_empty() {
        Box::pin(take_away(tx, reap, &held, &mut lost)).await?;
    }
    if lost.leases < u64::from(reap.leases_max) {
        let gone = tx.query_writing(BURY, &[&reap.host.0, &before.0, &now.0]).await?;
        let gone: Vec<Event<'_>> = gone.iter().map(|row| events::host_lost(HostId(row.get(0)))).collect();
        tx.note_all(&gone).await?;
    }
    Ok(lost)
}

async fn take_away(tx: &Tx<'_>, reap: &Reap, held: &[Held], lost: &mut Lost) -> Result<(), Fail> {
    let hosts: HashMap<Fence, HostId> = held.iter().map(|lease| (lease.fence, lease.host)).collect();
    let members = held.iter().flat_map(|lease| lease.members.iter().map(|key| (key.0, lease.fence.0)));
    let (keys, fences): (Vec<i64>, Vec<i64>) = members.unzip();
    let items = lock_items(tx, &items_of(keys.iter().copied().map(StageKey))).await?;
    let mut taken: Vec<Taken> = tx.query_writing(TAKE, &[&keys, &fences]).await?.iter().map(read_taken).collect();
    // In the order of the leases.
    let place: HashMap<(i64, i64), usize> =
        keys.iter().copied().zip(fences.iter().copied()).enumerate().map(|(place, pair)| (pair, place)).collect();
    taken.sort_by_key(|taken| place.get(&(taken.key.0, taken.fence.0)).copied());
    let ids = tx.query(ATTEMPT_IDS, &[&(taken.len() as i64)]).await?;
    let completions: Vec<Completion> = taken.iter().map(|taken| lose(taken, reap, tx.now())).collect();
    for completion in &completions {
        lost.count(completion);
    }
    let attempts: Vec<Attempt<'_>> = taken
        .into_iter()
        .zip(&completions)
        .map(|(taken, completion)| Attempt {
            host: hosts.get(&taken.fence).copied().unwrap_or(HostId(0)),
            started_at: None,
            completion,
            taken,
        })
        .collect();
    let mut batch = Batch::new(items, &ids);
    batch.record(tx, &attempts).await?;
    batch.prepare(tx).await?.write(tx).await?;
    let fences: Vec<i64> = held.iter().map(|lease| lease.fence.0).collect();
    tx.execute("DELETE FROM leases WHERE fence = ANY ($1)", &[&fences]).await?;
    Ok(())
}

/// Makes waiting work ready whose time has come. Its claim key is computed from the time when it was due.
pub(super) async fn promote(tx: &Tx<'_>, now: Timestamp, limit: u32) -> Result<u64, Fail> {
    tx.begin(Lock::Shared, now).await?;
    let rows = tx.query_writing(PROMOTE, &[&tx.now().0, &i64::from(limit)]).await?;
    for row in &rows {
        let stage = StageId(row.get(0));
        tx.core.marks.lower(stage, row.get(1));
        tx.count_stage(stage, State::Waiting, -1);
        tx.count_stage(stage, State::Ready, 1);
    }
    Ok(rows.len() as u64)
}

/// Shortens waits that no policy can have set.
pub(super) async fn shorten_waits(
    tx: &Tx<'_>,
    longest: &HashMap<StageId, Duration>,
    now: Timestamp,
) -> Result<u64, Fail> {
    tx.begin(Lock::Shared, now).await?;
    let due = |longest: &Duration| (tx.now() + *longest).0;
    let (stages, latest): (Vec<i64>, Vec<i64>) = longest.iter().map(|(stage, longest)| (stage.0, due(longest))).unzip();
    tx.execute(SHORTEN_WAITS, &[&stages, &latest]).await
}
