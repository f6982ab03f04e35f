//! The WebAuthn assertion: client data, authenticator data, signature (WebAuthn Level 2 §5.8.1, §6.1, §7.2).

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};

use super::{DeviceKey, ReceiptError};
use crate::proto::Receipt;

/// Whom the security key must have answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelyingParty {
    /// The relying party id: a domain.
    pub rp_id: String,
    /// Origins whose pages (and whose tsh) may ask for a touch.
    pub origins: Vec<String>,
}

impl RelyingParty {
    /// Judges what an assertion says of its occasion: kind, challenge, origin, relying party, presence. The signature over
    /// it is for the caller to verify. authd holds every touch to this too, so that it takes none that a sidecar would not.
    ///
    /// # Errors
    /// The [`ReceiptError`] of the rule that does not hold.
    pub fn check_occasion(
        &self,
        client_data_json: &[u8],
        authenticator_data: &[u8],
        challenge: &[u8; 32],
    ) -> Result<(), ReceiptError> {
        check_client_data(client_data_json, challenge, self)?;
        check_authenticator_data(authenticator_data, self).map(drop)
    }
}

/// What browser and tsh say of the occasion. Further members are allowed (§5.8.1); those below once at most.
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
    /// Level 3: the page around, where the touch was asked for from within another's.
    #[serde(rename = "topOrigin")]
    top_origin: Option<IgnoredAny>,
}

pub(super) fn check_client_data(
    json: &[u8],
    challenge: &[u8; 32],
    relying_party: &RelyingParty,
) -> Result<(), ReceiptError> {
    let malformed = ReceiptError::Malformed { what: "its client data" };
    // serde would also take a list of the values, which no other reader understands.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(malformed);
    }
    let data: ClientData = serde_json::from_slice(json).map_err(|_| malformed)?;
    if data.kind != "webauthn.get" {
        return Err(ReceiptError::WrongType);
    }
    if data.challenge != URL_SAFE_NO_PAD.encode(challenge) {
        return Err(ReceiptError::ChallengeMismatch);
    }
    // Some clients write an origin as a URL, with its empty path.
    let origin = |origin: &str| origin.strip_suffix('/').unwrap_or(origin).to_owned();
    if !relying_party.origins.iter().any(|allowed| origin(allowed) == origin(&data.origin)) {
        return Err(ReceiptError::WrongOrigin { origin: data.origin });
    }
    if data.cross_origin || data.top_origin.is_some() {
        return Err(ReceiptError::CrossOrigin);
    }
    Ok(())
}

pub(super) struct Flags {
    pub(super) user_verified: bool,
}

const RP_ID_HASH: usize = 32;
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const ATTESTED_CREDENTIAL: u8 = 0x40;
const EXTENSIONS: u8 = 0x80;
const COUNTER: usize = 4;

pub(super) fn check_authenticator_data(
    data: &[u8],
    relying_party: &RelyingParty,
) -> Result<Flags, ReceiptError> {
    let malformed = ReceiptError::Malformed { what: "its authenticator data" };
    let Some((rp_id_hash, &[flags, ref rest @ ..])) = data.split_first_chunk::<RP_ID_HASH>() else {
        return Err(malformed);
    };
    // A new credential is attested in a registration only; extensions may follow the counter.
    let whole = if flags & EXTENSIONS == 0 { rest.len() == COUNTER } else { rest.len() > COUNTER };
    if !whole || flags & ATTESTED_CREDENTIAL != 0 {
        return Err(malformed);
    }
    // A cluster that names no relying party has none; the hash of nothing is not its name.
    if relying_party.rp_id.is_empty()
        || rp_id_hash != digest(&SHA256, relying_party.rp_id.as_bytes()).as_ref()
    {
        return Err(ReceiptError::WrongRelyingParty);
    }
    if flags & USER_PRESENT == 0 {
        return Err(ReceiptError::UserNotPresent);
    }
    Ok(Flags { user_verified: flags & USER_VERIFIED != 0 })
}

/// §7.2, steps 19 and 20: over authenticator data and the hash of the client data.
pub(super) fn check_signature(receipt: &Receipt, key: &DeviceKey) -> Result<(), ReceiptError> {
    let client_data = digest(&SHA256, &receipt.client_data_json);
    let signed = [receipt.authenticator_data.as_slice(), client_data.as_ref()].concat();
    if key.verifies(&signed, &receipt.signature) { Ok(()) } else { Err(ReceiptError::BadSignature) }
}
