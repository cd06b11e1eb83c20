//! Makes components from text.
//!
//! Owns the frame around a guest's function: allocator, `describe`, and the layout of a result. Never used outside
//! tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{Digest, FileGrant, Grants, Limits, SystemClock, Timestamp};
use tempfile::TempDir;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::{Attempt, AttemptContext, Compiler, Granted, Handler, Sandbox, Settings, Work};

pub(super) const CONTRACT: &str = include_str!("../../../../wit/handler.wit");
pub(super) const STAGES: &str = "gristmill:handler/stages@0.1.0";

/// The parts of WASI that the tests call.
const WASI: [&str; 4] = [
    "package wasi:io@0.2.0;
     interface poll { resource pollable { block: func(); } }",
    "package wasi:clocks@0.2.0;
     interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
     interface monotonic-clock {
       use wasi:io/poll@0.2.0.{pollable};
       now: func() -> u64;
       subscribe-duration: func(when: u64) -> pollable;
     }",
    "package wasi:random@0.2.0;
     interface random { get-random-u64: func() -> u64; }",
    "package wasi:filesystem@0.2.0;
     interface types {
       enum error-code {
         access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, file-too-large,
         illegal-byte-sequence, in-progress, interrupted, invalid, io, is-directory, loop, too-many-links,
         message-size, name-too-long, no-device, no-entry, no-lock, insufficient-memory, insufficient-space,
         not-directory, not-empty, not-recoverable, unsupported, no-tty, no-such-device, overflow, not-permitted,
         pipe, read-only, invalid-seek, text-file-busy, cross-device,
       }
       flags path-flags { symlink-follow }
       flags open-flags { create, directory, exclusive, truncate }
       flags descriptor-flags {
         read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, mutate-directory,
       }
       enum descriptor-type {
         unknown, block-device, character-device, directory, fifo, symbolic-link, regular-file, socket,
       }
       record directory-entry { %type: descriptor-type, name: string }
       resource directory-entry-stream {
         read-directory-entry: func() -> result<option<directory-entry>, error-code>;
       }
       resource descriptor {
         read-directory: func() -> result<directory-entry-stream, error-code>;
         open-at: func(path-flags: path-flags, path: string, open-flags: open-flags, %flags: descriptor-flags)
           -> result<descriptor, error-code>;
       }
     }
     interface preopens {
       use types.{descriptor};
       get-directories: func() -> list<tuple<descriptor, string>>;
     }",
];

/// Parses the contract (as given) with WASI and a world, and turns a core module for that world into a component.
pub(super) fn encode(contract: &str, world: &str, module: impl FnOnce(&Resolve, WorldId) -> Vec<u8>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    for (index, package) in WASI.iter().chain([&contract]).enumerate() {
        resolve.push_str(format!("{index}.wit"), package).unwrap();
    }
    let package = resolve.push_str("guest.wit", &format!("package test:guest; world guest {{ {world} }}")).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = module(&resolve, world);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// What a test's guest is made of.
#[derive(Clone, Copy, Default)]
pub(super) struct Guest<'a> {
    /// More of the world: `import x;`.
    pub(super) world: &'a str,
    /// Core imports, globals, functions and data.
    pub(super) items: &'a str,
    /// The body of `run`: it leaves the address of a result.
    pub(super) run: &'a str,
}

/// Texts that guests may use, by address.
const TEXTS: &str = r#"
  (data (i32.const 1024) "work")
  (data (i32.const 1040) "{\"n\": 1}")
  (data (i32.const 1060) "not JSON")
  (data (i32.const 1080) "busy")
"#;

