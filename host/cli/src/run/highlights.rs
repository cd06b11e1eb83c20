//! The summary that a job file asks for: `display.summary`.
//!
//! Owns its keys, and what it computes from a stage's results: how many have each value, and the worst ones. The rest
//! of the host never reads `display`, so a fault in it stops nothing: it is reported and ignored.

use std::collections::BTreeMap;

use gristmill_model::{ItemId, Job};
use gristmill_tracker::{JobRow, Tracker};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::data;
use crate::failure::Failure;
use crate::format::{count, one_line};
use crate::out::Out;
use crate::table::{Column, Table};

/// How many results a summary reads at most.
const RESULTS_MAX: u64 = 100_000;
/// How many are read at once.
const PAGE: u32 = 1000;
/// How many different values are counted.
const VALUES_MAX: usize = 200;
/// How many of the worst are shown: the default, and the most that a job can ask for.
const TOP: usize = 10;
const TOP_MAX: u64 = 1000;
/// The longest text in a table.
const CELL_CHARS_MAX: usize = 300;

/// What a job file asks for.
#[derive(Default)]
pub(crate) struct Highlights {
    stage: String,
    count_by: Option<String>,
    worst_by: Option<String>,
    top: usize,
    columns: Vec<String>,
}

/// What the results say.
#[derive(Serialize)]
pub(crate) struct Found {
    stage: String,
    results: u64,
    complete: bool,
    counted_by: Option<String>,
    counts: BTreeMap<String, u64>,
    worst_by: Option<String>,
    top: Vec<Worst>,
    #[serde(skip)]
    columns: Vec<String>,
}

#[derive(Serialize)]
struct Worst {
    item: String,
    #[serde(skip)]
    badness: f64,
    columns: Map<String, Value>,
}

impl Highlights {
    /// The summary that the job asks for; none if there is none that can be read. Warns of ignored keys, in one line.
    pub(crate) fn of(job: &Job, out: &Out) -> Option<Self> {
        let display: Value = serde_json::from_str(job.display.as_deref()?).ok()?;
        let stages: Vec<&str> = job.spec.stages.iter().map(|stage| stage.name.as_str()).collect();
        let (highlights, faults) = read(display.get("summary")?, &stages);
        if !faults.is_empty() {
            out.warning(format_args!("`display.summary` of job `{}`: {}", job.spec.name, faults.join("; ")));
        }
        highlights
    }

    /// Reads the results.
    pub(crate) async fn find(&self, tracker: &dyn Tracker, job: &JobRow) -> Result<Found, Failure> {
        let stage = data::stage(job, &self.stage)?;
        let mut found = Found {
            stage: self.stage.clone(),
            results: 0,
            complete: true,
            counted_by: self.count_by.clone(),
            counts: BTreeMap::new(),
            worst_by: self.worst_by.clone(),
            top: Vec::new(),
            columns: self.columns.clone(),
        };
        let mut after = ItemId(0);
        loop {
            let page = tracker.results(stage, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = last.item;
            if found.results >= RESULTS_MAX {
                found.complete = false;
                return Ok(found);
            }
            for row in page {
                // An output that is not an object has no fields to count or sort by.
                let Ok(Value::Object(output)) = serde_json::from_str(&row.output) else { continue };
                found.add(self, row.item_key, output);
            }
            found.keep_worst(self.top);
        }
    }
}

impl Found {
    fn add(&mut self, wanted: &Highlights, item: String, mut output: Map<String, Value>) {
        self.results += 1;
        let field = |name: &Option<String>| name.as_ref().and_then(|name| output.get(name));
        if let Some(value) = field(&wanted.count_by) {
            let value = text(value);
            if self.counts.len() < VALUES_MAX || self.counts.contains_key(&value) {
                *self.counts.entry(value).or_default() += 1;
            }
        }
        if let Some(badness) = field(&wanted.worst_by).and_then(Value::as_f64) {
            output.retain(|name, _| wanted.columns.contains(name));
            self.top.push(Worst { item, badness, columns: output });
        }
    }

    fn keep_worst(&mut self, top: usize) {
        self.top.sort_by(|a, b| b.badness.total_cmp(&a.badness).then_with(|| a.item.cmp(&b.item)));
        self.top.truncate(top);
    }

