//! Which certificate is the upstream's: the chain, the name, or neither, by mode. HOT.
//!
//! An upstream shows the same chain to each session. Whether somebody whom we believe has signed it depends on its bytes, on
//! whom we believe, and on the time; on the time in no other way than that each certificate is valid then. So a chain that
//! was good is remembered, by SHA-256 over all of its bytes and the generation of the roots, with the time for which all its
//! certificates are valid: within that, the same judgement would come out again. The name, and that the upstream holds
//! the key, are looked at each time.

use std::{
    fmt, fs, io,
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use auth::{
    certificate::x509,
    replica::{Replica, Snapshot},
};
use aws_lc_rs::digest::{Context, Digest, SHA256};
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

    fn now(&self) -> Believed {
        match self {
            Self::Fixed(store) => Believed::Fixed(Arc::clone(store)),
            Self::Cluster(replica) => Believed::Cluster(replica.snapshot()),
        }
    }
}

/// Whom to believe in one handshake.
enum Believed {
    Cluster(Arc<Snapshot>),
    Fixed(Arc<RootCertStore>),
}

impl Believed {
    /// Changes whenever they may have changed.
    fn generation(&self) -> u64 {
        match self {
            Self::Cluster(snapshot) => snapshot.generation(),
            Self::Fixed(_) => 0,
        }
    }

    fn store(&self) -> Arc<RootCertStore> {
        match self {
            Self::Fixed(store) => Arc::clone(store),
            Self::Cluster(snapshot) => {
                let mut store = RootCertStore::empty();
                // What cannot be a root vouches for nobody.
                store.add_parsable_certificates(snapshot.database_authorities().iter().cloned());
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
    Arc::new(UpstreamVerifier { mode, roots, provider: provider(), good: ArcSwapOption::empty() })
}

#[derive(Debug)]
struct UpstreamVerifier {
    mode: TlsMode,
    roots: Roots,
    provider: Arc<CryptoProvider>,
    /// The last chain that was.
    good: ArcSwapOption<GoodChain>,
}

/// A chain that somebody whom we believe has signed.
#[derive(Debug)]
struct GoodChain {
    sha256: Digest,
    generation: u64,
    /// While all of its certificates are valid.
    during: RangeInclusive<SystemTime>,
}

impl UpstreamVerifier {
    fn verify_chain(
        &self,
        certificate: &ParsedCertificate<'_>,
        chain: &Chain<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let (believed, sha256) = (self.roots.now(), chain.sha256());
        let is_known = self.good.load().as_ref().is_some_and(|good| {
            good.generation == believed.generation()
                && good.sha256.as_ref() == sha256.as_ref()
                && good.during.contains(&system_time(now))
        });
        if is_known {
            return Ok(());
        }
        verify_server_cert_signed_by_trust_anchor(
            certificate,
            &believed.store(),
            chain.intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        // One whose dates cannot be read is verified each time.
        if let Some(during) = chain.validity() {
            self.good.store(Some(Arc::new(GoodChain { sha256, generation: believed.generation(), during })));
        }
        Ok(())
    }
}

/// What an upstream shows.
struct Chain<'a> {
    end_entity: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
}

impl Chain<'_> {
    fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'_>> {
        std::iter::once(self.end_entity).chain(self.intermediates)
    }

    /// Over each certificate behind its length.
    fn sha256(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        for certificate in self.certificates() {
            context.update(&certificate.len().to_be_bytes());
            context.update(certificate);
        }
        context.finish()
    }

    /// While all of them are valid, those included that no path to a root needs.
    fn validity(&self) -> Option<RangeInclusive<SystemTime>> {
        let all = self.certificates().map(x509::validity).collect::<Option<Vec<_>>>()?;
        let not_before = all.iter().map(|validity| *validity.start()).max()?;
        let not_after = all.iter().map(|validity| *validity.end()).min()?;
        Some(not_before..=not_after)
    }
}

fn system_time(at: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(at.as_secs())
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
            self.verify_chain(&certificate, &Chain { end_entity, intermediates }, now)?;
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

#[cfg(test)]
mod tests;
