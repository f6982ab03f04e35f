//! `tsh ssh`: a shell or a command at a node, or at several, each with a certificate for that one session.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use auth::proto::Target;
use tokio::signal::unix::{SignalKind, signal};

pub(super) mod arguments;
pub(super) mod config;
pub(super) mod list;
pub(super) mod node;
pub(super) mod proxy;

use self::arguments::Ssh;
use super::context::Context;
use crate::{
    connect::Connection,
    mfa::Prompter,
    output::{OutputError, printable},
    report::{self, RemoteStatus, eprint_line},
    session,
    ssh::{
        Destination, Ended, Hosts, Options, Output, Program, RawTerminal, Settings, SshConnection, What,
        forward::{Dynamic, Forwarding, Listening, Local, Remote},
        options::RequestTty,
        program::{self, ProgramError},
        stdio,
        x11::{Display, Trusted},
    },
};

/// What is said of `-J`, whose way nobody needs here.
pub(super) const JUMP_IGNORED: &str = "WARNING: -J is ignored: the sidecar of a node is reached directly";

/// What ssh ends with where there is no exit status to hand on.
const NO_STATUS: u8 = 255;

pub(super) async fn run(context: &Context, arguments: &Ssh) -> anyhow::Result<()> {
    let asked = Asked::of(arguments)?;
    for warning in &asked.options.warnings {
        eprint_line(&format!("WARNING: {}", printable(warning)));
    }
    if arguments.jumphost.is_some() {
        eprint_line(JUMP_IGNORED);
    }
    let connection = context.connect().await?;
    let nodes = node::list(&connection.channel).await?;
    let cluster = connection.login.profile.cluster.as_str();
    let nodes = match &asked.hosts {
        Hosts::Name(name) => vec![node::find(nodes, name, cluster)?],
        Hosts::Labels(labels) => node::select(nodes, labels)?,
    };
    let prompter = context.prompter(&connection.login.profile.proxy, &connection.channel);
    let display = asked.display().await;
    let opening = Opening { connection: &connection, prompter: &prompter, asked: &asked, display };
    match nodes.as_slice() {
        [node] => opening.one(node).await,
        nodes => opening.each(nodes).await,
    }
}

/// What was typed, understood.
struct Asked {
    hosts: Hosts,
    login: Option<String>,
    port: Option<u16>,
    what: Option<What>,
    tty: RequestTty,
    agent: bool,
    x11: Option<Trusted>,
    local: Vec<Local>,
    remote: Vec<Remote>,
    dynamic: Vec<Dynamic>,
    options: Options,
}

impl Asked {
    fn of(arguments: &Ssh) -> anyhow::Result<Self> {
        let options = Options::parse(&arguments.options)?;
        let Destination { login, hosts } = arguments.destination.parse()?;
        let what = match arguments.command.as_slice() {
            [] if arguments.no_command => None,
            [] => Some(What::Shell),
            words => {
                ensure!(!arguments.no_command, "-N runs nothing, and a command is given");
                Some(What::Command(words.join(" ")))
            }
        };
        let tty = match (arguments.no_tty, arguments.tty) {
            (true, _) => RequestTty::No,
            (false, 0) => options.request_tty.unwrap_or(RequestTty::Auto),
            (false, 1) => RequestTty::Yes,
            (false, _) => RequestTty::Force,
        };
        let local = arguments.local.iter().chain(&options.local).map(|text| text.parse());
        let remote = arguments.remote.iter().chain(&options.remote).map(|text| text.parse());
        let dynamic = arguments.dynamic.iter().chain(&options.dynamic).map(|text| text.parse());
        Ok(Self {
            hosts,
            login: arguments.login.clone().or(login).or_else(|| options.login.clone()),
            port: arguments.port.or(options.port),
            what,
            tty,
            x11: x11(arguments, &options),
            agent: arguments.forward_agent || options.forward_agent.unwrap_or(false),
            local: local.collect::<Result<_, _>>()?,
            remote: remote.collect::<Result<_, _>>()?,
            dynamic: dynamic.collect::<Result<_, _>>()?,
            options,
        })
    }

    fn forwards(&self) -> bool {
        !(self.local.is_empty() && self.remote.is_empty() && self.dynamic.is_empty())
    }

