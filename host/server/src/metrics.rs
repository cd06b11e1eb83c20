//! The counters as Prometheus text.
//!
//! Owns the names, help and labels of the metrics, and the text format, version 0.0.4 of Prometheus' "Exposition
//! formats". Labels are names of jobs, stages, states and meters: never an item's key, of which there are millions.

use std::fmt::{Display, Write};

use gristmill_model::{ItemStatus, State};
use gristmill_tracker::{JobStats, StageStats};

use crate::bounds::METERS_MAX;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of jobs with these counters, as text.
pub(crate) fn text(jobs: &[(String, JobStats)]) -> String {
    let mut text = String::new();
    let stages = || jobs.iter().flat_map(|(job, stats)| stats.stages.iter().map(move |stage| (job.as_str(), stage)));
    items(&mut text, jobs);
    states(&mut text, stages());
    let mut other = Family::begin(
        &mut text,
        "gristmill_results_of_other_versions",
        "gauge",
        "Results that name another version of their stage than the current one.",
    );
    for (job, stage) in stages() {
        other.sample(&[("job", job), ("stage", &stage.name)], stage.other_versions);
    }
    charges(&mut text, jobs);
    text
}

fn items(text: &mut String, jobs: &[(String, JobStats)]) {
    let mut family = Family::begin(text, "gristmill_items", "gauge", "Items by status.");
    for (job, stats) in jobs {
        for status in ItemStatus::ALL {
            let count = stats.items.get(&status).copied().unwrap_or(0);
            family.sample(&[("job", job), ("status", status.name())], count);
        }
    }
}

fn states<'a>(text: &mut String, stages: impl Iterator<Item = (&'a str, &'a StageStats)>) {
    let help = "Stages of items by state. Blocked ones are not counted.";
    let mut family = Family::begin(text, "gristmill_stages", "gauge", help);
    for (job, stage) in stages {
        for state in State::ALL.into_iter().filter(|state| *state != State::Blocked) {
            let labels = [("job", job), ("stage", stage.name.as_str()), ("state", state.name())];
            family.sample(&labels, stage.count(state));
        }
    }
}

fn charges(text: &mut String, jobs: &[(String, JobStats)]) {
    let help = "What handlers charged, by meter, in the meter's own unit.";
    let mut family = Family::begin(text, "gristmill_charges_total", "counter", help);
    for (job, stats) in jobs {
        for (meter, amount) in stats.charges.iter().take(METERS_MAX) {
            family.sample(&[("job", job), ("meter", meter)], amount);
        }
    }
}

/// The samples of one metric, which the format wants together.
struct Family<'t> {
    text: &'t mut String,
    name: &'static str,
}

impl<'t> Family<'t> {
    fn begin(text: &'t mut String, name: &'static str, kind: &str, help: &str) -> Self {
        push(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Self { text, name }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (index, (label, content)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            push(self.text, format_args!("{before}{label}=\""));
            push_escaped(self.text, content);
            self.text.push('"');
        }
        push(self.text, format_args!("}} {value}\n"));
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let Ok(()) = text.write_fmt(arguments) else { unreachable!("a string takes every write") };
}

/// Appends a label's value, with its three special characters escaped.
fn push_escaped(text: &mut String, content: &str) {
    for character in content.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}
