//! The shape of a job, resolved and checked.
//!
//! Owns the three parts of a job: the *spec* is its identity, the *tuning* may change while it runs, the *display*
//! is opaque. Has all defaults, each in one place. Never parses: `config` makes these from YAML.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Digest, Rediscovery, RetryPolicy, When, find_cycle};

/// A job as its file declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What the job is. A change makes a new spec, kept as a snapshot.
    pub spec: JobSpec,
    /// How fast and how hard it runs.
    pub tuning: JobTuning,
    /// JSON that the host passes on and never reads.
    pub display: Option<String>,
    /// The file's text.
    pub yaml: String,
}

/// What a job is.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// Unique in a tracker.
    pub name: String,
    /// What handlers may ask for, each as JSON text.
    pub params: BTreeMap<String, String>,
    /// How items are found; none if they are only added by hand.
    pub discover: Option<DiscoverSpec>,
    /// In the order of the file.
    pub stages: Vec<StageSpec>,
}

impl JobSpec {
    /// The spec's identity: blake3 of everything in it, resolved. Comments, limits, rates and the display are not part
    /// of it; parameters are, also those from the command line.
    pub fn id(&self) -> Digest {
        let mut fields: Vec<String> = vec![self.name.clone()];
        let mut section = |name: &str, part: Vec<String>| {
            // Each section starts with its length, so that no two specs give the same list of fields.
            fields.push(format!("{name} {}", part.len()));
            fields.extend(part);
        };
        section("params", self.params.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect());
        if let Some(DiscoverSpec { handler, grants }) = &self.discover {
            section("discover", vec![handler.display().to_string()]);
            section("grants", grants.fields());
        }
        for stage in &self.stages {
            let StageSpec { name, handler, needs, grants, inputs, version, when } = stage;
            section("stage", vec![name.clone(), handler.display().to_string()]);
            section("needs", needs.iter().map(|need| format!("{} {}", need.stage, need.output)).collect());
            section("grants", grants.fields());
            section("inputs", inputs.iter().map(|path| path.display().to_string()).collect());
            section("version", version.iter().cloned().collect());
            // Specs without `when` keep the ids that they had before `when` existed.
            if !when.is_always() {
                section("when", when.fields());
            }
        }
        Digest::of_fields("gristmill spec 1", fields.iter().map(String::as_bytes))
    }

    /// A cycle among the stages, as names; none in a job that `config` let through.
    pub fn cycle(&self) -> Option<Vec<&str>> {
        let needs: Vec<Vec<usize>> =
            self.stages.iter().map(|stage| stage.needs.iter().map(|need| need.stage).collect()).collect();
        Some(find_cycle(&needs)?.into_iter().map(|index| self.stages[index].name.as_str()).collect())
    }
}

/// How items are found.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscoverSpec {
    /// The component's file.
    pub handler: PathBuf,
    /// What it may touch.
    pub grants: Grants,
}

/// One stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageSpec {
    /// Unique in its job.
    pub name: String,
    /// The component's file.
    pub handler: PathBuf,
    /// The stages whose outputs it is given.
    pub needs: Vec<Need>,
    /// What it may touch.
    pub grants: Grants,
    /// Files whose contents are part of the stage's version.
    pub inputs: Vec<PathBuf>,
    /// A version that its author declares in place of the component's hash.
    pub version: Option<String>,
    /// For which items it runs. For the others it is skipped.
    pub when: When,
}

/// That a stage needs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The other stage's position in the job.
    pub stage: usize,
    /// The stage cannot do without the other's output: if the other is skipped, this one is skipped too.
    pub output: bool,
}

/// What a handler may touch. It may touch nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Grants {
    /// Folders, read-only.
    pub files: Vec<FileGrant>,
    /// The real time, in place of a clock that stands still.
    pub clock: bool,
    /// Real randomness, in place of a sequence that is the same each time.
    pub random: bool,
}

impl Grants {
    /// Whether the same version and the same inputs always give the same output.
    pub fn is_pure(&self) -> bool {
        self.files.is_empty() && !self.clock && !self.random
    }

    fn fields(&self) -> Vec<String> {
        let Self { files, clock, random } = self;
        let mut fields = vec![format!("clock {clock}"), format!("random {random}")];
        for FileGrant { guest, host } in files {
            fields.extend([guest.clone(), host.display().to_string()]);
        }
        fields
    }
}

