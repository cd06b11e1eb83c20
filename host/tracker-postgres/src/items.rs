//! Records items that are discovered or found again.
//!
//! Owns the upsert: an unchanged item costs one index look-up and no write, not even a lock. A batch is folded in
//! memory, item by item in its order, and then one statement writes each table. Never merges data itself.

use std::collections::{BTreeMap, HashMap};

use gristmill_model::{Bits, Dag, Digest, ItemId, OnUpdate, Rediscovery, StageId, StageKey, State};
use tokio_postgres::Row;

use super::changes::{Changes, read_item, with_result};
use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::Error;
use gristmill_tracker::records::{NewItem, Restart, Source, Upsert, Upserted};
use gristmill_tracker::rules::{Change, Item, discover, events};

const SEEN: &str = "SELECT key, coalesce(seen_hash, data_hash), priority
    FROM item_data JOIN items ON items.id = item_data.id WHERE item_data.job_id = $1 AND key = ANY ($2)";
/// Locks both rows, so that a change of either by another host is read too.
const LOCK: &str = concat!(
    "SELECT ",
    gristmill_tracker::item_columns!(),
    ", key, data, data_hash, coalesce(seen_hash, data_hash)
    FROM item_data JOIN items ON items.id = item_data.id
    WHERE item_data.job_id = $1 AND key = ANY ($2) ORDER BY items.id FOR UPDATE"
);
const SIGHTINGS: &str = "SELECT item_id, data_hash, page_id FROM sightings WHERE item_id = ANY ($1)";
const INSERT: &str = "INSERT INTO item_data (job_id, discovered_at, changed_at, key, data_hash, seen_hash, data)
    SELECT $1, $2, $2, k, hash, seen, data FROM unnest($3::text[], $4::bytea[], $5::bytea[], $6::text[])
        WITH ORDINALITY AS u (k, hash, seen, data, place) ORDER BY place
    ON CONFLICT (job_id, key) DO NOTHING RETURNING id, key";
/// A separate statement: joining the inserted rows with the batch would take quadratic time.
const INSERT_ITEMS: &str = "INSERT INTO items (id, job_id, live, priority)
    SELECT item, $1, $2, priority FROM unnest($3::bigint[], $4::bigint[]) AS u (item, priority)";
const UPDATE: &str = "UPDATE item_data SET data_hash = hash, seen_hash = seen, data = u.data,
        changed_at = CASE WHEN is_new THEN $6 ELSE changed_at END
    FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::text[], $5::bool[])
        AS u (item, hash, seen, data, is_new) WHERE id = item";
const PRIORITIZE: &str = "UPDATE items SET priority = u.priority
    FROM unnest($1::bigint[], $2::bigint[]) AS u (item, priority) WHERE id = item";
/// Adds a number to the claim keys of an item's queue rows.
const MOVE_IN_LINE: &str =
    "UPDATE queue SET claim_key = claim_key + by FROM unnest($1::bigint[], $2::bigint[]) AS u (item, by)
    WHERE key BETWEEN item << 6 AND item << 6 | 63 RETURNING state, stage_id, claim_key";
const SEE: &str = "WITH page AS (
        INSERT INTO pages (job_id, at, n, source, cursor) VALUES ($3, $4, cardinality($1::bigint[]), $5, $6) RETURNING id
    )
    INSERT INTO sightings (item_id, data_hash, page_id)
    SELECT item, hash, id FROM page CROSS JOIN unnest($1, $2::bytea[]) AS u (item, hash)
    ON CONFLICT (item_id, data_hash) DO UPDATE SET page_id = excluded.page_id";
const FORGET: &str = "DELETE FROM sightings USING unnest($1::bigint[], $2::bytea[]) AS u (item, hash)
    WHERE item_id = item AND data_hash = hash";
/// Locks in the order of ids, like all locks of items.
const LOCK_PAGES: &str = "SELECT FROM pages WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
const LEAVE_PAGES: &str = "UPDATE pages SET n = pages.n - u.n FROM unnest($1::bigint[], $2::bigint[]) AS u (page, n)
    WHERE id = page";
