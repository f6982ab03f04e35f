//! Who a client proves to be, and how it can be asked for more.

use rustls_pki_types::CertificateDer;

use crate::Secret;

/// What a client has proved, before anybody judged it: the keys are its own, and nothing else is known of the
/// certificates. Their chains are as anybody may make them.
#[derive(Clone, Debug, Default)]
pub enum Peer {
    /// Nothing.
    #[default]
    None,
    /// The chain that it presented, leaf first, at least one; the leaf's key has signed the TLS handshake.
    X509(Vec<CertificateDer<'static>>),
    /// An OpenSSH certificate, whose key has signed the SSH login.
    Ssh(SshProof),
    /// Both: SSH inside TLS. That both name the same user is for the judge to see.
    SshInTls {
        /// As in [`Peer::X509`].
        chain: Vec<CertificateDer<'static>>,
        /// As in [`Peer::Ssh`].
        ssh: SshProof,
    },
}

/// An OpenSSH certificate, and the session that its key has signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshProof {
    /// The certificate in its wire form (OpenSSH PROTOCOL.certkeys), exactly as the client sent it. Whether its
    /// authority, dates, type and principals are good, nobody has looked at.
    pub certificate: Vec<u8>,
    /// The exchange hash of the connection's first key exchange (RFC 4253 §7.2): no other connection has the
    /// same, and the client's signature covers it.
    pub session_hash: [u8; 32],
}

impl Peer {
    /// A TLS client's, whose chain may be empty.
    #[must_use]
    pub fn from_chain(chain: Vec<CertificateDer<'static>>) -> Self {
        if chain.is_empty() { Self::None } else { Self::X509(chain) }
    }

    /// The X.509 chain, leaf first; empty where there is none.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::None | Self::Ssh(_) => &[],
            Self::X509(chain) | Self::SshInTls { chain, .. } => chain,
        }
    }

    /// What was proved by SSH, if anything was.
    #[must_use]
    pub fn ssh(&self) -> Option<&SshProof> {
        match self {
            Self::None | Self::X509(_) => None,
            Self::Ssh(ssh) | Self::SshInTls { ssh, .. } => Some(ssh),
        }
    }

    /// Whether nothing was proved.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// A question to a client that waits at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What it is about, in lines: shown above the question. At most 2,000 bytes.
    pub instruction: String,
    /// The question itself, shown before the cursor: `Enter an OTP code from a device: `.
    pub question: String,
    /// Whether what is typed may be seen.
    pub echo: bool,
}

/// What came of a [`Prompt`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// What was typed: at most 1,024 bytes of UTF-8.
    Given(Secret),
    /// The protocol, or this client, cannot be asked. It is still there, to be refused.
    Unable,
    /// It went away, gave up, took too long, or sent what is no answer.
    Gone,
}
