//! YAML text to a tree of nodes that know where they stand.
//!
//! Owns the tree, and the budgets that make a YAML bomb cheap to refuse. Knows nothing of jobs: every mapping is a list
//! of keys and values here, in the order of the file, with duplicates.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_yaml::budget::BudgetBreach;
use serde_yaml::granit_parser::ErrorKind;
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Error, ExternalMessageSource, Location, MessageFormatter, Options, Spanned, UserMessageFormatter};

use crate::report::{Problem, Span};

/// Nodes in a file, those that aliases repeat included. The largest job, 63 stages with every key, has about 4 000.
const NODES_MAX: usize = 20_000;
/// Mappings and lists inside each other. The parameters and the display go deepest.
const DEPTH_MAX: usize = 32;
/// Anchors (`&name`), and aliases (`*name`).
const ANCHORS_MAX: usize = 200;

/// Text in all values together, what aliases repeat included.
const TEXT_BYTES_MAX: usize = 2 << 20;

/// A value of the file, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What YAML can say, without its types of text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Something that was reported already. It fits everywhere, so that one fault is one problem.
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

    /// What a mapping holds; nothing if this is none.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// What a list holds; nothing if this is none.
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

    pub(crate) fn number(&self) -> Option<&Number> {
        match &self.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The same value in JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null | Value::Faulty => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(nodes) => nodes.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
        }
    }
}

/// Parses one YAML document.
pub(crate) fn parse(text: &str) -> Result<Node, Box<Problem>> {
    serde_yaml::from_str_with_options(text, options()).map_err(|error| Box::new(problem(&error)))
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
        // Duplicates are refused by `check`, all of them at once.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // `no`, `off` and `0x_1` mean what they say.
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
        // The scanner runs ahead of the budget, and has a limit of its own.
        Error::ExternalMessage { source, .. } if is_depth(source) => too_deep(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an anchor must not contain itself".to_owned(),
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
        Ok(Self { span: spanned.defined.into(), value: spanned.value })
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
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
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
