//! A job as far as its file could be read.
//!
//! Owns the problems found so far, and the places of the job's parts. So faults that others find (a component that does
//! not fit) are reported with the faults of the file, in the order of the file. Never looks for faults itself.

use std::collections::BTreeMap;
use std::path::Path;

use gristmill_model::Job;

use crate::report::{Problem, Report, Span};
use crate::yaml::{Entry, Node};

/// A job as far as its file could be read. A faulty value is replaced by its default or by nothing: a stage whose
/// handler is not known has an empty path.
#[derive(Debug)]
pub struct Draft {
    job: Job,
    file: String,
    places: Places,
    problems: Vec<Problem>,
}

impl Draft {
    pub(crate) fn new(job: Job, file: &str, places: Places, problems: Vec<Problem>) -> Self {
        Self { job, file: file.to_owned(), places, problems }
    }

    /// The job, which may lack what could not be read.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Whether nothing is wrong with it so far.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds what is wrong with the handler of a stage, or of `discover` if `stage` is none.
    pub fn add(&mut self, stage: Option<&str>, message: &str, hint: Option<String>) {
        let message = match stage {
            None => format!("discover: {message}"),
            Some(stage) => format!("stage `{stage}`: {message}"),
        };
        let place = stage.map_or(self.places.discover, |stage| self.places.stages.get(stage).copied());
        self.problems.push(Problem::new(place, message).hint(hint));
    }

    /// Adds what is wrong with the folders of this machine that the job grants, each with its place in the file.
    /// `fault` returns why a folder must not be granted, and a hint.
    pub fn check_folders(&mut self, fault: impl Fn(&Path) -> Option<(String, String)>) {
        let spec = &self.job.spec;
        let discover = spec.discover.iter().map(|discover| (None, &discover.grants));
        let stages = spec.stages.iter().map(|stage| (Some(stage.name.as_str()), &stage.grants));
        for (stage, grants) in discover.chain(stages) {
            for folder in &grants.files {
                let Some((message, hint)) = fault(&folder.host) else { continue };
                let place = self.places.folders.iter().find(|place| place.is(stage, &folder.guest));
                self.problems.push(Problem::new(place.map(|place| place.span), message).hint(hint));
            }
        }
    }

    /// The job, if nothing is wrong with it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn finish(self) -> Result<Job, Report> {
        if self.is_sound() { Ok(self.job) } else { Err(Report::new(&self.file, &self.job.yaml, self.problems)) }
    }
}

/// Where the handlers and the granted folders of a job are named.
#[derive(Debug)]
pub(crate) struct Places {
    discover: Option<Span>,
    /// By the stage's name.
    stages: BTreeMap<String, Span>,
    folders: Vec<FolderPlace>,
}

#[derive(Debug)]
struct FolderPlace {
    /// None for `discover`.
    stage: Option<String>,
    guest: String,
    span: Span,
}

impl FolderPlace {
    fn all(stage: Option<&str>, part: &Node) -> impl Iterator<Item = Self> {
        let folders = part.get("grants").and_then(|grants| grants.get("files")).map_or(&[][..], Node::entries);
        let stage = stage.map(str::to_owned);
        let place = move |entry: &Entry| Self { stage: stage.clone(), guest: entry.key.clone(), span: entry.node.span };
        folders.iter().map(place)
    }

    fn is(&self, stage: Option<&str>, guest: &str) -> bool {
        self.stage.as_deref() == stage && self.guest == guest
    }
}

impl Places {
    pub(crate) fn of(root: &Node) -> Self {
        let handler = |node: &Node| node.get("handler").map(|handler| handler.span);
        let mut stages = BTreeMap::new();
        let mut folders: Vec<_> =
            root.get("discover").into_iter().flat_map(|discover| FolderPlace::all(None, discover)).collect();
        for node in root.get("stages").map_or(&[][..], Node::elements) {
            let name = if node.text().is_some() { Some(node) } else { node.get("name") };
            if let Some((name, text)) = name.and_then(|name| Some((name, name.text()?))) {
                folders.extend(FolderPlace::all(Some(text), node));
                // If two stages have the same name, the first one counts.
                stages.entry(text.to_owned()).or_insert_with(|| handler(node).unwrap_or(name.span));
            }
        }
        Self { discover: root.get("discover").map(|node| handler(node).unwrap_or(node.span)), stages, folders }
    }
}
