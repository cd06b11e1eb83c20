//! What a guest sees of the world, with and without grants.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use gristmill_model::Outcome;

use super::guest::{Bench, Guest};
use crate::Attempt;

/// Writes a number as sixteen letters, `a` to `p`, in quotes, and returns it as the output.
const SHOW: &str = r"
  (func $show (param $n i64) (result i32)
    (local $at i32)
    (i32.store8 (i32.const 7000) (i32.const 34))
    (i32.store8 (i32.const 7017) (i32.const 34))
    (local.set $at (i32.const 7016))
    (loop $again
      (i32.store8 (local.get $at) (i32.add (i32.const 97) (i32.wrap_i64 (i64.and (local.get $n) (i64.const 15)))))
      (local.set $n (i64.shr_u (local.get $n) (i64.const 4)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $again (i32.gt_u (local.get $at) (i32.const 7000))))
    (call $done (i32.const 7000) (i32.const 18)))
";

fn asking(world: &str, import: &str, run: &str) -> Bench {
    Guest { world, items: &format!("{import} {SHOW}"), run }.load()
}

fn shown(bench: &Bench) -> u64 {
    number(&bench.run("{}"))
}

/// The number that a guest has shown.
fn number(attempt: &Attempt) -> u64 {
    let output = attempt.output.as_ref().unwrap_or_else(|| panic!("{:?}", attempt.error));
    output.trim_matches('"').bytes().fold(0, |number, letter| number << 4 | u64::from(letter - b'a'))
}

#[test]
fn the_wall_clock_stands_still_without_the_grant() {
    let bench = || {
        asking(
            "import wasi:clocks/wall-clock@0.2.0;",
            r#"(import "wasi:clocks/wall-clock@0.2.0" "now" (func $now (param i32)))"#,
            "(call $now (i32.const 6000)) (call $show (i64.load (i32.const 6000)))",
        )
    };
    assert_eq!(shown(&bench()), 1_700_000_000);
    assert!(shown(&bench().granting(|grants| grants.clock = true)) > 1_700_000_000);
}

#[test]
fn random_numbers_come_from_the_seed_without_the_grant() {
    let mut bench = asking(
        "import wasi:random/random@0.2.0;",
        r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))"#,
        "(drop (call $random)) (call $show (call $random))",
    );
    let first = shown(&bench);
    assert_eq!(first, shown(&bench));
    // Part of what makes a result: never to be changed by accident.
    assert_eq!(first, 0x7c64_a01e_b298_56df);
    bench.seed.0[0] = 8;
    let other = shown(&bench);
    assert_ne!(first, other);
    let bench = bench.granting(|grants| grants.random = true);
    assert_ne!(shown(&bench), shown(&bench));
}

const SLEEP_WORLD: &str = "import wasi:clocks/monotonic-clock@0.2.0; import wasi:io/poll@0.2.0;";

