//! How an administrator's command carries its touch: the words that `tctl` and authd share.
//!
//! A command names every call that it will make by its [`digest`], asks for a challenge of scope `admin_action` over them,
//! has it touched, and sends the answer with each call ([`attach`]). Whether a call was refused for want of a touch is
//! told by [`is_needed`].

use aws_lc_rs::digest::{SHA256, digest as hash};
use prost::Message;
use tonic::{
    Request, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::proto::{AdminMfa, admin_server::SERVICE_NAME};

/// Most calls of one command.
pub const MAX_CALLS: usize = 256;

/// Longest text of a command, in bytes.
pub const MAX_COMMAND_BYTES: usize = 1000;

/// Metadata of a call: the encoded [`AdminMfa`].
const MFA: &str = "touchstone-mfa-bin";

/// Metadata of a refusal, and what it says.
const NEEDS: &str = "touchstone-needs";
const TOUCH: &str = "touch";

/// Names one call of the service Admin: `method` as in the contract, such as `PutResource`, and exactly this request.
#[must_use]
pub fn digest(method: &str, request: &impl Message) -> [u8; 32] {
    let mut named = format!("/{SERVICE_NAME}/{method}\0").into_bytes();
    named.extend(request.encode_to_vec());
    let mut name = [0; 32];
    name.copy_from_slice(hash(&SHA256, &named).as_ref());
    name
}

/// Sends an answer along with a call.
pub fn attach<T>(request: &mut Request<T>, mfa: &AdminMfa) {
    request.metadata_mut().insert_bin(MFA, MetadataValue::from_bytes(&mfa.encode_to_vec()));
}

/// What came along with a call is no [`AdminMfa`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MFA} cannot be read")]
pub struct Unreadable;

/// The answer that came along with a call; `None` where there is none.
///
/// # Errors
/// [`Unreadable`]
pub fn attached(metadata: &MetadataMap) -> Result<Option<AdminMfa>, Unreadable> {
    let Some(value) = metadata.get_bin(MFA) else { return Ok(None) };
    let bytes = value.to_bytes().map_err(|_| Unreadable)?;
    AdminMfa::decode(bytes).map(Some).map_err(|_| Unreadable)
}

/// A refusal for want of a touch.
#[must_use]
pub fn needed(message: &str) -> Status {
    let mut status = Status::failed_precondition(message);
    status.metadata_mut().insert(NEEDS, MetadataValue::from_static(TOUCH));
    status
}

/// Was a call refused for want of a touch?
#[must_use]
pub fn is_needed(status: &Status) -> bool {
    status.metadata().get(NEEDS).is_some_and(|needs| needs.as_bytes() == TOUCH.as_bytes())
}
