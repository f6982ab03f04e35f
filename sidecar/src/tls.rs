//! TLS towards clients: whoever can sign with a certificate's key is let through to be judged.
//!
//! The handshake proves one thing, that the client holds the private key of the certificate it shows. Whether that
//! certificate means anything (authority, dates, kind, route, MFA) is for the authorizer, so that a client hears why it is
//! refused in its own protocol's words, and not as a TLS alert. A resumed session would skip even the proof, so there is
//! no resumption: no session storage, no tickets.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// The one source of cryptography. AES-128-GCM goes first: 128 bits are as far out of reach as 256, and its SHA-256 has an
/// instruction in processors, where AES-256-GCM's SHA-384, of which a handshake takes a hundred blocks, has none.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

fn is_aes_128(suite: CipherSuite) -> bool {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TLS13_AES_128_GCM_SHA256,
    };
    let aes_128 = [
        TLS13_AES_128_GCM_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    aes_128.contains(&suite)
}

/// The certificate that clients see. A renewal swaps it; handshakes under way keep the old one.
#[derive(Debug)]
pub(crate) struct ServerCertificate(ArcSwap<CertifiedKey>);

impl ServerCertificate {
    /// # Errors
    /// The key is not one, or is not the certificate's.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        Ok(Self(ArcSwap::from_pointee(certified(chain, key)?)))
    }

    /// From now on, this one.
    ///
    /// # Errors
    /// As [`ServerCertificate::new`]; the old one stays.
    pub(crate) fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), Error> {
        self.0.store(Arc::new(certified(chain, key)?));
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn shown(&self) -> Arc<CertifiedKey> {
        self.0.load_full()
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(chain, key, &provider())
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// TLS 1.2 and 1.3 for the clients of one protocol, native ones and tsh's tunnel: `alpn` is what they may ask for. A client
/// that asks for another protocol is told by TLS itself.
///
/// # Errors
/// Those of rustls; none with the provider that is compiled in.
pub(crate) fn server_config(
    certificate: Arc<ServerCertificate>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::new(SignatureOnly { provider: provider() }))
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    // OpenSSL's clients, libpq's among them, put AES-256 first.
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// Verifies the handshake's signature, and nothing that the certificate says.
#[derive(Debug)]
struct SignatureOnly {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for SignatureOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
