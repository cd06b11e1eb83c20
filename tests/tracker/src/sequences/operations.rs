//! The operations of a random sequence.
//!
//! Owns the strategy that generates them. Their numbers choose among the things that exist when they are applied, so
//! that a sequence stays meaningful while it is made smaller. Never applies one.

use gristmill_model::{DeadReason, Disposition, Expiring, Outcome};
use proptest::prelude::*;
use std::time::Duration;

use gristmill_tracker::records::OperationState;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A job is registered with one of several DAGs, and reconciled in pages.
    Register {
        job: usize,
        shape: usize,
        version: u8,
        page: u32,
    },
    /// Items are found.
    Upsert {
        job: usize,
        items: Vec<(u8, u8, i32)>,
        merge: u8,
        reprocess: bool,
        sightings: u32,
        page: Option<u8>,
    },
    Claim {
        job: usize,
        stage: usize,
        limit: u32,
        chunk: u32,
        host: usize,
    },
    /// A lease, or one of its members, is settled; another lease may be claimed in the same round.
    Settle {
        lease: usize,
        member: Option<usize>,
        end: End,
        wrong_fence: bool,
        claim: bool,
    },
    /// Work is claimed and settled at once.
    Work {
        job: usize,
        stage: usize,
        limit: u32,
        end: End,
    },
    Release {
        lease: usize,
        member: Option<usize>,
    },
    Promote {
        limit: u32,
    },
    /// Another host comes, or one that is there reaps.
    Reap {
        new: bool,
        host: usize,
        patience: u32,
        leases_max: u32,
        policies: bool,
    },
    Heartbeat {
        host: usize,
    },
    Retire {
        host: usize,
    },
    Tick {
        micros: i64,
    },
    Cancel {
        job: usize,
        keys: Vec<u8>,
        undo: bool,
    },
    Redrive {
        job: usize,
        filter: u8,
        limit: u64,
        rate: Option<f64>,
    },
    Step {
        operation: usize,
        limit: u32,
    },
    Set {
        operation: usize,
        to: OperationState,
    },
    Prune {
        job: Option<usize>,
        what: Expiring,
        age: i64,
        page: u32,
    },
    Record {
        job: Option<usize>,
    },
    /// The queue is rebuilt, if nothing is leased.
    Rebuild {
        page: u32,
    },
    /// Everything moves into an empty tracker of the same kind, if nothing is leased.
    Move,
    /// The process ends, and another one opens the same tracker.
    Reopen,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) disposition: Disposition,
    /// One of two outputs.
    pub(super) output: u8,
    pub(super) charged: bool,
}

fn end() -> impl Strategy<Value = End> {
    let wait = (0u64..3).prop_map(|seconds| Disposition::Wait(Duration::from_secs(seconds)));
    let how = prop_oneof![
        6 => Just((Outcome::Done, Disposition::Done)),
        2 => Just((Outcome::Skipped, Disposition::Skipped)),
        2 => wait.clone().prop_map(|wait| (Outcome::Retry, wait)),
        1 => wait.prop_map(|wait| (Outcome::Later, wait)),
        1 => Just((Outcome::Permanent, Disposition::Dead(DeadReason::Permanent))),
        1 => Just((Outcome::Timeout, Disposition::Dead(DeadReason::Exhausted))),
        1 => Just((Outcome::Memory, Disposition::Dead(DeadReason::Guard))),
        1 => Just((Outcome::Later, Disposition::Dead(DeadReason::Deferred))),
    ];
    (how, 0u8..2, prop::bool::weighted(0.2)).prop_map(|((outcome, disposition), output, charged)| End {
        outcome,
        disposition,
        output,
        charged,
    })
}

fn register() -> impl Strategy<Value = Op> {
    (0usize..2, 0usize..7, 0u8..2, 1u32..4).prop_map(|(job, shape, version, page)| Op::Register {
        job,
        shape,
        version,
        page,
    })
}

