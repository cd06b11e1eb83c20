//! The model as tables, and back.
//!
//! Owns the columns of each table. Masks and counters are computed when tables are exported, and dropped when they are
//! imported, except the mask of stale stages, which only an item's row has.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use gristmill_model::{
    Bits, Counters, DeadReason, Digest, ItemId, ItemStatus, JobId, Masks, OperationId, Outcome, StageKey, State,
    Timestamp,
};

use super::facts::{
    Attempt, Component, Cost, Host, Item, Job, Operation, Page, Queued, Settled, Spec, Stage, Version, World,
};
use gristmill_tracker::records::{EventRow, OperationRow, OperationState};
use gristmill_tracker::tables::{Cell, Row, Table};

/// The cells of a row, one after the other.
type Cells = std::vec::IntoIter<Cell>;

/// A value of one cell that is not null.
trait Single: Sized {
    fn cell(&self) -> Cell;
    fn of(cell: Cell) -> Option<Self>;
}

/// A value of one or more cells.
trait Value: Sized {
    fn put(&self, row: &mut Row);
    fn take(cells: &mut Cells) -> Self;
}

impl<T: Single> Value for T {
    fn put(&self, row: &mut Row) {
        row.push(self.cell());
    }

    fn take(cells: &mut Cells) -> Self {
        let cell = cells.next().expect("a cell");
        Self::of(cell.clone()).unwrap_or_else(|| panic!("{cell:?} is in a wrong column"))
    }
}

impl<T: Single> Value for Option<T> {
    fn put(&self, row: &mut Row) {
        row.push(self.as_ref().map_or(Cell::Null, Single::cell));
    }

    fn take(cells: &mut Cells) -> Self {
        cells.next().filter(|cell| *cell != Cell::Null).map(|cell| T::of(cell).expect("a value of that column"))
    }
}

/// Types that are stored as numbers: how they become numbers, and back.
macro_rules! numbers {
    ($($type:ty: $to:expr, $from:expr;)+) => {
        $(impl Single for $type {
            fn cell(&self) -> Cell {
                let to: fn(&Self) -> i64 = $to;
                Cell::Int(to(self))
            }

            fn of(cell: Cell) -> Option<Self> {
                let from: fn(i64) -> Option<Self> = $from;
                if let Cell::Int(number) = cell { from(number) } else { None }
            }
        })+
    };
}

numbers! {
    i64: |number| *number, Some;
    i32: |number| i64::from(*number), |number| number.try_into().ok();
    u32: |number| i64::from(*number), |number| number.try_into().ok();
    u64: |bits| *bits as i64, |bits| Some(bits as u64);
    Timestamp: |at| at.0, |at| Some(Timestamp(at));
    JobId: |id| id.0, |id| Some(JobId(id));
    ItemId: |id| id.0, |id| Some(ItemId(id));
    OperationId: |id| id.0, |id| Some(OperationId(id));
    State: |state| state.code(), State::from_code;
    Outcome: |outcome| outcome.code(), Outcome::from_code;
    DeadReason: |reason| reason.code(), DeadReason::from_code;
    OperationState: |state| state.code(), OperationState::from_code;
}

impl Single for f64 {
    fn cell(&self) -> Cell {
        Cell::Real(*self)
    }

    fn of(cell: Cell) -> Option<Self> {
        if let Cell::Real(number) = cell { Some(number) } else { None }
    }
}

impl Single for String {
    fn cell(&self) -> Cell {
        Cell::Text(self.clone())
    }

    fn of(cell: Cell) -> Option<Self> {
        if let Cell::Text(text) = cell { Some(text) } else { None }
    }
}

impl Single for Digest {
    fn cell(&self) -> Cell {
        Cell::Bytes(self.0.to_vec())
    }

    fn of(cell: Cell) -> Option<Self> {
        if let Cell::Bytes(bytes) = cell { Self::from_slice(&bytes) } else { None }
    }
}

/// Records by their fields, in the order of the columns, and fields without a column.
macro_rules! records {
    ($($type:ident { $($field:ident),+ $(; $($other:ident: $default:expr),+)? })+) => {
        $(impl Value for $type {
            fn put(&self, row: &mut Row) {
                $(self.$field.put(row);)+
            }

            fn take(cells: &mut Cells) -> Self {
                $(let $field = Value::take(cells);)+
                Self { $($field,)+ $($($other: $default),+)? }
            }
        })+
    };
}

records! {
    Counters { attempts, lost, deferrals }
    Masks { done, skipped, dead, live, stale }
    Job { name, spec_id, created_at, reconciled }
    Spec { number, yaml, loaded_at }
    Stage { job, name, place, needs, outputs, version, retired_at }
    Component { raw_hash, size, source, added_at }
    Version { stage, digest, component, declared, created_at }
    Host { name, pid, app_version, started_at, heartbeat_at, ended_at }
    Settled {
        state, reason, counters, settled_at, last_attempt, version, input_hash, output_hash, output, error; stale: false
    }
    Queued { stage, state, claim_key, due_at, counters, last_attempt, first_due_at, operation; fence: None, superseded: false }
    Attempt {
        key, stage, prev, outcome, host, fence, queued_at, started_at, ended_at, version, memory_bytes_max, input_hash,
        spec, operation, error, log
    }
    Cost { attempt, meter, amount }
    EventRow { id, at, kind, job, item, operation, data }
}