const DELETE_PAGES: &str = "DELETE FROM pages WHERE id = ANY ($1) AND n <= 0";
const CURSOR: &str = "INSERT INTO cursors (job_id, cursor, updated_at) VALUES ($1, $2, $3)
    ON CONFLICT (job_id) DO UPDATE SET cursor = excluded.cursor, updated_at = excluded.updated_at";
const CURSOR_IS: &str = "SELECT cursor FROM cursors WHERE job_id = $1";

/// The page that is being recorded, before it has a number: it comes after all others.
const THIS_PAGE: i64 = i64::MAX;

/// An item of the current batch.
struct Known {
    /// The item as it is now. A new one has no number yet.
    item: Item,
    is_new: bool,
    key: String,
    data: String,
    data_hash: Digest,
    seen: Digest,
    /// The priority that it was last found with.
    priority: i64,
    /// Its priority in the database.
    priority_before: i64,
    /// The dead stages with an older result, if a rule needs them.
    results: u64,
    /// The changes of its stages by new data.
    changes: Vec<Change>,
    /// The hash of the data of each sighting, and its last page.
    sightings: Vec<(Digest, i64)>,
    seen_now: Vec<Digest>,
    dropped: Vec<Digest>,
    /// The pages that sightings do not name any more.
    left: Vec<i64>,
    /// Whether its row must be written.
    is_changed: bool,
    /// Whether its data changed, even if it changed back.
    has_new_data: bool,
}

pub(super) async fn upsert(tx: &Tx<'_>, batch: &Upsert) -> Result<Upserted, Fail> {
    tx.begin(Lock::Shared, batch.now).await?;
    let dag = tx.dag(batch.job)?;
    let new = discover::discover(&dag, batch.job);
    let mut done = Upserted::default();
    let seen = known_as_they_are(tx, batch).await?;
    let mut known = load(tx, batch, &dag, &seen).await?;
    let mut places: HashMap<String, usize> =
        known.iter().enumerate().map(|(place, item)| (item.key.clone(), place)).collect();
    for item in &batch.items {
        let Some(place) = places.get(&item.key).copied() else {
            if seen.contains_key(&item.key) {
                // All its sightings in this batch are like its last one.
                done.unchanged += 1;
                continue;
            }
            places.insert(item.key.clone(), known.len());
            known.push(Known::new(item, new, batch.rediscovery.sightings_max));
            done.new += 1;
            continue;
        };
        let changed = known[place].see(item, &batch.rediscovery, &dag)?;
        done.changed += u64::from(changed);
        done.unchanged += u64::from(!changed);
    }
    write(tx, batch, &dag, known).await?;
    write_cursor(tx, batch).await?;
    Ok(done)
}

/// The data hash and priority that an item was last found with.
type Seen = (Digest, i64);

