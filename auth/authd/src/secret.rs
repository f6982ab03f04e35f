//! Random secrets that are handed out once and kept as hashes.

use aws_lc_rs::digest::{SHA256, digest};

use crate::error::Refused;

/// 128 bits, hex: invitations, join tokens, challenge ids.
pub(crate) fn generate() -> Result<String, Refused> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Refused::Internal("no randomness"))?;
    Ok(hex::encode(bytes))
}

/// SHA-256, hex. Enough without salt or stretching: the secrets are random.
pub(crate) fn hash(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()))
}

/// An id that says whose it is, so that what it stands for can be found without knowing the user:
/// `<hex of the user name>.<secret>`.
pub(crate) fn owned_id(user: &auth::identity::UserName, secret: &str) -> String {
    format!("{}.{secret}", hex::encode(user.as_str()))
}

/// Reads what [`owned_id`] wrote.
pub(crate) fn parse_owned_id(id: &str) -> Option<(auth::identity::UserName, &str)> {
    let (user, secret) = id.split_once('.')?;
    let user = String::from_utf8(hex::decode(user).ok()?).ok()?;
    let whole = secret.len() == 32 && secret.bytes().all(|b| b.is_ascii_hexdigit());
    Some((auth::identity::UserName::new(user).ok()?, secret)).filter(|_| whole)
}
