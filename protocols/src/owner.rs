//! Who may stop what somebody runs, without a better judge: whoever has the very key that the session's own
//! certificate is for.

use x509_parser::parse_x509_certificate;

use crate::Peer;

/// Whether two certificates are for the same key.
pub(crate) fn same_key(stranger: &Peer, owner: &Peer) -> bool {
    let key = |peer: &Peer| {
        let (_, certificate) = parse_x509_certificate(peer.chain().first()?).ok()?;
        Some(certificate.public_key().raw.to_vec())
    };
    key(stranger).is_some_and(|stranger| key(owner) == Some(stranger))
}
