//! JSON as the host reads it: by the same rules everywhere, and without changing it.
//!
//! Owns which texts are accepted as JSON (data, outputs, parameters, merges), the order of values, and pointers into a
//! text. Works on the texts themselves, so that what no rule changes keeps its bytes. Never holds a text as a tree,
//! which may be ten times as large.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::number;

/// How deep lists and objects may nest.
pub const JSON_DEPTH_MAX: usize = 127;

/// Why a text is not accepted as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotJson {
    /// It breaks the grammar.
    #[error("is not JSON: {0}")]
    Syntax(String),
    /// Its lists and objects nest too deep.
    #[error("nests more than {JSON_DEPTH_MAX} levels deep")]
    Depth,
    /// It has a number beyond the range of 64-bit floating point.
    #[error("has a number beyond ±1.8e308")]
    Number,
    /// It has a lone escape such as `\ud800`, which is half a character.
    #[error("has half a character: an escape such as \\ud800 that stands alone")]
    Surrogate,
}

/// Checks that a text is JSON (RFC 8259) that all of the host can read: at most [`JSON_DEPTH_MAX`] levels, every text
/// in it Unicode, every number within the range of 64-bit floating point. A number may have more digits than floating
/// point holds: they are kept.
///
/// # Errors
/// The first fault of the text.
pub fn check_json(text: &str) -> Result<(), NotJson> {
    serde_json::from_str::<Checked>(text).map(|Checked| ()).map_err(|error| {
        // Only the texts of the library's errors tell them apart. Tests check each of them.
        let says = error.to_string();
        let starts = |beginning: &str| says.starts_with(beginning);
        if starts("recursion limit exceeded") {
            NotJson::Depth
        } else if starts("number out of range") {
            NotJson::Number
        } else if starts("lone leading surrogate") || starts("unexpected end of hex escape") {
            NotJson::Surrogate
        } else {
            NotJson::Syntax(says)
        }
    })
}

/// Reads everything, and keeps nothing.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// The fields of an object, by name, each as it is written; none if the text is no object. If a name occurs twice, the
/// last one counts.
pub(crate) fn fields(text: &str) -> Option<BTreeMap<String, &str>> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    Some(fields.into_iter().map(|(name, value)| (name, value.get())).collect())
}

/// The elements of a list, each as it is written; none if the text is no list.
pub(crate) fn elements(text: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

/// The value that a JSON pointer (RFC 6901) leads to, as it is written.
pub(crate) fn at<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    let mut found = text.trim_ascii();
    if pointer.is_empty() {
        return Some(found);
    }
    for name in pointer.strip_prefix('/')?.split('/') {
        let name = name.replace("~1", "/").replace("~0", "~");
        found = match Kind::of(found) {
            Kind::Object => fields(found)?.remove(&name)?,
            Kind::List => {
                // The standard allows no sign, and no zero in front.
                let plain = name == "0" || !name.starts_with(['0', '+']);
                elements(found)?.get(name.parse::<usize>().ok().filter(|_| plain)?).copied()?
            }
            _ => return None,
        };
    }
    Some(found)
}

/// The kind of a value. The order of the variants is the order of values of different kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    List,
    Object,
}

impl Kind {
    /// Reads the kind from the first character, which is enough.
    pub(crate) fn of(value: &str) -> Self {
        match value.trim_ascii_start().as_bytes().first() {
            Some(b't' | b'f') => Self::Bool,
            Some(b'-' | b'0'..=b'9') => Self::Number,
            Some(b'"') => Self::Text,
            Some(b'[') => Self::List,
            Some(b'{') => Self::Object,
            _ => Self::Null,
        }
    }
}

/// A total order over values: by kind, then by value, then by text. Equal values differ only in white space and
/// escapes; 1 and 1.0 are the same number but not the same text.
pub(crate) fn order(one: &str, other: &str) -> Ordering {
    let kind = Kind::of(one);
    kind.cmp(&Kind::of(other))
        .then_with(|| match kind {
            Kind::Number => number::order(one.trim_ascii(), other.trim_ascii()),
            Kind::Text => text(one).cmp(&text(other)),
            Kind::Null | Kind::Bool | Kind::List | Kind::Object => Ordering::Equal,
        })
        .then_with(|| canonical(one).cmp(&canonical(other)))
}

