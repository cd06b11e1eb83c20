//! For which items a stage runs.
//!
//! Owns the conditions on an item's data, and the sentence that explains one that does not hold. A pure function of a
//! JSON text. Never skips a stage itself: the scheduler does.

use crate::json::{self, Kind};
use crate::number;

/// The longest value in a sentence.
const SHOWN_CHARS_MAX: usize = 80;
/// How many accepted values a sentence names.
const SHOWN_VALUES_MAX: usize = 8;

/// For which items a stage runs: those for which every condition holds.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct When {
    /// In the order of the file.
    pub conditions: Vec<Condition>,
}

/// A condition on one place of an item's data.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Which place: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The accepted values, as JSON: text, a number, a boolean, or null, which also means absent.
    pub values: Vec<String>,
}

impl When {
    /// Whether the stage runs for every item.
    pub fn is_always(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Why the stage does not run for an item with this data, such as `/kind` is "html", not "pdf"; none if it does.
    pub fn refuses(&self, data: &str) -> Option<String> {
        if self.is_always() {
            return None;
        }
        self.conditions.iter().find_map(|condition| condition.refuses(data))
    }

    pub(crate) fn fields(&self) -> Vec<String> {
        let condition =
            |Condition { pointer, values }: &Condition| [pointer.clone(), format!("[{}]", values.join(","))];
        self.conditions.iter().flat_map(condition).collect()
    }
}

impl Condition {
    fn refuses(&self, data: &str) -> Option<String> {
        let found = json::at(data, &self.pointer);
        if self.values.iter().any(|value| is_equal(value, found.unwrap_or("null"))) {
            return None;
        }
        let found = found.map_or_else(|| "absent".to_owned(), describe);
        Some(format!("`{}` is {found}, not {}", cut(&self.pointer), self.accepted()))
    }

    fn accepted(&self) -> String {
        let mut shown: Vec<String> = self.values.iter().take(SHOWN_VALUES_MAX).map(|value| describe(value)).collect();
        match self.values.len().saturating_sub(SHOWN_VALUES_MAX) {
            0 => {}
            more => shown.push(format!("{more} more")),
        }
        shown.join(" or ")
    }
}

/// Whether two values are equal. Numbers are compared by value: 1 equals 1.0.
fn is_equal(one: &str, other: &str) -> bool {
    match (Kind::of(one), Kind::of(other)) {
        (Kind::Number, Kind::Number) => number::order(one, other).is_eq(),
        (Kind::Text, Kind::Text) => json::text(one) == json::text(other),
        (kind, other_kind) => kind == other_kind && one == other,
    }
}

fn describe(value: &str) -> String {
    match Kind::of(value) {
        Kind::List => "a list".to_owned(),
        Kind::Object => "an object".to_owned(),
        _ => cut(value),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn when(conditions: &[(&str, Value)]) -> When {
        let condition = |(pointer, values): &(&str, Value)| Condition {
            pointer: (*pointer).to_owned(),
            values: values.as_array().unwrap().iter().map(Value::to_string).collect(),
        };
        When { conditions: conditions.iter().map(condition).collect() }
    }

    #[test]
    fn without_conditions_every_item_is_taken() {
        assert_eq!(When::default().refuses("{}"), None);
        assert_eq!(When::default().refuses("no json"), None);
    }

    #[test]
    fn every_condition_has_to_hold() {
        let when = when(&[("/kind", json!(["pdf"])), ("/meta/lang", json!(["en", "fr"]))]);
        let refuses = |data: Value| when.refuses(&data.to_string());
        assert_eq!(refuses(json!({ "kind": "pdf", "meta": { "lang": "fr" } })), None);
        let html = json!({ "kind": "html", "meta": { "lang": "fr" } });
        assert_eq!(refuses(html).unwrap(), r#"`/kind` is "html", not "pdf""#);
        let german = json!({ "kind": "pdf", "meta": { "lang": "de" } });
        assert_eq!(refuses(german).unwrap(), r#"`/meta/lang` is "de", not "en" or "fr""#);
        assert_eq!(refuses(json!({ "kind": "pdf" })).unwrap(), r#"`/meta/lang` is absent, not "en" or "fr""#);
        assert_eq!(refuses(json!({ "kind": ["pdf"] })).unwrap(), r#"`/kind` is a list, not "pdf""#);
        assert_eq!(refuses(json!({ "kind": {} })).unwrap(), r#"`/kind` is an object, not "pdf""#);
    }

    #[test]
    fn values_are_compared_as_json_compares_them() {
        let accepts = |value: Value, data: Value| when(&[("/a", json!([value]))]).refuses(&data.to_string()).is_none();
        assert!(accepts(json!(1), json!({ "a": 1.0 })));
        assert!(accepts(json!(false), json!({ "a": false })));
        assert!(accepts(json!(""), json!({ "a": "" })));
        assert!(!accepts(json!(1), json!({ "a": "1" })));
        assert!(!accepts(json!(0), json!({ "a": false })));
        // The same in 64-bit floating point, and other numbers.
        let long = |digits: &str| When {
            conditions: vec![Condition { pointer: String::new(), values: vec![digits.to_owned()] }],
        };
        assert!(long("12345678901234567890123").refuses("12345678901234567890124").is_some());
        assert!(long("12345678901234567890123").refuses("12345678901234567890123.0").is_none());
        assert!(!accepts(json!(9_007_199_254_740_993_i64), json!({ "a": 9_007_199_254_740_992_i64 })));
    }

    #[test]
    fn null_is_absent_and_nothing_else_is() {
        let when = when(&[("/a", json!([null]))]);
        assert_eq!(when.refuses("{}"), None);
        assert_eq!(when.refuses(r#"{"a":null}"#), None);
        for value in ["0", "false", r#""""#] {
            assert_eq!(when.refuses(&format!(r#"{{"a":{value}}}"#)).unwrap(), format!("`/a` is {value}, not null"));
        }
    }

    #[test]
    fn pointers_lead_everywhere() {
        let data = json!({ "a/b": { "m~n": [10, 20] } }).to_string();
        assert_eq!(when(&[("/a~1b/m~0n/1", json!([20]))]).refuses(&data), None);
        assert_eq!(when(&[("", json!(["x"]))]).refuses("\"x\""), None);
        assert!(when(&[("", json!(["x"]))]).refuses("\"y\"").is_some());
        assert!(when(&[("/a", json!(["x"]))]).refuses("not json").is_some());
    }

    #[test]
    fn sentences_stay_short() {
        let values: Vec<Value> = (0..100).map(Value::from).collect();
        let when = when(&[("/a", Value::from(values))]);
        let sentence = when.refuses(&json!({ "a": "é".repeat(10_000) }).to_string()).unwrap();
        assert!(sentence.chars().count() < 200, "{sentence}");
        assert!(sentence.ends_with("6 or 7 or 92 more"), "{sentence}");
    }
}