fn upsert() -> impl Strategy<Value = Op> {
    let items = prop::collection::vec((0u8..6, 0u8..7, -1i32..2), 1..6);
    let sightings = prop::sample::select(&[0u32, 1, 2, 16][..]);
    (0usize..2, items, 0u8..5, any::<bool>(), sightings, prop::option::of(0u8..3)).prop_map(
        |(job, items, merge, reprocess, sightings, page)| Op::Upsert { job, items, merge, reprocess, sightings, page },
    )
}

fn claim() -> impl Strategy<Value = Op> {
    (0usize..2, 0usize..4, 1u32..5, 1u32..4, 0usize..3).prop_map(|(job, stage, limit, chunk, host)| Op::Claim {
        job,
        stage,
        limit,
        chunk,
        host,
    })
}

fn settle() -> impl Strategy<Value = Op> {
    (any::<usize>(), prop::option::of(0usize..3), end(), prop::bool::weighted(0.1), prop::bool::weighted(0.3))
        .prop_map(|(lease, member, end, wrong_fence, claim)| Op::Settle { lease, member, end, wrong_fence, claim })
}

fn operate() -> impl Strategy<Value = Op> {
    let keys = || prop::collection::vec(0u8..7, 1..4);
    let rate = prop::option::of(prop::sample::select(&[0.5, 2.0][..]));
    prop_oneof![
        3 => (0usize..2, keys(), any::<bool>()).prop_map(|(job, keys, undo)| Op::Cancel { job, keys, undo }),
        2 => (0usize..2, 0u8..6, 1u64..4, rate)
            .prop_map(|(job, filter, limit, rate)| Op::Redrive { job, filter, limit, rate }),
        4 => (0usize..4, 1u32..4).prop_map(|(operation, limit)| Op::Step { operation, limit }),
        1 => (0usize..4, prop::sample::select(&OperationState::ALL[..]))
            .prop_map(|(operation, to)| Op::Set { operation, to }),
    ]
}

fn keep() -> impl Strategy<Value = Op> {
    let what = prop::sample::select(&Expiring::ALL[..]);
    prop_oneof![
        3 => (prop::option::weighted(0.9, 0usize..2), what, 0i64..3, 1u32..9)
            .prop_map(|(job, what, age, page)| Op::Prune { job, what, age, page }),
        1 => prop::option::of(0usize..2).prop_map(|job| Op::Record { job }),
        1 => (1u32..4).prop_map(|page| Op::Rebuild { page }),
        1 => Just(Op::Move),
        1 => Just(Op::Reopen),
    ]
}

fn host() -> impl Strategy<Value = Op> {
    let reap = (any::<bool>(), 0usize..3, 0u32..2, 1u32..4, any::<bool>());
    prop_oneof![
        3 => reap.prop_map(|(new, host, patience, leases_max, policies)| Op::Reap {
            new,
            host,
            patience,
            leases_max,
            policies
        }),
        1 => (0usize..3).prop_map(|host| Op::Heartbeat { host }),
        1 => (0usize..3).prop_map(|host| Op::Retire { host }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let tick = prop::sample::select(&[1i64, 1_000_000, 61_000_000][..]);
    let work = (0usize..2, 0usize..4, 1u32..5, end());
    prop_oneof![
        2 => register(),
        5 => upsert(),
        4 => claim(),
        7 => settle(),
        9 => work.prop_map(|(job, stage, limit, end)| Op::Work { job, stage, limit, end }),
        2 => (any::<usize>(), prop::option::of(0usize..3)).prop_map(|(lease, member)| Op::Release { lease, member }),
        2 => (1u32..4).prop_map(|limit| Op::Promote { limit }),
        2 => host(),
        3 => tick.prop_map(|micros| Op::Tick { micros }),
        5 => operate(),
        4 => keep(),
    ]
}

/// A job with items, and then whatever happens.
pub(super) fn sequence() -> impl Strategy<Value = Vec<Op>> {
    (register(), upsert(), prop::collection::vec(op(), 1..40)).prop_map(|(register, upsert, mut ops)| {
        ops.splice(0..0, [register, upsert]);
        ops
    })
}
