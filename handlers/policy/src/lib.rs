//! Judges a crate: its licence against the job's policy, and in one line what a person should do about it.
//! Owns what counts as a risk, and how much.
//! Never reads a file: what the stages before it found is all it knows, so its results can be reused.

mod licence;
mod verdict;

use gristmill_guest::{Failure, Stage, Stages, Work, param, stage};

struct Policy;

impl Stages for Policy {
    const STAGES: &'static [Stage] = &[
        stage!("licence", "judges the licence by the parameter `policy`", judge_licence),
        stage!("verdict", "says in one line what to do about a crate", judge_crate),
    ];
}

fn judge_licence(work: &Work) -> Result<licence::Judged, Failure> {
    let rules: licence::Rules =
        param("policy")?.ok_or_else(|| Failure::permanent("the job has no parameter `policy`"))?;
    Ok(licence::judge(&work.upstream("manifest")?, &rules))
}

fn judge_crate(work: &Work) -> Result<verdict::Verdict, Failure> {
    Ok(verdict::judge(&work.upstream("licence")?, &work.upstream("source")?))
}

gristmill_guest::export!(Policy: stages);
