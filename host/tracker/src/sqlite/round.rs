//! Settle and claim: the loop's one transaction.
//!
//! Owns the order of a round: settle, release, claim. Every write to leased work matches the fence. Never decides
//! what an outcome leads to: a completion carries its disposition.

use gristmill_model::{
    Bits, Counters, DeadReason, Digest, Disposition, Fence, HostId, ItemStatus, Masks, StageBit, StageId, StageKey,
    State, Timestamp,
};
use rusqlite::OptionalExtension;

use super::session::{ItemMasks, Session, Taken, claim_key};
use crate::Error;
use crate::records::{Claim, ClaimRequest, Completion, Lease, Output, Round, RoundDone, Settlement, Upstream};

const MICROS_PER_DAY: i64 = 86_400_000_000;

pub(super) fn round(session: &mut Session<'_>, round: &Round) -> Result<RoundDone, Error> {
    let mut done = RoundDone::default();
    for settlement in &round.settlements {
        settle(session, round, settlement, &mut done)?;
    }
    for request in &round.claims {
        let claimed = claim(session, round, request, &mut done.leases)?;
        if claimed < request.limit {
            done.drained.push(request.stage);
        }
    }
    Ok(done)
}

fn settle(
    session: &mut Session<'_>,
    round: &Round,
    settlement: &Settlement,
    done: &mut RoundDone,
) -> Result<(), Error> {
    let mut applied = 0;
    for completion in &settlement.completions {
        let Some(taken) = take(session, completion.key, settlement.fence)? else {
            done.late += 1;
            continue;
        };
        let attempt = Attempt {
            host: round.host,
            fence: settlement.fence,
            now: round.now,
            started_at: Some(completion.started_at),
            completion,
        };
        done.released += record(session, &attempt, &taken)?;
        applied += 1;
    }
    done.applied += applied;
    end_lease(session, settlement.fence, applied)
}

/// Takes a leased stage out of the queue; none if its fence is another one by now.
pub(super) fn take(session: &mut Session<'_>, key: StageKey, fence: Fence) -> Result<Option<Taken>, Error> {
    let taken = session.hot.leased.query_row((key.0, fence.0), |row| {
        Ok(Taken {
            stage: StageId(row.get(0)?),
            due_at: row.get(1)?,
            attempts: row.get(2)?,
            lost: row.get(3)?,
            deferrals: row.get(4)?,
            last_attempt: row.get(5)?,
        })
    });
    let taken = taken.optional()?;
    if taken.is_some() {
        session.hot.dequeue.execute([key.0])?;
    }
    Ok(taken)
}

/// Counts members of a lease as settled, and ends it with the last one.
pub(super) fn end_lease(session: &mut Session<'_>, fence: Fence, settled: u64) -> Result<(), Error> {
    if settled > 0 && session.hot.end_lease.execute((fence.0, settled as i64))? == 0 {
        session.hot.shrink_lease.execute((fence.0, settled as i64))?;
    }
    Ok(())
}

/// An attempt to be recorded.
pub(super) struct Attempt<'a> {
    pub(super) host: HostId,
    pub(super) fence: Fence,
    pub(super) now: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) completion: &'a Completion,
}

/// Records an attempt whose queue row was taken out, and what it leads to. Returns how many stages became ready.
pub(super) fn record(session: &mut Session<'_>, attempt: &Attempt<'_>, taken: &Taken) -> Result<u64, Error> {
    let Completion { key, version, outcome, disposition, .. } = *attempt.completion;
    let id = insert_attempt(session, attempt, taken)?;
    session.tally.stage(taken.stage, State::Leased, -1);
    let before = Counters { attempts: taken.attempts, lost: taken.lost, deferrals: taken.deferrals };
    let counters = before.after(outcome);
    let Some(item) = session.masks(key.item().0)? else {
        return Err(Error::Damaged(format!("item {} of a queue row is missing", key.item())));
    };
    let bit = key.bit().mask();
    let state = match disposition {
        Disposition::Wait(delay) => {
            wait(session, key, taken, counters, id, (attempt.now + delay).0, item.priority)?;
            return Ok(0);
        }
        Disposition::Done => State::Done,
        Disposition::Skipped => State::Skipped,
        Disposition::Dead(_) => State::Dead,
    };
    if (item.masks.done | item.masks.skipped | item.masks.dead) & bit != 0 {
        forget_settled(session, key, taken.stage, item.masks, state)?;
    }
    if let Disposition::Dead(reason) = disposition {
        store_death(session, attempt, reason, counters, id)?;
    } else {
        store_result(session, attempt, state, counters, id)?;
    }
    session.tally.stage(taken.stage, state, 1);
    if state == State::Done {
        session.tally.version(version.0, 1);
    }
    settle_masks(session, attempt.now, key, item, state)
}

