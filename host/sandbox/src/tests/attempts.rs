//! Whatever a guest does is an outcome.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gristmill_model::Outcome;
use wasm_encoder::{ComponentSection, ComponentSectionId, InstanceSection, ModuleArg, RawSection};
use wasmparser::{Parser, Payload};

use super::guest::{Bench, Guest};
use crate::limiter::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
use crate::{Attempt, HELD_MAX, LOG_BYTES_MAX};

const DONE: &str = "(call $done (i32.const 1040) (i32.const 8))";

const HOST: &str = "import gristmill:handler/host@0.1.0;";

const LOG: &str = r#"(import "gristmill:handler/host@0.1.0" "log" (func $log (param i32 i32 i32)))"#;

fn run(run: &str) -> Attempt {
    Guest { run, ..Guest::default() }.load().run("{}")
}

/// How an attempt ended, and what it says.
fn end(attempt: &Attempt) -> (Outcome, &str) {
    (attempt.outcome, attempt.error.as_deref().unwrap_or_default())
}

#[test]
fn an_output_is_kept_byte_for_byte() {
    let attempt = run(DONE);
    assert_eq!((attempt.outcome, attempt.output.as_deref()), (Outcome::Done, Some("{\"n\": 1}")));
    assert_eq!(attempt.traces.memory_bytes_max, 64 << 10);
    assert!(attempt.traces.log.is_empty() && attempt.traces.charges.is_empty());
    let echo = Guest { run: "(call $done (local.get 6) (local.get 7))", ..Guest::default() }.load();
    assert_eq!(echo.run("[\"data\"]").output.as_deref(), Some("[\"data\"]"));
}

#[test]
fn an_endless_loop_is_interrupted_in_time() {
    let mut bench = Guest { run: "(loop $again (br $again)) (unreachable)", ..Guest::default() }.load();
    bench.limits.timeout = Duration::from_millis(60);
    let attempt = bench.run("{}");
    assert_eq!(end(&attempt), (Outcome::Timeout, "ran longer than its limit of 60ms"));
    assert!(attempt.traces.elapsed >= Duration::from_millis(60), "{:?}", attempt.traces.elapsed);
    // A tick or two on a free machine; this bound is for a busy one.
    assert!(attempt.traces.elapsed < Duration::from_secs(10), "{:?}", attempt.traces.elapsed);
}

#[test]
fn a_memory_bomb_is_refused_its_memory() {
    let attempt = run("(loop $again (drop (memory.grow (i32.const 16))) (br $again)) (unreachable)");
    assert_eq!(end(&attempt), (Outcome::Memory, "wanted 4.1 MiB of memory, and its limit is 4 MiB"));
    assert!(attempt.traces.memory_bytes_max <= 4 << 20);
}

#[test]
fn a_component_that_begins_too_large_for_its_stage_is_refused_its_memory() {
    let mut bench = Guest { run: DONE, ..Guest::default() }.load();
    bench.limits.memory_bytes_max = 1 << 10;
    assert_eq!(bench.run("{}").outcome, Outcome::Memory);
}

#[test]
fn traps_are_told_apart() {
    let recursion = "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))";
    let overflow =
        Guest { items: recursion, run: "(drop (call $deep (i64.const 0))) (unreachable)", ..Guest::default() };
    for (guest, says) in [
        (Guest { run: "(unreachable)", ..Guest::default() }, "trapped: it panicked or aborted"),
        (overflow, "trapped: it ran out of stack, as in an endless recursion"),
        (Guest { run: "(i32.load (i32.const -8))", ..Guest::default() }, "trapped: it reached outside its memory"),
        (
            Guest { run: "(i32.div_u (i32.const 1) (local.get 14))", ..Guest::default() },
            "trapped: integer divide by zero",
        ),
    ] {
        let attempt = guest.load().run("{}");
        assert_eq!(end(&attempt), (Outcome::Trap, says));
    }
}

#[test]
fn a_result_at_an_impossible_address_breaks_the_component_model() {
    let attempt = run("(call $done (i32.const -100) (i32.const 50))");
    assert_eq!(attempt.outcome, Outcome::Trap);
    let error = attempt.error.unwrap();
    assert!(error.starts_with("broke the rules of the component model: "), "{error}");
}

