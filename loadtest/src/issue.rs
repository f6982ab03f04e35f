//! Session certificates alone: people who ask authd for one after another, each with a security key of their own, as several
//! who touched at the same time do.
//!
//! A certificate is the two calls that `tsh` makes for it: a challenge, where a touch is needed, and the certificate. Its time is
//! what authd took over them, as its caller sees that; what the security key and this program do in between is not in it. The
//! processor time is authd's.
//!
//! Either they ask as fast as they are answered, which says how many certificates authd can make; or so many times a second,
//! answered or not, which says how long one takes when so many are asked for.

use std::time::{Duration, Instant};

use anyhow::Result;
use auth::proto::Route;
use tokio::{task::JoinSet, time::sleep_until};

use crate::{
    door::Protocol,
    load::{Done, Sample},
    person::Person,
    stage::{Stage, route},
    way,
};

/// Certificates of each person before the clock starts.
const WARM_UP: usize = 5;

/// How people ask.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// Each as fast as they are answered.
    Answered,
    /// All together so many times a second.
    Rate(f64),
}

/// One round: so many people, who ask.
pub(crate) fn round(
    stage: &mut Stage,
    protocol: Protocol,
    people: usize,
    pace: Pace,
    time: Duration,
) -> Result<Sample> {
    let route = route(protocol, &format!("{}-{}", way::SIDECAR, protocol.word()));
    stage.gather(people)?;
    let mut crowd: Vec<_> = stage.crowd.drain(..people).collect();
    let outcome = stage.runtime.block_on(async {
        crowd = all(crowd, &route, |_, mut person, route| async move {
            for _ in 0..WARM_UP {
                person.timed(&route).await?;
            }
            Ok(person)
        })
        .await?;
        let (began, before) = (Instant::now(), stage.authd.cpu()?);
        let done = all(crowd, &route, move |number, person, route| async move {
            match pace {
                Pace::Answered => asking(person, route, began + time).await,
                Pace::Rate(rate) => {
                    let turns = Turns { first: number, step: people, rate };
                    taking_turns(person, route, began, turns, time).await
                }
            }
        })
        .await?;
        let (elapsed, cpu) = (began.elapsed(), stage.authd.cpu()?.saturating_sub(before));
        anyhow::Ok((done, elapsed, cpu))
    });
    let (done, elapsed, cpu) = outcome?;
    let mut total = Done::default();
    for (person, done) in done {
        stage.crowd.push(person);
        total.add(&done)?;
    }
    Ok(total.into_sample(elapsed, cpu))
}

async fn asking(mut person: Person, route: Route, deadline: Instant) -> Result<(Person, Done)> {
    let mut done = Done::default();
    while Instant::now() < deadline {
        done.record(1.0, person.timed(&route).await?);
    }
    Ok((person, done))
}

/// Whose turn comes when: turn `first`, and every `step` after it, at `rate` turns a second.
struct Turns {
    first: usize,
    step: usize,
    rate: f64,
}

/// A certificate's time counts from when it was due: one that had to wait behind a slow one, or for the key that it needs again,
/// says so (no coordinated omission). What the key takes for itself is not in it, here as there; the timer, which counts
/// whole milliseconds, is.
async fn taking_turns(
    mut person: Person,
    route: Route,
    began: Instant,
    turns: Turns,
    time: Duration,
) -> Result<(Person, Done)> {
    let mut done = Done::default();
    for turn in (turns.first..).step_by(turns.step) {
        let due = Duration::from_secs_f64(turn as f64 / turns.rate);
        if due >= time {
            break;
        }
        sleep_until((began + due).into()).await;
        let late = began.elapsed().saturating_sub(due);
        done.record(1.0, late + person.timed(&route).await?);
    }
    Ok((person, done))
}

/// Everybody at the same time, on the thread that also serves their connections: nothing between them and authd but the
/// socket.
async fn all<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    people: Vec<Person>,
    route: &Route,
    work: impl Fn(usize, Person, Route) -> F,
) -> Result<Vec<T>> {
    let mut tasks = JoinSet::new();
    for (number, person) in people.into_iter().enumerate() {
        tasks.spawn(work(number, person, route.clone()));
    }
    tasks.join_all().await.into_iter().collect()
}
