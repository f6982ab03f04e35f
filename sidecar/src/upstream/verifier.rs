//! Which certificate is the upstream's: the chain, the name, or neither, by mode.

use std::{fmt, fs, io, path::Path, sync::Arc};

use auth::replica::Replica;
use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};

use crate::{config::TlsMode, tls::provider};

/// Whom to believe about the upstream.
#[derive(Clone)]
pub(crate) enum Roots {
    /// The cluster's db authorities, as the replica has them at each handshake: a rotation needs no restart.
    Cluster(Arc<Replica>),
    /// The certificates of a file, read at start.
    Fixed(Arc<RootCertStore>),
}

impl Roots {
    /// Reads a PEM file with at least one certificate.
    ///
    /// # Errors
    /// It cannot be read, or holds none that can be a root.
    pub(super) fn from_file(path: &Path) -> io::Result<Self> {
        let invalid =
            |error: &dyn fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let pem = fs::read(path)?;
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| invalid(&error))?;
            store.add(certificate).map_err(|error| invalid(&error))?;
        }
        if store.is_empty() {
            return Err(invalid(&"no certificates"));
        }
        Ok(Self::Fixed(Arc::new(store)))
    }

    fn store(&self) -> Arc<RootCertStore> {
        match self {
            Self::Fixed(store) => Arc::clone(store),
            Self::Cluster(replica) => {
                let mut store = RootCertStore::empty();
                // What cannot be a root vouches for nobody.
                store.add_parsable_certificates(replica.snapshot().database_authorities().iter().cloned());
                Arc::new(store)
            }
        }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster(_) => "Cluster",
            Self::Fixed(_) => "Fixed",
        })
    }
}

pub(super) fn upstream_verifier(mode: TlsMode, roots: Roots) -> Arc<dyn ServerCertVerifier> {
    Arc::new(UpstreamVerifier { mode, roots, provider: provider() })
}

#[derive(Debug)]
struct UpstreamVerifier {
    mode: TlsMode,
    roots: Roots,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (check_chain, check_name) = match self.mode {
            // A plaintext upstream has no handshake; if it ever came to one, nothing would be waived.
            TlsMode::VerifyFull | TlsMode::Plaintext => (true, true),
            TlsMode::VerifyCa => (true, false),
            TlsMode::Insecure => (false, false),
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if check_chain {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots.store(),
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        if check_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
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
