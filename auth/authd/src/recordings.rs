//! Recordings of SSH sessions: taken from sidecars part by part, kept as files, shown to whom they belong.
//!
//! A file is the recording as the sidecar wrote it (asciicast v2). Beside it the store keeps whose it is, from which sidecar,
//! and how many of its bytes are acknowledged: those are on disk. What lies beyond them after a crash is cut off, and the
//! sidecar sends it again.

mod file;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use auth::{
    clock::{from_unix_millis, unix_millis},
    identity::{MAX_NAME_BYTES, TargetName, UserName},
    policy::TargetKind,
    proto,
};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};
use tonic::Status;
use uuid::Uuid;

use crate::{
    access::Standing,
    cluster::Cluster,
    error::Refused,
    join::SidecarRecord,
    keys,
    store::{self, Condition, Op, Stored},
};
use file::{RecordingFile, Took};

/// The largest recording: a screen that never rests, for a day.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// A sidecar that sends nothing for this long begins again.
const PART_DEADLINE: Duration = Duration::from_secs(30);
/// A reader that takes nothing for this long is gone.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of one message to a reader.
const CHUNK: usize = 64 * 1024;
/// Recordings of one listing, unless asked otherwise, and at most.
const LIST: usize = 100;
const MAX_LIST: usize = 1000;

/// Where recordings are, and which are being written just now.
#[derive(Clone)]
pub(crate) struct Recordings {
    directory: Arc<PathBuf>,
    busy: Arc<Mutex<HashSet<Uuid>>>,
}

impl Recordings {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory: Arc::new(directory), busy: Arc::default() }
    }

    /// The right to write one recording: nobody else does at the same time.
    fn turn(&self, session: Uuid) -> Result<Turn, Refused> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(session) {
            return Err(Refused::Busy("the recording"));
        }
        Ok(Turn { busy: Arc::clone(&self.busy), session })
    }

    fn directory(&self) -> &Path {
        &self.directory
    }
}

struct Turn {
    busy: Arc<Mutex<HashSet<Uuid>>>,
    session: Uuid,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.session);
    }
}

/// What the store keeps of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recording {
    session: Uuid,
    sidecar: Uuid,
    user: UserName,
    login: String,
    target: TargetName,
    started: SystemTime,
    finished: Option<SystemTime>,
    /// So many are on disk.
    acknowledged: u64,
}

impl Recording {
    fn new(session: Uuid, sidecar: Uuid, of: &proto::RecordingOf) -> Result<Self, Refused> {
        let bad =
            of.login.is_empty() || of.login.len() > MAX_NAME_BYTES || of.login.chars().any(char::is_control);
        if bad {
            return Err(Refused::field("of.login", "must have 1 to 255 bytes without control characters"));
        }
        Ok(Self {
            session,
            sidecar,
            user: UserName::new(of.user.as_str()).map_err(|e| Refused::field("of.user", e))?,
            login: of.login.clone(),
            target: TargetName::new(of.target_name.as_str())
                .map_err(|e| Refused::field("of.target_name", e))?,
            started: from_unix_millis(of.started)
                .ok_or_else(|| Refused::field("of.started", "is not a time"))?,
            finished: None,
            acknowledged: 0,
        })
    }

    fn is_same_session(&self, other: &Self) -> bool {
        (self.sidecar, &self.user, &self.login, &self.target, self.started)
            == (other.sidecar, &other.user, &other.login, &other.target, other.started)
    }

    fn to_proto(&self) -> proto::Recording {
        proto::Recording {
            session_id: self.session.to_string(),
            user: self.user.to_string(),
            login: self.login.clone(),
            target_name: self.target.to_string(),
            started: unix_millis(self.started),
            finished: self.finished.map_or(0, unix_millis),
            bytes: self.acknowledged,
        }
    }

    fn answer(&self) -> proto::UploadRecordingResponse {
        proto::UploadRecordingResponse { acknowledged: self.acknowledged, finished: self.finished.is_some() }
    }
}

