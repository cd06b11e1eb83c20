//! Events of many items at once.
//!
//! Owns their one statement. Never decides what is worth noting.

use gristmill_model::{ItemId, JobId, OperationId};
use serde_json::Value;

use super::fail::Fail;
use super::tx::Tx;

const NOTE: &str = "INSERT INTO events (at, kind, job_id, item_id, operation_id, data)
    SELECT $1, $2, $3, item, $4, data FROM unnest($5::bigint[], $6::text[]) WITH ORDINALITY AS u (item, data, place)
    ORDER BY place";

/// Events of one kind, in the order in which they came.
#[derive(Default)]
pub(super) struct Noted {
    items: Vec<i64>,
    data: Vec<String>,
}

impl Noted {
    pub(super) fn push(&mut self, item: ItemId, data: &Value) {
        self.items.push(item.0);
        self.data.push(data.to_string());
    }

    pub(super) async fn write(
        &self,
        tx: &Tx<'_>,
        kind: &str,
        job: JobId,
        operation: Option<OperationId>,
    ) -> Result<(), Fail> {
        if !self.items.is_empty() {
            let operation = operation.map(|id| id.0);
            tx.execute(NOTE, &[&tx.now().0, &kind, &job.0, &operation, &self.items, &self.data]).await?;
        }
        Ok(())
    }
}