#[test]
fn an_output_must_be_json_within_the_limit() {
    let attempt = run("(call $done (i32.const 1060) (i32.const 8))");
    assert_eq!(end(&attempt), (Outcome::BadOutput, "its output is not JSON: expected ident at line 1 column 2"));
    let attempt = run("(call $done (i32.const 8192) (i32.const 2000))");
    assert_eq!(end(&attempt), (Outcome::BadOutput, "its output has 2.0 KiB, and the limit is 1 KiB"));
}

#[test]
fn failures_are_what_the_guest_says() {
    // result.err, then the failure's case, then `after-ms: some(50)` and the message `busy`.
    let hint = |case: u32| {
        format!(
            "(i32.store8 (i32.const 4096) (i32.const 1)) (i32.store8 (i32.const 4100) (i32.const {case}))
             (i32.store8 (i32.const 4104) (i32.const 1)) (i32.store (i32.const 4108) (i32.const 50))
             (i32.store (i32.const 4112) (i32.const 1080)) (i32.store (i32.const 4116) (i32.const 4))
             (i32.const 4096)"
        )
    };
    let text = |case: u32| {
        format!(
            "(i32.store8 (i32.const 4096) (i32.const 1)) (i32.store8 (i32.const 4100) (i32.const {case}))
             (i32.store (i32.const 4104) (i32.const 1080)) (i32.store (i32.const 4108) (i32.const 4))
             (i32.store (i32.const 4112) (i32.const 1024)) (i32.store (i32.const 4116) (i32.const 4))
             (i32.const 4096)"
        )
    };
    let soon = Some(Duration::from_millis(50));
    for (body, outcome, message, after) in [
        (hint(0), Outcome::Retry, "busy", soon),
        (hint(1), Outcome::Later, "busy", soon),
        (text(2), Outcome::Permanent, "busy", None),
        (text(3), Outcome::Skipped, "busy", None),
        (text(4), Outcome::Permanent, "busy: work", None),
    ] {
        let attempt = run(&body);
        assert_eq!(end(&attempt), (outcome, message));
        assert_eq!(attempt.after, after);
        assert_eq!(attempt.output, None);
    }
}

#[test]
fn a_log_flood_is_cut_and_the_attempt_goes_on() {
    let flood = format!(
        "(local $i i32)
         (loop $again
           (call $log (i32.const 2) (i32.const 1040) (i32.const 8))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $i) (i32.const 50000))))
         {DONE}"
    );
    let attempt = Guest { world: HOST, items: LOG, run: &flood }.load().run("{}");
    assert_eq!(attempt.outcome, Outcome::Done);
    let log = attempt.traces.log;
    assert!(log.len() < LOG_BYTES_MAX + 100 && log.starts_with("[info] {\"n\": 1}\n[info] "), "{log:.100}");
    assert!(log.trim_end().ends_with("more bytes"), "{}", &log[log.len() - 100..]);
}

#[test]
fn reads_of_parameters_are_traced_once_each() {
    let items = r#"(import "gristmill:handler/host@0.1.0" "param" (func $param (param i32 i32 i32)))
                   (data (i32.const 1100) "model")"#;
    let read = "(call $param (i32.const 1100) (i32.const 5) (i32.const 6000))
                (call $param (i32.const 1024) (i32.const 4) (i32.const 6000))
                (call $param (i32.const 1100) (i32.const 5) (i32.const 6000))
                (call $done (i32.load (i32.const 6004)) (i32.load (i32.const 6008)))";
    let attempt = Guest { world: HOST, items, run: read }.load().run("{}");
    assert_eq!(attempt.output.as_deref(), Some("\"small\""));
    let small = ("model".to_owned(), Some("\"small\"".to_owned()));
    assert_eq!(attempt.traces.params_read, [small, ("work".to_owned(), None)]);
}

#[test]
fn charges_add_up_and_must_be_numbers() {
    let items = r#"(import "gristmill:handler/host@0.1.0" "charge" (func $charge (param i32 i32 f64)))"#;
    let charge = |amount: &str| {
        let run = format!(
            "(call $charge (i32.const 1080) (i32.const 4) (f64.const 2))
             (call $charge (i32.const 1080) (i32.const 4) (f64.const {amount})) {DONE}"
        );
        Guest { world: HOST, items, run: &run }.load().run("{}")
    };
    assert_eq!(charge("1.5").traces.charges, [("busy".to_owned(), 3.5)]);
    for (amount, says) in [
        ("nan", "charged NaN to \"busy\": an amount is from 0 to 1e15"),
        ("-1", "charged -1 to \"busy\": an amount is from 0 to 1e15"),
        ("inf", "charged inf to \"busy\": an amount is from 0 to 1e15"),
        // Each alone is allowed; their sum, over many attempts, would be more than a database's number holds.
        ("1e15", "charged more than 1e15 to \"busy\""),
    ] {
        let attempt = charge(amount);
        assert_eq!(attempt.outcome, Outcome::Trap);
        assert_eq!(attempt.error.as_deref(), Some(says));
        // What was used before is still owed.
        assert_eq!(attempt.traces.charges, [("busy".to_owned(), 2.0)]);
    }
}

