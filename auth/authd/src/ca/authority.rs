//! An authority: a key that signs, its own certificate, and how both are stored.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use ssh_key::certificate::CertType;
use zeroize::Zeroizing;

use super::{
    Attribute, CaError, Issued, IssuedSsh, P256PublicKey, SshPublicKey, SshTemplate, Template,
    ssh::SshKey,
    x509::{self, Role, Signer, Usage},
};

/// Ten years of 365 days: as long as operators of long-lived clusters expect.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// An authority is valid a little earlier than it is made, so that a machine whose clock is behind trusts it.
const SKEW: Duration = Duration::from_secs(3600);

/// RFC 4519: `ou` of a name; ours says which key it is.
const ORGANIZATIONAL_UNIT: &[u64] = &[2, 5, 4, 11];

/// What an authority signs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthorityKind {
    /// People: login and session certificates.
    User,
    /// Us: authd and sidecars.
    Host,
    /// Databases' own certificates.
    Db,
    /// What sidecars show to databases.
    DbClient,
    /// What sidecars show to the sshd of hosts. Apart from the one for people, so that a host which trusts it
    /// (`TrustedUserCAKeys`) lets nobody in but by way of a sidecar.
    Openssh,
}

impl AuthorityKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::User, Self::Host, Self::Db, Self::DbClient, Self::Openssh];

    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Host => "host",
            Self::Db => "db",
            Self::DbClient => "db_client",
            Self::Openssh => "openssh",
        }
    }

    /// Reads the word of the API.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    fn signs_ssh(self) -> bool {
        matches!(self, Self::User | Self::Host | Self::Openssh)
    }

    /// One that does not has a certificate of its own all the same, for its name and its end; nobody is told to trust it.
    pub(crate) fn signs_x509(self) -> bool {
        self != Self::Openssh
    }
}

impl fmt::Display for AuthorityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An authority as it is stored. Holds private keys: no `Debug`.
#[derive(Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// Base64 of the DER certificate.
    certificate: String,
    /// Base64 of the PKCS #8 key.
    key: Zeroizing<String>,
    /// Base64 of the Ed25519 seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssh_seed: Option<Zeroizing<String>>,
}

/// A key that signs, with its certificate. Holds private keys: no `Debug`.
pub struct Authority {
    kind: AuthorityKind,
    subject: Vec<Attribute>,
    certificate: CertificateDer<'static>,
    not_after: SystemTime,
    key: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    public_key: P256PublicKey,
    ssh: Option<SshKey>,
}

