//! Everything of the dependency audit that touches files: finds crates, reads their manifests, counts their code.
//! Owns the guest path `/crates`, where the job grants a folder of crates, most often cargo's `registry/src`.
//! Never judges what it finds: that is the policy's, which then needs no files.

mod digest;
mod discover;
mod lexing;
mod manifest;
mod source;

use std::path::{Path, PathBuf};

use gristmill_guest::{DiscoverRequest, Discovery, Failure, Page, Stage, Stages, Work, stage};
use serde::{Deserialize, Serialize};

/// Where the job grants the folder.
const ROOT: &str = "/crates";

/// The data of an item: one version of one crate.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Crate {
    name: String,
    version: String,
    /// Relative to the granted folder.
    path: String,
    /// Of the folder: see `digest`. Here so that the stages are stale when the folder is another.
    digest: String,
}

struct Crates;

impl Discovery for Crates {
    fn discover(request: &DiscoverRequest) -> Result<Page, Failure> {
        discover::page(Path::new(ROOT), request)
    }
}

impl Stages for Crates {
    const STAGES: &'static [Stage] = &[
        stage!("manifest", "reads Cargo.toml: licence, edition, dependencies, build script, proc macro", read_manifest),
        stage!("source", "counts lines of code and of unsafe, and finds the largest file", count_source),
    ];
}

fn read_manifest(work: &Work) -> Result<manifest::Manifest, Failure> {
    manifest::read(&folder(work)?)
}

fn count_source(work: &Work) -> Result<source::Source, Failure> {
    source::count(&folder(work)?)
}

fn folder(work: &Work) -> Result<PathBuf, Failure> {
    let item: Crate = work.data()?;
    Ok(Path::new(ROOT).join(item.path))
}

gristmill_guest::export!(Crates: stages, discovery);
