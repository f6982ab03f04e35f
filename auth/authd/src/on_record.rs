//! A change, and what the audit trail says of it.
//!
//! The order is: the trail can be written; the change; its events. Events first would tell of changes that then conflict with
//! others and are not made, and whoever judges receipts by the trail takes `mfa.delete` at its word. Nothing comes between
//! the change and its events but the end of the process: all that an event says was made up before, and no caller can
//! stop a call (`server::calls`).

use serde_json::Value;

use crate::{
    cluster::Cluster,
    error::Refused,
    store::{Op, StoreError},
};

impl Cluster {
    /// Makes a change that is told of by these events; where somebody else's came first, there is the refusal instead.
    ///
    /// # Errors
    /// [`Refused::Audit`] where nothing was changed because the trail cannot be written, or where it could not be written all
    /// of a sudden.
    pub(crate) async fn commit_on_record(
        &self,
        ops: Vec<Op>,
        events: Vec<Value>,
        conflict: Refused,
    ) -> Result<(), Refused> {
        self.audit.ready().await?;
        match self.store.commit(ops).await {
            Ok(_) => Ok(self.audit.emit_all(events).await?),
            Err(StoreError::Conflict { .. }) => Err(conflict),
            Err(other) => Err(other.into()),
        }
    }
}
