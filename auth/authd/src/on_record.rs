//! A change and what the audit trail says of it: one commit.
//!
//! The order is: the trail can be written; the change, and its events with it; the events in the trail. Events first would tell
//! of changes that then conflict with others and are not made, and whoever judges receipts by the trail takes `mfa.delete` at
//! its word. Between the last two the process may end, or the disk fill up: the store has the events then, with the time of the
//! change, and lets go of them only once they are on disk in the trail (`audit`). So a change that is made is told of once,
//! whenever that is, and in the order of changes.
//!
//! Elsewhere events need no commit of theirs. Those of what is given (certificates, cookies) and of what is refused are on disk
//! before anybody has the answer: where the process ends before that, nothing was given, and what is left is a challenge that is
//! spent, an attempt that counts, or a browser's session whose cookie nobody has.

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
    /// [`Refused::Audit`] where nothing was changed because the trail cannot be written. Where that begins just after the change,
    /// the change stands: its events are in the store until they can be written.
    pub(crate) async fn commit_on_record(
        &self,
        mut ops: Vec<Op>,
        events: Vec<Value>,
        conflict: Refused,
    ) -> Result<(), Refused> {
        self.audit.ready().await?;
        ops.push(self.audit.owe(events)?);
        match self.store.commit(ops).await {
            Ok(_) => {
                self.audit.settled().await;
                Ok(())
            }
            Err(StoreError::Conflict { .. }) => Err(conflict),
            Err(other) => Err(other.into()),
        }
    }
}

#[cfg(test)]
mod tests;
