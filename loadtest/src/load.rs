//! Load: clients that ask as fast as they are answered, or at a rate that does not wait for answers.
//!
//! Each client is a thread of its own that blocks: one write, one read, no event loop. Connections are open and warm before
//! the clock starts.

use std::{
    sync::{Barrier, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::{
    accounting::Process,
    door::Door,
    session::{self, Keys, Session},
    way::Way,
};

/// Queries of each connection before the clock starts: the first are slower, everywhere.
const WARM_UP: u32 = 30;

/// What one round came to.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Operations, or megabytes.
    pub(crate) operations: f64,
    pub(crate) elapsed: Duration,
    /// Processor time of the process in between.
    pub(crate) cpu: Option<Duration>,
    /// Processor time of everybody: this process, the one in between, the database.
    pub(crate) everybody: Option<Duration>,
    /// Nanoseconds of each operation.
    pub(crate) latency: Histogram<u64>,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        self.operations / self.elapsed.as_secs_f64()
    }

    /// Microseconds of processor time of the process in between for each operation.
    pub(crate) fn cpu_each(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.operations.max(1.0))
    }

    /// The same of everybody.
    pub(crate) fn everybody_each(&self) -> Option<f64> {
        self.everybody.map(|cpu| cpu.as_secs_f64() * 1e6 / self.operations.max(1.0))
    }
}

/// A histogram of nanoseconds up to two minutes, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "these bounds are valid")]
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("a histogram of these bounds")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What a client did in a round, and its session, which stays open until everything is counted.
pub(crate) struct Done {
    operations: f64,
    latency: Histogram<u64>,
    session: Option<Box<dyn Session>>,
    /// Processor time of a process of its own before the clock started: its account is seen when it has ended, as a whole.
    before_clock: Duration,
}

impl Default for Done {
    fn default() -> Self {
        Self { operations: 0.0, latency: histogram(), session: None, before_clock: Duration::ZERO }
    }
}

impl Done {
    /// Of a client that is a process of its own, which has taken this much before the clock started.
    pub(crate) fn of_process(before_clock: Duration) -> Self {
        Self { before_clock, ..Self::default() }
    }

    /// What another did in the same round.
    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        self.operations += other.operations;
        self.before_clock += other.before_clock;
        Ok(self.latency.add(&other.latency)?)
    }

    /// Of a round in which one process alone was accounted for.
    pub(crate) fn into_sample(self, elapsed: Duration, cpu: Duration) -> Sample {
        let Self { operations, latency, .. } = self;
        Sample { operations, elapsed, cpu: Some(cpu), everybody: None, latency }
    }

    /// So many operations more, which took this time together.
    pub(crate) fn record(&mut self, operations: f64, time: Duration) {
        self.operations += operations;
        self.latency.saturating_record(nanoseconds(time));
    }
}

/// The kernel's account of one moment.
pub(crate) struct Account {
    between: Option<Duration>,
    everybody: Option<Duration>,
}

impl Account {
    pub(crate) fn of<D>(way: &Way<D>) -> Result<Self> {
        let between = way.process.map(Process::family_cpu).transpose()?;
        let everybody = match way.database {
            Some(database) => {
                let clients = Process::own().cpu_and_ended()?;
                Some(clients + database.family_cpu()? + between.unwrap_or_default())
            }
            None => None,
        };
        Ok(Self { between, everybody })
    }

    /// What came to it since: of the process in between, and of everybody.
    pub(crate) fn since(&self, before: &Self) -> (Option<Duration>, Option<Duration>) {
        let grown = |before: Option<Duration>, after: Option<Duration>| {
            before.zip(after).map(|(before, after)| after.saturating_sub(before))
        };
        (grown(before.between, self.between), grown(before.everybody, self.everybody))
    }
}

/// Runs `client` for each of `inputs` in a thread of its own, between two moments that they all share. When the clock has
/// stopped `settle` waits until everything can be counted.
pub(crate) fn side_by_side<D, T: Send>(
    way: &Way<D>,
    inputs: Vec<T>,
    client: impl Fn(usize, T, &Barrier) -> Result<Done> + Sync,
    settle: impl Fn() -> Result<()>,
) -> Result<Sample> {
    let barrier = Barrier::new(inputs.len() + 1);
    let round: Result<Sample> = thread::scope(|scope| {
        let threads: Vec<_> = inputs
            .into_iter()
            .enumerate()
            .map(|(number, input)| {
                let (barrier, client) = (&barrier, &client);
                scope.spawn(move || client(number, input, barrier))
            })
            .collect();
        barrier.wait();
        let (began, before) = (Instant::now(), Account::of(way)?);
        let mut sessions = Vec::new();
        let mut total = Done::default();
        for thread in threads {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            total.add(&done)?;
            sessions.extend(done.session);
        }
        let elapsed = began.elapsed();
        settle()?;
        let (cpu, everybody) = Account::of(way)?.since(&before);
        let everybody = everybody.map(|everybody| everybody.saturating_sub(total.before_clock));
        sessions.into_iter().for_each(|session| session.close());
        Ok(Sample { operations: total.operations, elapsed, cpu, everybody, latency: total.latency })
    });
    round.with_context(|| format!("the way {}", way.name))
}

