//! The JSON Schema against the reader: they agree on every fixture, on every key and on every default.

use crate::{fixtures, parse_bare};
use gristmill_config::schema;
use gristmill_model::{DiscoverTuning, StageTuning};
use regex::Regex;
use serde_json::{Map, Value as Json, json};

/// Enough of JSON Schema to validate with what `schema` says. A keyword that it does not know is a failure.
fn is_valid(value: &Json, schema: &Json) -> bool {
    schema.as_object().unwrap().iter().all(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "title" | "description" | "default" | "examples" => true,
        "type" => match rule.as_array() {
            Some(types) => types.iter().any(|name| has_type(value, name.as_str().unwrap())),
            None => has_type(value, rule.as_str().unwrap()),
        },
        "enum" => rule.as_array().unwrap().contains(value),
        "anyOf" => rule.as_array().unwrap().iter().any(|schema| is_valid(value, schema)),
        "pattern" => value.as_str().is_none_or(|text| matches(rule, text)),
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
        "items" => value.as_array().is_none_or(|list| list.iter().all(|element| is_valid(element, rule))),
        "required" => value
            .as_object()
            .is_none_or(|map| rule.as_array().unwrap().iter().all(|name| map.contains_key(name.as_str().unwrap()))),
        "properties" => value.as_object().is_none_or(|map| {
            map.iter().all(|(name, value)| rule.get(name).is_none_or(|schema| is_valid(value, schema)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|map| {
            let known = schema.get("properties").and_then(Json::as_object);
            let patterns = schema.get("patternProperties").and_then(Json::as_object);
            let mut others = map.iter().filter(|(name, _)| {
                known.is_none_or(|known| !known.contains_key(*name))
                    && !patterns.into_iter().flatten().any(|(pattern, _)| matches(&json!(pattern), name))
            });
            others.all(|(_, value)| *rule != Json::Bool(false) && is_valid(value, rule))
        }),
        "patternProperties" => value.as_object().is_none_or(|map| {
            let mut rules = rule.as_object().unwrap().iter();
            rules.all(|(pattern, rule)| {
                map.iter().all(|(name, value)| !matches(&json!(pattern), name) || is_valid(value, rule))
            })
        }),
        "propertyNames" => value.as_object().is_none_or(|map| map.keys().all(|name| matches(&rule["pattern"], name))),
        "minProperties" => value.as_object().is_none_or(|map| map.len() as u64 >= rule.as_u64().unwrap()),
        "maxProperties" => value.as_object().is_none_or(|map| map.len() as u64 <= rule.as_u64().unwrap()),
        other => panic!("{other}"),
    })
}

fn has_type(value: &Json, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    }
}

fn matches(pattern: &Json, text: &str) -> bool {
    Regex::new(pattern.as_str().unwrap()).unwrap().is_match(text)
}

#[test]
fn valid_fixtures_fit_the_schema() {
    for (path, text) in fixtures("valid") {
        assert!(is_valid(&json_of(&text).unwrap(), &schema()), "{}", path.display());
    }
}

/// Faults that no schema sees: between several values, in what references become, in a range that is written with a
/// unit, in what a pattern cannot say, or in what is not supported yet.
const BEYOND: [&str; 23] = [
    "backoff-max-below-base",
    "deferral-age-zero",
    "duplicate-stage-name",
    "duration-of-nothing",
    "duration-too-long",
    "env-unset",
    "env-unterminated",
    "every-too-often",
    "guest-path-climbs",
    "handler-by-hash",
    "handler-from-registry",
    "host-path-without-home",
    "memory-",
    "missing-handler",
    "needs-",
    "no-stages",
    "output-too-large",
    "param-",
    "reference-",
    "too-many-stages",
    "unsupported-",
    "when-of-nothing",
    "wide-characters",
];

/// The file as an editor sees it; none if it is no YAML.
fn json_of(text: &str) -> Option<Json> {
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(text, options).ok()
}

#[test]
fn faults_of_shape_break_the_schema_and_others_do_not() {
    for (path, text) in fixtures("invalid") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let by_shape = ["needs-two-in-one", "unsupported-and-misshaped"].contains(&name);
        let beyond = BEYOND.iter().any(|beyond| name.starts_with(beyond)) && !by_shape;
        if let Some(value) = json_of(&text).filter(|_| !name.starts_with("bomb-")) {
            assert_eq!(is_valid(&value, &schema()), beyond, "{name}");
        }
    }
}

/// What is to come is refused for that alone: its shape is right.
#[test]
fn unsupported_keys_fit_the_schema() {
    for (path, text) in fixtures("invalid") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name.starts_with("unsupported-") && name != "unsupported-and-misshaped" {
            let report = parse_bare(&text).unwrap_err();
            assert!(
                report.problems.iter().all(|problem| problem.message.ends_with("is not supported yet")),
                "{report}"
            );
            assert!(is_valid(&json_of(&text).unwrap(), &schema()), "{name}");
        }
    }
}

/// The schemas of all keys, with their paths.
fn all_keys<'a>(schema: &'a Json, path: &str, found: &mut Vec<(String, &'a Json)>) {
    for (keyword, rule) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), rule) {
            ("properties", Json::Object(keys)) => {
                for (name, schema) in keys {
                    let path = format!("{path}/{name}");
                    all_keys(schema, &path, found);
                    found.push((path, schema));
                }
            }
            ("anyOf", Json::Array(schemas)) => schemas.iter().for_each(|schema| all_keys(schema, path, found)),
            ("items" | "additionalProperties", schema) => all_keys(schema, &format!("{path}/*"), found),
            _ => {}
        }
    }
}

#[test]
fn every_key_is_documented_and_has_a_fixture() {
    let schema = schema();
    let mut keys = Vec::new();
    all_keys(&schema, "", &mut keys);
    assert!(keys.len() > 60);
    let texts: Vec<String> = fixtures("valid").into_iter().chain(fixtures("invalid")).map(|(_, text)| text).collect();
    for (path, key) in keys {
        assert!(key["description"].as_str().is_some_and(|text| text.ends_with('.')), "{path}");
        let name = path.rsplit('/').next().unwrap();
        let used = Regex::new(&format!(r"(?m)(^|[ {{-]){name}:")).unwrap();
        assert!(texts.iter().any(|text| used.is_match(text)), "no fixture has {path}");
    }
}

/// Builds a mapping of all defaults that a schema documents.
fn defaults(schema: &Json) -> Json {
    let keys = schema["properties"].as_object().unwrap().iter();
    let values = keys
        .filter(|(_, key)| !key["description"].as_str().unwrap().ends_with("Not supported yet."))
        .filter_map(|(name, key)| match key.get("default") {
            Some(default) => Some((name.clone(), default.clone())),
            None if key.get("properties").is_some() => Some((name.clone(), defaults(key))),
            None => None,
        });
    Json::Object(values.collect::<Map<_, _>>())
}

#[test]
fn documented_defaults_are_the_models() {
    let schema = schema();
    let mut stage = defaults(&schema["properties"]["stages"]["items"]["anyOf"][1]);
    stage["name"] = json!("a");
    let mut discover = defaults(&schema["properties"]["discover"]);
    discover["handler"] = json!("a.wasm");
    assert_eq!(stage["retry"]["backoff"]["jitter"], json!("full"));
    let job = json!({ "version": 1, "job": "a", "discover": discover, "stages": [stage] });
    let job = parse_bare(&job.to_string()).unwrap();
    assert_eq!(job.tuning.discover, DiscoverTuning::default());
    assert_eq!(job.tuning.stages, [StageTuning::default()]);
    assert!(job.spec.stages[0].grants.is_pure());
}