macro_rules! tuples {
    ($(($($field:ident),+))+) => {
        $(impl<$($field: Value),+> Value for ($($field,)+) {
            fn put(&self, row: &mut Row) {
                #[expect(non_snake_case, reason = "each is named by its type")]
                let ($($field,)+) = self;
                $($field.put(row);)+
            }

            fn take(cells: &mut Cells) -> Self {
                ($($field::take(cells),)+)
            }
        })+
    };
}

tuples! { (A, B) (A, B, C) }

impl Value for Operation {
    fn put(&self, row: &mut Row) {
        let OperationRow { kind, job, state, planned, done, limit, rate, next_at, .. } = &self.row;
        let OperationRow { actor, why, created_at, updated_at, .. } = &self.row;
        ((kind.clone(), *job, self.filter.clone()), (*state, *planned, *done)).put(row);
        ((*limit, *rate, self.position), (*next_at, actor.clone(), why.clone()), (*created_at, *updated_at)).put(row);
    }

    fn take(cells: &mut Cells) -> Self {
        let ((kind, job, filter), (state, planned, done)) = Value::take(cells);
        let ((limit, rate, position), (next_at, actor, why), (created_at, updated_at)) = Value::take(cells);
        let id = OperationId(0);
        #[rustfmt::skip]
        let row = OperationRow {
            id, kind, job, state, planned, done, limit, rate, next_at, actor, why, created_at, updated_at,
        };
        Self { row, filter, position }
    }
}

fn row(value: &impl Value) -> Row {
    let mut row = Row::new();
    value.put(&mut row);
    row
}

fn rows<K: Value, V: Value>(map: &BTreeMap<K, V>) -> Vec<Row> {
    let both = |(key, value): (&K, &V)| {
        let mut row = row(key);
        value.put(&mut row);
        row
    };
    map.iter().map(both).collect()
}

fn fill<K: Value + Ord, V: Value>(map: &mut BTreeMap<K, V>, rows: impl Iterator<Item = Cells>) {
    map.extend(rows.map(|mut cells| (K::take(&mut cells), V::take(&mut cells))));
}

/// The order of keys: numbers by value, texts and hashes by bytes.
fn compare(one: &[Cell], other: &[Cell]) -> Ordering {
    let pairs = one.iter().zip(other).map(|pair| match pair {
        (Cell::Int(one), Cell::Int(other)) => one.cmp(other),
        (Cell::Text(one), Cell::Text(other)) => one.cmp(other),
        (Cell::Bytes(one), Cell::Bytes(other)) => one.cmp(other),
        other => panic!("no key: {other:?}"),
    });
    pairs.fold(Ordering::Equal, Ordering::then)
}

impl World {
    pub(super) fn export(&self, table: &'static Table, after: Option<&Row>, limit: u32) -> Vec<Row> {
        let mut rows = self.rows(table.name);
        rows.sort_by(|one, other| compare(&one[..table.key], &other[..table.key]));
        rows.retain(|row| after.is_none_or(|after| compare(&row[..table.key], after).is_gt()));
        rows.truncate(limit as usize);
        assert!(rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.name);
        rows
    }

    fn rows(&self, table: &str) -> Vec<Row> {
        match table {
            "jobs" => rows(&self.jobs),
            "job_specs" => rows(&self.specs),
            "stages" => rows(&self.stages),
            "components" => rows(&self.components),
            "versions" => rows(&self.versions),
            "hosts" => rows(&self.hosts),
            "cursors" => rows(&self.cursors),
            "items" => self.items.iter().map(|(id, item)| self.item_cells(*id, item)).collect(),
            "item_data" => self.items.iter().map(|(id, item)| data_cells(*id, item)).collect(),
            "pages" => self.pages.iter().map(|(id, page)| self.page_cells(*id, page)).collect(),
            "sightings" => {
                let all = self.items.iter().flat_map(|(id, item)| item.sightings.iter().map(move |seen| (*id, seen)));
                all.map(|(id, (page, hash))| row(&(id, *hash, *page))).collect()
            }
            "item_stages" => rows(&self.results),
            "queue" => rows(&self.queue),
            "attempts" => rows(&self.attempts),
            "costs" => rows(&self.costs),
            "cost_rollups" => rows(&self.rollups),
            "operations" => rows(&self.operations),
            "events" => self.events.iter().map(row).collect(),
            _ => self.counts(table),
        }
    }