impl Guest<'_> {
    pub(super) fn component(&self) -> Vec<u8> {
        self.component_with_pages(1)
    }

    /// The component, beginning with so many pages of memory, 64 KiB each.
    pub(super) fn component_with_pages(&self, pages: u32) -> Vec<u8> {
        let text = format!(
            r#"(module
              {items}
              (memory (export "memory") {pages})
              (global $free (mut i32) (i32.const 8192))
              {TEXTS}
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
              ;; The result of `run`: done with that text.
              (func $done (param i32 i32) (result i32)
                (i32.store8 (i32.const 4096) (i32.const 0))
                (i32.store (i32.const 4100) (local.get 0))
                (i32.store (i32.const 4104) (local.get 1))
                (i32.const 4096))
              ;; One stage, `work`, with `busy` for a description.
              (func (export "{STAGES}#describe") (result i32)
                (i32.store (i32.const 5000) (i32.const 1024)) (i32.store (i32.const 5004) (i32.const 4))
                (i32.store (i32.const 5008) (i32.const 1080)) (i32.store (i32.const 5012) (i32.const 4))
                (i32.store (i32.const 4096) (i32.const 5000)) (i32.store (i32.const 4100) (i32.const 1))
                (i32.const 4096))
              ;; 0 job, 2 stage, 4 item-key, 6 data, 8 upstream, 10 attempt, 11 idempotency-key, 13 meta
              (func (export "{STAGES}#run")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                {run}))"#,
            items = self.items,
            run = self.run,
        );
        let world = format!("{} export {STAGES};", self.world);
        encode(CONTRACT, &world, |_, _| wat::parse_str(&text).unwrap())
    }

    pub(super) fn load(&self) -> Bench {
        let bench = Bench::new();
        let handler = bench.load(&self.component()).unwrap();
        Bench { handler: Some(handler), ..bench }
    }
}

/// A guest, and everything that it runs in.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    pub(super) sandbox: Sandbox,
    pub(super) handler: Option<Handler>,
    pub(super) limits: Limits,
    pub(super) grants: Grants,
    pub(super) params: Arc<BTreeMap<String, String>>,
    pub(super) seed: Digest,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            sandbox: sandbox(None),
            folder,
            handler: None,
            limits: Limits { timeout: Duration::from_secs(20), memory_bytes_max: 4 << 20, output_bytes_max: 1 << 10 },
            grants: Grants::default(),
            params: Arc::new(BTreeMap::from([("model".to_owned(), "\"small\"".to_owned())])),
            seed: Digest([7; 32]),
        }
    }

    pub(super) fn write(&self, component: &[u8]) -> PathBuf {
        let path = self.folder.path().join("guest.wasm");
        std::fs::write(&path, component).unwrap();
        path
    }

    pub(super) fn load(&self, component: &[u8]) -> Result<Handler, crate::Error> {
        self.sandbox.load(&self.write(component))
    }

    pub(super) fn granted(&self) -> Arc<Granted> {
        self.handler.as_ref().unwrap().grant(&self.grants).unwrap()
    }

    pub(super) fn run(&self, data: &str) -> Attempt {
        self.run_with(&self.granted(), data)
    }

    pub(super) fn run_with(&self, granted: &Arc<Granted>, data: &str) -> Attempt {
        let work = Work {
            job: "job",
            stage: "work",
            item_key: "item",
            data,
            upstream: &[("before", "[1]")],
            attempt: 1,
            idempotency_key: Digest([1; 32]),
        };
        let context = AttemptContext {
            limits: self.limits,
            granted,
            params: &self.params,
            frozen_at: Timestamp(1_700_000_000_000_000),
            seed: self.seed,
        };
        self.handler.as_ref().unwrap().run(&work, &context).unwrap()
    }

    pub(super) fn granting(mut self, grant: impl FnOnce(&mut Grants)) -> Self {
        grant(&mut self.grants);
        self
    }

    pub(super) fn granting_folder(self, host: &Path) -> Self {
        let host = host.to_owned();
        self.granting(|grants| grants.files.push(FileGrant { guest: "/data".to_owned(), host }))
    }
}

pub(super) fn sandbox(cache_dir: Option<PathBuf>) -> Sandbox {
    let settings = Settings {
        cache_dir,
        parallel: 1,
        memory_bytes_max: 8 << 20,
        clock: Arc::new(SystemClock),
        compiler: Compiler::Here,
        compiling: Box::new(|_, _| {}),
    };
    Sandbox::new(settings).unwrap()
}
