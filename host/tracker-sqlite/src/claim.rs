//! Claims ready work.
//!
//! Owns the creation of leases, and reading the inputs of attempts. Never settles.

use gristmill_model::{Bits, Counters, Digest, Fence, ItemId, StageId, StageKey, State, Timestamp};
use rusqlite::OptionalExtension;

use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::Error;
use gristmill_tracker::records::{Claim, ClaimRequest, Lease, Output, Round, Upstream};

/// Claims up to `limit` stages, in leases of `chunk`. A stage that was lost before gets its own lease: it may have
/// crashed its host, and must not take others with it a second time. If nothing is ready, nothing is written. Returns
/// whether fewer stages were ready than requested.
pub(super) fn claim(
    session: &mut Session<'_>,
    round: &Round,
    request: &ClaimRequest,
    leases: &mut Vec<Lease>,
) -> Result<bool, Fail> {
    let chunk = request.chunk.max(1);
    let needs = session.job(request.stage.job())?.dag.needs(request.stage.bit());
    let (mut claimed, mut bytes) = (0, 0);
    while claimed < request.limit {
        let wanted = chunk.min(request.limit - claimed);
        let rows = ready(session, request.stage, wanted)?;
        let got = rows.len() as u32;
        let mut claims = Vec::with_capacity(rows.len());
        for row in &rows {
            // At least one is claimed, whatever its size.
            if bytes >= request.bytes && claimed + claims.len() as u32 > 0 {
                break;
            }
            let claim = load(session, row, needs)?;
            bytes += claim.bytes();
            claims.push(claim);
        }
        let fitting = claims.len() as u32;
        claimed += fitting;
        session.tally.moved(request.stage, State::Ready, State::Leased, fitting.into());
        let suspects: Vec<Claim> = claims.extract_if(.., |claim| claim.counters.lost > 0).collect();
        let alone = suspects.into_iter().map(|claim| vec![claim]);
        for claims in std::iter::once(claims).filter(|claims| !claims.is_empty()).chain(alone) {
            leases.push(lease(session, round, request, claims)?);
        }
        if fitting < got {
            return Ok(false);
        }
        if got < wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Row {
    key: StageKey,
    ready_at: Timestamp,
    counters: Counters,
    first_ready_at: Timestamp,
}

fn ready(session: &mut Session<'_>, stage: StageId, limit: u32) -> Result<Vec<Row>, Fail> {
    let rows = session.hot.claim.query_map((stage.0, limit), |row| {
        Ok(Row {
            key: StageKey(row.get(0)?),
            ready_at: Timestamp(row.get(1)?),
            counters: Counters { attempts: row.get(2)?, lost: row.get(3)?, deferrals: row.get(4)? },
            first_ready_at: Timestamp(row.get(5)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Makes a lease of ready stages.
fn lease(session: &mut Session<'_>, round: &Round, request: &ClaimRequest, claims: Vec<Claim>) -> Result<Lease, Fail> {
    let members: Vec<u8> = claims.iter().flat_map(|claim| claim.key.0.to_le_bytes()).collect();
    session.hot.lease.execute((round.host.0, round.now.0, claims.len() as i64, members))?;
    let fence = Fence(session.connection.last_insert_rowid());
    for claim in &claims {
        session.hot.hold.execute((claim.key.0, fence.0))?;
    }
    Ok(Lease { fence, stage: request.stage, claims })
}

/// Reads the input of an attempt. The claim tells what cannot be read of it, and its neighbours go on.
fn load(session: &mut Session<'_>, row: &Row, needs: u64) -> Result<Claim, Fail> {
    match try_load(session, row, needs) {
        Err(Fail(damage)) if damage.is_local_damage() => {
            let mut claim = bare(row);
            claim.damage = Some(damage.to_string());
            claim.item_key = key_of(session, row.key.item()).unwrap_or_default();
            Ok(claim)
        }
        loaded => loaded,
    }
}

/// The item's key, if it can still be read.
fn key_of(session: &Session<'_>, item: ItemId) -> Option<String> {
    let sql = "SELECT CAST(key AS TEXT) FROM item_data WHERE id = ?1";
    session.connection.prepare_cached(sql).ok()?.query_row([item.0], |row| row.get(0)).ok()
}

/// A claim without an input.
fn bare(row: &Row) -> Claim {
    Claim {
        key: row.key,
        counters: row.counters,
        ready_at: row.ready_at,
        first_ready_at: row.first_ready_at,
        item_key: String::new(),
        data: String::new(),
        data_hash: Digest([0; 32]),
        discovered_at: row.ready_at,
        upstream: Vec::new(),
        damage: None,
    }
}

fn try_load(session: &mut Session<'_>, row: &Row, needs: u64) -> Result<Claim, Fail> {
    let item = row.key.item();
    let given = session.hot.given.query_row([item.0], |columns| {
        Ok(Claim {
            item_key: columns.get(0)?,
            data: columns.get(1)?,
            data_hash: Digest(columns.get(2)?),
            discovered_at: Timestamp(columns.get(3)?),
            upstream: Vec::with_capacity(needs.count_ones() as usize),
            ..bare(row)
        })
    });
    let missing = || Error::DamagedRow(format!("the data of item {item} is missing"));
    let mut claim = given.optional()?.ok_or_else(missing)?;
    for bit in Bits(needs) {
        let output = session.hot.upstream.query_row([StageKey::new(item, bit).0], |columns| {
            Ok(Output { text: columns.get(0)?, hash: Digest(columns.get(1)?) })
        });
        if let Some(Output { text, hash }) = output.optional()? {
            let text = session.blobs.full(text, Some(&hash))?;
            claim.upstream.push(Upstream { bit, output: Output { text, hash } });
        }
    }
    Ok(claim)
}