/// Who may see which recordings.
struct Reader<'a> {
    user: &'a UserName,
    /// Recordings of an earlier account of the same name are not theirs.
    since: SystemTime,
    /// By the rules of their roles.
    all: bool,
}

impl Reader<'_> {
    fn may_see(&self, recording: &Recording) -> bool {
        self.all || (recording.user == *self.user && recording.started >= self.since)
    }
}

impl Cluster {
    /// Takes what a sidecar sends of one recording, and answers once it is on disk.
    pub(crate) async fn take_recording(
        &self,
        sidecar: Uuid,
        mut parts: impl Stream<Item = Result<proto::RecordingPart, Status>> + Unpin,
    ) -> Result<proto::UploadRecordingResponse, Status> {
        let Some(first) = next_part(&mut parts).await? else {
            return Err(Refused::field("parts", "are missing").into());
        };
        let session = session_id(&first.session_id)?;
        let _turn = self.recordings.turn(session)?;
        let mut stored = self.begin_recording(sidecar, session, first.of.as_ref()).await?;
        if stored.value.finished.is_some() {
            return Ok(stored.value.answer());
        }
        let mut file =
            RecordingFile::open(self.recordings.directory(), session, stored.value.acknowledged).await?;
        let mut finished = false;
        let mut part = Some(first);
        while let Some(next) = part {
            if session_id(&next.session_id)? != session {
                return Err(Refused::field("session_id", "changes within a stream").into());
            }
            match file.take(next.offset, &next.data, MAX_BYTES).await? {
                // The answer tells where to go on.
                Took::Gap => break,
                Took::All => finished = next.finished,
            }
            if finished {
                break;
            }
            part = next_part(&mut parts).await?;
        }
        stored.value.acknowledged = file.sync().await?;
        stored.value.finished = finished.then(|| self.clock.now());
        self.end_upload(stored).await.map_err(Into::into)
    }

    async fn end_upload(&self, stored: Stored<Recording>) -> Result<proto::UploadRecordingResponse, Refused> {
        let recording = &stored.value;
        let key = keys::recording(recording.session);
        let op = Op::put(key, stored.unchanged(), recording)?;
        if recording.finished.is_some() {
            let event = json!({
                "event": "session.upload", "code": "T2005I", "sid": recording.session,
                "server_id": recording.sidecar, "user": recording.user, "login": recording.login,
                "server_hostname": recording.target, "bytes": recording.acknowledged,
            });
            self.commit_on_record(vec![op], vec![event], Refused::Changed("the recording")).await?;
        } else {
            self.store.commit(vec![op]).await?;
        }
        Ok(recording.answer())
    }

    /// What is known of the recording, or that it begins.
    async fn begin_recording(
        &self,
        sidecar: Uuid,
        session: Uuid,
        of: Option<&proto::RecordingOf>,
    ) -> Result<Stored<Recording>, Refused> {
        let key = keys::recording(session);
        let of = of.map(|of| Recording::new(session, sidecar, of)).transpose()?;
        match (store::read::<Recording>(&*self.store, &key).await?, of) {
            // Another sidecar's is not there for this one, whoever asks.
            (Some(known), _) if known.value.sidecar != sidecar => Err(unknown(session)),
            (Some(known), Some(of)) if !known.value.is_same_session(&of) => {
                Err(Refused::field("of", "is of another session"))
            }
            (Some(known), _) => Ok(known),
            (None, None) => Err(unknown(session)),
            (None, Some(new)) => {
                let record: SidecarRecord = self.sidecar(sidecar).await?.value;
                if !record.may_guard(TargetKind::Node) || !record.targets.contains(&new.target) {
                    return Err(Refused::NotFound { kind: "node", name: new.target.to_string() });
                }
                self.store.commit(vec![Op::put(key.clone(), Condition::Absent, &new)?]).await?;
                store::read(&*self.store, &key).await?.ok_or_else(|| unknown(session))
            }
        }
    }

    pub(crate) async fn list_recordings(
        &self,
        user: &UserName,
        standing: &Standing,
        request: &proto::ListRecordingsRequest,
    ) -> Result<Vec<proto::Recording>, Refused> {
        let reader = self.reader(user, standing, "list").await?;
        self.recordings_that(request, |recording| reader.may_see(recording)).await
    }

