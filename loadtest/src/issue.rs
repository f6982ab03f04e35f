//! Session certificates alone: people who ask authd for one after another, each with a security key of their own, as several
//! who touched at the same time do.
//!
//! A certificate is the three calls that `tsh` makes for it: is a touch needed, a challenge, the certificate. Its time is what
//! authd took over them, as its caller sees that; what the security key and this program do in between is not in it. The
//! processor time is authd's.

use std::time::{Duration, Instant};

use anyhow::Result;
use auth::proto::Route;
use tokio::task::JoinSet;

use crate::{
    door::Protocol,
    load::{Done, Sample},
    person::Person,
    stage::{Stage, route},
    way,
};

/// Certificates of each person before the clock starts.
const WARM_UP: usize = 5;

/// One round: so many people, who ask as fast as they are answered.
pub(crate) fn round(stage: &mut Stage, protocol: Protocol, people: usize, time: Duration) -> Result<Sample> {
    let route = route(protocol, &format!("{}-{}", way::SIDECAR, protocol.word()));
    stage.gather(people)?;
    let mut crowd: Vec<_> = stage.crowd.drain(..people).collect();
    let outcome = stage.runtime.block_on(async {
        crowd = all(crowd, &route, |mut person, route| async move {
            for _ in 0..WARM_UP {
                person.timed(&route).await?;
            }
            Ok(person)
        })
        .await?;
        let (began, before) = (Instant::now(), stage.authd.cpu()?);
        let done = all(crowd, &route, move |person, route| asking(person, route, began + time)).await?;
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

/// Everybody at the same time, on the thread that also serves their connections: nothing between them and authd but the
/// socket.
async fn all<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    people: Vec<Person>,
    route: &Route,
    work: impl Fn(Person, Route) -> F,
) -> Result<Vec<T>> {
    let mut tasks = JoinSet::new();
    for person in people {
        tasks.spawn(work(person, route.clone()));
    }
    tasks.join_all().await.into_iter().collect()
}
