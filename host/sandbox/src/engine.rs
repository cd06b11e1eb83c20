//! The engine that all components share.
//!
//! Owns its settings: how guests are interrupted, how much they may hold, what makes an attempt cost ten microseconds
//! in place of a hundred, and that the same code gives the same result on every machine. Never runs a guest itself.

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

/// How many threads may be left behind in an attempt that does not end, and be replaced: each keeps its sandbox.
pub const HELD_MAX: usize = 8;

/// Sandboxes beyond those for attempts: for `describe` and for discovery, and for threads that are held.
const SPARE_SANDBOXES: usize = HELD_MAX + 4;

/// How much of a memory stays resident in its place between two attempts: giving pages back to the kernel and faulting
/// them in again costs ten times what cleaning them does.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 1 << 20;
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// A guest's stack, on the stack of the thread that runs it.
const STACK_BYTES: usize = 1 << 20;

/// The stack that a thread must have to run attempts: the guest's, and as much for the host. Said to each thread, since
/// the environment (`RUST_MIN_STACK`) has a say otherwise.
pub const THREAD_STACK_BYTES: usize = 2 * STACK_BYTES;

/// The state of an instance beside its memories.
const INSTANCE_BYTES_MAX: usize = 1 << 20;

/// Told of each component before it is compiled, which may take seconds: its file, and its size in bytes.
pub type Compiling = Box<dyn Fn(&str, u64) + Send + Sync>;

/// How a sandbox is made.
pub struct Settings {
    /// Where compiled code is kept; none: it is not.
    pub cache_dir: Option<PathBuf>,
    /// How many attempts run at once.
    pub parallel: usize,
    /// The most memory that any stage is allowed.
    pub memory_bytes_max: u64,
    /// The time, for guests that are granted it.
    pub clock: Arc<dyn Clock>,
    /// How components are compiled.
    pub compiler: Compiler,
    /// Told what is compiled.
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
    /// How many files one attempt may hold open, so that all of them together leave the host enough.
    pub(crate) files_open_max: usize,
    /// How often an attempt waited for a place in the pool.
    pub(crate) pool_waits: AtomicU64,
    pub(crate) compiler: Compiler,
    pub(crate) compiling: Compiling,
    warnings: Vec<String>,
}

impl Sandbox {
    /// Starts an engine. What does not stop it, but makes it slower, is among the warnings.
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

    /// What makes this sandbox slower than it could be, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.shared.warnings
    }
}

/// What compiled code depends on, and what every engine has.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        // A person reads a sentence, not a list of offsets.
        .wasm_backtrace_max_frames(None)
        // The two places where WebAssembly leaves a choice to the machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    config
}

/// Half of what this process may open is for all attempts together.
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
            // Whether there is room for one memory is better known now than after a compilation.
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

/// The pool: room for that many components, each with all that one may have.
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

/// Everything that this host offers. A component is bound to what it imports of it, and cannot reach the rest.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    // Granted folders, the virtual world and the refusal of requests take the place of WASI's own.
    linker.allow_shadowing(true);
    wasi::link(&mut linker)?;
    files::link(&mut linker)?;
    virtual_world::link(&mut linker)?;
    http::link(&mut linker)?;
    imports::link(&mut linker)?;
    Ok(linker)
}
