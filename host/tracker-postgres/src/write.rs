//! Buffers of rows that a batch writes, column by column.
//!
//! Owns the buffers, and the statements that insert them by `unnest`. Never decides what is in a row.

use std::borrow::Cow;

use futures_util::try_join;
use gristmill_model::{Counters, DeadReason, StageKey, State, Timestamp};
use tokio_postgres::Statement;

use super::fail::Fail;
use super::record::Attempt;
use super::tx::Tx;
use gristmill_tracker::records::Completion;
use gristmill_tracker::rules::Taken;

const ATTEMPTS: &str = "INSERT INTO attempts (id, key, stage_id, prev, outcome, host_id, fence, queued_at, started_at,
        ended_at, version_id, memory_bytes_max, input_hash, spec, operation_id, error, log)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
        $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bytea[],
        $14::bigint[], $15::bigint[], $16::text[], $17::text[])";
const COSTS: &str = "INSERT INTO costs (attempt_id, meter, amount)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::float8[])";
const RESULTS: &str = "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, last_attempt,
        version_id, input_hash, output_hash, output, error)
    SELECT k, state, attempts, lost, deferrals, $11, attempt, version, input, output_hash, output, error
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bytea[], $9::bytea[], $10::text[], $12::text[])
        AS u (k, state, attempts, lost, deferrals, attempt, version, input, output_hash, output, error)
    ON CONFLICT (key) DO UPDATE SET state = excluded.state, reason = NULL, attempts = excluded.attempts,
        lost = excluded.lost, deferrals = excluded.deferrals, settled_at = excluded.settled_at,
        last_attempt = excluded.last_attempt, version_id = excluded.version_id, input_hash = excluded.input_hash,
        output_hash = excluded.output_hash, output = excluded.output, error = excluded.error";
/// A dead stage keeps its older result, which stays readable.
const DEATHS: &str =
    "INSERT INTO item_stages (key, state, reason, attempts, lost, deferrals, settled_at, last_attempt, error)
    SELECT k, 6, reason, attempts, lost, deferrals, $8, attempt, error
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
        AS u (k, reason, attempts, lost, deferrals, attempt, error)
    ON CONFLICT (key) DO UPDATE SET state = 6, reason = excluded.reason, attempts = excluded.attempts,
        lost = excluded.lost, deferrals = excluded.deferrals, settled_at = excluded.settled_at,
        last_attempt = excluded.last_attempt, error = excluded.error";
const WAITS: &str =
    "INSERT INTO queue (key, stage_id, state, claim_key, due_at, attempts, lost, deferrals, last_attempt,
        first_due_at, operation_id)
    SELECT k, stage, 3, claim, due, attempts, lost, deferrals, attempt, first_due, operation
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[])
        AS u (k, stage, claim, due, attempts, lost, deferrals, attempt, first_due, operation)";
/// The statements of this file.
pub(super) struct Statements {
    pub(super) attempts: Statement,
    pub(super) costs: Statement,
    pub(super) results: Statement,
    pub(super) deaths: Statement,
    pub(super) waits: Statement,
}

impl Statements {
    pub(super) async fn prepare(tx: &Tx<'_>) -> Result<Self, Fail> {
        let [attempts, costs, results, deaths, waits] =
            tx.prepare_all([ATTEMPTS, COSTS, RESULTS, DEATHS, WAITS]).await?;
        Ok(Self { attempts, costs, results, deaths, waits })
    }
}

/// A text without NUL, which Postgres cannot store.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

type Text<'a> = Option<Cow<'a, str>>;

#[derive(Default)]
pub(super) struct Attempts<'a> {
    numbers: [Vec<i64>; 7],
    started_at: Vec<Option<i64>>,
    prev: Vec<Option<i64>>,
    ended: Vec<i64>,
    versions: Vec<Option<i64>>,
    memory: Vec<Option<i64>>,
    inputs: Vec<Option<&'a [u8]>>,
    specs: Vec<Option<i64>>,
    operations: Vec<Option<i64>>,
    errors: Vec<Text<'a>>,
    logs: Vec<Text<'a>>,
}

impl<'a> Attempts<'a> {
    pub(super) fn push(&mut self, id: i64, attempt: &Attempt<'a>, spec: Option<i64>) {
        let Attempt { host, started_at, completion, taken } = attempt;
        let ran = started_at.is_some();
        let numbers = [id, taken.key.0, taken.stage.0, completion.outcome.code(), host.0, taken.fence.0, taken.due_at];
        for (column, number) in self.numbers.iter_mut().zip(numbers) {
            column.push(number);
        }
        self.prev.push(taken.last_attempt);
        self.started_at.push(started_at.map(|at| at.0));
        self.ended.push(completion.ended_at.0);
        self.versions.push(ran.then_some(completion.version.0));
        self.memory.push(ran.then_some(completion.memory_bytes_max as i64));
        self.inputs.push(ran.then_some(&completion.input_hash.0[..]));
        self.specs.push(spec);
        self.operations.push(taken.operation);
        self.errors.push(completion.error.as_deref().map(text));
        self.logs.push(completion.log.as_deref().map(text));
    }

