//! What a process costs, as the kernel accounts for it: processor time, memory, system calls.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use crate::trace::{Threads, Trace};

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

    /// Counts its system calls until told to stop; `None` where no tool can.
    pub(crate) fn trace(self, threads: Threads, directory: &Path) -> Result<Option<Trace>> {
        Trace::begin(self.0, threads, directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
