//! From a job's file to a job that can run.
//!
//! Owns the check of a job against its components, and what an attempt needs to know about its stage. Reports
//! everything that is wrong at once. Never uses a tracker: a job is checked before anything is written.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gristmill_model::{
    ComponentIdentity, Digest, Grants, Job, Merge, Need, StageBit, StageId, StageSpec, StageTuning, Timestamp,
    VersionId, stage_version,
};
use gristmill_sandbox::{Error as SandboxError, Granted, Handler, Sandbox};
use gristmill_tracker::{ComponentBytes, JobRegistration, RegisteredJob, StageRegistration};

use crate::{Error, Problem};

/// The largest file that `inputs` may name.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// A job with its components, loaded and checked.
pub struct LoadedJob {
    /// The job as its file declares it.
    pub job: Job,
    /// In the order of the file.
    pub stages: Vec<LoadedStage>,
    /// The component that finds its items, and what it may touch.
    pub discover: Option<(Handler, Arc<Granted>)>,
    /// The parameters that handlers may ask for.
    pub params: Arc<BTreeMap<String, String>>,
    /// Problems that do not stop the job, such as imports that are not granted.
    pub warnings: Vec<Problem>,
}

/// A stage and its component.
pub struct LoadedStage {
    /// Its component.
    pub handler: Handler,
    /// Its version.
    pub version: Digest,
    /// What it may touch.
    pub granted: Arc<Granted>,
}

impl LoadedJob {
    /// What the tracker records about the job.
    pub fn registration(&self, now: Timestamp) -> JobRegistration {
        let spec = &self.job.spec;
        let stages = spec.stages.iter().zip(&self.stages).map(|(stage, loaded)| StageRegistration {
            name: stage.name.clone(),
            needs: stage.needs.clone(),
            version: loaded.version,
            component: loaded.handler.hash(),
            component_raw: loaded.handler.report().raw_hash,
            component_size: loaded.handler.report().size_bytes,
            component_bytes: loaded.handler.content().map(ComponentBytes),
            source: stage.handler.display().to_string(),
            declared: stage.version.clone(),
        });
        JobRegistration {
            name: spec.name.clone(),
            spec_id: spec.id(),
            yaml: self.job.yaml.clone(),
            stages: stages.collect(),
            now,
        }
    }

    /// Drops the bytes of its components, once the tracker keeps them.
    pub(crate) fn drop_contents(&self) {
        let discover = self.discover.iter().map(|(handler, _)| handler);
        self.stages.iter().map(|stage| &stage.handler).chain(discover).for_each(Handler::drop_content);
    }
}

/// Loads the components of a job and checks that they fit it. A stage without a path to its component is left out,
/// since that fault was reported with the job's file.
///
/// # Errors
/// Everything that is wrong: a component that cannot be loaded or lacks a stage, a folder or a file that does not
/// exist. If the machine refuses a sandbox to load a component in, only that.
pub fn load(sandbox: &Sandbox, job: Job) -> Result<LoadedJob, Error> {
    let mut loader =
        Loader { sandbox, handlers: HashMap::new(), problems: Vec::new(), warnings: Vec::new(), refusal: None };
    let discover = job.spec.discover.as_ref().and_then(|discover| {
        let handler = loader.handler(None, &discover.handler)?;
        let granted = loader.grant(None, &handler, &discover.grants);
        if handler.report().offers.discovery.is_none() {
            let message = format!("{} finds no items", discover.handler.display());
            let hint = "a component that does exports gristmill:handler/discovery@0.1.0";
            loader.problem(None, message, Some(hint.to_owned()));
        }
        let merges = job.tuning.discover.rediscovery.merge == Merge::Handler;
        if merges && handler.report().offers.merging.is_none() {
            let message = format!("{} merges no items, and the job says `merge: handler`", discover.handler.display());
            let hint = "a component that does exports gristmill:handler/merging@0.1.0; or give a rule for each field";
            loader.problem(None, message, Some(hint.to_owned()));
        }
        Some((handler, granted?))
    });
    let stages: Vec<Option<LoadedStage>> = job.spec.stages.iter().map(|stage| loader.stage(stage)).collect();
    let Loader { problems, warnings, refusal, .. } = loader;
    if let Some(refusal) = refusal {
        return Err(refusal.into());
    }
    match stages.into_iter().collect::<Option<Vec<_>>>() {
        Some(stages) if problems.is_empty() => {
            let params = Arc::new(job.spec.params.clone());
            Ok(LoadedJob { job, stages, discover, params, warnings })
        }
        _ => Err(Error::Job { job: job.spec.name, problems }),
    }
}

struct Loader<'a> {
    sandbox: &'a Sandbox,
    // By path, so that a component of several stages is loaded once, and a broken one is reported once.
    handlers: HashMap<PathBuf, Option<Handler>>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// What the machine refused, which is not a problem of the job.
    refusal: Option<SandboxError>,
}

