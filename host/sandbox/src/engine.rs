//! The engine that all components share.
//!
//! Owns its settings. They decide how guests are interrupted and how much they may hold, make an attempt cost ten
//! microseconds and not a hundred, and make the same code give the same result on every machine. Never runs a guest
//! itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use gristmill_model::Clock;
use rustix::process::{Resource, getrlimit};
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Memory, MemoryType, PoolingAllocationConfig, Store,
};

use crate::cache::Cache;
use crate::compile::Compiler;
use crate::files::{self, OPEN_MAX};
use crate::limiter::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::state::State;
use crate::ticker::Ticker;
use crate::{Error, http, imports, machine, virtual_world, wasi};

/// How many threads may hang in an attempt and be replaced: each of them keeps its sandbox.
pub const HELD_MAX: usize = 8;

/// Sandboxes in addition to those for attempts: for `describe`, for discovery, and for threads that hang.
const SPARE_SANDBOXES: usize = HELD_MAX + 4;

/// How many bytes of a pooled memory stay resident between two attempts. Returning pages to the kernel and faulting
/// them in again costs ten times as much as clearing them.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 1 << 20;
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// The size of a guest's stack, which is part of its thread's stack.
const STACK_BYTES: usize = 1 << 20;

/// The stack that a thread needs to run attempts: the guest's, and as much for the host. Set for each thread, since
/// otherwise the environment (`RUST_MIN_STACK`) could change it.
pub const THREAD_STACK_BYTES: usize = 2 * STACK_BYTES;

/// The largest state of an instance, without its memories.
const INSTANCE_BYTES_MAX: usize = 1 << 20;

/// Called before each compilation, which may take seconds, with the component's file and its size in bytes.
pub type Compiling = Box<dyn Fn(&str, u64) + Send + Sync>;

/// How a sandbox is made.
pub struct Settings {
    /// The folder for compiled code; none if it is not kept.
    pub cache_dir: Option<PathBuf>,
    /// How many attempts run at once.
    pub parallel: usize,
    /// The largest memory limit of any stage, in bytes.
    pub memory_bytes_max: u64,
    /// The clock of guests that are granted the real time.
    pub clock: Arc<dyn Clock>,
    /// How components are compiled.
    pub compiler: Compiler,
    /// Called before each compilation.
    pub compiling: Compiling,
}

/// Loads components. Cheap to clone: the engine is shared.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) ticker: Ticker,
    pub(crate) cache: Option<Cache>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) memory_bytes_max: u64,
    /// How many files one attempt may hold open, so that all attempts together leave enough for the host.
    pub(crate) files_open_max: usize,
    /// How often an attempt waited for a place in the pool, to report it rarely.
    pub(crate) pool_waits: AtomicU64,
    pub(crate) compiler: Compiler,
    pub(crate) compiling: Compiling,
    warnings: Vec<String>,
}

impl Sandbox {
    /// Starts an engine. A problem that only makes it slower becomes a warning.
    ///
    /// # Errors
    /// If the machine refuses memory or a thread (`Machine`), or wasmtime refuses the settings (`Engine`).
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let failed = |error: wasmtime::Error| match machine::refusal(&error) {
            Some(source) => Error::Machine { source },
            None => Error::Engine { reason: error.root_cause().to_string() },
        };
        let mut warnings = Vec::new();
        let engine = engine(&settings, &mut warnings).map_err(failed)?;
        let linker = linker(&engine).map_err(failed)?;
        let ticker = Ticker::start(&engine).map_err(|source| Error::Machine { source })?;
        let cache = settings.cache_dir.and_then(|folder| {
            let opened = Cache::open(&folder);
            opened
                .map_err(|error| {
                    let folder = folder.display();
                    warnings.push(format!("cannot keep compiled code in {folder}, so each start compiles: {error}"));
                })
                .ok()
        });
        let Settings { clock, memory_bytes_max, compiler, compiling, parallel, .. } = settings;
        let files_open_max = files_open_max(parallel);
        let shared = Shared {
            engine,
            linker,
            ticker,
            cache,
            clock,
            memory_bytes_max,
            files_open_max,
            pool_waits: AtomicU64::new(0),
            compiler,
            compiling,
            warnings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Why this sandbox is slower than it could be: one sentence for each reason.
    pub fn warnings(&self) -> &[String] {
        &self.shared.warnings
    }
}

/// The settings that compiled code depends on, the same for every engine.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        // People get a sentence, not a list of offsets.
        .wasm_backtrace_max_frames(None)
        // The two cases in which WebAssembly leaves the result to the machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    config
}

/// All attempts together may open half of the files that this process may open.
fn files_open_max(parallel: usize) -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let each = usize::try_from(allowed / 2).unwrap_or(usize::MAX) / parallel.max(1);
    each.clamp(1, OPEN_MAX)
}

fn engine(settings: &Settings, warnings: &mut Vec<String>) -> wasmtime::Result<Engine> {
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings)));
    match Engine::new(&config) {
        Ok(engine) => {
            if !PoolingAllocationConfig::is_pagemap_scan_available() {
                warnings.push(
                    "this kernel has no PAGEMAP_SCAN (Linux has it from 6.7): an attempt costs several times as much"
                        .to_owned(),
                );
            }
            Ok(engine)
        }
        Err(error) => {
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            let engine = Engine::new(&config)?;
            // It is better to know now than after a compilation whether there is room for a memory.
            Memory::new(&mut Store::new(&engine, ()), MemoryType::new(1, None))?;
            warnings.push(format!(
                "cannot reserve memory for {} sandboxes, so each attempt allocates its own, slower: {}",
                sandboxes(settings),
                error.root_cause()
            ));
            Ok(engine)
        }
    }
}

fn sandboxes(settings: &Settings) -> u32 {
    u32::try_from(settings.parallel.saturating_add(SPARE_SANDBOXES)).unwrap_or(u32::MAX).min(10_000)
}

/// The pool: it has room for all sandboxes, each as large as one may be.
fn pool(settings: &Settings) -> PoolingAllocationConfig {
    let count = sandboxes(settings);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(count)
        .total_core_instances(CORE_INSTANCES_MAX * count)
        .total_memories(MEMORIES_MAX * count)
        .total_tables(TABLES_MAX * count)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_memory_size(usize::try_from(settings.memory_bytes_max).unwrap_or(usize::MAX))
        .max_unused_warm_slots(3 * count)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Everything that this host offers. A component gets only what it imports.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    // Our granted folders, virtual clocks and refused requests replace WASI's own functions.
    linker.allow_shadowing(true);
    wasi::link(&mut linker)?;
    files::link(&mut linker)?;
    virtual_world::link(&mut linker)?;
    http::link(&mut linker)?;
    imports::link(&mut linker)?;
    Ok(linker)
}
