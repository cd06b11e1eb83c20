//! The stages of a job, as a backend reads them.
//!
//! Owns what is known about a stage of an item that has no row. Never reads a row.

use gristmill_model::{Bits, Counters, Digest, ItemStatus, StageId, State};

use crate::records::{ItemRow, ItemStageDetail};

/// A stage of a job's file.
pub struct Stage {
    /// Its number.
    pub id: StageId,
    /// As the job file names it.
    pub name: String,
    /// The mask of the stages that it needs.
    pub needs: u64,
    /// The number of its version.
    pub version: Option<i64>,
    /// That version.
    pub digest: Option<Digest>,
}

impl Stage {
    /// The stage of an item for which there is neither a result nor a queue row.
    pub fn untouched(&self, item: &ItemRow) -> ItemStageDetail {
        ItemStageDetail {
            name: self.name.clone(),
            state: if item.status == ItemStatus::Cancelled { State::Cancelled } else { State::Blocked },
            reason: None,
            due_at: None,
            settled_at: None,
            counters: Counters::default(),
            version: None,
            current: false,
            output: None,
            output_bytes: None,
            error: None,
            blocked_by: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// The names of the stages that it waits for.
    pub fn blocked_by(&self, item: &ItemRow, stages: &[Self]) -> Vec<String> {
        let usable = item.masks.fresh() & !item.masks.live;
        let name_of = |bit| stages.iter().find(|other| other.id.bit() == bit).map(|other| other.name.clone());
        Bits(self.needs & !usable).filter_map(name_of).collect()
    }
}
