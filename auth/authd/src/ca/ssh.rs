//! OpenSSH certificates (PROTOCOL.certkeys).

use std::time::{Duration, SystemTime};

use auth::certificate::openssh::is_principal;
use aws_lc_rs::digest::{SHA256, digest};
use ssh_key::{
    PrivateKey, PublicKey,
    certificate::{Builder, CertType},
    private::{Ed25519Keypair, KeypairData},
    public::KeyData,
};
use zeroize::Zeroizing;

use super::CaError;

/// An Ed25519 key that may stand in a certificate.
#[derive(Clone, Debug)]
pub struct SshPublicKey {
    data: KeyData,
    sha256: [u8; 32],
}

impl SshPublicKey {
    /// Reads the wire form of an OpenSSH public key.
    ///
    /// # Errors
    /// [`CaError::SshPublicKey`] for anything but Ed25519.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, CaError> {
        let key = PublicKey::from_bytes(bytes).map_err(|_| CaError::SshPublicKey)?;
        let KeyData::Ed25519(_) = key.key_data() else { return Err(CaError::SshPublicKey) };
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Ok(Self { data: key.key_data().clone(), sha256 })
    }

    /// SHA-256 of the wire form: what a session's intent names.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

/// A signed certificate.
#[derive(Clone, Debug)]
pub struct IssuedSsh {
    /// One line of OpenSSH text.
    pub line: String,
    /// As in the certificate.
    pub not_after: SystemTime,
    /// Sixteen lower-case hexadecimal digits.
    pub serial_hex: String,
}

/// What an SSH certificate will say.
#[derive(Clone, Debug)]
pub struct SshTemplate {
    /// Shown in logs of sshd: the user; of a host, its name.
    pub key_id: String,
    /// Accounts that may be logged in to, or names of the host; never empty.
    pub principals: Vec<String>,
    /// First moment of validity.
    pub not_before: SystemTime,
    /// Last moment of validity.
    pub not_after: SystemTime,
    /// Restrictions that a server must understand, or refuse.
    pub critical_options: Vec<(String, String)>,
    /// Everything else.
    pub extensions: Vec<(String, String)>,
}

/// The SSH half of an authority.
pub(super) struct SshKey {
    seed: Zeroizing<[u8; 32]>,
    key: PrivateKey,
}

impl SshKey {
    pub(super) fn generate() -> Result<Self, CaError> {
        let mut seed = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(seed.as_mut_slice())?;
        Self::from_seed(seed.as_slice()).ok_or(CaError::Crypto)
    }

    pub(super) fn from_seed(seed: &[u8]) -> Option<Self> {
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(seed.try_into().ok()?);
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let key = PrivateKey::new(pair, "").ok()?;
        Some(Self { seed, key })
    }

    pub(super) fn seed(&self) -> &[u8] {
        self.seed.as_slice()
    }

    pub(super) fn authorized_key(&self, comment: &str) -> String {
        let key = PublicKey::new(self.key.public_key().key_data().clone(), comment);
        key.to_openssh().unwrap_or_default()
    }

    pub(super) fn sign(
        &self,
        usage: CertType,
        key: &SshPublicKey,
        template: &SshTemplate,
    ) -> Result<IssuedSsh, CaError> {
        if template.principals.is_empty() {
            return Err(CaError::NoPrincipals);
        }
        if let Some(bad) = template.principals.iter().find(|name| !is_principal(name)) {
            return Err(CaError::Principal(bad.clone()));
        }
        if template.not_after <= template.not_before {
            return Err(CaError::Validity);
        }
        self.build(usage, key, template).map_err(CaError::Ssh)
    }

    fn build(
        &self,
        usage: CertType,
        key: &SshPublicKey,
        template: &SshTemplate,
    ) -> Result<IssuedSsh, ssh_key::Error> {
        let mut random = [0_u8; 24];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| ssh_key::Error::Crypto)?;
        let (nonce, serial) = random.split_at(16);
        let mut builder = Builder::new_with_validity_times(
            nonce,
            key.data.clone(),
            template.not_before,
            template.not_after,
        )?;
        builder
            .serial(serial.iter().fold(0, |serial, byte| (serial << 8) | u64::from(*byte)))?
            .cert_type(usage)?
            .key_id(&template.key_id)?;
        for principal in &template.principals {
            builder.valid_principal(principal)?;
        }
        for (name, value) in &template.critical_options {
            builder.critical_option(name, value)?;
        }
        for (name, value) in &template.extensions {
            builder.extension(name, value)?;
        }
        let certificate = builder.sign(&self.key)?;
        Ok(IssuedSsh {
            line: certificate.to_openssh()?,
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(certificate.valid_before()),
            serial_hex: format!("{:016x}", certificate.serial()),
        })
    }
}
