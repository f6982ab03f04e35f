//! Where the log of a program that serves goes: lines wait in memory for a thread that writes them, so that a reader who has
//! stopped reading (a pager, a log driver that hangs, a full pipe) holds up nobody who logs.
//!
//! What finds no room is lost, is counted, and the log says so where it is missing, once its reader goes on. Not
//! `tracing-appender`: at the end it says to standard output that its queue is full, and waits for ever where that is the same
//! pipe; and its bound counts lines, whatever their length.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt,
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd as _,
    panic::{self, PanicHookInfo},
    process::ExitCode,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Bytes of lines that may wait; as many may be on their way to the reader. Some thousands of lines.
const ROOM: usize = 1024 * 1024;
/// How long the end of a program waits for the reader of its log.
const GOODBYE: Duration = Duration::from_secs(1);
/// Between two tries where somebody has made the other end's file one that does not wait.
const RETRY: Duration = Duration::from_millis(10);

/// Lines that this process has lost.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that this process's log has lost: their reader did not keep up, or the place that they are written to takes none.
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The way into the log. Each write is a line. Cheap to clone; writing never waits and never fails.
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Rung when there is something to write, and when all is written.
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// What was taken from `waiting` is on its way.
    is_writing: bool,
    /// Lines that were lost, and not spoken of since.
    lost: u64,
}

impl Log {
    /// On standard error, past the lock of [`std::io::Stderr`]: whoever else writes there does not wait for the log's reader.
    ///
    /// # Errors
    /// Standard error is closed, or there is no room for one more thread.
    pub fn on_stderr() -> io::Result<Self> {
        Self::on(File::from(io::stderr().as_fd().try_clone_to_owned()?))
    }

    /// # Errors
    /// There is no room for one more thread.
    fn on(place: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let log = Self(Arc::clone(&shared));
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(place))?;
        Ok(log)
    }

    /// The last line: why the program ends. Then as [`Self::flush`].
    fn last_words(&self, error: &str) {
        self.0.push(format!("ERROR: {error}\n").as_bytes());
        self.flush();
    }

    /// Waits until all lines are written, but no longer than a second: a reader that does not read must not keep a program
    /// from ending.
    pub fn flush(&self) {
        let deadline = Instant::now() + GOODBYE;
        let mut state = self.0.lock();
        while state.is_writing || !state.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.0.bell.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The end of a program: what was logged is written, and the error that it ends with is the last line. Whoever does not read
/// the log does not keep the program from ending either.
///
/// Without a log, the error goes to standard error.
pub fn end<E: fmt::Display>(outcome: &Result<(), E>, log: Option<&Log>) -> ExitCode {
    match (outcome, log) {
        (Ok(()), None) => {}
        (Ok(()), Some(log)) => log.flush(),
        (Err(error), None) => eprintln!("ERROR: {error:#}"),
        (Err(error), Some(log)) => log.last_words(&format!("{error:#}")),
    }
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    /// Nothing: see [`Log::flush`] for the end of a program.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len().saturating_add(line.len()) > ROOM {
            state.lose(1);
            return;
        }
        state.waiting.extend_from_slice(line);
        self.bell.notify_all();
    }

    /// Writes what comes, all that waits at once, as long as the process lives.
    fn write_to(&self, mut place: impl Write) {
        // What is said of lost lines while nothing can be written would be lost too, and so on without end.
        let mut takes = true;
        let mut lines = Vec::new();
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            self.bell.notify_all();
            while state.waiting.is_empty() {
                state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut state.waiting, &mut lines);
            state.is_writing = true;
            let lost = if takes { std::mem::take(&mut state.lost) } else { 0 };
            drop(state);
            if lost > 0 {
                // Behind what is about to be written: where they are missing.
                tracing::warn!(lines = lost, "lines of the log were lost: its reader did not keep up");
            }
            let written = write_all(&mut place, &lines);
            takes = written == lines.len();
            let left = lines.get(written..).unwrap_or_default();
            if !left.is_empty() {
                self.lock().lose(left.iter().filter(|byte| **byte == b'\n').count() as u64);
            }
            lines.clear();
        }
    }
}

impl State {
    fn lose(&mut self, lines: u64) {
        self.lost += lines;
        LOST.fetch_add(lines, Ordering::Relaxed);
    }
}

/// How much was written before the place took no more.
fn write_all(place: &mut impl Write, lines: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
        match place.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(_) => break,
        }
    }
    written
}

/// From now on a panic is a line of the log like others: what is written to standard error otherwise waits for its reader,
/// and so would the thread that panicked, with all sessions on it. `RUST_BACKTRACE` says whether it tells from where.
pub fn take_panics() {
    panic::set_hook(Box::new(panicked));
}

fn panicked(panic: &PanicHookInfo<'_>) {
    let (thread, backtrace) = (thread::current(), Backtrace::capture());
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread = thread.name(),
        place = panic.location().map(tracing::field::display),
        message = panic.payload_as_str().unwrap_or("a panic that says nothing"),
        backtrace,
    );
}

#[cfg(test)]
mod tests;
