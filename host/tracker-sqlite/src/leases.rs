//! Hosts and their leases.
//!
//! Owns heartbeats, giving work back, reaping vanished hosts, and promoting waiting work. Work that is reaped is
//! charged; work that is given back is not. Never decides which host has vanished: the caller says how old a heartbeat
//! may be.

use std::collections::HashMap;
use std::time::Duration;

use gristmill_model::{Fence, HostId, StageId, StageKey, State, Timestamp};
use rusqlite::OptionalExtension;

use super::round::{Attempt, end_lease, record, take};
use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::records::{HostInfo, Lost, Reap, Release};
use gristmill_tracker::rules::cancel::give_up;
use gristmill_tracker::rules::events;
use gristmill_tracker::rules::lose::lose;

pub(super) fn register_host(session: &mut Session<'_>, host: &HostInfo) -> Result<HostId, Fail> {
    session
        .connection
        .prepare_cached(
            "INSERT INTO hosts (name, pid, app_version, started_at, heartbeat_at) VALUES (?1, ?2, ?3, ?4, ?4)",
        )?
        .execute((&host.name, host.pid, &host.app_version, host.now.0))?;
    let id = HostId(session.connection.last_insert_rowid());
    session.note(host.now, &events::host_started(id, host))?;
    Ok(id)
}

pub(super) fn heartbeat(session: &mut Session<'_>, host: HostId, now: Timestamp) -> Result<bool, Fail> {
    let buried: Option<bool> = session
        .connection
        .prepare_cached("SELECT ended_at IS NOT NULL FROM hosts WHERE id = ?1")?
        .query_row([host.0], |row| row.get(0))
        .optional()?;
    session
        .connection
        .prepare_cached("UPDATE hosts SET heartbeat_at = ?2, ended_at = NULL WHERE id = ?1")?
        .execute((host.0, now.0))?;
    session.note_wait(now)?;
    if buried == Some(true) {
        session.note(now, &events::host_back(host))?;
    }
    Ok(buried == Some(false))
}

pub(super) fn retire_host(session: &mut Session<'_>, host: HostId, now: Timestamp) -> Result<(), Fail> {
    session
        .connection
        .prepare_cached("UPDATE hosts SET heartbeat_at = ?2, ended_at = ?2 WHERE id = ?1 AND ended_at IS NULL")?
        .execute((host.0, now.0))?;
    session.note(now, &events::host_ended(host))
}

/// Gives leased work back: ready again with its old claim key, and uncharged. Work of a cancelled item leaves the
/// queue.
pub(super) fn release(session: &mut Session<'_>, releases: &[Release]) -> Result<u64, Fail> {
    let mut released = 0;
    for Release { fence, keys } in releases {
        let mut held = 0;
        for key in keys {
            held += u64::from(give_back(session, *key, *fence)?);
        }
        end_lease(session, *fence, held)?;
        released += held;
    }
    Ok(released)
}

fn give_back(session: &mut Session<'_>, key: StageKey, fence: Fence) -> Result<bool, Fail> {
    let stage: Option<i64> = session
        .connection
        .prepare_cached("SELECT stage_id FROM queue WHERE key = ?1 AND state = 2 AND fence = ?2")?
        .query_row((key.0, fence.0), |row| row.get(0))
        .optional()?;
    let Some(stage) = stage.map(StageId) else { return Ok(false) };
    let item = session.item(key.item())?;
    let job = session.job(stage.job())?;
    if let Some(change) = item.and_then(|item| give_up(&job.dag, item, key.bit())) {
        session.hot.dequeue.execute([key.0])?;
        session.apply(&job, &change, Timestamp(0), None)?;
    } else {
        let back = "UPDATE queue SET state = 1, fence = NULL, superseded = NULL WHERE key = ?1";
        session.connection.prepare_cached(back)?.execute([key.0])?;
        session.tally.moved(stage, State::Leased, State::Ready, 1);
    }
    Ok(true)
}

