use axum::routing::post;
use http_body_util::BodyExt;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::*;

fn request(path: &str, body: Body) -> Request<Body> {
    Request::post(path).body(body).unwrap()
}

/// A service whose calls tell when they begin, wait until they may go on, and tell when they are done.
struct Slow {
    router: Router,
    begun: mpsc::UnboundedReceiver<()>,
    go_on: Arc<Notify>,
    done: mpsc::UnboundedReceiver<()>,
}

impl Slow {
    fn new() -> Self {
        let (begin, begun) = mpsc::unbounded_channel();
        let (end, done) = mpsc::unbounded_channel();
        let go_on = Arc::new(Notify::new());
        let may = Arc::clone(&go_on);
        let call = move || {
            let (begin, end, may) = (begin.clone(), end.clone(), Arc::clone(&may));
            async move {
                begin.send(()).unwrap();
                may.notified().await;
                let _ = end.send(());
            }
        };
        Self { router: Router::new().route("/", post(call)), begun, go_on, done }
    }
}

#[tokio::test]
async fn a_call_whose_caller_is_gone_runs_to_its_end_and_its_connection_with_it() {
    let mut slow = Slow::new();
    let calls = Calls::new(slow.router.clone(), 1);
    tokio::select! {
        _ = calls.answer(request("/", Body::empty())) => panic!("it still waits"),
        _ = slow.begun.recv() => {}
    }
    let mut finished = Box::pin(calls.finished());
    assert!(futures_util::poll!(&mut finished).is_pending());
    slow.go_on.notify_one();
    finished.await;
    slow.done.try_recv().unwrap();
}

#[tokio::test]
async fn a_call_is_there_before_it_is_first_polled() {
    let calls = Calls::new(Slow::new().router, 1);
    let unpolled = calls.answer(request("/", Body::empty()));
    let mut finished = Box::pin(calls.finished());
    assert!(futures_util::poll!(&mut finished).is_pending());
    drop(unpolled);
    finished.await;
}

#[tokio::test]
async fn calls_that_nobody_waits_for_count_with_the_others() {
    let mut slow = Slow::new();
    let calls = Calls::new(slow.router.clone(), 2);
    for _ in 0..2 {
        tokio::select! {
            _ = calls.answer(request("/", Body::empty())) => panic!("it still waits"),
            _ = slow.begun.recv() => {}
        }
    }
    let mut third = Box::pin(calls.answer(request("/", Body::empty())));
    assert!(futures_util::poll!(&mut third).is_pending());
    assert!(slow.begun.try_recv().is_err(), "a third call began");
    slow.go_on.notify_one();
    let third = tokio::spawn(third);
    slow.begun.recv().await.unwrap();
    slow.go_on.notify_waiters();
    assert_eq!(third.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_answered_and_runs_to_its_end() {
    let mut slow = Slow::new();
    let calls = Calls::new(slow.router.clone(), 1);
    let begun = Instant::now();
    let answer = calls.answer(request("/", Body::empty())).await.unwrap();
    assert_eq!((answer.status(), begun.elapsed()), (StatusCode::REQUEST_TIMEOUT, RESPONSE));
    assert!(slow.done.try_recv().is_err());
    slow.go_on.notify_one();
    calls.finished().await;
    slow.done.try_recv().unwrap();
}

/// Never ends.
struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_holds_no_call() {
    let (told, mut tell) = mpsc::unbounded_channel();
    let read = move |body: Body| async move {
        let _ = told.send(body.collect().await.map_err(|error| error.to_string()).map(|_| ()));
    };
    let calls = Calls::new(Router::new().route("/", post(read)), 1);
    let answer = calls.answer(request("/", Body::new(Endless))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    calls.finished().await;
    assert_eq!(tell.try_recv().unwrap(), Err("the request took too long".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_after_the_answer_has_begun_may_take_its_time() {
    let (frames, received) = mpsc::unbounded_channel::<Result<Bytes, Infallible>>();
    let echo = |body: Body| async move { Response::new(body) };
    let calls = Calls::new(Router::new().route("/", post(echo)), 1);
    let received = tokio_stream::wrappers::UnboundedReceiverStream::new(received);
    let answer = calls.answer(request("/", Body::from_stream(received))).await.unwrap();
    calls.finished().await;
    tokio::time::advance(3 * RESPONSE).await;
    frames.send(Ok("late".into())).unwrap();
    drop(frames);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "late");
}

#[tokio::test]
async fn a_call_that_panics_is_an_internal_error() {
    let calls = Calls::new(Router::new().route("/", post(|| async { panic!("a bug") as () })), 1);
    let answer = calls.answer(request("/", Body::empty())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!((status.code(), status.message()), (tonic::Code::Internal, "internal error"));
    calls.finished().await;
}
