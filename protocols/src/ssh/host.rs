//! Host keys: the one that we show to clients, and those by which an upstream is known.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use ssh_key::certificate::CertType;
use ssh_key::{Certificate, PublicKey};

use super::fault::SshFault;
use super::key::{BadKey, SshKey, verify};
use super::wire::Put;
use crate::reader::Reader;

/// What we prove to clients: a key, and the certificate for it once there is one. Clones share both.
#[derive(Clone)]
pub struct HostIdentity {
    key: SshKey,
    certificate: Arc<RwLock<Option<Arc<[u8]>>>>,
}

impl fmt::Debug for HostIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostIdentity({:?}, certified: {})", self.key, self.certificate().is_some())
    }
}

impl HostIdentity {
    /// A key without a certificate.
    #[must_use]
    pub fn new(key: SshKey) -> Self {
        Self { key, certificate: Arc::default() }
    }

    /// From now on, new connections are shown this certificate, in its wire form.
    ///
    /// # Errors
    /// It is not for this key, or cannot be read: nothing changes.
    pub fn certify(&self, certificate: &[u8]) -> Result<(), BadKey> {
        if certified_key(certificate)? != self.key.public() {
            return Err(BadKey::Crypto);
        }
        *self.certificate.write().unwrap_or_else(PoisonError::into_inner) = Some(certificate.into());
        Ok(())
    }

    /// Whether this is a certificate for this key, both in their wire forms. Nothing else about it is looked at.
    #[must_use]
    pub fn is_certificate_for(certificate: &[u8], key: &[u8]) -> bool {
        certified_key(certificate).is_ok_and(|certified| certified == key)
    }

    /// The public key in its wire form.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.key.public()
    }

    pub(super) fn key(&self) -> &SshKey {
        &self.key
    }

    pub(super) fn certificate(&self) -> Option<Arc<[u8]>> {
        self.certificate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The key that a certificate is for, in its wire form.
fn certified_key(certificate: &[u8]) -> Result<Vec<u8>, BadKey> {
    let parsed = Certificate::from_bytes(certificate).map_err(BadKey::Format)?;
    let mut key = Vec::new();
    ssh_key::encoding::Encode::encode(parsed.public_key(), &mut key)
        .map_err(|error| BadKey::Format(error.into()))?;
    Ok(key)
}

/// By what an upstream is known: keys, or authorities that certify its key for one of its names. With neither,
/// no upstream is known.
#[derive(Clone, Default)]
pub struct HostKeys {
    pinned: Vec<Vec<u8>>,
    authorities: Vec<Vec<u8>>,
    names: Vec<String>,
}

impl fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pinned, authorities) = (self.pinned.len(), self.authorities.len());
        write!(f, "HostKeys({pinned} pinned, {authorities} authorities, {:?})", self.names)
    }
}

impl HostKeys {
    /// Knows this key too: a line such as `ssh-ed25519 AAAA… comment`.
    ///
    /// # Errors
    /// The line holds no key.
    pub fn with_pinned(mut self, line: &str) -> Result<Self, BadKey> {
        self.pinned.push(wire(line)?);
        Ok(self)
    }

    /// Believes this authority too, a line likewise.
    ///
    /// # Errors
    /// The line holds no key.
    pub fn with_authority(mut self, line: &str) -> Result<Self, BadKey> {
        self.authorities.push(wire(line)?);
        Ok(self)
    }

