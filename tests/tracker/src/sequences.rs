//! Random operations, on the model and on a backend, compared after each.
//!
//! Owns the loop over seeds, and what a failure prints. The visible state is also checked without the model: see
//! `check`. A seed always makes the same sequence: `GRISTMILL_SEED=<seed> GRISTMILL_SEQUENCES=1` replays one, and
//! `GRISTMILL_SEQUENCES=10000` is the long form.

mod check;
mod drive;
mod observe;
mod operations;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::drive::Side;
use self::operations::{Op, sequence};
use crate::conformance::block_on;
use crate::{Location, Model};

/// How many sequences run by default.
const SEQUENCES: u64 = 1000;
/// How often a failing sequence is made smaller, at most.
const SHRINK_MAX: u32 = 5000;

/// Makes an empty tracker.
pub type Fresh<'a> = &'a (dyn Fn() -> Box<dyn Location> + Sync);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Runs the sequences on a backend and on the model, on every core.
pub fn compare_with_model(backend: &'static str, fresh: Fresh<'_>) {
    let first = number("GRISTMILL_SEED").unwrap_or_else(|| RandomState::new().hash_one(backend) >> 16);
    let end = first + number("GRISTMILL_SEQUENCES").unwrap_or(SEQUENCES);
    let next = AtomicU64::new(first);
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end) {
            if let Err(difference) = compare_one(backend, fresh, seed) {
                // The other threads need not go on.
                next.store(end, Ordering::Relaxed);
                return Err(difference);
            }
        }
        Ok(())
    };
    let workers = available_parallelism().map_or(1, usize::from);
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        started.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let differences: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// Runs the sequence of a seed, and makes it smaller if the two differ. The error is that smaller one.
fn compare_one(backend: &'static str, fresh: Fresh<'_>, seed: u64) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: SHRINK_MAX, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let result = TestRunner::new_with_rng(config, rng)
        .run(&sequence(), |ops| block_on(run(backend, fresh, &ops)).map_err(TestCaseError::fail));
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, ops)) => {
            let ops: Vec<String> = ops.iter().map(|op| format!("    {op:?}")).collect();
            Err(format!(
                "{backend} differs from the model: {reason}\nafter\n{}\nReplay with GRISTMILL_SEED={seed} \
                 GRISTMILL_SEQUENCES=1",
                ops.join("\n")
            ))
        }
        Err(TestError::Abort(reason)) => Err(format!("seed {seed}: {reason}")),
    }
}

/// Runs one sequence. The error says where the two differ.
async fn run(backend: &'static str, fresh: Fresh<'_>, ops: &[Op]) -> Result<(), String> {
    let mut model = Side::new(&|| Box::new(Model::default())).await;
    let mut other = Side::new(fresh).await;
    for (place, op) in ops.iter().enumerate() {
        let step = |what: &str, expected: &str, found: &str| {
            format!("step {place}, {op:?}: {what}\n{}", difference(expected, backend, found))
        };
        let (expected, found) = (model.apply(op).await, other.apply(op).await);
        if expected != found {
            return Err(step("the answers differ", &expected, &found));
        }
        let (expected, found) = (model.observe().await, other.observe().await);
        if expected != found {
            return Err(step("what is seen differs", &expected, &found));
        }
        model.examine().await.map_err(|text| step("the model itself is wrong", "", &text))?;
        model.check(op).await.map_err(|text| format!("step {place}, {op:?}: {text}"))?;
    }
    other.examine().await.map_err(|text| format!("at the end: {text}"))
}

/// The first lines that differ.
fn difference(expected: &str, backend: &str, found: &str) -> String {
    let mut lines = Vec::new();
    let (mut expected, mut found) = (expected.lines(), found.lines());
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return lines.join("\n"),
            (one, other) if one == other => {}
            (one, other) => {
                lines.push(format!("  model: {}\n  {backend}: {}", one.unwrap_or("-"), other.unwrap_or("-")));
            }
        }
    }
}
