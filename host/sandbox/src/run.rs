//! One attempt, from a fresh store to its end.
//!
//! Owns what every call of a guest has around it: limits, deadline, the wait for a free place in the pool, and the
//! certainty that whatever happens is an outcome. Never knows which function is called.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use gristmill_model::Outcome;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{PoolConcurrencyLimitError, Result, Store};

use crate::engine::Shared;
use crate::state::State;
use crate::ticker::{self, now};
use crate::{AttemptContext, Error, GuestFailure, Traces, machine, outcome};

/// How long an attempt waits for a sandbox: for a place in a full pool, which has room for more than run at once, or for
/// a machine that refuses one.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often a full pool, and a machine that refuses, is asked again.
const POOL_POLL: Duration = Duration::from_millis(1);
const REFUSAL_POLL: Duration = Duration::from_millis(50);

/// What one call may copy out of a guest beside its memory's size: small texts, and the shapes around them.
const COPY_SLACK_BYTES: u64 = 64 << 10;

/// What a call came to, and what it left behind.
pub(crate) type Ended<R> = (std::result::Result<R, GuestFailure>, Traces);

/// Runs `call` in a fresh instance. A machine that refuses one is asked again for as long as `patience`.
///
/// # Errors
/// If the machine still refuses then: nothing was run.
pub(crate) fn attempt<R>(
    shared: &Shared,
    pre: &InstancePre<State>,
    context: &AttemptContext<'_>,
    patience: Duration,
    call: impl FnOnce(&mut Store<State>, &Instance) -> Result<R>,
) -> std::result::Result<Ended<R>, Error> {
    let began = now();
    // A guest that finds a way to make the engine panic fails alone.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _running = shared.ticker.enter();
        let (mut store, instance) = match instance(shared, pre, context, began, patience) {
            Ok(made) => made,
            Err(source) => return Err(Error::Machine { source }),
        };
        let result = instance.and_then(|instance| call(&mut store, &instance));
        let state = store.into_data();
        let result = result.map_err(|error| outcome::of_error(&error, &state, &context.limits));
        Ok((result, state.into_traces(now().duration_since(began))))
    }));
    caught.unwrap_or_else(|_| {
        // It consumes no attempt: nobody is charged for a fault of the host.
        let message = "the engine failed while it ran: a fault of the host, not of the handler".to_owned();
        tracing::error!("{message}");
        Ok(without_traces(Outcome::Later, message, began))
    })
}

fn without_traces<R>(outcome: Outcome, message: String, began: Instant) -> Ended<R> {
    let traces = Traces { elapsed: now().duration_since(began), ..Traces::default() };
    (Err(GuestFailure { outcome, after: None, message }), traces)
}

/// A store, and an instance in it once there is a place for one: its time begins then. That there is none is nobody's
/// fault, and so no outcome: it is waited for.
fn instance(
    shared: &Shared,
    pre: &InstancePre<State>,
    context: &AttemptContext<'_>,
    asked: Instant,
    refusal_patience: Duration,
) -> io::Result<(Store<State>, Result<Instance>)> {
    let limits = &context.limits;
    // No call copies more out of a guest than its memory could hold: a list of a million overlapping texts is cut.
    let copy_bytes_max = limits.memory_bytes_max.max(limits.output_bytes_max).saturating_add(COPY_SLACK_BYTES);
    let (mut began, mut told) = (asked, false);
    loop {
        let mut store = Store::new(&shared.engine, State::new(context, &shared.clock, shared.files_open_max, began));
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(ticker::epochs(limits.timeout));
        store.set_hostcall_fuel(usize::try_from(copy_bytes_max).unwrap_or(usize::MAX));
        let instance = pre.instantiate(&mut store);
        let Err(error) = &instance else { return Ok((store, instance)) };
        let (missing, pause, patience) = if error.is::<PoolConcurrencyLimitError>() {
            if !std::mem::replace(&mut told, true) {
                let waits = shared.pool_waits.fetch_add(1, Ordering::Relaxed) + 1;
                // Told the first time, and then ever more seldom.
                if waits.is_power_of_two() {
                    tracing::warn!(waits, "all sandboxes are taken: an attempt waits for one");
                }
            }
            (io::Error::other(error.to_string()), POOL_POLL, PATIENCE)
        } else if let Some(refusal) = machine::refusal(error) {
            if !refusal_patience.is_zero() && !std::mem::replace(&mut told, true) {
                tracing::warn!("this machine refuses a sandbox ({refusal}): trying for {refusal_patience:?}");
            }
            (refusal, REFUSAL_POLL, refusal_patience)
        } else {
            return Ok((store, instance));
        };
        drop(store);
        if now().duration_since(asked) >= patience {
            return Err(missing);
        }
        thread::park_timeout(pause);
        began = now();
    }
}
