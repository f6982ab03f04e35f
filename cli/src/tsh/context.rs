//! What every command of tsh has at hand.

use std::sync::Arc;

use tonic::transport::Channel;

use super::Arguments;
use crate::{
    connect::{self, Connection},
    home::Home,
    interrupt::unless_cancelled,
    mfa::{self, Mode, Prompter},
    profile::{Profile, Selection},
    proxy_address::ProxyAddress,
    terminal::{Terminal, TerminalError},
};

#[derive(Clone)]
pub(super) struct Context {
    pub(super) home: Home,
    pub(super) selection: Selection,
    pub(super) terminal: Arc<Terminal>,
    mode: Mode,
}

impl Context {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            home: Home::from_environment()?,
            selection: Selection { proxy: arguments.proxy.clone(), user: arguments.user.clone() },
            terminal: Arc::new(Terminal::open()?),
            mode: arguments.mfa_mode,
        })
    }

    /// The same for one profile, whichever is the current one later.
    pub(super) fn of(&self, profile: &Profile) -> Self {
        let selection = Selection { proxy: Some(profile.proxy.clone()), user: Some(profile.user.clone()) };
        Self { selection, ..self.clone() }
    }

    /// The API as the user who is logged in.
    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        connect::connect(&self.home, &self.selection).await
    }

    pub(super) fn prompter(&self, proxy: &ProxyAddress, channel: &Channel) -> Prompter {
        Prompter {
            terminal: Arc::clone(&self.terminal),
            key: mfa::plugged_in(),
            mode: self.mode,
            proxy: proxy.clone(),
            channel: channel.clone(),
        }
    }

    /// Asks off the async threads.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Terminal) -> Result<T, TerminalError> + Send + 'static,
    ) -> anyhow::Result<T> {
        let terminal = Arc::clone(&self.terminal);
        Ok(unless_cancelled(tokio::task::spawn_blocking(move || question(&terminal))).await???)
    }
}
