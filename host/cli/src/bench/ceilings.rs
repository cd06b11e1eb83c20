//! The most that this machine could do: only the writes, and only the sandbox.
//!
//! Owns the two ceilings, and what each leaves out. Never runs a host.

use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_model::Digest;
use gristmill_sandbox::{AttemptContext, Handler, Work};
use gristmill_scheduler::{Error, LoadedJob};
use gristmill_tracker::Ceiling;
use gristmill_tracker_sqlite::SqliteOptions;

use super::bed::{Bed, OUTPUT_BYTES, STAGES, rate};

/// The number of bare writes, with `batch` stage executions in each transaction.
pub(crate) fn ceiling(bed: &Bed, batch: u64) -> Ceiling {
    Ceiling {
        items: bed.plan.items,
        stages: STAGES.len() as u8,
        batch: u32::try_from(batch).unwrap_or(u32::MAX),
        data_bytes: bed.plan.data_bytes as usize,
        output_bytes: OUTPUT_BYTES,
    }
}

/// Ceiling (a): the same writes to the same schema by bare statements, in batches as large as the host's.
pub(crate) fn writes_ceiling(bed: &Bed, batch: u64) -> Result<f64, Error> {
    let (plan, clock) = (&bed.plan, bed.clock.as_ref());
    let options = SqliteOptions { synchronous: plan.synchronous, ..SqliteOptions::default() };
    let took = gristmill_tracker_sqlite::ceiling(&ceiling(bed, batch), &plan.folder.join("ceiling"), options, clock)?;
    Ok(rate(bed.executions(), took))
}

/// Ceiling (b): the same number of calls of the same component, each in a fresh instance, on as many threads, without a
/// tracker.
pub(crate) fn sandbox_ceiling(bed: &Bed) -> Result<f64, Error> {
    let (plan, clock) = (&bed.plan, bed.clock.as_ref());
    let loaded = bed.job(false)?;
    let calls = plan.items as usize * STAGES.len();
    let next = AtomicUsize::new(0);
    let began = clock.now();
    std::thread::scope(|scope| {
        for _ in 0..plan.workers {
            scope.spawn(|| {
                loop {
                    let call = next.fetch_add(1, Ordering::Relaxed);
                    if call >= calls {
                        return;
                    }
                    let stage = call / plan.items as usize;
                    attempt(&loaded, stage, call % plan.items as usize);
                }
            });
        }
    });
    Ok(rate(calls as u64, clock.now().since(began)))
}

fn attempt(loaded: &LoadedJob, stage: usize, item: usize) {
    let handler: &Handler = &loaded.stages[stage].handler;
    let output = "x".repeat(OUTPUT_BYTES);
    let upstream = [("before", output.as_str())];
    let work = Work {
        job: "bench",
        stage: STAGES[stage],
        item_key: &format!("item-{item:08}"),
        data: "1",
        upstream: if stage == 0 { &[] } else { &upstream },
        attempt: 1,
        idempotency_key: Digest([0; 32]),
    };
    let context = AttemptContext {
        limits: loaded.job.tuning.stages[stage].limits,
        granted: &loaded.stages[stage].granted,
        params: &loaded.params,
        frozen_at: gristmill_model::Timestamp::default(),
        seed: Digest([0; 32]),
    };
    // The result is dropped: only the call is measured.
    drop(handler.run(&work, &context));
}