fn insert_attempt(session: &mut Session<'_>, attempt: &Attempt<'_>, taken: &Taken) -> Result<i64, Error> {
    let completion = attempt.completion;
    let ran = attempt.started_at.is_some();
    session.hot.attempt.execute((
        completion.key.0,
        taken.stage.0,
        taken.last_attempt,
        completion.outcome.code(),
        attempt.host.0,
        attempt.fence.0,
        taken.due_at,
        attempt.started_at.map(|at| at.0),
        completion.ended_at.0,
        ran.then_some(completion.version.0),
        ran.then_some(completion.memory_bytes_max as i64),
        ran.then_some(&completion.input_hash.0[..]),
        completion.error.as_deref(),
        completion.log.as_deref(),
    ))?;
    let id = session.connection.last_insert_rowid();
    for (meter, amount) in &completion.charges {
        session
            .connection
            .prepare_cached("INSERT INTO costs (attempt_id, meter, amount) VALUES (?1, ?2, ?3)")?
            .execute((id, meter, amount))?;
        session
            .connection
            .prepare_cached(
                "INSERT INTO cost_rollups (stage_id, meter, day, amount, n) VALUES (?1, ?2, ?3, ?4, 1)
                 ON CONFLICT (stage_id, meter, day) DO UPDATE SET amount = amount + excluded.amount, n = n + 1",
            )?
            .execute((taken.stage.0, meter, completion.ended_at.0 / MICROS_PER_DAY, amount))?;
    }
    Ok(id)
}

fn store_result(
    session: &mut Session<'_>,
    attempt: &Attempt<'_>,
    state: State,
    counters: Counters,
    id: i64,
) -> Result<(), Error> {
    let completion = attempt.completion;
    let output = completion.output.as_ref();
    session.hot.result.execute((
        completion.key.0,
        state.code(),
        counters.attempts,
        counters.lost,
        counters.deferrals,
        attempt.now.0,
        id,
        completion.version.0,
        &completion.input_hash.0[..],
        output.map(|output| &output.hash.0[..]),
        output.map(|output| output.text.as_str()),
        completion.error.as_deref(),
    ))?;
    Ok(())
}

