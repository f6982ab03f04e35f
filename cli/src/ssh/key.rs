//! Keys of SSH that are made here.

use anyhow::anyhow;
use aws_lc_rs::rand;
use ssh_key::{PrivateKey, private::Ed25519Keypair};
use zeroize::Zeroizing;

/// A new Ed25519 key, wiped when it is dropped.
///
/// # Errors
/// The system has no randomness.
pub(crate) fn generate() -> anyhow::Result<PrivateKey> {
    let mut seed = Zeroizing::new([0; 32]);
    rand::fill(&mut *seed).map_err(|_| anyhow!("cannot generate a key"))?;
    Ok(Ed25519Keypair::from_seed(&seed).into())
}