    fn counts(&self, table: &str) -> Vec<Row> {
        let mut counts: Vec<(i64, i64, i64)> = Vec::new();
        match table {
            "stage_counts" => {
                for stage in self.stages.keys() {
                    counts.extend(self.states(*stage).into_iter().map(|(state, n)| (*stage, state.code(), n as i64)));
                }
            }
            "item_counts" => {
                for job in self.jobs.keys() {
                    let items = self.stats(*job).items;
                    let counted = ItemStatus::ALL.into_iter().filter(|status| items[status] > 0);
                    counts.extend(counted.map(|status| (*job, status.code(), items[&status] as i64)));
                }
            }
            "version_counts" => {
                let outputs = |version: i64| {
                    let outputs = self.results.values().filter(|row| row.output.is_some());
                    outputs.filter(|row| row.version == Some(version)).count() as i64
                };
                let counted = self.versions.keys().map(|version| (*version, outputs(*version)));
                return counted.filter(|(_, n)| *n > 0).map(|counted| row(&counted)).collect();
            }
            other => panic!("no table {other}"),
        }
        counts.iter().map(row).collect()
    }

    fn item_cells(&self, id: i64, item: &Item) -> Row {
        row(&((id, item.job, self.masks(id)), (item.priority, item.cancelled_at)))
    }

    fn page_cells(&self, id: i64, page: &Page) -> Row {
        let Page { job, at, source, cursor } = page.clone();
        row(&((id, job, at), self.named(id), (source, cursor)))
    }

    pub(super) fn import(&mut self, table: &'static Table, rows: Vec<Row>) {
        let is_whole = |row: &Row| assert_eq!(row.len(), table.columns.len(), "{}", table.name);
        let rows = rows.into_iter().inspect(is_whole).map(Row::into_iter);
        match table.name {
            "jobs" => fill(&mut self.jobs, rows),
            "job_specs" => fill(&mut self.specs, rows),
            "stages" => fill(&mut self.stages, rows),
            "components" => fill(&mut self.components, rows),
            "versions" => fill(&mut self.versions, rows),
            "hosts" => fill(&mut self.hosts, rows),
            "cursors" => fill(&mut self.cursors, rows),
            "items" => rows.for_each(|mut cells| self.import_item(&mut cells)),
            "item_data" => rows.for_each(|mut cells| self.import_data(&mut cells)),
            "pages" => {
                for mut cells in rows {
                    // The number of its sightings is counted when it is needed.
                    let ((id, job, at), _, (source, cursor)): (_, i64, _) = Value::take(&mut cells);
                    self.pages.insert(id, Page { job, at, source, cursor });
                }
            }
            "sightings" => {
                for mut cells in rows {
                    let (item, hash, page): (i64, _, _) = Value::take(&mut cells);
                    let item = self.items.get_mut(&item).expect("the item comes first");
                    item.sightings.insert((page, hash));
                }
            }
            "item_stages" => {
                fill(&mut self.results, rows);
                for (key, result) in &mut self.results {
                    result.stale |= self.stale.remove(key);
                }
            }
            "queue" => fill(&mut self.queue, rows),
            "attempts" => fill(&mut self.attempts, rows),
            "costs" => fill(&mut self.costs, rows),
            "cost_rollups" => fill(&mut self.rollups, rows),
            "operations" => {
                fill(&mut self.operations, rows);
                self.operations.iter_mut().for_each(|(id, operation)| operation.row.id = OperationId(*id));
            }
            "events" => self.events.extend(rows.map(|mut cells| EventRow::take(&mut cells))),
            _ => {}
        }
    }

    fn import_item(&mut self, cells: &mut Cells) {
        let ((id, job, masks), (priority, cancelled_at)): ((i64, _, Masks), _) = Value::take(cells);
        // The next table has the discovered data.
        let (key, data, sightings) = (String::new(), String::new(), BTreeSet::new());
        let (data_hash, seen_hash) = (Digest([0; 32]), Digest([0; 32]));
        let (discovered_at, changed_at) = (Timestamp(0), Timestamp(0));
        self.stale.extend(Bits(masks.stale).map(|bit| StageKey::new(ItemId(id), bit).0));
        #[rustfmt::skip]
        let item = Item {
            job, key, data, data_hash, seen_hash, priority, cancelled_at, discovered_at, changed_at, sightings,
        };
        self.items.insert(id, item);
    }

    fn import_data(&mut self, cells: &mut Cells) {
        let (id, job): (i64, i64) = Value::take(cells);
        let item = self.items.get_mut(&id).expect("the item comes first");
        assert_eq!(item.job, job, "both rows name the same job");
        (item.discovered_at, item.changed_at, item.key) = Value::take(cells);
        let seen_hash: Option<Digest>;
        (item.data_hash, seen_hash, item.data) = Value::take(cells);
        item.seen_hash = seen_hash.unwrap_or(item.data_hash);
    }
}

fn data_cells(id: i64, item: &Item) -> Row {
    let Item { job, discovered_at, changed_at, key, data, data_hash, seen_hash, .. } = item.clone();
    row(&((id, job), (discovered_at, changed_at, key), (data_hash, seen_hash, data)))
}
