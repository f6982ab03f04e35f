//! The SSH host key: made once, kept for as long as the data directory is, so that clients know the host again.

use std::{fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocols::ssh::{HostIdentity, SshKey};
use zeroize::Zeroizing;

use super::{IdentityError, JoinError, file};

const NAME: &str = "ssh_host_ed25519_key";

/// The key of this data directory; a new one where there is none.
///
/// # Errors
/// It cannot be read, or written.
pub(crate) fn host_key(data_dir: &Path) -> Result<SshKey, IdentityError> {
    let path = data_dir.join(NAME);
    let failed = |source| IdentityError::File { path: path.clone(), source };
    match fs::read(&path).map(Zeroizing::new) {
        Ok(text) => SshKey::from_openssh(&text).map_err(|_| IdentityError::Damaged { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let other = |error| failed(io::Error::other(error));
            let key = SshKey::generate().map_err(other)?;
            let text = key.to_openssh().map_err(other)?;
            file::replace(data_dir, NAME, text.as_bytes()).map_err(failed)?;
            Ok(key)
        }
        Err(source) => Err(failed(source)),
    }
}

/// The wire form of a line of OpenSSH text, which must be a certificate for this key.
pub(super) fn certificate(line: &str, key: &[u8]) -> Result<Vec<u8>, JoinError> {
    let bad = || JoinError::Answer("there is no SSH host certificate for our key in it".into());
    let wire = wire(line).ok_or_else(bad)?;
    if is_for(&wire, key) { Ok(wire) } else { Err(bad()) }
}

/// The second word of `ssh-ed25519-cert-v01@openssh.com AAAA… comment`.
pub(crate) fn wire(line: &str) -> Option<Vec<u8>> {
    STANDARD.decode(line.split_ascii_whitespace().nth(1)?).ok()
}

/// Is this certificate for a key with this public half?
pub(super) fn is_for(certificate: &[u8], key: &[u8]) -> bool {
    // A key by its public half alone signs nothing; that it is the same is all that is asked.
    HostIdentity::is_certificate_for(certificate, key)
}

/// What clients are shown.
pub(crate) fn host_identity(key: SshKey, certificate: Option<&[u8]>) -> Result<HostIdentity, JoinError> {
    let identity = HostIdentity::new(key);
    if let Some(certificate) = certificate {
        identity.certify(certificate).map_err(|error| JoinError::Answer(error.into()))?;
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_host_key_stays_the_same_and_is_its_owners_alone() {
        let data = tempfile::tempdir().unwrap();
        let first = host_key(data.path()).unwrap();
        assert_eq!(host_key(data.path()).unwrap().public(), first.public());
        let mode = fs::metadata(data.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_host_key_is_an_error_and_never_replaced() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(NAME), "no key").unwrap();
        assert!(matches!(host_key(data.path()), Err(IdentityError::Damaged { .. })));
        assert_eq!(fs::read_to_string(data.path().join(NAME)).unwrap(), "no key");
    }
}
