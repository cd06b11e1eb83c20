//! Settle and claim: the loop's one transaction.
//!
//! Owns the order of a round: settle, release, claim; and what is settled. Every write to leased work matches the fence.
//! Never decides what an outcome leads to: a completion carries its disposition.

use gristmill_model::{
    Bits, Counters, DeadReason, Disposition, Fence, HostId, ItemId, StageId, StageKey, State, Timestamp,
};
use rusqlite::OptionalExtension;

use super::claim::claim;
use super::session::{ItemMasks, Session, claim_key, settled_state};
use crate::Error;
use crate::advance;
use crate::records::{Completion, Round, RoundDone, Settlement};

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

/// What a queue row leaves behind when it is taken out.
pub(super) struct Taken {
    pub(super) stage: StageId,
    pub(super) counters: Counters,
    due_at: i64,
    first_due_at: i64,
    last_attempt: Option<i64>,
    operation: Option<i64>,
}

/// Takes a leased stage out of the queue; none if its fence is another one by now.
pub(super) fn take(session: &mut Session<'_>, key: StageKey, fence: Fence) -> Result<Option<Taken>, Error> {
    let taken = session.hot.leased.query_row((key.0, fence.0), |row| {
        Ok(Taken {
            stage: StageId(row.get(0)?),
            due_at: row.get(1)?,
            counters: Counters { attempts: row.get(2)?, lost: row.get(3)?, deferrals: row.get(4)? },
            last_attempt: row.get(5)?,
            first_due_at: row.get(6)?,
            operation: row.get(7)?,
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
    let Completion { key, outcome, disposition, .. } = *attempt.completion;
    let id = insert_attempt(session, attempt, taken)?;
    session.tally.stage(taken.stage, State::Leased, -1);
    let counters = taken.counters.after(outcome);
    let Some(item) = session.masks(key.item().0)? else {
        return Err(Error::Damaged(format!("item {} of a queue row is missing", key.item())));
    };
    match disposition {
        Disposition::Wait(_) if item.cancelled => leave_queue(session, key, item).map(|()| 0),
        Disposition::Wait(delay) => {
            wait(session, key, taken, counters, id, (attempt.now + delay).0, item.priority).map(|()| 0)
        }
        Disposition::Done => settle_stage(session, attempt, item, (State::Done, None), counters, id),
        Disposition::Skipped => settle_stage(session, attempt, item, (State::Skipped, None), counters, id),
        Disposition::Dead(reason) => settle_stage(session, attempt, item, (State::Dead, Some(reason)), counters, id),
    }
}

/// Says that the queue row of a stage of a cancelled item is gone.
pub(super) fn leave_queue(session: &mut Session<'_>, key: StageKey, item: ItemMasks) -> Result<(), Error> {
    let mut masks = item.masks;
    masks.live &= !key.bit().mask();
    session.set_masks(key.item(), masks)
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
        session.spec(taken.stage.job()),
        taken.operation,
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
            .execute((taken.stage.0, meter, completion.ended_at.0.div_euclid(MICROS_PER_DAY), amount))?;
    }
    Ok(id)
}

/// Writes a stage's outcome, and what follows from it for its item: dependents that may run now, that are skipped with
/// it, or that are stale. Returns how many became ready.
fn settle_stage(
    session: &mut Session<'_>,
    attempt: &Attempt<'_>,
    item: ItemMasks,
    (state, reason): (State, Option<DeadReason>),
    counters: Counters,
    id: i64,
) -> Result<u64, Error> {
    let Completion { key, version, .. } = *attempt.completion;
    let changed = match settled_state(item.masks, key.bit()) {
        Some(was) => replace(session, attempt.completion, item, was, state)?,
        None => false,
    };
    store(session, attempt, (state, reason), counters, id)?;
    session.tally.stage(StageId::new(item.job, key.bit()), state, 1);
    if state == State::Done {
        session.tally.version(version.0, 1);
    }
    let dag = session.dag(item.job)?;
    let after = advance::settle(&dag, item.masks, item.cancelled, key.bit(), state, changed);
    skip_along(session, attempt.now, key.item(), item, after.skipped)?;
    session.enqueue(key.item(), item, after.masks, after.released, attempt.now)?;
    session.set_masks(key.item(), after.masks)?;
    session.tally.status(item.job, after.was, after.is);
    Ok(u64::from(after.released.count_ones()))
}

/// Takes the outcome that is replaced out of the counters. Returns whether the new one is another. A dead stage keeps
/// the output it had, and its count.
fn replace(
    session: &mut Session<'_>,
    new: &Completion,
    item: ItemMasks,
    was: State,
    state: State,
) -> Result<bool, Error> {
    session.tally.stage(StageId::new(item.job, new.key.bit()), was, -1);
    if state == State::Dead {
        return Ok(false);
    }
    let old: Option<(Option<i64>, Option<[u8; 32]>)> = session
        .connection
        .prepare_cached("SELECT version_id, output_hash FROM item_stages WHERE key = ?1 AND output IS NOT NULL")?
        .query_row([new.key.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (version, hash) = old.unwrap_or_default();
    if let Some(version) = version {
        session.tally.version(version, -1);
    }
    Ok(was != state || hash != new.output.as_ref().map(|output| output.hash.0))
}

fn store(
    session: &mut Session<'_>,
    attempt: &Attempt<'_>,
    (state, reason): (State, Option<DeadReason>),
    counters: Counters,
    id: i64,
) -> Result<(), Error> {
    let completion = attempt.completion;
    let ran = state != State::Dead;
    let output = completion.output.as_ref();
    let text = output.map(|output| session.blobs.stored(output)).transpose()?;
    session.hot.settled.execute((
        completion.key.0,
        state.code(),
        reason.map(DeadReason::code),
        counters.attempts,
        counters.lost,
        counters.deferrals,
        attempt.now.0,
        id,
        ran.then_some(completion.version.0),
        ran.then_some(&completion.input_hash.0[..]),
        output.map(|output| &output.hash.0[..]),
        text,
        completion.error.as_deref(),
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
            "INSERT INTO queue (key, stage_id, state, claim_key, due_at, attempts, lost, deferrals, last_attempt,
                                first_due_at, operation_id)
             VALUES (?1, ?2, 3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
            taken.first_due_at,
            taken.operation,
        ))?;
    session.tally.stage(taken.stage, State::Waiting, 1);
    Ok(())
}

/// Writes that stages were skipped along, in place of the results that they had.
pub(super) fn skip_along(
    session: &mut Session<'_>,
    now: Timestamp,
    id: ItemId,
    item: ItemMasks,
    stages: u64,
) -> Result<(), Error> {
    for bit in Bits(stages) {
        let (key, stage) = (StageKey::new(id, bit), StageId::new(item.job, bit));
        let old: Option<(i64, Option<i64>)> = session
            .connection
            .prepare_cached("SELECT state, iif(output IS NULL, NULL, version_id) FROM item_stages WHERE key = ?1")?
            .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((state, version)) = old {
            State::from_code(state).inspect(|state| session.tally.stage(stage, *state, -1));
            version.inspect(|version| session.tally.version(*version, -1));
        }
        session
            .connection
            .prepare_cached(
                "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, error)
                 VALUES (?1, 5, 0, 0, 0, ?2, 'a stage whose output it needs was skipped')
                 ON CONFLICT (key) DO UPDATE SET
                    state = 5, reason = NULL, attempts = 0, lost = 0, deferrals = 0, settled_at = excluded.settled_at,
                    version_id = NULL, input_hash = NULL, output_hash = NULL, output = NULL, error = excluded.error",
            )?
            .execute((key.0, now.0))?;
        session.tally.stage(stage, State::Skipped, 1);
    }
    Ok(())
}
