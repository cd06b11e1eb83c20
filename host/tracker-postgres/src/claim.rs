//! Claims ready work.
//!
//! Owns the one statement that finds ready work, leases it, and reads the inputs of its attempts. Never counts.
//!
//! A claim begins where the last one of this tracker ended (the mark), not at the front of the index. At the front are
//! the entries of work that was claimed before, which Postgres cannot remove while an old transaction is open. But work
//! may become ready before the mark: with a higher priority, given back, or promoted. If this tracker does that, it
//! lowers the mark. It does not see what other hosts do. So a claim that finds too little begins again at the front, in
//! the same round, before it reports that a stage is drained. Also every `FRONT_EVERY`-th claim begins there, so that
//! work with a high priority waits for at most a few rounds.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use gristmill_model::{Bits, Counters, Digest, Fence, HostId, StageBit, StageId, StageKey, Timestamp};
use tokio_postgres::{Row, Statement};

use super::fail::Fail;
use super::tx::Tx;
use gristmill_tracker::Error;
use gristmill_tracker::records::{Claim, ClaimRequest, Lease, Output, Upstream};

/// One in this many claims of a stage begins at the front of the index.
const FRONT_EVERY: u32 = 8;

/// `$1` stage, `$2` the mark, `$3` limit, `$4` chunk, `$5` host, `$6` now, `$7` the bits of the stages that it needs,
/// `$8` how many bytes: once there are so many, no more is claimed, but at least one row. `state = 1` is a literal,
/// since a partial index is not used for a parameter. Work that was lost before gets its own lease: it may have crashed
/// its host, and must not take others with it a second time. The sequence gives out fences in the order of claims.
pub(super) const CLAIM: &str = "
    WITH picked AS MATERIALIZED (
        SELECT key, claim_key, lost FROM queue
        WHERE state = 1 AND stage_id = $1 AND claim_key >= $2
        ORDER BY claim_key, key LIMIT $3 FOR UPDATE SKIP LOCKED
    ), sized AS (
        SELECT picked.key, claim_key, lost, octet_length(data) + CASE WHEN cardinality($7::bigint[]) > 0 THEN (
            SELECT coalesce(sum(octet_length(output)), 0) FROM unnest($7::bigint[]) AS bit
            JOIN item_stages AS upstream ON upstream.key = (picked.key & ~63::bigint) | bit
            WHERE upstream.state = 4) ELSE 0 END AS bytes
        FROM picked JOIN item_data ON id = picked.key >> 6
    ), fitting AS (
        SELECT key, claim_key, lost FROM (
            SELECT key, claim_key, lost, sum(bytes) OVER line - bytes AS before, row_number() OVER line AS place
            FROM sized WINDOW line AS (ORDER BY claim_key, key)
        ) AS line WHERE before < $8::bigint OR place = 1
    ), numbered AS (
        SELECT key, claim_key, lost > 0 AS suspect,
            row_number() OVER (PARTITION BY lost > 0 ORDER BY claim_key, key) - 1 AS place FROM fitting
    ), grouped AS (
        SELECT key, suspect, CASE WHEN suspect THEN place ELSE place / $4 END AS lease FROM numbered
    ), leased AS MATERIALIZED (
        SELECT suspect, lease, nextval('gristmill.leases_fence_seq') AS fence, members FROM (
            SELECT suspect, lease, array_agg(key) AS members FROM grouped
            GROUP BY suspect, lease ORDER BY suspect, lease
        ) AS batches
    ), opened AS (
        INSERT INTO leases (fence, host_id, claimed_at, open, members)
        SELECT fence, $5, $6, cardinality(members), members FROM leased
    ), members AS MATERIALIZED (
        SELECT fence, unnest(members) AS member FROM leased
    )
    UPDATE queue SET state = 2, fence = members.fence FROM members JOIN item_data ON item_data.id = member >> 6
    WHERE queue.key = member
    RETURNING queue.key, queue.claim_key, due_at, coalesce(first_due_at, due_at), attempts, lost, deferrals, queue.fence,
        item_data.key, data, data_hash, discovered_at,
        CASE WHEN cardinality($7::bigint[]) > 0 THEN ARRAY (
            SELECT upstream.key & 63 FROM unnest($7::bigint[]) AS bit
            JOIN item_stages AS upstream ON upstream.key = (queue.key & ~63::bigint) | bit
            WHERE upstream.state = 4 ORDER BY upstream.key) END,
        CASE WHEN cardinality($7::bigint[]) > 0 THEN ARRAY (
            SELECT output FROM unnest($7::bigint[]) AS bit
            JOIN item_stages AS upstream ON upstream.key = (queue.key & ~63::bigint) | bit
            WHERE upstream.state = 4 ORDER BY upstream.key) END,
        CASE WHEN cardinality($7::bigint[]) > 0 THEN ARRAY (
            SELECT output_hash FROM unnest($7::bigint[]) AS bit
            JOIN item_stages AS upstream ON upstream.key = (queue.key & ~63::bigint) | bit
            WHERE upstream.state = 4 ORDER BY upstream.key) END";

