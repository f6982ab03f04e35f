//! Hosts that open more than they were asked for.

use super::*;

fn listen(name: &[u8], want_reply: bool, host: &[u8], port: u32) -> Vec<u8> {
    let mut packet = vec![message::GLOBAL_REQUEST];
    packet.put_string(name);
    packet.put_bool(want_reply);
    packet.put_string(host);
    packet.put_u32(port);
    packet
}

fn forwarded(host: &[u8], port: u32) -> Vec<u8> {
    let mut rest = Vec::new();
    for (host, port) in [(host, port), (b"192.0.2.1", 50_000)] {
        rest.put_string(host);
        rest.put_u32(port);
    }
    rest
}

impl Wire {
    /// The client asks, and the host hears it as it was said.
    async fn ask(&mut self, packet: &[u8]) {
        self.client.send(packet).await.unwrap();
        self.host_hears(packet).await;
    }

    async fn host_answers(&mut self, packet: &[u8]) {
        self.host.send(packet).await.unwrap();
        self.client_hears(packet).await;
    }

    async fn host_may_open(&mut self, kind: &[u8], rest: &[u8]) {
        self.host.send(&open(kind, 5, rest)).await.unwrap();
        let heard = self.client.message().await.unwrap().to_vec();
        assert_eq!(heard.first(), Some(&CHANNEL_OPEN), "{heard:?}");
        assert!(heard.ends_with(rest));
    }

    async fn host_may_not_open(&mut self, kind: &[u8], rest: &[u8]) {
        self.host.send(&open(kind, 5, rest)).await.unwrap();
        self.host_hears(&message::open_failure(5, message::open::PROHIBITED, "not allowed")).await;
    }
}

const LISTEN: &[u8] = b"tcpip-forward";
const CANCEL: &[u8] = b"cancel-tcpip-forward";
const TCP: &[u8] = b"forwarded-tcpip";

#[tokio::test]
async fn a_host_forwards_from_where_it_was_asked_to_listen_and_from_nowhere_else() {
    let mut wire = Wire::new().await;
    wire.ask(&listen(LISTEN, true, b"", 8080)).await;
    wire.host_may_not_open(TCP, &forwarded(b"", 8080)).await;
    wire.host_answers(&[message::REQUEST_SUCCESS]).await;
    wire.host_may_open(TCP, &forwarded(b"", 8080)).await;
    wire.host_may_open(TCP, &forwarded(b"0.0.0.0", 8080)).await;
    for (host, port) in [(&b""[..], 8081), (b"db.example.com", 8080)] {
        wire.host_may_not_open(TCP, &forwarded(host, port)).await;
    }
    let mut path = Vec::new();
    path.put_string(b"/run/some.sock");
    path.put_string(b"");
    wire.host_may_not_open(b"forwarded-streamlocal@openssh.com", &path).await;
    assert!(wire.seen.has("allowed: false, action: Open(ForwardedTcpip"));
    // At once, before the host has said anything to it.
    wire.ask(&listen(CANCEL, true, b"", 8080)).await;
    wire.host_may_not_open(TCP, &forwarded(b"", 8080)).await;
}

#[tokio::test]
async fn a_host_that_has_said_no_or_was_told_otherwise_since_forwards_nothing() {
    let mut wire = Wire::new().await;
    wire.ask(&listen(LISTEN, true, b"localhost", 8080)).await;
    wire.host_answers(&[message::REQUEST_FAILURE]).await;
    wire.host_may_not_open(TCP, &forwarded(b"localhost", 8080)).await;
    // The yes is late.
    wire.ask(&listen(LISTEN, true, b"localhost", 8080)).await;
    wire.ask(&listen(CANCEL, false, b"localhost", 8080)).await;
    wire.host_answers(&[message::REQUEST_SUCCESS]).await;
    wire.host_may_not_open(TCP, &forwarded(b"localhost", 8080)).await;
}

#[tokio::test]
async fn a_port_that_the_host_chooses_is_the_one_that_it_has_named() {
    let mut wire = Wire::new().await;
    wire.ask(&listen(LISTEN, true, b"", 0)).await;
    wire.host_answers(&[message::REQUEST_SUCCESS, 0, 0, 0x9c, 0x40]).await;
    wire.host_may_open(TCP, &forwarded(b"", 40_000)).await;
    wire.host_may_not_open(TCP, &forwarded(b"", 0)).await;
    wire.ask(&listen(CANCEL, true, b"", 40_000)).await;
    wire.host_may_not_open(TCP, &forwarded(b"", 40_000)).await;
    // Whoever does not want to hear which port it is cannot say later what it was asked for.
    wire.client.send(&listen(LISTEN, false, b"", 0)).await.unwrap();
    wire.ask(&listen(LISTEN, false, b"", 8080)).await;
    wire.host_may_open(TCP, &forwarded(b"", 8080)).await;
    assert!(wire.seen.has("allowed: false, action: Listen(Tcp { host: [], port: 0 })"));
}

#[tokio::test]
async fn listeners_without_end_are_refused() {
    let mut wire = Wire::new().await;
    for port in 1..=crate::ssh::lent::LISTENERS as u32 {
        wire.ask(&listen(LISTEN, false, b"", port)).await;
    }
    wire.client.send(&listen(LISTEN, true, b"", 65_000)).await.unwrap();
    wire.client_hears(&[message::REQUEST_FAILURE]).await;
    wire.ask(&listen(CANCEL, false, b"", 7)).await;
    wire.ask(&listen(LISTEN, true, b"", 65_000)).await;
}

#[tokio::test]
async fn a_display_that_is_lent_for_one_connection_is_lent_for_one() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    let display = |recipient: u32, single: u8| {
        let mut rest = vec![single];
        rest.put_string(b"MIT-MAGIC-COOKIE-1");
        rest.put_string(b"00");
        rest.put_u32(0);
        request(recipient, b"x11-req", false, &rest)
    };
    let from = forwarded(b"127.0.0.1", 6010);
    wire.client.send(&display(0, 1)).await.unwrap();
    wire.host_hears(&display(90, 1)).await;
    wire.host_may_open(b"x11", &from).await;
    wire.host_may_not_open(b"x11", &from).await;
    wire.client.send(&display(0, 1)).await.unwrap();
    wire.host_hears(&display(90, 1)).await;
    wire.client.send(&message::about(message::CHANNEL_CLOSE, 0)).await.unwrap();
    wire.host_hears(&message::about(message::CHANNEL_CLOSE, 90)).await;
    wire.host_may_not_open(b"x11", &from).await;
}
