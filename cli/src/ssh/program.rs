//! A shell or a command at a node: its input, its outputs, its terminal, its end.

use std::{collections::VecDeque, io, sync::Arc};

use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client::Msg};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};

use super::{
    RawTerminal, SshConnection, SshError,
    escape::{Escapes, Typed},
    output::{Output, Stream},
    raw::Size,
    x11::Display,
};
use crate::report::eprint_line;

/// Extended data of type 1 is standard error (RFC 4254, 5.2).
const STDERR: u32 = 1;
/// One read of standard input.
const INPUT_BYTES: usize = 32 * 1024;
/// The size of a terminal that nobody sees.
const UNSEEN: Size = Size { columns: 80, rows: 24, width: 0, height: 0 };

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The account's shell.
    Shell,
    /// One command, for the account's shell to read.
    Command(String),
}

/// What runs, and how.
#[derive(Debug)]
pub struct Program<'a> {
    /// What.
    pub what: What,
    /// On a terminal of its own.
    pub pty: bool,
    /// Variables for it; the host takes those that it likes.
    pub environment: Vec<(String, String)>,
    /// It may ask our agent for signatures.
    pub agent: bool,
    /// Its windows may be shown on our display.
    pub x11: Option<Arc<Display>>,
    /// The terminal where a person sits: it becomes raw where the program has one too.
    pub terminal: Option<&'a RawTerminal>,
    /// For `~.`; `None`: there is no way to hang up but from outside.
    pub escape: Option<u8>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an exit status.
    Status(u32),
    /// By a signal: its name without `SIG`.
    Signal(String),
    /// A person hung up with `~.`.
    HungUp,
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The connection, or a refusal.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Whoever reads the output is gone.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The terminal failed.
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    /// A signal told us to stop.
    #[error("interrupted by a signal")]
    Interrupted,
}

/// Runs a program until it ends.
///
/// # Errors
/// [`ProgramError`].
pub async fn run<I, O, E>(
    connection: &SshConnection,
    program: &Program<'_>,
    input: Option<I>,
    output: &mut Output<O, E>,
) -> Result<Ended, ProgramError>
where
    I: AsyncRead + Send + Unpin + 'static,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let channel = connection.session_channel().await?;
    let mut asked = ask(connection, &channel, program).await?;
    let (mut from, to) = channel.split();
    let to = Arc::new(to);
    granted(connection, &mut from, &mut asked, output).await?;
    let raw = program.terminal.filter(|_| program.pty);
    let raw = raw.map(RawTerminal::raw).transpose().map_err(ProgramError::Terminal)?;
    let escapes = Escapes::new(program.escape.filter(|_| raw.is_some()));
    let ended = Running { connection, to, terminal: program.terminal.filter(|_| program.pty) };
    let ended = Box::pin(ended.until_the_end(&mut from, input, escapes, output)).await;
    // The terminal first: what is said about the end is said on a terminal that works.
    drop(raw);
    output.finish().await.map_err(ProgramError::Output)?;
    ended
}

/// What was asked for and not answered yet, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Pty,
    Agent,
    X11,
    Program(&'static str),
}

async fn ask(
    connection: &SshConnection,
    channel: &Channel<Msg>,
    program: &Program<'_>,
) -> Result<VecDeque<Asked>, SshError> {
    let mut asked = VecDeque::new();
    let sent = async {
        if program.agent {
            channel.agent_forward(true).await?;
            asked.push_back(Asked::Agent);
        }
        if let Some(display) = &program.x11 {
            let (kind, cookie, screen) = display.request();
            channel.request_x11(true, false, kind, cookie, screen).await?;
            asked.push_back(Asked::X11);
        }
        if program.pty {
            let (size, modes) =
                program.terminal.map_or((UNSEEN, Vec::new()), |terminal| (terminal.size(), terminal.modes()));
            let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
            let Size { columns, rows, width, height } = size;
            channel.request_pty(true, &term, columns, rows, width, height, &modes).await?;
            asked.push_back(Asked::Pty);
        }
        for (name, value) in &program.environment {
            channel.set_env(false, name.as_str(), value.as_str()).await?;
        }
        match &program.what {
            What::Shell => channel.request_shell(true).await?,
            What::Command(command) => channel.exec(true, command.as_bytes()).await?,
        }
        asked.push_back(Asked::Program(match program.what {
            What::Shell => "a shell",
            What::Command(_) => "the command",
        }));
        Ok(asked)
    };
    let sent: Result<_, russh::Error> = sent.await;
    sent.map_err(|error| connection.refused("the session", error))
}