    /// Everybody's, for administrators.
    pub(crate) async fn list_all_recordings(
        &self,
        request: &proto::ListRecordingsRequest,
    ) -> Result<Vec<proto::Recording>, Refused> {
        self.recordings_that(request, |_| true).await
    }

    async fn recordings_that(
        &self,
        request: &proto::ListRecordingsRequest,
        may_be_seen: impl Fn(&Recording) -> bool,
    ) -> Result<Vec<proto::Recording>, Refused> {
        let moment = |at, field| match at {
            0 => Ok(None),
            at => from_unix_millis(at).map(Some).ok_or_else(|| Refused::field(field, "is not a time")),
        };
        let (since, until) = (moment(request.since, "since")?, moment(request.until, "until")?);
        let in_time = |recording: &Recording| {
            since.is_none_or(|since| recording.started >= since)
                && until.is_none_or(|until| recording.started <= until)
        };
        let limit = match request.limit {
            0 => LIST,
            limit => usize::try_from(limit).unwrap_or(MAX_LIST).min(MAX_LIST),
        };
        let stored = store::read_all::<Recording>(&*self.store, keys::recordings()).await?;
        let mut visible: Vec<_> = stored
            .into_iter()
            .map(|stored| stored.value)
            .filter(|recording| in_time(recording) && may_be_seen(recording))
            .collect();
        visible.sort_by_key(|recording| (std::cmp::Reverse(recording.started), recording.session));
        Ok(visible.iter().take(limit).map(Recording::to_proto).collect())
    }

    /// The bytes of a recording, as many as are acknowledged. Who looks is on record before the first of them leaves.
    pub(crate) async fn read_recording(
        &self,
        user: &UserName,
        standing: &Standing,
        session: &str,
    ) -> Result<mpsc::Receiver<Result<proto::RecordingChunk, Status>>, Refused> {
        let session = session_id(session)?;
        let reader = self.reader(user, standing, "read").await?;
        let stored: Option<Stored<Recording>> = store::read(&*self.store, &keys::recording(session)).await?;
        let recording = stored.map(|stored| stored.value).filter(|recording| reader.may_see(recording));
        let recording = recording.ok_or_else(|| unknown(session))?;
        let event = json!({
            "event": "session.recording.access", "code": "T2012I", "sid": session, "user": user,
            "session_user": recording.user, "server_hostname": recording.target,
        });
        self.audit.emit(event).await?;
        let mut file =
            file::Reading::open(self.recordings.directory(), session, recording.acknowledged).await?;
        let (chunks, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            loop {
                let chunk = match file.next(CHUNK).await {
                    Ok(data) if data.is_empty() => return,
                    Ok(data) => Ok(proto::RecordingChunk { data }),
                    Err(refused) => Err(Status::from(refused)),
                };
                let last = chunk.is_err();
                // The reader is gone, or as good as.
                let sent = timeout(READ_DEADLINE, chunks.send(chunk)).await;
                if last || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn reader<'a>(
        &self,
        user: &'a UserName,
        standing: &Standing,
        verb: &'static str,
    ) -> Result<Reader<'a>, Refused> {
        let account = self.account(user).await?.ok_or(Refused::EndedLogin)?;
        let all = standing.role_set.allows_rule("session", verb);
        Ok(Reader { user, since: account.value.since, all })
    }
}

async fn next_part(
    parts: &mut (impl Stream<Item = Result<proto::RecordingPart, Status>> + Unpin),
) -> Result<Option<proto::RecordingPart>, Status> {
    match timeout(PART_DEADLINE, parts.next()).await {
        Ok(part) => part.transpose(),
        Err(_) => Err(Status::deadline_exceeded("no part came; begin again")),
    }
}

fn session_id(text: &str) -> Result<Uuid, Refused> {
    Uuid::try_parse(text).map_err(|_| Refused::field("session_id", "is not a UUID"))
}

fn unknown(session: Uuid) -> Refused {
    Refused::NotFound { kind: "recording", name: session.to_string() }
}
