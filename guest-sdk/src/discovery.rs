//! Finding items: the trait, and how a page is made.
//! Owns the way from serde types to items.
//! Never remembers a page: where the next one starts is in the cursor alone.

use serde::ser::Serialize;

pub use crate::bindings::base::gristmill::handler::types::{DiscoverRequest, NewItem, Page};

use crate::failure::Failure;
use crate::stages::json;

/// A handler that finds items.
pub trait Discovery {
    /// Returns one page of items. It may be asked for the same page again.
    ///
    /// # Errors
    /// A [`Failure`] that says whether this page is worth asking for again.
    fn discover(request: &DiscoverRequest) -> Result<Page, Failure>;
}

impl NewItem {
    /// An item with its data. The key is unique in the job, 1 to 1024 bytes; the same key again is the same item.
    ///
    /// # Errors
    /// If `data` cannot be written as JSON.
    pub fn new(key: impl Into<String>, data: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self { key: key.into(), data: json(data)?, priority: None })
    }

    /// The same item, sooner (above 0) or later (below) than others.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }
}

impl Page {
    /// The last page.
    pub fn last(items: Vec<NewItem>) -> Self {
        Self { items, next: None, meta: Vec::new() }
    }

    /// A page that is followed by another, which starts at `cursor`.
    pub fn before(cursor: impl Into<String>, items: Vec<NewItem>) -> Self {
        Self { items, next: Some(cursor.into()), meta: Vec::new() }
    }
}

impl DiscoverRequest {
    /// A request for the first page. For tests.
    pub fn first(limit: u32) -> Self {
        Self { job: "test".to_owned(), cursor: None, limit, meta: Vec::new() }
    }
}
