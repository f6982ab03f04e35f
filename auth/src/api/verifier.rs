//! Which server certificate is authd's: signed by a known authority, or by one that has a known pin.
//!
//! Both end in rustls' own verifier (signature, dates, serverAuth, the name asked for). A pin only decides which of the
//! presented certificates may stand as the root.

use std::sync::{Arc, Mutex};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ApiError, CaPin, ClientIdentity, Trust};

/// More certificates than any authd sends; what comes after is not looked at.
const MAX_PRESENTED: usize = 8;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(super) fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<ClientIdentity>,
) -> Result<ClientConfig, ApiError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ApiError::Configuration)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(ClientIdentity { chain, key }) => {
            builder.with_client_auth_cert(chain, key).map_err(ApiError::ClientIdentity)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the certificates on both sides.
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(super) fn for_trust(trust: Trust) -> Result<Arc<dyn ServerCertVerifier>, ApiError> {
    match trust {
        Trust::Pins(pins) if pins.is_empty() => Err(ApiError::NoAuthorities),
        Trust::Pins(pins) => Ok(Arc::new(Presented { accept: Accept::Pins(pins), provider: provider() })),
        Trust::Authorities(authorities) => {
            let verifier = under(authorities, &provider()).map_err(|_| ApiError::NoAuthorities)?;
            Ok(verifier)
        }
    }
}

/// Accepts whatever stands under the authority that it presents, and keeps that authority. For a question to a human;
/// never for a connection that is used.
pub(super) fn capture(seen: Arc<Mutex<Option<CertificateDer<'static>>>>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Presented { accept: Accept::AnyToShow(seen), provider: provider() })
}

/// True for the error of a server none of whose authorities has a trusted pin.
pub(super) fn is_pin_mismatch(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(OtherError(other))) if other.is::<NoSuchPin>())
}

#[derive(Debug, thiserror::Error)]
#[error("no presented authority has a trusted pin")]
struct NoSuchPin;

fn under(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|_| Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

#[derive(Debug)]
enum Accept {
    Pins(Vec<CaPin>),
    AnyToShow(Arc<Mutex<Option<CertificateDer<'static>>>>),
}

/// Takes the root from what the server presents.
#[derive(Debug)]
struct Presented {
    accept: Accept,
    provider: Arc<CryptoProvider>,
}

impl Presented {
    fn root<'a>(&self, presented: &'a [CertificateDer<'a>]) -> Option<&'a CertificateDer<'a>> {
        presented.iter().take(MAX_PRESENTED).filter(|certificate| is_authority(certificate)).find(
            |authority| match &self.accept {
                Accept::Pins(pins) => CaPin::of(authority).is_some_and(|pin| pins.contains(&pin)),
                Accept::AnyToShow(_) => true,
            },
        )
    }
}

fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(rest, certificate)| rest.is_empty() && certificate.is_ca())
}

impl ServerCertVerifier for Presented {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let no_such_pin =
            || Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NoSuchPin))));
        let root = self.root(intermediates).ok_or_else(no_such_pin)?.clone().into_owned();
        // Not the other presented certificates: authd's own is signed by the authority directly.
        let verified = under([root.clone()], &self.provider)?.verify_server_cert(
            end_entity,
            &[],
            server_name,
            ocsp_response,
            now,
        )?;
        if let Accept::AnyToShow(seen) = &self.accept
            && let Ok(mut seen) = seen.lock()
        {
            *seen = Some(root);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
