//! Events that authd refuses for good: set aside in one file, so that the rest can go on, and none is lost without a trace.
//!
//! ```text
//! DATA_DIR/spool/rejected
//! <spool id> <sequence> <check> <json>\n        as in the spool, behind the spool's id; always in one piece
//! ```
//!
//! Such an event is a defect, of this sidecar or of authd, and somebody must look at it. The file is bounded: when it is
//! full, nothing more is set aside, and shipping stops at the next refused event, with everything kept in the spool. So an
//! authd that refuses all costs no events either. After a restart an event may be set aside a second time.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::spool::{Record, append_line};

/// Bytes of the file, at most.
pub(super) const MAX_REJECTED_BYTES: u64 = 16 * 1024 * 1024;

/// Why an event cannot be set aside.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetAsideError {
    #[error("{} holds {bytes} bytes of rejected audit events, and takes no more", path.display())]
    Full { path: PathBuf, bytes: u64 },
    #[error("rejected audit events cannot be written")]
    Write(#[source] io::Error),
}

/// Where they are.
pub(super) fn path(root: &Path) -> PathBuf {
    root.join("rejected")
}

/// Appends one; returns once it is on disk. Blocks.
pub(super) fn set_aside(root: &Path, spool: Uuid, record: &Record) -> Result<(), SetAsideError> {
    let path = path(root);
    let mut file =
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(SetAsideError::Write)?;
    let bytes = file.metadata().map_err(SetAsideError::Write)?.len();
    let mut line = format!("{spool} ").into_bytes();
    append_line(&mut line, record.sequence, |line| line.extend_from_slice(&record.json));
    if bytes.saturating_add(line.len() as u64) > MAX_REJECTED_BYTES {
        return Err(SetAsideError::Full { path, bytes });
    }
    file.write_all(&line)
        .and_then(|()| file.sync_data())
        .and_then(|()| File::open(root)?.sync_all())
        .map_err(SetAsideError::Write)
}
