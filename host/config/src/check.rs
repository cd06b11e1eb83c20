//! Checks that every value of a file has the shape of its key.
//!
//! Owns the problems that concern one value alone: unknown, missing and double keys, wrong kinds, impossible numbers,
//! keys that are not supported yet. Never compares values with each other: `resolve` does.

use crate::report::{Problem, Span, quoted};
use crate::shape::{Format, Key, Shape};
use crate::units;
use crate::yaml::{Entry, Node, Value, is_number};

/// For texts longer than this there is no suggestion.
const SUGGESTED_CHARS_MAX: usize = 64;

/// Checks a value against a shape. `label` names the value in sentences.
pub(crate) fn check(node: &Node, shape: &Shape, label: &str, problems: &mut Vec<Problem>) {
    let mut refuse = |message: String| problems.push(Problem::new(node.span, format!("{label} {message}")));
    match (shape, &node.value) {
        (Shape::Any, _)
        | (_, Value::Faulty)
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Scalar, Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_)) => {}
        (Shape::Text(format), Value::Text(text)) => {
            if let Some(fault) = (format.fault)(text) {
                refuse(fault);
            }
        }
        (Shape::Choice(choices), Value::Text(text)) if choices.contains(&text.as_str()) => {}
        (Shape::Choice(choices), Value::Text(text)) => {
            let problem = Problem::new(node.span, wrong(label, shape, node));
            problems.push(problem.hint(did_you_mean(text, choices.iter().copied())));
        }
        (Shape::Duration { .. } | Shape::Size { .. } | Shape::Whole { .. } | Shape::Real { .. }, _) => {
            if !in_range(shape, node) {
                problems.push(Problem::new(node.span, wrong(label, shape, node)).hint(unit_hint(shape, node)));
            }
        }
        (Shape::List(element), Value::List(nodes)) => {
            for node in nodes {
                check(node, element, &format!("an element of {label}"), problems);
            }
        }
        (Shape::Table(keys), Value::Map(entries)) => check_table(node.span, entries, keys, label, problems),
        (Shape::Names { key, value, one }, Value::Map(entries)) => {
            if *one && entries.len() != 1 {
                refuse(format!("must have one key, not {}", entries.len()));
            }
            check_names(entries, key, value, problems);
        }
        (Shape::Either(shapes), value) => match shapes.iter().find(|shape| fits_kind(shape, value)) {
            Some(shape) => check(node, shape, label, problems),
            None => problems.push(Problem::new(node.span, wrong(label, shape, node))),
        },
        (Shape::Text(_), Value::Bool(_) | Value::Number(_)) => {
            let problem = Problem::new(node.span, format!("{label} must be text, not {}", kind(node)));
            problems.push(problem.hint("put it in quotes".to_owned()));
        }
        _ => problems.push(Problem::new(node.span, wrong(label, shape, node))),
    }
}

fn check_table(span: Span, entries: &[Entry], keys: &[Key], label: &str, problems: &mut Vec<Problem>) {
    for entry in entries {
        let Some(key) = keys.iter().find(|key| key.name == entry.key) else {
            let problem = Problem::new(entry.span, format!("unknown key {} in {label}", quoted(&entry.key)));
            let names = || keys.iter().map(|key| key.name);
            let known = || format!("known here: {}", names().collect::<Vec<_>>().join(", "));
            problems.push(problem.hint(did_you_mean(&entry.key, names()).unwrap_or_else(known)));
            continue;
        };
        check(&entry.node, &key.shape, &format!("`{}`", key.name), problems);
        if key.later {
            problems.push(Problem::new(entry.span, format!("`{}` is not supported yet", key.name)));
        }
    }
    for key in keys.iter().filter(|key| key.required) {
        if !entries.iter().any(|entry| entry.key == key.name) {
            problems.push(Problem::new(span, format!("{label} lacks `{}`", key.name)).hint(key.doc.to_owned()));
        }
    }
}

fn check_names(entries: &[Entry], format: &Format, shape: &Shape, problems: &mut Vec<Problem>) {
    for entry in entries {
        let label = quoted(&entry.key);
        if let Some(fault) = (format.fault)(&entry.key) {
            problems.push(Problem::new(entry.span, format!("{label} {fault}")));
        }
        check(&entry.node, shape, &label, problems);
    }
}