/// Waits until the program runs. A terminal, an agent or a display that was not granted is told about; the program goes on without.
async fn granted<O: AsyncWrite + Unpin, E: AsyncWrite + Unpin>(
    connection: &SshConnection,
    from: &mut ChannelReadHalf,
    asked: &mut VecDeque<Asked>,
    output: &mut Output<O, E>,
) -> Result<(), ProgramError> {
    while !asked.is_empty() {
        match from.wait().await {
            Some(ChannelMsg::Success) => drop(asked.pop_front()),
            Some(ChannelMsg::Failure) => match asked.pop_front() {
                Some(Asked::Program(what)) => return Err(connection.request(what).into()),
                Some(Asked::Pty) => eprint_line("PTY allocation request failed"),
                Some(Asked::Agent) => eprint_line("WARNING: agent forwarding was refused"),
                Some(Asked::X11) => eprint_line("WARNING: X11 forwarding was refused"),
                None => {}
            },
            Some(ChannelMsg::Data { data }) => {
                output.write(Stream::Out, &data).await.map_err(ProgramError::Output)?;
            }
            Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                output.write(Stream::Err, &data).await.map_err(ProgramError::Output)?;
            }
            Some(ChannelMsg::Close) | None => return Err(connection.ended().into()),
            Some(_) => {}
        }
    }
    Ok(())
}

/// A program that runs.
struct Running<'a> {
    connection: &'a SshConnection,
    to: Arc<ChannelWriteHalf<Msg>>,
    terminal: Option<&'a RawTerminal>,
}

impl Running<'_> {
    async fn until_the_end<I, O, E>(
        &self,
        from: &mut ChannelReadHalf,
        input: Option<I>,
        escapes: Escapes,
        output: &mut Output<O, E>,
    ) -> Result<Ended, ProgramError>
    where
        I: AsyncRead + Send + Unpin + 'static,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        // Input has a task of its own: a program whose output nobody takes still gets its input, as with ssh.
        let mut typing = Typing::spawn(input, escapes, Arc::clone(&self.to));
        let mut resized = signal(SignalKind::window_change()).map_err(ProgramError::Terminal)?;
        let mut stops = Stops::new(self.terminal.is_some()).map_err(ProgramError::Terminal)?;
        let mut ended = None;
        loop {
            tokio::select! {
                message = from.wait() => match message {
                    Some(ChannelMsg::Data { data }) => {
                        output.write(Stream::Out, &data).await.map_err(ProgramError::Output)?;
                    }
                    Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                        output.write(Stream::Err, &data).await.map_err(ProgramError::Output)?;
                    }
                    Some(ChannelMsg::ExitStatus { exit_status }) => ended = Some(Ended::Status(exit_status)),
                    Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                        ended = Some(Ended::Signal(name_of(&signal_name)));
                    }
                    Some(ChannelMsg::Close) | None => break,
                    Some(_) => {}
                },
                hung_up = &mut typing.task, if !typing.done => {
                    typing.done = true;
                    if hung_up.unwrap_or(false) {
                        let _ = self.to.close().await;
                        return Ok(Ended::HungUp);
                    }
                }
                _ = resized.recv() => self.resize().await,
                () = stops.any() => {
                    let _ = self.to.close().await;
                    return Err(ProgramError::Interrupted);
                }
            }
        }
        ended.ok_or_else(|| self.connection.ended().into())
    }

    async fn resize(&self) {
        if let Some(terminal) = self.terminal {
            let Size { columns, rows, width, height } = terminal.size();
            let _ = self.to.window_change(columns, rows, width, height).await;
        }
    }
}

fn name_of(signal: &Sig) -> String {
    match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    }
    .to_owned()
}

/// What goes to a program, for as long as it runs. The task's result: whether a person hung up.
struct Typing {
    task: JoinHandle<bool>,
    done: bool,
}

impl Typing {
    fn spawn<I>(input: Option<I>, escapes: Escapes, to: Arc<ChannelWriteHalf<Msg>>) -> Self
    where
        I: AsyncRead + Send + Unpin + 'static,
    {
        let task = tokio::spawn(async move {
            let hung_up = match input {
                Some(input) => type_into(input, escapes, &to).await.unwrap_or(false),
                None => false,
            };
            // The end of the input is the end of one direction alone.
            if !hung_up {
                let _ = to.eof().await;
            }
            hung_up
        });
        Self { task, done: false }
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until the input ends, or a person hangs up (true).
async fn type_into(
    mut input: impl AsyncRead + Unpin,
    mut escapes: Escapes,
    to: &ChannelWriteHalf<Msg>,
) -> Result<bool, russh::Error> {
    let mut typed = Vec::with_capacity(INPUT_BYTES);
    loop {
        if input.read_buf(&mut typed).await? == 0 {
            return Ok(false);
        }
        while !typed.is_empty() {
            let mut bytes = Vec::with_capacity(typed.len());
            let what = escapes.take(&mut typed, &mut bytes);
            to.data_bytes(bytes).await?;
            match what {
                Typed::Input => {}
                Typed::HangUp => return Ok(true),
                Typed::Help => eprint_line(&escapes.help()),
            }
        }
    }
}

/// Signals that would end this process with the terminal left raw. Where it is not, they do what they always do.
struct Stops(Vec<Signal>);

impl Stops {
    fn new(raw: bool) -> io::Result<Self> {
        let kinds =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let signals = kinds.into_iter().filter(|_| raw).map(signal);
        Ok(Self(signals.collect::<Result<_, _>>()?))
    }

    async fn any(&mut self) {
        std::future::poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests;