/// Opens the connections of a round.
pub(crate) fn connect(way: &Way, clients: usize) -> Result<Vec<Box<dyn Session>>> {
    let connections = (0..clients).map(|_| session::connect(&way.door)).collect::<Result<_>>();
    connections.with_context(|| format!("the way {}", way.name))
}

/// Clients that do `work` again and again; it returns how many operations it was.
pub(crate) fn closed(
    way: &Way,
    clients: usize,
    time: Duration,
    warm_up: bool,
    work: impl Fn(&mut dyn Session, &mut Keys) -> Result<f64> + Sync,
) -> Result<Sample> {
    let client = |number, mut session: Box<dyn Session>, barrier: &Barrier| {
        let mut keys = Keys::new(number);
        let warm = if warm_up { WARM_UP } else { 0 };
        // Whoever fails before the clock starts is waited for all the same.
        let warmed = (0..warm).try_for_each(|_| work(&mut *session, &mut keys).map(drop));
        barrier.wait();
        warmed?;
        let mut done = Done::default();
        let deadline = Instant::now() + time;
        let mut now = Instant::now();
        while now < deadline {
            let operations = work(&mut *session, &mut keys)?;
            let then = Instant::now();
            done.record(operations, then - now);
            now = then;
        }
        done.session = Some(session);
        Ok(done)
    };
    side_by_side(way, connect(way, clients)?, client, || Ok(()))
}

/// Clients that connect, ask one thing and go, again and again.
pub(crate) fn reconnecting(way: &Way, clients: usize, time: Duration) -> Result<Sample> {
    again_and_again(way, clients, time, |keys| visit(&way.door, keys), || Ok(()))
}

/// Clients that pay one visit after another. What a visit leaves is put away when its time has been taken.
pub(crate) fn again_and_again<D, V>(
    way: &Way<D>,
    clients: usize,
    time: Duration,
    visit: impl Fn(&mut Keys) -> Result<V> + Sync,
    settle: impl Fn() -> Result<()>,
) -> Result<Sample>
where
    Way<D>: Sync,
{
    let client = |number, (), barrier: &Barrier| {
        let mut keys = Keys::new(number);
        barrier.wait();
        let mut done = Done::default();
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            let began = Instant::now();
            let visited = visit(&mut keys)?;
            done.record(1.0, began.elapsed());
            drop(visited);
        }
        Ok(done)
    };
    side_by_side(way, vec![(); clients], client, settle)
}

/// Connects, asks one thing and goes.
pub(crate) fn visit(door: &Door, keys: &mut Keys) -> Result<()> {
    let mut session = session::connect(door)?;
    session.query(session::Mode::Simple, keys.next())?;
    session.close();
    Ok(())
}

/// Clients that ask at a fixed rate, all together so many times a second, whether or not they were answered. The time of an
/// answer counts from when the question was due: one that had to wait behind a slow one says so (no coordinated omission).
pub(crate) fn open(
    way: &Way,
    clients: usize,
    time: Duration,
    rate: f64,
    work: impl Fn(&mut dyn Session, &mut Keys) -> Result<f64> + Sync,
) -> Result<Sample> {
    let start = Mutex::new(None);
    let client = |number, mut session: Box<dyn Session>, barrier: &Barrier| {
        let mut keys = Keys::new(number);
        let warmed = (0..WARM_UP).try_for_each(|_| work(&mut *session, &mut keys).map(drop));
        barrier.wait();
        warmed?;
        let start = *start.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        let mut done = Done::default();
        // Every client's turn comes once in `clients` questions.
        let mut turn = number;
        loop {
            let due = Duration::from_secs_f64(turn as f64 / rate);
            if due >= time {
                done.session = Some(session);
                return Ok(done);
            }
            thread::sleep((start + due).saturating_duration_since(Instant::now()));
            let operations = work(&mut *session, &mut keys)?;
            done.record(operations, start.elapsed().saturating_sub(due));
            turn += clients;
        }
    };
    side_by_side(way, connect(way, clients)?, client, || Ok(()))
}
