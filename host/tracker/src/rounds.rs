//! Splits a round that is too large for one transaction.
//!
//! Owns how much is settled at once, and what happens to an attempt that a tracker refuses to record: its stage is
//! dead, and the other attempts of the round are settled. Never decides what any other attempt leads to.

use std::sync::Arc;

use gristmill_model::{DeadReason, Disposition, Outcome};

use crate::records::{Completion, Round, RoundDone, Settlement};
use crate::{Error, Rounds};

/// How many bytes of outputs, errors and logs one transaction settles. An attempt with more is settled alone. A
/// database accepts no message beyond a gigabyte, and a long transaction delays others.
pub const SETTLED_BYTES_MAX: u64 = 16 << 20;

/// Settles and claims, as `Rounds::round` does: in several transactions if there is much to settle, or if one is
/// refused. The last transaction claims.
///
/// # Errors
/// If the tracker cannot be used, or if it refuses even an attempt without any text.
pub async fn settle_and_claim<T: Rounds + ?Sized>(tracker: &T, round: Round) -> Result<RoundDone, Error> {
    let Round { host, now, settlements, claims } = round;
    let mut parts = cut(settlements);
    // Reversed, since parts are popped from the end.
    parts.reverse();
    let mut done = RoundDone::default();
    while let Some(part) = parts.pop() {
        let claims = if parts.is_empty() { claims.clone() } else { Vec::new() };
        let part = Arc::new(Round { host, now, settlements: part, claims });
        match tracker.round(Arc::clone(&part)).await {
            Ok(settled) => done.add(settled),
            Err(error) if error.is_refusal() && !part.settlements.is_empty() => {
                let Round { settlements, claims, .. } = Arc::unwrap_or_clone(part);
                if !claims.is_empty() {
                    parts.push(Vec::new());
                }
                match halve(settlements) {
                    Ok((first, second)) => parts.extend([second, first]),
                    Err(alone) => done.add(
                        bury(tracker, Round { host, now, settlements: vec![alone], claims: vec![] }, error).await?,
                    ),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The settlements in their order, cut into parts of at most `SETTLED_BYTES_MAX`. There is at least one part, which may
/// be empty.
fn cut(settlements: Vec<Settlement>) -> Vec<Vec<Settlement>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for settlement in settlements {
        let size: u64 = settlement.completions.iter().map(Completion::bytes).sum();
        if bytes + size <= SETTLED_BYTES_MAX {
            bytes += size;
            part.push(settlement);
            continue;
        }
        let Settlement { fence, completions } = settlement;
        for completion in completions {
            let size = completion.bytes();
            if bytes + size > SETTLED_BYTES_MAX && !part.is_empty() {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
            bytes += size;
            match part.last_mut() {
                Some(Settlement { fence: last, completions }) if *last == fence => completions.push(completion),
                _ => part.push(Settlement { fence, completions: vec![completion] }),
            }
        }
    }
    parts.push(part);
    parts
}

/// Splits settlements into two halves, in their order. If there is only one attempt, returns it as the error.
fn halve(settlements: Vec<Settlement>) -> Result<(Vec<Settlement>, Vec<Settlement>), Settlement> {
    let each = |Settlement { fence, completions }: Settlement| {
        completions.into_iter().map(move |completion| Settlement { fence, completions: vec![completion] })
    };
    let mut first: Vec<Settlement> = settlements.into_iter().flat_map(each).collect();
    if first.len() == 1
        && let Some(alone) = first.pop()
    {
        return Err(alone);
    }
    let second = first.split_off(first.len() / 2);
    Ok((first, second))
}

/// Settles an attempt that the tracker refused to record. Its stage is dead, with the reason and without the refused
/// texts.
async fn bury<T: Rounds + ?Sized>(tracker: &T, mut round: Round, refusal: Error) -> Result<RoundDone, Error> {
    let mut refused = Vec::new();
    for completion in round.settlements.iter_mut().flat_map(|settlement| &mut settlement.completions) {
        let bytes = completion.bytes();
        let was = completion.outcome.name();
        // A database's error may contain the refused text.
        let why: String = refusal.to_string().chars().filter(|char| !char.is_control()).take(WHY_CHARS_MAX).collect();
        let error = format!("the tracker refused to record this attempt ({was}, {bytes} bytes of text): {why}");
        refused.push((completion.key, error.clone()));
        completion.outcome = Outcome::BadOutput;
        completion.disposition = Disposition::Dead(DeadReason::Guard);
        completion.error = Some(error);
        (completion.output, completion.log, completion.charges) = (None, None, Vec::new());
    }
    let mut done = tracker.round(Arc::new(round)).await?;
    if done.applied > 0 {
        done.refused = refused;
    }
    Ok(done)
}

/// How many characters of a refusal are recorded.
const WHY_CHARS_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use gristmill_model::{Digest, Fence, StageKey, Timestamp, VersionId};

    use super::*;
    use crate::records::Output;

    fn completion(key: i64, bytes: u64) -> Completion {
        let now = Timestamp(0);
        Completion {
            key: StageKey(key),
            version: VersionId(0),
            outcome: Outcome::Done,
            disposition: Disposition::Done,
            output: Some(Output { text: "x".repeat(bytes as usize), hash: Digest([0; 32]) }),
            input_hash: Digest([0; 32]),
            error: None,
            log: None,
            ready_at: now,
            started_at: now,
            ended_at: now,
            memory_bytes_max: 0,
            charges: Vec::new(),
        }
    }

    fn keys(parts: &[Vec<Settlement>]) -> Vec<Vec<(i64, Vec<i64>)>> {
        let keys = |settlement: &Settlement| settlement.completions.iter().map(|done| done.key.0).collect();
        parts.iter().map(|part| part.iter().map(|settled| (settled.fence.0, keys(settled))).collect()).collect()
    }

    #[test]
    fn what_is_large_is_settled_in_parts() {
        let third = SETTLED_BYTES_MAX / 3;
        let settlements = vec![
            Settlement { fence: Fence(1), completions: vec![completion(1, third), completion(2, third)] },
            Settlement {
                fence: Fence(2),
                completions: vec![completion(3, 2), completion(4, third), completion(5, third)],
            },
            Settlement { fence: Fence(3), completions: vec![completion(6, 2 * SETTLED_BYTES_MAX), completion(7, 0)] },
        ];
        let expected =
            vec![vec![(1, vec![1, 2]), (2, vec![3])], vec![(2, vec![4, 5])], vec![(3, vec![6])], vec![(3, vec![7])]];
        assert_eq!(keys(&cut(settlements)), expected);
        assert_eq!(keys(&cut(Vec::new())), [vec![]], "what only claims is one part");
    }
}
