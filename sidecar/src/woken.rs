//! HOT: futures that wait beside a relay.

use std::future::{Future, pending};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

/// The same future, polled only when something woke it. A relay's task is woken for each message, and each time would ask
/// after every reason that there may be for an end.
///
/// The future moves to the heap at once, and not when this is first polled: what is returned here is handed down through the
/// layers of a relay, each of which keeps room for it.
pub(crate) fn when_woken<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let mut futures = FuturesUnordered::from_iter([future]);
    async move {
        let Some(output) = futures.next().await else { return pending().await };
        output
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::poll_fn,
        task::{Context, Poll, Waker},
    };

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_is_handed_on_is_small_however_large_the_future() {
        let large = [0_u8; 4096];
        let future = when_woken(async move {
            std::future::ready(()).await;
            large.len()
        });
        assert!(size_of_val(&future) <= 128, "{}", size_of_val(&future));
    }

    #[test]
    fn it_is_polled_once_and_then_when_it_was_woken() {
        let polled = Cell::new(0);
        let (sender, mut receiver) = oneshot::channel();
        let mut future = Box::pin(when_woken(poll_fn(|cx| {
            polled.set(polled.get() + 1);
            std::pin::Pin::new(&mut receiver).poll(cx)
        })));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(future.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(polled.get(), 1);
        sender.send(7).unwrap();
        assert_eq!(future.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
        assert_eq!(polled.get(), 2);
    }
}
