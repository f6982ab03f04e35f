//! HOT: the queue to the writer thread, which is not woken for each event.
//!
//! A thread that is woken for each event costs a busy session a system call and a change of threads, and the writer a write,
//! twice for each query: more than the query itself. So the writer gathers. The first event after a silence is taken at once;
//! those that follow it, all together, [`GATHER`] later, and so on while there are any: a busy sender never wakes the writer,
//! and sending is a lock that is hardly ever contended. Whoever waits for the disk rings at once.
//!
//! The queue is bounded by its senders' shares of room, which are given back when an event is written.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

/// So long an event that nobody waits for may stay in memory, on a busy sidecar. A process that is killed loses no more than
/// that of what sessions did; what begins and ends them is on disk before anything goes on.
pub(super) const GATHER: Duration = Duration::from_millis(10);
/// With so many events there is nothing to wait for.
const PLENTY: usize = 1024;

/// What is sent.
pub(super) trait Urgent {
    /// Does somebody wait for it to be done?
    fn is_urgent(&self) -> bool;
}

/// The writer is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// The sessions' end. The writer hears when the last of them is gone.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<SendersEnd<T>>);

/// The writer's end.
#[derive(Debug)]
pub(super) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    batch: VecDeque<T>,
    /// Before this, only what is urgent is taken.
    ripe: Instant,
}

#[derive(Debug)]
struct SendersEnd<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    urgent: bool,
    sleep: Sleep,
    senders_gone: bool,
    receiver_gone: bool,
}

/// What the writer sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Awake,
    /// The next event.
    Anything,
    /// Time, or something urgent.
    Urgent,
}

pub(super) fn queue<T: Urgent>() -> (Sender<T>, Receiver<T>) {
    let state = State {
        waiting: VecDeque::new(),
        urgent: false,
        sleep: Sleep::Awake,
        senders_gone: false,
        receiver_gone: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), bell: Condvar::new() });
    let sender = Sender(Arc::new(SendersEnd(Arc::clone(&shared))));
    (sender, Receiver { shared, batch: VecDeque::new(), ripe: Instant::now() })
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Urgent> Sender<T> {
    /// Queues it, and rings where the writer must know at once.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(super) fn send(&self, item: T) -> Result<(), Stopped> {
        let shared = &self.0.0;
        let mut state = shared.lock();
        if state.receiver_gone {
            return Err(Stopped);
        }
        state.urgent |= item.is_urgent() || state.waiting.len() >= PLENTY;
        state.waiting.push_back(item);
        let rings = match state.sleep {
            Sleep::Awake => false,
            Sleep::Anything => true,
            Sleep::Urgent => state.urgent,
        };
        if rings {
            state.sleep = Sleep::Awake;
        }
        drop(state);
        if rings {
            shared.bell.notify_one();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for SendersEnd<T> {
    fn drop(&mut self) {
        self.0.lock().senders_gone = true;
        self.0.bell.notify_one();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receiver_gone = true;
        // Whoever waits for one of them to be done hears that it will not be.
        let lost = std::mem::take(&mut state.waiting);
        drop(state);
        drop(lost);
    }
}

impl<T: Urgent> Receiver<T> {
    /// The next item of what was gathered; without one, what comes `within` the time.
    ///
    /// # Errors
    /// Nothing came in time, or nothing can come any more.
    pub(super) fn next_within(&mut self, within: Option<Duration>) -> Result<T, RecvTimeoutError> {
        if let Some(item) = self.batch.pop_front() {
            return Ok(item);
        }
        let deadline = within.map(|within| Instant::now() + within);
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            let ripe = state.urgent || state.senders_gone || now >= self.ripe;
            if ripe && !state.waiting.is_empty() {
                break;
            }
            if state.senders_gone {
                return Err(RecvTimeoutError::Disconnected);
            }
            let until =
                if ripe { deadline } else { Some(deadline.map_or(self.ripe, |end| end.min(self.ripe))) };
            let left = until.map(|until| until.saturating_duration_since(now));
            if left == Some(Duration::ZERO) {
                return Err(RecvTimeoutError::Timeout);
            }
            state.sleep = if ripe { Sleep::Anything } else { Sleep::Urgent };
            state = self.sleep(state, left);
        }
        state.urgent = false;
        std::mem::swap(&mut state.waiting, &mut self.batch);
        drop(state);
        self.ripe = Instant::now() + GATHER;
        self.batch.pop_front().ok_or(RecvTimeoutError::Timeout)
    }

    /// The next item of what was gathered.
    pub(super) fn next_gathered(&mut self) -> Option<T> {
        self.batch.pop_front()
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State<T>>, left: Option<Duration>) -> MutexGuard<'a, State<T>> {
        let bell = &self.shared.bell;
        let mut state = match left {
            Some(left) => bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            None => bell.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.sleep = Sleep::Awake;
        state
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Event(u32, bool);

    impl Urgent for Event {
        fn is_urgent(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn everything_comes_out_in_order_and_the_end_is_told() {
        let (sender, mut receiver) = queue();
        for n in 0..3 {
            sender.send(Event(n, false)).unwrap();
        }
        drop(sender.clone());
        assert_eq!(receiver.next_within(None), Ok(Event(0, false)));
        assert_eq!(receiver.next_gathered(), Some(Event(1, false)));
        sender.send(Event(3, true)).unwrap();
        drop(sender);
        assert_eq!(receiver.next_gathered(), Some(Event(2, false)));
        assert_eq!(receiver.next_gathered(), None, "what came later is gathered later");
        assert_eq!(receiver.next_within(None), Ok(Event(3, true)));
        assert_eq!(receiver.next_within(None), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn an_urgent_event_wakes_a_writer_that_waits_for_anything_and_one_that_gathers() {
        let (sender, mut receiver) = queue();
        let writer = thread::spawn(move || {
            let first = receiver.next_within(None).unwrap();
            let rest: Vec<_> = std::iter::from_fn(|| receiver.next_gathered()).collect();
            (first, rest, receiver)
        });
        sender.send(Event(0, false)).unwrap();
        sender.send(Event(1, true)).unwrap();
        let (first, rest, mut receiver) = writer.join().unwrap();
        assert_eq!(first, Event(0, false));
        if rest.is_empty() {
            // The writer was quicker than the second event.
            assert_eq!(receiver.next_within(None), Ok(Event(1, true)));
        }
    }

    #[test]
    fn nothing_in_time_is_told_apart_from_nothing_ever() {
        let (sender, mut receiver) = queue::<Event>();
        assert_eq!(receiver.next_within(Some(Duration::ZERO)), Err(RecvTimeoutError::Timeout));
        drop(sender);
        assert_eq!(receiver.next_within(Some(Duration::ZERO)), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn who_sends_to_a_writer_that_is_gone_is_told_and_what_was_queued_is_dropped() {
        struct Waited(#[expect(dead_code, reason = "dropped")] std::sync::mpsc::Sender<()>);
        impl Urgent for Waited {
            fn is_urgent(&self) -> bool {
                true
            }
        }
        let (sender, receiver) = queue();
        let (done, waits) = std::sync::mpsc::channel();
        sender.send(Waited(done.clone())).unwrap();
        drop(receiver);
        assert_eq!(sender.send(Waited(done)), Err(Stopped));
        assert!(waits.recv().is_err(), "nobody will ever answer");
    }
}
