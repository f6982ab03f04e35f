//! One SSH connection to one node: dial, verify the host, log in, and end with the reason that the sidecar gave.

use std::{borrow::Cow, sync::Arc, time::Duration};

use russh::{
    Channel, ChannelMsg, Disconnect, Preferred, cipher,
    client::{self, AuthResult, Msg},
    kex, mac,
};
use ssh_key::Algorithm;
use tokio::{net::TcpStream, time::timeout};

use super::{
    forward::Remote,
    handler::{Events, Told},
    host::HostError,
    x11::Display,
};
use crate::session::SshCredential;

/// A sidecar that has not answered after this long is away.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// Version and key exchange.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(30);
/// The login is answered only once the node itself let the sidecar in.
const LOGIN_DEADLINE: Duration = Duration::from_secs(60);
/// What is left to say at the end may take this long.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);
/// Bytes in flight on a channel: 100 MB/s at 80 ms.
const WINDOW: u32 = 8 << 20;
/// Of a connection whose other end went away without a word one hears after three of these.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Key exchange, ciphers and MACs that are sound today; nothing older is spoken to.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// How to connect, beyond with what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's socket, where it shall be forwarded.
    pub agent: Option<std::path::PathBuf>,
    /// The display that windows of the host's may be shown on.
    pub x11: Option<Arc<Display>>,
    /// What the host may open to us, because it was asked to listen for us.
    pub remote: Vec<Remote>,
    /// A sign of life after this long; `None`: never.
    pub keepalive: Option<Duration>,
    /// So many unanswered ones end the connection.
    pub keepalive_max: usize,
    /// How long to wait for the sidecar to be reached.
    pub connect_timeout: Duration,
    /// Say nothing but errors.
    pub quiet: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent: None,
            x11: None,
            remote: Vec::new(),
            keepalive: Some(KEEPALIVE),
            keepalive_max: 3,
            connect_timeout: DIAL_DEADLINE,
            quiet: false,
        }
    }
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// TCP failed.
    #[error("cannot reach {address}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("cannot reach {address}: no answer within {} s", .after.as_secs())]
    TimedOut {
        /// What was dialled.
        address: String,
        /// After so long.
        after: Duration,
    },
    /// It is not the sidecar of this node.
    #[error("{address} is not a sidecar of {target} that can be trusted")]
    Host {
        /// What was dialled.
        address: String,
        /// The node.
        target: String,
        /// Why.
        source: HostError,
    },
    /// The sidecar said no, or ended the session: its own words.
    #[error("{0}")]
    Refused(String),
    /// The certificate was not accepted, and no reason was given.
    #[error("access denied to {login} connecting to {target}")]
    Denied {
        /// The account.
        login: String,
        /// The node.
        target: String,
    },
    /// What was asked for on the connection was not granted.
    #[error("{what} was refused by {target}")]
    Request {
        /// What.
        what: &'static str,
        /// The node.
        target: String,
    },
    /// The connection broke, or the other end does not speak SSH as we do.
    #[error("the SSH connection to {target} failed")]
    Protocol {
        /// The node.
        target: String,
        /// Why.
        source: russh::Error,
    },
    /// It ended without a word.
    #[error("the connection to {target} was lost")]
    Lost {
        /// The node.
        target: String,
    },
}

/// A connection that is logged in.
pub struct SshConnection {
    handle: client::Handle<Events>,
    told: Arc<Told>,
    target: String,
}

impl SshConnection {
    /// Connects to the sidecar of the credential's target and logs in.
    ///
    /// # Errors
    /// [`SshError`]; a refusal comes in the sidecar's own words.
    pub async fn open(credential: &SshCredential, settings: &Settings) -> Result<Self, SshError> {
        let address = &credential.target.public_addr;
        let unreachable = |source| SshError::Unreachable { address: address.clone(), source };
        let late = |after| move |_| SshError::TimedOut { address: address.clone(), after };
        let dialled = timeout(settings.connect_timeout, TcpStream::connect(address.as_str())).await;
        let socket = dialled.map_err(late(settings.connect_timeout))?.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let opening = Self::over(socket, credential, settings);
        Box::pin(opening).await
    }

