//! Changes of items, folded until they are written.
//!
//! Owns locking items, and writing a batch of changes: one statement for each table. Never decides what changes: a rule
//! does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::try_join;
use gristmill_model::{Bits, Dag, ItemId, JobId, Masks, OperationId, StageKey};
use tokio_postgres::{Row, Statement};

use super::fail::Fail;
use super::tx::{Parameters, Tx};
use gristmill_tracker::rules::change::{Ready, SKIPPED_ALONG};
use gristmill_tracker::rules::{Change, Item};

/// Locks in the order of ids, so that two hosts that settle stages of the same items never deadlock.
pub(super) const LOCK_ITEMS: &str =
    concat!("SELECT ", gristmill_tracker::item_columns!(), " FROM items WHERE id = ANY ($1) ORDER BY id FOR UPDATE");
const SET_MASKS: &str =
    "UPDATE items SET done = u.done, skipped = u.skipped, dead = u.dead, live = u.live, stale = u.stale
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
        AS u (item, done, skipped, dead, live, stale) WHERE id = item";
const SKIP_ALONG: &str = "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, error)
    SELECT k, 5, 0, 0, 0, $2, $3 FROM unnest($1::bigint[]) AS u (k)
    ON CONFLICT (key) DO UPDATE SET state = 5, reason = NULL, attempts = 0, lost = 0, deferrals = 0,
        settled_at = excluded.settled_at, version_id = NULL, input_hash = NULL, output_hash = NULL, output = NULL,
        error = excluded.error";
const REPLACED: &str =
    "SELECT version_id FROM item_stages WHERE key = ANY ($1) AND output IS NOT NULL AND version_id IS NOT NULL";
/// A stage that runs again continues the chain of its attempts.
const ENQUEUE: &str = "INSERT INTO queue (key, stage_id, state, claim_key, due_at, last_attempt, operation_id)
    SELECT k, stage, 1, claim, $6,
        CASE WHEN again THEN (SELECT last_attempt FROM item_stages AS old WHERE old.key = k) END, operation
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bool[], $5::bigint[])
        AS u (k, stage, claim, again, operation)";

/// Replaces a dead outcome by the older result.
const PUT_BACK: &str = "UPDATE item_stages SET state = 4, reason = NULL, error = NULL
    WHERE key = ANY ($1) AND output IS NOT NULL";
const FORGET: &str = "DELETE FROM item_stages WHERE key = ANY ($1) AND output IS NULL";
const SUPERSEDE: &str = "UPDATE queue SET superseded = true WHERE key = ANY ($1) AND state = 2";
const RESULTS: &str = "SELECT key FROM item_stages WHERE key = ANY ($1) AND output IS NOT NULL";

/// Reads `item_columns`.
pub(super) fn read_item(row: &Row) -> Item {
    let mask = |column: usize| row.get::<_, i64>(column) as u64;
    Item {
        id: ItemId(row.get(0)),
        job: JobId(row.get(1)),
        masks: Masks { done: mask(2), skipped: mask(3), dead: mask(4), live: mask(5), stale: mask(6) },
        priority: row.get(7),
        cancelled: row.get(8),
    }
}

