//! Settle and claim: the loop's one transaction, in three round trips.
//!
//! Owns their order. First: begin, lock the items, take the settled rows out of the queue. Second: write the results,
//! and claim. Third: write the counters and commit. Never decides what an outcome leads to: a completion carries its
//! disposition.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use futures_util::try_join;
use gristmill_model::{StageKey, State};

use super::changes::{LOCK_ITEMS, items_of, read_item};
use super::claim::{CLAIM, claim, given};
use super::fail::Fail;
use super::record::{ATTEMPT_IDS, Attempt, Batch, TAKE, read_taken};
use super::tx::{Parameters, Tx};
use gristmill_tracker::records::{Completion, Lease, Round, RoundDone};
use gristmill_tracker::rules::Taken;

pub(super) async fn round(tx: &Tx<'_>, round: &Round) -> Result<RoundDone, Fail> {
    let mut done = RoundDone::default();
    let batch = settle(tx, round, &mut done).await?;
    for request in &round.claims {
        tx.dag(request.stage.job())?;
    }
    let statement = tx.prepare(CLAIM).await?;
    let claims = try_join_all(round.claims.iter().map(|request| claim(tx, &statement, round.host, request)));
    let claimed = match batch {
        Some(batch) => {
            done.released = batch.released;
            let ready = batch.prepare(tx).await?;
            try_join!(ready.write(tx), claims)?.1
        }
        None => claims.await?,
    };
    for (request, (claimed, is_short)) in round.claims.iter().zip(claimed) {
        let leases = given(claimed, request);
        let n: usize = leases.iter().map(|lease: &Lease| lease.claims.len()).sum();
        tx.count_stage(request.stage, State::Ready, -(n as i64));
        tx.count_stage(request.stage, State::Leased, n as i64);
        if is_short {
            done.drained.push(request.stage);
        }
        done.leases.extend(leases);
    }
    Ok(done)
}

/// Begins, and settles the attempts in memory; none if there are none.
async fn settle<'a>(tx: &Tx<'_>, round: &'a Round, done: &mut RoundDone) -> Result<Option<Batch<'a>>, Fail> {
    let completions: Vec<(i64, &Completion)> = round
        .settlements
        .iter()
        .flat_map(|settlement| settlement.completions.iter().map(|completion| (settlement.fence.0, completion)))
        .collect();
    let [begin, jobs] = tx.prepare_all(Tx::begin_statements()).await?;
    if completions.is_empty() {
        tx.begin_with(&begin, &jobs, Some(round.now)).await?;
        return Ok(None);
    }
    let items = items_of(completions.iter().map(|(_, completion)| completion.key));
    let (fences, keys): (Vec<i64>, Vec<i64>) =
        completions.iter().map(|(fence, completion)| (*fence, completion.key.0)).unzip();
    let [lock, take, ids] = tx.prepare_all([LOCK_ITEMS, TAKE, ATTEMPT_IDS]).await?;
    let n = completions.len() as i64;
    // Sent at once, in this order: the queue is read after the items are locked.
    let (locked, leased, counted): (Parameters<'_>, Parameters<'_>, Parameters<'_>) =
        (&[&items], &[&keys, &fences], &[&n]);
    let ((), items, taken, ids) = try_join!(
        tx.begin_with(&begin, &jobs, Some(round.now)),
        tx.take(&lock, locked),
        tx.take(&take, leased),
        tx.rows(&ids, counted),
    )?;
    let mut taken: HashMap<(StageKey, i64), Taken> =
        taken.iter().map(read_taken).map(|taken| ((taken.key, taken.fence.0), taken)).collect();
    let mut attempts = Vec::with_capacity(taken.len());
    for (fence, completion) in completions {
        let Some(taken) = taken.remove(&(completion.key, fence)) else {
            done.late += 1;
            continue;
        };
        attempts.push(Attempt { host: round.host, started_at: Some(completion.started_at), completion, taken });
    }
    done.applied = attempts.len() as u64;
    let mut batch = Batch::new(items.iter().map(read_item).map(|item| (item.id, item)).collect(), &ids);
    batch.record(tx, &attempts).await?;
    Ok(Some(batch))
}