    /// A terminal for the program: ssh's rules.
    fn pty(&self, what: &What, here: bool) -> bool {
        match self.tty {
            RequestTty::No => false,
            RequestTty::Force => true,
            RequestTty::Yes => here,
            RequestTty::Auto => here && *what == What::Shell,
        }
    }

    /// The display to lend, where one is asked for and there is one.
    async fn display(&self) -> Option<Arc<Display>> {
        match Display::here(self.x11?).await {
            Ok(display) => Some(Arc::new(display)),
            Err(error) => {
                let error = anyhow::Error::new(error);
                eprint_line(&format!("WARNING: X11 is not forwarded: {}", report::one_line(&error)));
                None
            }
        }
    }

    fn settings(&self, display: Option<&Arc<Display>>) -> Settings {
        let defaults = Settings::default();
        let interval = self.options.alive_interval;
        Settings {
            agent: self.agent.then(agent_socket).flatten(),
            x11: display.cloned(),
            remote: self.remote.clone(),
            keepalive: interval.or(defaults.keepalive).filter(|interval| !interval.is_zero()),
            keepalive_max: self.options.alive_count.unwrap_or(defaults.keepalive_max),
            connect_timeout: self.options.connect_timeout.unwrap_or(defaults.connect_timeout),
            quiet: self.options.quiet,
        }
    }

    /// Locale and `-o SendEnv`, `-o SetEnv`.
    fn environment(&self) -> Vec<(String, String)> {
        let mut options = self.options.clone();
        options.send_env.extend(["LANG".to_owned(), "LC_*".to_owned()]);
        // A variable that is not text cannot be sent.
        let ours = std::env::vars_os();
        options.environment(
            ours.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }
}

/// ssh's rules: a flag, else the option; trusted only where that is said.
fn x11(arguments: &Ssh, options: &Options) -> Option<Trusted> {
    let asked = arguments.x11 || arguments.trusted_x11 || options.forward_x11.unwrap_or(false);
    let trusted = arguments.trusted_x11 || options.forward_x11_trusted.unwrap_or(false);
    let trusted = if trusted { Trusted::Yes } else { Trusted::No };
    (asked && !arguments.no_x11).then_some(trusted)
}

fn agent_socket() -> Option<std::path::PathBuf> {
    std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(Into::into)
}

/// What sessions are opened with.
struct Opening<'a> {
    connection: &'a Connection,
    prompter: &'a Prompter,
    asked: &'a Asked,
    display: Option<Arc<Display>>,
}

