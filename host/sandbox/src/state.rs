//! What the host holds for one attempt while it runs.
//!
//! Owns everything that a guest's calls change. Never outlives its attempt. It is cheap to make: what few guests use is
//! made on first use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_model::Clock;
use wasmtime_wasi::{ResourceTable, WasiCtx};

use crate::files::OpenFiles;
use crate::http::Http;
use crate::limiter::Limiter;
use crate::log::SharedLog;
use crate::virtual_world::VirtualWorld;
use crate::{AttemptContext, Granted, Traces};

/// How many handles (files, streams, timers, headers) a guest may hold at once.
const HANDLES_MAX: usize = 256;

pub(crate) struct State {
    pub(crate) limiter: Limiter,
    pub(crate) log: SharedLog,
    pub(crate) params: Arc<BTreeMap<String, String>>,
    pub(crate) params_read: BTreeMap<String, Option<String>>,
    pub(crate) charges: Vec<(String, f64)>,
    pub(crate) progress: Option<(f64, String)>,
    pub(crate) granted: Arc<Granted>,
    pub(crate) open: OpenFiles,
    /// The host's clock, for a guest that is granted the real time.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
    /// Time and chance, for a guest that is not granted the real ones.
    pub(crate) world: VirtualWorld,
    pub(crate) table: ResourceTable,
    pub(crate) http: Http,
    /// Made by the first call that needs it: most attempts never do.
    pub(crate) wasi: Option<Box<WasiCtx>>,
}

impl State {
    pub(crate) fn new(
        context: &AttemptContext<'_>,
        clock: &Arc<dyn Clock>,
        files_open_max: usize,
        began: Instant,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        // A limit that is too large to add needs no exact deadline.
        let deadline = began.checked_add(context.limits.timeout).unwrap_or(began + Duration::from_secs(1 << 32));
        Self {
            limiter: Limiter::new(context.limits.memory_bytes_max),
            log: SharedLog::default(),
            params: Arc::clone(context.params),
            params_read: BTreeMap::new(),
            charges: Vec::new(),
            progress: None,
            granted: Arc::clone(context.granted),
            open: OpenFiles::new(files_open_max),
            clock: Arc::clone(clock),
            began,
            deadline,
            world: VirtualWorld::new(context.frozen_at, context.seed),
            table,
            http: Http::default(),
            wasi: None,
        }
    }

    /// What the host keeps of the attempt.
    pub(crate) fn into_traces(self, elapsed: Duration) -> Traces {
        Traces {
            log: self.log.lock().finish(),
            params_read: self.params_read.into_iter().collect(),
            charges: self.charges,
            progress: self.progress,
            memory_bytes_max: self.limiter.bytes(),
            elapsed,
        }
    }
}
