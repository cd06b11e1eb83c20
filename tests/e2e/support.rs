//! Running the binary: with a cleared environment, a deadline, and all that it prints.
//!
//! Owns the check that every output goes through: nothing that only a programmer of gristmill could read. Never sleeps:
//! it waits for lines, for the end of a process, and for deadlines.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) const GRISTMILL: &str = env!("CARGO_BIN_EXE_gristmill");
/// No single command takes this long, on any machine.
const DEADLINE: Duration = Duration::from_mins(5);
/// What the tests leave of the environment: what it takes to find programs, and to build handlers.
const KEPT: [&str; 6] = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "TMPDIR"];
/// What no person should ever be shown. (A guest that panics has its own say in its attempt's log.)
const UGLY: [&str; 8] = [
    "stack backtrace",
    "wasm backtrace",
    "thread 'main'",
    "called `Result::unwrap",
    "Error {",
    "Error(",
    "Os {",
    "this is a bug in gristmill",
];

/// Whether the tests are asked for their long form, by `make test-long`.
pub(crate) fn long() -> bool {
    std::env::var_os("GRISTMILL_LONG").is_some()
}

/// The repository, as cargo tells it now: a target folder that clones share keeps what it was when this was built.
pub(crate) fn repository() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    Path::new(&manifest).join("../..").canonicalize().unwrap()
}

/// The components that the tests run, built once a process.
pub(crate) struct Components {
    pub(crate) noop: String,
    pub(crate) hostile: String,
    pub(crate) found: String,
}

pub(crate) fn components() -> &'static Components {
    static BUILT: OnceLock<Components> = OnceLock::new();
    BUILT.get_or_init(|| {
        let repository = repository();
        let folders = ["handlers/crates", "handlers/policy", "handlers/noop", "tests/found", "tests/hostile"];
        gristmill(&repository, &[&["build"], &folders[..]].concat()).expect(0);
        let path = |file: &str| repository.join(file).display().to_string();
        Components {
            noop: path("handlers/noop/noop.wasm"),
            hostile: path("tests/hostile/hostile.wasm"),
            found: path("tests/found/found.wasm"),
        }
    })
}

/// A program with a cleared environment, in a folder. Backtraces are asked for: nobody must be shown one.
pub(crate) fn program(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    for variable in KEPT {
        if let Some(value) = std::env::var_os(variable) {
            command.env(variable, value);
        }
    }
    command.env("RUST_BACKTRACE", "1");
    command
}

/// Runs the binary to its end.
pub(crate) fn gristmill(folder: &Path, args: &[&str]) -> Ran {
    start(program(GRISTMILL, folder).args(args)).finish()
}

/// A process that has ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Fails unless it ended with this code.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n{}\n{}", self.out, self.err);
        self
    }

    /// Fails unless it was refused: with this code, one sentence, and one hint, which say this.
    pub(crate) fn expect_refusal(self, code: i32, says: &str, hint: &str) -> Self {
        let ran = self.expect(code);
        let errors = ran.err.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{}", ran.err);
        assert!(ran.err.contains(says), "{says:?} is not in\n{}", ran.err);
        let hints: Vec<&str> = ran.err.lines().filter_map(|line| line.trim().strip_prefix("hint: ")).collect();
        assert!(matches!(hints[..], [one] if one.contains(hint)), "{hint:?} is not the hint of\n{}", ran.err);
        assert!(ran.err.lines().count() <= 12, "that is not clear:\n{}", ran.err);
        ran
    }

    /// What was printed, as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out, self.err))
    }

    /// What was printed, as JSON Lines.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A process that is under way.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    said: String,
    /// What was printed before somebody asked whether it has ended.
    printed: Option<String>,
}

/// Starts a process.
pub(crate) fn start(command: &mut Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ((all, out), (lines, err)) = (channel(), channel());
    let mut stdout = child.stdout.take().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        // Nobody wants it any more when the test has failed.
        let _ = all.send(String::from_utf8(bytes).unwrap());
    });
    std::thread::spawn(move || stderr.lines().try_for_each(|line| lines.send(line.unwrap())));
    Running { child, out, err, said: String::new(), printed: None }
}

impl Running {
    /// Whether it ends within this time.
    pub(crate) fn ends_within(&mut self, time: Duration) -> bool {
        match self.out.recv_timeout(time) {
            Ok(printed) => self.printed = Some(printed),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("it is asked once"),
        }
        self.printed.is_some()
    }

    /// Waits until it says this on the standard error.
    pub(crate) fn says(&mut self, text: &str) {
        while let Ok(line) = self.err.recv_timeout(DEADLINE) {
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(text) {
                return;
            }
        }
        panic!("it never said {text:?}, but\n{}", self.said);
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and takes what it printed.
    pub(crate) fn finish(mut self) -> Ran {
        let printed = self.printed.take().or_else(|| self.out.recv_timeout(DEADLINE).ok());
        let Some(out) = printed else {
            self.child.kill().unwrap();
            panic!("it does not end; it said\n{}", self.said);
        };
        let code = self.child.wait().unwrap().code();
        let mut err = std::mem::take(&mut self.said);
        err.extend(self.err.iter().map(|line| format!("{line}\n")));
        for ugly in UGLY {
            assert!(!out.contains(ugly) && !err.contains(ugly), "{ugly:?} is in\n{out}\n{err}");
        }
        Ran { code, out, err }
    }
}

/// What a failed test leaves behind would run on.
impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.child.kill();
        }
    }
}

/// Waits until something is so: a minute at least, looked at often.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = (0..12_000).any(|_| {
        std::thread::park_timeout(Duration::from_millis(5));
        is_so()
    });
    assert!(so, "waited in vain: {what}");
}