#[derive(Clone, Copy)]
struct Mark {
    claim_key: i64,
    claims: u32,
}

/// The mark of each stage: where its last claim ended.
#[derive(Default)]
pub(super) struct Marks(RefCell<HashMap<StageId, Mark>>);

impl Marks {
    /// The claim key where the next claim of a stage begins.
    fn next(&self, stage: StageId) -> i64 {
        let mut marks = self.0.borrow_mut();
        let mark = marks.entry(stage).or_insert(Mark { claim_key: i64::MIN, claims: 0 });
        mark.claims = mark.claims.wrapping_add(1);
        if mark.claims.is_multiple_of(FRONT_EVERY) { i64::MIN } else { mark.claim_key }
    }

    /// Lowers the mark, since work with this claim key is ready. So a claim never misses what this tracker itself made
    /// ready.
    pub(super) fn lower(&self, stage: StageId, claim_key: i64) {
        if let Some(mark) = self.0.borrow_mut().get_mut(&stage) {
            mark.claim_key = mark.claim_key.min(claim_key);
        }
    }

    fn learn(&self, stage: StageId, claim_key: i64) {
        if let Some(mark) = self.0.borrow_mut().get_mut(&stage) {
            mark.claim_key = claim_key;
        }
    }
}

/// A claimed row.
pub(super) struct Claimed {
    claim_key: i64,
    fence: Fence,
    claim: Claim,
}

/// Claims up to `limit` stages. Returns whether fewer were ready than requested.
pub(super) async fn claim(
    tx: &Tx<'_>,
    statement: &Statement,
    host: HostId,
    request: &ClaimRequest,
) -> Result<(Vec<Claimed>, bool), Fail> {
    let needs: Vec<i64> =
        Bits(tx.dag(request.stage.job())?.needs(request.stage.bit())).map(|bit| i64::from(bit.0)).collect();
    let chunk = i64::from(request.chunk.max(1));
    let now = tx.now();
    let mut from = tx.core.marks.next(request.stage);
    let (mut claimed, mut room) = (Vec::new(), request.bytes);
    loop {
        let (limit, bytes) = (i64::from(request.limit) - claimed.len() as i64, room.min(i64::MAX as u64) as i64);
        let rows =
            tx.take(statement, &[&request.stage.0, &from, &limit, &chunk, &host.0, &now.0, &needs, &bytes]).await?;
        for row in &rows {
            let row = read(row);
            room = room.saturating_sub(row.claim.bytes());
            claimed.push(row);
        }
        if claimed.len() >= request.limit as usize || room == 0 || from == i64::MIN {
            break;
        }
        from = i64::MIN;
    }
    // If it found too little, work that becomes ready next may have any claim key.
    let is_short = claimed.len() < request.limit as usize && room > 0;
    let last = claimed.iter().map(|row| row.claim_key).max().filter(|_| !is_short);
    tx.core.marks.learn(request.stage, last.unwrap_or(i64::MIN));
    Ok((claimed, is_short))
}

/// Reads a claimed row. What is damaged of it is told with the claim: its neighbours go on.
fn read(row: &Row) -> Claimed {
    let count = |column: usize| row.get::<_, i64>(column) as u32;
    let bits: Option<Vec<i64>> = row.get(12);
    let outputs: Option<Vec<String>> = row.get(13);
    let hashes: Option<Vec<&[u8]>> = row.get(14);
    let (mut upstream, mut damage) = (Vec::new(), None);
    let mut digest = |bytes: &[u8], of: &str| {
        Digest::from_slice(bytes).unwrap_or_else(|| {
            damage = Some(Error::DamagedRow(format!("the hash of {of} is not 32 bytes long")).to_string());
            Digest([0; 32])
        })
    };
    for ((bit, text), hash) in
        bits.into_iter().flatten().zip(outputs.into_iter().flatten()).zip(hashes.into_iter().flatten())
    {
        let hash = digest(hash, "an output that it needs");
        upstream.push(Upstream { bit: StageBit(bit as u8), output: Output { text, hash } });
    }
    let data_hash = digest(row.get(10), "its data");
    let claim = Claim {
        key: StageKey(row.get(0)),
        counters: Counters { attempts: count(4), lost: count(5), deferrals: count(6) },
        ready_at: Timestamp(row.get(2)),
        first_ready_at: Timestamp(row.get(3)),
        item_key: row.get(8),
        data: row.get(9),
        data_hash,
        discovered_at: Timestamp(row.get(11)),
        upstream,
        damage,
    };
    Claimed { claim_key: row.get(1), fence: Fence(row.get(7)), claim }
}

/// The leases of the claimed rows, each in the order of claims.
pub(super) fn given(mut claimed: Vec<Claimed>, request: &ClaimRequest) -> Vec<Lease> {
    claimed.sort_unstable_by_key(|row| (row.claim_key, row.claim.key));
    let mut leases: BTreeMap<Fence, Vec<Claim>> = BTreeMap::new();
    for row in claimed {
        leases.entry(row.fence).or_default().push(row.claim);
    }
    leases.into_iter().map(|(fence, claims)| Lease { fence, stage: request.stage, claims }).collect()
}