/// A dead stage keeps what it had: an older result stays readable.
fn store_death(
    session: &mut Session<'_>,
    attempt: &Attempt<'_>,
    reason: DeadReason,
    counters: Counters,
    id: i64,
) -> Result<(), Error> {
    session
        .connection
        .prepare_cached(
            "INSERT INTO item_stages (key, state, reason, attempts, lost, deferrals, settled_at, last_attempt, error)
             VALUES (?1, 6, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (key) DO UPDATE SET
                state = 6, reason = excluded.reason, attempts = excluded.attempts, lost = excluded.lost,
                deferrals = excluded.deferrals, settled_at = excluded.settled_at,
                last_attempt = excluded.last_attempt, error = excluded.error",
        )?
        .execute((
            attempt.completion.key.0,
            reason.code(),
            counters.attempts,
            counters.lost,
            counters.deferrals,
            attempt.now.0,
            id,
            attempt.completion.error.as_deref(),
        ))?;
    Ok(())
}

fn wait(
    session: &mut Session<'_>,
    key: StageKey,
    taken: &Taken,
    counters: Counters,
    last_attempt: i64,
    due_at: i64,
    priority: i64,
) -> Result<(), Error> {
    session
        .connection
        .prepare_cached(
            "INSERT INTO queue (key, stage_id, state, claim_key, due_at, attempts, lost, deferrals, last_attempt)
             VALUES (?1, ?2, 3, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            key.0,
            taken.stage.0,
            claim_key(due_at, priority),
            due_at,
            counters.attempts,
            counters.lost,
            counters.deferrals,
            last_attempt,
        ))?;
    session.tally.stage(taken.stage, State::Waiting, 1);
    Ok(())
}

/// Takes an earlier outcome of the stage out of the counters. A dead stage keeps the result it had, and its count.
fn forget_settled(
    session: &mut Session<'_>,
    key: StageKey,
    stage: StageId,
    masks: Masks,
    now: State,
) -> Result<(), Error> {
    let bit = key.bit().mask();
    for (mask, state) in [(masks.done, State::Done), (masks.skipped, State::Skipped), (masks.dead, State::Dead)] {
        if mask & bit != 0 {
            session.tally.stage(stage, state, -1);
        }
    }
    let old: Option<Option<i64>> = session
        .connection
        .prepare_cached("SELECT version_id FROM item_stages WHERE key = ?1 AND output IS NOT NULL")?
        .query_row([key.0], |row| row.get(0))
        .optional()?;
    if let Some(old) = old.flatten().filter(|_| now != State::Dead) {
        session.tally.version(old, -1);
    }
    Ok(())
}

/// Writes an item's masks after a stage of it was settled, and what that released: dependents that may run now, and
/// dependents that are skipped with it. Returns how many became ready.
fn settle_masks(
    session: &mut Session<'_>,
    now: Timestamp,
    key: StageKey,
    item: ItemMasks,
    state: State,
) -> Result<u64, Error> {
    let bit = key.bit().mask();
    let mut masks = without(item.masks, bit);
    match state {
        State::Done => masks.done |= bit,
        State::Skipped => masks.skipped |= bit,
        _ => masks.dead |= bit,
    }
    let dag = session.dag(item.job)?;
    let all = dag.all();
    let skipped = if state == State::Skipped { dag.skipped_through(masks) } else { 0 };
    masks.skipped |= skipped;
    let candidates = Bits(skipped).fold(dag.dependents(key.bit()), |mask, bit| mask | dag.dependents(bit));
    let released = if item.cancelled { 0 } else { dag.runnable_among(masks, candidates) };
    masks.live |= released;
    for bit in Bits(skipped) {
        skip_through(session, now, key, bit, item)?;
    }
    for bit in Bits(released) {
        let stage = StageId::new(item.job, bit);
        session.enqueue(StageKey::new(key.item(), bit).0, stage, now, item.priority)?;
    }
    set_masks(session, key.item().0, masks)?;
    let was = ItemStatus::of(item.masks, all, item.cancelled);
    let is = ItemStatus::of(masks, all, item.cancelled);
    if was != is {
        session.tally.item(item.job, was, -1);
        session.tally.item(item.job, is, 1);
    }
    Ok(u64::from(released.count_ones()))
}

/// The masks with a stage out of all of them.
fn without(masks: Masks, bit: u64) -> Masks {
    Masks {
        done: masks.done & !bit,
        skipped: masks.skipped & !bit,
        dead: masks.dead & !bit,
        live: masks.live & !bit,
        stale: masks.stale & !bit,
    }
}

pub(super) fn set_masks(session: &mut Session<'_>, item: i64, masks: Masks) -> Result<(), Error> {
    let Masks { done, skipped, dead, live, stale } = masks;
    session.hot.set_masks.execute((item, done as i64, skipped as i64, dead as i64, live as i64, stale as i64))?;
    Ok(())
}

fn skip_through(
    session: &mut Session<'_>,
    now: Timestamp,
    key: StageKey,
    bit: StageBit,
    item: ItemMasks,
) -> Result<(), Error> {
    session
        .connection
        .prepare_cached(
            "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, error)
             VALUES (?1, 5, 0, 0, 0, ?2, 'a stage whose output it needs was skipped')
             ON CONFLICT (key) DO NOTHING",
        )?
        .execute((StageKey::new(key.item(), bit).0, now.0))?;
    session.tally.stage(StageId::new(item.job, bit), State::Skipped, 1);
    Ok(())
}

/// Claims up to `limit` stages, in leases of `chunk`. A stage that was lost before gets a lease of its own: it may
/// have taken its host with it, and must not take others along a second time.
fn claim(
    session: &mut Session<'_>,
    round: &Round,
    request: &ClaimRequest,
    leases: &mut Vec<Lease>,
) -> Result<u32, Error> {
    let chunk = request.chunk.max(1);
    let needs = session.dag(request.stage.job())?.needs(request.stage.bit());
    let mut claimed = 0;
    while claimed < request.limit {
        let wanted = chunk.min(request.limit - claimed);
        let fence = open_lease(session, round, request)?;
        let mut rows = claim_rows(session, request.stage, fence, wanted)?;
        let got = rows.len() as u32;
        claimed += got;
        session.tally.stage(request.stage, State::Ready, -i64::from(got));
        session.tally.stage(request.stage, State::Leased, i64::from(got));
        let suspects: Vec<Row> = rows.extract_if(.., |row| row.counters.lost > 0).collect();
        fill_lease(session, request, fence, &rows, needs, leases)?;
        for suspect in suspects {
            let alone = open_lease(session, round, request)?;
            session
                .connection
                .prepare_cached("UPDATE queue SET fence = ?1 WHERE key = ?2")?
                .execute((alone.0, suspect.key.0))?;
            fill_lease(session, request, alone, &[suspect], needs, leases)?;
        }
        if got < wanted {
            break;
        }
    }
    Ok(claimed)
}

struct Row {
    key: StageKey,
    claim_key: i64,
    ready_at: Timestamp,
    counters: Counters,
}

fn claim_rows(session: &mut Session<'_>, stage: StageId, fence: Fence, limit: u32) -> Result<Vec<Row>, Error> {
    let rows = session.hot.claim.query_map((fence.0, stage.0, limit), |row| {
        Ok(Row {
            key: StageKey(row.get(0)?),
            claim_key: row.get(1)?,
            ready_at: Timestamp(row.get(2)?),
            counters: Counters { attempts: row.get(3)?, lost: row.get(4)?, deferrals: row.get(5)? },
        })
    })?;
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    // RETURNING promises no order.
    rows.sort_unstable_by_key(|row| (row.claim_key, row.key));
    Ok(rows)
}

fn open_lease(session: &mut Session<'_>, round: &Round, request: &ClaimRequest) -> Result<Fence, Error> {
    let deadline = round.now + request.lease;
    session.hot.lease.execute((round.host.0, round.now.0, deadline.0))?;
    Ok(Fence(session.connection.last_insert_rowid()))
}

/// Writes a lease's members and reads what their attempts are given. A lease without members is dropped.
fn fill_lease(
    session: &mut Session<'_>,
    request: &ClaimRequest,
    fence: Fence,
    rows: &[Row],
    needs: u64,
    leases: &mut Vec<Lease>,
) -> Result<(), Error> {
    if rows.is_empty() {
        session.hot.end_lease.execute((fence.0, 0))?;
        return Ok(());
    }
    let members: Vec<u8> = rows.iter().flat_map(|row| row.key.0.to_le_bytes()).collect();
    session.connection.prepare_cached("UPDATE leases SET open = ?2, members = ?3 WHERE fence = ?1")?.execute((
        fence.0,
        rows.len() as i64,
        members,
    ))?;
    let claims = rows.iter().map(|row| load(session, row, needs)).collect::<Result<_, _>>()?;
    leases.push(Lease { fence, stage: request.stage, claims });
    Ok(())
}

fn load(session: &mut Session<'_>, row: &Row, needs: u64) -> Result<Claim, Error> {
    let item = row.key.item();
    let mut claim = session.hot.item.query_row([item.0], |columns| {
        Ok(Claim {
            key: row.key,
            counters: row.counters,
            ready_at: row.ready_at,
            first_ready_at: row.ready_at,
            item_key: columns.get(0)?,
            data: columns.get(1)?,
            data_hash: Digest(columns.get(2)?),
            discovered_at: Timestamp(columns.get(3)?),
            upstream: Vec::with_capacity(needs.count_ones() as usize),
        })
    })?;
    for bit in Bits(needs) {
        let output = session.hot.upstream.query_row([StageKey::new(item, bit).0], |columns| {
            Ok(Output { text: columns.get(0)?, hash: Digest(columns.get(1)?) })
        });
        if let Some(output) = output.optional()? {
            claim.upstream.push(Upstream { bit, output });
        }
    }
    Ok(claim)
}
