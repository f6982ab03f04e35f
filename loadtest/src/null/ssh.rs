//! A host that is not there: russh lets in whoever the cluster's authority vouches for, and knows what the few commands of
//! this tool come to.

use std::{borrow::Cow, collections::HashMap, fs, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use russh::{
    Channel, ChannelId, ChannelMsg, Preferred, cipher, kex,
    keys::{
        Certificate, PrivateKey, PublicKey,
        ssh_key::{Fingerprint, HashAlg, certificate::CertType},
    },
    server::{self, Auth, ChannelOpenHandle, Handler, Msg, Session},
};
use tokio::net::TcpStream;

use crate::{files::Files, ssh::Work};

/// Files that it knows itself and its clients by.
pub(crate) const HOST_KEY: &str = "null_host_key";
pub(crate) const AUTHORITIES: &str = "openssh_authorities.pub";

/// Who it is, and whom it believes.
pub(super) struct Host {
    config: Arc<server::Config>,
    authorities: Arc<[Fingerprint]>,
}

impl Host {
    pub(super) fn new(files: &Files) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(files.path(name)).with_context(|| name.to_owned());
        let authority = |line: &str| Ok(PublicKey::from_openssh(line)?.fingerprint(HashAlg::Sha256));
        let authorities: Result<Vec<_>> = read(AUTHORITIES)?.lines().map(authority).collect();
        let config = server::Config {
            keys: vec![PrivateKey::from_openssh(read(HOST_KEY)?)?],
            // Clients begin with a question that is always answered no.
            auth_rejection_time_initial: Some(Duration::ZERO),
            nodelay: true,
            // What is agreed on with OpenSSH's sshd, no better and no worse.
            preferred: Preferred {
                kex: Cow::Borrowed(&[
                    kex::CURVE25519,
                    kex::EXTENSION_SUPPORT_AS_SERVER,
                    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
                ]),
                cipher: Cow::Borrowed(&[cipher::AES_128_GCM]),
                ..Preferred::DEFAULT
            },
            ..server::Config::default()
        };
        Ok(Self { config: Arc::new(config), authorities: authorities?.into() })
    }

    /// One connection, to its end.
    pub(super) async fn serve(&self, socket: TcpStream) -> Result<()> {
        let guest = Guest { authorities: Arc::clone(&self.authorities), channels: HashMap::new() };
        Ok(server::run_stream(Arc::clone(&self.config), socket, guest).await?.await?)
    }
}

struct Guest {
    authorities: Arc<[Fingerprint]>,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl Handler for Guest {
    type Error = russh::Error;

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, russh::Error> {
        let good = certificate.validate(self.authorities.iter()).is_ok()
            && certificate.cert_type() == CertType::User
            && certificate.valid_principals().iter().any(|principal| principal == user);
        Ok(if good { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.exec_request(channel, b"", session).await
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.channels.remove(&id) else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let work = Work::of(&String::from_utf8_lossy(command));
        // Whoever goes away in the middle is not missed.
        tokio::spawn(carry_out(work, channel));
        Ok(())
    }
}

async fn carry_out(work: Work, mut channel: Channel<Msg>) -> Result<(), russh::Error> {
    if work != Work::Nothing {
        channel.extended_data_bytes(1, format!("{}\n", Work::READY)).await?;
    }
    match work {
        Work::Nothing => {}
        Work::Send { bytes } => {
            // A line says when.
            while !matches!(channel.wait().await, Some(ChannelMsg::Data { .. }) | None) {}
            let zeros = Bytes::from_static(&[0; 32 * 1024]);
            let mut left = bytes;
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
                channel.data_bytes(zeros.slice(..now)).await?;
                left -= now as u64;
            }
        }
        Work::Count => {
            let mut bytes = 0;
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::Data { data } => bytes += data.len(),
                    ChannelMsg::Eof => break,
                    _ => {}
                }
            }
            channel.data_bytes(format!("{bytes}\n")).await?;
        }
    }
    channel.exit_status(0).await?;
    channel.eof().await?;
    channel.close().await
}

#[cfg(test)]
mod tests {
    use russh::keys::ssh_key::{certificate::Builder, private::Ed25519Keypair};

    use super::*;

    fn key(seed: u8) -> PrivateKey {
        Ed25519Keypair::from_seed(&[seed; 32]).into()
    }

    async fn lets_in(user: &str, kind: CertType, authority: &PrivateKey, until: u64) -> bool {
        let mut certificate = Builder::new([7; 16], key(3).public_key().clone(), 0, until).unwrap();
        certificate.key_id("test").unwrap().cert_type(kind).unwrap().valid_principal("jerry").unwrap();
        let certificate = certificate.sign(authority).unwrap();
        let trusted = key(1).public_key().fingerprint(HashAlg::Sha256);
        let mut guest = Guest { authorities: [trusted].into(), channels: HashMap::new() };
        matches!(guest.auth_openssh_certificate(user, &certificate).await, Ok(Auth::Accept))
    }

    #[tokio::test]
    async fn whoever_the_authority_does_not_vouch_for_stays_outside() {
        let (user, later) = (CertType::User, u64::MAX >> 1);
        assert!(lets_in("jerry", user, &key(1), later).await);
        assert!(!lets_in("jerry", user, &key(2), later).await, "another authority");
        assert!(!lets_in("olga", user, &key(1), later).await, "another account");
        assert!(!lets_in("jerry", CertType::Host, &key(1), later).await, "a host");
        assert!(!lets_in("jerry", user, &key(1), 1).await, "long over");
    }
}
