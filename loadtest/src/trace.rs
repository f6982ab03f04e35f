//! Counted system calls.
//!
//! Where perf may read the kernel's tracepoints it counts, and a process stays as fast as it is. Elsewhere strace does, which
//! stops a process twice at each call: timers that tick by the clock then weigh more for each query, and who waits for many
//! peers at once finds them ready one by one. The two are not to be compared.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    fcntl::OFlag,
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};

/// Calls that are counted by name; what else there is counts as `others`.
const NAMES: [&str; 16] = [
    "futex",
    "epoll_wait",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "splice",
    "getrandom",
    "clock_gettime",
    "mprotect",
    "madvise",
    "fdatasync",
];
/// perf's name of all of them.
const ALL: &str = "raw_syscalls:sys_enter";
/// How long a tool may take to begin.
const BEGINNING: Duration = Duration::from_secs(5);

/// Which threads of a process are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    All,
    /// Those of a sidecar that carry sessions: without the writer of the audit trail, and what sends it to authd.
    Relay,
}

/// A tool at work.
pub(crate) struct Trace {
    child: Child,
    into: PathBuf,
    tool: Tool,
}

enum Tool {
    Perf(Control),
    Strace,
}

impl Trace {
    /// Counts from here on; `None` where no tool can. `directory` is for its files.
    pub(crate) fn begin(process: Pid, threads: Threads, directory: &Path) -> Result<Option<Self>> {
        let ids = thread_ids(process, threads);
        match Self::perf(process, threads, &ids, directory)? {
            Some(trace) => Ok(Some(trace)),
            None => Ok(Self::strace(process, threads, &ids, directory)),
        }
    }

    /// What counts.
    pub(crate) fn tool(&self) -> &'static str {
        match self.tool {
            Tool::Perf(_) => "perf",
            Tool::Strace => "strace",
        }
    }

    fn perf(process: Pid, threads: Threads, ids: &[String], directory: &Path) -> Result<Option<Self>> {
        let (into, control) = (directory.join("counted"), Control::new(directory)?);
        let names = NAMES.map(|name| format!("syscalls:sys_enter_{name}"));
        let mut command = Command::new("perf");
        command.args(["stat", "--delay=-1", "--field-separator=,", "-e", ALL, "-e", &names.join(",")]);
        command.arg("--control").arg(control.argument(directory)).arg("--output").arg(&into);
        match threads {
            Threads::All => command.args(["--pid", &process.to_string()]),
            Threads::Relay => command.args(["--tid", &ids.join(",")]),
        };
        let Some(child) = quiet(&mut command) else { return Ok(None) };
        let mut trace = Self { child, into, tool: Tool::Perf(control) };
        Ok(trace.tell("enable").is_ok().then_some(trace))
    }

    /// Tells perf something, and waits until it has done it.
    fn tell(&mut self, order: &str) -> Result<()> {
        let (child, Tool::Perf(control)) = (&mut self.child, &mut self.tool) else { return Ok(()) };
        writeln!(control.orders, "{order}")?;
        e2e::poll("perf to answer", BEGINNING, || {
            ensure!(child.try_wait()?.is_none(), "perf has ended");
            Ok(control.answers.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0).then_some(()))
        })
    }

    fn strace(process: Pid, threads: Threads, ids: &[String], directory: &Path) -> Option<Self> {
        let into = directory.join("counted");
        let mut command = Command::new("strace");
        command.args(["-c", "-qq", "-o"]).arg(&into);
        match threads {
            Threads::All => command.args(["-f", "-p", &process.to_string()]),
            Threads::Relay => command.args(ids.iter().flat_map(|id| ["-p", id])),
        };
        let trace = Self { child: quiet(&mut command)?, into, tool: Tool::Strace };
        let all = || Ok(ids.iter().all(|id| is_traced(process, id)).then_some(()));
        e2e::poll("strace to attach", BEGINNING, all).ok().map(|()| trace)
    }

    /// System calls by name, and how often.
    pub(crate) fn finish(mut self) -> Result<Vec<(String, u64)>> {
        self.tell("disable")?;
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        self.child.wait()?;
        let table = fs::read_to_string(&self.into).context("the table of what was counted")?;
        match self.tool {
            Tool::Perf(_) => from_perf(&table),
            Tool::Strace => Ok(table.lines().filter_map(from_strace).collect()),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It has ended already when its table was read.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Orders to perf, and its answers.
struct Control {
    orders: File,
    answers: File,
}

impl Control {
    const ORDERS: &str = "orders";
    const ANSWERS: &str = "answers";

    fn new(directory: &Path) -> Result<Self> {
        let pipe = |name: &str| -> Result<File> {
            let path = directory.join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            // Open at both ends, so that opening waits for nobody.
            let mut options = OpenOptions::new();
            Ok(options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?)
        };
        Ok(Self { orders: pipe(Self::ORDERS)?, answers: pipe(Self::ANSWERS)? })
    }

    fn argument(&self, directory: &Path) -> String {
        let path = |name| directory.join(name).display().to_string();
        format!("fifo:{},{}", path(Self::ORDERS), path(Self::ANSWERS))
    }
}

fn quiet(command: &mut Command) -> Option<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

fn thread_ids(process: Pid, threads: Threads) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let wanted = tasks.filter(|task| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        threads == Threads::All || name.starts_with("relay-")
    });
    wanted.map(|task| task.file_name().to_string_lossy().into_owned()).collect()
}

fn is_traced(process: Pid, thread: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/task/{thread}/status"));
    // A thread that has ended is not missed.
    status.map_or(true, |status| !status.lines().any(|line| line == "TracerPid:\t0"))
}

/// `count,,event,time,100.00,,` for each event.
fn from_perf(table: &str) -> Result<Vec<(String, u64)>> {
    let counted = |line: &str| {
        let mut fields = line.split(',');
        let count = fields.next()?.parse::<u64>().ok()?;
        Some((fields.nth(1)?.to_owned(), count))
    };
    let events: Vec<_> = table.lines().filter_map(counted).collect();
    let all = events.iter().find(|(event, _)| event == ALL).context("perf has counted nothing")?.1;
    let mut by_name: Vec<_> = events
        .iter()
        .filter_map(|(event, count)| Some((event.strip_prefix("syscalls:sys_enter_")?.to_owned(), *count)))
        .collect();
    let named: u64 = by_name.iter().map(|(_, count)| count).sum();
    by_name.push(("others".to_owned(), all.saturating_sub(named)));
    Ok(by_name)
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`
fn from_strace(line: &str) -> Option<(String, u64)> {
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
        let read: Vec<_> = table.lines().filter_map(from_strace).collect();
        assert_eq!(read, [("recvfrom".to_owned(), 20), ("writev".to_owned(), 21)]);
    }

    #[test]
    fn the_table_of_perf_is_read_and_what_has_no_name_counts() {
        let table = "# started on Fri Nov 27 05:27:28 2026\n\n\
                     41,,raw_syscalls:sys_enter,1000,100.00,,\n\
                     20,,syscalls:sys_enter_recvfrom,1000,100.00,,\n\
                     <not supported>,,syscalls:sys_enter_splice,0,100.00,,\n";
        let read = from_perf(table).unwrap();
        assert_eq!(read, [("recvfrom".to_owned(), 20), ("others".to_owned(), 21)]);
        assert!(from_perf("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n").is_err());
    }
}
