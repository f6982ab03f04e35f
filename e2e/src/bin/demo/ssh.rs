//! The page's SSH story: nothing special in development, a touch in production, with tsh and with OpenSSH itself.

use std::process::Command;

use anyhow::{Result, ensure};
use e2e::{OpenSsh, Sidecar, Sshd, Terminal, command_line, guard, run};

use crate::{PATIENCE, Stage, Story};

/// As it is called here.
pub(crate) const TARGET: &str = "prod-node";

/// What this part of the story needs, in the order in which it is stopped.
pub(crate) struct SshStage {
    _dev: Sidecar,
    prod: Sidecar,
    sshd: Sshd,
}

impl Story {
    /// Olga: a host, and two sidecars.
    pub(crate) fn ssh_set_up(&self, stage: &Stage) -> Result<SshStage> {
        self.heading("The same for SSH: a host whose sshd trusts Olga's authority, and nothing else")?;
        let sshd = Sshd::start(&self.dir.join("sshd"), &stage.tctl)?;
        self.shell("grep", &["TrustedUserCAKeys", "sshd/sshd_config"])?;
        self.background(sshd.command());
        let sidecar = |name: &str, labels: &str| {
            Sidecar::start(&self.dir.join(name), &stage.authd, &stage.tctl, guard(name, labels, &sshd))
        };
        let dev = sidecar("dev-node", "env=dev")?;
        self.background(dev.command());
        let prod = sidecar(TARGET, "env=prod")?;
        self.background(prod.command());
        let said = self.tctl(&stage.tctl, &["nodes", "ls"])?;
        ensure!(said.contains("dev-node") && said.contains(TARGET), "{said}");
        Ok(SshStage { _dev: dev, prod, sshd })
    }

    pub(crate) fn ssh_sessions(&self, stage: &mut Stage, ssh: &SshStage) -> Result<()> {
        let account = ssh.sshd.account();
        self.heading("Jerry on a development host: nothing special happens")?;
        let at = format!("{account}@dev-node");
        let shown = self.at_terminal(&stage.jerry, &["ssh", &at, "echo hello from $(whoami)"])?.succeed()?;
        ensure!(shown.contains(&format!("hello from {account}")), "{shown}");
        ensure!(!shown.contains("Tap any security key"), "development asked for a touch");

        self.heading("On a production host he is asked to tap his security key")?;
        let at = format!("{account}@{TARGET}");
        let mut shell = self.at_terminal(&stage.jerry, &["ssh", &at])?;
        shell.expect("Tap any security key")?;
        hello(shell)?;

        self.heading("OpenSSH, and everything that is built on it, asks the same through tsh")?;
        let config = stage.jerry.run(&["config"])?.output()?;
        self.typed(&stage.jerry, &["config"])?;
        println!("{}\n  […]", config.lines().take(3).collect::<Vec<_>>().join("\n"));
        std::fs::write("jerry/ssh_config", config)?;
        let mut command = Command::new("ssh");
        command.args(["-F", "jerry/ssh_config", &at, "echo hello from $(whoami)"]);
        command.envs(stage.jerry.environment()).env("TERM", "dumb");
        self.step(&command_line(&command))?;
        let mut openssh = Terminal::start(&command, true)?;
        openssh.expect("Tap any security key")?;
        openssh.expect(&format!("hello from {account}"))?;
        openssh.succeed()?;

        self.heading("Where no tsh is in the path, a code from his phone will do")?;
        let plain = OpenSsh::to(&ssh.prod, &stage.jerry, &stage.authd.public_addr(), account)?;
        let file = plain.config_file("plain_ssh_config")?;
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&file).args([TARGET, "echo hello from $(whoami)"]);
        plain.plain(&mut command);
        self.step(&command_line(&command))?;
        let mut openssh = Terminal::start(&command, true)?;
        openssh.expect("Enter an OTP code from a device:")?;
        openssh.send(&stage.jerry.otp_code()?)?;
        openssh.expect(&format!("hello from {account}"))?;
        openssh.succeed()?;
        Ok(())
    }

    /// Who took Jerry's disk has no phone: without an answer there is no session.
    pub(crate) fn ssh_stolen_login(&self, stage: &Stage, ssh: &SshStage) -> Result<()> {
        self.heading("The SSH certificate from Jerry's disk opens no production host by itself")?;
        let thief = OpenSsh::to(&ssh.prod, &stage.jerry, &stage.authd.public_addr(), ssh.sshd.account())?;
        let file = thief.with("BatchMode=yes").config_file("thief_ssh_config")?;
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&file).args([TARGET, "whoami"]);
        self.step(&command_line(&command))?;
        let finished = run(command, "", PATIENCE)?;
        print!("{}{}", finished.stdout, finished.stderr);
        finished.error().map(drop)
    }
}

/// Says hello at the prompt, leaves.
fn hello(mut shell: Terminal) -> Result<()> {
    shell.expect("Detected security key tap")?;
    shell.expect_any(&["# ", "$ "])?;
    shell.send("echo hel''lo; exit")?;
    shell.expect("hello")?;
    shell.succeed()?;
    Ok(())
}
