//! One transaction on one connection.
//!
//! Owns its beginning, which reads the database's time and the DAGs, and its end, which writes the counters. Never
//! knows what is written in between.

use std::cell::{Cell, RefCell};

use deadpool_postgres::Object;
use futures_util::try_join;
use gristmill_model::{Dag, JobId, StageId, State, Timestamp};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::core::{Core, Session};
use super::fail::Fail;
use super::shapes::{JOBS, JobState};
use super::tally::{self, Charges};
use super::{Access, Time};
use gristmill_tracker::Error;
use gristmill_tracker::rules::events::Event;
use gristmill_tracker::rules::{Change, Tally};

/// The lock of the DAGs. A transaction that changes a DAG holds it alone; transactions that use DAGs share it. So none
/// uses a DAG that another one is changing.
const SHAPE_LOCK: i64 = 0x6772_6973_7368_6170;

const BEGIN_SHARED: &str = "SELECT pg_advisory_xact_lock_shared($1), pg_backend_pid(),
    current_setting('gristmill.started')::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
const BEGIN_ALONE: &str = "SELECT pg_advisory_xact_lock($1), pg_backend_pid(),
    current_setting('gristmill.started')::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
const COMMITTED: &str = "INSERT INTO commits (pid, started, number, at)
    VALUES ($1, $2, $3, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    ON CONFLICT (pid, started) DO UPDATE SET number = excluded.number, at = excluded.at";

/// Whether a transaction uses the DAGs, or changes one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    Shared,
    Alone,
}

pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) struct Tx<'c> {
    pub(super) core: &'c Core,
    client: &'c Object,
    number: i64,
    session: &'c Cell<Option<Session>>,
    now: Cell<Timestamp>,
    shift: Cell<i64>,
    open: Cell<bool>,
    wrote: Cell<bool>,
    woke: Cell<bool>,
    jobs: RefCell<Vec<JobState>>,
    tally: RefCell<Tally>,
    charges: RefCell<Charges>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(core: &'c Core, client: &'c Object, number: i64, session: &'c Cell<Option<Session>>) -> Self {
        Self {
            core,
            client,
            number,
            session,
            now: Cell::default(),
            shift: Cell::default(),
            open: Cell::default(),
            wrote: Cell::default(),
            woke: Cell::default(),
            jobs: RefCell::default(),
            tally: RefCell::default(),
            charges: RefCell::default(),
        }
    }

    /// A statement, prepared once for each connection.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, Fail> {
        Ok(self.client.prepare_cached(sql).await?)
    }

    /// Statements that will be sent together. All are prepared before the first one is sent, since their order matters.
    pub(super) async fn prepare_all<const N: usize>(&self, sql: [&str; N]) -> Result<[Statement; N], Fail> {
        let mut statements = Vec::with_capacity(N);
        for sql in sql {
            statements.push(self.prepare(sql).await?);
        }
        statements.try_into().map_err(|_| Fail::Broken("internal error: statements".to_owned()))
    }

    /// Begins. `now` is the caller's time, which counts if the tracker uses its callers' clocks; none for an operation
    /// that writes no time.
    pub(super) async fn begin(&self, lock: Lock, now: impl Into<Option<Timestamp>>) -> Result<(), Fail> {
        let begin = if lock == Lock::Shared { BEGIN_SHARED } else { BEGIN_ALONE };
        let [begin, jobs] = self.prepare_all([begin, JOBS]).await?;
        self.begin_with(&begin, &jobs, now.into()).await
    }

    /// As `begin`, for a shared lock, with prepared statements: statements that are sent with it run inside the
    /// transaction.
    pub(super) async fn begin_with(
        &self,
        begin: &Statement,
        jobs: &Statement,
        now: Option<Timestamp>,
    ) -> Result<(), Fail> {
        self.open.set(true);
        let ((), begun, jobs) = try_join!(
            async { Ok(self.client.batch_execute("BEGIN").await?) },
            async { Ok::<_, Fail>(self.client.query_one(begin, &[&SHAPE_LOCK]).await?) },
            async { Ok(self.client.query(jobs, &[]).await?) },
        )?;
        self.session.set(Some(Session { pid: begun.get(1), started: begun.get(2), number: self.number }));
        self.now.set(now.unwrap_or_default());
        if self.core.time == Time::Database {
            let at = Timestamp(begun.get(3));
            self.now.set(at);
            if let Some(now) = now {
                self.shift.set(at.0.saturating_sub(now.0));
                self.core.skew.set(at.0.saturating_sub(now.0));
            }
        }
        let jobs: Vec<JobState> = jobs.iter().map(JobState::read).collect();
        self.core.shapes.refresh(self, &jobs).await?;
        self.jobs.replace(jobs);
        Ok(())
    }

    pub(super) fn begin_statements() -> [&'static str; 2] {
        [BEGIN_SHARED, JOBS]
    }

    /// Begins a transaction that only reads, and sees one snapshot.
    pub(super) async fn begin_snapshot(&self) -> Result<(), Fail> {
        self.open.set(true);
        self.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(self.client.batch_execute(super::connect::WHOLE_TABLES).await?)
    }

    /// Changes the settings for reading whole tables.
    pub(super) async fn whole_tables(&self) -> Result<(), Fail> {
        Ok(self.client.batch_execute(super::connect::WHOLE_TABLES).await?)
    }

    /// The time of the transaction.
    pub(super) fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// A caller's time, converted to the clock of the transaction.
    pub(super) fn shifted(&self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add(self.shift.get()))
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// The DAG of a job, as the database has it.
    pub(super) fn dag(&self, job: JobId) -> Result<std::rc::Rc<Dag>, Fail> {
        self.core.shapes.dag(job).ok_or(Fail::Refused(Error::UnknownJob(job.0)))
    }

    pub(super) fn jobs(&self) -> Vec<JobState> {
        self.jobs.borrow().clone()
    }

    /// Reads.
    pub(super) async fn rows(&self, statement: &Statement, parameters: Parameters<'_>) -> Result<Vec<Row>, Fail> {
        Ok(self.client.query(statement, parameters).await?)
    }

    /// Writes. Returns how many rows.
    pub(super) async fn run(&self, statement: &Statement, parameters: Parameters<'_>) -> Result<u64, Fail> {
        self.wrote.set(true);
        Ok(self.client.execute(statement, parameters).await?)
    }

    /// Writes, and reads what it returns.
    pub(super) async fn take(&self, statement: &Statement, parameters: Parameters<'_>) -> Result<Vec<Row>, Fail> {
        self.wrote.set(true);
        Ok(self.client.query(statement, parameters).await?)
    }

    pub(super) async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Fail> {
        let statement = self.prepare(sql).await?;
        self.rows(&statement, parameters).await
    }

    pub(super) async fn query_opt(&self, sql: &str, parameters: Parameters<'_>) -> Result<Option<Row>, Fail> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    pub(super) async fn query_one(&self, sql: &str, parameters: Parameters<'_>) -> Result<Row, Fail> {
        let row = self.query_opt(sql, parameters).await?;
        row.ok_or_else(|| Fail::Refused(Error::Damaged("a row that must be there is missing".to_owned())))
    }

    pub(super) async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, Fail> {
        let statement = self.prepare(sql).await?;
        self.run(&statement, parameters).await
    }

    pub(super) async fn query_writing(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Fail> {
        let statement = self.prepare(sql).await?;
        self.take(&statement, parameters).await
    }

    /// Counts stages of items in or out of a state.
    pub(super) fn count_stage(&self, stage: StageId, state: State, change: i64) {
        self.tally.borrow_mut().stage(stage, state, change);
        if state == State::Ready && change > 0 {
            self.woke.set(true);
        }
    }

    /// Counts the change of an item. An item that is not reconciled yet is not counted: reconciling will do that.
    pub(super) fn count(&self, dag: &Dag, change: &Change) {
        let jobs = self.jobs.borrow();
        let reconciled = jobs.iter().find(|state| state.id == change.after.job).and_then(|state| state.reconciled);
        let is_counted = reconciled.is_none_or(|reconciled| change.after.id.0 <= reconciled);
        change.count(dag, is_counted, &mut self.tally.borrow_mut());
        if change.entered.ready != 0 {
            self.woke.set(true);
        }
    }

    pub(super) fn count_version(&self, version: i64, change: i64) {
        self.tally.borrow_mut().version(version, change);
    }

    pub(super) fn count_charge(&self, stage: StageId, meter: &str, day: i64, amount: f64) {
        let mut charges = self.charges.borrow_mut();
        let (sum, n) = charges.entry((stage.0, meter.to_owned(), day)).or_default();
        *sum += amount;
        *n += 1;
    }

    /// Notifies other hosts after the commit.
    pub(super) fn wake_others(&self) {
        self.woke.set(true);
    }

    pub(super) fn woke(&self) -> bool {
        self.woke.get()
    }

    /// Records an event.
    pub(super) async fn note(&self, event: &Event<'_>) -> Result<(), Fail> {
        self.note_all(std::slice::from_ref(event)).await
    }

    /// Records events, in their order.
    pub(super) async fn note_all(&self, events: &[Event<'_>]) -> Result<(), Fail> {
        const NOTE: &str = "INSERT INTO events (at, kind, job_id, item_id, operation_id, data)
            SELECT $1, kind, job, item, operation, data
            FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
                WITH ORDINALITY AS u (kind, job, item, operation, data, place) ORDER BY place";
        if events.is_empty() {
            return Ok(());
        }
        let column = |read: fn(&Event<'_>) -> Option<i64>| events.iter().map(read).collect::<Vec<_>>();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind).collect();
        let data: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
        let jobs = column(|event| event.job.map(|id| id.0));
        let items = column(|event| event.item.map(|id| id.0));
        let operations = column(|event| event.operation.map(|id| id.0));
        self.execute(NOTE, &[&self.now().0, &kinds, &jobs, &items, &operations, &data]).await?;
        Ok(())
    }

    /// Writes the counters and commits. For a transaction that only read, a broken connection does not matter.
    pub(super) async fn commit(&self) -> Result<(), Fail> {
        if !self.is_open() {
            return Ok(());
        }
        let (tally, charges) = (self.tally.take(), self.charges.take());
        if !self.wrote.get() && tally::is_empty(&tally, &charges) {
            return Ok(self.client.batch_execute("COMMIT").await?);
        }
        let Some(Session { pid, started, number }) = self.session.get() else {
            return Err(Fail::Broken("internal error: a transaction without a session".to_owned()));
        };
        let committed = self.prepare(COMMITTED).await?;
        let counters = tally::prepare(self, tally, charges).await?;
        let notify = self.woke.get() && self.core.access == Access::Operator;
        let end = if notify { "NOTIFY gristmill; COMMIT" } else { "COMMIT" };
        try_join!(
            counters.write(self),
            async { self.run(&committed, &[&i64::from(pid), &started, &number]).await },
            async { Ok(self.client.batch_execute(end).await?) },
        )?;
        Ok(())
    }
}
