//! What the other end may say on its own: who it is, a banner, goodbye, and channels that we asked it to open. Everything else
//! is turned down: russh would accept it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use russh::{
    Channel, ChannelId, ChannelOpenFailure,
    client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session},
    keys::PublicKeyOrCertificate,
};

use tokio_util::sync::CancellationToken;

use super::{
    connection::{Settings, SshError},
    forward::{Remote, Target, Way},
    host::{HostAuthorities, HostError},
    x11::Display,
};
use crate::{output::printable_lines, report::eprint_line, session::SshCredential};

/// Longest text of the other end that is shown.
const MAX_WORDS: usize = 4096;

/// What was learned about the other end, for whoever asks afterwards.
#[derive(Default)]
pub(super) struct Told {
    facts: Mutex<Facts>,
    over: CancellationToken,
}

#[derive(Default)]
struct Facts {
    host: Option<HostError>,
    words: Option<String>,
    /// Ports that the host chose for us.
    chosen: Vec<(Remote, u16)>,
}

impl Told {
    fn with<T>(&self, look: impl FnOnce(&mut Facts) -> T) -> T {
        look(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the connection is over; what was said is known then.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Why the host was not believed.
    pub(super) fn host(&self) -> Option<HostError> {
        self.with(|facts| facts.host.clone())
    }

    /// What it said when it hung up.
    pub(super) fn words(&self) -> Option<String> {
        self.with(|facts| facts.words.clone())
    }

    /// Its words, else the error.
    pub(super) fn or_protocol(&self, target: &str, source: russh::Error) -> SshError {
        match (self.words(), source) {
            (Some(words), _) => SshError::Refused(words),
            (None, russh::Error::Disconnect | russh::Error::HUP) => {
                SshError::Lost { target: target.to_owned() }
            }
            (None, source) => SshError::Protocol { target: target.to_owned(), source },
        }
    }

    /// The host listens for `remote` on a port that it chose.
    pub(super) fn chosen(&self, remote: &Remote, port: u16) {
        self.with(|facts| facts.chosen.push((remote.clone(), port)));
    }

    fn way_of_chosen(&self, port: u32) -> Option<Way> {
        self.with(|facts| {
            let mut chosen = facts.chosen.iter();
            chosen.find(|(_, chosen)| u32::from(*chosen) == port).map(|(remote, _)| remote.to.clone())
        })
    }
}

/// The client's side of what the other end begins.
pub(super) struct Events {
    target: String,
    authorities: HostAuthorities,
    agent: Option<PathBuf>,
    x11: Option<Arc<Display>>,
    remote: Vec<Remote>,
    quiet: bool,
    told: Arc<Told>,
}

impl Events {
    pub(super) fn new(credential: &SshCredential, settings: &Settings, told: Arc<Told>) -> Self {
        Self {
            target: credential.target.name.clone(),
            authorities: credential.authorities.clone(),
            agent: settings.agent.clone(),
            x11: settings.x11.clone(),
            remote: settings.remote.clone(),
            quiet: settings.quiet,
            told,
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            eprint_line(&shown(text));
        }
    }

    /// Where a connection to one of our remote ports leads.
    fn way_of(&self, port: u32) -> Option<Way> {
        let asked = self.remote.iter().find(|remote| remote.is_listening_on(port));
        asked.map(|remote| remote.to.clone()).or_else(|| self.told.way_of_chosen(port))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // russh keeps it for as long as it speaks.
        self.told.over.cancel();
    }
}

impl Handler for Events {
    type Error = russh::Error;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let verified = self.authorities.verify(presented, &self.target, SystemTime::now());
        if let Err(error) = &verified {
            self.told.with(|facts| facts.host = Some(error.clone()));
        }
        Ok(verified.is_ok())
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), Self::Error> {
        self.say(banner.trim_end());
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _: ChannelId,
        reason: ChannelOpenFailure,
        description: &str,
        _: &str,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let reason = match reason {
            ChannelOpenFailure::AdministrativelyProhibited => "administratively prohibited",
            ChannelOpenFailure::ConnectFailed => "connect failed",
            ChannelOpenFailure::UnknownChannelType => "unknown channel type",
            ChannelOpenFailure::ResourceShortage => "resource shortage",
            _ => "refused",
        };
        self.say(&format!("channel: open failed: {reason}: {description}"));
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        connected_port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.way_of(connected_port) {
            Some(way) => drop(tokio::spawn(way.serve(channel, reply))),
            None => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.remote.iter().find(|remote| remote.is_listening_at(socket_path)) {
            Some(remote) => drop(tokio::spawn(remote.to.clone().serve(channel, reply))),
            None => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        match &self.agent {
            Some(socket) => drop(tokio::spawn(Target::Unix(socket.clone()).serve(channel, reply))),
            None => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        match &self.x11 {
            Some(display) => drop(tokio::spawn(Arc::clone(display).serve(channel, reply))),
            None => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(goodbye) => {
                let words = shown(goodbye.message.trim());
                if !words.is_empty() {
                    self.told.with(|facts| facts.words = Some(words));
                }
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }
}

/// A text of the other end: nothing in it drives the terminal, and there is an end to it.
fn shown(text: &str) -> String {
    let end = text.char_indices().nth(MAX_WORDS).map_or(text.len(), |(at, _)| at);
    let lines: Vec<_> = text.get(..end).unwrap_or_default().lines().map(str::trim_end).collect();
    printable_lines(&lines.join("\n"))
}
