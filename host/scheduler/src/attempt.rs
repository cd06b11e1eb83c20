//! One attempt: what its handler gets, and what its result leads to.
//!
//! Owns both ends of an attempt, which are pure computation: preparing the input, and concluding from the result. Only
//! `run`, in between, takes time. Never fails because of a guest: whatever the guest does becomes a completion.

use std::fmt::Write;

use gristmill_model::{
    Counters, DeadReason, Digest, Disposition, Outcome, StageKey, Timestamp, VersionId, decide, idempotency_key,
    input_hash,
};
use gristmill_sandbox::{Attempt, AttemptContext, Error as SandboxError, Traces, Work};
use gristmill_tracker::{Claim, Completion, Output};

use crate::load::StageContext;

/// An attempt that has begun: everything that its completion needs, except the result. So another thread can conclude
/// it too.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    /// The stage of the item, for the completion.
    key: StageKey,
    /// The version that runs, under which the result is recorded.
    version: VersionId,
    /// The counts before this attempt.
    counters: Counters,
    /// When this attempt became ready, to measure how long it waited.
    ready_at: Timestamp,
    /// The age of deferrals is counted from this time.
    first_ready_at: Timestamp,
    /// When it began.
    started_at: Timestamp,
    /// The hash of the item's data: for an attempt that is skipped without its component, it is the whole input.
    data_hash: Digest,
    /// The hash of the input without parameters: only parameters that the handler reads are added later.
    given: Digest,
}

impl Begun {
    pub(crate) fn new(context: &StageContext, claim: &Claim, now: Timestamp) -> Self {
        let hashes = upstream(context, claim).map(|(name, output)| (name, &output.hash));
        Self {
            key: claim.key,
            version: context.version,
            counters: claim.counters,
            ready_at: claim.ready_at,
            first_ready_at: claim.first_ready_at,
            started_at: now,
            data_hash: claim.data_hash,
            given: input_hash(&claim.data_hash, hashes, []),
        }
    }

    /// Its completion, from the handler's result.
    pub(crate) fn conclude(&self, context: &StageContext, claim: &Claim, done: Attempt, now: Timestamp) -> Completion {
        let Traces { params_read, log, progress, memory_bytes_max, charges, .. } = done.traces;
        let input_hash = if params_read.is_empty() {
            self.given
        } else {
            let hashes = upstream(context, claim).map(|(name, output)| (name, &output.hash));
            let params = params_read.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            input_hash(&self.data_hash, hashes, params)
        };
        let age = now.since(self.first_ready_at);
        let retry = &context.tuning().retry;
        let disposition = decide(done.outcome, done.after, self.counters, age, retry, self.key, context.is_pure);
        let output = done.output.filter(|_| disposition == Disposition::Done);
        Completion {
            input_hash,
            output: output.map(|text| Output { hash: Digest::of(text.as_bytes()), text }),
            error: done.error,
            log: kept_log(done.outcome, log, progress),
            memory_bytes_max,
            charges,
            ..self.completion(done.outcome, disposition, now)
        }
    }

    /// Its completion if the stage does not run for this item. The component is not called.
    pub(crate) fn skip(&self, reason: String, now: Timestamp) -> Completion {
        // Outputs of other stages were not read.
        let input_hash = input_hash(&self.data_hash, [], []);
        Completion { input_hash, error: Some(reason), ..self.completion(Outcome::Skipped, Disposition::Skipped, now) }
    }

    /// Its completion if its input is damaged. The component is not called.
    pub(crate) fn refuse(&self, damage: &str, now: Timestamp) -> Completion {
        let disposition = Disposition::Dead(DeadReason::Damaged);
        let error = Some(format!("not run: {damage}"));
        Completion { error, ..self.completion(Outcome::Permanent, disposition, now) }
    }

    /// Its completion if it never ends: a timeout without any result.
    pub(crate) fn give_up(&self, context: &StageContext, now: Timestamp) -> Completion {
        let (age, retry) = (now.since(self.first_ready_at), &context.tuning().retry);
        let disposition = decide(Outcome::Timeout, None, self.counters, age, retry, self.key, context.is_pure);
        let timeout = context.tuning().limits.timeout;
        let error = format!("did not end at its limit of {timeout:?}, and could not be interrupted");
        Completion { error: Some(error), ..self.completion(Outcome::Timeout, disposition, now) }
    }

    fn completion(&self, outcome: Outcome, disposition: Disposition, now: Timestamp) -> Completion {
        Completion {
            key: self.key,
            version: self.version,
            outcome,
            disposition,
            output: None,
            input_hash: self.given,
            error: None,
            log: None,
            ready_at: self.ready_at,
            started_at: self.started_at,
            ended_at: now,
            memory_bytes_max: 0,
            charges: Vec::new(),
        }
    }
}

/// The outputs of the stages that this one needs, by name, in the order of the job file.
fn upstream<'a>(context: &'a StageContext, claim: &'a Claim) -> impl Iterator<Item = (&'a str, &'a Output)> {
    context.needs.iter().filter_map(|(bit, name)| {
        let found = claim.upstream.iter().find(|upstream| upstream.bit == *bit)?;
        Some((name.as_str(), &found.output))
    })
}

/// Runs the handler.
///
/// # Errors
/// If the machine refuses a sandbox.
pub(crate) fn run(context: &StageContext, claim: &Claim, begun: &Begun) -> Result<Attempt, SandboxError> {
    let (spec, loaded, job) = (context.spec(), context.loaded(), &context.job.job.spec);
    let upstream: Vec<(&str, &str)> =
        upstream(context, claim).map(|(name, output)| (name, output.text.as_str())).collect();
    let idempotency_key = idempotency_key(&job.name, &claim.item_key, &spec.name, &begun.given, &loaded.version);
    let work = Work {
        job: &job.name,
        stage: &spec.name,
        item_key: &claim.item_key,
        data: &claim.data,
        upstream: &upstream,
        // A pure stage depends only on the item's data and the outputs that it needs.
        attempt: if context.is_pure { 1 } else { claim.counters.attempts + 1 },
        idempotency_key,
    };
    let attempt_context = AttemptContext {
        limits: context.tuning().limits,
        granted: &loaded.granted,
        params: &context.job.params,
        frozen_at: claim.discovered_at,
        seed: idempotency_key,
    };
    loaded.handler.run(&work, &attempt_context)
}

/// The recorded log of an attempt: what it wrote, and its last progress if it did not finish.
fn kept_log(outcome: Outcome, mut log: String, progress: Option<(f64, String)>) -> Option<String> {
    if let Some((fraction, message)) = progress.filter(|_| outcome != Outcome::Done) {
        let _ = writeln!(log, "[progress] {:.0} % {message}", fraction * 100.0);
    }
    Some(log).filter(|log| !log.is_empty())
}
