//! Who holds a buffer, and when.

use std::task::Waker;

use tokio::io::{AsyncWriteExt, duplex};

use super::*;
use crate::frame::SHOWN;

/// One poll of a fill.
fn poll<S: Stream>(stream: &mut S, buffer: &mut Option<Buffer>) -> Poll<io::Result<Filled>> {
    poll_fill(stream, buffer, &mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_silent_stream_holds_no_buffer() {
    let (mut here, mut there) = duplex(1024);
    let mut buffer = None;
    assert!(poll(&mut here, &mut buffer).is_pending());
    assert!(buffer.is_none());

    there.write_all(b"now").await.unwrap();
    assert!(matches!(poll(&mut here, &mut buffer), Poll::Ready(Ok(Filled::More))));
    assert_eq!(buffer.as_ref().unwrap().filled(), b"now");

    drop(there);
    buffer = None;
    assert!(matches!(poll(&mut here, &mut buffer), Poll::Ready(Ok(Filled::End))));
    assert!(buffer.is_none());
}

#[tokio::test]
async fn a_silent_socket_holds_no_buffer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut here, _) = listener.accept().await.unwrap();
    let mut buffer = None;
    assert!(poll(&mut here, &mut buffer).is_pending());
    assert!(buffer.is_none());
    there.write_all(b"now").await.unwrap();
    let shared = Shared::new(&mut here);
    assert_eq!(shared.fill(&mut buffer).await.unwrap(), Filled::More);
    assert_eq!(buffer.unwrap().filled(), b"now");
}

#[test]
fn a_buffer_takes_a_whole_view_wherever_it_starts() {
    let mut buffer = Buffer::take();
    let space = buffer.free().len();
    assert_eq!(space, SHOWN);
    buffer.fill(space);
    buffer.consume(space - 10);
    assert_eq!(buffer.filled().len(), 10);
    assert_eq!(buffer.free().len(), SHOWN - 10, "what is left moves to the front");
    buffer.fill(SHOWN);
    assert_eq!(buffer.filled().len(), SHOWN, "and no more than the space is ever filled");
    assert!(buffer.free().is_empty());
}