/// The characters of a text; none if the value is no text.
pub(crate) fn text(value: &str) -> Option<String> {
    serde_json::from_str(value).ok()
}

/// The value without white space, with its names sorted and as few escapes as JSON allows.
fn canonical(value: &str) -> String {
    let mut to = String::with_capacity(value.len());
    write_canonical(value, &mut to);
    to
}

fn write_canonical(value: &str, to: &mut String) {
    let kind = Kind::of(value);
    if kind == Kind::List
        && let Some(elements) = elements(value)
    {
        to.push('[');
        for (index, element) in elements.into_iter().enumerate() {
            if index > 0 {
                to.push(',');
            }
            write_canonical(element, to);
        }
        to.push(']');
    } else if kind == Kind::Object
        && let Some(fields) = fields(value)
    {
        to.push('{');
        for (index, (name, value)) in fields.into_iter().enumerate() {
            if index > 0 {
                to.push(',');
            }
            to.push_str(&quoted(&name));
            to.push(':');
            write_canonical(value, to);
        }
        to.push('}');
    } else {
        match text(value) {
            Some(text) => to.push_str(&quoted(&text)),
            None => to.push_str(value.trim_ascii()),
        }
    }
}

/// A text as JSON writes it.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_read_everywhere() {
        let deepest = format!("{}{}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        for text in ["null", " [1, 2] ", r#"{"a":"\ud83d\ude00","a":1}"#, "1e308", "-0", &"9".repeat(300), &deepest] {
            assert_eq!(check_json(text), Ok(()), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_not_taken_has_its_reason() {
        let deep = format!("{}{}", "[".repeat(JSON_DEPTH_MAX + 1), "]".repeat(JSON_DEPTH_MAX + 1));
        let objects = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        for (text, reason) in [
            (deep.as_str(), NotJson::Depth),
            (&objects, NotJson::Depth),
            ("[1e999]", NotJson::Number),
            (&format!("-1{}", "0".repeat(400)), NotJson::Number),
            (r#"{"a":"\ud800"}"#, NotJson::Surrogate),
            (r#"{"\ud800x":1}"#, NotJson::Surrogate),
            (r#"["\udc00"]"#, NotJson::Surrogate),
            (r#"["\ud800\u0041"]"#, NotJson::Surrogate),
        ] {
            assert_eq!(check_json(text), Err(reason), "{text:.40}");
        }
        for text in ["", "{", "nope", "[1] 2", "01", "NaN", "'a'", "\"\u{1}\"", "\"\\x\""] {
            assert!(matches!(check_json(text), Err(NotJson::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn pointers_lead_everywhere() {
        let text = r#" {"a/b": {"m~n": [10, 20.0]}, "": {"": 1}, "t": "x"} "#;
        for (pointer, found) in [
            ("/a~1b/m~0n/1", Some("20.0")),
            ("/a~1b/m~0n", Some("[10, 20.0]")),
            ("//", Some("1")),
            ("/a~1b/m~0n/01", None),
            ("/a~1b/m~0n/+1", None),
            ("/a~1b/m~0n/2", None),
            ("/t/x", None),
            ("/none", None),
        ] {
            assert_eq!(at(text, pointer), found, "{pointer}");
        }
        assert_eq!(at(text, ""), Some(text.trim()));
        assert_eq!(at("not json", "/a"), None);
    }

    #[test]
    fn looks_do_not_count_and_digits_do() {
        let same = |one, other| order(one, other).is_eq();
        assert!(same(r#"{"b": [1 ,2], "a":"\u00e9"}"#, r#"{"a":"é","b":[1,2]}"#));
        assert!(!same("12345678901234567890123", "12345678901234567890124"));
        assert!(!same("1", "1.0"));
    }
}