/// Reports every key that its mapping has twice, anywhere in the file.
pub(crate) fn check_duplicates(node: &Node, problems: &mut Vec<Problem>) {
    let mut seen = std::collections::BTreeMap::new();
    for entry in node.entries() {
        check_duplicates(&entry.node, problems);
        if let Some(first) = seen.insert(&entry.key, entry.span.line) {
            let problem = Problem::new(entry.span, format!("{} is given twice", quoted(&entry.key)));
            problems.push(problem.hint(format!("it stands on line {first} too")));
        }
    }
    node.elements().iter().for_each(|node| check_duplicates(node, problems));
}

fn in_range(shape: &Shape, node: &Node) -> bool {
    match shape {
        Shape::Duration { min, max } => node.duration().is_some_and(|value| (*min..=*max).contains(&value)),
        Shape::Size { min, max } => node.size().is_some_and(|value| (*min..=*max).contains(&value)),
        Shape::Whole { min, max } => node.whole().is_some_and(|value| (*min..=*max).contains(&value)),
        Shape::Real { min, max } => node.real().is_some_and(|value| (*min..=*max).contains(&value)),
        _ => false,
    }
}

/// How the numeric shapes read values.
impl Node {
    pub(crate) fn duration(&self) -> Option<std::time::Duration> {
        units::duration(self.text()?)
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.text().map_or_else(|| self.whole(), units::size)
    }

    pub(crate) fn whole(&self) -> Option<u64> {
        self.number()?.parse().ok()
    }

    pub(crate) fn real(&self) -> Option<f64> {
        self.number()?.parse().ok()
    }
}

fn unit_hint(shape: &Shape, node: &Node) -> Option<String> {
    match shape {
        Shape::Duration { .. } if node.duration().is_none() => {
            Some("a duration is written as `250ms`, `30s`, `2m`, `1h30m` or `7d`".to_owned())
        }
        Shape::Whole { .. } | Shape::Real { .. } if looks_like_a_number(node) => {
            Some("write it without quotes".to_owned())
        }
        Shape::Size { .. } if node.size().is_none() => {
            Some("a size is written as `64MiB`, `500KB` or a number of bytes".to_owned())
        }
        _ => None,
    }
}

fn looks_like_a_number(node: &Node) -> bool {
    node.reference.is_none() && node.text().is_some_and(is_number)
}

fn fits_kind(shape: &Shape, value: &Value) -> bool {
    match value {
        Value::Text(_) => matches!(shape, Shape::Text(_) | Shape::Choice(_) | Shape::Scalar),
        Value::Bool(_) => matches!(shape, Shape::Bool | Shape::Scalar),
        Value::Map(_) => matches!(shape, Shape::Table(_) | Shape::Names { .. }),
        Value::List(_) => matches!(shape, Shape::List(_)),
        Value::Null | Value::Number(_) => matches!(shape, Shape::Scalar),
        Value::Faulty => false,
    }
}

fn wrong(label: &str, shape: &Shape, node: &Node) -> String {
    if looks_like_a_number(node) {
        return format!("{label} must be {}, not the text {}", shape.what(), kind(node));
    }
    format!("{label} must be {}, not {}", shape.what(), kind(node))
}

/// What a value is. The text follows "not".
pub(crate) fn kind(node: &Node) -> String {
    if let Some(reference) = &node.reference {
        return quoted(reference);
    }
    match &node.value {
        Value::Null | Value::Faulty => "empty".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("`{number}`"),
        Value::Text(text) => quoted(text),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// A hint with the known name that is nearest to `written`, if any is near.
pub(crate) fn did_you_mean<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let length = written.chars().count();
    if length > SUGGESTED_CHARS_MAX {
        return None;
    }
    let (distance, nearest) =
        known.map(|name| (strsim::damerau_levenshtein(written, name), name)).min_by_key(|(distance, _)| *distance)?;
    (distance <= (length / 3).max(1)).then(|| format!("did you mean `{nearest}`?"))
}
