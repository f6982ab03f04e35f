//! Peers by their command lines: whatever listens on a port and passes on to the database or the host of a run.

use std::{net::SocketAddr, str::FromStr};

use anyhow::{Context, Result, ensure};

use super::{Stage, children};
use crate::{door::Protocol, files::Files, way};

/// A peer that this tool starts, and stops at the end.
///
/// Databases and their certificates are made anew for each run, so a peer learns from its command line where they are:
/// `{listen}` becomes the ADDRESS:PORT at which it must listen (`{port}` the port alone), `{upstream}` and `{upstream-port}`
/// where the database or the host is, and `{files}` a folder with certificates. In there, `server.crt`, `server.key` and
/// `clients.crt` are for a peer that ends TLS, `client.crt`, `client.key` and `databases.crt` for its leg to the database.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    command: Vec<String>,
}

impl FromStr for Other {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = "not of the form NAME=PROTOCOL:COMMAND, with postgres, mysql or ssh for PROTOCOL";
        let (name, rest) = text.split_once('=').context(form)?;
        let (protocol, command) = rest.split_once(':').context(form)?;
        let protocol = [Protocol::Postgres, Protocol::Mysql, Protocol::Ssh]
            .into_iter()
            .find(|known| known.word() == protocol)
            .context(form)?;
        let plain =
            |name: &str| name.chars().all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char));
        ensure!(
            !name.is_empty() && plain(name),
            "a peer's NAME is made of letters, digits, '-', '_' and '.'"
        );
        ensure!(!way::is_ours(name), "{name} is the name of a way that is always there");
        let command = shlex::split(command).context("a quote in the peer's COMMAND is not closed")?;
        ensure!(!command.is_empty(), "a peer needs a COMMAND that starts it");
        ensure!(
            command.iter().any(|argument| argument.contains("{listen}") || argument.contains("{port}")),
            "a peer's COMMAND says where it must listen: {{listen}}, or {{port}} on 127.0.0.1"
        );
        // Once per run: names live as long as the program.
        Ok(Self { name: String::leak(name.to_owned()), protocol, command })
    }
}

impl Other {
    /// Its command line, with every place in it filled in.
    pub(super) fn command(&self, listen: SocketAddr, upstream: SocketAddr, files: &Files) -> Vec<String> {
        let fill = |argument: &String| {
            argument
                .replace("{listen}", &listen.to_string())
                .replace("{port}", &listen.port().to_string())
                .replace("{upstream}", &upstream.to_string())
                .replace("{upstream-port}", &upstream.port().to_string())
                .replace("{files}", files.path("").to_string_lossy().trim_end_matches('/'))
        };
        self.command.iter().map(fill).collect()
    }
}

impl Stage {
    /// Starts a peer before what is there of its protocol, and a way through it. Its processor time is that of the process
    /// that the command starts and of all that this one starts in its turn; its calls and its memory are those of the first alone.
    pub(super) fn add_other(&mut self, other: &Other) -> Result<()> {
        let taken = self.way(other.protocol, other.name).is_some()
            || self.ssh_ways.iter().any(|way| other.protocol == Protocol::Ssh && way.name == other.name);
        ensure!(!taken, "two peers are called {}", other.name);
        if other.protocol == Protocol::Ssh {
            return self.add_other_host(other);
        }
        let direct = self.way(other.protocol, way::DIRECT).context("the way without a peer")?;
        let (upstream, database) = (direct.door.address, direct.database.context("the peer's database")?);
        let (daemon, address) = children::other(&self.files, other, upstream)?;
        let door = self.direct_door(other.protocol, address)?;
        self.add_peer(other.name, door, daemon, database)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_peers_command_is_told_where_everything_is() {
        let other: Other =
            "pool=postgres:start 'a b' --at={listen} {port} {upstream} -p{upstream-port} {files}/server.crt"
                .parse()
                .unwrap();
        let (listen, upstream) = ("127.0.0.1:7".parse().unwrap(), "127.0.0.1:8".parse().unwrap());
        let command = other.command(listen, upstream, &Files::at(Path::new("/f")));
        assert_eq!((other.name, other.protocol), ("pool", Protocol::Postgres));
        assert_eq!(command, ["start", "a b", "--at=127.0.0.1:7", "7", "127.0.0.1:8", "-p8", "/f/server.crt"]);
    }

    #[test]
    fn what_is_no_peer_is_refused_with_the_reason() {
        for (text, reason) in [
            ("pool", "NAME=PROTOCOL:COMMAND"),
            ("pool=postgres", "NAME=PROTOCOL:COMMAND"),
            ("pool=oracle:start {port}", "NAME=PROTOCOL:COMMAND"),
            ("=postgres:start {port}", "a peer's NAME"),
            ("a b=postgres:start {port}", "a peer's NAME"),
            ("sidecar=postgres:start {port}", "always there"),
            ("pool=postgres:", "needs a COMMAND"),
            ("pool=postgres:start 'it {port}", "quote"),
            ("pool=postgres:start it", "{listen}"),
            ("pool=postgres:127.0.0.1:6432", "{listen}"),
        ] {
            let error = text.parse::<Other>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
