//! One attempt, from a fresh store to its end.
//!
//! Owns what every call of a guest has around it: limits, deadline, the wait for a free place in the pool, and the
//! certainty that whatever happens is an outcome. Never knows which function is called.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use gristmill_model::Outcome;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{PoolConcurrencyLimitError, Result, Store};

use crate::engine::Shared;
use crate::state::State;
use crate::ticker::{self, now};
use crate::{AttemptContext, GuestFailure, Traces, outcome};

/// How often a full pool is asked again. It is full for moments only, as it has room for more than run at once.
const POOL_POLL: Duration = Duration::from_millis(1);

/// What one call may copy out of a guest beside its memory's size: small texts, and the shapes around them.
const COPY_SLACK_BYTES: u64 = 64 << 10;

/// What a call came to, and what it left behind.
pub(crate) type Ended<R> = (std::result::Result<R, GuestFailure>, Traces);

/// Runs `call` in a fresh instance.
pub(crate) fn attempt<R>(
    shared: &Shared,
    pre: &InstancePre<State>,
    context: &AttemptContext<'_>,
    call: impl FnOnce(&mut Store<State>, &Instance) -> Result<R>,
) -> Ended<R> {
    let began = now();
    // A guest that finds a way to make the engine panic fails alone.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _running = shared.ticker.enter();
        let Some((mut store, instance)) = instance(shared, pre, context, began) else {
            // As the handler did not even begin, this must not count against the item.
            let message = format!("no sandbox was free for {:?}", context.limits.timeout);
            return without_traces(Outcome::Later, message, began);
        };
        let result = instance.and_then(|instance| call(&mut store, &instance));
        let state = store.into_data();
        let result = result.map_err(|error| outcome::of_error(&error, &state, &context.limits));
        (result, state.into_traces(now().duration_since(began)))
    }));
    caught.unwrap_or_else(|_| {
        let message = "the engine failed while it ran: a fault of the host, not of the handler".to_owned();
        without_traces(Outcome::Trap, message, began)
    })
}

fn without_traces<R>(outcome: Outcome, message: String, began: Instant) -> Ended<R> {
    let traces = Traces { elapsed: now().duration_since(began), ..Traces::default() };
    (Err(GuestFailure { outcome, after: None, message }), traces)
}

/// A store, and an instance in it once there is a place for one: its time begins then. None if no place came free
/// within the time that the attempt itself may take.
fn instance(
    shared: &Shared,
    pre: &InstancePre<State>,
    context: &AttemptContext<'_>,
    asked: Instant,
) -> Option<(Store<State>, Result<Instance>)> {
    let limits = &context.limits;
    // No call copies more out of a guest than its memory could hold: a list of a million overlapping texts is cut.
    let copy_bytes_max = limits.memory_bytes_max.max(limits.output_bytes_max).saturating_add(COPY_SLACK_BYTES);
    let mut began = asked;
    loop {
        let mut store = Store::new(&shared.engine, State::new(context, &shared.clock, began));
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(ticker::epochs(limits.timeout));
        store.set_hostcall_fuel(usize::try_from(copy_bytes_max).unwrap_or(usize::MAX));
        let instance = pre.instantiate(&mut store);
        if !matches!(&instance, Err(error) if error.is::<PoolConcurrencyLimitError>()) {
            return Some((store, instance));
        }
        drop(store);
        thread::park_timeout(POOL_POLL);
        began = now();
        if began.duration_since(asked) > limits.timeout {
            return None;
        }
    }
}
