//! One stage for each attack on the host, and some that are merely curious; tests run them and look at the outcome.
//! Owns the attacks: one small file each, named after its stage.
//! Never worth running outside a sandbox.

mod bad_json;
mod charge_nan;
mod charge_nul;
mod clock;
mod endless_loop;
mod env;
mod escape;
mod failures;
mod hoard;
mod huge_error;
mod huge_output;
mod log_flood;
mod memory_bomb;
mod network;
mod ok;
mod sleep_forever;
mod spin_ms;
mod stack_overflow;
mod trap;

use gristmill_guest::{Stage, Stages, stage};

struct Hostile;

impl Stages for Hostile {
    const STAGES: &'static [Stage] = &[
        Stage::raw("bad-json", "returns text that is no JSON", bad_json::run),
        stage!("charge-nan", "charges what is no number", charge_nan::run),
        stage!("charge-nul", "charges to a meter that no database holds", charge_nul::run),
        stage!("clock", "reads both clocks and random numbers", clock::run),
        stage!("endless-loop", "never returns", endless_loop::run),
        stage!("env", "reads environment and arguments", env::run),
        stage!("escape", "reads files it was not granted", escape::run),
        stage!("failures", "fails as the item's data says", failures::run),
        stage!("hoard", "opens and lists what it was granted without end", hoard::run),
        stage!("huge-error", "fails with a message of 64 MiB", huge_error::run),
        stage!("huge-output", "returns 64 MiB", huge_output::run),
        stage!("log-flood", "logs without end, three ways", log_flood::run),
        stage!("memory-bomb", "allocates without end", memory_bomb::run),
        stage!("network", "opens a connection", network::run),
        Stage::raw("ok", "returns the item's data", ok::run),
        stage!("sleep-forever", "waits for a time that never comes", sleep_forever::run),
        stage!("spin-ms", "computes for about as long as the item's data says", spin_ms::run),
        stage!("stack-overflow", "recurses without end", stack_overflow::run),
        stage!("trap", "panics", trap::run),
    ];
}

gristmill_guest::export!(Hostile: stages);
