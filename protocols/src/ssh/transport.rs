//! One end of a connection before anybody is logged in: identification, key exchange, and messages one after the
//! other (RFC 4253).

use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

use super::algorithms::{self, Role};
use super::fault::SshFault;
use super::host::{HostIdentity, HostKeys};
use super::kex::{self, ClientShare, Exchange, Shared};
use super::key::{SshKey, verify};
use super::message;
use super::packet::{Incoming, Outgoing};
use super::wire::Put;
use crate::reader::Reader;
use crate::text::one_line;

/// What we say first. The version is nobody's business.
const IDENTIFICATION: &str = "SSH-2.0-Touchstone";
/// Of an identification line, its end not counted (RFC 4253 §4.2).
const LONGEST_LINE: usize = 253;
/// Lines that a server may send before that one.
const LINES: usize = 64;
/// Bytes that the other side may send before it is logged in, or has logged us in: a key exchange has 4 KiB,
/// and a client may try a handful of certificates of 4 KiB.
const BUDGET: usize = 96 * 1024;
const CERTIFIED: &str = "-cert-v01@openssh.com";

/// What a connection's key exchanges have in common.
pub(super) struct Side {
    end: End,
    client_id: Vec<u8>,
    server_id: Vec<u8>,
    /// The first exchange's hash, once there is one.
    session: Option<[u8; 32]>,
    strict: bool,
}

/// Which end we are, and what is proved there.
enum End {
    /// We prove ourselves, for the whole connection by the same certificate.
    Server { key: SshKey, certificate: Option<Arc<[u8]>> },
    /// The other side proves itself: by this key and blob, once it has.
    Client { host_keys: HostKeys, proved: Option<(Vec<u8>, Vec<u8>)> },
}

/// A connection whose packets are protected.
pub(super) struct Transport<S> {
    pub(super) incoming: Incoming<ReadHalf<S>>,
    pub(super) outgoing: Outgoing<WriteHalf<S>>,
    pub(super) side: Side,
}

impl Side {
    fn role(&self) -> Role {
        match self.end {
            End::Server { .. } => Role::Server,
            End::Client { .. } => Role::Client,
        }
    }

    /// The session's identifier.
    pub(super) fn session(&self) -> [u8; 32] {
        self.session.unwrap_or_default()
    }

    /// Our half of the next exchange's negotiation.
    pub(super) fn proposal(&self) -> Result<Vec<u8>, SshFault> {
        let host_keys = match &self.end {
            End::Client { host_keys, .. } => host_keys.algorithms(),
            End::Server { key, certificate: None } => vec![key.algorithm()],
            End::Server { key, certificate: Some(_) } => vec![certified(key), key.algorithm()],
        };
        algorithms::proposal(self.role(), &host_keys, self.session.is_none())
    }
}

