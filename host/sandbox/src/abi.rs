//! The records and variants of `wit/handler.wit`, as host and guest exchange them.
//!
//! Owns only their shapes: wasmtime compares them with a component's when it is loaded, and copies directly from
//! borrowed data. Never used outside this crate.

use wasmtime::component::{ComponentType, Lift, Lower};

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Upstream<'a> {
    pub(crate) stage: &'a str,
    pub(crate) output: &'a str,
}

/// `meta`: room to grow, empty in this version.
pub(crate) type MetaOut<'a> = &'a [(&'a str, &'a str)];

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Work<'a> {
    pub(crate) job: &'a str,
    pub(crate) stage: &'a str,
    #[component(name = "item-key")]
    pub(crate) item_key: &'a str,
    pub(crate) data: &'a str,
    pub(crate) upstream: &'a [Upstream<'a>],
    pub(crate) attempt: u32,
    #[component(name = "idempotency-key")]
    pub(crate) idempotency_key: &'a str,
    pub(crate) meta: MetaOut<'a>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct DiscoverRequest<'a> {
    pub(crate) job: &'a str,
    pub(crate) cursor: Option<&'a str>,
    pub(crate) limit: u32,
    pub(crate) meta: MetaOut<'a>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct MergeRequest<'a> {
    #[component(name = "item-key")]
    pub(crate) item_key: &'a str,
    pub(crate) existing: &'a str,
    pub(crate) incoming: &'a str,
    pub(crate) meta: MetaOut<'a>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct StageInfo {
    pub(crate) name: String,
    pub(crate) description: String,
    #[expect(dead_code, reason = "room to grow: part of the shape, with nothing in it yet")]
    pub(crate) meta: Vec<(String, String)>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Hint {
    #[component(name = "after-ms")]
    pub(crate) after_ms: Option<u32>,
    pub(crate) message: String,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Failure {
    #[component(name = "retry")]
    Retry(Hint),
    #[component(name = "later")]
    Later(Hint),
    #[component(name = "permanent")]
    Permanent(String),
    #[component(name = "skip")]
    Skip(String),
    #[component(name = "other")]
    Other((String, String)),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct NewItem {
    pub(crate) key: String,
    pub(crate) data: String,
    pub(crate) priority: Option<i32>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Page {
    pub(crate) items: Vec<NewItem>,
    pub(crate) next: Option<String>,
    #[expect(dead_code, reason = "room to grow: part of the shape, with nothing in it yet")]
    pub(crate) meta: Vec<(String, String)>,
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[expect(dead_code, reason = "made from a guest's number, by its position")]
#[repr(u8)]
pub(crate) enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl Level {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}
