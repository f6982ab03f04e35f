//! What a process costs, as the kernel accounts for it: processor time, memory, system calls.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// A running process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(Pid);

/// Of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident, KiB.
    pub(crate) rss: u64,
    /// The same with shared pages counted in parts, KiB.
    pub(crate) pss: u64,
}

impl Process {
    /// This very process.
    pub(crate) fn own() -> Self {
        Self(Pid::this())
    }

    pub(crate) fn new(id: u32) -> Result<Self> {
        Ok(Self(Pid::from_raw(i32::try_from(id)?)))
    }

    /// Processor time of all its threads, those that ended included, to the nanosecond.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let clock = clock_getcpuclockid(self.0).context("the process's clock")?;
        Ok(clock_gettime(clock)?.into())
    }

    /// Processor time of it and of those that it has started and waited for: its clients, where they are programs.
    pub(crate) fn cpu_and_ended(self) -> Result<Duration> {
        Ok(self.cpu()? + self.waited_for()?)
    }

    /// Processor time of it and of all that it has started, whether they live or were waited for.
    pub(crate) fn family_cpu(self) -> Result<Duration> {
        let mut sum = self.cpu_and_ended()?;
        for child in self.children()?.split_whitespace() {
            // Who ends just now is waited for, and counted, a moment later.
            let child = Self::new(child.parse()?)?;
            sum += child.family_cpu().unwrap_or_default();
        }
        Ok(sum)
    }

    /// Whether no process that it has started is left.
    pub(crate) fn is_alone(self) -> Result<bool> {
        Ok(self.children()?.trim().is_empty())
    }

    fn children(self) -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0))?)
    }

    /// Of children that ended, to a hundredth of a second.
    fn waited_for(self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let (_, fields) = stat.rsplit_once(") ").context("no stat")?;
        // cutime and cstime, the 16th and 17th of all.
        let ticks = fields.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or_default());
        Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
    }

    /// What it holds in memory.
    pub(crate) fn memory(self) -> Result<Memory> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0))?;
        let field = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
                .with_context(|| format!("no {name} in smaps_rollup"))
        };
        Ok(Memory { rss: field("Rss:")?, pss: field("Pss:")? })
    }

    /// Counts system calls of these threads until told to stop; `None` where strace is missing.
    pub(crate) fn trace(self, threads: Threads, into: &Path) -> Option<Trace> {
        let mut command = Command::new("strace");
        command.args(["-c", "-qq", "-o"]).arg(into);
        let ids = self.threads(threads);
        match threads {
            Threads::All => command.args(["-f", "-p", &self.0.to_string()]),
            Threads::Relay => command.args(ids.iter().flat_map(|id| ["-p", id])),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        Some(Trace { child, process: self, ids, into: into.to_owned() })
    }

    fn threads(self, threads: Threads) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten();
        let wanted = tasks.filter(|task| {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            threads == Threads::All || name.starts_with("tokio")
        });
        wanted.map(|task| task.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Which threads of a process are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    All,
    /// Those of its runtime, which carry sessions: without the writer of the audit trail.
    Relay,
}

/// strace at work.
pub(crate) struct Trace {
    child: Child,
    process: Process,
    ids: Vec<String>,
    into: std::path::PathBuf,
}

impl Trace {
    /// Whether all the threads are being traced by now.
    pub(crate) fn attached(&self) -> bool {
        self.ids.iter().all(|id| {
            let status = fs::read_to_string(format!("/proc/{}/task/{id}/status", self.process.0));
            // A thread that has ended is not missed.
            status.map_or(true, |status| !status.lines().any(|line| line == "TracerPid:\t0"))
        })
    }

    /// System calls by name, and how often.
    pub(crate) fn finish(mut self) -> Result<Vec<(String, u64)>> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        self.child.wait()?;
        let table = fs::read_to_string(&self.into).context("strace's table")?;
        Ok(table.lines().filter_map(parse_line).collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It has ended already when its table was read.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`
fn parse_line(line: &str) -> Option<(String, u64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (name, calls) = (words.last()?, words.get(3)?);
    if *name == "total" || words.len() < 5 {
        return None;
    }
    Some(((*name).to_owned(), calls.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read_with_and_without_errors() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     60.00    0.000060           3        20         1 recvfrom\n \
                     40.00    0.000040           2        21           writev\n\
                     100.00    0.000100                    41         1 total\n";
        let read: Vec<_> = table.lines().filter_map(parse_line).collect();
        assert_eq!(read, [("recvfrom".to_owned(), 20), ("writev".to_owned(), 21)]);
    }

    #[test]
    fn a_process_that_works_takes_time_and_memory() {
        let own = Process::new(std::process::id()).unwrap();
        let before = own.cpu().unwrap();
        let mut sum = 0_u64;
        while own.cpu().unwrap() - before < Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(own.memory().unwrap().rss > 0 && sum > 0);
    }
}
