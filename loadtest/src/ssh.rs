//! SSH as people speak it: OpenSSH's own client, a process for each connection. What starting a process costs is in every way
//! alike, and so are its ciphers and its key exchange, which are pinned.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::{
        signal::{Signal, killpg},
        wait::waitpid,
    },
    unistd::Pid,
};

use crate::{
    accounting::Process,
    load::{self, Done, Sample},
    way::Way,
};

const MEGABYTE: u64 = 1_000_000;
/// Nothing that is measured takes this long: what hangs is killed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest that a server may take to put away connections that have ended.
const PUTTING_AWAY: Duration = Duration::from_secs(20);

/// Where `ssh` goes: a `Host` of a configuration file.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) config: PathBuf,
    pub(crate) host: String,
    /// The target whose session certificate must be a fresh one.
    pub(crate) target: Option<String>,
}

/// What a host is asked to do. Bytes begin to flow once both sides are there and the clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Nothing,
    /// So many zeros, after one line.
    Send {
        bytes: u64,
    },
    /// Takes what comes, and says how many bytes it was: as much work as throwing it away, and it proves that all came.
    Count,
}

impl Work {
    /// What is said on standard error when it is ready, and a line's end.
    pub(crate) const READY: &'static str = "ready";

    fn command(self) -> String {
        let ready = Self::READY;
        match self {
            Self::Nothing => "true".to_owned(),
            Self::Send { bytes } => format!("echo {ready} >&2; read -r go; exec head -c {bytes} /dev/zero"),
            Self::Count => format!("echo {ready} >&2; exec wc -c"),
        }
    }

    /// For a host that has no shell.
    pub(crate) fn of(command: &str) -> Self {
        let bytes = command.split_once("head -c ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        match bytes {
            Some(bytes) => Self::Send { bytes },
            None if command.ends_with("wc -c") => Self::Count,
            None => Self::Nothing,
        }
    }
}

/// One `ssh`, and whatever it has started.
struct Client {
    child: Child,
    said: BufReader<ChildStderr>,
    /// Gone with it: then nobody kills it.
    _watch: mpsc::Sender<()>,
}

impl Client {
    fn start(to: &Destination, work: Work, input: Stdio, output: Stdio) -> Result<Self> {
        let mut ssh = Command::new("ssh");
        // With no shell in the environment, ProxyJump's process is started by sh.
        ssh.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        ssh.arg("-F").arg(&to.config).args([&to.host, &work.command()]);
        // A group of its own, by which those are found that it leaves behind.
        ssh.stdin(input).stdout(output).stderr(Stdio::piped()).process_group(0);
        let mut child = ssh.spawn().context("start ssh")?;
        let said = BufReader::new(child.stderr.take().context("no standard error")?);
        let group = Pid::from_raw(i32::try_from(child.id())?);
        let (watch, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Ended this very moment is as good.
                let _ = killpg(group, Signal::SIGKILL);
            }
        });
        Ok(Self { child, said, _watch: watch })
    }

    /// Waits until the host is at work; processor time that it has taken here until then.
    fn ready(&mut self) -> Result<Duration> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        if line.trim_end() != Work::READY {
            self.said.read_to_string(&mut line)?;
            bail!("ssh says: {line}");
        }
        Process::new(self.child.id())?.family_cpu()
    }

    /// Waits for its end, which must be a good one.
    fn finish(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if !status.success() {
            let mut said = String::new();
            self.said.read_to_string(&mut said)?;
            bail!("ssh ended with {status}: {said}");
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Ended already, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // ssh does not wait for its ProxyJump: it falls to us, and what it cost is counted with what was waited for.
        if let Ok(group) = i32::try_from(self.child.id()) {
            while waitpid(Pid::from_raw(-group), None).is_ok() {}
        }
    }
}

/// From now on processes that lose their parents are this process's children, so that it can wait for them.
pub(crate) fn adopt_orphans() -> Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Connects, does nothing and goes.
fn visit(to: &Destination) -> Result<Client> {
    let mut client = Client::start(to, Work::Nothing, Stdio::null(), Stdio::null())?;
    client.finish()?;
    Ok(client)
}

/// Clients that connect and go, again and again.
pub(crate) fn reconnecting(way: &Way<Destination>, clients: usize, time: Duration) -> Result<Sample> {
    load::again_and_again(way, clients, time, |_| visit(&way.door), || at_rest(way))
}

