//! The bytes of components.
//!
//! Owns their parts, which are written in the transaction that says they are there, and compared with their hash each
//! time they are read. Never decides which component a stage has.

use gristmill_model::{Digest, Timestamp};

use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::records::{StageRegistration, Swept};
use gristmill_tracker::sql::NEEDED_COMPONENTS;
use gristmill_tracker::{COMPONENT_BYTES_MAX, COMPONENT_PART_BYTES, Error, check_component};

const STORE: &str = "INSERT INTO components (hash, raw_hash, size, source, added_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING";

/// Records a component. Its bytes are kept beforehand, outside the lock that registration holds alone: only if they were
/// swept in between, they are kept here.
pub(super) async fn store(tx: &Tx<'_>, stage: &StageRegistration) -> Result<(), Fail> {
    record(tx, stage).await?;
    let Some(bytes) = &stage.component_bytes else { return Ok(()) };
    let kept = "SELECT FROM components WHERE hash = $1 AND kept";
    if tx.query_opt(kept, &[&&stage.component.0[..]]).await?.is_some() {
        return Ok(());
    }
    keep(tx, stage.component, stage.component_raw, bytes).await
}

/// Keeps the bytes of a component before a job that has it is registered, whatever was there of them.
pub(super) async fn prepare(tx: &Tx<'_>, stage: &StageRegistration, now: Timestamp) -> Result<(), Fail> {
    let Some(bytes) = &stage.component_bytes else { return Ok(()) };
    tx.begin(Lock::Shared, now).await?;
    record(tx, stage).await?;
    keep(tx, stage.component, stage.component_raw, bytes).await
}

async fn record(tx: &Tx<'_>, stage: &StageRegistration) -> Result<(), Fail> {
    let (hash, raw) = (&stage.component.0[..], &stage.component_raw.0[..]);
    tx.execute(STORE, &[&hash, &raw, &(stage.component_size as i64), &stage.source, &tx.now().0]).await?;
    Ok(())
}

/// Writes the parts, and says in the row that they are there. Other bytes of the same canonical hash take the place of
/// what the row named before.
async fn keep(tx: &Tx<'_>, hash: Digest, raw: Digest, bytes: &[u8]) -> Result<(), Fail> {
    let (hash, raw, size) = (&hash.0[..], &raw.0[..], bytes.len() as i64);
    // The row is locked, so that two hosts write one after the other.
    let before: Vec<u8> =
        tx.query_one("SELECT raw_hash FROM components WHERE hash = $1 FOR UPDATE", &[&hash]).await?.get(0);
    tx.execute("DELETE FROM component_parts WHERE hash IN ($1, $2)", &[&before, &raw]).await?;
    for (part, bytes) in (0i64..).zip(bytes.chunks(COMPONENT_PART_BYTES)) {
        tx.execute("INSERT INTO component_parts (hash, part, bytes) VALUES ($1, $2, $3)", &[&raw, &part, &bytes])
            .await?;
    }
    let kept = "UPDATE components SET raw_hash = $2, size = $3, kept = true WHERE hash = $1";
    tx.execute(kept, &[&hash, &raw, &size]).await?;
    Ok(())
}

/// Keeps the bytes of a component whose row is there: those that it names.
pub(super) async fn import(tx: &Tx<'_>, hash: Digest, bytes: &[u8]) -> Result<(), Fail> {
    tx.begin(Lock::Alone, None).await?;
    let row = tx.query_opt("SELECT raw_hash FROM components WHERE hash = $1", &[&&hash.0[..]]).await?;
    let raw = row.and_then(|row| Digest::from_slice(row.get(0)));
    let raw = raw.ok_or(Error::Component(hash))?;
    check_component(hash, raw, bytes)?;
    keep(tx, hash, raw, bytes).await
}

/// Reads the bytes of a component, and compares them with their hash; none: it is not known, or not kept.
pub(super) async fn read(tx: &Tx<'_>, hash: Digest) -> Result<Option<Vec<u8>>, Fail> {
    tx.begin_snapshot().await?;
    let find = "SELECT raw_hash FROM components WHERE hash = $1 AND kept";
    let Some(row) = tx.query_opt(find, &[&&hash.0[..]]).await? else { return Ok(None) };
    let bytes = whole(tx, row.get(0)).await?;
    Ok(Some(bytes.ok_or(Error::Component(hash))?))
}

/// Whether its bytes are kept, and whole. Unlike a size, that shows damage, which the bytes at hand then mend.
pub(super) async fn is_whole(tx: &Tx<'_>, hash: Digest) -> Result<bool, Fail> {
    match read(tx, hash).await {
        Ok(bytes) => Ok(bytes.is_some()),
        Err(Fail::Refused(Error::Component(_))) => Ok(false),
        Err(fail) => Err(fail),
    }
}

/// The bytes with this hash, if that is what their parts make.
async fn whole(tx: &Tx<'_>, raw: &[u8]) -> Result<Option<Vec<u8>>, Fail> {
    let mut bytes = Vec::new();
    let mut part = 0i64;
    let next = "SELECT bytes FROM component_parts WHERE hash = $1 AND part = $2";
    while let Some(row) = tx.query_opt(next, &[&raw, &part]).await? {
        bytes.extend_from_slice(row.get(0));
        if bytes.len() as u64 > COMPONENT_BYTES_MAX {
            return Ok(None);
        }
        part += 1;
    }
    Ok((Digest::from_slice(raw) == Some(Digest::of(&bytes))).then_some(bytes))
}

/// Drops the bytes that nothing needs, and parts that no component is said to have. Alone: whoever counts a result of a
/// version, or makes one current, comes before it or after it.
pub(super) async fn sweep(tx: &Tx<'_>) -> Result<Swept, Fail> {
    const SWEEP: &str = "DELETE FROM component_parts WHERE hash NOT IN (SELECT raw_hash FROM components WHERE kept)
        RETURNING part = 0, octet_length(bytes)::bigint";
    tx.begin(Lock::Alone, None).await?;
    let looked: i64 = tx.query_one("SELECT count(*) FROM components WHERE kept", &[]).await?.get(0);
    let forget = format!("UPDATE components SET kept = false WHERE kept AND hash NOT IN ({NEEDED_COMPONENTS})");
    tx.execute(&forget, &[]).await?;
    let mut swept = Swept { looked: looked as u64, ..Swept::default() };
    for row in tx.query_writing(SWEEP, &[]).await? {
        swept.removed += u64::from(row.get::<_, bool>(0));
        swept.bytes += row.get::<_, i64>(1) as u64;
    }
    Ok(swept)
}

/// The components whose bytes are needed and said to be kept, and are not whole.
pub(super) async fn damaged(tx: &Tx<'_>) -> Result<Vec<Digest>, Fail> {
    let needed =
        format!("SELECT hash, raw_hash FROM components WHERE kept AND hash IN ({NEEDED_COMPONENTS}) ORDER BY 1");
    let mut damaged = Vec::new();
    for row in tx.query(&needed, &[]).await? {
        if whole(tx, row.get(1)).await?.is_none() {
            damaged.extend(Digest::from_slice(row.get(0)));
        }
    }
    Ok(damaged)
}
