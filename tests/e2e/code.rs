//! Code from strangers: a component that is a bomb for the compiler, and machine code that came with a checkout.
//!
//! Owns the attacks on loading. Never waits for a bomb to go off: its limits are small.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::job::{Job, chain};
use crate::support::{GRISTMILL, Running, components, program, start, wait_until};

/// Runs the binary with a cache of its own, so that it has to compile.
fn fresh(job: &Job, args: &[&str], variables: &[(&str, &str)]) -> Running {
    let mut command = program(GRISTMILL, job.folder());
    command.args(args).env("XDG_CACHE_HOME", job.path("caches")).envs(variables.iter().copied());
    start(&mut command)
}

/// A component of 136 KiB that keeps a compiler busy for half a minute: one function, whose thousands of blocks change and
/// read hundreds of variables.
fn bomb() -> Vec<u8> {
    let (variables, blocks) = (2000, 6000);
    let mut body = String::new();
    for block in 0..blocks {
        let (to, from, other) = (block * 7 % variables, block * 13 % variables, (block * 31 + 1) % variables);
        let sum = format!("(i32.add (local.get {from}) (local.get {other}))");
        body.extend([
            format!("(block (br_if 0 (local.get {from}))"),
            format!("(local.set {to} {sum}) (br_if 1 (local.get {to})))"),
        ]);
    }
    let text = format!(
        "(component
           (core module $m (func (export \"run\") {} (loop {body} (br 0))))
           (core instance $m (instantiate $m))
           (func $run (canon lift (core func $m \"run\")))
           (instance $stages (export \"run\" (func $run)) (export \"describe\" (func $run)))
           (export \"gristmill:handler/stages@0.1.0\" (instance $stages)))",
        "(local i32)".repeat(variables)
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_component_that_takes_too_long_or_too_much_to_compile_is_refused() {
    let job = Job::new(&chain(&components().noop, 1));
    for (variable, limit, says) in [
        ("GRISTMILL_COMPILE_TIME", "1ms", "takes more than 1ms to compile"),
        ("GRISTMILL_COMPILE_MEMORY", "16MiB", "takes more than 16 MiB to compile"),
    ] {
        for command in ["check", "run"] {
            let ran = fresh(&job, &[command, "job.yaml"], &[(variable, limit)]).finish().expect(3);
            assert!(ran.err.contains(says) && ran.err.contains("hint: "), "{}", ran.err);
        }
        fresh(&job, &["check", "job.yaml"], &[(variable, "much")]).finish().expect_refusal(
            2,
            variable,
            "it is written as",
        );
    }
    // Within the limits it is compiled, once: then it is in the cache.
    let compiled = fresh(&job, &["check", "job.yaml"], &[]).finish().expect(0);
    assert!(compiled.err.starts_with("compiling "), "{}", compiled.err);
    assert_eq!(fresh(&job, &["check", "job.yaml"], &[]).finish().expect(0).err, "");
    job.run(&[]).expect(0);
}

#[test]
fn a_compiler_that_is_busy_with_a_bomb_ends_with_its_parent() {
    let job = Job::new("stages: [{ name: a, handler: bomb.wasm }]");
    fs::write(job.path("bomb.wasm"), bomb()).unwrap();
    for (command, code) in [("run", Some(130)), ("check", None)] {
        let mut checking = fresh(&job, &[command, "job.yaml"], &[]);
        checking.says("compiling bomb.wasm");
        let child = compiler_of(checking.id());
        // Not an interrupt: whoever starts these tests in the background has that ignored.
        checking.signal(Signal::TERM);
        assert_eq!(checking.finish().code, code, "{command}");
        wait_until("the compiler ends", || !is_running(child));
    }
}

/// The child that compiles for a process, once it is there.
fn compiler_of(parent: u32) -> u32 {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let mut child = None;
    wait_until("the compiler begins", || {
        child = fs::read_to_string(&children).unwrap().split_whitespace().next().map(|id| id.parse().unwrap());
        child.is_some_and(|child| command_line(child).contains("__compile"))
    });
    child.unwrap()
}

fn command_line(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default()
}

/// Whether it is more than a name that nobody has asked about yet.
fn is_running(process: u32) -> bool {
    !command_line(process).is_empty()
}

#[test]
fn machine_code_that_came_with_a_checkout_is_not_even_looked_at() {
    let job = Job::new(&chain(&components().noop, 1));
    // What a run keeps, as an attacker would ship it: right in every way, where older versions looked for it.
    fresh(&job, &["check", "job.yaml"], &[]).finish().expect(0);
    let shipped = job.path(".gristmill/cache");
    fs::create_dir_all(&shipped).unwrap();
    let compiled = job.path("caches/gristmill/compiled");
    for entry in fs::read_dir(&compiled).unwrap() {
        let file = entry.unwrap();
        assert_eq!(mode(&file.path()), 0o600);
        fs::copy(file.path(), shipped.join(file.file_name())).unwrap();
    }
    fs::remove_dir_all(&compiled).unwrap();
    let ran = fresh(&job, &["run", "job.yaml"], &[]).finish().expect(0);
    assert!(ran.err.contains("compiling "), "{}", ran.err);
    assert_eq!(mode(&compiled), 0o700);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
