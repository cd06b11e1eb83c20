//! Items: what discovery brings, and what becomes of it.

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
    /// What becomes of those that are known.
    pub rediscovery: Rediscovery,
    /// When.
    pub now: Timestamp,
}

/// Who found items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A page of discovery. It is committed together with the cursor behind it.
    Page {
        /// What the page was asked for with.
        cursor: Option<String>,
        /// Where the next page starts; none: the pass is over.
        next: Option<String>,
    },
    /// Somebody who is not discovery, by name: 1 to 64 bytes. The cursor stays where it is.
    Named(String),
}

impl Source {
    /// The name that is kept with a sighting.
    pub fn name(&self) -> &str {
        match self {
            Self::Page { .. } => "discover",
            Self::Named(name) => name,
        }
    }

    /// The cursor that is kept with a sighting.
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
    /// What a component merged it into, where the job asks for that and the item is known with other data.
    pub merged: Option<Merged>,
}

/// What a component made of known and new data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// JSON.
    pub data: String,
    /// The hash of the known data that it was made from. If that is no longer what is known, the whole batch is
    /// refused (`Error::Overtaken`), and nothing is written.
    pub replaces: Digest,
}

/// What is known of an item that was found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownItem {
    /// The item's key.
    pub key: String,
    /// Its data.
    pub data: String,
    /// The hash of its data.
    pub data_hash: Digest,
    /// The hash of the data with which it was seen last. Equal to what is found now: nothing is new.
    pub seen_hash: Digest,
}

/// That an item was seen with certain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who saw it.
    pub source: String,
    /// On which page.
    pub cursor: Option<String>,
    /// When it was last seen so.
    pub at: Timestamp,
    /// The hash of what was seen.
    pub data_hash: Digest,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upserted {
    /// Items that were not known.
    pub new: u64,
    /// Items whose data or priority differs now.
    pub changed: u64,
    /// Items that cost no write.
    pub unchanged: u64,
}