    async fn over(
        socket: TcpStream,
        credential: &SshCredential,
        settings: &Settings,
    ) -> Result<Self, SshError> {
        let (address, target) = (credential.target.public_addr.clone(), credential.target.name.clone());
        let told = Arc::new(Told::default());
        let events = Events::new(credential, settings, Arc::clone(&told));
        let late = |after| {
            let address = address.clone();
            move |_| SshError::TimedOut { address, after }
        };
        let connecting = client::connect_stream(Arc::new(config(settings)), socket, events);
        let connected = timeout(HANDSHAKE_DEADLINE, connecting).await.map_err(late(HANDSHAKE_DEADLINE))?;
        let mut handle = connected.map_err(|source| match told.host() {
            Some(source) => SshError::Host { address: address.clone(), target: target.clone(), source },
            None => told.or_protocol(&target, source),
        })?;
        let login = handle.authenticate_openssh_cert(
            credential.login.clone(),
            Arc::clone(&credential.key),
            credential.certificate.clone(),
        );
        let answer = timeout(LOGIN_DEADLINE, login).await.map_err(late(LOGIN_DEADLINE))?;
        match answer.map_err(|source| told.or_protocol(&target, source))? {
            AuthResult::Success => Ok(Self { handle, told, target }),
            AuthResult::Failure { .. } => {
                // What the sidecar says, it says as it hangs up.
                let _ = timeout(GOODBYE_DEADLINE, told.over()).await;
                let denied = || SshError::Denied { login: credential.login.clone(), target };
                Err(told.words().map_or_else(denied, SshError::Refused))
            }
        }
    }

    /// A channel for a program or a subsystem.
    ///
    /// # Errors
    /// [`SshError::Request`], or why the connection ended.
    pub async fn session_channel(&self) -> Result<Channel<Msg>, SshError> {
        self.handle.channel_open_session().await.map_err(|error| self.refused("the session", error))
    }

    /// A channel that leads from the node to a port.
    ///
    /// # Errors
    /// What russh says: the reason goes to whoever asked for the port.
    pub async fn direct_tcpip(
        &self,
        host: &str,
        port: u16,
        origin: (String, u16),
    ) -> Result<Channel<Msg>, russh::Error> {
        let (address, origin_port) = origin;
        self.handle.channel_open_direct_tcpip(host, port.into(), address, origin_port.into()).await
    }

    /// A channel that leads from the node to a Unix socket there.
    ///
    /// # Errors
    /// As [`SshConnection::direct_tcpip`].
    pub async fn direct_streamlocal(&self, path: &str) -> Result<Channel<Msg>, russh::Error> {
        self.handle.channel_open_direct_streamlocal(path).await
    }

    /// Asks the node to listen for us; answers with the port, where it was to be chosen there.
    ///
    /// # Errors
    /// [`SshError::Request`], or why the connection ended.
    pub async fn listen(&self, remote: &Remote) -> Result<Option<u16>, SshError> {
        let asked = remote.ask(&self.handle).await;
        let port = asked.map_err(|error| self.refused("remote port forwarding", error))?;
        if let Some(port) = port {
            self.told.chosen(remote, port);
        }
        Ok(port)
    }

    /// A channel for a subsystem such as `sftp`, granted.
    ///
    /// # Errors
    /// [`SshError::Request`], or why the connection ended.
    pub async fn subsystem(&self, name: &'static str) -> Result<Channel<Msg>, SshError> {
        let mut channel = self.session_channel().await?;
        let asked = channel.request_subsystem(true, name).await;
        asked.map_err(|error| self.refused(name, error))?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => return Ok(channel),
                Some(ChannelMsg::WindowAdjusted { .. } | ChannelMsg::ExtendedData { .. }) => {}
                Some(_) => return Err(self.request(name)),
                None => return Err(self.ended()),
            }
        }
    }

    /// Waits for the end of the connection, and says why.
    pub async fn closed(&self) -> SshError {
        self.told.over().await;
        self.ended()
    }

    /// Hangs up, and waits a moment for that to be sent.
    pub async fn close(&self) {
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
        let _ = timeout(GOODBYE_DEADLINE, self.told.over()).await;
    }

    /// Why the connection is gone: the sidecar's words where it said any.
    #[must_use]
    pub fn ended(&self) -> SshError {
        let lost = || SshError::Lost { target: self.target.clone() };
        self.told.words().map_or_else(lost, SshError::Refused)
    }

    /// The refusal of one request.
    #[must_use]
    pub fn request(&self, what: &'static str) -> SshError {
        SshError::Request { what, target: self.target.clone() }
    }

    pub(super) fn refused(&self, what: &'static str, error: russh::Error) -> SshError {
        match error {
            russh::Error::ChannelOpenFailure(_) | russh::Error::RequestDenied => self.request(what),
            russh::Error::SendError | russh::Error::Disconnect => self.ended(),
            error => self.told.or_protocol(&self.target, error),
        }
    }
}

fn config(settings: &Settings) -> client::Config {
    client::Config {
        window_size: WINDOW,
        keepalive_interval: settings.keepalive,
        keepalive_max: settings.keepalive_max,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            // A plain key is named, so that one that is presented is refused in words that say so.
            key: Cow::Owned(vec![Algorithm::Ed25519]),
            host_key_certificates: Cow::Owned(vec![Algorithm::Ed25519]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[russh::compression::NONE]),
        },
        ..client::Config::default()
    }
}

#[cfg(test)]
mod tests;
