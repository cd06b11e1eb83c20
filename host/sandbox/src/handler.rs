//! A loaded component: from a file to something that runs in microseconds.
//!
//! Owns the order of the checks at load, and the calls of its interfaces. Never keeps anything of one attempt for the
//! next.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gristmill_model::{Digest, Grants, Limits, Outcome, Timestamp};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use crate::compile::reason as one_line;
use crate::engine::Shared;
use crate::precompiled::{self, Vouched};
use crate::run::PATIENCE;
use crate::state::State;
use crate::{
    Attempt, AttemptContext, DiscoverRequest, DiscoveryAttempt, Error, Granted, GuestFailure, Inspection, MergeAttempt,
    MergeRequest, Sandbox, StageInfo, Work, abi, bytes, inspect, machine, outcome, run,
};

/// How long `describe` may take, in real time.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many stages a component may offer.
const STAGES_MAX: usize = 1024;

/// The longest name of a stage.
const STAGE_NAME_BYTES_MAX: usize = 128;

pub(crate) type Described = (Vec<abi::StageInfo>,);
pub(crate) type RunParams<'a> = (abi::Work<'a>,);
pub(crate) type RunResult = (Result<String, abi::Failure>,);
pub(crate) type DiscoverParams<'a> = (abi::DiscoverRequest<'a>,);
pub(crate) type DiscoverResult = (Result<abi::Page, abi::Failure>,);
pub(crate) type MergeParams<'a> = (abi::MergeRequest<'a>,);
pub(crate) type MergeResult = (Result<String, abi::Failure>,);

/// A component, loaded and compiled. Cheap to clone.
#[derive(Clone)]
pub struct Handler {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    inspection: Inspection,
    /// Its file, until somebody has it kept.
    content: Mutex<Option<Arc<[u8]>>>,
    shared: Arc<Shared>,
    pre: InstancePre<State>,
    run: Option<ComponentExportIndex>,
    discover: Option<ComponentExportIndex>,
    merge: Option<ComponentExportIndex>,
}

impl Sandbox {
    /// Loads a component. Reads it, checks that it exports one of our interfaces and that the host has all its imports,
    /// takes its compiled form from the cache or compiles it, and asks it which stages it offers.
    ///
    /// # Errors
    /// If the file cannot be read, is no component of ours, imports what the host does not have, or cannot be compiled;
    /// or if the machine refuses what that takes (`Machine`).
    pub fn load(&self, path: &Path) -> Result<Handler, Error> {
        let component = path.display().to_string();
        let content = bytes::read(path)?;
        let mut inspection = inspect::read(&content, &component)?;
        let offers = inspection.offers.clone();
        if offers.stages.is_none() && offers.discovery.is_none() && offers.merging.is_none() {
            return Err(Error::OtherWorld { component, exports: inspection.exports });
        }
        if let Some(import) = inspection.unknown_import() {
            return Err(Error::Import { component, import: import.clone() });
        }
        let compiled = self.compiled(&content, inspection.raw_hash, &component)?;
        let function = |interface: Option<&String>, function: &str| {
            let interface = compiled.get_export_index(None, interface?)?;
            compiled.get_export_index(Some(&interface), function)
        };
        let describe = function(offers.stages.as_ref(), "describe");
        let run = function(offers.stages.as_ref(), "run");
        let discover = function(offers.discovery.as_ref(), "discover");
        let merge = function(offers.merging.as_ref(), "merge");
        let whole = offers.stages.is_some() == (describe.is_some() && run.is_some())
            && offers.discovery.is_some() == discover.is_some()
            && offers.merging.is_some() == merge.is_some();
        if !whole {
            return Err(Error::Interface { component, reason: "an interface lacks a function".to_owned() });
        }
        let pre = self
            .shared
            .linker
            .instantiate_pre(&compiled)
            .map_err(|error| Error::Interface { component: component.clone(), reason: one_line(&error) })?;
        let probe = Probe { describe, run, discover, merge };
        inspection.stages = probe.stages(&self.shared, &pre, &component)?;
        let (path, shared) = (path.to_owned(), Arc::clone(&self.shared));
        let content = Mutex::new(Some(content.into()));
        Ok(Handler { inner: Arc::new(Inner { path, inspection, content, shared, pre, run, discover, merge }) })
    }

