//! HOT: the threads that relay: one for each processor, each with a runtime of its own.
//!
//! A session stays with the thread that it was given to: whatever it needs is in that processor's caches, and waking it takes
//! no lock that other threads know of. What is lost is that an idle thread could take over a busy one's sessions; a client is
//! given to the thread that has the fewest. What keeps up with authd runs elsewhere, so a large change of policy holds up
//! nobody's statements.

use std::{
    future::Future,
    io,
    net::TcpListener as StdListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::error;

/// All of them, at least one. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers(Arc<[Worker]>);

struct Worker {
    runtime: Handle,
    /// How many clients it has.
    clients: Arc<AtomicUsize>,
}

/// Counts a client for as long as it is there, a panic included.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(clients: &Arc<AtomicUsize>) -> Self {
        clients.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(clients))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts one for each processor that the process may use. They end, and drop what they still have, when the guard is
    /// dropped.
    ///
    /// # Errors
    /// The system gives no thread, or no runtime.
    pub(crate) fn start() -> io::Result<(Self, DropGuard)> {
        Self::of(thread::available_parallelism().map_or(1, usize::from))
    }

    pub(crate) fn of(threads: usize) -> io::Result<(Self, DropGuard)> {
        let stop = CancellationToken::new();
        let mut workers = Vec::with_capacity(threads);
        for number in 0..threads.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.push(Worker { runtime: runtime.handle().clone(), clients: Arc::default() });
            let stop = stop.clone();
            let run = move || runtime.block_on(stop.cancelled());
            thread::Builder::new().name(format!("relay-{number}")).spawn(run)?;
        }
        Ok((Self(workers.into()), stop.drop_guard()))
    }

    /// Runs what awaits clients on the first thread: with one processor, no client changes threads.
    pub(crate) fn listen<F>(
        &self,
        tasks: &TaskTracker,
        listener: StdListener,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let listen = async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => serve(listener).await,
                Err(error) => error!(%error, "a listener cannot be used"),
            }
        };
        if let Some(first) = self.0.first() {
            tasks.spawn_on(listen, &first.runtime);
        }
    }

    /// Gives a client, which the first thread has accepted, to the thread that has the fewest.
    ///
    /// # Errors
    /// The socket cannot be taken from one runtime to the other.
    pub(crate) fn give<F>(
        &self,
        tasks: &TaskTracker,
        socket: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let workers = self.0.iter().enumerate();
        let fewest = workers.min_by_key(|(_, worker)| worker.clients.load(Ordering::Relaxed));
        let Some((number, worker)) = fewest else { return Ok(()) };
        let counted = Counted::new(&worker.clients);
        // It is the first thread's already.
        let socket = if number == 0 { Ok(socket) } else { Err(socket.into_std()?) };
        let serve = async move {
            let _counted = counted;
            match socket.or_else(TcpStream::from_std) {
                Ok(socket) => serve(socket).await,
                Err(error) => error!(%error, "a client's connection cannot be used"),
            }
        };
        tasks.spawn_on(serve, &worker.runtime);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use tokio::{io::AsyncReadExt as _, sync::mpsc, time::timeout};

    use super::*;

    /// Accepts clients, and says by which thread each is served.
    async fn accept(workers: &Workers, clients: usize) -> Vec<(String, TcpStream)> {
        let tasks = TaskTracker::new();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (served, mut by) = mpsc::unbounded_channel();
        let (giving, tracker) = (workers.clone(), tasks.clone());
        workers.listen(&tasks, listener, move |listener| async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let served = served.clone();
                let serve = |mut socket: TcpStream| async move {
                    let thread = thread::current().name().unwrap_or_default().to_owned();
                    served.send(thread).unwrap();
                    // Until the client is gone, as a session would be.
                    let _ = socket.read(&mut [0]).await;
                };
                giving.give(&tracker, socket, serve).unwrap();
            }
        });
        let mut found = Vec::new();
        for _ in 0..clients {
            let client = TcpStream::connect(address).await.unwrap();
            let thread = timeout(Duration::from_secs(20), by.recv()).await.unwrap().unwrap();
            found.push((thread, client));
        }
        found
    }

    #[tokio::test]
    async fn clients_are_spread_evenly_and_each_is_served_where_it_was_given() {
        let (workers, _guard) = Workers::of(3).unwrap();
        let clients = accept(&workers, 9).await;
        let mut spread = BTreeMap::new();
        for (thread, _) in &clients {
            *spread.entry(thread.as_str()).or_insert(0) += 1;
        }
        assert_eq!(spread, BTreeMap::from([("relay-0", 3), ("relay-1", 3), ("relay-2", 3)]));
    }

    #[tokio::test]
    async fn who_has_gone_counts_no_more() {
        let (workers, _guard) = Workers::of(2).unwrap();
        let mut clients = accept(&workers, 4).await;
        // Both of the second thread leave.
        clients.retain(|(thread, _)| thread == "relay-0");
        let second = Arc::clone(&workers.0[1].clients);
        timeout(Duration::from_secs(20), async {
            while second.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let more = accept(&workers, 2).await;
        assert!(more.iter().all(|(thread, _)| thread == "relay-1"));
    }

    #[test]
    fn what_is_still_there_when_they_end_is_dropped() {
        let (workers, guard) = Workers::of(1).unwrap();
        let tasks = TaskTracker::new();
        let (alive, dropped) = std::sync::mpsc::channel::<()>();
        tasks.spawn_on(
            async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            },
            &workers.0[0].runtime,
        );
        drop(guard);
        let gone = dropped.recv_timeout(Duration::from_secs(20));
        assert_eq!(gone, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    }
}
