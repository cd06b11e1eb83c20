//! The model as tables, and back.
//!
//! Owns the columns of each. Counters are computed on the way out, and dropped on the way in.

use std::cmp::Ordering;

use gristmill_model::{
    Bits, Counters, DeadReason, Digest, ItemId, ItemStatus, JobId, OperationId, Outcome, StageKey, State, Timestamp,
};

use super::facts::{
    Attempt, Component, Cost, Host, Item, Job, Operation, Queued, Settled, Spec, Stage, Version, World,
};
use crate::records::{EventRow, OperationRow, OperationState, Sighting};
use crate::tables::{Cell, Row, Table};

/// A value as a cell.
trait ToCell {
    fn cell(self) -> Cell;
}

impl ToCell for i64 {
    fn cell(self) -> Cell {
        Cell::Int(self)
    }
}

impl ToCell for u32 {
    fn cell(self) -> Cell {
        Cell::Int(self.into())
    }
}

impl ToCell for Timestamp {
    fn cell(self) -> Cell {
        Cell::Int(self.0)
    }
}

impl ToCell for f64 {
    fn cell(self) -> Cell {
        Cell::Real(self)
    }
}

impl ToCell for &String {
    fn cell(self) -> Cell {
        Cell::Text(self.clone())
    }
}

impl ToCell for Digest {
    fn cell(self) -> Cell {
        Cell::Bytes(self.0.to_vec())
    }
}

impl<T: ToCell> ToCell for Option<T> {
    fn cell(self) -> Cell {
        self.map_or(Cell::Null, ToCell::cell)
    }
}

macro_rules! row {
    ($($value:expr),+ $(,)?) => { vec![$(ToCell::cell($value)),+] };
}

/// The cells of a row, one after the other.
struct Cells(std::vec::IntoIter<Cell>);

impl Cells {
    fn opt_int(&mut self) -> Option<i64> {
        match self.0.next() {
            Some(Cell::Int(number)) => Some(number),
            Some(Cell::Null) => None,
            other => panic!("a number, and not {other:?}"),
        }
    }

    fn int(&mut self) -> i64 {
        self.opt_int().expect("a number")
    }

    fn count(&mut self) -> u32 {
        u32::try_from(self.int()).expect("a count")
    }

    fn time(&mut self) -> Timestamp {
        Timestamp(self.int())
    }

    fn opt_time(&mut self) -> Option<Timestamp> {
        self.opt_int().map(Timestamp)
    }

    fn opt_real(&mut self) -> Option<f64> {
        match self.0.next() {
            Some(Cell::Real(number)) => Some(number),
            Some(Cell::Null) => None,
            other => panic!("a real number, and not {other:?}"),
        }
    }

    fn opt_text(&mut self) -> Option<String> {
        match self.0.next() {
            Some(Cell::Text(text)) => Some(text),
            Some(Cell::Null) => None,
            other => panic!("a text, and not {other:?}"),
        }
    }

    fn text(&mut self) -> String {
        self.opt_text().expect("a text")
    }

    fn opt_digest(&mut self) -> Option<Digest> {
        match self.0.next() {
            Some(Cell::Bytes(bytes)) => Some(Digest::from_slice(&bytes).expect("a hash")),
            Some(Cell::Null) => None,
            other => panic!("a hash, and not {other:?}"),
        }
    }

    fn digest(&mut self) -> Digest {
        self.opt_digest().expect("a hash")
    }