/// The known keys, with what they were last found with.
async fn known_as_they_are(tx: &Tx<'_>, batch: &Upsert) -> Result<HashMap<String, Seen>, Fail> {
    let mut keys: Vec<&str> = batch.items.iter().map(|item| item.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let rows = tx.query(SEEN, &[&batch.job.0, &keys]).await?;
    rows.iter().map(|row| Ok((row.get(0), (digest(row.get(1))?, row.get(2))))).collect()
}

/// Locks and reads the known items that are found with other data or another priority.
async fn load(tx: &Tx<'_>, batch: &Upsert, dag: &Dag, seen: &HashMap<String, Seen>) -> Result<Vec<Known>, Fail> {
    let differs =
        |item: &&NewItem| seen.get(&item.key).is_some_and(|seen| *seen != (item.data_hash, i64::from(item.priority)));
    let mut keys: Vec<&str> = batch.items.iter().filter(differs).map(|item| item.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx.take(&tx.prepare(LOCK).await?, &[&batch.job.0, &keys]).await?;
    let mut known = rows.iter().map(Known::read).collect::<Result<Vec<_>, Fail>>()?;
    let ids: Vec<i64> = known.iter().map(|item| item.item.id.0).collect();
    let mut sightings: HashMap<i64, Vec<(Digest, i64)>> = HashMap::new();
    for row in tx.query(SIGHTINGS, &[&ids]).await? {
        sightings.entry(row.get(0)).or_default().push((digest(row.get(1))?, row.get(2)));
    }
    for item in &mut known {
        item.sightings = sightings.remove(&item.item.id.0).unwrap_or_default();
    }
    if batch.rediscovery.on_update == OnUpdate::Reprocess {
        let asked = |item: &Known| {
            Bits(discover::reprocess_asks(dag, &item.item)).map(|bit| item.item.key(bit)).collect::<Vec<_>>()
        };
        let keys: Vec<i64> = known.iter().flat_map(asked).map(|key| key.0).collect();
        let found = with_result(tx, &keys).await?;
        for item in &mut known {
            let has = |key: &StageKey| found.contains(&key.0);
            item.results = asked(item).iter().filter(|key| has(key)).fold(0, |mask, key| mask | key.bit().mask());
        }
    }
    Ok(known)
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest, Fail> {
    Digest::from_slice(bytes).ok_or_else(|| Fail::Refused(Error::Damaged("a hash is not 32 bytes long".to_owned())))
}

impl Known {
    fn new(item: &NewItem, new: Change, sightings_max: u32) -> Self {
        let mut known = Self {
            item: new.after,
            is_new: true,
            key: item.key.clone(),
            data: item.data.clone(),
            data_hash: item.data_hash,
            seen: item.data_hash,
            priority: i64::from(item.priority),
            priority_before: i64::from(item.priority),
            results: 0,
            // Applied once the item has a number.
            changes: vec![new.numbered(ItemId(0), i64::from(item.priority))],
            sightings: Vec::new(),
            seen_now: Vec::new(),
            dropped: Vec::new(),
            left: Vec::new(),
            is_changed: true,
            has_new_data: true,
        };
        known.remember(item.data_hash, sightings_max);
        known
    }

    const fn is_written(&self) -> bool {
        self.is_changed || self.priority != self.priority_before
    }

    fn read(row: &Row) -> Result<Self, Fail> {
        let item = read_item(row);
        Ok(Self {
            item,
            is_new: false,
            key: row.get(9),
            data: row.get(10),
            data_hash: digest(row.get(11))?,
            seen: digest(row.get(12))?,
            priority: item.priority,
            priority_before: item.priority,
            results: 0,
            changes: Vec::new(),
            sightings: Vec::new(),
            seen_now: Vec::new(),
            dropped: Vec::new(),
            left: Vec::new(),
            is_changed: false,
            has_new_data: false,
        })
    }

    /// Processes a sighting of a known item. Returns whether its data or its priority changed.
    fn see(&mut self, found: &NewItem, rediscovery: &Rediscovery, dag: &Dag) -> Result<bool, Fail> {
        let is_other = self.see_data(found, rediscovery, dag)?;
        let priority = i64::from(found.priority);
        let is_moved = self.priority != priority;
        self.priority = priority;
        // Stages that enter the queue in this batch get the last priority.
        self.changes.iter_mut().for_each(|change| change.after.priority = priority);
        Ok(is_other || is_moved)
    }

    fn see_data(&mut self, found: &NewItem, rediscovery: &Rediscovery, dag: &Dag) -> Result<bool, Fail> {
        if self.seen == found.data_hash {
            return Ok(false);
        }
        let again = self.sightings.iter().any(|(hash, _)| *hash == found.data_hash);
        let known = discover::Known { data_hash: self.data_hash, data: Some((&self.data, again)) };
        let merged = discover::merge(&rediscovery.merge, found, known)?.map(|(data, hash)| (data.into_owned(), hash));
        self.is_changed = true;
        self.seen = found.data_hash;
        self.remember(found.data_hash, rediscovery.sightings_max);
        let Some((data, hash)) = merged else { return Ok(false) };
        self.data = data;
        self.data_hash = hash;
        self.has_new_data = true;
        if rediscovery.on_update == OnUpdate::Reprocess {
            let change = discover::reprocess(dag, self.item, self.results);
            self.item = change.after;
            self.changes.push(change);
        }
        Ok(true)
    }

    /// Adds a sighting, and removes the oldest ones beyond `most`.
    fn remember(&mut self, hash: Digest, most: u32) {
        if most == 0 && self.sightings.is_empty() {
            return;
        }
        let before = self.sightings.iter().position(|(known, _)| *known == hash);
        let before = before.map(|place| self.sightings.remove(place).1);
        self.left.extend(before.filter(|page| *page != THIS_PAGE));
        self.sightings.push((hash, THIS_PAGE));
        self.dropped.retain(|dropped| *dropped != hash);
        if !self.seen_now.contains(&hash) {
            self.seen_now.push(hash);
        }
        self.sightings.sort_unstable_by_key(|(hash, page)| (*page, *hash));
        while self.sightings.len() > most as usize {
            let (oldest, page) = self.sightings.remove(0);
            self.left.extend(Some(page).filter(|page| *page != THIS_PAGE));
            self.seen_now.retain(|seen| *seen != oldest);
            self.dropped.push(oldest);
        }
    }
}

async fn write(tx: &Tx<'_>, batch: &Upsert, dag: &Dag, items: Vec<Known>) -> Result<(), Fail> {
    let (mut new, known): (Vec<Known>, Vec<Known>) =
        items.into_iter().filter(Known::is_written).partition(|item| item.is_new);
    insert(tx, batch, &mut new).await?;
    update(tx, &known).await?;
    prioritize(tx, &known).await?;
    let mut changes = Changes::default();
    let all = || known.iter().chain(&new);
    for change in all().flat_map(|item| &item.changes) {
        changes.push(tx, dag, change, None);
    }
    changes.write(tx).await?;
    let flat = |pick: fn(&Known) -> &Vec<Digest>| -> (Vec<i64>, Vec<Vec<u8>>) {
        all().flat_map(|item| pick(item).iter().map(|hash| (item.item.id.0, hash.0.to_vec()))).unzip()
    };
    let (ids, hashes) = flat(|item| &item.seen_now);
    if !ids.is_empty() {
        let parameters: super::tx::Parameters<'_> =
            &[&ids, &hashes, &batch.job.0, &tx.now().0, &batch.source.name(), &batch.source.cursor()];
        tx.execute(SEE, parameters).await?;
    }
    let (ids, hashes) = flat(|item| &item.dropped);
    if !ids.is_empty() {
        tx.execute(FORGET, &[&ids, &hashes]).await?;
    }
    leave_pages(tx, all().flat_map(|item| item.left.iter().copied())).await
}

/// Subtracts sightings from these pages' counts, and deletes the pages without sightings.
pub(super) async fn leave_pages(tx: &Tx<'_>, left: impl Iterator<Item = i64>) -> Result<(), Fail> {
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    left.for_each(|page| *counts.entry(page).or_default() += 1);
    if counts.is_empty() {
        return Ok(());
    }
    let (pages, counts): (Vec<i64>, Vec<i64>) = counts.into_iter().unzip();
    tx.query_writing(LOCK_PAGES, &[&pages]).await?;
    tx.execute(LEAVE_PAGES, &[&pages, &counts]).await?;
    tx.execute(DELETE_PAGES, &[&pages]).await?;
    Ok(())
}

/// Inserts both rows of new items, and gives each its number.
async fn insert(tx: &Tx<'_>, batch: &Upsert, new: &mut [Known]) -> Result<(), Fail> {
    let Some(first) = new.first() else { return Ok(()) };
    let live = first.item.masks.live as i64;
    let Columns { priorities, hashes, seen, data } = Columns::of(&new.iter().collect::<Vec<_>>());
    let keys: Vec<&str> = new.iter().map(|item| item.key.as_str()).collect();
    let parameters: super::tx::Parameters<'_> = &[&batch.job.0, &tx.now().0, &keys, &hashes, &seen, &data];
    let rows = tx.query_writing(INSERT, parameters).await?;
    if rows.len() < new.len() {
        return Err(Fail::Again("another host found the same item at the same time".to_owned()));
    }
    let ids: HashMap<String, i64> = rows.iter().map(|row| (row.get(1), row.get(0))).collect();
    let mut numbers = Vec::with_capacity(new.len());
    for item in &*new {
        let id = ids.get(&item.key).copied();
        numbers.push(id.ok_or_else(|| Error::Damaged("an item was not inserted".to_owned()))?);
    }
    tx.execute(INSERT_ITEMS, &[&batch.job.0, &live, &numbers, &priorities]).await?;
    for (item, id) in new.iter_mut().zip(numbers) {
        item.item.id = ItemId(id);
        for change in &mut item.changes {
            *change = change.numbered(item.item.id, change.after.priority);
        }
    }
    Ok(())
}

/// Writes new data of known items. Their results stay, with the hash of the data that they were made from, which shows
/// that they are stale.
async fn update(tx: &Tx<'_>, known: &[Known]) -> Result<(), Fail> {
    if known.is_empty() {
        return Ok(());
    }
    let known: Vec<&Known> = known.iter().filter(|item| item.is_changed).collect();
    let Columns { hashes, seen, data, .. } = Columns::of(&known);
    let ids: Vec<i64> = known.iter().map(|item| item.item.id.0).collect();
    let new: Vec<bool> = known.iter().map(|item| item.has_new_data).collect();
    tx.execute(UPDATE, &[&ids, &hashes, &seen, &data, &new, &tx.now().0]).await?;
    Ok(())
}

/// Gives items the priority that they were last found with, and moves their queue rows.
async fn prioritize(tx: &Tx<'_>, known: &[Known]) -> Result<(), Fail> {
    let moved = known.iter().filter(|item| item.priority != item.priority_before);
    let row =
        |item: &Known| (item.item.id.0, item.priority, discover::moved_in_line(item.priority_before, item.priority));
    let (mut ids, mut priorities, mut by) = (Vec::new(), Vec::new(), Vec::new());
    for (id, priority, shift) in moved.map(row) {
        ids.push(id);
        priorities.push(priority);
        by.push(shift);
    }
    if ids.is_empty() {
        return Ok(());
    }
    tx.execute(PRIORITIZE, &[&ids, &priorities]).await?;
    for row in tx.query_writing(MOVE_IN_LINE, &[&ids, &by]).await? {
        if State::from_code(row.get(0)) == Some(State::Ready) {
            tx.core.marks.lower(StageId(row.get(1)), row.get(2));
        }
    }
    Ok(())
}

struct Columns<'a> {
    priorities: Vec<i64>,
    hashes: Vec<&'a [u8]>,
    seen: Vec<Option<&'a [u8]>>,
    data: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(items: &[&'a Known]) -> Self {
        Self {
            priorities: items.iter().map(|item| item.priority).collect(),
            hashes: items.iter().map(|item| &item.data_hash.0[..]).collect(),
            seen: items.iter().map(|item| (item.seen != item.data_hash).then_some(&item.seen.0[..])).collect(),
            data: items.iter().map(|item| item.data.as_str()).collect(),
        }
    }
}

/// Writes the cursor of the next page of discovery, if it differs.
async fn write_cursor(tx: &Tx<'_>, batch: &Upsert) -> Result<(), Fail> {
    let Source::Page { next, .. } = &batch.source else { return Ok(()) };
    let is: Option<Option<String>> = tx.query_opt(CURSOR_IS, &[&batch.job.0]).await?.map(|row| row.get(0));
    if is.as_ref() != Some(next) {
        tx.execute(CURSOR, &[&batch.job.0, next, &tx.now().0]).await?;
    }
    Ok(())
}

/// Makes the next pass of discovery begin at the first page.
pub(super) async fn restart_discovery(tx: &Tx<'_>, restart: &Restart) -> Result<Option<String>, Fail> {
    tx.begin(Lock::Shared, restart.now).await?;
    tx.dag(restart.job)?;
    let cursor: Option<String> = tx.query_opt(CURSOR_IS, &[&restart.job.0]).await?.and_then(|row| row.get(0));
    if let Some(cursor) = &cursor {
        tx.execute(CURSOR, &[&restart.job.0, &None::<String>, &tx.now().0]).await?;
        tx.note(&events::discovery_restarted(restart, cursor)).await?;
    }
    Ok(cursor)
}
