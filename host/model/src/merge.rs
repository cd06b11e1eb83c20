//! How an item that is found again is merged.
//!
//! Owns the rules that merge new data into known data. They are pure functions of two JSON texts, so merging twice
//! gives the same as once. Never decides whether an item was found before: the tracker compares hashes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::json::{self, Kind, elements, fields, order};
use crate::number;

/// What becomes of an item that is found again.
#[derive(Clone, Debug, PartialEq)]
pub struct Rediscovery {
    /// How its data is merged.
    pub merge: Merge,
    /// How many sightings are remembered for each item; 0 for none.
    pub sightings_max: u32,
    /// What new data means for results that were made from the old.
    pub on_update: OnUpdate,
}

impl Default for Rediscovery {
    fn default() -> Self {
        Self { merge: Merge::default(), sightings_max: 16, on_update: OnUpdate::default() }
    }
}

/// How the data of an item that is found again is merged into the known data.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Merge {
    /// New data replaces the known data.
    #[default]
    Replace,
    /// Field by field.
    Fields(MergePolicy),
    /// The component that finds items merges them.
    Handler,
}

/// What new data means for results that were made from the old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUpdate {
    /// They stay and are stale, until a person decides.
    #[default]
    Stale,
    /// The stages that need no other stage run again, and then the stages whose inputs this changes. For a cancelled
    /// item, this happens once a person restores it.
    Reprocess,
}

/// How the fields of an item's data are merged. `Last` applies to a field that is not named.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MergePolicy {
    /// By the field's name.
    pub fields: BTreeMap<String, MergeRule>,
}

/// How one field is merged. Null and absent are empty, and nothing else is: 0, false and "" are values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeRule {
    /// The value of the first sighting, even if that was empty.
    First,
    /// The value of the last sighting in which it was not empty.
    Last,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The sum over different sightings.
    Sum,
    /// All elements, each once, sorted.
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
    fn merge<'a>(self, existing: Option<&'a str>, incoming: Option<&'a str>, again: bool) -> Option<Cow<'a, str>> {
        let kept = |value: Option<&'a str>| value.map(Cow::Borrowed);
        let (one, other) = match (given(existing), given(incoming)) {
            _ if self == Self::First => return kept(existing),
            (Some(one), Some(other)) => (one, other),
            (None, None) if matches!(self, Self::Max | Self::Min | Self::Sum | Self::Union) => {
                // Null if any sighting says null, so that the order of sightings does not matter.
                return kept(existing.or(incoming));
            }
            (None, None) => return kept(existing),
            (one, other) => return kept(one.or(other)),
        };
        let merged = match self {
            Self::First | Self::Coalesce => one.into(),
            Self::Last => other.into(),
            Self::Max => if order(one, other).is_lt() { other } else { one }.into(),
            Self::Min => if order(one, other).is_gt() { other } else { one }.into(),
            Self::Sum => sum(one, other, again),
            Self::Union | Self::AppendUnique if order(one, other).is_eq() => one.into(),
            Self::Union => {
                let mut all = listed(one);
                all.extend(listed(other));
                all.sort_by(|one, other| order(one, other));
                all.dedup_by(|one, other| order(one, other).is_eq());
                list(&all)
            }
            Self::AppendUnique => {
                let mut all: Vec<&str> = Vec::new();
                for value in listed(one).into_iter().chain(listed(other)) {
                    if !all.iter().any(|known| order(known, value).is_eq()) {
                        all.push(value);
                    }
                }
                list(&all)
            }
        };
        Some(merged)
    }
}

impl MergePolicy {
    /// Merges new data into known data; both are JSON texts. `again` says that this very data was merged before, so
    /// that it adds nothing to a sum. Returns the merged text with its fields sorted, or none if nothing changes. A
    /// field keeps its bytes unless its rule computes a new value. If either text is no object, the new data replaces
    /// the known data.
    pub fn merge(&self, existing: &str, incoming: &str, again: bool) -> Option<String> {
        let (Some(old), Some(new)) = (fields(existing), fields(incoming)) else {
            return order(existing, incoming).is_ne().then(|| incoming.to_owned());
        };
        let mut merged = String::with_capacity(existing.len() + incoming.len());
        let mut changes = false;
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let rule = self.fields.get(name).copied().unwrap_or(MergeRule::Last);
            let before = old.get(name).copied();
            let Some(value) = rule.merge(before, new.get(name).copied(), again) else { continue };
            // A value that only looks different stays as it is known.
            let same = before.filter(|before| order(before, &value).is_eq());
            changes |= same.is_none();
            merged.push(if merged.is_empty() { '{' } else { ',' });
            merged.push_str(&json::quoted(name));
            merged.push(':');
            merged.push_str(same.unwrap_or(&value));
        }
        changes.then(|| merged + "}")
    }
}

/// A value that is not empty.
fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|value| Kind::of(value) != Kind::Null)
}

/// The elements of a list; any other value counts as a list of one.
fn listed(value: &str) -> Vec<&str> {
    elements(value).unwrap_or_else(|| vec![value])
}

fn list(values: &[&str]) -> Cow<'static, str> {
    format!("[{}]", values.join(",")).into()
}

fn sum<'a>(one: &'a str, other: &'a str, again: bool) -> Cow<'a, str> {
    match (Kind::of(one), Kind::of(other)) {
        (Kind::Number, Kind::Number) if again => one.into(),
        // If the sum is too large for a number, the known value stays.
        (Kind::Number, Kind::Number) => number::sum(one, other).map_or(one.into(), Cow::Owned),
        (_, Kind::Number) => other.into(),
        _ => one.into(),
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
