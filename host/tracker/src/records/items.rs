//! Items that discovery finds, and what the tracker does with them.

use gristmill_model::{Digest, JobId, Rediscovery, Timestamp};

/// Items that were found.
#[derive(Clone, Debug)]
pub struct Upsert {
    /// The job.
    pub job: JobId,
    /// The items. A key may come more than once: each is a sighting, in this order.
    pub items: Vec<NewItem>,
    /// Who found them.
    pub source: Source,
    /// How known items are merged.
    pub rediscovery: Rediscovery,
    /// When.
    pub now: Timestamp,
}

/// Who found items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A page of discovery. It is committed together with the next cursor.
    Page {
        /// The cursor that the page was asked for with.
        cursor: Option<String>,
        /// The cursor of the next page; none if the pass is over.
        next: Option<String>,
    },
    /// Another source, by its name of 1 to 64 bytes. The job's cursor does not change.
    Named(String),
}

impl Source {
    /// The name that a sighting stores.
    pub fn name(&self) -> &str {
        match self {
            Self::Page { .. } => "discover",
            Self::Named(name) => name,
        }
    }

    /// The cursor that a sighting stores.
    pub fn cursor(&self) -> Option<&str> {
        match self {
            Self::Page { cursor, .. } => cursor.as_deref(),
            Self::Named(_) => None,
        }
    }
}

/// A discovered item.
#[derive(Clone, Debug)]
pub struct NewItem {
    /// Unique in its job.
    pub key: String,
    /// JSON.
    pub data: String,
    /// The hash of `data`.
    pub data_hash: Digest,
    /// Higher runs sooner.
    pub priority: i32,
    /// The data that a component merged it into, if the job asks for that and the item is known with other data.
    pub merged: Option<Merged>,
}

/// The result of a component's merge of known and new data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// JSON.
    pub data: String,
    /// The hash of the known data that was merged. If the known data is different by now, the whole batch is refused
    /// (`Error::Overtaken`), and nothing is written.
    pub replaces: Digest,
}

/// The known data of an item that was found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownItem {
    /// The item's key.
    pub key: String,
    /// Its data.
    pub data: String,
    /// The hash of its data.
    pub data_hash: Digest,
    /// The hash of the data with which it was last found. If the new hash is equal, nothing is new.
    pub seen_hash: Digest,
}

/// A sighting: the item was found with certain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who found it.
    pub source: String,
    /// The cursor of the page.
    pub cursor: Option<String>,
    /// When it was last found with this data.
    pub at: Timestamp,
    /// The hash of that data.
    pub data_hash: Digest,
}

/// The result of recording a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upserted {
    /// Items that were not known.
    pub new: u64,
    /// Items whose data or priority differs now.
    pub changed: u64,
    /// Items that cost no write.
    pub unchanged: u64,
}
