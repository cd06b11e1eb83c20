//! What becomes of an item that is found again.
//!
//! Owns the rules by which new data joins what is known. A pure function of two JSON texts, so that merging twice is
//! merging once. Never decides whether an item was found before: the tracker compares hashes.

use std::collections::BTreeMap;

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
    /// The stages that are given the item's data alone run again, and what depends on what they change.
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
}
