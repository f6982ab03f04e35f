//! The machine that a run took place on: without it a figure says nothing.

use std::{fs, thread, time::SystemTime};

use anyhow::Result;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::report::Machine;

pub(crate) fn describe(versions: Vec<String>, load: f64) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    Machine {
        processor: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
        cores: thread::available_parallelism().map_or(1, usize::from),
        kernel: format!(
            "Linux {}{}",
            read("/proc/sys/kernel/osrelease").trim(),
            groups(&read("/proc/sys/kernel/sched_autogroup_enabled"))
        ),
        versions: versions.iter().map(|version| version.trim().to_owned()).collect(),
        load: [load, load],
    }
}

/// How the kernel divides a processor, which decides how many messages a process finds when its turn comes: each backend of
/// PostgreSQL is a session (`setsid`), and so a group of its own where there are groups (sched(7), "The autogroup feature").
fn groups(enabled: &str) -> &'static str {
    match enabled.trim() {
        "0" => ", sessions scheduled in one group",
        "1" => ", each session a scheduling group of its own (kernel.sched_autogroup_enabled=1)",
        _ => "",
    }
}

/// The load average over a minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// The highest processor of this machine.
pub(crate) fn last_core() -> usize {
    let cores = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cores.lines().filter(|line| line.starts_with("processor")).count().saturating_sub(1)
}

/// From here on this thread, and every thread and program that it starts, keeps to one processor.
pub(crate) fn keep_to(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

pub(crate) fn rfc3339(time: SystemTime) -> Result<String> {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let moment = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds)?)?;
    Ok(moment.format(&Rfc3339)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_the_kernel_divides_a_processor() {
        let kernel = describe(Vec::new(), 0.0).kernel;
        let here = fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").unwrap_or_default();
        assert!(kernel.starts_with("Linux ") && kernel.ends_with(groups(&here)), "{kernel}");
        assert!(groups("1\n").contains("=1") && groups("0\n").contains("one group"));
        assert_eq!(groups(""), "");
    }
}