impl Opening<'_> {
    async fn connect(&self, node: &Target) -> anyhow::Result<Arc<SshConnection>> {
        let route = node::route(node, &node::login_at(node, self.asked.login.as_deref()));
        let mut credential = session::open_ssh(self.connection, self.prompter, &route).await?;
        if let Some(port) = self.asked.port {
            credential.target.public_addr = node::at_port(&credential.target.public_addr, port);
        }
        Ok(Arc::new(SshConnection::open(&credential, &self.asked.settings(self.display.as_ref())).await?))
    }

    async fn one(&self, node: &Target) -> anyhow::Result<()> {
        if self.asked.agent && agent_socket().is_none() {
            eprint_line("WARNING: there is no agent to forward: SSH_AUTH_SOCK is not set");
        }
        let listening = self.listen().await?;
        let connection = self.connect(node).await?;
        let forwarding = Forwarding::start(&connection, listening);
        self.ask_to_listen(&connection).await?;
        let Some(what) = &self.asked.what else {
            return until_told(&connection).await;
        };
        let terminal = RawTerminal::of(std::io::stdin()).context("cannot use the terminal")?;
        let mut output = Output::plain(stdio::output()?, stdio::errors()?);
        let program = self.program(what, terminal.as_ref());
        let ended = program::run(&connection, &program, Some(stdio::input()?), &mut output).await;
        if ended.as_ref().is_ok_and(|ended| *ended != Ended::HungUp) {
            tokio::select! {
                () = forwarding.finish() => {}
                stopped = stopped() => stopped?,
            }
        }
        connection.close().await;
        outcome(ended)
    }

    /// Ports first: one that is taken would waste a touch.
    async fn listen(&self) -> anyhow::Result<Vec<Listening>> {
        let mut listening = Vec::new();
        for local in &self.asked.local {
            self.keep(&mut listening, Listening::local(local).await)?;
        }
        for dynamic in &self.asked.dynamic {
            self.keep(&mut listening, Listening::dynamic(dynamic).await)?;
        }
        Ok(listening)
    }

    /// As ssh: what cannot be forwarded is said, and matters only with `ExitOnForwardFailure`.
    fn keep<T, E>(&self, kept: &mut Vec<T>, made: Result<T, E>) -> anyhow::Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        match made {
            Ok(one) => kept.push(one),
            Err(error) if self.asked.options.exit_on_forward_failure => return Err(error.into()),
            Err(error) => {
                eprint_line(&format!("WARNING: {}", report::one_line(&anyhow::Error::new(error))));
            }
        }
        Ok(())
    }

    async fn ask_to_listen(&self, connection: &SshConnection) -> anyhow::Result<()> {
        let mut ports = Vec::new();
        for remote in &self.asked.remote {
            self.keep(&mut ports, connection.listen(remote).await)?;
            if let Some(Some(port)) = ports.last() {
                eprint_line(&format!("Allocated port {port} for remote forward to {}", remote.to));
            }
        }
        Ok(())
    }

    fn program<'p>(&self, what: &What, terminal: Option<&'p RawTerminal>) -> Program<'p> {
        Program {
            what: what.clone(),
            pty: self.asked.pty(what, terminal.is_some()),
            environment: self.asked.environment(),
            agent: self.asked.agent && agent_socket().is_some(),
            x11: self.display.clone(),
            terminal,
            escape: self.asked.options.escape.unwrap_or(Some(b'~')),
        }
    }

    /// One node after another, each with its own touch; standard input stays here.
    async fn each(&self, nodes: &[Target]) -> anyhow::Result<()> {
        let names: Vec<_> = nodes.iter().map(|node| printable(&node.name)).collect();
        let Some(what @ What::Command(_)) = &self.asked.what else {
            bail!("several nodes match ({}): name one of them, or give a command", names.join(", "));
        };
        ensure!(
            !self.asked.forwards(),
            "ports are forwarded to one node, and several match: {}",
            names.join(", ")
        );
        let mut failed = 0_usize;
        for (node, name) in nodes.iter().zip(&names) {
            if let Err(error) = self.one_of_several(node, name, what).await {
                if error.is::<OutputError>() {
                    return Err(error);
                }
                failed += 1;
                eprint_line(&format!("[{name}] ERROR: {}", report::one_line(&error)));
            }
        }
        ensure!(failed == 0, "the command failed at {failed} of {} nodes", nodes.len());
        Ok(())
    }

    async fn one_of_several(&self, node: &Target, name: &str, what: &What) -> anyhow::Result<()> {
        let connection = self.connect(node).await?;
        let mut output = Output::of_node(name, stdio::output()?, stdio::errors()?);
        let program = Program { pty: self.asked.tty == RequestTty::Force, ..self.program(what, None) };
        let ended = program::run(&connection, &program, None::<tokio::io::Empty>, &mut output).await;
        connection.close().await;
        outcome(ended)
    }
}

/// Until the sidecar hangs up, or a signal says that it is enough.
async fn until_told(connection: &SshConnection) -> anyhow::Result<()> {
    tokio::select! {
        reason = connection.closed() => return Err(reason.into()),
        stopped = stopped() => stopped?,
    }
    connection.close().await;
    Ok(())
}

/// A signal to stop. One that was caught for the sake of the terminal does not end this process by itself any more.
async fn stopped() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// The command's end as ours.
fn outcome(ended: Result<Ended, ProgramError>) -> anyhow::Result<()> {
    match ended {
        Ok(Ended::Status(0) | Ended::HungUp) => Ok(()),
        // What does not fit into a status of ours is a failure all the same.
        Ok(Ended::Status(status)) => Err(RemoteStatus(u8::try_from(status).unwrap_or(NO_STATUS)).into()),
        Ok(Ended::Signal(name)) => {
            eprint_line(&format!("ERROR: the command was ended by signal {}", printable(&name)));
            Err(RemoteStatus(NO_STATUS).into())
        }
        Err(ProgramError::Output(error)) => Err(OutputError::Write(error).into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
