//! `${param:name}` and `${env:NAME:-default}` in texts.
//!
//! Owns the grammar of references, and where they are replaced: in every text except verbatim ones. Never reads the
//! environment: the caller passes a lookup.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use crate::check::did_you_mean;
use crate::keys::JOB;
use crate::report::{Problem, quoted};
use crate::shape::Shape;
use crate::yaml::{Node, Value, is_number};

/// The size of what all references of a file may expand to: a few bytes can repeat a long parameter.
const EXPANDED_BYTES_MAX: usize = 1 << 20;
/// How deep defaults of references may nest.
const DEFAULTS_DEPTH_MAX: usize = 8;

/// A variable of the environment, as the caller finds it.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The parameters by name.
pub(crate) type Params = BTreeMap<String, Param>;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Param {
    Text(String),
    /// Anything else, as JSON.
    Json(String),
    /// A fault in it was already reported.
    Faulty,
}

impl Param {
    /// The JSON that a handler gets.
    pub(crate) fn to_json(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(serde_json::Value::from(text.as_str()).to_string()),
            Self::Json(json) => Some(json.clone()),
            Self::Faulty => None,
        }
    }
}

/// What references may refer to.
pub(crate) struct Sources<'a> {
    /// None while the parameters themselves are read.
    params: Option<&'a Params>,
    env: Env<'a>,
    bytes_left: usize,
    /// Variables already reported: one that is not set is one fault, however often it is named.
    told: BTreeSet<String>,
}

/// What is wrong with a reference, and a hint.
#[derive(Debug)]
enum Fault {
    New(String, String),
    /// The same thing was reported before.
    Told,
}

impl Fault {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::New(message.into(), hint.into())
    }
}

impl<'a> Sources<'a> {
    pub(crate) fn new(env: Env<'a>) -> Self {
        Self { params: None, env, bytes_left: EXPANDED_BYTES_MAX, told: BTreeSet::new() }
    }

    /// Replaces the references in a whole job file, except in its verbatim keys.
    pub(crate) fn expand_job(&mut self, root: &mut Node, params: &'a Params, problems: &mut Vec<Problem>) {
        self.params = Some(params);
        self.expand(root, &JOB, problems);
    }

    /// Replaces the references in every text of a value.
    pub(crate) fn expand_all(&mut self, node: &mut Node, problems: &mut Vec<Problem>) {
        self.expand(node, &Shape::Any, problems);
    }