const SLEEP: &str = r#"
  (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $timer (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
"#;

#[test]
fn a_sleep_takes_no_time_without_the_grant() {
    let bench =
        asking(SLEEP_WORLD, SLEEP, "(call $block (call $timer (i64.const 3600000000000))) (call $show (call $now))");
    assert_eq!(shown(&bench), 3_600_000_001_000);
}

#[test]
fn a_granted_sleep_ends_at_the_deadline() {
    let ten_years = "(call $block (call $timer (i64.const 315360000000000000))) (call $show (call $now))";
    let mut bench = asking(SLEEP_WORLD, SLEEP, ten_years).granting(|grants| grants.clock = true);
    bench.limits.timeout = Duration::from_millis(80);
    let attempt = bench.run("{}");
    assert_eq!(attempt.outcome, Outcome::Timeout);
    assert!(attempt.traces.elapsed >= Duration::from_millis(80), "{:?}", attempt.traces.elapsed);
    assert!(attempt.traces.elapsed < Duration::from_secs(10), "{:?}", attempt.traces.elapsed);
    bench.limits.timeout = Duration::from_secs(20);
    let short = "(call $block (call $timer (i64.const 30000000))) (call $show (call $now))";
    let bench = asking(SLEEP_WORLD, SLEEP, short).granting(|grants| grants.clock = true);
    assert!(shown(&bench) >= 30_000_000);
}

/// Opens the path that is the item's data, in the first folder it sees, with these flags. Shows 100 if that works, the
/// error's number if not, 200 if there is no folder.
fn opening(open_flags: u32, flags: u32) -> Bench {
    let run = format!(
        "(call $folders (i32.const 6000))
         (if (i32.eqz (i32.load (i32.const 6004))) (then (return (call $show (i64.const 200)))))
         (call $open (i32.load (i32.load (i32.const 6000))) (i32.const 1)
           (i32.add (local.get 6) (i32.const 1)) (i32.sub (local.get 7) (i32.const 2))
           (i32.const {open_flags}) (i32.const {flags}) (i32.const 6100))
         (if (i32.eqz (i32.load8_u (i32.const 6100))) (then (return (call $show (i64.const 100)))))
         (call $show (i64.load8_u (i32.const 6104)))"
    );
    asking(
        "import wasi:filesystem/types@0.2.0; import wasi:filesystem/preopens@0.2.0;",
        r#"(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $folders (param i32)))
           (import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
             (func $open (param i32 i32 i32 i32 i32 i32 i32)))"#,
        &run,
    )
}

const OPENED: u64 = 100;
const NO_FOLDER: u64 = 200;
const ACCESS: u64 = 0;
const NO_ENTRY: u64 = 20;
const NOT_PERMITTED: u64 = 31;

fn open(bench: &Bench, path: &str) -> u64 {
    number(&bench.run(&format!("\"{path}\"")))
}

#[test]
fn there_is_no_way_out_of_a_granted_folder() {
    let folder = tempfile::tempdir().unwrap();
    let granted = folder.path().join("granted");
    fs::create_dir_all(granted.join("inner")).unwrap();
    fs::write(granted.join("inner/file"), "in").unwrap();
    fs::write(folder.path().join("secret"), "out").unwrap();
    symlink("inner/file", granted.join("link-in")).unwrap();
    symlink("../secret", granted.join("link-out")).unwrap();
    symlink("/etc", granted.join("link-absolute")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, granted.join("pipe"), rustix::fs::Mode::RUSR).unwrap();

    assert_eq!(open(&opening(0, 1), "inner/file"), NO_FOLDER);
    let read = opening(0, 1).granting_folder(&granted);
    for path in ["inner/file", "inner/../inner/file", "link-in", "inner"] {
        assert_eq!(open(&read, path), OPENED, "{path}");
    }
    let secret = folder.path().join("secret").display().to_string();
    for path in
        ["../secret", "inner/../../secret", "link-out", "link-absolute/passwd", "/etc/passwd", &secret, "..", "/"]
    {
        assert_eq!(open(&read, path), NOT_PERMITTED, "{path}");
    }
    assert_eq!(open(&read, "nothing"), NO_ENTRY);
    // To open it would wait for a writer, where no deadline reaches.
    assert_eq!(open(&read, "pipe"), ACCESS);
}

#[test]
fn a_granted_folder_is_read_only() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "as it was").unwrap();
    // To write; to create and write; to truncate.
    for (open_flags, flags) in [(0, 2), (1, 2), (8, 1)] {
        let bench = opening(open_flags, flags).granting_folder(folder.path());
        assert_eq!(open(&bench, "file"), NOT_PERMITTED);
        assert_ne!(open(&bench, "new"), OPENED);
    }
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "as it was");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_granted_folder_that_is_gone_is_an_error_at_load() {
    let bench = opening(0, 1).granting_folder(std::path::Path::new("/nowhere/at/all"));
    let error = bench.handler.as_ref().unwrap().grant(&bench.grants).unwrap_err();
    assert!(error.to_string().starts_with("cannot open /nowhere/at/all, which is granted to "), "{error}");
}

