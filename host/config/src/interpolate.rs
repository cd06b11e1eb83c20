//! `${param:name}` and `${env:NAME:-default}` in texts.
//!
//! Owns the grammar of references and where they count: in every text but those that are handed on verbatim. Never
//! reads the environment: the caller lends a lookup.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::check::did_you_mean;
use crate::keys::JOB;
use crate::report::{Problem, quoted};
use crate::shape::Shape;
use crate::yaml::{Node, Value};

/// What all references of a file together may become: a few bytes of them can repeat a long parameter.
const EXPANDED_BYTES_MAX: usize = 1 << 20;

/// What references may refer to.
pub(crate) struct Sources<'a> {
    /// None where parameters are themselves declared.
    params: Option<&'a BTreeMap<String, Json>>,
    env: &'a dyn Fn(&str) -> Option<String>,
    bytes_left: usize,
}

/// What is wrong with a reference, and what may help.
type Fault = (String, String);

impl<'a> Sources<'a> {
    pub(crate) fn new(params: Option<&'a BTreeMap<String, Json>>, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { params, env, bytes_left: EXPANDED_BYTES_MAX }
    }

    /// Replaces the references in a whole job file, but for its verbatim keys.
    pub(crate) fn expand_job(&mut self, root: &mut Node, problems: &mut Vec<Problem>) {
        self.expand(root, &JOB, problems);
    }

    /// Replaces the references in every text of a value.
    pub(crate) fn expand_all(&mut self, node: &mut Node, problems: &mut Vec<Problem>) {
        self.expand(node, &Shape::Any, problems);
    }