    fn counters(&mut self) -> Counters {
        Counters { attempts: self.count(), lost: self.count(), deferrals: self.count() }
    }
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
            "items" => self.items.iter().map(|(id, item)| self.item_cells(*id, item)).collect(),
            "sightings" => {
                let all = self.items.iter().flat_map(|(id, item)| item.sightings.iter().map(move |row| (*id, row)));
                all.map(|(id, row)| row![id, row.data_hash, row.at, &row.source, row.cursor.as_ref()]).collect()
            }
            "item_stages" => self.results.iter().map(|(key, row)| result_cells(*key, row)).collect(),
            "queue" => self.queue.iter().map(|(key, row)| queue_cells(*key, row)).collect(),
            "attempts" => self.attempts.iter().map(|(id, row)| attempt_cells(*id, row)).collect(),
            "costs" => self.costs.iter().map(|(id, row)| row![*id, row.attempt, &row.meter, row.amount]).collect(),
            "cost_rollups" => {
                let all = self.rollups.iter();
                all.map(|((stage, meter, day), (amount, n))| row![*stage, meter, *day, *amount, *n]).collect()
            }
            "operations" => self.operations.iter().map(|(id, row)| operation_cells(*id, row)).collect(),
            "events" => {
                let all = self.events.iter();
                all.map(|row| {
                    let (job, item) = (row.job.map(|job| job.0), row.item.map(|item| item.0));
                    row![row.id, row.at, &row.kind, job, item, row.operation.map(|operation| operation.0), &row.data]
                })
                .collect()
            }
            "stage_counts" | "item_counts" | "version_counts" => self.counts(table),
            _ => self.registry_rows(table),
        }
    }

    fn registry_rows(&self, table: &str) -> Vec<Row> {
        match table {
            "jobs" => {
                let all = self.jobs.iter();
                all.map(|(id, row)| row![*id, &row.name, row.spec_id, row.created_at, row.reconciled]).collect()
            }
            "job_specs" => {
                let all = self.specs.iter();
                all.map(|((job, spec), row)| row![*job, *spec, row.number, &row.yaml, row.loaded_at]).collect()
            }
            "stages" => {
                let all = self.stages.iter();
                all.map(|(id, row)| {
                    let (needs, outputs) = (row.needs as i64, row.outputs as i64);
                    row![*id, id >> 6, &row.name, row.place, needs, outputs, row.version, row.retired_at]
                })
                .collect()
            }
            "components" => {
                let all = self.components.iter();
                all.map(|(hash, row)| row![*hash, row.raw_hash, row.size, &row.source, row.added_at]).collect()
            }
            "versions" => {
                let all = self.versions.iter();
                all.map(|(id, row)| {
                    row![*id, row.stage, row.digest, row.component, row.declared.as_ref(), row.created_at]
                })
                .collect()
            }
            "hosts" => {
                let all = self.hosts.iter();
                all.map(|(id, row)| {
                    let (name, version) = (&row.name, &row.app_version);
                    row![*id, name, row.pid, version, row.started_at, row.heartbeat_at, row.ended_at]
                })
                .collect()
            }
            "cursors" => {
                let all = self.cursors.iter();
                all.map(|(job, (cursor, at))| row![*job, cursor.as_ref(), *at]).collect()
            }
            other => panic!("no table {other}"),
        }
    }

    fn counts(&self, table: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        match table {
            "stage_counts" => {
                for stage in self.stages.keys() {
                    rows.extend(self.states(*stage).into_iter().map(|(state, n)| row![*stage, state.code(), n as i64]));
                }
            }
            "item_counts" => {
                for job in self.jobs.keys() {
                    let counts = self.stats(*job).items;
                    let statuses = ItemStatus::ALL.into_iter().filter(|status| counts[status] > 0);
                    rows.extend(statuses.map(|status| row![*job, status.code(), counts[&status] as i64]));
                }
            }
            _ => {
                for version in self.versions.keys() {
                    let outputs = self.results.values().filter(|row| row.output.is_some());
                    let n = outputs.filter(|row| row.version == Some(*version)).count();
                    rows.extend((n > 0).then(|| row![*version, n as i64]));
                }
            }
        }
        rows
    }

    fn item_cells(&self, id: i64, item: &Item) -> Row {
        let masks = self.masks(id);
        row![
            id,
            item.job,
            masks.done as i64,
            masks.skipped as i64,
            masks.dead as i64,
            masks.live as i64,
            masks.stale as i64,
            i64::from(item.priority),
            item.cancelled_at,
            item.discovered_at,
            item.changed_at,
            &item.key,
            item.data_hash,
            item.seen_hash,
            &item.data,
        ]
    }

    pub(super) fn import(&mut self, table: &'static Table, rows: Vec<Row>) {
        for row in rows {
            assert_eq!(row.len(), table.columns.len(), "{}", table.name);
            self.import_row(table.name, Cells(row.into_iter()));
        }
    }

    fn import_row(&mut self, table: &str, mut cells: Cells) {
        let c = &mut cells;
        match table {
            "jobs" => {
                let id = c.int();
                let job = Job { name: c.text(), spec_id: c.digest(), created_at: c.time(), reconciled: c.opt_int() };
                self.jobs.insert(id, job);
            }
            "job_specs" => {
                let key = (c.int(), c.digest());
                self.specs.insert(key, Spec { number: c.int(), yaml: c.text(), loaded_at: c.time() });
            }
            "stages" => {
                let (id, _job) = (c.int(), c.int());
                let stage = Stage {
                    name: c.text(),
                    place: c.int(),
                    needs: c.int() as u64,
                    outputs: c.int() as u64,
                    version: c.opt_int(),
                    retired_at: c.opt_time(),
                };
                self.stages.insert(id, stage);
            }
            "components" => {
                let hash = c.digest();
                let component = Component { raw_hash: c.digest(), size: c.int(), source: c.text(), added_at: c.time() };
                self.components.insert(hash, component);
            }
            "versions" => {
                let id = c.int();
                let version = Version {
                    stage: c.int(),
                    digest: c.digest(),
                    component: c.digest(),
                    declared: c.opt_text(),
                    created_at: c.time(),
                };
                self.versions.insert(id, version);
            }
            "hosts" => {
                let id = c.int();
                let host = Host {
                    name: c.text(),
                    pid: c.int(),
                    app_version: c.text(),
                    started_at: c.time(),
                    heartbeat_at: c.time(),
                    ended_at: c.opt_time(),
                };
                self.hosts.insert(id, host);
            }
            "cursors" => {
                let job = c.int();
                self.cursors.insert(job, (c.opt_text(), c.time()));
            }
            "stage_counts" | "item_counts" | "version_counts" => {}
            _ => self.import_fact(table, c),
        }
    }

    fn import_fact(&mut self, table: &str, c: &mut Cells) {
        match table {
            "items" => self.import_item(c),
            "sightings" => {
                let item = self.items.get_mut(&c.int()).expect("the item comes first");
                let (data_hash, at) = (c.digest(), c.time());
                item.sightings.push(Sighting { data_hash, at, source: c.text(), cursor: c.opt_text() });
                item.sightings.sort_by_key(|sighting| std::cmp::Reverse((sighting.at, sighting.data_hash)));
            }
            "item_stages" => {
                let key = c.int();
                let stale = self.stale.remove(&key);
                self.results.insert(key, read_result(c, stale));
            }
            "queue" => {
                let key = c.int();
                self.queue.insert(key, read_queued(c));
            }
            "attempts" => {
                let id = c.int();
                self.attempts.insert(id, read_attempt(c));
            }
            "costs" => {
                let id = c.int();
                let (attempt, meter) = (c.int(), c.text());
                self.costs.insert(id, Cost { attempt, meter, amount: c.opt_real().expect("an amount") });
            }
            "cost_rollups" => {
                let key = (c.int(), c.text(), c.int());
                self.rollups.insert(key, (c.opt_real().expect("an amount"), c.int()));
            }
            "operations" => {
                let id = c.int();
                self.operations.insert(id, read_operation(id, c));
            }
            "events" => {
                let (id, at, kind) = (c.int(), c.time(), c.text());
                let (job, item, operation) = (c.opt_int(), c.opt_int(), c.opt_int());
                self.events.push(EventRow {
                    id,
                    at,
                    kind,
                    job: job.map(JobId),
                    item: item.map(ItemId),
                    operation: operation.map(OperationId),
                    data: c.text(),
                });
            }
            other => panic!("no table {other}"),
        }
    }

    fn import_item(&mut self, c: &mut Cells) {
        let (id, job) = (c.int(), c.int());
        let (_done, _skipped, _dead, _live, stale) = (c.int(), c.int(), c.int(), c.int(), c.int());
        self.stale.extend(Bits(stale as u64).map(|bit| StageKey::new(ItemId(id), bit).0));
        let priority = i32::try_from(c.int()).expect("a priority");
        let (cancelled_at, discovered_at, changed_at) = (c.opt_time(), c.time(), c.time());
        let (key, data_hash) = (c.text(), c.digest());
        let item = Item {
            job,
            key,
            data_hash,
            seen_hash: c.opt_digest().unwrap_or(data_hash),
            data: c.text(),
            priority,
            cancelled_at,
            discovered_at,
            changed_at,
            sightings: Vec::new(),
        };
        self.items.insert(id, item);
    }
}