/// The name of a certificate for a key of ours.
fn certified(key: &SshKey) -> &'static str {
    match key.algorithm() {
        super::key::P256_NAME => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        _ => "ssh-ed25519-cert-v01@openssh.com",
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// Towards a client; `None` where it closed without a word.
    pub(super) async fn accept(stream: S, identity: &HostIdentity) -> Result<Option<Self>, SshFault> {
        let end = End::Server { key: identity.key().clone(), certificate: identity.certificate() };
        Self::open(stream, end).await
    }

    /// Towards an upstream.
    pub(super) async fn connect(stream: S, host_keys: &HostKeys) -> Result<Self, SshFault> {
        let end = End::Client { host_keys: host_keys.clone(), proved: None };
        Self::open(stream, end).await?.ok_or(SshFault::Closed)
    }

    async fn open(stream: S, end: End) -> Result<Option<Self>, SshFault> {
        let (read, write) = tokio::io::split(stream);
        let side = Side { end, client_id: Vec::new(), server_id: Vec::new(), session: None, strict: false };
        let mut transport =
            Self { incoming: Incoming::new(read, BUDGET), outgoing: Outgoing::new(write), side };
        let ours = transport.side.proposal()?;
        transport.outgoing.put_raw(format!("{IDENTIFICATION}\r\n").as_bytes());
        transport.outgoing.put(&ours)?;
        transport.outgoing.flush().await?;
        let Some(theirs) = transport.identification().await? else { return Ok(None) };
        let own = IDENTIFICATION.as_bytes().to_vec();
        let is_server = transport.side.role() == Role::Server;
        let (client_id, server_id) = if is_server { (theirs, own) } else { (own, theirs) };
        (transport.side.client_id, transport.side.server_id) = (client_id, server_id);
        transport.incoming.receive().await?;
        let theirs = transport.incoming.payload().to_vec();
        let Self { incoming, outgoing, side } = &mut transport;
        exchange(incoming, outgoing, side, &ours, &theirs).await?;
        Ok(Some(transport))
    }

    /// What the other side says that it is. A client says it at once; a server may say something else before.
    async fn identification(&mut self) -> Result<Option<Vec<u8>>, SshFault> {
        let is_server = self.side.role() == Role::Server;
        for _ in 0..LINES {
            let Some(line) = self.incoming.line(LONGEST_LINE).await? else { return Ok(None) };
            let is_printable = line.iter().all(|byte| (b' '..=b'~').contains(byte));
            if line.starts_with(b"SSH-2.0-") || (!is_server && line.starts_with(b"SSH-1.99-")) {
                return if is_printable { Ok(Some(line)) } else { Err(SshFault::Identification) };
            }
            if is_server || line.starts_with(b"SSH-") {
                break;
            }
        }
        Err(SshFault::Identification)
    }

    /// The next message that means something before login. Its number is in front.
    ///
    /// # Cancel safety
    /// Not cancel safe: the other side may be in the middle of a key exchange.
    pub(super) async fn message(&mut self) -> Result<&mut [u8], SshFault> {
        loop {
            self.incoming.receive().await?;
            match self.incoming.payload() {
                [message::DISCONNECT, rest @ ..] => return Err(disconnected(rest)),
                [message::IGNORE | message::DEBUG | message::UNIMPLEMENTED | message::EXT_INFO, ..] => {}
                [message::KEXINIT, ..] => {
                    let theirs = self.incoming.payload().to_vec();
                    let ours = self.side.proposal()?;
                    self.send(&ours).await?;
                    let Self { incoming, outgoing, side } = self;
                    exchange(incoming, outgoing, side, &ours, &theirs).await?;
                }
                _ => break,
            }
        }
        Ok(self.incoming.payload())
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<(), SshFault> {
        self.outgoing.put(payload)?;
        self.outgoing.flush().await
    }
}

/// A goodbye, as an error that can be read.
pub(super) fn disconnected(rest: &[u8]) -> SshFault {
    let mut reader = Reader::new(rest);
    let reason = reader.u32().unwrap_or_default();
    let text = one_line(reader.string().unwrap_or_default(), 200);
    SshFault::Disconnected { reason, text }
}

/// A key exchange, both KEXINITs of which are sent: until both directions have their new keys.
pub(super) async fn exchange<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    incoming: &mut Incoming<R>,
    outgoing: &mut Outgoing<W>,
    side: &mut Side,
    ours: &[u8],
    theirs: &[u8],
) -> Result<(), SshFault> {
    let first = side.session.is_none();
    let is_server = side.role() == Role::Server;
    let (client_init, server_init) = if is_server { (theirs, ours) } else { (ours, theirs) };
    let agreed = algorithms::negotiate(client_init, server_init, (!first).then_some(side.strict))?;
    if first {
        side.strict = agreed.strict;
        if agreed.strict && incoming.sequence() != 1 {
            return Err(SshFault::KeyExchange("something came before the first KEXINIT"));
        }
    }
    let silent = first && side.strict;
    if agreed.wrong_guess {
        during(incoming, silent).await?;
    }
    let (shared, hash) = if is_server {
        serve(incoming, outgoing, side, (client_init, server_init), &agreed, silent).await?
    } else {
        ask(incoming, outgoing, side, (client_init, server_init), &agreed, silent).await?
    };
    let session = *side.session.get_or_insert(hash);
    let suites = (agreed.to_server, agreed.to_client);
    let (sealing, opening) = shared.protection(is_server, suites, &hash, &session)?;
    outgoing.put(&[message::NEWKEYS])?;
    outgoing.set_sealing(sealing, side.strict);
    if first && is_server && agreed.ext_info {
        outgoing.put(&ext_info())?;
    }
    outgoing.flush().await?;
    match during(incoming, silent).await? {
        [message::NEWKEYS] => {}
        _ => return Err(SshFault::KeyExchange("no NEWKEYS")),
    }
    incoming.set_opening(opening, side.strict);
    Ok(())
}