#[test]
fn the_last_progress_is_kept_where_an_attempt_is_cut_short() {
    let items = r#"(import "gristmill:handler/host@0.1.0" "progress" (func $progress (param f64 i32 i32)))"#;
    let run = "(call $progress (f64.const 0.5) (i32.const 1024) (i32.const 4))
               (call $progress (f64.const 7) (i32.const 1080) (i32.const 4)) (unreachable)";
    let attempt = Guest { world: HOST, items, run }.load().run("{}");
    assert_eq!(attempt.traces.progress, Some((1.0, "busy".to_owned())));
}

#[test]
fn nothing_is_left_for_the_next_attempt() {
    let run = "(i32.store8 (i32.const 1047) (i32.add (i32.load8_u (i32.const 1046)) (i32.const 1)))
               (i32.store8 (i32.const 1046) (i32.add (i32.load8_u (i32.const 1046)) (i32.const 1)))
               (i32.store8 (i32.const 1047) (i32.const 125))
               (call $done (i32.const 1040) (i32.const 8))";
    let bench = Guest { run, ..Guest::default() }.load();
    for _ in 0..20 {
        assert_eq!(bench.run("{}").output.as_deref(), Some("{\"n\": 2}"));
    }
}

#[test]
fn more_attempts_than_sandboxes_wait_for_each_other() {
    let run = "(local $i i32)
               (loop $again
                 (local.set $i (i32.add (local.get $i) (i32.const 1)))
                 (br_if $again (i32.lt_u (local.get $i) (i32.const 5000000))))
               (call $done (i32.const 1040) (i32.const 8))";
    let bench = Guest { run, ..Guest::default() }.load();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..24).map(|_| scope.spawn(|| bench.run("{}").outcome)).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Outcome::Done);
        }
    });
}

/// That guest, in a component that takes all that one may have.
fn greedy(guest: &[u8]) -> Vec<u8> {
    let is_module = |payload: &Payload<'_>| matches!(payload, Payload::ModuleSection { .. });
    let own = Parser::new(0).parse_all(guest).map(Result::unwrap).filter(is_module).count() as u32;
    let modules =
        ["(module (memory 1))", "(module (table 1 funcref))", "(module)"].map(|text| wat::parse_str(text).unwrap());
    // The guest itself has one instance and one memory.
    let (memories, tables) = (MEMORIES_MAX - 1, TABLES_MAX);
    let takes = [memories, tables, CORE_INSTANCES_MAX - 1 - memories - tables];
    let mut instances = InstanceSection::new();
    for (module, count) in (own..).zip(takes) {
        for _ in 0..count {
            instances.instantiate(module, [] as [(&str, ModuleArg); 0]);
        }
    }
    let mut component = guest.to_vec();
    for data in &modules {
        RawSection { id: ComponentSectionId::CoreModule.into(), data }.append_to_component(&mut component);
    }
    instances.append_to_component(&mut component);
    component
}

#[test]
fn components_that_take_all_they_may_leave_room_for_each_other() {
    let run = "(local $i i32)
               (loop $again
                 (local.set $i (i32.add (local.get $i) (i32.const 1)))
                 (br_if $again (i32.lt_u (local.get $i) (i32.const 5000000))))
               (call $done (i32.const 1040) (i32.const 8))";
    let mut bench = Bench::new();
    bench.handler = Some(bench.load(&greedy(&Guest { run, ..Guest::default() }.component())).unwrap());
    // As many at once as the sandbox was made for, and those that are held.
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..=HELD_MAX).map(|_| scope.spawn(|| [(); 4].map(|()| bench.run("{}").outcome))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), [Outcome::Done; 4]);
        }
    });
    assert_eq!(bench.sandbox.shared.pool_waits.load(Ordering::Relaxed), 0);
}
