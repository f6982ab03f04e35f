//! Writes OpenSSH certificates, good and bad.

use std::time::SystemTime;

use ssh_key::{
    Certificate, PrivateKey, PublicKey,
    certificate::{Builder, CertType},
    private::{Ed25519Keypair, KeypairData},
    public::KeyData,
};

use super::{MINUTE, now};
use crate::{certificate::openssh::extensions, identity::Identity};

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

/// The key of a security key, that no authority of ours certifies.
pub(crate) fn sk_key() -> KeyData {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let plain = key(USER).public_key().key_data().ed25519().unwrap().0;
    let wire = [string(b"sk-ssh-ed25519@openssh.com"), string(&plain), string(b"ssh:")].concat();
    PublicKey::from_bytes(&wire).unwrap().key_data().clone()
}

pub(crate) const AUTHORITY: u8 = 1;
pub(crate) const USER: u8 = 2;

/// A certificate before it is signed; tests change what they need.
pub(crate) struct SshDraft {
    pub(crate) authority: u8,
    /// The certified key.
    pub(crate) subject: KeyData,
    pub(crate) cert_type: CertType,
    pub(crate) key_id: String,
    pub(crate) principals: Vec<String>,
    /// `None`: all principals are valid.
    pub(crate) golden: bool,
    pub(crate) after: SystemTime,
    pub(crate) before: SystemTime,
    pub(crate) critical: Vec<(String, String)>,
    pub(crate) extensions: Vec<(String, String)>,
}

impl SshDraft {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            authority: AUTHORITY,
            subject: key(USER).public_key().key_data().clone(),
            cert_type: CertType::User,
            key_id: identity.user.to_string(),
            principals: identity.logins.clone(),
            golden: false,
            after: now() - MINUTE,
            before: identity.not_after,
            critical: vec![],
            extensions: extensions(identity),
        }
    }

    pub(crate) fn sign(&self) -> Certificate {
        let mut builder =
            Builder::new_with_validity_times([7; 16], self.subject.clone(), self.after, self.before).unwrap();
        builder.serial(0x1234).unwrap().cert_type(self.cert_type).unwrap().key_id(&self.key_id).unwrap();
        if self.golden {
            builder.all_principals_valid().unwrap();
        }
        for principal in &self.principals {
            builder.valid_principal(principal).unwrap();
        }
        for (name, value) in &self.critical {
            builder.critical_option(name, value).unwrap();
        }
        for (name, value) in &self.extensions {
            builder.extension(name, value).unwrap();
        }
        builder.sign(&key(self.authority)).unwrap()
    }

    /// The wire form, as a client presents it.
    pub(crate) fn wire(&self) -> Vec<u8> {
        self.sign().to_bytes().unwrap()
    }

    pub(crate) fn with_extension(mut self, name: &str, value: &str) -> Self {
        self.extensions.retain(|(known, _)| known != name);
        self.extensions.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without_extension(mut self, name: &str) -> Self {
        self.extensions.retain(|(known, _)| known != name);
        self
    }
}