fn result_cells(key: i64, row: &Settled) -> Row {
    let Counters { attempts, lost, deferrals } = row.counters;
    row![
        key,
        row.state.code(),
        row.reason.map(DeadReason::code),
        attempts,
        lost,
        deferrals,
        row.settled_at,
        row.last_attempt,
        row.version,
        row.input_hash,
        row.output_hash,
        row.output.as_ref(),
        row.error.as_ref(),
    ]
}

fn read_result(c: &mut Cells, stale: bool) -> Settled {
    Settled {
        state: State::from_code(c.int()).expect("a state"),
        stale,
        reason: c.opt_int().and_then(DeadReason::from_code),
        counters: c.counters(),
        settled_at: c.time(),
        last_attempt: c.opt_int(),
        version: c.opt_int(),
        input_hash: c.opt_digest(),
        output_hash: c.opt_digest(),
        output: c.opt_text(),
        error: c.opt_text(),
    }
}

fn queue_cells(key: i64, row: &Queued) -> Row {
    let Counters { attempts, lost, deferrals } = row.counters;
    row![
        key,
        row.stage,
        row.state.code(),
        row.claim_key,
        row.due_at,
        attempts,
        lost,
        deferrals,
        row.last_attempt,
        row.first_due_at,
        row.operation,
    ]
}

