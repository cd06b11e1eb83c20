//! The ceiling that a host on Postgres is compared with.
//!
//! Owns the writes of settle and claim as bare statements, on the real schema, in batches, on one connection. No fence
//! is checked, no row is read, nothing is run. Never used by a host.

use std::time::Duration;

use futures_util::try_join;
use gristmill_model::{Clock, JobId, StageBit, StageId, Timestamp};
use tokio_postgres::{Client, Statement};

use super::fail::Fail;
use super::scratch::Scratch;
use super::tx::Parameters;
use gristmill_tracker::{Ceiling, Error};

const JOB: JobId = JobId(1);
/// How many stage executions each lease has.
const CHUNK: usize = 64;

const DISCOVER: &str = "INSERT INTO items (id, job_id, live) SELECT n, 1, 1 FROM generate_series(1, $1::bigint) AS n";
const DISCOVER_DATA: &str = "INSERT INTO item_data (id, job_id, discovered_at, changed_at, key, data_hash, data)
    SELECT n, 1, $2, $2, 'item-' || lpad(n::text, 6, '0'), $3, repeat('x', $4) FROM generate_series(1, $1::bigint) AS n";
const ENQUEUE: &str = "INSERT INTO queue (key, stage_id, state, claim_key, due_at)
    SELECT n << 6 | $2::bigint, $3, 1, $4, $4 FROM unnest($1::bigint[]) AS n";
const LEASE: &str = "INSERT INTO leases (host_id, claimed_at, open, members)
    SELECT 1, $1, 64, array_fill($1::bigint, ARRAY[64]) FROM generate_series(1, $2::bigint)";
const END_LEASES: &str = "DELETE FROM leases WHERE open = 64";
const CLAIM: &str =
    "UPDATE queue SET state = 2, fence = 1 FROM unnest($1::bigint[]) AS n WHERE key = n << 6 | $2::bigint";
const TAKE: &str = "DELETE FROM queue USING unnest($1::bigint[]) AS n WHERE key = n << 6 | $2::bigint";
const ATTEMPTS: &str = "INSERT INTO attempts (key, stage_id, outcome, host_id, fence, queued_at, started_at, ended_at,
        version_id, memory_bytes_max, input_hash)
    SELECT n << 6 | $2::bigint, $3, 1, 1, 1, $4, $4, $4, 1, 1114112, $5 FROM unnest($1::bigint[]) AS n";
const RESULTS: &str = "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, last_attempt, version_id,
        input_hash, output_hash, output)
    SELECT n << 6 | $2::bigint, 4, 1, 0, 0, $3, n, 1, $4, $4, output FROM unnest($1::bigint[], $5::text[]) AS u (n, output)";
const MASKS: &str = "UPDATE items SET done = done | $2, live = $3 FROM unnest($1::bigint[]) AS n WHERE id = n";
const COUNT: &str = "INSERT INTO stage_counts AS c (stage_id, state, slot, n)
    SELECT $1, state, 0, 1 FROM unnest(ARRAY[1, 2, 4]) AS state
    ON CONFLICT (stage_id, state, slot) DO UPDATE SET n = c.n + excluded.n";

/// Writes everything into an empty database. Returns the time of the stage executions, without discovery.
///
/// # Errors
/// If the database cannot be reached or written.
pub fn ceiling(size: &Ceiling, scratch: &Scratch, clock: &dyn Clock) -> Result<Duration, Error> {
    scratch.work(clock, async |client| write(size, client, clock).await)
}

async fn write(size: &Ceiling, client: &Client, clock: &dyn Clock) -> Result<Duration, Fail> {
    let writes = Writes::prepare(client, "x".repeat(size.output_bytes)).await?;
    let now = clock.now();
    client.execute(DISCOVER, &[&i64::from(size.items)]).await?;
    client
        .execute(DISCOVER_DATA, &[&i64::from(size.items), &now.0, &&[0u8; 32][..], &(size.data_bytes as i32)])
        .await?;
    let items: Vec<i64> = (1..=i64::from(size.items)).collect();
    let first = stage(StageBit(0)).0;
    client.execute(&writes.enqueue, &[&items, &0i64, &first, &now.0]).await?;
    let started = clock.now();
    for bit in 0..size.stages {
        for batch in items.chunks(size.batch.max(1) as usize) {
            writes.execute(client, batch, StageBit(bit), size.stages, clock.now()).await?;
        }
    }
    Ok(clock.now().since(started))
}

const fn stage(bit: StageBit) -> StageId {
    StageId::new(JOB, bit)
}

struct Writes {
    lease: Statement,
    end_leases: Statement,
    claim: Statement,
    take: Statement,
    attempts: Statement,
    results: Statement,
    masks: Statement,
    enqueue: Statement,
    count: Statement,
    output: String,
}

impl Writes {
    async fn prepare(client: &Client, output: String) -> Result<Self, Fail> {
        Ok(Self {
            lease: client.prepare(LEASE).await?,
            end_leases: client.prepare(END_LEASES).await?,
            claim: client.prepare(CLAIM).await?,
            take: client.prepare(TAKE).await?,
            attempts: client.prepare(ATTEMPTS).await?,
            results: client.prepare(RESULTS).await?,
            masks: client.prepare(MASKS).await?,
            enqueue: client.prepare(ENQUEUE).await?,
            count: client.prepare(COUNT).await?,
            output,
        })
    }

    /// The writes of a batch of stage executions: claimed, settled, and their dependents released. All are sent at
    /// once.
    async fn execute(
        &self,
        client: &Client,
        items: &[i64],
        bit: StageBit,
        stages: u8,
        now: Timestamp,
    ) -> Result<(), Fail> {
        let (place, hash, now) = (i64::from(bit.0), [7u8; 32], now.0);
        let (this, hash) = (stage(bit).0, &hash[..]);
        let outputs = vec![self.output.as_str(); items.len()];
        let next = StageBit(bit.0 + 1);
        let live = if next.0 < stages { next.mask() as i64 } else { 0 };
        let released = if live == 0 { &[][..] } else { items };
        let (leases, done) = (items.len().div_ceil(CHUNK) as i64, bit.mask() as i64);
        let (next_place, next_stage) = (i64::from(next.0), stage(next).0);
        let lease: Parameters<'_> = &[&now, &leases];
        let member: Parameters<'_> = &[&items, &place];
        let attempts: Parameters<'_> = &[&items, &place, &this, &now, &hash];
        let results: Parameters<'_> = &[&items, &place, &now, &hash, &outputs];
        let masks: Parameters<'_> = &[&items, &done, &live];
        let enqueue: Parameters<'_> = &[&released, &next_place, &next_stage, &now];
        let count: Parameters<'_> = &[&this];
        try_join!(
            client.batch_execute("BEGIN"),
            client.execute(&self.lease, lease),
            client.execute(&self.claim, member),
            client.execute(&self.take, member),
            client.execute(&self.attempts, attempts),
            client.execute(&self.results, results),
            client.execute(&self.masks, masks),
            client.execute(&self.enqueue, enqueue),
            client.execute(&self.end_leases, &[]),
            client.execute(&self.count, count),
            client.batch_execute("COMMIT"),
        )?;
        Ok(())
    }
}
