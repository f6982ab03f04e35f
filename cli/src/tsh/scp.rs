//! `tsh scp`: files to, from and between nodes, by SFTP, each host with a touch of its own where policy asks for one.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use tokio::io::DuplexStream;

mod across;
pub(super) mod arguments;
mod download;
mod glob;
mod location;
mod progress;
mod upload;

use self::{
    across::Across,
    arguments::Scp,
    location::{Location, Remote},
    progress::Progress,
};
use super::{
    context::Context,
    ssh::{JUMP_IGNORED, node},
};
use crate::{
    connect::Connection,
    output::printable_lines,
    report, session,
    ssh::{
        Hosts, Settings, SshConnection, channel_stream,
        sftp::{FileKind, Sftp, SftpError},
    },
};

/// Deeper trees are loops of links, or a host that makes them up.
const MAX_DEPTH: usize = 64;
/// Mode of what a host tells no mode of.
const FILE: u32 = 0o644;
const DIRECTORY: u32 = 0o755;

pub(super) async fn run(context: &Context, arguments: &Scp) -> anyhow::Result<()> {
    let copy = Copy::of(arguments)?;
    if arguments.jumphost.is_some() {
        report::eprint_line(JUMP_IGNORED);
    }
    let connection = context.connect().await?;
    let opening = Opening { context, connection: &connection, arguments };
    let mut failed = 0;
    match copy {
        Copy::Up { from, to } => {
            let host = opening.host(&to).await?;
            failed += host.copying(arguments).await?.up(&from, &to.path).await?;
            host.connection.close().await;
        }
        Copy::Down { from, to } => {
            ensure!(
                from.len() == 1 || to.is_dir(),
                "{} is not a directory, and several files shall go there",
                to.display()
            );
            for (remote, paths) in by_host(from) {
                let host = opening.host(&remote).await?;
                failed += host.copying(arguments).await?.down(&paths, &to).await?;
                host.connection.close().await;
            }
        }
        Copy::Across { from, to } => {
            let near = opening.host(&to).await?;
            for (remote, paths) in by_host(from) {
                let far = opening.host(&remote).await?;
                let across = Across {
                    from: far.sftp().await?,
                    to: near.copying(arguments).await?,
                    same_host: remote.is_same_host(&to),
                };
                failed += across.copy(&paths, &to.path).await?;
                far.connection.close().await;
            }
            near.connection.close().await;
        }
    }
    ensure!(failed == 0, "{failed} of the files could not be copied");
    Ok(())
}

/// What was typed, understood.
enum Copy {
    Up { from: Vec<PathBuf>, to: Remote },
    Down { from: Vec<Remote>, to: PathBuf },
    Across { from: Vec<Remote>, to: Remote },
}

impl Copy {
    fn of(arguments: &Scp) -> anyhow::Result<Self> {
        let (to, from) = arguments.paths.split_last().context("what to copy, and where to?")?;
        ensure!(!from.is_empty(), "what to copy, and where to?");
        let from: Vec<Location> = from.iter().map(|text| Location::parse(text)).collect::<Result<_, _>>()?;
        let mut here = Vec::new();
        let mut there = Vec::new();
        for location in from {
            match location {
                Location::Here(path) => here.push(path),
                Location::There(remote) => there.push(remote),
            }
        }
        match (Location::parse(to)?, here.is_empty(), there.is_empty()) {
            (Location::There(to), false, true) => Ok(Self::Up { from: here, to }),
            (Location::Here(to), true, false) => Ok(Self::Down { from: there, to }),
            (Location::There(to), true, false) => Ok(Self::Across { from: there, to }),
            (Location::There(_), ..) => {
                bail!("files from here and files from a node are copied by two commands")
            }
            (Location::Here(_), ..) => bail!("no node is named: write [user@]host:path"),
        }
    }
}

/// Those of one host after another, so that each host is entered once.
fn by_host(from: Vec<Remote>) -> Vec<(Remote, Vec<PathBuf>)> {
    let mut hosts: Vec<(Remote, Vec<PathBuf>)> = Vec::new();
    for remote in from {
        match hosts.iter_mut().find(|(host, _)| host.is_same_host(&remote)) {
            Some((_, paths)) => paths.push(remote.path),
            None => hosts.push((remote.clone(), vec![remote.path])),
        }
    }
    hosts
}

/// What sessions are opened with.
struct Opening<'a> {
    context: &'a Context,
    connection: &'a Connection,
    arguments: &'a Scp,
}

impl Opening<'_> {
    async fn host(&self, remote: &Remote) -> anyhow::Result<Host> {
        let Hosts::Name(name) = &remote.hosts else {
            bail!("files are copied to and from one node, not by labels");
        };
        let profile = &self.connection.login.profile;
        let node = node::find(node::list(&self.connection.channel).await?, name, profile.cluster.as_str())?;
        let prompter = self.context.prompter(&profile.proxy, &self.connection.channel);
        let route = node::route(&node, &node::login_at(&node, remote.login.as_deref()));
        let mut credential = session::open_ssh(self.connection, &prompter, &route).await?;
        if let Some(port) = self.arguments.port {
            credential.target.public_addr = node::at_port(&credential.target.public_addr, port);
        }
        let settings = Settings { quiet: self.arguments.quiet, ..Settings::default() };
        Ok(Host { connection: Arc::new(SshConnection::open(&credential, &settings).await?) })
    }
}

struct Host {
    connection: Arc<SshConnection>,
}

impl Host {
    async fn sftp(&self) -> anyhow::Result<Sftp<DuplexStream>> {
        let channel = self.connection.subsystem("sftp").await?;
        match Sftp::start(channel_stream(channel)).await {
            Ok(sftp) => Ok(sftp),
            Err(SftpError::Connection(_)) => Err(self.connection.ended().into()),
            Err(error) => Err(error.into()),
        }
    }

    async fn copying(&self, arguments: &Scp) -> anyhow::Result<Copying<DuplexStream>> {
        let sftp = self.sftp().await?;
        let shown = !arguments.quiet && std::io::stderr().is_terminal();
        Ok(Copying { sftp, recursive: arguments.recursive, preserve: arguments.preserve, shown, failed: 0 })
    }
}

/// Files on their way.
struct Copying<S> {
    sftp: Sftp<S>,
    recursive: bool,
    preserve: bool,
    /// Show how far each file is.
    shown: bool,
    failed: usize,
}

impl<S> Copying<S> {
    /// Goes on after what concerns one file alone, and stops where nothing more can be done.
    fn passed(&mut self, copied: Result<(), SftpError>) -> Result<(), SftpError> {
        match copied {
            Err(error) if error.is_final() => Err(error),
            Err(error) => {
                self.failed += 1;
                let text = printable_lines(&report::one_line(&anyhow::Error::new(error)));
                report::eprint_line(&format!("scp: {text}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether what a host has there is a directory; an error where it is not to be copied.
    fn is_directory(&self, from: &Path, kind: FileKind, depth: usize) -> Result<bool, SftpError> {
        match kind {
            FileKind::Directory if self.recursive && depth < MAX_DEPTH => Ok(true),
            FileKind::Directory if self.recursive => Err(SftpError::of(from, "too deep")),
            FileKind::Regular => Ok(false),
            FileKind::Directory | FileKind::Other => Err(SftpError::of(from, "not a regular file")),
        }
    }

    fn progress(&self, name: &Path, size: u64) -> Progress {
        Progress::new(name, size, self.shown)
    }
}

#[cfg(test)]
mod tests;
