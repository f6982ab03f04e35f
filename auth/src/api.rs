//! The typed way to authd: one HTTP/2 connection over our own TLS, which mends itself.
//!
//! Who authd is, is checked by one of two kinds of [`Trust`]; in both the certificate must carry the fixed name
//! [`AUTHD_SERVER_NAME`], whatever address was dialled, so that no public name service has a say in it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Channel, Endpoint};

use self::dial::Dial;
use crate::identity::TargetName;

mod dial;
mod pin;
pub mod touch;
mod verifier;

#[cfg(test)]
mod tests;

pub use pin::{CaPin, CaPinError};

/// The name that authd's certificate carries and that every client of the API verifies.
pub const AUTHD_SERVER_NAME: &str = "authd.touchstone.internal";

/// A connection that is not there after this time is not coming: name lookup, TCP and TLS together.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// No call of the API takes longer (the slowest hashes a password).
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of an HTTP/2 frame that authd takes (RFC 9113 section 6.5.2, SETTINGS_MAX_FRAME_SIZE): most batches of a
/// sidecar's audit trail are one. Each frame is a write at least.
pub const MAX_FRAME: u32 = 320 * 1024;

/// A peer that answers no HTTP/2 ping within two of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The name that a sidecar's certificate carries for a target, and that the tunnel of tsh verifies.
#[must_use]
pub fn target_server_name(target: &TargetName) -> String {
    format!("{target}.target.touchstone.internal")
}

/// What makes a server authd.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Its certificate is signed by one of these host authorities.
    Authorities(Vec<CertificateDer<'static>>),
    /// Its certificate is signed by an authority that it presents and that has one of these pins.
    Pins(Vec<CaPin>),
}

/// The client certificate to present, and its key.
pub struct ClientIdentity {
    /// The certificate, then whatever is to be sent after it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

/// Why there is no connection to authd.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Not of the form HOST:PORT.
    #[error("{address} is not of the form HOST:PORT")]
    Address {
        /// What was given.
        address: String,
    },
    /// Name lookup or TCP failed.
    #[error("cannot reach {address}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// No connection within [`CONNECT_DEADLINE`].
    #[error("cannot reach {address}: no answer within {} s", CONNECT_DEADLINE.as_secs())]
    TimedOut {
        /// What was dialled.
        address: String,
    },
    /// No authority that the server presents has a trusted pin.
    #[error("the certificate of {address} does not match the CA pin")]
    PinMismatch {
        /// What was dialled.
        address: String,
    },
    /// The certificate is not authd's: other authority, other name, out of date.
    #[error("the certificate of {address} is not trusted")]
    Untrusted {
        /// What was dialled.
        address: String,
        /// What rustls found.
        source: rustls::Error,
    },
    /// The TLS handshake failed otherwise.
    #[error("TLS with {address} failed")]
    Tls {
        /// What was dialled.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing to trust was given, or what was given are not certificates.
    #[error("there is no certificate authority to trust")]
    NoAuthorities,
    /// This machine's TLS library cannot do what the API asks for.
    #[error("TLS 1.3 is not available")]
    Configuration(#[source] rustls::Error),
    /// The client certificate and its key do not fit, or cannot be used.
    #[error("the client certificate cannot be used")]
    ClientIdentity(#[source] rustls::Error),
    /// The admin socket cannot be opened.
    #[error("cannot open {}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Connected, but the peer does not speak HTTP/2.
    #[error("{address} does not speak the API")]
    Http2 {
        /// What was dialled.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// An authority that a server presented. Nobody has said that it is to be trusted.
#[derive(Clone, Debug)]
pub struct ProbedAuthority {
    /// What to show, and to compare with what the administrator says.
    pub pin: CaPin,
    /// The authority's certificate.
    pub certificate: CertificateDer<'static>,
}

/// Connects to authd at HOST:PORT. The first connection is made before this returns; the channel connects again by itself
/// when it is lost, each call has [`CALL_DEADLINE`] to be answered.
///
/// # Errors
/// [`ApiError`] in words that may be shown to the user.
pub async fn connect(
    address: &str,
    trust: Trust,
    identity: Option<ClientIdentity>,
) -> Result<Channel, ApiError> {
    let tls = verifier::client_config(verifier::for_trust(trust)?, identity)?;
    let dialer = dial::Tls::new(address, tls)?;
    let first = dialer.dial().await?;
    // The endpoint's name is what the requests say, not what is dialled.
    endpoint("https://authd.touchstone.internal")
        .connect_with_connector(dial::Connector::new(dialer, first))
        .await
        .map_err(|source| ApiError::Http2 { address: address.to_owned(), source })
}

/// Connects to the admin socket of an authd on this host.
///
/// # Errors
/// [`ApiError::Socket`] where there is none, or it is not ours to open.
pub async fn connect_unix(path: &Path) -> Result<Channel, ApiError> {
    let dialer = dial::Unix::new(path);
    let first = dialer.dial().await?;
    endpoint("http://localhost")
        .connect_with_connector(dial::Connector::new(dialer, first))
        .await
        .map_err(|source| ApiError::Http2 { address: path.display().to_string(), source })
}

/// Asks HOST:PORT which authority it stands under, without trusting it: for the question `Are you sure you want to continue
/// connecting`. A [`Trust::Pins`] of the answer connects to this server and no other. Nothing is sent beyond the handshake.
///
/// # Errors
/// As [`connect`]; [`ApiError::Untrusted`] where the server's certificate would not do under its own authority either.
pub async fn probe(address: &str) -> Result<ProbedAuthority, ApiError> {
    let seen = Arc::new(Mutex::new(None));
    let tls = verifier::client_config(verifier::capture(Arc::clone(&seen)), None)?;
    drop(dial::Tls::new(address, tls)?.dial().await?);
    let certificate = seen.lock().ok().and_then(|mut seen| seen.take());
    let certificate = certificate.ok_or(ApiError::NoAuthorities)?;
    let pin = CaPin::of(&certificate).ok_or(ApiError::NoAuthorities)?;
    Ok(ProbedAuthority { pin, certificate })
}

fn endpoint(uri: &'static str) -> Endpoint {
    Endpoint::from_static(uri)
        .timeout(CALL_DEADLINE)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
}
