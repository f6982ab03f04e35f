//! Sides that do not do their part when keys are exchanged anew.

use super::*;

/// New keys are wanted soon, and at once.
const HASTY: Renewal = Renewal { after: 64 * 1024, within: Duration::from_millis(200) };

/// A message that means nothing and is long.
fn much() -> Vec<u8> {
    let mut packet = vec![message::IGNORE];
    packet.put_string(&[7; 200_000]);
    packet
}

/// Begins a key exchange, and goes silent.
async fn begin_and_stop<S: AsyncRead + AsyncWrite + Unpin>(side: &mut Transport<S>) {
    let half = side.side.proposal().unwrap();
    side.send(&half).await.unwrap();
}

#[tokio::test]
async fn a_client_that_says_nothing_to_new_keys_is_left_and_told_so() {
    let mut wire = Wire::planned(Plan { renewal: HASTY, ..Plan::default() }).await;
    wire.client.send(&much()).await.unwrap();
    wire.client.incoming.receive().await.unwrap();
    assert_eq!(wire.client.incoming.payload().first(), Some(&message::KEXINIT));
    let text = "the session ended: the client did not agree to new keys in time";
    assert_eq!(wire.goodbye().await, text);
    assert!(matches!(wire.outcome().await.unwrap_err().fault, RelayFault::ClientOverdue(_)));
}

#[tokio::test]
async fn a_client_that_goes_silent_within_new_keys_of_its_own_is_left() {
    let renewal = Renewal { after: 1 << 30, ..HASTY };
    let mut wire = Wire::planned(Plan { renewal, ..Plan::default() }).await;
    begin_and_stop(&mut wire.client).await;
    wire.client.incoming.receive().await.unwrap();
    assert_eq!(wire.client.incoming.payload().first(), Some(&message::KEXINIT));
    assert!(wire.goodbye().await.contains("new keys in time"));
    assert!(matches!(wire.outcome().await.unwrap_err().fault, RelayFault::ClientOverdue(_)));
}

#[tokio::test]
async fn a_host_that_goes_silent_within_new_keys_is_left_and_the_client_told_so() {
    for renewal in [HASTY, Renewal { after: 1 << 30, ..HASTY }] {
        let mut wire = Wire::planned(Plan { renewal, ..Plan::default() }).await;
        match renewal.after {
            1_073_741_824 => begin_and_stop(&mut wire.host).await,
            _ => wire.host.send(&much()).await.unwrap(),
        }
        let text = "the session ended: the host did not agree to new keys in time";
        assert_eq!(wire.goodbye().await, text);
        assert!(matches!(wire.outcome().await.unwrap_err().fault, RelayFault::UpstreamOverdue(_)));
    }
}

#[tokio::test]
async fn an_end_in_the_middle_of_new_keys_is_told_to_both() {
    for with_client in [true, false] {
        let mut wire = Wire::new().await;
        wire.channel().await;
        if with_client {
            begin_and_stop(&mut wire.client).await;
            wire.client.incoming.receive().await.unwrap();
        } else {
            begin_and_stop(&mut wire.host).await;
            // The other half, and a share.
            wire.host.incoming.receive().await.unwrap();
            wire.host.incoming.receive().await.unwrap();
        }
        wire.end.take().unwrap().send(Refusal::new(RefusalCode::SessionExpired, "it is over")).unwrap();
        assert_eq!(wire.goodbye().await, "it is over");
        assert!(matches!(wire.host.message().await, Err(SshFault::Disconnected { reason: 11, .. })));
        assert!(wire.seen.has("channel: Some(0), allowed: true, action: Close {"));
        assert_eq!(wire.outcome().await.unwrap().end, End::Refused(RefusalCode::SessionExpired));
    }
}

#[tokio::test]
async fn talk_does_not_put_off_new_keys() {
    let mut wire = Wire::planned(Plan { renewal: HASTY, ..Plan::default() }).await;
    wire.channel().await;
    wire.client.send(&much()).await.unwrap();
    let Wire { client: Transport { incoming: _incoming, mut outgoing, .. }, host: _host, session, .. } = wire;
    let talking = async {
        loop {
            outgoing.put(&[message::IGNORE, 0, 0, 0, 0])?;
            outgoing.flush().await?;
            tokio::task::yield_now().await;
        }
    };
    let stopped: Result<(), SshFault> = timeout(LONG, talking).await.expect("it is stopped");
    assert!(stopped.is_err());
    drop(outgoing);
    assert!(matches!(session.await.unwrap().unwrap_err().fault, RelayFault::ClientOverdue(_)));
}

#[tokio::test]
async fn a_client_that_never_agrees_to_new_keys_does_not_go_on_under_the_old_ones() {
    let renewal = Renewal { after: 64 * 1024, ..Renewal::default() };
    let mut wire = Wire::planned(Plan { renewal, ..Plan::default() }).await;
    wire.channel().await;
    let much = much();
    let Wire { client: Transport { mut incoming, mut outgoing, .. }, host, session, .. } = wire;
    let sending = async {
        loop {
            outgoing.put(&much)?;
            outgoing.flush().await?;
        }
    };
    let stopped: Result<(), SshFault> = timeout(LONG, sending).await.expect("it is stopped");
    assert!(stopped.is_err());
    incoming.receive().await.unwrap();
    assert_eq!(incoming.payload().first(), Some(&message::KEXINIT));
    incoming.receive().await.unwrap();
    let [message::DISCONNECT, rest @ ..] = incoming.payload() else { panic!("no goodbye") };
    assert!(disconnected(rest).to_string().contains("no answer to a key exchange"));
    drop((incoming, outgoing, host));
    assert!(matches!(session.await.unwrap().unwrap_err().fault, RelayFault::Malformed(_)));
}
