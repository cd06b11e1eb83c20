//! Components made by hand; one of them discovers the items that a test wants.
//!
//! Owns the layout of a page in a guest's memory. It also shows that a handler needs no SDK: the contract is enough.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const DISCOVERY: &str = "gristmill:handler/discovery@0.1.0";
/// Where in memory the data begins: beyond 0, which is no address.
const START: usize = 16;
/// result, page, next and meta.
const RESULT_BYTES: usize = 32;
/// key, data and priority.
const ITEM_BYTES: usize = 24;

/// Writes a component that finds these items (key and data) to `items.wasm`.
pub(crate) fn discovering(folder: &Path, items: &[(&str, Value)]) {
    let memory = memory(items);
    let free = START + memory.len();
    let module = format!(
        r#"(module
          (memory (export "memory") {pages})
          (global $free (mut i32) (i32.const {free}))
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
            (global.set $free (i32.add (local.get $at) (local.get 3)))
            (local.get $at))
          ;; 0 job, 2 cursor, 5 limit, 6 meta
          (func (export "{DISCOVERY}#discover") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            (i32.const {START}))
          (data (i32.const {START}) "{data}"))"#,
        pages = free / 65_536 + 2,
        data = escaped(&memory),
    );
    std::fs::write(folder.join("items.wasm"), component(&format!("export {DISCOVERY};"), &module)).unwrap();
}

/// The component of that world, whose core module is this text.
pub(crate) fn component(world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("handler.wit", include_str!("../../wit/handler.wit")).unwrap();
    let package = resolve.push_str("test.wit", &format!("package test:made; world made {{ {world} }}")).unwrap();
    let world = resolve.select_world(&[package], Some("made")).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// The memory from `START`: the result, the list of items, the texts.
fn memory(items: &[(&str, Value)]) -> Vec<u8> {
    let texts_start = START + RESULT_BYTES + items.len() * ITEM_BYTES;
    let mut texts = Vec::new();
    let mut text = |text: &str| {
        let at = texts_start + texts.len();
        texts.extend(text.as_bytes());
        [at, text.len()]
    };
    // It went well; the list; no next page; no meta.
    let mut words = vec![0, START + RESULT_BYTES, items.len(), 0, 0, 0, 0, 0];
    for (key, data) in items {
        words.extend(text(key));
        words.extend(text(&data.to_string()));
        // No priority.
        words.extend([0, 0]);
    }
    let words = words.into_iter().flat_map(|word| u32::try_from(word).unwrap().to_le_bytes());
    words.chain(texts.iter().copied()).collect()
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}
