//! The way to the host's own sshd: who it is, and who we are there.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::fault::SshFault;
use super::key::SshKey;
use super::message;
use super::transport::Transport;
use super::wire::Put;
use crate::endpoint::{Allowed, Credential, Endpoint, Socket};
use crate::error::{DialError, UpstreamReport};
use crate::reader::Reader;
use crate::text::one_line;
use crate::{Login, SshTerms};

/// For the connection alone: that a host is not there is told sooner than that it takes its time.
const CONNECT: Duration = Duration::from_secs(15);
/// Banners that are kept for the client, and bytes of them all.
const BANNERS: usize = 8;
const BANNER_BYTES: usize = 16 * 1024;

/// A connection to a host that is logged in.
pub struct SshUpstream {
    pub(super) transport: Transport<Socket>,
    /// What the host says before login, as messages for the client.
    pub(super) banners: Vec<Vec<u8>>,
    pub(super) allowed: Allowed,
}

impl std::fmt::Debug for SshUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshUpstream").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

/// Connects and logs in, within the deadline.
pub(super) async fn dial(
    endpoint: &Endpoint,
    login: &Login,
    deadline: Duration,
) -> Result<SshUpstream, DialError> {
    let terms = endpoint.ssh.as_ref().ok_or(DialError::NotSsh)?;
    let Credential::Ssh { key, certificate } = &endpoint.credential else {
        return Err(DialError::NoCredential { method: "publickey" });
    };
    let connected = async {
        let socket = timeout(CONNECT, endpoint.address.connect()).await;
        let socket = socket.map_err(|_| DialError::Deadline(CONNECT))?.map_err(DialError::Connect)?;
        log_in(socket, terms, &login.user, key, certificate.as_deref()).await
    };
    timeout(deadline, connected).await.map_err(|_| DialError::Deadline(deadline))?
}

async fn log_in(
    socket: Socket,
    terms: &SshTerms,
    user: &str,
    key: &SshKey,
    certificate: Option<&[u8]>,
) -> Result<SshUpstream, DialError> {
    let mut transport = Transport::connect(socket, &terms.host_keys).await.map_err(failed)?;
    let banners = authenticate(&mut transport, user, key, certificate).await?;
    transport.incoming.lift_budget();
    Ok(SshUpstream { transport, banners, allowed: terms.allowed })
}

/// By public key, at once: whether the key would do is not asked first.
async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut Transport<S>,
    user: &str,
    key: &SshKey,
    certificate: Option<&[u8]>,
) -> Result<Vec<Vec<u8>>, DialError> {
    let mut service = vec![message::SERVICE_REQUEST];
    service.put_string(b"ssh-userauth");
    // Both at once: a server that does not accept the one does not read the other.
    transport.outgoing.put(&service).map_err(failed)?;
    let request = request(&transport.side.session(), user, key, certificate).map_err(failed)?;
    transport.send(&request).await.map_err(failed)?;
    let mut banners = Vec::new();
    let mut bytes = 0;
    let mut accepted = false;
    loop {
        let payload = transport.message().await.map_err(failed)?;
        match (&*payload, accepted) {
            ([message::SERVICE_ACCEPT, ..], false) => accepted = true,
            ([message::USERAUTH_SUCCESS], true) => return Ok(banners),
            ([message::USERAUTH_FAILURE, rest @ ..], true) => return Err(rejected(rest)),
            ([message::USERAUTH_BANNER, ..], true) => {
                bytes += payload.len();
                if banners.len() < BANNERS && bytes <= BANNER_BYTES {
                    banners.push(payload.to_vec());
                }
            }
            _ => return Err(DialError::Protocol("a message that has no place in a login")),
        }
    }
}

/// A login request, signed for this very session (RFC 4252 §7).
fn request(
    session: &[u8; 32],
    user: &str,
    key: &SshKey,
    certificate: Option<&[u8]>,
) -> Result<Vec<u8>, SshFault> {
    let algorithm = match certificate {
        Some(certificate) => Reader::new(certificate).string()?,
        None => key.algorithm().as_bytes(),
    };
    let mut request = vec![message::USERAUTH_REQUEST];
    request.put_string(user.as_bytes());
    request.put_string(b"ssh-connection");
    request.put_string(b"publickey");
    request.put_bool(true);
    request.put_string(algorithm);
    request.put_string(certificate.unwrap_or(key.public()));
    let mut signed = Vec::new();
    signed.put_string(session);
    signed.extend_from_slice(&request);
    request.put_string(&key.sign(&signed)?);
    Ok(request)
}

fn failed(fault: SshFault) -> DialError {
    match fault {
        SshFault::Host(unknown) => DialError::UnknownHost(unknown),
        fault => DialError::Ssh(fault),
    }
}

/// "No", and how else we might try.
fn rejected(rest: &[u8]) -> DialError {
    let methods = one_line(Reader::new(rest).string().unwrap_or_default(), 200);
    let message = format!("the key is not accepted; methods that can continue: {methods}");
    DialError::Rejected(UpstreamReport { sql_state: None, number: None, message })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::UpstreamAddress;
    use crate::ssh::HostKeys;

    #[tokio::test]
    async fn a_silent_host_meets_the_deadline() {
        // It is connected to by the kernel, and nobody ever answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint {
            address: UpstreamAddress::Tcp { host: "127.0.0.1".into(), port },
            tls: None,
            credential: Credential::Ssh { key: SshKey::generate().unwrap(), certificate: None },
            settings: Vec::new(),
            replication_allowed: false,
            local_infile_allowed: false,
            ssh: Some(SshTerms { host_keys: HostKeys::default(), allowed: Allowed::default() }),
        };
        let login = Login {
            user: "alice".into(),
            database: None,
            replication: crate::Replication::None,
            carried: crate::Carried::default(),
        };
        let limit = Duration::from_millis(100);
        let error = dial(&endpoint, &login, limit).await.unwrap_err();
        assert!(matches!(error, DialError::Deadline(met) if met == limit), "{error:?}");
    }
}
