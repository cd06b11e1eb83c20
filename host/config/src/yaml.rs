//! From YAML text to a tree of nodes with their positions in the file.
//!
//! Owns the tree, and the budgets that refuse a YAML bomb early. A mapping is a list of keys and values, in the order
//! of the file, with duplicates. Never knows what a key means: that is for `keys`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::budget::BudgetBreach;
use serde_yaml::granit_parser::ErrorKind;
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Error, ExternalMessageSource, Location, MessageFormatter, Options, Spanned, UserMessageFormatter};

use crate::report::{Problem, Span, quoted};

/// Nodes in a file, including those that aliases repeat. The largest job, 63 stages with every key, has about 4 000.
const NODES_MAX: usize = 20_000;
/// How deep mappings and lists may nest. The parameters and the display nest deepest.
const DEPTH_MAX: usize = 32;
/// Anchors (`&name`), and aliases (`*name`).
const ANCHORS_MAX: usize = 200;

/// Bytes of text in all values together, including what aliases repeat.
const TEXT_BYTES_MAX: usize = 2 << 20;

/// A value of the file, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// The position of its text in the file, in bytes: a number is read again from there, digit by digit.
    source: Range<usize>,
    /// The text with references that this value came from. Errors show it, since the value itself may be secret.
    pub(crate) reference: Option<String>,
}

/// The kinds of YAML values. All styles of text are one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// The number as it is written, which JSON allows.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A value whose fault was already reported. It fits every shape, so that one fault is one problem.
    Faulty,
}

/// A key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) span: Span,
    pub(crate) node: Node,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let Value::Map(entries) = &mut self.value else { return None };
        entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    /// The entries of a mapping; empty if this is no mapping.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; empty if this is no list.
    pub(crate) fn elements(&self) -> &[Node] {
        match &self.value {
            Value::List(nodes) => nodes,
            _ => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<&str> {
        match &self.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The same value as JSON text.
    pub(crate) fn to_json(&self) -> String {
        let mut json = String::new();
        self.write_json(&mut json);
        json
    }

    fn write_json(&self, to: &mut String) {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        match &self.value {
            Value::Null | Value::Faulty => to.push_str("null"),
            Value::Bool(value) => to.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => to.push_str(number),
            Value::Text(value) => to.push_str(&text(value)),
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    to.push(if index == 0 { '[' } else { ',' });
                    node.write_json(to);
                }
                to.push_str(if nodes.is_empty() { "[]" } else { "]" });
            }
            Value::Map(entries) => {
                // Sorted, so that the order in the file does not change the spec.
                let sorted: BTreeMap<&str, &Node> =
                    entries.iter().map(|entry| (entry.key.as_str(), &entry.node)).collect();
                for (index, (key, node)) in sorted.into_iter().enumerate() {
                    to.push(if index == 0 { '{' } else { ',' });
                    to.push_str(&text(key));
                    to.push(':');
                    node.write_json(to);
                }
                to.push_str(if entries.is_empty() { "{}" } else { "}" });
            }
        }
    }
}

/// Whether a text is a number as JSON writes it.
pub(crate) fn is_number(text: &str) -> bool {
    text.parse::<serde_json::Number>().is_ok()
}

/// Parses one YAML document. If a number would lose digits, that is a problem, and its node is faulty.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Result<Node, Box<Problem>> {
    let mut root: Node =
        serde_yaml::from_str_with_options(text, options()).map_err(|error| Box::new(problem(&error)))?;
    read_numbers(&mut root, text, problems);
    Ok(root)
}

/// Reads each number again as JSON writes it, so that it keeps its digits. YAML accepts more as numbers: `01234`,
/// `+32`, `0x1F`, `.5`. These are refused, since they may be meant as text (a postcode, a telephone number).
fn read_numbers(node: &mut Node, text: &str, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::Number(number) => {
            let written = text.get(node.source.clone()).unwrap_or_default();
            if is_number(written) {
                written.clone_into(number);
            } else {
                problems.push(lossy_number(node.span, written, number));
                node.value = Value::Faulty;
            }
        }
        Value::List(nodes) => nodes.iter_mut().for_each(|node| read_numbers(node, text, problems)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| read_numbers(&mut entry.node, text, problems)),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::Faulty => {}
    }
}

fn lossy_number(span: Span, written: &str, read: &str) -> Problem {
    let problem = Problem::new(span, format!("the number {} cannot be kept as it is written", quoted(written)));
    // The parser reads `01234` as `1234.0`.
    let read = read.strip_suffix(".0").unwrap_or(read);
    problem.hint(format!("put it in quotes if it is text; a number is written `{read}`"))
}

fn options() -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_depth: DEPTH_MAX,
            max_anchors: ANCHORS_MAX,
            max_aliases: ANCHORS_MAX,
            max_recorded_anchor_events: 4 * NODES_MAX,
            max_recorded_anchor_bytes: TEXT_BYTES_MAX,
            max_total_scalar_bytes: TEXT_BYTES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 2 * NODES_MAX,
            max_replay_stack_depth: DEPTH_MAX,
        },
        // `check` refuses duplicates, all of them at once.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // `no`, `off` and `0x_1` stay text.
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// Says in one sentence what is wrong with the YAML itself.
fn problem(error: &Error) -> Problem {
    let mut cause = error.without_snippet();
    while let Error::AliasError { error, .. } = cause {
        cause = error;
    }
    let span = cause.location().map(Span::from);
    let message = match cause {
        Error::Budget { breach, .. } => breach_text(breach),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => too_many_nodes(),
        // The scanner reads ahead of the budget, and has its own limit.
        Error::ExternalMessage { source, .. } if is_depth(source) => too_deep(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an anchor must not contain itself".to_owned(),
        Error::NonFiniteFloat { .. } => "a number must be finite: at most about 1.8e308".to_owned(),
        Error::UnknownAnchor { .. } => "no anchor of this name stands before this alias".to_owned(),
        other => format!("not valid YAML: {}", UserMessageFormatter.format_message(other)),
    };
    Problem::new(span, message)
}

fn is_depth(source: &ExternalMessageSource) -> bool {
    matches!(source, ExternalMessageSource::Parser(error) if matches!(error.kind(), ErrorKind::RecursionLimitExceeded))
}

fn breach_text(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => too_deep(),
        BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. } | BudgetBreach::AliasAnchorRatio { .. } => {
            format!("a job file may have at most {ANCHORS_MAX} anchors and {ANCHORS_MAX} aliases")
        }
        BudgetBreach::ScalarBytes { .. } | BudgetBreach::RecordedAnchorBytes { .. } => {
            format!("a job file may hold at most {TEXT_BYTES_MAX} bytes of text, what aliases repeat included")
        }
        BudgetBreach::Documents { .. } => "a job file holds one YAML document".to_owned(),
        _ => too_many_nodes(),
    }
}

fn too_deep() -> String {
    format!("a job file may nest at most {DEPTH_MAX} levels deep")
}

fn too_many_nodes() -> String {
    format!("a job file may hold at most {NODES_MAX} values, what aliases repeat included")
}

impl From<Location> for Span {
    fn from(location: Location) -> Self {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self { line: count(location.line()), column: count(location.column()), width: count(location.span().len()) }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let span = spanned.defined.span();
        let start = span.byte_offset().map_or(0, |at| usize::try_from(at).unwrap_or(usize::MAX));
        let length = span.byte_len().map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        let source = start..start.saturating_add(length);
        Ok(Self { span: spanned.defined.into(), value: spanned.value, source, reference: None })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(serde_json::Value::from(value).to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { key: key.value, span: key.defined.into(), node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}
