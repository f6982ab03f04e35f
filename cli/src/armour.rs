//! Certificates and private keys as text: PEM with plain line breaks, as every tool here writes it.

use pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::{Zeroize, Zeroizing};

/// A certificate.
pub(crate) fn certificate(der: &[u8]) -> String {
    encode(&Pem::new("CERTIFICATE", der))
}

/// A private key, wiped when dropped.
pub(crate) fn private_key(key: &PrivatePkcs8KeyDer<'_>) -> Zeroizing<String> {
    let block = Pem::new("PRIVATE KEY", key.secret_pkcs8_der());
    let text = Zeroizing::new(encode(&block));
    block.into_contents().zeroize();
    text
}

fn encode(block: &Pem) -> String {
    pem::encode_config(block, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_other_tools_write_them() {
        assert_eq!(certificate(&[1, 2, 3]), "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n");
        let key = private_key(&PrivatePkcs8KeyDer::from(vec![1, 2, 3]));
        assert_eq!(*key, "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n");
    }
}
