//! What is done on a way, and what of it counts.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    door::Protocol,
    load::{self, Sample},
    session::{Keys, Mode, Session},
    ssh::{self, Destination},
    way::Way,
};

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Small queries, text each time.
    Simple,
    /// Small queries, parsed, bound and executed each time.
    Extended,
    /// Small queries, prepared once.
    Prepared,
    /// New connections with a session certificate that is there (the warm tunnel of tsh), one query each.
    Connect,
    /// New sessions: challenge, touch and certificate for each, then connection and one query.
    ConnectCold,
    /// One large result after another.
    Download,
    /// One large statement after another.
    Upload,
    /// Small queries, simple and prepared by halves; one step in ten a result of 200 KB, one in a hundred a new connection.
    Mixed,
    /// Small queries at a fixed rate, timed from when they were due.
    OpenLoop,
    /// Many silent connections: memory of each.
    Idle,
    /// System calls of a small query, counted by perf or strace.
    Syscalls,
    /// Session certificates from authd, each with a touch.
    Issue,
    /// The same at a fixed rate, timed from when they were due.
    IssueOpenLoop,
    /// New SSH connections that run `true`.
    SshConnect,
    /// Zeros from the host, over an SSH connection that is there.
    SshBulk,
    /// The same to the host.
    SshBulkUp,
}

impl Scenario {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Simple => "Small queries, simple",
            Self::Extended => "Small queries, extended",
            Self::Prepared => "Small queries, prepared",
            Self::Connect => "New connections",
            Self::ConnectCold => "New sessions with a touch each",
            Self::Download => "Bulk down",
            Self::Upload => "Bulk up",
            Self::Mixed => "Mixed",
            Self::OpenLoop => "Open loop",
            Self::Idle => "Idle connections",
            Self::Syscalls => "System calls",
            Self::Issue => "Session certificates",
            Self::IssueOpenLoop => "Session certificates, open loop",
            Self::SshConnect => "New connections that run `true`",
            Self::SshBulk => "Bulk down",
            Self::SshBulkUp => "Bulk up",
        }
    }

    /// What is counted per second.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Simple | Self::Extended | Self::Prepared | Self::OpenLoop => "queries",
            Self::Connect | Self::SshConnect => "connections",
            Self::ConnectCold => "sessions",
            Self::Download | Self::Upload | Self::SshBulk | Self::SshBulkUp => "MB",
            Self::Mixed => "steps",
            Self::Idle | Self::Syscalls => "",
            Self::Issue | Self::IssueOpenLoop => "certificates",
        }
    }

    /// Whether it is run in rounds on every way.
    pub(crate) fn in_rounds(self) -> bool {
        !matches!(self, Self::ConnectCold | Self::Idle | Self::Syscalls | Self::Issue | Self::IssueOpenLoop)
    }

    /// Numbers of clients that make sense, out of those that were asked for.
    pub(crate) fn clients(self, asked: &[usize]) -> Vec<usize> {
        match self {
            // One stream: what one session can carry.
            Self::Download | Self::Upload | Self::SshBulk | Self::SshBulkUp => vec![1],
            Self::Connect | Self::Mixed | Self::OpenLoop | Self::IssueOpenLoop => {
                asked.iter().copied().max().into_iter().collect()
            }
            _ => asked.to_vec(),
        }
    }

    /// Whether the protocol has such a thing.
    pub(crate) fn is_for(self, protocol: Protocol) -> bool {
        let of_ssh = matches!(self, Self::SshConnect | Self::SshBulk | Self::SshBulkUp);
        match protocol {
            Protocol::Postgres => !of_ssh,
            Protocol::Mysql => !of_ssh && self != Self::Extended,
            Protocol::Ssh => of_ssh,
        }
    }

    /// One round on one way.
    pub(crate) fn round(self, way: &Way, clients: usize, measure: Measure) -> Result<Sample> {
        let Measure { time, rate, megabytes, .. } = measure;
        let query = |mode| move |session: &mut dyn Session, keys: &mut Keys| ask(session, mode, keys);
        match self {
            Self::Simple => load::closed(way, clients, time, true, query(Mode::Simple)),
            Self::Extended => load::closed(way, clients, time, true, query(Mode::Extended)),
            Self::Prepared => load::closed(way, clients, time, true, query(Mode::Prepared)),
            Self::OpenLoop => load::open(way, clients, time, rate, query(Mode::Prepared)),
            Self::Connect => load::reconnecting(way, clients, time),
            Self::Download => load::closed(way, clients, time, false, |session, _| {
                session.download(megabytes).map(|bytes| bytes as f64 / 1e6)
            }),
            Self::Upload => load::closed(way, clients, time, false, |session, _| {
                session.upload(megabytes).map(|bytes| bytes as f64 / 1e6)
            }),
            Self::Mixed => load::closed(way, clients, time, true, |session, keys| mixed(way, session, keys)),
            _ => bail!("{} is not run in rounds over a database", self.title()),
        }
    }

    /// One round of SSH on one way.
    pub(crate) fn ssh_round(
        self,
        way: &Way<Destination>,
        clients: usize,
        measure: Measure,
    ) -> Result<Sample> {
        match self {
            Self::SshConnect => ssh::reconnecting(way, clients, measure.time),
            Self::SshBulk => ssh::download(way, measure.ssh_megabytes),
            Self::SshBulkUp => ssh::upload(way, measure.ssh_megabytes),
            _ => bail!("{} is not for SSH", self.title()),
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub(crate) time: Duration,
    /// Questions a second of the open loop.
    pub(crate) rate: f64,
    /// Certificates a second of theirs.
    pub(crate) issue_rate: f64,
    /// Of one large result or statement.
    pub(crate) megabytes: u32,
    /// Of one transfer by SSH.
    pub(crate) ssh_megabytes: u32,
}

fn ask(session: &mut dyn Session, mode: Mode, keys: &mut Keys) -> Result<f64> {
    session.query(mode, keys.next())?;
    Ok(1.0)
}

fn mixed(way: &Way, session: &mut dyn Session, keys: &mut Keys) -> Result<f64> {
    let dice = keys.next();
    match dice % 100 {
        0 => load::visit(&way.door, keys)?,
        1..=10 => session.blob()?,
        11..=55 => session.query(Mode::Prepared, dice)?,
        _ => session.query(Mode::Simple, dice)?,
    }
    Ok(1.0)
}
