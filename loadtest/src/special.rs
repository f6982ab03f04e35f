//! Scenarios that are no rounds of load: silent connections, counted system calls, sessions from their very beginning.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{
    accounting::Process,
    load::{self, Sample, histogram},
    report::{Idle, Syscalls},
    session::{self, Keys, Mode, Session},
    stage::Stage,
    trace::Threads,
    way::{self, Way},
};

/// Queries that are counted, of all clients together.
const COUNTED: u32 = 4_000;

/// Opens `connections` silent ones on a way, and looks at the process in between.
pub(crate) fn idle(way: &Way, connections: usize) -> Result<Idle> {
    let process = way.process.context("nothing stands in between")?;
    let base = process.memory()?;
    let mut sessions = load::connect(way, connections)?;
    let each = |sessions: &mut Vec<Box<dyn Session>>, work: fn(&mut dyn Session) -> Result<()>| {
        sessions.iter_mut().try_for_each(|session| {
            work(&mut **session)?;
            session.rest();
            anyhow::Ok(())
        })
    };
    #[expect(clippy::cast_precision_loss, reason = "KiB of a process")]
    let per_connection = |now: u64, before: u64| (now as f64 - before as f64) / connections as f64;
    each(&mut sessions, |session| session.query(Mode::Simple, 1))?;
    let quiet = process.memory()?;
    each(&mut sessions, |session| session.blob())?;
    let after_result = process.memory()?;
    sessions.into_iter().for_each(|session| session.close());
    settle(process)?;
    Ok(Idle {
        protocol: way.door.protocol,
        way: way.name.to_owned(),
        connections,
        base_kib: base.rss,
        kib: per_connection(quiet.rss, base.rss),
        kib_after_result: per_connection(after_result.rss, base.rss),
        pss_kib: per_connection(quiet.pss, base.pss),
        after_close_kib: process.memory()?.rss,
    })
}

/// Waits until a process rests.
fn settle(process: Process) -> Result<()> {
    e2e::poll("the process to rest", Duration::from_secs(20), || {
        let before = process.cpu()?;
        std::thread::sleep(Duration::from_millis(100));
        Ok((process.cpu()? - before < Duration::from_millis(2)).then_some(()))
    })
}

/// Counts the system calls of simple queries; `None` where nothing can.
pub(crate) fn syscalls(way: &Way, clients: usize) -> Result<Option<Syscalls>> {
    let Some(all) = counted(way, clients, Threads::All)? else { return Ok(None) };
    let per_query = |counted: &Counted| {
        counted.by_name.iter().map(|(_, calls)| calls).sum::<u64>() as f64 / counted.queries as f64
    };
    let of_relay = match way.name {
        way::SIDECAR | way::SIDECAR_UNIX => counted(way, clients, Threads::Relay)?,
        _ => None,
    };
    Ok(Some(Syscalls {
        protocol: way.door.protocol,
        way: way.name.to_owned(),
        clients,
        queries: all.queries,
        per_query: per_query(&all),
        per_query_relay: per_query(of_relay.as_ref().unwrap_or(&all)),
        counted_by: all.tool.to_owned(),
        by_name: all.by_name,
    }))
}

struct Counted {
    queries: u64,
    by_name: Vec<(String, u64)>,
    tool: &'static str,
}

fn counted(way: &Way, clients: usize, threads: Threads) -> Result<Option<Counted>> {
    let process = way.process.context("nothing stands in between")?;
    let directory = tempfile::tempdir()?;
    let mut sessions = load::connect(way, clients)?;
    for session in &mut sessions {
        session.query(Mode::Simple, 1)?;
    }
    let Some(trace) = process.trace(threads, directory.path())? else { return Ok(None) };
    let tool = trace.tool();
    let each = COUNTED / u32::try_from(clients)?;
    let asking = |(number, mut session): (usize, Box<dyn Session>)| -> Result<Box<dyn Session>> {
        let mut keys = Keys::new(number);
        (0..each).try_for_each(|_| session.query(Mode::Simple, keys.next()))?;
        Ok(session)
    };
    let sessions: Result<Vec<_>> = std::thread::scope(|scope| {
        let clients = sessions.into_iter().enumerate();
        let threads: Vec<_> = clients.map(|client| scope.spawn(move || asking(client))).collect();
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?);
        ended.collect()
    });
    let by_name = trace.finish()?;
    sessions?.into_iter().for_each(|session| session.close());
    Ok(Some(Counted { queries: u64::from(each) * clients as u64, by_name, tool }))
}

/// Sessions from their beginning, one after another: challenge, touch, certificate, connection, one query. On the way
/// without a sidecar, the connection and the query alone.
pub(crate) fn cold(stage: &mut Stage, way: &Way, time: Duration) -> Result<Sample> {
    let touched = [way::SIDECAR, way::SIDECAR_UNIX].contains(&way.name);
    one_by_one(way.process, time, |keys| {
        let door = if touched { stage.touch_again(way)? } else { way.door.clone() };
        load::visit(&door, keys)
    })
}

fn one_by_one(
    process: Option<Process>,
    time: Duration,
    mut work: impl FnMut(&mut Keys) -> Result<()>,
) -> Result<Sample> {
    let mut keys = Keys::new(0);
    work(&mut keys)?;
    let cpu = || process.map(Process::cpu).transpose();
    let (mut operations, mut latency) = (0.0, histogram());
    let (began, before) = (Instant::now(), cpu()?);
    while began.elapsed() < time {
        let then = Instant::now();
        work(&mut keys)?;
        operations += 1.0;
        latency.saturating_record(u64::try_from(then.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let (elapsed, after) = (began.elapsed(), cpu()?);
    Ok(Sample {
        operations,
        elapsed,
        cpu: before.zip(after).map(|(before, after)| after.saturating_sub(before)),
        everybody: None,
        latency,
    })
}

/// For whoever wants a session and nothing of a scenario.
pub(crate) fn knock(way: &Way) -> Result<()> {
    let mut session = session::connect(&way.door).with_context(|| format!("the way {}", way.name))?;
    session.query(Mode::Simple, 1)?;
    session.close();
    Ok(())
}