    pub(super) async fn write(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        let [ids, keys, stages, outcomes, hosts, fences, queued] = &self.numbers;
        if ids.is_empty() {
            return Ok(());
        }
        tx.run(
            statement,
            &[
                ids,
                keys,
                stages,
                &self.prev,
                outcomes,
                hosts,
                fences,
                queued,
                &self.started_at,
                &self.ended,
                &self.versions,
                &self.memory,
                &self.inputs,
                &self.specs,
                &self.operations,
                &self.errors,
                &self.logs,
            ],
        )
        .await?;
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Costs<'a> {
    attempts: Vec<i64>,
    meters: Vec<&'a str>,
    amounts: Vec<f64>,
}

impl<'a> Costs<'a> {
    pub(super) fn push(&mut self, attempt: i64, meter: &'a str, amount: f64) {
        self.attempts.push(attempt);
        self.meters.push(meter);
        self.amounts.push(amount);
    }

    pub(super) async fn write(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        if !self.attempts.is_empty() {
            tx.run(statement, &[&self.attempts, &self.meters, &self.amounts]).await?;
        }
        Ok(())
    }
}

/// Counters and the last attempt, of results and of deaths.
#[derive(Default)]
struct Settled {
    keys: Vec<i64>,
    attempts: Vec<i64>,
    lost: Vec<i64>,
    deferrals: Vec<i64>,
    last: Vec<i64>,
}

impl Settled {
    fn push(&mut self, key: StageKey, counters: Counters, last: i64) {
        self.keys.push(key.0);
        self.attempts.push(i64::from(counters.attempts));
        self.lost.push(i64::from(counters.lost));
        self.deferrals.push(i64::from(counters.deferrals));
        self.last.push(last);
    }
}

#[derive(Default)]
pub(super) struct Outcomes<'a> {
    at: Timestamp,
    results: Settled,
    states: Vec<i64>,
    versions: Vec<i64>,
    inputs: Vec<&'a [u8]>,
    output_hashes: Vec<Option<&'a [u8]>>,
    outputs: Vec<Option<&'a str>>,
    result_errors: Vec<Text<'a>>,
    deaths: Settled,
    reasons: Vec<Option<i64>>,
    death_errors: Vec<Text<'a>>,
}

impl<'a> Outcomes<'a> {
    pub(super) fn push(
        &mut self,
        (state, reason): (State, Option<DeadReason>),
        completion: &'a Completion,
        counters: Counters,
        attempt: i64,
        now: Timestamp,
    ) {
        self.at = now;
        let error = completion.error.as_deref().map(text);
        if state == State::Dead {
            self.deaths.push(completion.key, counters, attempt);
            self.reasons.push(reason.map(DeadReason::code));
            self.death_errors.push(error);
            return;
        }
        let output = completion.output.as_ref();
        self.results.push(completion.key, counters, attempt);
        self.states.push(state.code());
        self.versions.push(completion.version.0);
        self.inputs.push(&completion.input_hash.0[..]);
        self.output_hashes.push(output.map(|output| &output.hash.0[..]));
        self.outputs.push(output.map(|output| output.text.as_str()));
        self.result_errors.push(error);
    }

    pub(super) async fn write(&self, tx: &Tx<'_>, statements: &Statements) -> Result<(), Fail> {
        try_join!(self.write_results(tx, &statements.results), self.write_deaths(tx, &statements.deaths))?;
        Ok(())
    }

    async fn write_results(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        let Settled { keys, attempts, lost, deferrals, last } = &self.results;
        if keys.is_empty() {
            return Ok(());
        }
        let at = self.at.0;
        tx.run(
            statement,
            &[
                keys,
                &self.states,
                attempts,
                lost,
                deferrals,
                last,
                &self.versions,
                &self.inputs,
                &self.output_hashes,
                &self.outputs,
                &at,
                &self.result_errors,
            ],
        )
        .await?;
        Ok(())
    }

    async fn write_deaths(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        let Settled { keys, attempts, lost, deferrals, last } = &self.deaths;
        if !keys.is_empty() {
            let at = self.at.0;
            let errors = &self.death_errors;
            tx.run(statement, &[keys, &self.reasons, attempts, lost, deferrals, last, errors, &at]).await?;
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Waits {
    settled: Settled,
    stages: Vec<i64>,
    claim_keys: Vec<i64>,
    due_at: Vec<i64>,
    first_due_at: Vec<i64>,
    operations: Vec<Option<i64>>,
}

impl Waits {
    pub(super) fn push(&mut self, taken: &Taken, counters: Counters, attempt: i64, due_at: i64, claim_key: i64) {
        self.settled.push(taken.key, counters, attempt);
        self.stages.push(taken.stage.0);
        self.claim_keys.push(claim_key);
        self.due_at.push(due_at);
        self.first_due_at.push(taken.first_due_at);
        self.operations.push(taken.operation);
    }

    /// Removes a stage. Returns whether it was there.
    pub(super) fn remove(&mut self, key: StageKey) -> bool {
        let Settled { keys, attempts, lost, deferrals, last } = &mut self.settled;
        let Some(place) = keys.iter().position(|other| *other == key.0) else { return false };
        let Self { stages, claim_keys, due_at, first_due_at, operations, .. } = self;
        for column in [keys, attempts, lost, deferrals, last, stages, claim_keys, due_at, first_due_at] {
            column.remove(place);
        }
        operations.remove(place);
        true
    }

    pub(super) async fn write(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        let Settled { keys, attempts, lost, deferrals, last } = &self.settled;
        if !keys.is_empty() {
            let Self { stages, claim_keys, due_at, first_due_at, operations, .. } = self;
            let columns: super::tx::Parameters<'_> =
                &[keys, stages, claim_keys, due_at, attempts, lost, deferrals, last, first_due_at, operations];
            tx.run(statement, columns).await?;
        }
        Ok(())
    }
}