    fn expand(&mut self, node: &mut Node, shape: &Shape, problems: &mut Vec<Problem>) {
        match &mut node.value {
            Value::Text(text) if text.contains("${") => match self.expanded(text, 0) {
                Ok(expanded) => {
                    let value = self.typed(text, expanded, shape);
                    node.reference = Some(std::mem::take(text));
                    node.value = value;
                }
                Err(fault) => {
                    if let Fault::New(message, hint) = fault {
                        problems.push(Problem::new(node.span, message).hint(hint));
                    }
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
            Value::Text(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Faulty => {}
        }
    }

    /// The text with its references replaced. A `$` before a `${` makes it plain text, and two of them are one `$`
    /// before a reference.
    fn expanded(&mut self, text: &str, depth: usize) -> Result<String, Fault> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let before = rest[..at].trim_end_matches('$');
            let dollars = at - before.len();
            expanded += before;
            expanded.extend(std::iter::repeat_n('$', dollars / 2));
            rest = &rest[at + 2..];
            if dollars % 2 == 1 {
                expanded += "${";
                continue;
            }
            let end = end_of(rest).ok_or_else(|| {
                let message = format!("{} has no end", quoted(&format!("${{{rest}")));
                Fault::new(message, "end it with `}`, or write `$${` for a plain `${`")
            })?;
            let value = self.lookup(&rest[..end], depth)?;
            self.bytes_left = self.bytes_left.checked_sub(value.len()).ok_or_else(|| {
                let message = format!("the references of this file become more than {EXPANDED_BYTES_MAX} bytes");
                Fault::new(message, "shorten what they refer to")
            })?;
            expanded += &value;
            rest = &rest[end + 1..];
        }
        Ok(expanded + rest)
    }

    fn lookup(&mut self, reference: &str, depth: usize) -> Result<String, Fault> {
        match reference.split_once(':') {
            Some(("env", rest)) => {
                let (name, default) = rest.split_once(":-").map_or((rest, None), |(name, or)| (name, Some(or)));
                self.variable(name, default, depth)
            }
            Some(("param", name)) => self.param(name),
            Some(("secret", name)) => {
                let message = format!("{} is not supported yet", quoted(&format!("${{secret:{name}}}")));
                Err(Fault::new(message, "nothing secret belongs in a job file until then"))
            }
            _ => {
                let hint = "there are `${param:name}`, `${env:NAME}` and `${env:NAME:-default}`; `$${` is a plain `${`";
                Err(Fault::new(format!("{} refers to nothing known", quoted(&format!("${{{reference}}}"))), hint))
            }
        }
    }

    /// A variable of the environment. As in a shell, the default after `:-` also replaces an empty value.
    fn variable(&mut self, name: &str, default: Option<&str>, depth: usize) -> Result<String, Fault> {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.chars().all(letters) || !name.starts_with(|c: char| letters(c) && !c.is_ascii_digit()) {
            let message = format!("{} is not the name of a variable", quoted(name));
            return Err(Fault::new(message, "letters, digits and `_` make one; a default follows after `:-`"));
        }
        let set = match (self.env)(name).map(OsString::into_string) {
            Some(Err(_)) => {
                let message = format!("the environment's {} is not UTF-8 text", quoted(name));
                return Err(self.once(name, message, "set it to text"));
            }
            Some(Ok(value)) => Some(value),
            None => None,
        };
        match (set, default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(_)) if depth == DEFAULTS_DEPTH_MAX => {
                let message = format!("defaults hold each other more than {DEFAULTS_DEPTH_MAX} deep");
                Err(Fault::new(message, "write the value itself"))
            }
            (_, Some(default)) => self.expanded(default, depth + 1),
            (None, None) => {
                let hint = format!("set it, or give a default: `${{env:{name}:-…}}`");
                Err(self.once(name, format!("the environment has no {}", quoted(name)), &hint))
            }
        }
    }

    /// A fault of a variable: a new one only the first time.
    fn once(&mut self, name: &str, message: String, hint: &str) -> Fault {
        if self.told.insert(name.to_owned()) { Fault::new(message, hint) } else { Fault::Told }
    }

    fn param(&self, name: &str) -> Result<String, Fault> {
        let Some(params) = self.params else {
            return Err(Fault::new("a parameter cannot refer to another", "only `${env:NAME}` is allowed here"));
        };
        match params.get(name) {
            Some(Param::Text(text)) => Ok(text.clone()),
            Some(Param::Json(json)) if is_number(json) || is_bool(json) => Ok(json.clone()),
            Some(Param::Json(_)) => {
                Err(Fault::new(format!("parameter {} is no text", quoted(name)), "only text can stand inside text"))
            }
            Some(Param::Faulty) => Err(Fault::Told),
            None => {
                let hint = did_you_mean(name, params.keys().map(String::as_str));
                let hint = hint.unwrap_or_else(|| "declare it under `params`".to_owned());
                Err(Fault::new(format!("this job has no parameter {}", quoted(name)), hint))
            }
        }
    }

    /// The value of a text with references. A reference is always written as text, so it becomes a number if only a
    /// number fits. If text and numbers fit, a parameter keeps its declared type, and anything else stays text.
    fn typed(&self, written: &str, expanded: String, shape: &Shape) -> Value {
        match shape {
            Shape::Whole { .. } | Shape::Real { .. } if is_number(&expanded) => Value::Number(expanded),
            Shape::Bool if is_bool(&expanded) => Value::Bool(expanded == "true"),
            Shape::Either(shapes) if shapes.iter().any(|shape| matches!(shape, Shape::Scalar)) => {
                self.typed(written, expanded, &Shape::Scalar)
            }
            Shape::Scalar if self.is_one_parameter(written) && is_number(&expanded) => Value::Number(expanded),
            Shape::Scalar if self.is_one_parameter(written) && is_bool(&expanded) => Value::Bool(expanded == "true"),
            _ => Value::Text(expanded),
        }
    }

