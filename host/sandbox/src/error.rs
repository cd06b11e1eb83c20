//! What can go wrong before an attempt: the one error type of this crate.
//!
//! Owns the messages and the hints. Never describes what a *running* guest did: that is an `Outcome`.

use std::io;

use thiserror::Error;

/// Why a component cannot be loaded or used.
#[derive(Debug, Error)]
pub enum Error {
    /// No such file.
    #[error("there is no component at {component}")]
    Missing {
        /// The file.
        component: String,
    },
    /// The file cannot be read.
    #[error("cannot read the component {component}")]
    Read {
        /// The file.
        component: String,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any component that this host loads.
    #[error("{component} has {bytes} bytes, and a component may have {max}")]
    TooLarge {
        /// The file.
        component: String,
        /// Its size.
        bytes: u64,
        /// The largest size.
        max: u64,
    },
    /// The file is something else.
    #[error("{component} is not WebAssembly")]
    NotWasm {
        /// The file.
        component: String,
    },
    /// The file is a core module.
    #[error("{component} is a core WebAssembly module, not a component")]
    CoreModule {
        /// The file.
        component: String,
    },
    /// The file begins as a component, but the rest is damaged.
    #[error("{component} is damaged: {reason}")]
    Damaged {
        /// The file.
        component: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The component exports nothing that gristmill calls.
    #[error("{component} is a component of another world: it exports {}", list(exports))]
    OtherWorld {
        /// The file.
        component: String,
        /// What it exports.
        exports: Vec<String>,
    },
    /// The component wants something that the host does not have.
    #[error("{component} imports {import}, which this host does not offer")]
    Import {
        /// The file.
        component: String,
        /// The import.
        import: String,
    },
    /// The component exports or imports functions that are called asynchronously.
    #[error("{component} is asynchronous: it has functions that return before they are done, and this host calls none")]
    Asynchronous {
        /// The file.
        component: String,
    },
    /// A granted folder cannot be opened.
    #[error("cannot open {host}, which is granted to {component} as {guest}")]
    Folder {
        /// The file.
        component: String,
        /// The folder of this machine.
        host: String,
        /// Where the handler sees it.
        guest: String,
        /// Why.
        source: io::Error,
    },
    /// The component does not fit into a sandbox.
    #[error("{component} does not fit into a sandbox: {reason}")]
    Resources {
        /// The file.
        component: String,
        /// What it has too much of.
        reason: String,
    },
    /// The compiler refused the component.
    #[error("cannot compile {component}: {reason}")]
    Compile {
        /// The file.
        component: String,
        /// What the compiler said.
        reason: String,
    },
    /// The compiler took more than it may.
    #[error("{component} takes more than {limit} to compile")]
    CompileLimit {
        /// The file.
        component: String,
        /// The time, or the memory.
        limit: String,
    },
    /// An interface is there, but a function in it has another shape.
    #[error("{component} was built against another version of the handler interface: {reason}")]
    Interface {
        /// The file.
        component: String,
        /// Which function, and what is different.
        reason: String,
    },
    /// `describe` failed, or returned something invalid.
    #[error("{component} cannot say which stages it offers: {reason}")]
    Describe {
        /// The file.
        component: String,
        /// How it failed.
        reason: String,
    },
    /// The machine refuses the memory, threads or files that a sandbox needs. The component is not at fault.
    #[error("this machine refuses what a sandbox takes")]
    Machine {
        /// What the system says.
        source: io::Error,
    },
    /// WebAssembly cannot run on this machine.
    #[error("cannot start WebAssembly on this machine: {reason}")]
    Engine {
        /// What the engine said.
        reason: String,
    },
}

impl Error {
    /// What to do about it; none if the error already says it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Missing { .. } => "paths in a job file start at the job file's folder; build the handler first",
            Self::Read { .. } => "a component is a file that the user who runs the host can read",
            Self::NotWasm { .. } => "a handler is a WebAssembly component: `gristmill build` makes one",
            Self::CoreModule { .. } => {
                "build it for the target wasm32-wasip2, or turn the module into a component with `wasm-tools component \
                 new`"
            }
            Self::Damaged { .. } => "build or copy it again",
            Self::OtherWorld { .. } => {
                "a handler exports gristmill:handler/stages, discovery or merging at version 0.1: see wit/handler.wit"
            }
            Self::Import { .. } => {
                "a handler may import gristmill:handler 0.1 and WASI 0.2: `gristmill inspect` lists what it imports"
            }
            Self::Asynchronous { .. } => {
                "no function in wit/handler.wit is an `async func`: build it so (for jco: --backend-qjs-disable-async)"
            }
            Self::Folder { .. } => "correct `files` under the stage's `grants`, or create the folder",
            Self::TooLarge { .. } | Self::Resources { .. } => {
                "make the component smaller, or allow its stage more memory under `limits`"
            }
            Self::CompileLimit { .. } => {
                "split its largest functions; if it is trusted, allow more by the variables GRISTMILL_COMPILE_TIME and \
                 GRISTMILL_COMPILE_MEMORY"
            }
            Self::Interface { .. } => "build it against the wit/handler.wit of this version",
            Self::Describe { .. } => "`describe` must not depend on anything outside, and runs without grants",
            Self::Compile { .. } | Self::Machine { .. } | Self::Engine { .. } => return None,
        })
    }
}

/// `a, b and c`; `nothing` for an empty list.
fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