/// The next message of a key exchange. In a strict first one, nothing else may come at all.
async fn during<R: AsyncRead + Unpin>(incoming: &mut Incoming<R>, silent: bool) -> Result<&[u8], SshFault> {
    loop {
        incoming.receive().await?;
        match incoming.payload() {
            [message::DISCONNECT, rest @ ..] => return Err(disconnected(rest)),
            [message::IGNORE | message::DEBUG | message::UNIMPLEMENTED, ..] if !silent => {}
            [message::NEWKEYS | 30..=49, ..] => break,
            _ => return Err(SshFault::KeyExchange("a message in the middle of it")),
        }
    }
    Ok(incoming.payload())
}

/// Our half as a server.
async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    incoming: &mut Incoming<R>,
    outgoing: &mut Outgoing<W>,
    side: &Side,
    (client_init, server_init): (&[u8], &[u8]),
    agreed: &algorithms::Agreed,
    silent: bool,
) -> Result<(Shared, [u8; 32]), SshFault> {
    let End::Server { key, certificate } = &side.end else {
        return Err(SshFault::KeyExchange("no host key"));
    };
    let mut reader = Reader::new(during(incoming, silent).await?);
    if reader.u8()? != message::KEX_ECDH_INIT {
        return Err(SshFault::KeyExchange("no share of the client's"));
    }
    let client_share = reader.string()?;
    reader.finish()?;
    let (server_share, shared) = kex::answer(agreed.hybrid, client_share)?;
    let host_key = match certificate {
        Some(certificate) if agreed.host_key.ends_with(CERTIFIED) => certificate,
        _ => key.public(),
    };
    let hash = shared.hash(&Exchange {
        client_id: &side.client_id,
        server_id: &side.server_id,
        client_init,
        server_init,
        host_key,
        client_share,
        server_share: &server_share,
    });
    let mut reply = vec![message::KEX_ECDH_REPLY];
    reply.put_string(host_key);
    reply.put_string(&server_share);
    reply.put_string(&key.sign(&hash)?);
    outgoing.put(&reply)?;
    Ok((shared, hash))
}

/// Our half as a client: the other side proves that its host key is the right one.
async fn ask<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    incoming: &mut Incoming<R>,
    outgoing: &mut Outgoing<W>,
    side: &mut Side,
    (client_init, server_init): (&[u8], &[u8]),
    agreed: &algorithms::Agreed,
    silent: bool,
) -> Result<(Shared, [u8; 32]), SshFault> {
    let share = ClientShare::new(agreed.hybrid)?;
    let client_share = share.public.clone();
    let mut init = vec![message::KEX_ECDH_INIT];
    init.put_string(&client_share);
    outgoing.put(&init)?;
    outgoing.flush().await?;
    let mut reader = Reader::new(during(incoming, silent).await?);
    if reader.u8()? != message::KEX_ECDH_REPLY {
        return Err(SshFault::KeyExchange("no share of the server's"));
    }
    let (host_key, server_share, signature) = (reader.string()?, reader.string()?, reader.string()?);
    reader.finish()?;
    if !is_of_type(host_key, &agreed.host_key) {
        return Err(SshFault::KeyExchange("a host key of another type than was agreed on"));
    }
    let End::Client { host_keys, proved } = &mut side.end else {
        return Err(SshFault::KeyExchange("nobody to know"));
    };
    let key = match proved {
        // A certificate that was good when the connection began is not asked for its dates again.
        Some((blob, key)) if blob.as_slice() == host_key => key.clone(),
        _ => host_keys.judge(host_key, SystemTime::now()).map_err(SshFault::Host)?,
    };
    let shared = share.finish(server_share)?;
    let hash = shared.hash(&Exchange {
        client_id: &side.client_id,
        server_id: &side.server_id,
        client_init,
        server_init,
        host_key,
        client_share: &client_share,
        server_share,
    });
    let algorithm = agreed.host_key.strip_suffix(CERTIFIED).unwrap_or(&agreed.host_key);
    verify(&key, algorithm.as_bytes(), &hash, signature)
        .map_err(|_| SshFault::KeyExchange("the host has not signed it"))?;
    *proved = Some((host_key.to_vec(), key));
    Ok((shared, hash))
}

