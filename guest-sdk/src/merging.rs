//! Merging an item's data when discovery finds it again: the trait, and typed access to both versions.
//! Owns nothing beyond the way from JSON to serde types.
//! Never calls the host: a merge must be a pure function.

use serde::de::Deserialize;

pub use crate::bindings::base::gristmill::handler::types::MergeRequest;

use crate::failure::{Failure, OrFail};
use crate::stages::Json;

/// A handler that merges two versions of one item's data.
pub trait Merging {
    /// Returns the merged data. Merging the same thing twice must give the same as once.
    ///
    /// [`Json::of`] makes it of a value. A `String` is taken for JSON text as it stands.
    ///
    /// # Errors
    /// A [`Failure`]: discovery of this page then fails.
    fn merge(request: &MergeRequest) -> Result<impl Into<Json>, Failure>;
}

/// Typed views of the raw fields.
impl MergeRequest {
    /// What the host holds.
    ///
    /// # Errors
    /// If the data is no `T`.
    pub fn existing<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.existing).or_permanent("existing data")
    }

    /// What discovery found now.
    ///
    /// # Errors
    /// If the data is no `T`.
    pub fn incoming<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.incoming).or_permanent("incoming data")
    }
}
