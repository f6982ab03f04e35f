//! The calls of one connection: each a task of its own, which runs to its end whatever becomes of its caller.
//!
//! An attempt is counted first and recorded after it was judged. A caller that could stop its call in between, by a reset, by
//! hanging up, by sending nothing until its time is over, would have guesses that no audit trail tells of; and one that could
//! stop it while it waits for its turn would have what was counted before for free. So nobody waits for a call but those who want its
//! answer, and a connection is over when its calls are.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
};
use http::{Request, Response, StatusCode};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinError,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tonic::Status;
use tower::ServiceExt;

/// Until the answer to a request begins. The slowest hashes a password, in a queue.
const RESPONSE: Duration = Duration::from_secs(30);

/// What runs for one connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Calls {
    router: Router,
    /// One for each call under way, those included that nobody waits for any more: HTTP/2's own count forgets them.
    places: Arc<Semaphore>,
    running: TaskTracker,
}

impl Calls {
    /// None yet, and at most so many at a time; more wait.
    pub(super) fn new(router: Router, at_most: usize) -> Self {
        Self { router, places: Arc::new(Semaphore::new(at_most)), running: TaskTracker::new() }
    }

    /// Makes a call. The body of its answer may take its time (Watch), its head may not.
    ///
    /// # Cancel safety
    /// Once begun, the call goes on without whoever waited here, and what it answers is thrown away.
    pub(super) fn answer(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let Self { router, places, running } = self.clone();
        // Now, not when it is first polled. The race: the connection ends before that, and all its calls seem to be over.
        let present = running.token();
        async move {
            let (too_late, over) = oneshot::channel();
            let request = request.map(|body| Body::new(InTime { body, over: Some(over) }));
            let called = async {
                let place = places.acquire_owned().await;
                let call = async move {
                    let _present = (place, present);
                    router.oneshot(request).await
                };
                tokio::spawn(call).await
            };
            match timeout(RESPONSE, called).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => Ok(broken(&error)),
                Err(_) => {
                    let _ = too_late.send(());
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
                    Ok(response)
                }
            }
        }
    }

    /// When all calls are over. There is nobody left to make more.
    pub(super) async fn finished(self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// The answer of a call that has none: it panicked. As gRPC and as HTTP it says the same.
fn broken(error: &JoinError) -> Response<Body> {
    tracing::error!(%error, "a call broke off");
    let mut response = Status::internal("internal error").into_http();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// A request's body as long as there is time for it: a caller that sends it byte by byte holds its call no longer than one that
/// waits for the answer.
struct InTime {
    body: Body,
    /// `None`: the answer has begun, and there is all the time in the world.
    over: Option<oneshot::Receiver<()>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the request took too long")]
struct TooLate;

impl HttpBody for InTime {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.over.as_mut().map(|over| Pin::new(over).poll(context)) {
            Some(Poll::Ready(Ok(()))) => return Poll::Ready(Some(Err(axum::Error::new(TooLate)))),
            Some(Poll::Ready(Err(_))) => self.over = None,
            Some(Poll::Pending) | None => {}
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
