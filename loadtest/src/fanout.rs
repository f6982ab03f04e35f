//! The watch fan-out, simulated: so many sidecars hang on one authd, roles change, and everybody is to hear of it.
//!
//! The watchers are real streams on real mutual TLS connections; a connection carries several of them, since authd lets one
//! address have 512 connections and this machine is one address. What a stream costs authd is therefore measured, and what a
//! connection costs it is measured apart, by the first stream of each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use auth::proto::{WatchEvent, WatchRequest, watch_event::Event};
use serde::Serialize;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tonic::Streaming;

use crate::{
    spread::Spread,
    stage::{Cast, Stage},
};

/// Longest that everybody may take to hear of something.
const PATIENCE: Duration = Duration::from_secs(60);
/// The role that is changed again and again.
const ROLE: &str = "fan-out";

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fanout {
    watchers: usize,
    connections: usize,
    changes: usize,
    /// Until all have their snapshot.
    snapshots_seconds: f64,
    /// Processor time of authd for each snapshot, connections included.
    snapshot_cpu_us: f64,
    /// Resident memory of authd for each watcher, connections included.
    kib_each: f64,
    /// From before `tctl create` starts until the first and the last watcher has heard of it.
    first_heard_ms: Spread,
    last_heard_ms: Spread,
    /// Processor time of authd for each watcher that hears of a change.
    change_cpu_us: f64,
    /// Processor time of authd for each watcher and second in which nothing happens, heartbeats included.
    rest_cpu_us_per_second: f64,
}

/// What a watcher heard, and when.
struct Heard {
    event: Event,
    at: Instant,
}

/// Runs the simulation and prints what came of it.
pub(crate) fn run(watchers: usize, connections: usize, changes: usize) -> Result<()> {
    ensure!(watchers >= 1 && changes >= 1, "at least one watcher and one change");
    ensure!((1..=watchers).contains(&connections), "no more connections than watchers");
    ensure!(
        watchers.div_ceil(connections) <= 60,
        "at most 60 watchers share a connection: authd allows 64 streams"
    );
    let cast = Cast {
        postgres: false,
        mysql: false,
        ssh: false,
        null: false,
        one_core: false,
        peers: false,
        others: Vec::new(),
    };
    let stage = Stage::set(&cast)?;
    let (base, before) = (stage.authd.memory()?, stage.authd.cpu()?);
    let began = Instant::now();
    let mut heard = stage.runtime.block_on(watch(&stage, watchers, connections))?;
    stage
        .runtime
        .block_on(everybody(&mut heard, watchers, |event| matches!(event, Event::SnapshotEnd(_))))?;
    let snapshots = began.elapsed();
    let (grown, after) = (stage.authd.memory()?, stage.authd.cpu()?);
    #[expect(clippy::cast_precision_loss, reason = "KiB of a process")]
    let kib_each = grown.rss.saturating_sub(base.rss) as f64 / watchers as f64;

    let rest = Duration::from_secs(10);
    let resting = stage.authd.cpu()?;
    stage.runtime.block_on(async { tokio::time::sleep(rest).await });
    let rested = stage.authd.cpu()? - resting;

    let (mut first_heard, mut last_heard, mut change_cpu) = (Vec::new(), Vec::new(), 0.0);
    for number in 0..changes {
        while heard.try_recv().is_ok() {}
        let before = stage.authd.cpu()?;
        let asked = Instant::now();
        stage.tctl.create(&role(number))?;
        let changed = |event: &Event| matches!(event, Event::Put(_));
        let times = stage.runtime.block_on(everybody(&mut heard, watchers, changed))?;
        let since = |at: Option<&Instant>| at.map(|at| at.duration_since(asked).as_secs_f64() * 1e3);
        first_heard.extend(since(times.first()));
        last_heard.extend(since(times.last()));
        change_cpu += (stage.authd.cpu()? - before).as_secs_f64();
    }

    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / watchers as f64;
    let fanout = Fanout {
        watchers,
        connections,
        changes,
        snapshots_seconds: snapshots.as_secs_f64(),
        snapshot_cpu_us: each(after - before),
        kib_each,
        first_heard_ms: Spread::of(&first_heard).context("no change")?,
        last_heard_ms: Spread::of(&last_heard).context("no change")?,
        change_cpu_us: change_cpu * 1e6 / (watchers * changes) as f64,
        rest_cpu_us_per_second: each(rested) / rest.as_secs_f64(),
    };
    println!("{}", serde_json::to_string_pretty(&fanout)?);
    Ok(())
}

/// Opens the streams; what they hear comes out of the receiver.
async fn watch(stage: &Stage, watchers: usize, connections: usize) -> Result<UnboundedReceiver<Heard>> {
    let (sender, receiver) = unbounded_channel();
    let each = watchers.div_ceil(connections);
    let mut left = watchers;
    while left > 0 {
        let mut client = stage.guard.another().await?;
        for _ in 0..each.min(left) {
            let stream = client.watch(WatchRequest {}).await.context("watch")?.into_inner();
            tokio::spawn(listen(stream, sender.clone()));
        }
        left -= each.min(left);
    }
    Ok(receiver)
}

async fn listen(mut stream: Streaming<WatchEvent>, heard: UnboundedSender<Heard>) {
    while let Ok(Some(WatchEvent { event: Some(event) })) = stream.message().await {
        if heard.send(Heard { event, at: Instant::now() }).is_err() {
            return;
        }
    }
}

/// Waits until as many watchers have heard of what is `awaited`; when each did, in order.
async fn everybody(
    heard: &mut UnboundedReceiver<Heard>,
    watchers: usize,
    awaited: impl Fn(&Event) -> bool,
) -> Result<Vec<Instant>> {
    let all = async {
        let mut times = Vec::with_capacity(watchers);
        while times.len() < watchers {
            let Heard { event, at } = heard.recv().await.context("all watchers are gone")?;
            if awaited(&event) {
                times.push(at);
            }
        }
        Ok(times)
    };
    timeout(PATIENCE, all).await.context("not everybody heard of it in time")?
}

fn role(number: usize) -> String {
    format!(
        "kind: role\nversion: v6\nmetadata:\n  name: {ROLE}\nspec:\n  allow:\n    db_labels: {{env: load}}\n    \
         db_users: [user-{number}]\n    db_names: [app]\n"
    )
}