impl Authority {
    /// Makes a new authority for a cluster, valid for ten years.
    ///
    /// # Errors
    /// [`CaError::Crypto`] when the random generator or the signature fails.
    pub fn generate(kind: AuthorityKind, cluster: &str, now: SystemTime) -> Result<Self, CaError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        let (key, public_key) = load_key(&pkcs8)?;
        let subject = vec![
            Attribute::common_name(format!("{cluster} {} authority", kind.as_str().replace('_', "-"))),
            Attribute::organization(cluster),
            // Old and new ones are trusted side by side, and software exists that takes equal names for one authority.
            Attribute { oid: ORGANIZATIONAL_UNIT.to_vec(), value: hex::encode(&public_key.sha256()[..8]) },
        ];
        let template = Template {
            subject: subject.clone(),
            public_key: public_key.clone(),
            not_before: now.checked_sub(SKEW).unwrap_or(SystemTime::UNIX_EPOCH),
            not_after: now + LIFE,
            usage: Usage::Client,
            names: vec![],
            extensions: vec![],
        };
        let signer = Signer { subject: &subject, key: &key, public_key: &public_key };
        let issued = x509::write(&signer, &template, &Role::Authority)?;
        let ssh = if kind.signs_ssh() { Some(SshKey::generate()?) } else { None };
        let (certificate, not_after) = (issued.der, issued.not_after);
        Ok(Self { kind, subject, certificate, not_after, key, pkcs8, public_key, ssh })
    }

    /// Reads what [`Authority::to_record`] wrote.
    ///
    /// # Errors
    /// [`CaError::Damaged`] where a part cannot be read or does not fit the others.
    pub fn from_record(kind: AuthorityKind, record: &AuthorityRecord) -> Result<Self, CaError> {
        let damaged = || CaError::Damaged(kind);
        let der = BASE64_STANDARD.decode(&record.certificate).map_err(|_| damaged())?;
        let pkcs8 = Zeroizing::new(BASE64_STANDARD.decode(record.key.as_bytes()).map_err(|_| damaged())?);
        let (key, public_key) = load_key(&pkcs8).map_err(|_| damaged())?;
        let (subject, not_after) = read_own_certificate(&der, &public_key).ok_or_else(damaged)?;
        let ssh = match (&record.ssh_seed, kind.signs_ssh()) {
            (Some(seed), true) => {
                let seed = Zeroizing::new(BASE64_STANDARD.decode(seed.as_bytes()).map_err(|_| damaged())?);
                Some(SshKey::from_seed(&seed).ok_or_else(damaged)?)
            }
            (None, false) => None,
            (Some(_), false) | (None, true) => return Err(damaged()),
        };
        let certificate = CertificateDer::from(der);
        Ok(Self { kind, subject, certificate, not_after, key, pkcs8, public_key, ssh })
    }

    /// The form to store, private keys included.
    #[must_use]
    pub fn to_record(&self) -> AuthorityRecord {
        AuthorityRecord {
            certificate: BASE64_STANDARD.encode(&self.certificate),
            key: Zeroizing::new(BASE64_STANDARD.encode(&*self.pkcs8)),
            ssh_seed: self.ssh.as_ref().map(|ssh| Zeroizing::new(BASE64_STANDARD.encode(ssh.seed()))),
        }
    }

    /// What this authority signs for.
    #[must_use]
    pub fn kind(&self) -> AuthorityKind {
        self.kind
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When it ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// SHA-256 of its SubjectPublicKeyInfo: the CA pin.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.public_key.sha256()
    }

    /// Its SSH public key as an authorized_keys line, where it has one.
    #[must_use]
    pub fn ssh_public_key(&self) -> Option<String> {
        self.ssh.as_ref().map(|ssh| ssh.authorized_key(&format!("{}-authority", self.kind)))
    }

    /// Signs a leaf certificate.
    ///
    /// # Errors
    /// [`CaError::NoX509`]; [`CaError::Validity`] when it would be empty; [`CaError::Crypto`].
    pub fn sign(&self, template: &Template) -> Result<Issued, CaError> {
        if !self.kind.signs_x509() {
            return Err(CaError::NoX509(self.kind));
        }
        let signer = Signer { subject: &self.subject, key: &self.key, public_key: &self.public_key };
        let template = Template { not_after: template.not_after.min(self.not_after), ..template.clone() };
        x509::write(&signer, &template, &Role::Leaf(template.usage))
    }

    /// Signs an OpenSSH certificate: a host's by the authority for hosts, a user's by the others.
    ///
    /// # Errors
    /// [`CaError::NoSshKey`], [`CaError::NoPrincipals`], [`CaError::Principal`], [`CaError::Validity`], [`CaError::Ssh`].
    pub fn sign_ssh(&self, key: &SshPublicKey, template: &SshTemplate) -> Result<IssuedSsh, CaError> {
        let ssh = self.ssh.as_ref().ok_or(CaError::NoSshKey(self.kind))?;
        let usage = if self.kind == AuthorityKind::Host { CertType::Host } else { CertType::User };
        let template = SshTemplate { not_after: template.not_after.min(self.not_after), ..template.clone() };
        ssh.sign(usage, key, &template)
    }
}

fn load_key(pkcs8: &[u8]) -> Result<(EcdsaKeyPair, P256PublicKey), CaError> {
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map_err(|_| CaError::Crypto)?;
    let public_key = P256PublicKey::from_point(key.public_key().as_ref())?;
    Ok((key, public_key))
}

/// The subject and the end of our own certificate, if it is for this key.
fn read_own_certificate(der: &[u8], key: &P256PublicKey) -> Option<(Vec<Attribute>, SystemTime)> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    if !rest.is_empty() || certificate.public_key().raw != key.spki() {
        return None;
    }
    let mut subject = Vec::new();
    for attribute in certificate.subject().iter_attributes() {
        subject.push(Attribute {
            oid: attribute.attr_type().iter()?.collect(),
            value: attribute.as_str().ok()?.to_owned(),
        });
    }
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some((subject, SystemTime::UNIX_EPOCH + Duration::from_secs(end)))
}