fn read_queued(c: &mut Cells) -> Queued {
    Queued {
        stage: c.int(),
        state: State::from_code(c.int()).expect("a state"),
        claim_key: c.int(),
        due_at: c.time(),
        counters: c.counters(),
        last_attempt: c.opt_int(),
        first_due_at: c.opt_time(),
        operation: c.opt_int(),
        fence: None,
    }
}

fn attempt_cells(id: i64, row: &Attempt) -> Row {
    row![
        id,
        row.key,
        row.stage,
        row.prev,
        row.outcome.code(),
        row.host,
        row.fence,
        row.queued_at,
        row.started_at,
        row.ended_at,
        row.version,
        row.memory_bytes_max,
        row.input_hash,
        row.spec,
        row.operation,
        row.error.as_ref(),
        row.log.as_ref(),
    ]
}

fn read_attempt(c: &mut Cells) -> Attempt {
    Attempt {
        key: c.int(),
        stage: c.int(),
        prev: c.opt_int(),
        outcome: Outcome::from_code(c.int()).expect("an outcome"),
        host: c.int(),
        fence: c.int(),
        queued_at: c.time(),
        started_at: c.opt_time(),
        ended_at: c.time(),
        version: c.opt_int(),
        memory_bytes_max: c.opt_int(),
        input_hash: c.opt_digest(),
        spec: c.opt_int(),
        operation: c.opt_int(),
        error: c.opt_text(),
        log: c.opt_text(),
    }
}

fn operation_cells(id: i64, operation: &Operation) -> Row {
    let row = &operation.row;
    row![
        id,
        &row.kind,
        row.job.0,
        &operation.filter,
        row.state.code(),
        row.planned as i64,
        row.done as i64,
        row.limit as i64,
        row.rate,
        operation.position,
        row.next_at,
        &row.actor,
        &row.why,
        row.created_at,
        row.updated_at,
    ]
}

fn read_operation(id: i64, c: &mut Cells) -> Operation {
    let (kind, job, filter) = (c.text(), JobId(c.int()), c.text());
    let state = OperationState::from_code(c.int()).expect("a state");
    let (planned, done, limit) = (c.int() as u64, c.int() as u64, c.int() as u64);
    let (rate, position) = (c.opt_real(), c.int());
    let (next_at, actor, why) = (c.time(), c.text(), c.text());
    let (created_at, updated_at) = (c.time(), c.time());
    let id = OperationId(id);
    let row =
        OperationRow { id, kind, job, state, planned, done, limit, rate, next_at, actor, why, created_at, updated_at };
    Operation { row, filter, position }
}