/// The items that these keys belong to, each once, in their order.
pub(super) fn items_of(keys: impl IntoIterator<Item = StageKey>) -> Vec<i64> {
    let mut items: Vec<i64> = keys.into_iter().map(|key| key.item().0).collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// Locks items and reads them.
pub(super) async fn lock_items(tx: &Tx<'_>, ids: &[i64]) -> Result<BTreeMap<ItemId, Item>, Fail> {
    let rows = tx.query_writing(LOCK_ITEMS, &[&ids]).await?;
    Ok(rows.iter().map(read_item).map(|item| (item.id, item)).collect())
}

/// Those of these stages that have a result, even an older one.
pub(super) async fn with_result(tx: &Tx<'_>, keys: &[i64]) -> Result<HashSet<i64>, Fail> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(tx.query(RESULTS, &[&keys]).await?.iter().map(|row| row.get(0)).collect())
}

/// Changes of items. One item may have several.
#[derive(Default)]
pub(super) struct Changes {
    /// The items whose rows must be written, with their current masks.
    items: BTreeMap<ItemId, Masks>,
    keys: Vec<i64>,
    stages: Vec<i64>,
    claim_keys: Vec<i64>,
    chained: Vec<bool>,
    operations: Vec<Option<i64>>,
    skipped: Vec<i64>,
    /// Stages whose output in the database is replaced: its version's count goes down.
    replaced: Vec<i64>,
    renewed: Vec<i64>,
    superseded: BTreeSet<i64>,
    /// The versions of outputs in this batch that are not in the database yet.
    versions: HashMap<i64, i64>,
}

impl Changes {
    /// Remembers a new output of a stage, since a later change of the same batch may replace it.
    pub(super) fn output(&mut self, key: StageKey, version: i64) {
        self.versions.insert(key.0, version);
    }

    /// Adds a change, and counts it. `operation` is the one for which stages enter the queue.
    pub(super) fn push(&mut self, tx: &Tx<'_>, dag: &Dag, change: &Change, operation: Option<OperationId>) {
        for Ready { key, stage, claim_key, chained } in change.ready(tx.now()) {
            self.keys.push(key.0);
            self.stages.push(stage.0);
            self.claim_keys.push(claim_key);
            self.chained.push(chained);
            self.operations.push(operation.map(|id| id.0));
            tx.core.marks.lower(stage, claim_key);
        }
        let key = |bit| change.after.key(bit).0;
        self.skipped.extend(Bits(change.skipped).map(key));
        self.renewed.extend(Bits(change.renewed).map(key));
        self.superseded.extend(Bits(change.superseded).map(key));
        for key in Bits(change.replaced).map(key) {
            match self.versions.get(&key) {
                Some(version) => tx.count_version(*version, -1),
                None => self.replaced.push(key),
            }
        }
        if change.is_other() {
            self.items.insert(change.after.id, change.after.masks);
        }
        tx.count(dag, change);
    }

    /// Whether the input of this leased stage changed in this batch.
    pub(super) fn is_superseded(&self, key: StageKey) -> bool {
        self.superseded.contains(&key.0)
    }

    /// Removes a stage that would enter the queue. Returns whether it was there.
    pub(super) fn remove(&mut self, key: StageKey) -> bool {
        let Some(place) = self.keys.iter().position(|other| *other == key.0) else { return false };
        for column in [&mut self.keys, &mut self.stages, &mut self.claim_keys] {
            column.remove(place);
        }
        self.chained.remove(place);
        self.operations.remove(place);
        true
    }

    /// Subtracts replaced outputs from the counters, and prepares the writes.
    pub(super) async fn prepare(self, tx: &Tx<'_>) -> Result<Prepared, Fail> {
        if !self.replaced.is_empty() {
            for row in tx.query(REPLACED, &[&self.replaced]).await? {
                tx.count_version(row.get(0), -1);
            }
        }
        let statements = tx.prepare_all([SKIP_ALONG, ENQUEUE, SET_MASKS]).await?;
        Ok(Prepared { changes: self, statements })
    }

    /// Writes the changes, without other writes.
    pub(super) async fn write(self, tx: &Tx<'_>) -> Result<(), Fail> {
        self.prepare(tx).await?.write(tx).await
    }

    async fn skip_along(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        if !self.skipped.is_empty() {
            tx.run(statement, &[&self.skipped, &tx.now().0, &SKIPPED_ALONG]).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        let Self { keys, stages, claim_keys, chained, operations, .. } = self;
        if !keys.is_empty() {
            tx.run(statement, &[keys, stages, claim_keys, chained, operations, &tx.now().0]).await?;
        }
        Ok(())
    }

    /// Makes the rare writes, after those that are sent at once.
    async fn write_rare(&self, tx: &Tx<'_>) -> Result<(), Fail> {
        if !self.renewed.is_empty() {
            tx.execute(PUT_BACK, &[&self.renewed]).await?;
            tx.execute(FORGET, &[&self.renewed]).await?;
        }
        if !self.superseded.is_empty() {
            let keys: Vec<i64> = self.superseded.iter().copied().collect();
            tx.execute(SUPERSEDE, &[&keys]).await?;
        }
        Ok(())
    }

    async fn set_masks(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        if self.items.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = self.items.keys().map(|id| id.0).collect();
        let column = |read: fn(&Masks) -> u64| self.items.values().map(|row| read(row) as i64).collect::<Vec<i64>>();
        let (done, skipped) = (column(|masks| masks.done), column(|masks| masks.skipped));
        let (dead, live, stale) = (column(|masks| masks.dead), column(|masks| masks.live), column(|masks| masks.stale));
        let columns: Parameters<'_> = &[&ids, &done, &skipped, &dead, &live, &stale];
        tx.run(statement, columns).await?;
        Ok(())
    }
}

/// Changes that are ready to write.
pub(super) struct Prepared {
    changes: Changes,
    statements: [Statement; 3],
}

impl Prepared {
    /// Writes them, all sent at once: outcomes before the queue, which continues their chain of attempts.
    pub(super) async fn write(&self, tx: &Tx<'_>) -> Result<(), Fail> {
        let Self { changes, statements: [skip, enqueue, masks] } = self;
        try_join!(changes.skip_along(tx, skip), changes.enqueue(tx, enqueue), changes.set_masks(tx, masks))?;
        changes.write_rare(tx).await
    }
}
