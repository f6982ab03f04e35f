//! HOT: an event on its way to the writer, who renders it.
//!
//! A session renders nothing while it relays. On a processor that it shares, each event would run through code that has left
//! the caches since the one before; the writer renders what it has gathered, one event after the other, into the very buffer
//! that goes to disk.

use std::{sync::Arc, time::SystemTime};

use super::{
    AuditError,
    event::{Body, Outcome, Renderer},
    spool::{MAX_RECORD_BYTES, append_members},
};

/// What events have in common is written once for all of them if it is not longer: authd puts it into each again, and bounds what that
/// makes of a request.
const MAX_COMMON_BYTES: usize = 4 * 1024;
/// What an event takes of the queue beside its texts and values: its struct, names, and the text that it becomes.
const SMALL_BYTES: u32 = 1024;

/// An event that is written down later, with what is to be said of it.
pub(super) enum Draft {
    Rendered(String),
    Observed { renderer: Arc<Renderer>, ei: u64, at: SystemTime, body: Body },
    Result { renderer: Arc<Renderer>, result: Came },
}

/// How a statement came out, and when.
#[derive(Clone, Debug)]
pub(super) struct Came {
    pub(super) ei: u64,
    pub(super) at: SystemTime,
    pub(super) outcome: Outcome,
}

impl Draft {
    /// What a result takes of the queue.
    pub(super) const RESULT_BYTES: u32 = SMALL_BYTES;

    /// What it takes of the queue.
    ///
    /// # Errors
    /// It is longer than an event may be. Statements are cut long before that.
    pub(super) fn bytes(&self) -> Result<u32, AuditError> {
        let bytes = match self {
            Self::Rendered(json) => json.len(),
            Self::Observed { body, .. } => SMALL_BYTES as usize + body.bytes(),
            Self::Result { .. } => return Ok(Self::RESULT_BYTES),
        };
        let fits = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_RECORD_BYTES);
        fits.ok_or(AuditError::TooLong(bytes))
    }

    /// Whose it is, where what all events of that session say can be left to one of them.
    pub(super) fn session(&self) -> Option<&Renderer> {
        self.renderer().filter(|renderer| renderer.common().len() <= MAX_COMMON_BYTES)
    }

    fn renderer(&self) -> Option<&Renderer> {
        match self {
            Self::Rendered(_) => None,
            Self::Observed { renderer, .. } | Self::Result { renderer, .. } => Some(renderer),
        }
    }

    /// Appends it as JSON.
    pub(super) fn render(&self, line: &mut Vec<u8>) {
        self.render_own(line);
        if let Some(renderer) = self.renderer() {
            append_members(line, renderer.common().as_bytes());
        }
    }

    /// The same, without what all events of its [`session`](Self::session) say.
    pub(super) fn render_own(&self, line: &mut Vec<u8>) {
        match self {
            Self::Rendered(json) => line.extend_from_slice(json.as_bytes()),
            Self::Observed { renderer, ei, at, body } => renderer.observed(line, *ei, *at, body),
            Self::Result { renderer, result: Came { ei, at, outcome } } => {
                renderer.result(line, *ei, *at, outcome);
            }
        }
    }
}
