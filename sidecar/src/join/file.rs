//! The identity on disk: one file, readable by its owner alone, replaced in one step.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use auth::{
    certificate::CertificateError,
    clock::{from_unix_millis, unix_millis},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Identity, verify};

const NAME: &str = "identity.json";

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what we wrote.
    #[error("{} is damaged: remove it and join again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// Its certificate is none of ours.
    #[error("the certificate in {} is refused", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: CertificateError,
    },
}

/// DER in base64; times in Unix milliseconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    certificate: String,
    /// PKCS #8.
    private_key: Zeroizing<String>,
    host_authorities: Vec<String>,
    hosts: Vec<String>,
    /// Of SSH: the wire form in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssh_host_certificate: Option<String>,
    issued: i64,
}

/// The stored identity, if there is one. An expired one is returned too.
pub(super) fn load(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
    let path = data_dir.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(IdentityError::File { path, source }),
    };
    let damaged = || IdentityError::Damaged { path: path.clone() };
    let stored: Stored = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let certificate = |text: &String| STANDARD.decode(text).map(CertificateDer::from).map_err(|_| damaged());
    let leaf = certificate(&stored.certificate)?;
    let host_authorities = stored.host_authorities.iter().map(certificate).collect::<Result<Vec<_>, _>>()?;
    let issued = from_unix_millis(stored.issued).ok_or_else(damaged)?;
    let key = STANDARD.decode(&*stored.private_key).map_err(|_| damaged())?;
    let host_certificate = stored.ssh_host_certificate.map(|text| STANDARD.decode(text)).transpose();
    let host_certificate = host_certificate.map_err(|_| damaged())?;
    // Judged as of its issue: whether it has expired is for the caller.
    let sidecar = verify(&leaf, &host_authorities, issued)
        .map_err(|source| IdentityError::Certificate { path: path.clone(), source })?;
    Ok(Some(Identity {
        sidecar,
        certificate: leaf,
        key: Zeroizing::new(PrivatePkcs8KeyDer::from(key)),
        host_authorities,
        hosts: stored.hosts,
        host_certificate,
        issued,
    }))
}

/// Replaces the stored identity: after a crash there is the old one or the new one.
pub(super) fn save(data_dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let stored = Stored {
        certificate: STANDARD.encode(&identity.certificate),
        private_key: Zeroizing::new(STANDARD.encode(identity.key.secret_pkcs8_der())),
        host_authorities: identity
            .host_authorities
            .iter()
            .map(|authority| STANDARD.encode(authority))
            .collect(),
        hosts: identity.hosts.clone(),
        ssh_host_certificate: identity.host_certificate.as_ref().map(|wire| STANDARD.encode(wire)),
        issued: unix_millis(identity.issued),
    };
    let path = data_dir.join(NAME);
    let text = serde_json::to_vec(&stored).map(Zeroizing::new).map_err(io::Error::from);
    text.and_then(|text| replace(data_dir, NAME, &text))
        .map_err(|source| IdentityError::File { path, source })
}

/// Puts a file that its owner alone may read in the place of the one of this name, if there is one: after a crash there is
/// the old one, or none, or the whole new one.
pub(super) fn replace(data_dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let new = data_dir.join(format!("{name}.new"));
    // A leftover may have other permissions.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, data_dir.join(name))?;
    File::open(data_dir)?.sync_all()
}