    fn compiled(&self, content: &[u8], raw_hash: Digest, component: &str) -> Result<Component, Error> {
        let (engine, cache) = (&self.shared.engine, self.shared.cache.as_ref());
        if let Some(compiled) = cache.and_then(|cache| cache.load(engine, raw_hash)) {
            return Ok(compiled);
        }
        (self.shared.compiling)(component, content.len() as u64);
        let code = self.shared.compiler.compile(engine, content, component)?;
        if let Some(cache) = cache {
            cache.store(engine, raw_hash, &code);
        }
        precompiled::load(engine, &Vouched::new(&code)).map_err(|error| match machine::refusal(&error) {
            Some(source) => Error::Machine { source },
            None => Error::Resources { component: component.to_owned(), reason: one_line(&error) },
        })
    }
}

/// The functions that are checked in the first instance of a component.
struct Probe {
    describe: Option<ComponentExportIndex>,
    run: Option<ComponentExportIndex>,
    discover: Option<ComponentExportIndex>,
    merge: Option<ComponentExportIndex>,
}

impl Probe {
    /// Compares the functions with the contract, and asks for the stages.
    fn stages(
        &self,
        shared: &Shared,
        pre: &InstancePre<State>,
        component: &str,
    ) -> Result<Option<Vec<StageInfo>>, Error> {
        let (granted, params) = (Arc::new(Granted::default()), Arc::new(BTreeMap::new()));
        let limits =
            Limits { timeout: DESCRIBE_TIMEOUT, memory_bytes_max: shared.memory_bytes_max, ..Limits::default() };
        let context = AttemptContext {
            limits,
            granted: &granted,
            params: &params,
            frozen_at: Timestamp::default(),
            seed: Digest([0; 32]),
        };
        let mut mismatch = None;
        let (result, _) = run::attempt(shared, pre, &context, Duration::ZERO, |store, instance| {
            let mut check = |error: wasmtime::Error| {
                mismatch = Some(one_line(&error));
                error
            };
            if let Some(run) = &self.run {
                instance.get_typed_func::<RunParams<'_>, RunResult>(&mut *store, run).map_err(&mut check)?;
            }
            if let Some(index) = &self.discover {
                instance
                    .get_typed_func::<DiscoverParams<'_>, DiscoverResult>(&mut *store, index)
                    .map_err(&mut check)?;
            }
            if let Some(index) = &self.merge {
                instance.get_typed_func::<MergeParams<'_>, MergeResult>(&mut *store, index).map_err(&mut check)?;
            }
            let Some(describe) = &self.describe else { return Ok(None) };
            let describe = instance.get_typed_func::<(), Described>(&mut *store, describe).map_err(&mut check)?;
            let (stages,) = describe.call(store, ())?;
            Ok(Some(stages))
        })?;
        let component = component.to_owned();
        match (mismatch, result) {
            (Some(reason), _) => Err(Error::Interface { component, reason }),
            (None, Ok(stages)) => stages.map(|stages| named(stages, &component)).transpose(),
            // A `describe` cannot say `later`. The host does, when the machine refuses memory.
            (None, Err(failure)) if failure.outcome == Outcome::Later => {
                Err(Error::Machine { source: io::Error::new(io::ErrorKind::OutOfMemory, failure.message) })
            }
            (None, Err(failure)) => Err(Error::Describe { component, reason: failure.message }),
        }
    }
}

/// The stages that a component describes, if job files can name them.
fn named(stages: Vec<abi::StageInfo>, component: &str) -> Result<Vec<StageInfo>, Error> {
    let impossible = |reason: String| Err(Error::Describe { component: component.to_owned(), reason });
    if stages.len() > STAGES_MAX {
        return impossible(format!("it lists {} stages, and may list {STAGES_MAX}", stages.len()));
    }
    for (index, stage) in stages.iter().enumerate() {
        let name = outcome::quoted(&stage.name);
        let letters = stage.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if stage.name.is_empty() || stage.name.len() > STAGE_NAME_BYTES_MAX || !letters {
            return impossible(format!("{name} is no name: lower-case letters, digits, `-` and `_` make one"));
        }
        if stages[..index].iter().any(|other| other.name == stage.name) {
            return impossible(format!("it lists {name} twice"));
        }
    }
    let of = |stage: abi::StageInfo| StageInfo { description: outcome::message(&stage.description), name: stage.name };
    Ok(stages.into_iter().map(of).collect())
}

impl Handler {
    /// The component's identity: its hash without custom sections.
    pub fn hash(&self) -> Digest {
        self.inner.inspection.hash
    }

    /// The file that it was loaded from.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What it is, including the stages that it offers.
    pub fn report(&self) -> &Inspection {
        &self.inner.inspection
    }

