//! TLS of the one port: our own certificate, and client certificates that are asked for and judged afterwards.
//!
//! The verifier proves that the client has the key of the certificate that it shows, and nothing else. Whether the
//! certificate is one of ours is judged once a connection by `api::caller`, which can say why not in words. There is no
//! resumption: a resumed session would skip the verifier.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::issue::OwnCertificate;

/// Certificates that a client may send; we send and take one, some send its authority along.
const MAX_CHAIN: usize = 4;

/// Our own certificate, which can be replaced while connections come in.
#[derive(Debug)]
pub(crate) struct OwnKey(RwLock<Arc<CertifiedKey>>);

impl OwnKey {
    pub(crate) fn new(own: OwnCertificate) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self(RwLock::new(certified(own)?))))
    }

    pub(crate) fn replace(&self, own: OwnCertificate) -> Result<(), rustls::Error> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified(own)?;
        Ok(())
    }
}

fn certified(own: OwnCertificate) -> Result<Arc<CertifiedKey>, rustls::Error> {
    Ok(Arc::new(CertifiedKey::from_der(own.chain, own.key, &aws_lc_rs::default_provider())?))
}

impl ResolvesServerCert for OwnKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

pub(crate) fn server_config(own: Arc<OwnKey>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(ProofOfPossession(Arc::clone(&provider)));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Verifies the signature of the handshake alone.
#[derive(Debug)]
struct ProofOfPossession(Arc<CryptoProvider>);

impl ClientCertVerifier for ProofOfPossession {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(rustls::CertificateError::BadEncoding.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