    /// Tables for people.
    pub(crate) fn tables(&self) -> Vec<String> {
        let mut tables = Vec::new();
        if let Some(name) = self.counted_by.as_ref().filter(|_| !self.counts.is_empty()) {
            let mut table = Table::new([(name.as_str(), Column::Word), ("items", Column::Number)]);
            let mut counts: Vec<(&String, &u64)> = self.counts.iter().collect();
            counts.sort_by_key(|(value, number)| (std::cmp::Reverse(**number), (*value).clone()));
            for (value, number) in counts {
                table.row([value.clone(), count(*number)]);
            }
            tables.push(table.render());
        }
        if let Some(name) = self.worst_by.as_ref().filter(|_| !self.top.is_empty()) {
            let kind = |column: &str| {
                let numbers = self.top.iter().all(|worst| worst.columns.get(column).is_none_or(Value::is_number));
                if numbers { Column::Number } else { Column::Text }
            };
            let columns = self.columns.iter().map(|column| (column.as_str(), kind(column)));
            let mut table = Table::new([("item", Column::Key)].into_iter().chain(columns));
            for worst in &self.top {
                let cells = self.columns.iter().map(|column| worst.columns.get(column).map(text).unwrap_or_default());
                table.row([worst.item.clone()].into_iter().chain(cells));
            }
            tables.push(format!("the {} with the highest {name}:\n{}", self.top.len(), table.render()));
        }
        if !self.complete {
            tables.push(format!("only the first {} results of `{}` were read", count(self.results), self.stage));
        }
        tables
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => one_line(text, CELL_CHARS_MAX),
        other => one_line(&other.to_string(), CELL_CHARS_MAX),
    }
}

/// Reads the keys, and returns which are ignored.
fn read(summary: &Value, stages: &[&str]) -> (Option<Highlights>, Vec<String>) {
    let Value::Object(keys) = summary else {
        return (None, vec!["is ignored: it has to be a mapping".to_owned()]);
    };
    let mut highlights = Highlights { top: TOP, ..Highlights::default() };
    let mut faults = Vec::new();
    for (key, value) in keys {
        let understood = match (key.as_str(), value) {
            ("stage", Value::String(name)) if stages.contains(&name.as_str()) => {
                highlights.stage.clone_from(name);
                None
            }
            ("stage", _) => Some("is no stage of this job"),
            ("count_by", Value::String(name)) => {
                highlights.count_by = Some(name.clone());
                None
            }
            ("worst_by", Value::String(name)) => {
                highlights.worst_by = Some(name.clone());
                None
            }
            ("count_by" | "worst_by", _) => Some("has to be the name of a field"),
            ("top", value) => match value.as_u64().filter(|top| (1..=TOP_MAX).contains(top)) {
                Some(top) => {
                    highlights.top = top as usize;
                    None
                }
                None => Some("has to be a number from 1 to 1000"),
            },
            ("columns", Value::Array(names)) if names.iter().all(Value::is_string) => {
                highlights.columns = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                None
            }
            ("columns", _) => Some("has to be a list of fields"),
            _ => Some("is unknown"),
        };
        faults.extend(understood.map(|fault| format!("`{key}` {fault}, and is ignored")));
    }
    if highlights.stage.is_empty() {
        faults.push("without a stage there is nothing to show".to_owned());
        return (None, faults);
    }
    (Some(highlights), faults)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(wanted: &Highlights, outputs: &[Value]) -> Found {
        let mut found = Found {
            stage: wanted.stage.clone(),
            results: 0,
            complete: true,
            counted_by: wanted.count_by.clone(),
            counts: BTreeMap::new(),
            worst_by: wanted.worst_by.clone(),
            top: Vec::new(),
            columns: wanted.columns.clone(),
        };
        for (index, output) in outputs.iter().enumerate() {
            found.add(wanted, format!("item{index}"), output.as_object().cloned().unwrap_or_default());
        }
        found.keep_worst(wanted.top);
        found
    }

    #[test]
    fn results_are_counted_and_the_worst_come_first() {
        let asked =
            json!({ "stage": "v", "count_by": "kind", "worst_by": "score", "top": 2, "columns": ["score", "why"] });
        let (wanted, faults) = read(&asked, &["v"]);
        assert_eq!(faults, Vec::<String>::new());
        let outputs = [
            json!({ "kind": "ok", "score": 1, "why": "a" }),
            json!({ "kind": "deny", "score": 9, "why": "b" }),
            json!({ "kind": "ok", "score": 3 }),
            json!({ "kind": null }),
        ];
        let tables = found(&wanted.unwrap(), &outputs).tables();
        assert_eq!(tables[0], "kind  items\nok        2\n          1\ndeny      1");
        assert_eq!(tables[1], "the 2 with the highest score:\nitem   score  why\nitem1      9  b\nitem2      3");
    }

    #[test]
    fn what_cannot_be_read_is_ignored_and_told() {
        let (wanted, faults) = read(&json!({ "stage": "v", "top": 0, "columns": "x", "color": 1 }), &["v"]);
        assert_eq!(wanted.unwrap().top, TOP);
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(read(&json!({ "stage": "x" }), &["v"]).0.is_none());
        assert!(read(&json!([]), &["v"]).0.is_none());
    }
}
