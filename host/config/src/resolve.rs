//! From a checked tree to the job that the host runs.
//!
//! Owns what a value means: defaults, paths, limits. Never checks a single value: `check` did, and a value that does
//! not fit its shape counts as absent here. Finds only faults between several values.

use std::path::{Path, PathBuf};

use gristmill_model::{
    Backoff, DiscoverSpec, DiscoverTuning, Expiring, FileGrant, Grants, Jitter, JobSpec, JobTuning, Limits, Merge,
    MergePolicy, MergeRule, OnUpdate, Rediscovery, Retention, RetryPolicy,
};

use crate::interpolate::{Env, Params};
use crate::report::Problem;
use crate::stages::resolve_stages;
use crate::units::show_duration;
use crate::yaml::{Entry, Node, Value};

/// The folders that paths are resolved against, and the problems found so far.
pub(crate) struct Resolver<'a> {
    pub(crate) base_dir: &'a Path,
    pub(crate) env: Env<'a>,
    pub(crate) problems: Vec<Problem>,
}

impl Resolver<'_> {
    pub(crate) fn job(&mut self, root: &Node, params: &Params) -> (JobSpec, JobTuning, Option<String>) {
        let discover = root.get("discover");
        let discover_tuning = self.discover_tuning(discover);
        let discover = discover.map(|node| self.discover_spec(node));
        let (stages, stage_tunings) = resolve_stages(self, root, discover.as_ref());
        let spec = JobSpec {
            name: root.get("job").and_then(Node::text).unwrap_or_default().to_owned(),
            params: params.iter().filter_map(|(name, value)| Some((name.clone(), value.to_json()?))).collect(),
            discover,
            stages,
        };
        let display = root.get("display").map(Node::to_json);
        let retention = self.retention(root.get("retention"));
        (spec, JobTuning { discover: discover_tuning, stages: stage_tunings, retention }, display)
    }

    fn discover_spec(&mut self, node: &Node) -> DiscoverSpec {
        DiscoverSpec {
            handler: node.get("handler").and_then(|node| self.path(node)).unwrap_or_default(),
            grants: self.grants(node.get("grants")),
        }
    }

    fn discover_tuning(&mut self, node: Option<&Node>) -> DiscoverTuning {
        let default = DiscoverTuning::default();
        let Some(node) = node else { return default };
        DiscoverTuning {
            every: node.get("every").and_then(Node::duration),
            page: node.get("page").and_then(count).unwrap_or(default.page),
            backlog: node.get("backlog").and_then(count).unwrap_or(default.backlog),
            limits: limits(node.get("limits"), default.limits),
            retry: self.retry(node.get("retry"), default.retry),
            rediscovery: rediscovery(node, default.rediscovery),
        }
    }

    fn retention(&mut self, node: Option<&Node>) -> Retention {
        let Some(node) = node else { return Retention::default() };
        let time = |what: Expiring| Some((what, node.get(what.name())?.duration()?));
        Retention {
            keep: Expiring::ALL.into_iter().filter_map(time).collect(),
            archive: node.get("archive").and_then(|node| self.path(node)),
        }
    }

    pub(crate) fn grants(&mut self, node: Option<&Node>) -> Grants {
        let Some(node) = node else { return Grants::default() };
        let granted = |name| matches!(node.get(name), Some(Node { value: Value::Bool(true), .. }));
        let folders = node.get("files").map_or(&[][..], Node::entries);
        let files = folders
            .iter()
            .filter_map(|entry| Some(FileGrant { guest: entry.key.clone(), host: self.path(&entry.node)? }))
            .collect();
        Grants { files, clock: granted("clock"), random: granted("random") }
    }

    /// A path of this machine, relative to the job file's folder. A leading `~` is the home folder.
    pub(crate) fn path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = node.text()?;
        let Some(below) = text.strip_prefix('~').filter(|below| below.is_empty() || below.starts_with('/')) else {
            return Some(self.base_dir.join(text));
        };
        let Some(home) = (self.env)("HOME").filter(|home| !home.is_empty()) else {
            let problem = Problem::new(node.span, "`~` is the home folder, and the environment has no `HOME`");
            self.problems.push(problem.hint("set it, or write the whole path".to_owned()));
            return None;
        };
        Some(Path::new(&home).join(below.trim_start_matches('/')))
    }

    pub(crate) fn retry(&mut self, node: Option<&Node>, default: RetryPolicy) -> RetryPolicy {
        let Some(node) = node else { return default };
        RetryPolicy {
            max_attempts: node.get("max_attempts").and_then(count).unwrap_or(default.max_attempts),
            max_lost: node.get("max_lost").and_then(count).unwrap_or(default.max_lost),
            max_deferrals: node.get("max_deferrals").and_then(count).unwrap_or(default.max_deferrals),
            max_deferral_age: node.get("max_deferral_age").and_then(Node::duration).unwrap_or(default.max_deferral_age),
            backoff: self.backoff(node.get("backoff"), default.backoff),
        }
    }

    fn backoff(&mut self, node: Option<&Node>, default: Backoff) -> Backoff {
        let Some(node) = node else { return default };
        let (base, max) = (node.get("base"), node.get("max"));
        let backoff = Backoff {
            base: base.and_then(Node::duration).unwrap_or(default.base),
            factor: node.get("factor").and_then(Node::real).unwrap_or(default.factor),
            max: max.and_then(Node::duration).unwrap_or(default.max),
            jitter: node.get("jitter").and_then(jitter).unwrap_or(default.jitter),
        };
        if backoff.max < backoff.base {
            let (shown_base, shown_max) = (show_duration(backoff.base), show_duration(backoff.max));
            let message = format!("the longest delay, `{shown_max}`, is shorter than the first, `{shown_base}`");
            let (base_default, max_default) = (show_duration(default.base), show_duration(default.max));
            let hint = format!("by default `base` is `{base_default}` and `max` is `{max_default}`");
            self.problems.push(Problem::new(max.or(base).map(|node| node.span), message).hint(hint));
        }
        backoff
    }
}