/// So many megabytes to us, over a connection that is there when the clock starts.
pub(crate) fn download(way: &Way<Destination>, megabytes: u32) -> Result<Sample> {
    let bytes = u64::from(megabytes) * MEGABYTE;
    let client = Client::start(&way.door, Work::Send { bytes }, Stdio::piped(), Stdio::null())?;
    bulk(way, client, megabytes, |client| {
        io::Write::write_all(client.child.stdin.as_mut().context("no standard input")?, b"go\n")?;
        client.finish()
    })
}

/// So many megabytes to the host, likewise; it must have seen them all.
pub(crate) fn upload(way: &Way<Destination>, megabytes: u32) -> Result<Sample> {
    let client = Client::start(&way.door, Work::Count, Stdio::piped(), Stdio::piped())?;
    // From a file into a pipe the kernel copies without us.
    let mut zeros = tempfile::tempfile()?;
    zeros.set_len(MEGABYTE)?;
    bulk(way, client, megabytes, |client| {
        send(client, &mut zeros, megabytes)?;
        drop(client.child.stdin.take());
        let mut counted = String::new();
        client.child.stdout.take().context("no standard output")?.read_to_string(&mut counted)?;
        client.finish()?;
        ensure!(counted.trim() == (u64::from(megabytes) * MEGABYTE).to_string(), "of it came: {counted}");
        Ok(())
    })
}

fn send(client: &mut Client, zeros: &mut File, megabytes: u32) -> Result<()> {
    let input = client.child.stdin.as_mut().context("no standard input")?;
    // As large as anybody may have it: whoever fills it is seldom woken.
    fcntl(&*input, FcntlArg::F_SETPIPE_SZ(1 << 20))?;
    for _ in 0..megabytes {
        zeros.rewind()?;
        io::copy(zeros, input)?;
    }
    Ok(())
}

fn bulk<W>(way: &Way<Destination>, mut client: Client, megabytes: u32, work: W) -> Result<Sample>
where
    W: FnOnce(&mut Client) -> Result<()> + Send,
{
    let before_clock = client.ready().with_context(|| format!("the way {}", way.name))?;
    let one = |_, (mut client, work): (Client, W), barrier: &Barrier| {
        barrier.wait();
        let began = Instant::now();
        work(&mut client)?;
        let mut done = Done::of_process(before_clock);
        done.record(megabytes.into(), began.elapsed());
        Ok(done)
    };
    load::side_by_side(way, vec![(client, work)], one, || at_rest(way))
}

/// Waits until every process that a server has started for a connection has ended, and is counted.
fn at_rest(way: &Way<Destination>) -> Result<()> {
    e2e::poll("connections to be put away", PUTTING_AWAY, || {
        let servers = [way.process, way.database];
        let alone = servers.into_iter().flatten().map(Process::is_alone).collect::<Result<Vec<_>>>()?;
        Ok(alone.into_iter().all(|alone| alone).then_some(()))
    })
}

/// That a way carries everything both ways.
pub(crate) fn knock(way: &Way<Destination>) -> Result<()> {
    let carried = || {
        visit(&way.door)?;
        let mut client =
            Client::start(&way.door, Work::Send { bytes: MEGABYTE }, Stdio::piped(), Stdio::piped())?;
        client.ready()?;
        io::Write::write_all(client.child.stdin.as_mut().context("no standard input")?, b"go\n")?;
        let mut output = client.child.stdout.take().context("no standard output")?;
        let came = io::copy(&mut output, &mut io::sink())?;
        client.finish()?;
        ensure!(came == MEGABYTE, "{came} bytes came of {MEGABYTE}");
        upload(way, 1).map(drop)
    };
    carried().with_context(|| format!("the way {}", way.name))
}

/// What `ssh -V` says, without its libraries.
pub(crate) fn version() -> Result<String> {
    let output = Command::new("ssh").arg("-V").output().context("start ssh")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(said.split(',').next().unwrap_or_default().replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_shell_knows_each_command() {
        for work in [Work::Nothing, Work::Send { bytes: 12_345 }, Work::Count] {
            assert_eq!(Work::of(&work.command()), work);
        }
    }
}
