//! An SSH upstream: how it proves itself, and what a session there may do.

use crate::ssh::HostKeys;

/// What is particular to an upstream that speaks SSH.
#[derive(Clone, Debug)]
pub struct SshTerms {
    /// How it proves that it is the right one. There is no way to go on without.
    pub host_keys: HostKeys,
    /// What the session may do.
    pub allowed: Allowed,
}

/// What a session may do. Whoever forgets to decide about something does not allow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Terminals.
    pub pty: bool,
    /// The login's shell.
    pub shell: bool,
    /// Commands, and subsystems that do not copy files.
    pub exec: bool,
    /// Agent forwarding.
    pub agent: bool,
    /// X11 forwarding.
    pub x11: bool,
    /// Forwarding of ports and socket files, both ways.
    pub port_forwarding: bool,
    /// SFTP, and `scp`. A command may copy files by other means (`cat`, `rsync`): who may run commands may copy.
    pub file_copy: bool,
    /// Channels of kind session that may be open at the same time; see also [`crate::ssh::CHANNELS`].
    pub max_channels: u32,
}

impl Allowed {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            pty: true,
            shell: true,
            exec: true,
            agent: true,
            x11: true,
            port_forwarding: true,
            file_copy: true,
            max_channels: u32::MAX,
        }
    }
}
