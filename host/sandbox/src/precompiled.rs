//! Loading machine code that this host compiled before.
//!
//! Owns the one `unsafe` of the workspace. Never loads bytes that nobody vouched for.

#![expect(unsafe_code, reason = "wasmtime cannot check machine code, so loading it is unsafe; see SAFETY below")]

use wasmtime::component::Component;
use wasmtime::{Engine, Result};

/// Compiled code that somebody vouches for.
pub(crate) struct Vouched<'a> {
    code: &'a [u8],
}

impl<'a> Vouched<'a> {
    /// The caller vouches that an engine made these bytes (`Engine::precompile_component`). If that was not just now,
    /// the caller also vouches that they were kept where only this user can write, and did not change since.
    pub(crate) fn new(code: &'a [u8]) -> Self {
        Self { code }
    }
}

/// Loads compiled code. It fails if the component needs more than a sandbox has.
pub(crate) fn load(engine: &Engine, code: &Vouched<'_>) -> Result<Component> {
    // SAFETY: the bytes are what `Engine::precompile_component` gave. They come straight from it (from this process, or
    // from a child that is this same program), or from `cache`: a file of this user, with one name, that nobody else
    // can write to, in a folder that nobody else can write to, opened without following links. Whoever can write there
    // can run code as this user anyway. A digest detects damage; the file's name depends on the component's bytes and
    // the engine's version and settings, which wasmtime compares once more.
    unsafe { Component::deserialize(engine, code.code) }
}
