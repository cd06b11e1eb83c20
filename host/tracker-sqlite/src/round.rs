//! Settle and claim: the loop's one transaction.
//!
//! Owns the order of a round (settle, release, claim), and the writes of settling. Every write to leased work checks
//! the fence. Never decides what an outcome leads to: a completion carries its disposition.

use gristmill_model::{Counters, DeadReason, Digest, Disposition, Fence, HostId, StageId, StageKey, State, Timestamp};
use rusqlite::OptionalExtension;

use super::claim::claim;
use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::Error;
use gristmill_tracker::records::{Completion, Round, RoundDone, Settlement};
use gristmill_tracker::rules::settle::{Next, Standing};
use gristmill_tracker::rules::{Taken, events, item, settle};

pub(super) fn round(session: &mut Session<'_>, round: &Round) -> Result<RoundDone, Fail> {
    let mut done = RoundDone::default();
    for settlement in &round.settlements {
        settle(session, round, settlement, &mut done)?;
    }
    session.note_wait(round.now)?;
    for request in &round.claims {
        if claim(session, round, request, &mut done.leases)? {
            done.drained.push(request.stage);
        }
    }
    Ok(done)
}

fn settle(session: &mut Session<'_>, round: &Round, settlement: &Settlement, done: &mut RoundDone) -> Result<(), Fail> {
    let mut applied = 0;
    for completion in &settlement.completions {
        let Some(taken) = take(session, completion.key, settlement.fence)? else {
            done.late += 1;
            continue;
        };
        let attempt = Attempt { host: round.host, now: round.now, started_at: Some(completion.started_at), completion };
        done.released += record(session, &attempt, &taken)?;
        applied += 1;
    }
    done.applied += applied;
    end_lease(session, settlement.fence, applied)
}

/// Takes a leased stage out of the queue; none if it has another fence by now.
pub(super) fn take(session: &mut Session<'_>, key: StageKey, fence: Fence) -> Result<Option<Taken>, Fail> {
    let taken = session.hot.leased.query_row((key.0, fence.0), |row| {
        Ok(Taken {
            key,
            fence,
            stage: StageId(row.get(0)?),
            due_at: row.get(1)?,
            counters: Counters { attempts: row.get(2)?, lost: row.get(3)?, deferrals: row.get(4)? },
            last_attempt: row.get(5)?,
            first_due_at: row.get(6)?,
            operation: row.get(7)?,
            superseded: row.get(8)?,
        })
    });
    let taken = taken.optional()?;
    if taken.is_some() {
        session.hot.dequeue.execute([key.0])?;
    }
    Ok(taken)
}

/// Counts members of a lease as settled, and deletes it with the last one.
pub(super) fn end_lease(session: &mut Session<'_>, fence: Fence, settled: u64) -> Result<(), Fail> {
    if settled > 0 && session.hot.end_lease.execute((fence.0, settled as i64))? == 0 {
        session.hot.shrink_lease.execute((fence.0, settled as i64))?;
    }
    Ok(())
}

/// An attempt to record.
pub(super) struct Attempt<'a> {
    pub(super) host: HostId,
    pub(super) now: Timestamp,
    /// None for a lost attempt: only its host knew.
    pub(super) started_at: Option<Timestamp>,
    pub(super) completion: &'a Completion,
}

/// Records an attempt whose queue row was taken out, and what it leads to. Returns how many stages became ready.
pub(super) fn record(session: &mut Session<'_>, attempt: &Attempt<'_>, taken: &Taken) -> Result<u64, Fail> {
    let Attempt { now, completion, .. } = *attempt;
    let id = insert_attempt(session, attempt, taken)?;
    let Some(item) = session.item(taken.key.item())? else {
        return Err(Error::Damaged(format!("item {} of a queue row is missing", taken.key.item())).into());
    };
    let standing = if settle::asks(&item, taken, completion) { standing(session, taken.key)? } else { None };
    let job = session.job(item.job)?;
    let leaves = settle::leaves(&job.dag, &item, taken, completion);
    let left = session.leave_queue(&item, leaves)?;
    let settled = settle::settle(&job.dag, item, taken, completion, standing, left, now);
    match settled.next {
        Next::Wait { due_at, claim_key } => wait(session, taken, settled.counters, id, due_at, claim_key)?,
        Next::Outcome { state, reason } => store(session, attempt, (state, reason), settled.counters, id)?,
        Next::Nothing => {}
    }
    if completion.disposition == Disposition::Dead(DeadReason::Damaged) {
        session.note(now, &events::stage_damaged(taken.key, taken.stage, completion.error.as_deref()))?;
    }
    settled.version_gone.inspect(|version| session.tally.version(*version, -1));
    settled.version_new.inspect(|version| session.tally.version(*version, 1));
    session.apply(&job, &settled.change, now, None)?;
    Ok(u64::from(settled.change.entered.ready.count_ones()))
}

fn insert_attempt(session: &mut Session<'_>, attempt: &Attempt<'_>, taken: &Taken) -> Result<i64, Fail> {
    let completion = attempt.completion;
    let ran = attempt.started_at.is_some();
    session.hot.attempt.execute((
        completion.key.0,
        taken.stage.0,
        taken.last_attempt,
        completion.outcome.code(),
        attempt.host.0,
        taken.fence.0,
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
            .execute((taken.stage.0, meter, item::day(completion.ended_at), amount))?;
    }
    Ok(id)
}

/// The older output of a stage; none if it has none.
fn standing(session: &Session<'_>, key: StageKey) -> Result<Option<Standing>, Fail> {
    let standing = session
        .connection
        .prepare_cached("SELECT version_id, output_hash FROM item_stages WHERE key = ?1 AND output IS NOT NULL")?
        .query_row([key.0], |row| {
            Ok(Standing { version: row.get(0)?, output_hash: row.get::<_, Option<[u8; 32]>>(1)?.map(Digest) })
        })
        .optional()?;
    Ok(standing)
}

fn store(
    session: &mut Session<'_>,
    attempt: &Attempt<'_>,
    (state, reason): (State, Option<DeadReason>),
    counters: Counters,
    id: i64,
) -> Result<(), Fail> {
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
    session: &Session<'_>,
    taken: &Taken,
    counters: Counters,
    last_attempt: i64,
    due_at: i64,
    claim_key: i64,
) -> Result<(), Fail> {
    session
        .connection
        .prepare_cached(
            "INSERT INTO queue (key, stage_id, state, claim_key, due_at, attempts, lost, deferrals, last_attempt,
                                first_due_at, operation_id)
             VALUES (?1, ?2, 3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((
            taken.key.0,
            taken.stage.0,
            claim_key,
            due_at,
            counters.attempts,
            counters.lost,
            counters.deferrals,
            last_attempt,
            taken.first_due_at,
            taken.operation,
        ))?;
    Ok(())
}