    /// The file's bytes as they were loaded; none: they were dropped.
    pub fn content(&self) -> Option<Arc<[u8]>> {
        self.inner.content.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops the file's bytes, for all clones: nothing that runs needs them, and they are many.
    pub fn drop_content(&self) {
        *self.inner.content.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it offers that stage.
    pub fn has_stage(&self, name: &str) -> bool {
        self.inner.inspection.stages.iter().flatten().any(|stage| stage.name == name)
    }

    /// Opens the folders that a stage may read: once for all of its attempts.
    ///
    /// # Errors
    /// If a granted folder cannot be opened.
    pub fn grant(&self, grants: &Grants) -> Result<Arc<Granted>, Error> {
        Granted::open(grants, &self.inner.path.display().to_string()).map(Arc::new)
    }

    /// Runs one stage on one item, in a fresh sandbox. Blocks the calling thread, which must not be one of an async
    /// runtime, and must have a stack of [`THREAD_STACK_BYTES`](crate::THREAD_STACK_BYTES).
    ///
    /// # Errors
    /// `Error::Machine` if the machine refused a sandbox for ten seconds. Then nothing was run.
    pub fn run(&self, work: &Work<'_>, context: &AttemptContext<'_>) -> Result<Attempt, Error> {
        let inner = &*self.inner;
        let (result, traces) = run::attempt(&inner.shared, &inner.pre, context, PATIENCE, |store, instance| {
            let Some(index) = &inner.run else { return Ok(Err(lacks("run stages"))) };
            let function = instance.get_typed_func::<RunParams<'_>, RunResult>(&mut *store, index)?;
            let upstream: Vec<_> =
                work.upstream.iter().map(|&(stage, output)| abi::Upstream { stage, output }).collect();
            let work = abi::Work {
                job: work.job,
                stage: work.stage,
                item_key: work.item_key,
                data: work.data,
                upstream: &upstream,
                attempt: work.attempt,
                idempotency_key: &blake3::Hash::from_bytes(work.idempotency_key.0).to_hex(),
                meta: &[],
            };
            Ok(function.call(store, (work,))?.0.map_err(outcome::of_failure))
        })?;
        let checked = result.and_then(|returned| outcome::check_output(returned?, &context.limits));
        Ok(match checked {
            Ok(output) => Attempt { outcome: Outcome::Done, output: Some(output), error: None, after: None, traces },
            Err(GuestFailure { outcome, after, message }) => {
                Attempt { outcome, output: None, error: Some(message), after, traces }
            }
        })
    }

    /// Asks for one page of items, in a fresh sandbox. Blocks as `run` does.
    ///
    /// # Errors
    /// As `run`.
    pub fn discover(
        &self,
        request: &DiscoverRequest<'_>,
        context: &AttemptContext<'_>,
    ) -> Result<DiscoveryAttempt, Error> {
        let inner = &*self.inner;
        let (result, traces) = run::attempt(&inner.shared, &inner.pre, context, PATIENCE, |store, instance| {
            let Some(index) = &inner.discover else { return Ok(Err(lacks("discover items"))) };
            let function = instance.get_typed_func::<DiscoverParams<'_>, DiscoverResult>(&mut *store, index)?;
            let &DiscoverRequest { job, cursor, limit } = request;
            let request = abi::DiscoverRequest { job, cursor, limit, meta: &[] };
            Ok(function.call(store, (request,))?.0.map_err(outcome::of_failure))
        })?;
        let result = result.and_then(|returned| outcome::check_page(returned?, request.limit, &context.limits));
        Ok(DiscoveryAttempt { result, traces })
    }

    /// Merges newly found data into known data, in a fresh sandbox. Blocks as `run` does.
    ///
    /// # Errors
    /// As `run`.
    pub fn merge(&self, request: &MergeRequest<'_>, context: &AttemptContext<'_>) -> Result<MergeAttempt, Error> {
        let inner = &*self.inner;
        let (result, traces) = run::attempt(&inner.shared, &inner.pre, context, PATIENCE, |store, instance| {
            let Some(index) = &inner.merge else { return Ok(Err(lacks("merge items"))) };
            let function = instance.get_typed_func::<MergeParams<'_>, MergeResult>(&mut *store, index)?;
            let &MergeRequest { item_key, existing, incoming } = request;
            let request = abi::MergeRequest { item_key, existing, incoming, meta: &[] };
            Ok(function.call(store, (request,))?.0.map_err(outcome::of_failure))
        })?;
        let result = result.and_then(|returned| outcome::check_output(returned?, &context.limits));
        Ok(MergeAttempt { result, traces })
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("path", &self.inner.path).field("hash", &self.hash()).finish_non_exhaustive()
    }
}

fn lacks(what: &str) -> GuestFailure {
    let message = format!("this component does not {what}");
    GuestFailure { outcome: Outcome::Permanent, after: None, message }
}
