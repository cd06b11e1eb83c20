//! The language in which the keys of a job file are described.
//!
//! Owns the kinds of values, and the words for them. One description serves the check, the schema and the documentation
//! of a key, so that they always agree. Never reads a file.

use std::time::Duration;

use serde_json::Value as Json;

use crate::units::{show_duration, show_size};

/// What a value may be.
pub(crate) enum Shape {
    /// Any JSON value.
    Any,
    Bool,
    /// Text, a number, a boolean or null.
    Scalar,
    Text(&'static Format),
    Duration {
        min: Duration,
        max: Duration,
    },
    /// Bytes, as a number or with a unit.
    Size {
        min: u64,
        max: u64,
    },
    Whole {
        min: u64,
        max: u64,
    },
    Real {
        min: f64,
        max: f64,
    },
    Choice(&'static [&'static str]),
    List(&'static Shape),
    /// A mapping with known keys.
    Table(&'static [Key]),
    /// A mapping whose keys the author chooses; `one`: exactly one of them.
    Names {
        key: &'static Format,
        value: &'static Shape,
        one: bool,
    },
    /// Any of these, told apart by the kind of the YAML value.
    Either(&'static [Shape]),
}

/// A form of text.
pub(crate) struct Format {
    /// The name with its article, such as "a path".
    pub(crate) what: &'static str,
    /// What `fault` accepts, as a regular expression for the whole text.
    pub(crate) pattern: &'static str,
    pub(crate) example: &'static str,
    /// What is wrong with a text; none if it is right. The answer follows the name of its key.
    pub(crate) fault: fn(&str) -> Option<String>,
}

/// A key of a mapping.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What editors show: full sentences.
    pub(crate) doc: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    /// Its shape is decided, but the host does not support it yet and refuses it.
    pub(crate) later: bool,
    /// Its text is passed on unchanged, `${…}` included.
    pub(crate) verbatim: bool,
    /// The default if it is absent, read from the model.
    pub(crate) default: Option<fn() -> Json>,
}

/// A key that may be left out.
pub(crate) const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, doc, shape, required: false, later: false, verbatim: false, default: None }
}

impl Key {
    pub(crate) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(crate) const fn later(self) -> Self {
        Self { later: true, ..self }
    }

    pub(crate) const fn verbatim(self) -> Self {
        Self { verbatim: true, ..self }
    }

    pub(crate) const fn default(self, default: fn() -> Json) -> Self {
        Self { default: Some(default), ..self }
    }
}

impl Shape {
    /// What the value must be. The text follows "must be".
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Any => "a value".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Scalar => "text, a number, `true`, `false` or `null`".to_owned(),
            Self::Text(format) => format!("{} such as `{}`", format.what, format.example),
            Self::Duration { min, max } => {
                format!("a duration from `{}` to `{}`", show_duration(*min), show_duration(*max))
            }
            Self::Size { min, max } => format!("a size from `{}` to `{}`", show_size(*min), show_size(*max)),
            Self::Whole { min, max } if min == max => min.to_string(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Real { min, max } => format!("a number from {min} to {max}"),
            Self::Choice(choices) => {
                let choices: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
                choices.join(" or ")
            }
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) | Self::Names { .. } => "a mapping".to_owned(),
            Self::Either(shapes) => shapes.iter().map(Self::what).collect::<Vec<_>>().join(" or "),
        }
    }
}