struct Held {
    fence: Fence,
    host: HostId,
    members: Vec<StageKey>,
}

/// Takes the leases of vanished hosts.
pub(super) fn reap(session: &mut Session<'_>, reap: &Reap) -> Result<Lost, Fail> {
    let mut lost = Lost::default();
    for lease in overdue(session, reap)? {
        lost.leases += 1;
        for key in &lease.members {
            let Some(taken) = take(session, *key, lease.fence)? else { continue };
            let completion = lose(&taken, reap, reap.now);
            let attempt = Attempt { host: lease.host, now: reap.now, started_at: None, completion: &completion };
            record(session, &attempt, &taken)?;
            lost.count(&completion);
        }
        session.connection.prepare_cached("DELETE FROM leases WHERE fence = ?1")?.execute([lease.fence.0])?;
    }
    if lost.leases < u64::from(reap.leases_max) {
        bury_hosts(session, reap)?;
    }
    Ok(lost)
}

/// In the order of fences, which is the order of the table: it needs no index and no sort.
pub(super) const OVERDUE: &str = "SELECT fence, host_id, members FROM leases
    CROSS JOIN hosts ON hosts.id = leases.host_id
    WHERE host_id <> ?1 AND heartbeat_at < ?2 ORDER BY fence LIMIT ?3";

fn overdue(session: &mut Session<'_>, reap: &Reap) -> Result<Vec<Held>, Fail> {
    let mut statement = session.connection.prepare_cached(OVERDUE)?;
    let rows = statement.query_map((reap.host.0, reap.heartbeat_before.0, reap.leases_max), |row| {
        let members: Vec<u8> = row.get(2)?;
        let (members, _) = members.as_chunks::<8>();
        Ok(Held {
            fence: Fence(row.get(0)?),
            host: HostId(row.get(1)?),
            members: members.iter().map(|bytes| StageKey(i64::from_le_bytes(*bytes))).collect(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn bury_hosts(session: &mut Session<'_>, reap: &Reap) -> Result<(), Fail> {
    let gone: Vec<i64> = session
        .connection
        .prepare_cached(
            "UPDATE hosts SET ended_at = ?3 WHERE ended_at IS NULL AND heartbeat_at < ?2 AND id <> ?1 RETURNING id",
        )?
        .query_map((reap.host.0, reap.heartbeat_before.0, reap.now.0), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for host in gone {
        session.note(reap.now, &events::host_lost(HostId(host)))?;
    }
    Ok(())
}

pub(super) const PROMOTE: &str = "UPDATE queue SET state = 1
    WHERE key IN (SELECT key FROM queue WHERE state = 3 AND due_at <= ?1 ORDER BY due_at LIMIT ?2)
    RETURNING stage_id";

/// Makes waiting work ready whose time has come. Its claim key is computed from the time when it was due.
pub(super) fn promote(session: &mut Session<'_>, now: Timestamp, limit: u32) -> Result<u64, Fail> {
    let stages: Vec<i64> = session
        .connection
        .prepare_cached(PROMOTE)?
        .query_map((now.0, limit), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for stage in &stages {
        session.tally.moved(StageId(*stage), State::Waiting, State::Ready, 1);
    }
    Ok(stages.len() as u64)
}

/// Shortens waits that no policy can have set.
pub(super) fn shorten_waits(
    session: &mut Session<'_>,
    longest: &HashMap<StageId, Duration>,
    now: Timestamp,
) -> Result<u64, Fail> {
    let mut shortened = 0;
    for (stage, longest) in longest {
        shortened += session
            .connection
            .prepare_cached(
                "UPDATE queue SET due_at = ?2, claim_key = claim_key - (due_at - ?2)
                 WHERE state = 3 AND due_at > ?2 AND stage_id = ?1",
            )?
            .execute((stage.0, (now + *longest).0))? as u64;
    }
    Ok(shortened)
}
