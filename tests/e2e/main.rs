//! The real binary, from outside: what a person does, sees and must never lose.
//!
//! Owns nothing but the list of its parts. Never looks inside a crate: a command line, a folder and an output are all
//! that there is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "a test that fails shows its seed")]

mod bench;
mod building;
mod clock;
mod code;
mod demo;
mod doctor;
mod failures;
mod footprint;
mod held;
mod help;
mod hostile;
mod identity;
mod items;
mod job;
mod kill;
mod languages;
mod life;
mod machine;
mod merging;
mod mistakes;
mod moving;
mod operators;
mod paths;
mod readme;
mod servers;
mod shared;
mod signals;
mod storage;
mod support;
mod walls;
