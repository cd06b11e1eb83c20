//! From a file to a handler, or to a sentence that says why not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gristmill_model::Grants;
use wit_component::dummy_module;
use wit_parser::ManglingAndAbi;

use super::guest::{Bench, CONTRACT, Guest, STAGES, encode, sandbox};
use crate::{Error, canonical_hash, inspect_bytes};

const GUEST: Guest<'_> = Guest { world: "", items: "", run: "(call $done (i32.const 1040) (i32.const 8))" };

/// A component with everything in it that a world asks for, each function a trap.
fn dummy(contract: &str, world: &str) -> Vec<u8> {
    encode(contract, world, |resolve, world| {
        dummy_module(resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync))
    })
}

fn refusal(component: &[u8]) -> Error {
    let error = Bench::new().load(component).unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

#[test]
fn the_host_agrees_with_the_contract_on_every_function() {
    let world = "include gristmill:handler/complete@0.1.0; import gristmill:handler/secrets@0.1.0;
                 import gristmill:handler/host@0.1.0;";
    // All shapes match, since it comes as far as `describe`, which is a trap here.
    let error = refusal(&dummy(CONTRACT, world));
    assert!(matches!(&error, Error::Describe { reason, .. } if reason.starts_with("trapped")), "{error}");
    for (ours, theirs) in [("attempt: u32", "attempt: u64"), ("after-ms: option<u32>", "after-ms: u32")] {
        assert!(CONTRACT.contains(ours));
        let error = refusal(&dummy(&CONTRACT.replace(ours, theirs), world));
        assert!(matches!(error, Error::Interface { .. }), "{error}");
    }
}

#[test]
fn a_newer_patch_of_the_interface_is_accepted() {
    let newer = CONTRACT.replace("handler@0.1.0", "handler@0.1.7");
    let error = refusal(&dummy(&newer, "include gristmill:handler/complete@0.1.7;"));
    assert!(matches!(&error, Error::Describe { reason, .. } if reason.starts_with("trapped")), "{error}");
    let newer = CONTRACT.replace("handler@0.1.0", "handler@0.2.0");
    let error = refusal(&dummy(&newer, "include gristmill:handler/complete@0.2.0;"));
    assert!(matches!(error, Error::OtherWorld { .. }), "{error}");
}

#[test]
fn a_loaded_component_says_what_it_is() {
    let bench = GUEST.load();
    let handler = bench.handler.unwrap();
    let report = handler.report();
    assert_eq!(report.offers.stages.as_deref(), Some(STAGES));
    assert_eq!(report.offers.discovery, None);
    assert!(handler.has_stage("work") && !handler.has_stage("other"));
    assert_eq!(report.stages.as_ref().unwrap()[0].description, "busy");
    assert_eq!(handler.hash(), canonical_hash(&GUEST.component()).unwrap());
    assert_ne!(report.hash, report.raw_hash);
    assert!(report.producers.iter().any(|producer| producer.starts_with("processed-by wit-component")));
    assert!(handler.grant(&Grants::default()).is_ok());
}

#[test]
fn names_and_producers_do_not_change_the_hash_but_code_does() {
    let named = Guest { items: "(func $name_in_the_name_section)", ..GUEST };
    let renamed = Guest { items: "(func $another_name)", ..GUEST };
    let other = Guest { items: "(func $name_in_the_name_section nop)", ..GUEST };
    let hashes = [named, renamed, other].map(|guest| canonical_hash(&guest.component()).unwrap());
    assert_ne!(named.component(), renamed.component());
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}

#[test]
fn wrong_files_are_refused_in_a_sentence() {
    let missing = Bench::new().sandbox.load(Path::new("/nowhere/guest.wasm")).unwrap_err();
    assert_eq!(missing.to_string(), "there is no component at /nowhere/guest.wasm");
    assert!(missing.hint().is_some());
    let folder = Bench::new().sandbox.load(Path::new("/")).unwrap_err();
    assert!(matches!(folder, Error::Read { .. }), "{folder}");
    assert!(matches!(refusal(b"#!/bin/sh"), Error::NotWasm { .. }));
    assert!(matches!(refusal(&wat::parse_str("(module)").unwrap()), Error::CoreModule { .. }));
    let whole = GUEST.component();
    for cut in [9, 100, whole.len() / 2, whole.len() - 1] {
        assert!(matches!(refusal(&whole[..cut]), Error::Damaged { .. }), "cut at {cut}");
        assert!(matches!(inspect_bytes(&whole[..cut], "it"), Err(Error::Damaged { .. })), "cut at {cut}");
    }
    let mut damaged = whole.clone();
    let at = whole.windows(4).position(|bytes| bytes == b"\0asm").unwrap() + 40;
    damaged[at] ^= 0x55;
    assert!(Bench::new().load(&damaged).is_err());
}

#[test]
fn components_of_another_world_are_told_what_they_export() {
    let world = "export greet: func(); export leave: func();";
    let error = refusal(&dummy(CONTRACT, world));
    assert!(error.to_string().ends_with("is a component of another world: it exports greet and leave"), "{error}");
    let error = refusal(&wasm_encoder::Component::new().finish());
    assert!(error.to_string().ends_with("it exports nothing"), "{error}");
}

#[test]
fn an_import_that_the_host_lacks_is_named() {
    let world = format!("import gristmill:handler/telepathy@0.1.0; export {STAGES};");
    let contract = format!("{CONTRACT} interface telepathy {{ think: func(); }}");
    let error = refusal(&dummy(&contract, &world));
    let end = "imports gristmill:handler/telepathy@0.1.0, which this host does not offer";
    assert!(error.to_string().ends_with(end), "{error}");
}

#[test]
fn an_import_that_nothing_grants_stops_nobody_and_is_told() {
    let items = r#"(import "gristmill:handler/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    let bench = Guest { world: "import gristmill:handler/secrets@0.1.0;", items, ..GUEST }.load();
    let handler = bench.handler.as_ref().unwrap();
    assert!(handler.grant(&bench.grants).is_ok());
    let [grant] = &handler.report().grants[..] else { panic!("{:?}", handler.report().grants) };
    assert!(grant.notable);
    assert_eq!(grant.yaml, Some("grants: { secrets: [NAME] }"));
    assert_eq!(bench.run("{}").error, None);
}

#[test]
fn asynchronous_functions_are_told_as_that() {
    let text = include_str!("../../../../tests/fixtures/async-export.wat");
    let error = refusal(&wat::parse_str(text).unwrap());
    assert!(matches!(error, Error::Asynchronous { .. }), "{error}");
    assert!(crate::inspect::is_asynchronous(&wat::parse_str(text).unwrap()));
    assert!(!crate::inspect::is_asynchronous(&GUEST.component()));
}

#[test]
fn a_component_that_needs_more_than_a_sandbox_has_is_refused() {
    // The sandboxes of these tests have 8 MiB: 128 pages.
    let error = refusal(&GUEST.component_with_pages(129));
    assert!(matches!(error, Error::Resources { .. }), "{error}");
    assert!(Bench::new().load(&GUEST.component_with_pages(128)).is_ok());
}

#[test]
fn compiled_code_is_cached_checked_and_replaced() {
    let bench = Bench::new();
    let cache = bench.folder.path().join("data/cache");
    let path = bench.write(&GUEST.component());
    let files = || -> Vec<_> { fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect() };

    assert!(sandbox(Some(cache.clone())).load(&path).is_ok());
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    let good = fs::read(file).unwrap();
    let written = fs::metadata(file).unwrap().modified().unwrap();

    // Taken as it is: not written again.
    assert!(sandbox(Some(cache.clone())).load(&path).is_ok());
    assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), written);

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [&flipped[..], &good[..good.len() / 2], &good[..10], b""] {
        fs::write(file, damaged).unwrap();
        assert!(sandbox(Some(cache.clone())).load(&path).is_ok());
        assert_eq!(fs::read(file).unwrap().len(), good.len());
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let sandbox = sandbox(Some(in_the_way));
    assert!(sandbox.warnings().iter().any(|warning| warning.starts_with("cannot keep compiled code in ")));
    let path = folder.path().join("guest.wasm");
    fs::write(&path, GUEST.component()).unwrap();
    assert!(sandbox.load(&path).is_ok());
}
