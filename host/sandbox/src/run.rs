//! One attempt, from a fresh store to its end.
//!
//! Owns everything around a call of a guest: limits, deadline, the wait for a free place in the pool, and that whatever
//! happens becomes an outcome. Never knows which function is called.

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

/// How long an attempt waits for a sandbox if the pool is full or the machine refuses memory. The pool has room for
/// more attempts than run at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before asking a full pool or a refusing machine again.
const POOL_POLL: Duration = Duration::from_millis(1);
const REFUSAL_POLL: Duration = Duration::from_millis(50);

/// How many bytes one call may copy out of a guest in addition to its memory's size: for small texts and their
/// containers.
const COPY_SLACK_BYTES: u64 = 64 << 10;

/// The result of a call, and what the host keeps of it.
pub(crate) type Ended<R> = (std::result::Result<R, GuestFailure>, Traces);

/// Runs `call` in a fresh instance. If the machine refuses one, tries again for as long as `patience`.
///
/// # Errors
/// If the machine still refuses after that. Then nothing was run.
pub(crate) fn attempt<R>(
    shared: &Shared,
    pre: &InstancePre<State>,
    context: &AttemptContext<'_>,
    patience: Duration,
    call: impl FnOnce(&mut Store<State>, &Instance) -> Result<R>,
) -> std::result::Result<Ended<R>, Error> {
    let began = now();
    // If a guest makes the engine panic, only this attempt fails.
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
        // `later` costs no attempt: nobody pays for a fault of the host.
        let message = "the engine failed while it ran: a fault of the host, not of the handler".to_owned();
        tracing::error!("{message}");
        Ok(without_traces(Outcome::Later, message, began))
    })
}

fn without_traces<R>(outcome: Outcome, message: String, began: Instant) -> Ended<R> {
    let traces = Traces { elapsed: now().duration_since(began), ..Traces::default() };
    (Err(GuestFailure { outcome, after: None, message }), traces)
}

/// A store with an instance, as soon as the pool has a place. The attempt's time begins then. A full pool is nobody's
/// fault and no outcome, so this waits.
fn instance(
    shared: &Shared,
    pre: &InstancePre<State>,
    context: &AttemptContext<'_>,
    asked: Instant,
    refusal_patience: Duration,
) -> io::Result<(Store<State>, Result<Instance>)> {
    let limits = &context.limits;
    // No call may copy more out of a guest than its memory could hold. A list of a million overlapping texts would.
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
                // Reported the first time, and then less and less often.
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
