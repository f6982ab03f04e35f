//! tctl on the auth host: the administrator's hands.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    Finished, binaries,
    process::{self, poll},
};

/// Longest that a command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// tctl with the data directory of one authd.
#[derive(Clone, Debug)]
pub struct Tctl {
    data_dir: PathBuf,
}

impl Tctl {
    /// For the authd with its data in `data_dir`.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// The command, to be run or shown.
    ///
    /// # Errors
    /// When tctl is not built.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binaries::ours("tctl")?);
        command.env("TOUCHSTONE_DATA_DIR", &self.data_dir).args(args);
        Ok(command)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be run or hangs.
    pub fn run(&self, args: &[&str]) -> Result<Finished> {
        process::run(self.command(args)?, "", PATIENCE)
    }

    /// Runs it to its end; it must succeed. What it printed.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        self.run(args)?.output()
    }

    /// `tctl create -f -` with these documents.
    ///
    /// # Errors
    /// When they are refused.
    pub fn create(&self, yaml: &str) -> Result<String> {
        process::run(self.command(&["create", "-f", "-"])?, yaml, PATIENCE)?.output()
    }

    /// The certificates of one authority, in PEM.
    ///
    /// # Errors
    /// When there is no such authority.
    pub fn export(&self, authority: &str) -> Result<String> {
        self.ok(&["auth", "export", "--type", authority])
    }

    /// `tctl users add`: the invitation's URL.
    ///
    /// # Errors
    /// When the user cannot be added.
    pub fn invite(&self, user: &str, roles: &str) -> Result<String> {
        let said = self.ok(&["users", "add", &format!("--roles={roles}"), user])?;
        let url = said.lines().map(str::trim).find(|line| line.starts_with("https://"));
        Ok(url.with_context(|| format!("no URL in:\n{said}"))?.to_owned())
    }

    /// A join token for database sidecars.
    ///
    /// # Errors
    /// When none is given.
    pub fn join_token(&self) -> Result<String> {
        self.join_token_for("db")
    }

    /// A join token for sidecars of this kind: `db`, `node` or `db,node`.
    ///
    /// # Errors
    /// When none is given.
    pub fn join_token_for(&self, kind: &str) -> Result<String> {
        let kind = format!("--type={kind}");
        let answer: Value = serde_json::from_str(&self.ok(&["tokens", "add", &kind, "--format=json"])?)?;
        let token = answer.get("token").and_then(Value::as_str);
        Ok(token.context("no token in the answer")?.to_owned())
    }

    /// The pin of the host authority, `sha256:…`.
    ///
    /// # Errors
    /// When authd does not say.
    pub fn ca_pin(&self) -> Result<String> {
        let answer: Value = serde_json::from_str(&self.ok(&["status", "--format=json"])?)?;
        let pin = answer.pointer("/ca_pins/0").and_then(Value::as_str);
        Ok(pin.context("no pin in the answer")?.to_owned())
    }

    /// Waits for an event of this name that is `wanted`: sidecars send theirs after the fact.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_for_audit(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        poll(&format!("an event {event}"), PATIENCE, || Ok(self.audit(event)?.into_iter().find(&wanted)))
    }

    /// The audit trail's events of one name, oldest first.
    ///
    /// # Errors
    /// When authd does not say.
    pub fn audit(&self, event: &str) -> Result<Vec<Value>> {
        let lines = self.ok(&["audit", "ls", "--format=json", "--limit=1000", "--event", event])?;
        lines.lines().map(|line| serde_json::from_str(line).context("an event")).collect()
    }
}