/// The stage that a problem belongs to; none for `discover`.
type Part<'a> = Option<&'a str>;

impl Loader<'_> {
    fn problem(&mut self, part: Part<'_>, message: String, hint: Option<String>) {
        self.problems.push(Problem { stage: part.map(str::to_owned), message, hint });
    }

    fn handler(&mut self, part: Part<'_>, path: &Path) -> Option<Handler> {
        if path.as_os_str().is_empty() {
            return None;
        }
        if let Some(known) = self.handlers.get(path) {
            return known.clone();
        }
        let handler = match self.sandbox.load(path) {
            Ok(handler) => {
                self.warn_of_imports(part, &handler);
                Some(handler)
            }
            Err(refusal @ SandboxError::Machine { .. }) => {
                self.refusal = Some(refusal);
                None
            }
            Err(error) => {
                self.problem(part, sentence(&error), error.hint().map(str::to_owned));
                None
            }
        };
        self.handlers.insert(path.to_owned(), handler.clone());
        handler
    }

    fn stage(&mut self, stage: &StageSpec) -> Option<LoadedStage> {
        let part = Some(stage.name.as_str());
        let inputs = self.inputs(stage);
        let handler = self.handler(part, &stage.handler)?;
        let granted = self.grant(part, &handler, &stage.grants);
        if !handler.has_stage(&stage.name) {
            let offered: Vec<&str> = handler.report().stages.iter().flatten().map(|info| info.name.as_str()).collect();
            let hint = if offered.is_empty() {
                "it has no stages".to_owned()
            } else {
                format!("it has {}", offered.join(", "))
            };
            self.problem(part, format!("{} has no stage `{}`", stage.handler.display(), stage.name), Some(hint));
        }
        let code = match &stage.version {
            Some(declared) => ComponentIdentity::Declared(declared),
            None => ComponentIdentity::Hash(handler.hash()),
        };
        let version = stage_version(&code, &stage.name, &inputs);
        Some(LoadedStage { handler, version, granted: granted? })
    }

    fn inputs(&mut self, stage: &StageSpec) -> Vec<Digest> {
        let mut digests = Vec::with_capacity(stage.inputs.len());
        for path in &stage.inputs {
            match gristmill_files::read(path, INPUT_BYTES_MAX) {
                Ok(Some(bytes)) => digests.push(Digest::of(&bytes)),
                Ok(None) => {
                    let message = format!("the input {} is larger than {INPUT_BYTES_MAX} bytes", path.display());
                    self.problem(Some(&stage.name), message, None);
                }
                Err(error) => self.problem(Some(&stage.name), format!("the input {}: {error}", path.display()), None),
            }
        }
        digests
    }

    fn grant(&mut self, part: Part<'_>, handler: &Handler, grants: &Grants) -> Option<Arc<Granted>> {
        let opened = handler.grant(grants);
        opened.map_err(|error| self.problem(part, sentence(&error), error.hint().map(str::to_owned))).ok()
    }

    /// Warns of a component's imports that are not granted, once for all stages that use it.
    fn warn_of_imports(&mut self, part: Part<'_>, handler: &Handler) {
        for grant in handler.report().grants.iter().filter(|grant| grant.notable) {
            let (file, import, without) = (handler.path().display(), &grant.import, grant.without);
            let yaml = grant.yaml.map(|yaml| format!(": `{yaml}` will grant it; this version cannot"));
            let message = format!("{file} imports {import}, which {without}{}", yaml.unwrap_or_default());
            self.warnings.push(Problem { stage: part.map(str::to_owned), message, hint: None });
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What an attempt needs to know about its stage, shared by all attempts.
pub(crate) struct StageContext {
    pub(crate) id: StageId,
    pub(crate) job: Arc<LoadedJob>,
    index: usize,
    pub(crate) version: VersionId,
    /// The stages it needs, in the order of the job's file: bit and name.
    pub(crate) needs: Vec<(StageBit, String)>,
    pub(crate) is_pure: bool,
}

impl StageContext {
    pub(crate) fn new(job: &Arc<LoadedJob>, registered: &RegisteredJob, index: usize) -> Self {
        let stages = &job.job.spec.stages;
        let need = |need: &Need| (registered.stages[need.stage].id.bit(), stages[need.stage].name.clone());
        Self {
            id: registered.stages[index].id,
            job: Arc::clone(job),
            index,
            version: registered.stages[index].version,
            needs: stages[index].needs.iter().map(need).collect(),
            is_pure: stages[index].grants.is_pure(),
        }
    }

    pub(crate) fn spec(&self) -> &StageSpec {
        &self.job.job.spec.stages[self.index]
    }

    pub(crate) fn tuning(&self) -> &StageTuning {
        &self.job.job.tuning.stages[self.index]
    }

    pub(crate) fn loaded(&self) -> &LoadedStage {
        &self.job.stages[self.index]
    }
}
