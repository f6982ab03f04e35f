//! To the sidecar: TCP, what MySQL says before TLS, TLS with the session certificate, and the proof that it guards this very
//! target.

use std::{sync::Arc, time::Duration};

use auth::{api::target_server_name, identity::TargetName};
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{database::DatabaseProtocol, session::Credential};

mod starttls;

use self::starttls::Opened;

/// A sidecar that has not answered after this long is away.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// What the sidecar of a node offers: TLS first, and SSH inside it. Teleport's word.
const SSH_ALPN: &[u8] = b"teleport-proxy-ssh";

/// Why there is no connection to a sidecar.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The certificate or its authorities cannot be used.
    #[error("the session certificate cannot be used")]
    Credential(#[source] rustls::Error),
    /// The target's name cannot be.
    #[error("{0:?} is not the name of a target")]
    Name(String),
    /// TCP failed.
    #[error("cannot reach {address}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("cannot reach {address}: no answer within {} s", DIAL_DEADLINE.as_secs())]
    TimedOut {
        /// What was dialled.
        address: String,
    },
    /// It said no before anybody proved anything, so these words may be anybody's.
    #[error("{address} said: {message}")]
    Refused {
        /// What was dialled.
        address: String,
        /// Its words.
        message: String,
    },
    /// TLS failed: not the sidecar of this target, or it turned the certificate down.
    #[error("{address} is not a sidecar of {target} that can be trusted")]
    Tls {
        /// What was dialled.
        address: String,
        /// The target.
        target: String,
        /// Why.
        source: std::io::Error,
    },
    /// The other end does not offer tunnels.
    #[error("{address} does not offer tunnels for this protocol")]
    Protocol {
        /// What was dialled.
        address: String,
    },
}

/// A TLS connection to the sidecar of the credential's target.
///
/// # Errors
/// [`DialError`].
pub async fn dial(credential: &Credential) -> Result<TlsStream<TcpStream>, DialError> {
    let address = credential.target.public_addr.clone();
    let protocol = DatabaseProtocol::parse(&credential.target.protocol)
        .ok_or_else(|| DialError::Protocol { address: address.clone() })?;
    let alpn = protocol.tunnel_alpn();
    let begin = async {
        let mut socket = connect(&address).await?;
        if protocol == DatabaseProtocol::Mysql {
            let opened = starttls::open(&mut socket).await;
            let cut_off = |source| DialError::Unreachable { address: address.clone(), source };
            if let Opened::Refused(message) = opened.map_err(cut_off)? {
                return Err(DialError::Refused { address: address.clone(), message });
            }
        }
        Ok(socket)
    };
    tls(credential, alpn, begin).await
}

/// A TLS connection to the sidecar of a node, for an SSH client to speak through (`tsh proxy ssh`).
///
/// # Errors
/// [`DialError`].
pub async fn dial_node(credential: &Credential) -> Result<TlsStream<TcpStream>, DialError> {
    tls(credential, SSH_ALPN, connect(&credential.target.public_addr)).await
}

/// TLS with the credential over what `begin` opens, to the sidecar of its target and no other.
async fn tls(
    credential: &Credential,
    alpn: &[u8],
    begin: impl Future<Output = Result<TcpStream, DialError>>,
) -> Result<TlsStream<TcpStream>, DialError> {
    let address = &credential.target.public_addr;
    let config = client_config(credential, alpn).map_err(DialError::Credential)?;
    let name = server_name(&credential.target.name)?;
    let connected = async {
        let socket = begin.await?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        let target = credential.target.name.clone();
        connected.map_err(|source| DialError::Tls { address: address.clone(), target, source })
    };
    let timed_out = |_| DialError::TimedOut { address: address.clone() };
    let stream = timeout(DIAL_DEADLINE, connected).await.map_err(timed_out)??;
    if stream.get_ref().1.alpn_protocol() != Some(alpn) {
        return Err(DialError::Protocol { address: address.clone() });
    }
    Ok(stream)
}

/// A plain TCP connection to a sidecar, for clients that bring their own TLS.
///
/// # Errors
/// [`DialError`].
pub async fn dial_plain(address: &str) -> Result<TcpStream, DialError> {
    let timed_out = || DialError::TimedOut { address: address.to_owned() };
    timeout(DIAL_DEADLINE, connect(address)).await.map_err(|_| timed_out())?
}

async fn connect(address: &str) -> Result<TcpStream, DialError> {
    let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
    let socket = TcpStream::connect(address).await.map_err(unreachable)?;
    socket.set_nodelay(true).map_err(unreachable)?;
    Ok(socket)
}

fn server_name(target: &str) -> Result<ServerName<'static>, DialError> {
    let wrong = || DialError::Name(target.to_owned());
    let name = TargetName::new(target).map_err(|_| wrong())?;
    ServerName::try_from(target_server_name(&name)).map_err(|_| wrong())
}

fn client_config(credential: &Credential, alpn: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for authority in &credential.authorities {
        roots.add(authority.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![credential.certificate.clone()],
            PrivateKeyDer::Pkcs8(credential.key.clone_key()),
        )?;
    config.alpn_protocols = vec![alpn.to_vec()];
    // A resumed session would skip the certificates on both sides.
    config.resumption = Resumption::disabled();
    Ok(config)
}