    /// Whether a text is nothing but a reference to a parameter that is not text.
    fn is_one_parameter(&self, written: &str) -> bool {
        let name = written.strip_prefix("${param:").and_then(|rest| rest.strip_suffix('}'));
        name.zip(self.params).is_some_and(|(name, params)| matches!(params.get(name), Some(Param::Json(_))))
    }
}

fn is_bool(text: &str) -> bool {
    matches!(text, "true" | "false")
}

/// The position of the `}` that ends a reference. A default may contain pairs of braces.
fn end_of(reference: &str) -> Option<usize> {
    let mut open = 0usize;
    for (at, c) in reference.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// The shape of a list's elements, if the shape allows a list.
fn element_shape(shape: &Shape) -> &Shape {
    match shape {
        Shape::List(element) => element,
        Shape::Either(shapes) => {
            shapes.iter().find(|shape| matches!(shape, Shape::List(_))).map_or(&Shape::Any, element_shape)
        }
        _ => &Shape::Any,
    }
}

/// The shape of the value under a key; none if references in it are not replaced.
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
            ("model".to_owned(), Param::Text("small".to_owned())),
            ("year".to_owned(), Param::Json("2024".to_owned())),
            ("list".to_owned(), Param::Json("[1]".to_owned())),
            ("faulty".to_owned(), Param::Faulty),
        ]);
        let env = |name: &str| match name {
            "HOME" => Some("/home/ann".into()),
            "EMPTY" => Some(OsString::new()),
            _ => None,
        };
        let mut sources = Sources::new(&env);
        sources.params = Some(&params);
        sources.expanded(text, 0)
    }

    #[test]
    fn references_are_replaced() {
        assert_eq!(expanded("a ${param:model} of ${param:year}").unwrap(), "a small of 2024");
        assert_eq!(expanded("${env:HOME}/x ${env:HOME:-y}").unwrap(), "/home/ann/x /home/ann");
        assert_eq!(expanded("${env:NONE:-a:-b} ${env:NONE:-}").unwrap(), "a:-b ");
    }

    #[test]
    fn a_dollar_before_a_reference_is_as_in_a_shell() {
        assert_eq!(expanded("$${param:model} $$ $5 {}").unwrap(), "${param:model} $$ $5 {}");
        assert_eq!(expanded("$$${param:model}").unwrap(), "$small");
        assert_eq!(expanded("$$$${param:model} costs $$${param:year}").unwrap(), "$${param:model} costs $2024");
    }

    #[test]
    fn a_default_takes_the_place_of_an_empty_variable() {
        assert_eq!(expanded("${env:EMPTY:-x}").unwrap(), "x");
        assert_eq!(expanded("<${env:EMPTY}>").unwrap(), "<>");
    }

    #[test]
    fn a_default_may_hold_braces_and_references() {
        assert_eq!(expanded("${env:NONE:-{\"a\": {}}}!").unwrap(), "{\"a\": {}}!");
        assert_eq!(expanded("${env:HOME:-{}}").unwrap(), "/home/ann");
        assert_eq!(expanded("${env:NONE:-${env:EMPTY:-${param:model}}}").unwrap(), "small");
        // A default that is not used is not looked up.
        assert_eq!(expanded("${env:HOME:-${env:NONE}}").unwrap(), "/home/ann");
        let nested = format!("{}x{}", "${env:NONE:-".repeat(9), "}".repeat(9));
        assert!(expanded(&nested).is_err());
    }

    #[test]
    fn what_comes_from_a_reference_is_not_read_again() {
        let env = |_: &str| Some("${env:X}".into());
        assert_eq!(Sources::new(&env).expanded("${env:Y}", 0).unwrap(), "${env:X}");
    }

    #[test]
    fn what_refers_to_nothing_is_a_fault() {
        let wrong = ["${env:NONE}", "${param:none}", "${param:list}", "${secret:A}", "${model}", "${env:HOME", "${"];
        for text in wrong.into_iter().chain(["${env:}", "${env:A-b}", "${env:1A}", "${env:NONE:-${env:NONE}}"]) {
            assert!(matches!(expanded(text), Err(Fault::New(..))), "{text}");
        }
        assert!(matches!(expanded("${param:faulty}"), Err(Fault::Told)));
    }
}
