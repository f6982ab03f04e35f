//! authd: the built program, on a loopback port of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;

use crate::{
    binaries,
    process::{Daemon, mortal},
};

/// Longest that a start may take: the first one makes the authorities.
pub(crate) const STARTING: Duration = Duration::from_secs(30);

/// The cluster's name in every world.
pub const CLUSTER: &str = "main";

/// A running authd. Killed when dropped.
pub struct Authd {
    daemon: Daemon,
    data_dir: PathBuf,
    address: SocketAddr,
}

impl Authd {
    /// Starts one with its data in `data_dir`, made where it does not exist.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(data_dir: &Path) -> Result<Self> {
        Self::listening(data_dir, "127.0.0.1:0", "info")
    }

    fn listening(data_dir: &Path, listen: &str, log: &str) -> Result<Self> {
        let mut command = mortal(binaries::ours("authd")?, "KILL");
        command.arg("start").arg(format!("--cluster-name={CLUSTER}")).arg(format!("--listen={listen}"));
        command.arg(format!("--data-dir={}", data_dir.display())).arg("--log-format=json");
        command.env("TOUCHSTONE_LOG", log);
        let daemon = Daemon::start("authd", command)?;
        let address = daemon.wait_for("authd to listen", STARTING, |line| listening(line, "api"))?;
        Ok(Self { daemon, data_dir: data_dir.to_owned(), address })
    }

    /// What clients dial: `localhost:PORT`.
    #[must_use]
    pub fn public_addr(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// The command line that started it.
    #[must_use]
    pub fn command(&self) -> &str {
        self.daemon.command()
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Stops it; its address is kept for [`Authd::resume`].
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.stop().map(drop)
    }

    /// Starts it again on the same address.
    ///
    /// # Errors
    /// When it does not start.
    pub fn resume(&mut self) -> Result<()> {
        self.resume_logging("info")
    }

    /// The same with a log of this level, or filter.
    ///
    /// # Errors
    /// When it does not start.
    pub fn resume_logging(&mut self, log: &str) -> Result<()> {
        *self = Self::listening(&self.data_dir, &self.address.to_string(), log)?;
        Ok(())
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

/// The address in a log line that says that `listener` is bound.
pub(crate) fn listening(line: &str, listener: &str) -> Option<SocketAddr> {
    let fields = logged(line, "listening")?;
    if fields.get("listener")?.as_str()? != listener {
        return None;
    }
    fields.get("addr")?.as_str()?.parse().ok()
}

/// The fields of a log line with this message.
pub(crate) fn logged(line: &str, message: &str) -> Option<Value> {
    let mut line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get_mut("fields")?.take();
    (fields.get("message")?.as_str()? == message).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_line_of_the_right_listener() {
        let line =
            r#"{"level":"INFO","fields":{"message":"listening","listener":"api","addr":"127.0.0.1:41234"}}"#;
        assert_eq!(listening(line, "api"), Some("127.0.0.1:41234".parse().unwrap()));
        assert_eq!(listening(line, "diag"), None);
        assert_eq!(listening("plain text", "api"), None);
    }
}
