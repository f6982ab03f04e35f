//! Programs: those that run beside the story until they are stopped, and those that are run to their end.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    iter,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Between two looks at something that cannot wake us, such as the end of a child process.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Longest that a program may take to stop after it was asked to.
const STOPPING: Duration = Duration::from_secs(10);

/// Calls `look` until it has an answer.
///
/// # Errors
/// When there is none `within` the time, naming `what` was waited for.
pub fn poll<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {within:?} in vain for {what}");
        }
        thread::sleep(POLL);
    }
}

/// A command that dies with the thread that starts it: the kernel sends `signal` (PR_SET_PDEATHSIG).
#[must_use]
pub fn mortal(program: impl AsRef<OsStr>, signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--pdeathsig={signal}")).arg("--").arg(program);
    command
}

/// A running program whose log can be waited for. Killed when dropped.
pub struct Daemon {
    name: String,
    command: String,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    written: Mutex<Written>,
    grown: Condvar,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    /// Streams that reached their end.
    ended: usize,
    /// Nobody reads any more.
    is_left: bool,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let mut written = log.lock();
                written.lines.push(line);
                log.grown.notify_all();
                // The stream stays open and unread.
                drop(log.grown.wait_while(written, |written| written.is_left));
            }
            log.lock().ended += 1;
            log.grown.notify_all();
        });
    }
}

impl Daemon {
    /// Starts `command` with both output streams as its log.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: impl Into<String>, mut command: Command) -> Result<Self> {
        let name = name.into();
        let line = command_line(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let log = Arc::new(Log::default());
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr);
        }
        Ok(Self { name, command: line, child, log })
    }

    /// The command line that started it.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().lines.clone()
    }

    /// Reads its output no more, or reads on. What it writes meanwhile fills the pipe to it.
    pub fn leave_unread(&self, unread: bool) {
        self.log.lock().is_left = unread;
        self.log.grown.notify_all();
    }

    /// Waits until some line of the log, past or future, gives an answer.
    ///
    /// # Errors
    /// When there is none `within` the time, or the program ended: with the log's last lines.
    pub fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        let mut written = self.log.lock();
        loop {
            if let Some(answer) = written.lines.iter().skip(seen).find_map(|line| look(line)) {
                return Ok(answer);
            }
            seen = written.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || written.ended == 2 {
                let tail = written.lines.iter().rev().take(20).rev().cloned().collect::<Vec<_>>().join("\n");
                bail!("{}: waited up to {within:?} in vain for {what}; its log ends:\n{tail}", self.name);
            }
            let (guard, _) =
                self.log.grown.wait_timeout(written, left).unwrap_or_else(PoisonError::into_inner);
            written = guard;
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("process id")?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Waits for the program to end by itself.
    ///
    /// # Errors
    /// When it does not `within` the time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let Self { name, child, .. } = self;
        poll(&format!("{name} to end"), within, || Ok(child.try_wait()?))
    }

    /// Asks with SIGTERM, waits for the end.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(STOPPING)
    }

    /// `kill -9`: the program learns nothing of it.
    ///
    /// # Errors
    /// When it was gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(STOPPING).map(drop)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already is as good; there is nobody left to tell otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, self.log().join("\n"));
        }
    }
}

/// What a program said before it ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// Exit code 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output of a program that must have succeeded.
    ///
    /// # Errors
    /// When it failed: with what it said.
    pub fn output(self) -> Result<String> {
        if !self.success {
            bail!("`{}` failed:\n{}{}", self.command, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// Standard error of a program that must have failed.
    ///
    /// # Errors
    /// When it succeeded: with what it said.
    pub fn error(self) -> Result<String> {
        if self.success {
            bail!("`{}` succeeded, and should not have:\n{}{}", self.command, self.stdout, self.stderr);
        }
        Ok(self.stderr)
    }
}

/// Runs `command` to its end, without a terminal, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started or does not end `within` the time; it is killed then.
pub fn run(mut command: Command, input: &str, within: Duration) -> Result<Finished> {
    let line = command_line(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start `{line}`"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes it early.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    }
    let ended = poll(&format!("`{line}` to end"), within, || Ok(child.try_wait()?));
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    let status = ended.with_context(|| format!("it said:\n{stdout}{stderr}"))?;
    Ok(Finished { command: line, success: status.success(), stdout, stderr })
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// As a person would type it: the program's name without its folder, quotes where a shell needs them.
#[must_use]
pub fn command_line(command: &Command) -> String {
    let mut words: Vec<_> =
        iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    // How we keep children mortal is nobody's business.
    while words.first().is_some_and(|word| word == "setpriv" || word == "setsid") {
        let own = words.iter().position(|word| word == "--").unwrap_or_default();
        words.drain(..=own);
    }
    if let Some(program) = words.first_mut() {
        *program =
            Path::new(program.as_ref()).file_name().unwrap_or_default().to_string_lossy().into_owned().into();
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+#".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = mortal("/usr/lib/postgresql/15/bin/psql", "KILL");
        command.args(["--command", "SELECT 1", "dbname=app"]);
        assert_eq!(command_line(&command), "psql --command 'SELECT 1' dbname=app");
    }

    #[test]
    fn a_daemon_dies_with_the_thread_that_started_it() {
        let started = thread::spawn(|| {
            let mut command = mortal("sh", "KILL");
            command.args(["-c", "echo ready; exec sleep 60"]);
            let daemon = Daemon::start("sh", command).unwrap();
            daemon.wait_for("it to run", STOPPING, |line| (line == "ready").then_some(())).unwrap();
            let id = daemon.id();
            std::mem::forget(daemon);
            id
        });
        let id = Pid::from_raw(i32::try_from(started.join().unwrap()).unwrap());
        let status = nix::sys::wait::waitpid(id, None).unwrap();
        assert!(matches!(status, nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
    }
}
