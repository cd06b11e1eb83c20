//! The bytes of a component: reading them within a bound, recognising the kind of file, and the canonical hash.
//!
//! Owns the identity of a component. Never compiles one.

use std::io::ErrorKind;
use std::path::Path;

use gristmill_model::Digest;
use wasm_encoder::{RawSection, Section};
use wasmparser::{BinaryReader, BinaryReaderError, Encoding, Parser, Payload};

use crate::Error;

/// The largest component that is loaded.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

/// How deep components may be nested: every toolchain stays below ten.
const NESTING_MAX: u32 = 64;

const PREAMBLE_BYTES: usize = 8;
const CUSTOM_SECTION: u8 = 0;
const MODULE_SECTION: u8 = 1;
const COMPONENT_SECTION: u8 = 4;

/// Reads a file that should be a component.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let component = path.display().to_string();
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => Error::Missing { component: component.clone() },
        _ => Error::Read { component: component.clone(), source },
    };
    let file = gristmill_files::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let content = gristmill_files::read_all(file, COMPONENT_BYTES_MAX).map_err(failed)?;
    content.ok_or(Error::TooLarge { component, bytes, max: COMPONENT_BYTES_MAX })
}

/// Checks that bytes begin as a component does. `component` is their name in the error.
pub(crate) fn check_kind(bytes: &[u8], component: &str) -> Result<(), Error> {
    let component = component.to_owned();
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => Ok(()),
        Some(Ok(Payload::Version { encoding: Encoding::Module, .. })) => Err(Error::CoreModule { component }),
        _ => Err(Error::NotWasm { component }),
    }
}

/// The identity of a component: blake3 of its bytes without custom sections (names, producers, debug information), at
/// every level of nesting. Everything else counts, byte for byte, except the padding of a section's length.
///
/// # Errors
/// If the bytes are not a component (`NotWasm`, `CoreModule`), or a damaged one (`Damaged`).
pub fn canonical_hash(bytes: &[u8]) -> Result<Digest, Error> {
    canonical_hash_of(bytes, "the component")
}

pub(crate) fn canonical_hash_of(bytes: &[u8], component: &str) -> Result<Digest, Error> {
    check_kind(bytes, component)?;
    match strip(bytes, NESTING_MAX) {
        Ok(stripped) => Ok(Digest::of(&stripped)),
        Err(reason) => Err(Error::Damaged { component: component.to_owned(), reason }),
    }
}

/// The parser's error, in one line.
pub(crate) fn reason(error: &BinaryReaderError) -> String {
    format!("{} (at byte {})", error.message(), error.offset())
}

/// A module or component without its custom sections, or why it cannot be parsed.
fn strip(bytes: &[u8], depth: u32) -> Result<Vec<u8>, String> {
    if depth == 0 {
        return Err(format!("it nests components more than {NESTING_MAX} deep"));
    }
    let mut reader = BinaryReader::new(bytes, 0);
    let cut_short = |error: BinaryReaderError| reason(&error);
    let preamble = reader.read_bytes(PREAMBLE_BYTES).map_err(cut_short)?;
    let is_component = Parser::is_component(preamble);
    let mut stripped = Vec::with_capacity(bytes.len());
    stripped.extend_from_slice(preamble);
    while !reader.eof() {
        let id = reader.read_u8().map_err(cut_short)?;
        let length = reader.read_var_u32().map_err(cut_short)? as usize;
        let data = reader.read_bytes(length).map_err(cut_short)?;
        match id {
            CUSTOM_SECTION => {}
            MODULE_SECTION | COMPONENT_SECTION if is_component => {
                RawSection { id, data: &strip(data, depth - 1)? }.append_to(&mut stripped);
            }
            _ => RawSection { id, data }.append_to(&mut stripped),
        }
    }
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{Component, CustomSection, Module, ModuleSection, NestedComponentSection};

    use super::*;

    const NOTE: CustomSection<'_> =
        CustomSection { name: std::borrow::Cow::Borrowed("producers"), data: std::borrow::Cow::Borrowed(b"\0") };

    /// A component with a module and a nested component, each with or without a custom section, and a function type in
    /// the module with `params` parameters.
    fn component(notes: bool, params: usize) -> Vec<u8> {
        let mut module = Module::new();
        let mut types = wasm_encoder::TypeSection::new();
        types.ty().function(vec![wasm_encoder::ValType::I32; params], []);
        module.section(&types);
        let mut inner = Component::new();
        if notes {
            module.section(&NOTE);
            inner.section(&NOTE);
        }
        inner.section(&ModuleSection(&module));
        let mut outer = Component::new();
        if notes {
            outer.section(&NOTE);
        }
        outer.section(&ModuleSection(&module));
        outer.section(&NestedComponentSection(&inner));
        outer.finish()
    }

    #[test]
    fn custom_sections_do_not_count_at_any_level() {
        let plain = component(false, 1);
        let noted = component(true, 1);
        assert_ne!(plain, noted);
        assert_eq!(canonical_hash(&plain).unwrap(), canonical_hash(&noted).unwrap());
        assert_ne!(canonical_hash(&plain).unwrap(), canonical_hash(&component(false, 2)).unwrap());
    }

    #[test]
    fn stripping_is_idempotent_and_changes_nothing_else() {
        let plain = component(false, 1);
        assert_eq!(strip(&plain, NESTING_MAX).unwrap(), plain);
        assert_eq!(strip(&component(true, 1), NESTING_MAX).unwrap(), plain);
    }

    #[test]
    fn other_files_are_told_apart() {
        assert!(matches!(canonical_hash(b"#!/bin/sh"), Err(Error::NotWasm { .. })));
        assert!(matches!(canonical_hash(b""), Err(Error::NotWasm { .. })));
        assert!(matches!(canonical_hash(&Module::new().finish()), Err(Error::CoreModule { .. })));
        let whole = component(false, 1);
        for cut in PREAMBLE_BYTES + 1..whole.len() {
            let result = canonical_hash(&whole[..cut]);
            assert!(result.is_ok() || matches!(result, Err(Error::Damaged { .. })), "cut at {cut}: {result:?}");
        }
    }

    #[test]
    fn a_tower_of_components_is_refused() {
        let mut tower = Component::new().finish();
        for _ in 0..=NESTING_MAX {
            let mut outer = Component::new();
            outer.section(&RawSection { id: COMPONENT_SECTION, data: &tower });
            tower = outer.finish();
        }
        assert!(matches!(canonical_hash(&tower), Err(Error::Damaged { .. })));
    }
}
