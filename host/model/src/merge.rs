//! What becomes of an item that is found again.
//!
//! Owns the rules by which new data joins what is known. A pure function of two JSON texts, so that merging twice is
//! merging once. Never decides whether an item was found before: the tracker compares hashes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

/// What becomes of an item that is found again.
#[derive(Clone, Debug, PartialEq)]
pub struct Rediscovery {
    /// How its data is merged.
    pub merge: Merge,
    /// How many sightings are remembered an item; 0: none.
    pub sightings_max: u32,
    /// What new data means for results that were made from the old.
    pub on_update: OnUpdate,
}

impl Default for Rediscovery {
    fn default() -> Self {
        Self { merge: Merge::default(), sightings_max: 16, on_update: OnUpdate::default() }
    }
}

/// How the data of an item that is found again joins what is known.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Merge {
    /// It takes its place.
    #[default]
    Replace,
    /// Field by field.
    Fields(MergePolicy),
    /// The component that finds items says how.
    Handler,
}

/// What new data means for results that were made from the old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUpdate {
    /// They stay, and are stale: a person decides.
    #[default]
    Stale,
    /// The stages that are given the item's data alone run again, and what depends on what they change; of a cancelled
    /// item once it is taken up again.
    Reprocess,
}

/// How the fields of an item's data are merged. A field that is not named is `Last`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MergePolicy {
    /// By the field's name.
    pub fields: BTreeMap<String, MergeRule>,
}

/// How one field is merged. Null and absent are empty, and nothing else is: 0, false and "" are values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeRule {
    /// What the first sighting said, also if it said nothing.
    First,
    /// What the last sighting that said something said.
    Last,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The sum over different sightings.
    Sum,
    /// All elements, each once, in an order of their own.
    Union,
    /// All elements, each once, in the order in which they came.
    AppendUnique,
    /// The first that is not empty.
    Coalesce,
}

impl MergeRule {
    /// Every rule.
    pub const ALL: [Self; 8] =
        [Self::First, Self::Last, Self::Max, Self::Min, Self::Sum, Self::Union, Self::AppendUnique, Self::Coalesce];

    /// The name that job files and people use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
            Self::Max => "max",
            Self::Min => "min",
            Self::Sum => "sum",
            Self::Union => "union",
            Self::AppendUnique => "append-unique",
            Self::Coalesce => "coalesce",
        }
    }

    /// The rule of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// What a field becomes; none: it is absent.
    fn merge(self, existing: Option<&Value>, incoming: Option<&Value>, again: bool) -> Option<Value> {
        let (one, other) = match (given(existing), given(incoming)) {
            _ if self == Self::First => return existing.cloned(),
            (Some(one), Some(other)) => (one, other),
            (None, None) if matches!(self, Self::Max | Self::Min | Self::Sum | Self::Union) => {
                // Null, if any sighting says null, so that it does not matter which one came first.
                return existing.or(incoming).cloned();
            }
            (None, None) => return existing.cloned(),
            (one, other) => return one.or(other).cloned(),
        };
        let merged = match self {
            Self::First | Self::Coalesce => one.clone(),
            Self::Last => other.clone(),
            Self::Max => if order(one, other).is_lt() { other } else { one }.clone(),
            Self::Min => if order(one, other).is_gt() { other } else { one }.clone(),
            Self::Sum => sum(one, other, again),
            Self::Union | Self::AppendUnique if one == other => one.clone(),
            Self::Union => {
                let mut all = elements(one);
                all.extend(elements(other));
                all.sort_by(|one, other| order(one, other));
                all.dedup();
                Value::Array(all.into_iter().cloned().collect())
            }
            Self::AppendUnique => {
                let mut all: Vec<&Value> = Vec::new();
                for value in elements(one).into_iter().chain(elements(other)) {
                    if !all.contains(&value) {
                        all.push(value);
                    }
                }
                Value::Array(all.into_iter().cloned().collect())
            }
        };
        Some(merged)
    }
}

impl MergePolicy {
    /// Merges what was found into what is known, JSON texts both. `again`: it was found with just this data before, so
    /// that it adds nothing to a sum. Returns the merged text with its keys sorted; none: nothing changes. Where either
    /// is not an object, what was found takes the place of what was known.
    pub fn merge(&self, existing: &str, incoming: &str, again: bool) -> Option<String> {
        let Ok(new) = serde_json::from_str::<Value>(incoming) else {
            return (existing != incoming).then(|| incoming.to_owned());
        };
        let old = serde_json::from_str::<Value>(existing).ok();
        let merged = match (&old, new) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(self.merge_objects(old, &new, again)),
            (_, new) => new,
        };
        (old.as_ref() != Some(&merged)).then(|| canonical(&merged))
    }

    fn merge_objects(&self, old: &Map<String, Value>, new: &Map<String, Value>, again: bool) -> Map<String, Value> {
        let mut merged = Map::new();
        for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
            let rule = self.fields.get(name).copied().unwrap_or(MergeRule::Last);
            if let Some(value) = rule.merge(old.get(name), new.get(name), again) {
                merged.insert(name.clone(), value);
            }
        }
        merged
    }
}

/// A value that is not empty.
fn given(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

/// The text with sorted keys, whatever order the map keeps.
fn canonical(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    value.to_string()
}

/// The elements of a list; a value that is none is a list of one.
fn elements(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    }
}

fn sum(one: &Value, other: &Value, again: bool) -> Value {
    let (Value::Number(a), Value::Number(b)) = (one, other) else {
        return if other.is_number() { other } else { one }.clone();
    };
    if again {
        return one.clone();
    }
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64())
        && let Some(sum) = a.checked_add(b)
    {
        return Value::from(sum);
    }
    // Beyond the largest number there is none: what was known stays.
    let sum = a.as_f64().zip(b.as_f64()).and_then(|(a, b)| Number::from_f64(a + b));
    sum.map_or_else(|| one.clone(), Value::Number)
}

/// A total order over values. What is equal in it has the same text.
fn order(one: &Value, other: &Value) -> Ordering {
    const fn rank(value: &Value) -> u8 {
        match value {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::String(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
        }
    }
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::Number(one), Value::Number(other)) => order_numbers(one, other),
        (Value::String(one), Value::String(other)) => one.as_bytes().cmp(other.as_bytes()),
        _ => rank(one).cmp(&rank(other)),
    }
    // 1 and 1.0 are the same number and not the same text.
    .then_with(|| canonical(one).cmp(&canonical(other)))
}

fn order_numbers(one: &Number, other: &Number) -> Ordering {
    // A double cannot tell large whole numbers apart.
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(one), None) => order_mixed(one, other),
        (None, Some(other)) => order_mixed(other, one).reverse(),
        (None, None) => one.as_f64().unwrap_or_default().total_cmp(&other.as_f64().unwrap_or_default()),
    }
}

/// Compares a whole number of at most 64 bits with another number.
fn order_mixed(whole: i128, real: &Number) -> Ordering {
    const BEYOND_64_BITS: f64 = 1e30;
    let real = real.as_f64().unwrap_or_default();
    if real.abs() >= BEYOND_64_BITS {
        return if real > 0.0 { Ordering::Less } else { Ordering::Greater };
    }
    whole.cmp(&(real.trunc() as i128)).then_with(|| 0.0.partial_cmp(&real.fract()).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