/// A folder of this machine that a handler may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    /// Where the handler sees it: an absolute path.
    pub guest: String,
    /// Where it is.
    pub host: PathBuf,
}

/// How a job runs.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct JobTuning {
    /// How discovery runs.
    pub discover: DiscoverTuning,
    /// In the order of the stages.
    pub stages: Vec<StageTuning>,
    /// How long data is kept.
    pub retention: Retention,
}

/// How long data is kept. A kind that is absent is kept for ever.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Retention {
    /// By kind.
    pub keep: BTreeMap<Expiring, Duration>,
    /// The folder where rows are archived before they are deleted, as compressed JSON Lines; none for no archive.
    pub archive: Option<PathBuf>,
}

/// A kind of data that may be deleted after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expiring {
    /// Attempts, with their charges. The totals are kept.
    Attempts,
    /// Single charges. The totals are kept.
    Costs,
    /// Events.
    Events,
    /// Items that are done or cancelled, with their results. If discovery finds one again later, it is a new item.
    Items,
    /// Results of stages that are no longer in the job's file.
    Results,
}

impl Expiring {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Attempts, Self::Costs, Self::Events, Self::Items, Self::Results];

    /// The name that job files and people use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Costs => "costs",
            Self::Events => "events",
            Self::Items => "items",
            Self::Results => "results",
        }
    }
}

/// How discovery runs.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscoverTuning {
    /// How long after the end of a pass the next one starts, while the host runs; none for a single pass.
    pub every: Option<Duration>,
    /// How many items a page may hold.
    pub page: u32,
    /// Discovery pauses while more stages of the job's items than this are ready.
    pub backlog: u32,
    /// What one page may use.
    pub limits: Limits,
    /// When a page is tried again.
    pub retry: RetryPolicy,
    /// What becomes of an item that is found again.
    pub rediscovery: Rediscovery,
}

impl Default for DiscoverTuning {
    fn default() -> Self {
        let limits = Limits { timeout: Duration::from_secs(60), output_bytes_max: 16 << 20, ..Limits::default() };
        Self {
            every: None,
            page: 1000,
            backlog: 100_000,
            limits,
            retry: RetryPolicy::default(),
            rediscovery: Rediscovery::default(),
        }
    }
}

/// How one stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct StageTuning {
    /// What one attempt may use.
    pub limits: Limits,
    /// When it is tried again.
    pub retry: RetryPolicy,
}

/// What one attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time of the whole attempt.
    pub timeout: Duration,
    /// Linear memory, in bytes.
    pub memory_bytes_max: u64,
    /// The output's JSON text, in bytes.
    pub output_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), memory_bytes_max: 64 << 20, output_bytes_max: 1 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Condition;

    fn condition(pointer: &str, values: &[Value]) -> When {
        When {
            conditions: vec![Condition {
                pointer: pointer.to_owned(),
                values: values.iter().map(Value::to_string).collect(),
            }],
        }
    }

    fn spec() -> JobSpec {
        let stage = StageSpec {
            name: "fetch".to_owned(),
            handler: PathBuf::from("a.wasm"),
            needs: Vec::new(),
            grants: Grants::default(),
            inputs: Vec::new(),
            version: None,
            when: When::default(),
        };
        JobSpec { name: "job".to_owned(), params: BTreeMap::new(), discover: None, stages: vec![stage] }
    }

    #[test]
    fn whatever_is_in_a_spec_is_in_its_id() {
        let changes: [fn(&mut JobSpec); 10] = [
            |spec| spec.name.push('x'),
            |spec| spec.stages[0].handler.push("x"),
            |spec| spec.stages[0].needs.push(Need { stage: 0, output: true }),
            |spec| spec.stages[0].grants.clock = true,
            |spec| spec.stages[0].inputs.push(PathBuf::from("prompt")),
            |spec| spec.stages[0].version = Some("1".to_owned()),
            |spec| spec.stages[0].when = condition("/a", &[json!("b")]),
            |spec| spec.stages[0].when = condition("/a", &[json!("b"), json!("c")]),
            |spec| spec.stages[0].when = condition("/a", &[json!(1)]),
            |spec| drop(spec.params.insert("model".to_owned(), "1".to_owned())),
        ];
        let mut ids = vec![spec().id()];
        for change in changes {
            let mut changed = spec();
            change(&mut changed);
            ids.push(changed.id());
        }
        assert_eq!(spec().id(), ids[0]);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 11, "each change makes another id");
    }
}
