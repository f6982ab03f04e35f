//! OpenSSH user certificates (PROTOCOL.certkeys).

use std::time::SystemTime;

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
pub struct SshPublicKey(KeyData);

impl SshPublicKey {
    /// Reads the wire form of an OpenSSH public key.
    ///
    /// # Errors
    /// [`CaError::SshPublicKey`] for anything but Ed25519.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, CaError> {
        let key = PublicKey::from_bytes(bytes).map_err(|_| CaError::SshPublicKey)?;
        match key.key_data() {
            data @ KeyData::Ed25519(_) => Ok(Self(data.clone())),
            _ => Err(CaError::SshPublicKey),
        }
    }
}

/// What an SSH user certificate will say.
#[derive(Clone, Debug)]
pub struct SshTemplate {
    /// Shown in logs of sshd: the user.
    pub key_id: String,
    /// Accounts that may be logged in to; never empty.
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

    pub(super) fn sign_user(&self, key: &SshPublicKey, template: &SshTemplate) -> Result<String, CaError> {
        if template.principals.is_empty() {
            return Err(CaError::NoPrincipals);
        }
        self.build(key, template).map_err(CaError::Ssh)
    }

    fn build(&self, key: &SshPublicKey, template: &SshTemplate) -> Result<String, ssh_key::Error> {
        let mut random = [0_u8; 24];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| ssh_key::Error::Crypto)?;
        let (nonce, serial) = random.split_at(16);
        let mut builder =
            Builder::new_with_validity_times(nonce, key.0.clone(), template.not_before, template.not_after)?;
        builder
            .serial(serial.iter().fold(0, |serial, byte| (serial << 8) | u64::from(*byte)))?
            .cert_type(CertType::User)?
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
        builder.sign(&self.key)?.to_openssh()
    }
}
