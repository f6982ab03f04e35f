use std::thread::{self, JoinHandle};

use super::*;

/// So long a test does not wait: what ends sooner has another reason.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A writer of a queue of numbers, who tells what it took for one sync.
struct Scene {
    under_way: UnderWay,
    queue: mpsc::Sender<(u32, Waiting)>,
    taken: Option<mpsc::Receiver<(u32, Waiting)>>,
}

impl Scene {
    fn new(at_most: Duration) -> Self {
        let (queue, taken) = mpsc::channel(2 * GROUP);
        Self { under_way: UnderWay::waiting_at_most(at_most), queue, taken: Some(taken) }
    }

    fn send(&self, number: u32) {
        let place = self.queue.try_reserve().unwrap();
        self.under_way.waits(|waiting| place.send((number, waiting)));
    }

    /// Takes once, by a thread of its own, and answers whom it took.
    fn writer(&mut self) -> JoinHandle<Vec<u32>> {
        let (under_way, mut queue) = (self.under_way.clone(), self.taken.take().unwrap());
        thread::spawn(move || under_way.take(&mut queue).into_iter().map(|(number, _)| number).collect())
    }

    /// Returns when the writer sleeps.
    fn asleep(&self) {
        while self.under_way.lock().sleeping == 0 {
            thread::yield_now();
        }
    }
}

#[test]
fn only_who_is_announced_and_waits_for_no_writer_is_waited_for() {
    let coming = |calls, waiting| State { calls, waiting, sleeping: 0 }.is_anybody_coming();
    assert!(!coming(0, 0) && !coming(0, 1), "nobody is announced");
    assert!(!coming(1, 1), "one alone");
    assert!(coming(2, 1) && !coming(2, 2));
    assert!(!coming(2, 3), "others wait too");
    assert!(coming(GROUP + 1, GROUP - 1) && !coming(GROUP + 1, GROUP), "enough for one sync");
}

#[tokio::test]
async fn one_alone_is_not_held_up() {
    let mut scene = Scene::new(NEVER);
    let _call = scene.under_way.begin().await;
    scene.send(1);
    assert_eq!(scene.under_way.gather(), Gathered::AtOnce);
    assert_eq!(scene.writer().join().unwrap(), [1]);
}

#[tokio::test]
async fn those_under_way_together_are_taken_together_as_soon_as_all_have_come() {
    let mut scene = Scene::new(NEVER);
    let calls = [scene.under_way.begin().await, scene.under_way.begin().await, scene.under_way.begin().await];
    let writer = scene.writer();
    scene.send(1);
    scene.asleep();
    scene.send(2);
    assert!(!writer.is_finished(), "one is on its way");
    scene.send(3);
    assert_eq!(writer.join().unwrap(), [1, 2, 3]);
    drop(calls);
}

#[tokio::test]
async fn a_writer_that_comes_while_the_last_one_enters_takes_it_too() {
    for _ in 0..200 {
        let mut scene = Scene::new(NEVER);
        let _calls = (scene.under_way.begin().await, scene.under_way.begin().await);
        scene.send(1);
        // At any moment of what follows.
        let writer = scene.writer();
        scene.send(2);
        assert_eq!(writer.join().unwrap(), [1, 2]);
    }
}

#[tokio::test]
async fn a_wait_ends_when_the_others_have_left() {
    let mut scene = Scene::new(NEVER);
    let (_call, other) = (scene.under_way.begin().await, scene.under_way.begin().await);
    let writer = scene.writer();
    scene.send(1);
    scene.asleep();
    drop(other);
    assert_eq!(writer.join().unwrap(), [1]);
}

#[tokio::test]
async fn a_wait_ends_when_the_others_wait_for_another_writer() {
    let mut scene = Scene::new(NEVER);
    let _calls = (scene.under_way.begin().await, scene.under_way.begin().await);
    let writer = scene.writer();
    scene.send(1);
    scene.asleep();
    let _elsewhere = scene.under_way.waits(|waiting| waiting);
    assert_eq!(writer.join().unwrap(), [1]);
}

#[tokio::test]
async fn a_wait_ends_by_its_bound() {
    let mut scene = Scene::new(Duration::from_millis(1));
    let _calls = (scene.under_way.begin().await, scene.under_way.begin().await);
    scene.send(1);
    assert_eq!(scene.under_way.gather(), Gathered::InTime);
    assert_eq!(scene.writer().join().unwrap(), [1]);
}

#[tokio::test]
async fn a_queue_that_is_closed_is_not_waited_for() {
    let mut scene = Scene::new(NEVER);
    let _calls = (scene.under_way.begin().await, scene.under_way.begin().await);
    scene.send(1);
    scene.taken.as_mut().unwrap().close();
    assert_eq!(scene.writer().join().unwrap(), [1]);
}

#[tokio::test]
async fn more_than_share_one_sync_are_not_taken() {
    let mut scene = Scene::new(NEVER);
    let _call = scene.under_way.begin().await;
    (0..=GROUP as u32).for_each(|number| scene.send(number));
    assert_eq!(scene.writer().join().unwrap().len(), GROUP);
}

#[tokio::test]
async fn whoever_has_arrived_is_announced_before_the_first_goes_on() {
    let under_way = UnderWay::default();
    let begin = || {
        let under_way = under_way.clone();
        tokio::spawn(async move {
            let call = under_way.begin().await;
            (under_way.lock().calls, call)
        })
    };
    let (one, two) = (begin(), begin());
    let ((found, _one), (_, _two)) = (one.await.unwrap(), two.await.unwrap());
    assert_eq!(found, 2);
}