#[test]
fn a_granted_folder_that_is_exchanged_for_a_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (granted, secret) = (folder.path().join("granted"), folder.path().join("secret"));
    fs::create_dir(&granted).unwrap();
    fs::create_dir(&secret).unwrap();
    fs::write(granted.join("harmless"), "").unwrap();
    fs::write(secret.join("key"), "").unwrap();
    let bench = opening(0, 1).granting_folder(&granted);
    let opened = bench.granted();
    fs::rename(&granted, folder.path().join("moved")).unwrap();
    symlink(&secret, &granted).unwrap();
    assert_eq!(number(&bench.run_with(&opened, "\"key\"")), NO_ENTRY);
    assert_eq!(number(&bench.run_with(&opened, "\"harmless\"")), OPENED);
}

/// Does something with the first folder until it fails, and keeps all that it got. Shows how often it went well, and the
/// number of the error.
fn repeating(import: &str, call: &str) -> Bench {
    let run = format!(
        "(local $count i64)
         (call $folders (i32.const 6000))
         (loop $again
           {call}
           (if (i32.eqz (i32.load8_u (i32.const 6100)))
             (then (local.set $count (i64.add (local.get $count) (i64.const 1))) (br $again))))
         (call $show (i64.add (i64.mul (local.get $count) (i64.const 256)) (i64.load8_u (i32.const 6104))))"
    );
    let items =
        format!(r#"(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $folders (param i32))) {import}"#);
    asking("import wasi:filesystem/types@0.2.0; import wasi:filesystem/preopens@0.2.0;", &items, &run)
}

const QUOTA: u64 = 6;

#[test]
fn an_attempt_holds_few_files_and_few_listings_open() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), "").unwrap();
    let listing = repeating(
        r#"(import "wasi:filesystem/types@0.2.0" "[method]descriptor.read-directory" (func $list (param i32 i32)))"#,
        "(call $list (i32.load (i32.load (i32.const 6000))) (i32.const 6100))",
    );
    assert_eq!(shown(&listing.granting_folder(folder.path())), 16 * 256 + QUOTA);
    let files = repeating(
        r#"(import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
             (func $open (param i32 i32 i32 i32 i32 i32 i32)))"#,
        "(i32.store8 (i32.const 6200) (i32.const 102))
         (call $open (i32.load (i32.load (i32.const 6000))) (i32.const 1) (i32.const 6200) (i32.const 1)
           (i32.const 0) (i32.const 1) (i32.const 6100))",
    );
    assert_eq!(shown(&files.granting_folder(folder.path())), 64 * 256 + QUOTA);
}

#[test]
fn a_folder_is_listed_entry_by_entry() {
    let folder = tempfile::tempdir().unwrap();
    for name in 0..500 {
        fs::write(folder.path().join(name.to_string()), "").unwrap();
    }
    // The end is no error: option none. The entry is at 6104 then, and its flag 0.
    let run = "(local $count i64)
        (call $folders (i32.const 6000))
        (call $list (i32.load (i32.load (i32.const 6000))) (i32.const 6100))
        (loop $again
          (call $next (i32.load (i32.const 6104)) (i32.const 6120))
          (if (i32.and (i32.eqz (i32.load8_u (i32.const 6120))) (i32.load8_u (i32.const 6124)))
            (then (local.set $count (i64.add (local.get $count) (i64.const 1))) (br $again))))
        (call $show (local.get $count))";
    let import = r#"(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $folders (param i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.read-directory" (func $list (param i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]directory-entry-stream.read-directory-entry"
          (func $next (param i32 i32)))"#;
    let world = "import wasi:filesystem/types@0.2.0; import wasi:filesystem/preopens@0.2.0;";
    assert_eq!(shown(&asking(world, import, run).granting_folder(folder.path())), 500);
}