pub(crate) fn limits(node: Option<&Node>, default: Limits) -> Limits {
    let Some(node) = node else { return default };
    Limits {
        timeout: node.get("timeout").and_then(Node::duration).unwrap_or(default.timeout),
        memory_bytes_max: node.get("memory").and_then(Node::size).unwrap_or(default.memory_bytes_max),
        output_bytes_max: node.get("output").and_then(Node::size).unwrap_or(default.output_bytes_max),
    }
}

fn rediscovery(node: &Node, default: Rediscovery) -> Rediscovery {
    Rediscovery {
        merge: node.get("merge").map_or(default.merge, merge),
        sightings_max: node.get("sightings").and_then(count).unwrap_or(default.sightings_max),
        on_update: node.get("on_update").and_then(on_update).unwrap_or(default.on_update),
    }
}

fn merge(node: &Node) -> Merge {
    if node.text().is_some() {
        return Merge::Handler;
    }
    let field = |entry: &Entry| Some((entry.key.clone(), MergeRule::from_name(entry.node.text()?)?));
    Merge::Fields(MergePolicy { fields: node.entries().iter().filter_map(field).collect() })
}

fn on_update(node: &Node) -> Option<OnUpdate> {
    match node.text()? {
        "stale" => Some(OnUpdate::Stale),
        "reprocess" => Some(OnUpdate::Reprocess),
        _ => None,
    }
}

fn count(node: &Node) -> Option<u32> {
    node.whole()?.try_into().ok()
}

fn jitter(node: &Node) -> Option<Jitter> {
    match node.text()? {
        "full" => Some(Jitter::Full),
        "equal" => Some(Jitter::Equal),
        "none" => Some(Jitter::None),
        _ => None,
    }
}
