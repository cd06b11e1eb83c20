//! The job file as JSON Schema, for editors.
//!
//! Owns how each shape is written as JSON Schema (draft 2020-12). Never names a key: they come from `keys`, with their
//! documentation and defaults.

use serde_json::{Map, Value as Json, json};

use crate::keys::{EXTENSION, JOB};
use crate::shape::{Format, Key, Shape};
use crate::units::{DURATION_PATTERN, SIZE_PATTERN};

/// A JSON Schema of the job file. It also has the keys that are not supported yet; their documentation says so.
pub fn schema() -> Json {
    let Json::Object(body) = of_shape(&JOB) else { unreachable!("a table is an object") };
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("gristmill job"));
    schema.extend(body);
    schema.insert("patternProperties".to_owned(), json!({ format!("^{EXTENSION}"): {} }));
    Json::Object(schema)
}

fn of_shape(shape: &Shape) -> Json {
    match shape {
        Shape::Any => json!({}),
        Shape::Bool => or_reference(&json!({ "type": "boolean" })),
        // A reference is a text, which already fits here.
        Shape::Scalar => json!({ "type": ["string", "number", "boolean", "null"] }),
        Shape::Text(format) => {
            json!({ "type": "string", "pattern": pattern(format.pattern), "examples": [format.example] })
        }
        Shape::Duration { .. } => json!({ "type": "string", "pattern": pattern(DURATION_PATTERN) }),
        Shape::Size { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": pattern(SIZE_PATTERN) },
        ] }),
        Shape::Whole { min, max } => or_reference(&json!({ "type": "integer", "minimum": min, "maximum": max })),
        Shape::Real { min, max } => or_reference(&json!({ "type": "number", "minimum": min, "maximum": max })),
        Shape::Choice(choices) => or_reference(&json!({ "enum": choices })),
        Shape::List(element) => json!({ "type": "array", "items": of_shape(element) }),
        Shape::Table(keys) => of_table(keys),
        Shape::Names { key, value, one } => of_names(key, value, *one),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(of_shape).collect::<Vec<_>>() }),
    }
}

fn of_table(keys: &[Key]) -> Json {
    let properties: Map<String, Json> = keys.iter().map(|key| (key.name.to_owned(), of_key(key))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn of_names(key: &Format, value: &Shape, one: bool) -> Json {
    let mut schema = json!({
        "type": "object",
        "propertyNames": { "pattern": format!("^({})$", key.pattern) },
        "additionalProperties": of_shape(value),
    });
    if one {
        schema["minProperties"] = json!(1);
        schema["maxProperties"] = json!(1);
    }
    schema
}

fn of_key(key: &Key) -> Json {
    let mut schema = of_shape(&key.shape);
    let soon = if key.later { " Not supported yet." } else { "" };
    schema["description"] = json!(format!("{}{soon}", key.doc));
    if let Some(default) = key.default {
        schema["default"] = default();
    }
    schema
}

/// Text with a reference to a parameter or to the environment: its value is checked when the job is loaded.
const REFERENCE: &str = "\\$\\{";

fn or_reference(schema: &Json) -> Json {
    json!({ "anyOf": [schema, { "type": "string", "pattern": REFERENCE }] })
}

fn pattern(whole: &str) -> String {
    format!("^({whole})$|{REFERENCE}")
}
