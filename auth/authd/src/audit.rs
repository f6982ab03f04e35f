//! The audit trail: one JSON object a line, a file a day, on disk before anybody is told.
//!
//! One thread writes. It takes what has queued up, and what is on its way ([`UnderWay`]), appends it, calls `fsync` once,
//! remembers how far each sidecar's spool has come, then answers; a moment later it puts that into the store. A crash before
//! that loses nothing and doubles nothing: on the next start the lines after the last checkpoint are read again, and each line
//! of a sidecar says where in its spool it was.
//!
//! Events of changes that authd makes come out of the store, where they are committed with the change ([`AuditLog::owe`]). The
//! thread writes them before whatever else there is to write, and only then has the store let go of them; what a crash left
//! there is written at the next start, but for the lines that are in the trail. To find those it reads no more than it reads
//! anyway: a checkpoint is a commit, and takes along what the store is to let go of, so the lines of all that is left there
//! lie behind it.

mod file;
mod lines;
mod owed;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use auth::clock::{Clock, rfc3339_millis};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    store::{Op, Store, StoreError},
    under_way::UnderWay,
};

pub(crate) use file::Query;
pub(crate) use lines::{Common, Lines, SpoolId};
use owed::Owed;

/// Batches that may wait for the writer; more make their senders wait.
const QUEUE: usize = 256;
/// The longest line that is taken, in bytes: what a sidecar cuts queries to, with room for the rest.
pub(crate) const MAX_LINE: usize = 256 * 1024;

/// First words of the events that authd alone may say: what happened at authd. A sidecar that was broken into must not be
/// able to write logins, certificates or locks into the history.
const OWN: [&str; 14] = [
    "auth_preference",
    "cert",
    "cert_authority",
    "instance",
    "join_token",
    "lock",
    "mfa",
    "mfa_auth_challenge",
    "recovery_code",
    "reset_password_token",
    "role",
    "session.recording",
    "session.upload",
    "user",
];

/// Is this an event that authd alone may say?
pub(crate) fn is_own(event: &str) -> bool {
    OWN.iter().any(|own| event.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Why an event is not in the trail.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Writing or reading the file failed.
    #[error("audit log failed")]
    File(#[source] std::io::Error),
    /// The store failed.
    #[error("audit position could not be kept")]
    Store(#[source] StoreError),
    /// The writer is gone.
    #[error("the audit log is closed")]
    Closed,
}

struct Append {
    lines: Lines,
    done: oneshot::Sender<Result<(), AuditError>>,
}

/// The trail. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AuditLog {
    queue: mpsc::Sender<Append>,
    directory: Arc<PathBuf>,
    clock: Clock,
    cluster: Arc<str>,
    under_way: UnderWay,
}

impl AuditLog {
    /// Opens the trail in a directory: mends the end of the newest file, and reads on from the checkpoint.
    pub(crate) async fn open(
        directory: &Path,
        store: Arc<dyn Store>,
        clock: Clock,
        cluster: &str,
        under_way: UnderWay,
    ) -> Result<Self, AuditError> {
        let writer = file::Writer::open(directory, store, clock.clone()).await?;
        let (queue, commands) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn({
                let under_way = under_way.clone();
                move || writer.run(commands, &runtime, &under_way)
            })
            .map_err(AuditError::File)?;
        Ok(Self {
            queue,
            directory: Arc::new(directory.to_owned()),
            clock,
            cluster: cluster.into(),
            under_way,
        })
    }

    /// Writes one event of authd's own. `fields` hold `event`, `code` and whatever belongs to it.
    pub(crate) async fn emit(&self, fields: Value) -> Result<(), AuditError> {
        self.emit_all(vec![fields]).await
    }

    /// Writes several of them, in this order, by one append; none, without asking the writer.
    pub(crate) async fn emit_all(&self, events: Vec<Value>) -> Result<(), AuditError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut own = Lines::own();
        events.into_iter().for_each(|fields| own.push_own(self.stamp(fields)));
        self.append(own).await
    }

    /// One event of authd's own, whole, as of now.
    fn stamp(&self, fields: Value) -> Map<String, Value> {
        let Value::Object(mut event) = fields else { return Map::new() };
        debug_assert!(event.get("event").and_then(Value::as_str).is_some_and(is_own), "{event:?}");
        event.insert("uid".into(), Uuid::new_v4().to_string().into());
        event.insert("time".into(), rfc3339_millis(self.clock.now()).into());
        event.insert(lines::CLUSTER_FIELD.into(), (*self.cluster).into());
        event.entry("ei").or_insert_with(|| 0.into());
        event
    }

    /// Can an event be written now? Asked before a change that takes events along.
    ///
    /// # Errors
    /// No, or there is no room for one: the change must not be made.
    pub(crate) async fn ready(&self) -> Result<(), AuditError> {
        self.append(Lines::own()).await
    }

    /// The operation with which a change that is made now takes its events along. Once it is committed they will be in the
    /// trail, after those of earlier commits, before all that is told by whoever was told of the change, and each of them once.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub(crate) fn owe(&self, events: Vec<Value>) -> Result<Op, StoreError> {
        let events: Vec<_> = events.into_iter().map(|fields| self.stamp(fields)).collect();
        Owed::op(&events)
    }

    /// Waits until what is owed up to now is in the trail. Where it cannot be written it stays owed, here and in the store, and
    /// nothing else is written before it.
    pub(crate) async fn settled(&self) {
        if self.append(Lines::own()).await.is_err() {
            tracing::error!("a change is made whose events are not in the audit trail yet");
        }
    }

    /// Writes events of a sidecar, in their order; those that are there already are dropped. Answers once they are on disk.
    pub(crate) async fn append(&self, lines: Lines) -> Result<(), AuditError> {
        let (done, answer) = oneshot::channel();
        let place = self.queue.reserve().await.map_err(|_| AuditError::Closed)?;
        // Until it is awake: what a call gets from here is the end of its way.
        let _waiting = self.under_way.waits(|waiting| {
            place.send(Append { lines, done });
            waiting
        });
        answer.await.map_err(|_| AuditError::Closed)?
    }

    /// The newest events that match, oldest first.
    pub(crate) async fn list(&self, query: Query) -> Result<Vec<String>, AuditError> {
        let directory = Arc::clone(&self.directory);
        let task = tokio::task::spawn_blocking(move || file::list(&directory, &query));
        task.await.map_err(|_| AuditError::Closed)?.map_err(AuditError::File)
    }
}

/// Adds a field to an event under construction.
pub(crate) fn set(event: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(fields) = event.as_object_mut() {
        fields.insert(field.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests;