    /// A name that a certificate may be for; one of them must be in it.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Whether no upstream is known by this.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pinned.is_empty() && (self.authorities.is_empty() || self.names.is_empty())
    }

    /// The host key algorithms to ask for, best first: only such as what is known can be proved by.
    pub(super) fn algorithms(&self) -> Vec<&'static str> {
        const PLAIN: [(&str, &[&str]); 5] = [
            ("ssh-ed25519", &["ssh-ed25519"]),
            ("ecdsa-sha2-nistp256", &["ecdsa-sha2-nistp256"]),
            ("ecdsa-sha2-nistp384", &["ecdsa-sha2-nistp384"]),
            ("ecdsa-sha2-nistp521", &["ecdsa-sha2-nistp521"]),
            ("ssh-rsa", &["rsa-sha2-512", "rsa-sha2-256"]),
        ];
        const CERTIFIED: [&str; 4] = [
            "ssh-ed25519-cert-v01@openssh.com",
            "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            "rsa-sha2-512-cert-v01@openssh.com",
            "rsa-sha2-256-cert-v01@openssh.com",
        ];
        let mut algorithms = Vec::new();
        if !self.authorities.is_empty() && !self.names.is_empty() {
            algorithms.extend(CERTIFIED);
        }
        for (kind, names) in PLAIN {
            let is_kind =
                |key: &Vec<u8>| Reader::new(key).string().is_ok_and(|found| found == kind.as_bytes());
            if self.pinned.iter().any(is_kind) {
                algorithms.extend(names);
            }
        }
        algorithms
    }

    /// Whether an upstream that has `blob`, a key or a certificate in its wire form, is the right one: the key
    /// that it must sign with.
    ///
    /// # Errors
    /// Why it is not known.
    pub(super) fn judge(&self, blob: &[u8], now: SystemTime) -> Result<Vec<u8>, UnknownHost> {
        let kind = Reader::new(blob).string().map_err(|_| UnknownHost::Unreadable)?;
        if !kind.ends_with(b"-cert-v01@openssh.com") {
            let known = self.pinned.iter().any(|pinned| pinned == blob);
            return if known { Ok(blob.to_vec()) } else { Err(UnknownHost::Key(fingerprint(blob))) };
        }
        let certificate = Certificate::from_bytes(blob).map_err(|_| UnknownHost::Unreadable)?;
        let encode = |key: &ssh_key::public::KeyData| {
            let mut wire = Vec::new();
            ssh_key::encoding::Encode::encode(key, &mut wire).map_err(|_| UnknownHost::Unreadable)?;
            Ok(wire)
        };
        let key = encode(certificate.public_key())?;
        if self.pinned.contains(&key) {
            return Ok(key);
        }
        let authority = encode(certificate.signature_key())?;
        if !self.authorities.contains(&authority) {
            return Err(UnknownHost::Authority(fingerprint(&authority)));
        }
        verify_certificate(blob, &authority).map_err(|_| UnknownHost::Signature)?;
        if certificate.cert_type() != CertType::Host {
            return Err(UnknownHost::NotAHost);
        }
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if now < certificate.valid_after() || now >= certificate.valid_before() {
            return Err(UnknownHost::Dates);
        }
        // Hosts have no critical options (PROTOCOL.certkeys): one that is there is not understood.
        if !certificate.critical_options().is_empty() {
            return Err(UnknownHost::CriticalOption);
        }
        let names = certificate.valid_principals();
        if !names.iter().any(|name| self.names.contains(name)) {
            return Err(UnknownHost::Name);
        }
        Ok(key)
    }
}

/// Whether the authority has signed the certificate: everything before the signature, which is the last field.
fn verify_certificate(blob: &[u8], authority: &[u8]) -> Result<(), SshFault> {
    let certificate = Certificate::from_bytes(blob).map_err(|_| SshFault::Protocol("a certificate"))?;
    let mut signature = Vec::new();
    ssh_key::encoding::Encode::encode(certificate.signature(), &mut signature)
        .map_err(|_| SshFault::Protocol("a certificate's signature"))?;
    let mut last = Vec::new();
    last.put_string(&signature);
    let signed = blob.strip_suffix(last.as_slice());
    let signed = signed.ok_or(SshFault::Protocol("a certificate does not end with its signature"))?;
    let algorithm = Reader::new(&signature).string()?.to_vec();
    verify(authority, &algorithm, signed, &signature)
}

/// Why an upstream's host key is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownHost {
    /// The key is none of those that are known.
    #[error("its key {0} is not known")]
    Key(String),
    /// The authority of the certificate is not known.
    #[error("its certificate is by the unknown authority {0}")]
    Authority(String),
    /// The key or certificate cannot be read.
    #[error("its key cannot be read")]
    Unreadable,
    /// The authority has not signed it.
    #[error("its certificate has a wrong signature")]
    Signature,
    /// A user's.
    #[error("its certificate is not a host's")]
    NotAHost,
    /// Expired, or not valid yet.
    #[error("its certificate is not valid now")]
    Dates,
    /// An option that must be understood, and is not.
    #[error("its certificate has a critical option")]
    CriticalOption,
    /// Another host's, or everyone's.
    #[error("its certificate is for other names")]
    Name,
}

/// `SHA256:` and the hash, as OpenSSH shows it.
fn fingerprint(key: &[u8]) -> String {
    match PublicKey::from_bytes(key) {
        Ok(key) => key.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
        Err(_) => "of an unknown kind".to_owned(),
    }
}

fn wire(line: &str) -> Result<Vec<u8>, BadKey> {
    let key = PublicKey::from_openssh(line.trim()).map_err(BadKey::Format)?;
    key.to_bytes().map_err(BadKey::Format)
}