/// Whether a key or certificate, in its wire form, is what this host key algorithm is for. RSA's have names of their
/// own, of the signature (RFC 8332 §3).
fn is_of_type(host_key: &[u8], algorithm: &str) -> bool {
    let kind = match algorithm {
        "rsa-sha2-512" | "rsa-sha2-256" => "ssh-rsa",
        "rsa-sha2-512-cert-v01@openssh.com" | "rsa-sha2-256-cert-v01@openssh.com" => {
            "ssh-rsa-cert-v01@openssh.com"
        }
        other => other,
    };
    Reader::new(host_key).string().is_ok_and(|found| found == kind.as_bytes())
}

/// Tells a client which signatures are understood here (RFC 8308 §3.1).
fn ext_info() -> Vec<u8> {
    let mut packet = vec![message::EXT_INFO];
    packet.put_u32(1);
    packet.put_string(b"server-sig-algs");
    packet.put_string(
        b"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256",
    );
    packet
}

#[cfg(test)]
mod tests {
    use ssh_key::PublicKey;
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    #[test]
    fn a_host_key_is_of_the_type_that_was_agreed_on() {
        let blob = |kind: &str| {
            let mut blob = Vec::new();
            blob.put_string(kind.as_bytes());
            blob
        };
        for (kind, algorithm) in [
            ("ssh-ed25519", "ssh-ed25519"),
            ("ssh-rsa", "rsa-sha2-256"),
            ("ssh-rsa-cert-v01@openssh.com", "rsa-sha2-512-cert-v01@openssh.com"),
        ] {
            assert!(is_of_type(&blob(kind), algorithm));
            assert!(!is_of_type(&blob(kind), "ssh-ed25519-cert-v01@openssh.com"));
            assert!(!is_of_type(b"", algorithm));
        }
    }

    /// A host that shows this, whatever was agreed on.
    async fn host_that_shows(blob: Vec<u8>, key: SshKey, known: &HostKeys) -> Result<(), SshFault> {
        let (near, far) = duplex(1 << 16);
        let host = tokio::spawn(async move {
            let end = End::Server { key, certificate: None };
            let (read, write) = tokio::io::split(far);
            let session = None;
            let side = Side { end, client_id: Vec::new(), server_id: Vec::new(), session, strict: false };
            let mut host: Transport<DuplexStream> =
                Transport { incoming: Incoming::new(read, BUDGET), outgoing: Outgoing::new(write), side };
            let ours = host.side.proposal().unwrap();
            host.outgoing.put_raw(b"SSH-2.0-host\r\n");
            host.send(&ours).await.unwrap();
            host.identification().await.unwrap();
            host.incoming.receive().await.unwrap();
            host.incoming.receive().await.unwrap();
            let mut reply = vec![message::KEX_ECDH_REPLY];
            for part in [&blob[..], &[9; 32], b"no signature"] {
                reply.put_string(part);
            }
            host.send(&reply).await.unwrap();
        });
        let connected = Transport::connect(near, known).await.map(drop);
        host.await.unwrap();
        connected
    }

    #[tokio::test]
    async fn a_host_that_shows_a_known_key_of_another_type_is_refused() {
        let key = SshKey::generate().unwrap();
        let line = PublicKey::from_bytes(key.public()).unwrap().to_openssh().unwrap();
        // Known too, and not what the host says that it has.
        let mut other = Vec::new();
        other.put_string(b"ecdsa-sha2-nistp256");
        other.put_string(b"nistp256");
        let known = HostKeys::default().with_pinned(&line).unwrap();
        let shown = host_that_shows(other, key, &known).await.unwrap_err();
        assert!(
            matches!(shown, SshFault::KeyExchange("a host key of another type than was agreed on")),
            "{shown:?}"
        );
    }
}
