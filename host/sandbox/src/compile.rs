//! Compiling in a child process: a component of a few KiB can keep a compiler busy for minutes, and make it use all
//! memory.
//!
//! Owns the limits of that child, and the errors that name them. The child is this same program with a special first
//! argument. It reads the component from its standard input and writes machine code to its standard output. It ends
//! with its parent, so that Ctrl-C ends both. Never runs what it compiles.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use wasmtime::Engine;

use crate::engine::config;
use crate::{Error, inspect, machine, outcome};

/// The first argument of the child.
pub const COMPILE_ARGUMENT: &str = "__compile";

/// The largest compiled code of a component.
pub(crate) const CODE_BYTES_MAX: u64 = 2 << 30;

/// How components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In this process, without a limit: for components that are trusted.
    Here,
    /// In a child process.
    Child {
        /// This program, whose `main` calls [`compile_as_child`] if its first argument is [`COMPILE_ARGUMENT`].
        program: PathBuf,
        /// How long it may take.
        time_max: Duration,
        /// How much memory it may take.
        memory_bytes_max: u64,
    },
}

impl Compiler {
    /// The machine code of a component, for engines with our settings.
    pub(crate) fn compile(&self, engine: &Engine, content: &[u8], component: &str) -> Result<Vec<u8>, Error> {
        match self {
            Self::Here => engine.precompile_component(content).map_err(|error| refused(&error, content, component)),
            Self::Child { program, time_max, memory_bytes_max } => {
                let mut command = Command::new(program);
                command.arg(COMPILE_ARGUMENT).arg(memory_bytes_max.to_string()).env_clear();
                let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
                let child = child.map_err(|source| Error::Machine { source })?;
                match answer(child, content, *time_max)? {
                    Ended::Answered(Ok(code)) => Ok(code),
                    // The child said why. The parser in this process may say it better.
                    Ended::Answered(Err(reason)) => Err(invalid(content, component)
                        .unwrap_or(Error::Compile { component: component.to_owned(), reason })),
                    Ended::TooLong => {
                        Err(Error::CompileLimit { component: component.to_owned(), limit: format!("{time_max:?}") })
                    }
                    Ended::Died(status) => Err(died(status, *memory_bytes_max, component.to_owned())),
                }
            }
        }
    }
}

/// Why a compiler ended without an answer. It aborts if memory is refused, and is killed if it uses up the machine's.
fn died(status: ExitStatus, memory_bytes_max: u64, component: String) -> Error {
    let signal = status.signal();
    if [Signal::ABORT, Signal::KILL].iter().any(|memory| signal == Some(memory.as_raw())) {
        return Error::CompileLimit { component, limit: outcome::bytes(memory_bytes_max) };
    }
    Error::Compile { component, reason: format!("the compiler ended with {status}") }
}

/// Why the compiler refused a component.
fn refused(error: &wasmtime::Error, content: &[u8], component: &str) -> Error {
    if let Some(source) = machine::refusal(error) {
        return Error::Machine { source };
    }
    let reason = reason(error);
    invalid(content, component).unwrap_or(Error::Compile { component: component.to_owned(), reason })
}

/// The parser's error for a component, which is the usual reason.
fn invalid(content: &[u8], component: &str) -> Option<Error> {
    if let Err(error) = inspect::inspect_bytes(content, component) {
        return Some(error);
    }
    inspect::is_asynchronous(content).then(|| Error::Asynchronous { component: component.to_owned() })
}

/// The core of an engine's error.
pub(crate) fn reason(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ").lines().next().unwrap_or_default().to_owned()
}

/// How a child ended.
enum Ended {
    /// With the code, or with the reason why there is none.
    Answered(Result<Vec<u8>, String>),
    /// It took longer than it may.
    TooLong,
    /// It ended without an answer.
    Died(ExitStatus),
}

/// The first byte of the child's answer.
const CODE: u8 = 0;
const REASON: u8 = 1;

/// Gives a child its component, and waits for the answer.
fn answer(mut child: Child, content: &[u8], time_max: Duration) -> Result<Ended, Error> {
    let machine = |source| Error::Machine { source };
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        unreachable!("both are piped")
    };
    let (sender, answers) = channel();
    let answered = std::thread::scope(|scope| {
        // A child that ends early closes its pipe, so an error here does not matter.
        scope.spawn(move || drop(input.write_all(content)));
        scope.spawn(move || {
            let mut answer = Vec::new();
            let read = output.take(CODE_BYTES_MAX).read_to_end(&mut answer);
            // If it took too long, nobody receives this.
            let _ = sender.send(read.map(|_| answer));
        });
        let answered = answers.recv_timeout(time_max);
        if answered.is_err() {
            // This also ends both threads.
            let _ = child.kill();
        }
        answered
    });
    let status = child.wait().map_err(machine)?;
    match answered {
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(Ended::TooLong),
        Ok(Err(error)) => Err(machine(error)),
        Ok(Ok(answer)) => Ok(parse(answer, status)),
    }
}

fn parse(mut answer: Vec<u8>, status: ExitStatus) -> Ended {
    match answer.first() {
        Some(&CODE) if status.success() => {
            answer.remove(0);
            Ended::Answered(Ok(answer))
        }
        Some(&REASON) => Ended::Answered(Err(String::from_utf8_lossy(&answer[1..]).into_owned())),
        _ => Ended::Died(status),
    }
}

/// The work of the child: compiles the component from `input`, and writes the code to `output`. Takes the arguments
/// after [`COMPILE_ARGUMENT`].
///
/// # Errors
/// If the pipes break.
pub fn compile_as_child(
    mut arguments: impl Iterator<Item = String>,
    input: impl Read,
    mut output: impl Write,
) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may already have died.
    if getppid().is_none_or(rustix::process::Pid::is_init) {
        return Ok(());
    }
    if let Some(bytes) = arguments.next().and_then(|bytes| bytes.parse().ok()) {
        // Limits written memory, not the address space: the allocator reserves much of that for each thread.
        let _ = setrlimit(Resource::Data, Rlimit { current: Some(bytes), maximum: Some(bytes) });
    }
    let mut content = Vec::new();
    input.take(crate::COMPONENT_BYTES_MAX).read_to_end(&mut content)?;
    let compiled = Engine::new(&config()).and_then(|engine| engine.precompile_component(&content));
    match compiled {
        Ok(code) => {
            output.write_all(&[CODE])?;
            output.write_all(&code)?;
        }
        Err(error) => {
            output.write_all(&[REASON])?;
            output.write_all(reason(&error).as_bytes())?;
        }
    }
    output.flush()
}