    fn expand(&mut self, node: &mut Node, shape: &Shape, problems: &mut Vec<Problem>) {
        match &mut node.value {
            Value::Text(text) => match self.expanded(text) {
                Ok(expanded) if expanded == *text => {}
                Ok(expanded) => node.value = typed(expanded, shape),
                Err((message, hint)) => {
                    problems.push(Problem::new(node.span, message).hint(hint));
                    node.value = Value::Faulty;
                }
            },
            Value::List(nodes) => {
                let element = element_shape(shape);
                for node in nodes {
                    self.expand(node, element, problems);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    if let Some(shape) = value_shape(shape, &entry.key) {
                        self.expand(&mut entry.node, shape, problems);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Faulty => {}
        }
    }

    fn expanded(&mut self, text: &str) -> Result<String, Fault> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('$') {
                expanded += before;
                expanded += "${";
                rest = &rest[at + 2..];
                continue;
            }
            expanded += &rest[..at];
            let (reference, after) = rest[at + 2..].split_once('}').ok_or_else(|| {
                (
                    format!("{} has no end", quoted(&rest[at..])),
                    "end it with `}`, or write `$${` for a plain `${`".into(),
                )
            })?;
            let value = self.lookup(reference)?;
            self.bytes_left = self.bytes_left.checked_sub(value.len()).ok_or_else(|| {
                let message = format!("the references of this file become more than {EXPANDED_BYTES_MAX} bytes");
                (message, "shorten what they refer to".to_owned())
            })?;
            expanded += &value;
            rest = after;
        }
        Ok(expanded + rest)
    }

    fn lookup(&self, reference: &str) -> Result<String, Fault> {
        match reference.split_once(':') {
            Some(("env", name)) => {
                let (name, default) = name.split_once(":-").map_or((name, None), |(name, or)| (name, Some(or)));
                (self.env)(name).or_else(|| default.map(str::to_owned)).ok_or_else(|| {
                    let hint = format!("set it, or give a default: `${{env:{name}:-…}}`");
                    (format!("the environment has no {}", quoted(name)), hint)
                })
            }
            Some(("param", name)) => self.param(name),
            Some(("secret", name)) => {
                let hint = "nothing secret belongs in a job file until then".to_owned();
                Err((format!("{} is not supported yet", quoted(&format!("${{secret:{name}}}"))), hint))
            }
            _ => {
                let hint = "there are `${param:name}`, `${env:NAME}` and `${env:NAME:-default}`; `$${` is a plain `${`";
                Err((format!("{} refers to nothing known", quoted(&format!("${{{reference}}}"))), hint.to_owned()))
            }
        }
    }

    fn param(&self, name: &str) -> Result<String, Fault> {
        let Some(params) = self.params else {
            let hint = "only `${env:NAME}` is allowed here".to_owned();
            return Err(("a parameter cannot refer to another".to_owned(), hint));
        };
        match params.get(name) {
            Some(Json::String(text)) => Ok(text.clone()),
            Some(value @ (Json::Number(_) | Json::Bool(_))) => Ok(value.to_string()),
            Some(_) => {
                Err((format!("parameter {} is no text", quoted(name)), "only text can stand inside text".to_owned()))
            }
            None => {
                let hint = did_you_mean(name, params.keys().map(String::as_str));
                let hint = hint.unwrap_or_else(|| "declare it under `params`".to_owned());
                Err((format!("this job has no parameter {}", quoted(name)), hint))
            }
        }
    }
}

/// What a text with references became: a number where a number belongs, for a reference cannot be written without
/// being text.
fn typed(expanded: String, shape: &Shape) -> Value {
    let typed = match shape {
        Shape::Whole { .. } | Shape::Real { .. } => expanded.parse().ok().map(Value::Number),
        Shape::Bool => expanded.parse().ok().map(Value::Bool),
        // Here both text and numbers belong. What reads as JSON is meant as JSON, as with `--param`.
        Shape::Either(shapes) if shapes.iter().any(|shape| matches!(shape, Shape::Scalar)) => {
            return typed(expanded, &Shape::Scalar);
        }
        Shape::Scalar => match serde_json::from_str(&expanded) {
            Ok(Json::Number(number)) => Some(Value::Number(number)),
            Ok(Json::Bool(value)) => Some(Value::Bool(value)),
            _ => None,
        },
        _ => None,
    };
    typed.unwrap_or(Value::Text(expanded))
}

/// The shape of the elements, where a list may stand.
fn element_shape(shape: &Shape) -> &Shape {
    match shape {
        Shape::List(element) => element,
        Shape::Either(shapes) => {
            shapes.iter().find(|shape| matches!(shape, Shape::List(_))).map_or(&Shape::Any, element_shape)
        }
        _ => &Shape::Any,
    }
}

/// The shape of the value under a key; none where references do not count.
fn value_shape<'a>(shape: &'a Shape, name: &str) -> Option<&'a Shape> {
    match shape {
        Shape::Table(keys) => keys.iter().find(|key| key.name == name && !key.verbatim).map(|key| &key.shape),
        Shape::Names { value, .. } => Some(value),
        Shape::Either(shapes) => {
            let mapping = shapes.iter().find(|shape| matches!(shape, Shape::Table(_) | Shape::Names { .. }));
            mapping.map_or(Some(&Shape::Any), |shape| value_shape(shape, name))
        }
        _ => Some(&Shape::Any),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Fault> {
        let params = BTreeMap::from([
            ("model".to_owned(), Json::from("small")),
            ("year".to_owned(), Json::from(2024)),
            ("list".to_owned(), Json::from(vec![1])),
        ]);
        let env = |name: &str| (name == "HOME").then(|| "/home/ann".to_owned());
        Sources::new(Some(&params), &env).expanded(text)
    }

    #[test]
    fn references_are_replaced() {
        assert_eq!(expanded("a ${param:model} of ${param:year}").unwrap(), "a small of 2024");
        assert_eq!(expanded("${env:HOME}/x ${env:HOME:-y}").unwrap(), "/home/ann/x /home/ann");
        assert_eq!(expanded("${env:NONE:-a:-b} ${env:NONE:-}").unwrap(), "a:-b ");
        assert_eq!(expanded("$${param:model} $$ $5 {}").unwrap(), "${param:model} $$ $5 {}");
    }

    #[test]
    fn what_comes_from_a_reference_is_not_read_again() {
        let env = |_: &str| Some("${env:X}".to_owned());
        assert_eq!(Sources::new(None, &env).expanded("${env:Y}").unwrap(), "${env:X}");
    }

    #[test]
    fn what_refers_to_nothing_is_a_fault() {
        for text in ["${env:NONE}", "${param:none}", "${param:list}", "${secret:A}", "${model}", "${env:HOME", "${"] {
            assert!(expanded(text).is_err(), "{text}");
        }
    }
}
