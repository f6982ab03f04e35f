//! What every command of tsh has at hand.

use std::sync::Arc;

use anyhow::{bail, ensure};
use tonic::transport::Channel;

use super::Arguments;
use crate::{
    connect::{self, Connection},
    home::Home,
    interrupt::unless_cancelled,
    mfa::{self, Mode, Prompter},
    profile::{Profile, Selection, identity_file_warning},
    proxy_address::ProxyAddress,
    report::eprint_line,
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
        if let Some(file) = &arguments.identity {
            identity_file_warning(file).iter().for_each(|warning| eprint_line(warning));
        }
        Ok(Self {
            home: Home::from_environment()?,
            selection: Selection {
                proxy: arguments.proxy.clone(),
                user: arguments.user.clone(),
                cluster: arguments.cluster.clone(),
                identity: arguments.identity.clone(),
            },
            terminal: Arc::new(Terminal::open()?),
            mode: arguments.mfa_mode,
        })
    }

    /// The same for one profile, whichever is the current one later.
    pub(super) fn of(&self, profile: &Profile) -> Self {
        let selection = Selection {
            proxy: Some(profile.proxy.clone()),
            user: Some(profile.user.clone()),
            ..self.selection.clone()
        };
        Self { selection, ..self.clone() }
    }

    /// The same, in the cluster that was named in another place.
    pub(super) fn in_cluster(&self, named: Option<&str>) -> anyhow::Result<Self> {
        let mut selection = self.selection.clone();
        match (named, &selection.cluster) {
            (Some(named), Some(cluster)) if named != cluster => {
                bail!("two clusters are named, {cluster:?} and {named:?}")
            }
            (Some(named), None) => selection.cluster = Some(named.to_owned()),
            _ => {}
        }
        Ok(Self { selection, ..self.clone() })
    }

    /// For what is about the files of `tsh login`, which an identity file has none of.
    pub(super) fn refuse_identity(&self) -> anyhow::Result<()> {
        ensure!(
            self.selection.identity.is_none(),
            "-i flag cannot be used here (nor TSH_IDENTITY_FILE): this is about the files of tsh login"
        );
        Ok(())
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
