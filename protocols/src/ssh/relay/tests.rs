//! Peers that do what no honest one does. Both are our own transport, whose every message the test decides.

use std::pin::Pin;
use std::sync::{Arc, Mutex as Lock};
use std::task::{Context, Poll};
use std::time::Duration;

use ssh_key::PublicKey;
use tokio::io::{DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::message::{CHANNEL_DATA, CHANNEL_FAILURE, CHANNEL_OPEN, CHANNEL_REQUEST, CHANNEL_SUCCESS};
use super::*;
use crate::endpoint::UpstreamAddress;
use crate::ssh::{HostIdentity, HostKeys, SshKey, upstream};
use crate::{Credential, Endpoint, Login, SshTerms, TapClosed, Verdict};

mod lent;
mod new_keys;

/// A tap that remembers, and can be closed.
#[derive(Clone, Default)]
struct Seen(Arc<Lock<Vec<String>>>, Arc<AtomicBool>);

impl Tap for Seen {
    async fn observe(&mut self, event: Event<'_>) -> Result<Verdict, TapClosed> {
        self.0.lock().unwrap().push(format!("{event:?}"));
        if self.1.load(Ordering::Relaxed) { Err(TapClosed) } else { Ok(Verdict::Forward) }
    }
}

impl Seen {
    fn has(&self, wanted: &str) -> bool {
        self.0.lock().unwrap().iter().any(|event| event.contains(wanted))
    }

    fn close(&self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

/// A client and a host with the relay between them.
struct Wire {
    client: Transport<DuplexStream>,
    host: Transport<TcpStream>,
    seen: Seen,
    session: JoinHandle<Result<Transferred, RelayError>>,
    end: Option<oneshot::Sender<Refusal>>,
}

fn identity() -> (HostIdentity, HostKeys) {
    let key = SshKey::generate().unwrap();
    let line = PublicKey::from_bytes(key.public()).unwrap().to_openssh().unwrap();
    (HostIdentity::new(key), HostKeys::default().with_pinned(&line).unwrap())
}

/// A host that lets everybody in, after these words.
async fn host(socket: TcpStream, identity: HostIdentity, banner: &[u8]) -> Transport<TcpStream> {
    let mut host = Transport::accept(socket, &identity).await.unwrap().unwrap();
    assert_eq!(host.message().await.unwrap().first(), Some(&message::SERVICE_REQUEST));
    let mut accept = vec![message::SERVICE_ACCEPT];
    accept.put_string(b"ssh-userauth");
    host.send(&accept).await.unwrap();
    assert_eq!(host.message().await.unwrap().first(), Some(&message::USERAUTH_REQUEST));
    if !banner.is_empty() {
        let mut words = vec![message::USERAUTH_BANNER];
        words.put_string(banner);
        words.put_string(b"");
        host.send(&words).await.unwrap();
    }
    host.send(&[message::USERAUTH_SUCCESS]).await.unwrap();
    host
}

/// A client that is about to hear that it is logged in, and a host that has let it in.
struct Begun {
    client: Transport<DuplexStream>,
    hosting: JoinHandle<Transport<TcpStream>>,
    seen: Seen,
    session: JoinHandle<Result<Transferred, RelayError>>,
    end: oneshot::Sender<Refusal>,
}

/// The client is at `near`, the relay at `far`.
async fn begin<S>(plan: Plan, near: DuplexStream, far: S) -> Begun
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Plan { allowed, banner, renewal } = plan;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (upstream_identity, host_keys) = identity();
    let hosting =
        tokio::spawn(
            async move { host(listener.accept().await.unwrap().0, upstream_identity, &banner).await },
        );
    let endpoint = Endpoint {
        address: UpstreamAddress::Tcp { host: "127.0.0.1".into(), port },
        tls: None,
        credential: Credential::Ssh { key: SshKey::generate().unwrap(), certificate: None },
        settings: Vec::new(),
        replication_allowed: false,
        local_infile_allowed: false,
        ssh: Some(SshTerms { host_keys, allowed }),
    };
    let login = Login {
        user: "alice".into(),
        database: None,
        replication: Default::default(),
        carried: Default::default(),
    };
    let upstream = upstream::dial(&endpoint, &login, Duration::from_secs(10)).await.unwrap();
    let (identity, known) = identity();
    let (client, front) = tokio::join!(Transport::connect(near, &known), Transport::accept(far, &identity));
    let (client, front) = (client.unwrap(), front.unwrap().unwrap());
    let limits = Limits { close: Duration::from_millis(200), ..Limits::default() };
    let terms = Terms { allowed, limits, renewal };
    let seen = Seen::default();
    let (end, ended) = oneshot::channel();
    let ended = async move {
        match ended.await {
            Ok(refusal) => refusal,
            Err(_) => std::future::pending().await,
        }
    };
    let session = tokio::spawn(Box::pin(run(front, upstream, seen.clone(), ended, terms)));
    Begun { client, hosting, seen, session, end }
}

/// What a test may change before a session begins.
struct Plan {
    allowed: Allowed,
    banner: Vec<u8>,
    renewal: Renewal,
}

impl Default for Plan {
    fn default() -> Self {
        Self { allowed: Allowed::everything(), banner: Vec::new(), renewal: Renewal::default() }
    }
}

impl Wire {
    async fn new() -> Self {
        Self::with(Allowed::everything()).await
    }

    /// SFTP is asked for in the first channel, and the host hears of it.
    async fn sftp(&mut self) {
        let mut name = Vec::new();
        name.put_string(b"sftp");
        self.client.send(&request(0, b"subsystem", true, &name)).await.unwrap();
        self.host_hears(&request(90, b"subsystem", true, &name)).await;
    }

    async fn with(allowed: Allowed) -> Self {
        Self::planned(Plan { allowed, ..Plan::default() }).await
    }

    async fn planned(plan: Plan) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        Self::between(plan, near, far).await
    }

    async fn between<S>(plan: Plan, near: DuplexStream, far: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Begun { mut client, hosting, seen, session, end } = begin(plan, near, far).await;
        assert_eq!(client.message().await.unwrap(), [message::USERAUTH_SUCCESS]);
        let mut host = hosting.await.unwrap();
        client.incoming.lift_budget();
        host.incoming.lift_budget();
        Self { client, host, seen, session, end: Some(end) }
    }

    /// The host hears exactly this next.
    async fn host_hears(&mut self, expected: &[u8]) {
        assert_eq!(&*self.host.message().await.unwrap(), expected);
    }

    async fn client_hears(&mut self, expected: &[u8]) {
        assert_eq!(&*self.client.message().await.unwrap(), expected);
    }

    /// A session channel, which the client calls 70 and the host 90; the relay calls it 0.
    async fn channel(&mut self) {
        self.client.send(&open(b"session", 70, &[])).await.unwrap();
        self.host_hears(&open(b"session", 0, &[])).await;
        self.host.send(&confirmation(0, 90)).await.unwrap();
        self.client_hears(&confirmation(70, 0)).await;
    }

    /// What the client is told at last.
    async fn goodbye(&mut self) -> String {
        loop {
            match self.client.message().await {
                Err(SshFault::Disconnected { text, .. }) => return text,
                Err(other) => panic!("{other:?}"),
                Ok(_) => {}
            }
        }
    }

    async fn outcome(self) -> Result<Transferred, RelayError> {
        drop((self.client, self.host));
        self.session.await.unwrap()
    }
}

fn open(kind: &[u8], sender: u32, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![CHANNEL_OPEN];
    packet.put_string(kind);
    for number in [sender, 1_000_000, 32_768] {
        packet.put_u32(number);
    }
    packet.extend_from_slice(rest);
    packet
}

fn confirmation(recipient: u32, sender: u32) -> Vec<u8> {
    let mut packet = vec![message::CHANNEL_OPEN_CONFIRMATION];
    for number in [recipient, sender, 2_000_000, 16_384] {
        packet.put_u32(number);
    }
    packet
}

fn request(recipient: u32, name: &[u8], want_reply: bool, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![CHANNEL_REQUEST];
    packet.put_u32(recipient);
    packet.put_string(name);
    packet.put_bool(want_reply);
    packet.extend_from_slice(rest);
    packet
}

fn exec(recipient: u32, command: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.put_string(command);
    request(recipient, b"exec", true, &rest)
}

/// What a request for a terminal says.
fn terminal() -> Vec<u8> {
    let mut rest = Vec::new();
    rest.put_string(b"xterm");
    rest.extend([0; 16]);
    rest.put_string(b"");
    rest
}

fn data(recipient: u32, bytes: &[u8]) -> Vec<u8> {
    let mut packet = vec![CHANNEL_DATA];
    packet.put_u32(recipient);
    packet.put_string(bytes);
    packet
}

#[tokio::test]
async fn messages_go_on_as_they_are_but_for_their_channels_number() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    wire.client.send(&data(0, b"to the host")).await.unwrap();
    wire.host_hears(&data(90, b"to the host")).await;
    wire.host.send(&data(0, b"to the client")).await.unwrap();
    wire.client_hears(&data(70, b"to the client")).await;
    for number in [message::CHANNEL_EOF, message::CHANNEL_CLOSE] {
        wire.client.send(&message::about(number, 0)).await.unwrap();
        wire.host_hears(&message::about(number, 90)).await;
    }
    wire.host.send(&message::about(message::CHANNEL_CLOSE, 0)).await.unwrap();
    wire.client_hears(&message::about(message::CHANNEL_CLOSE, 70)).await;
    assert!(wire.seen.has("Close { exit: None, from_client: 11, from_upstream: 13 }"));
}

#[tokio::test]
async fn windows_are_between_the_two_ends() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    let adjust = |recipient: u32| {
        [&message::about(message::CHANNEL_WINDOW_ADJUST, recipient)[..], &[0, 1, 2, 3]].concat()
    };
    wire.host.send(&adjust(0)).await.unwrap();
    wire.client_hears(&adjust(70)).await;
    wire.client.send(&adjust(0)).await.unwrap();
    wire.host_hears(&adjust(90)).await;
}

#[tokio::test]
async fn no_side_is_invited_to_send_packets_that_are_too_long_to_pass() {
    let mut wire = Wire::new().await;
    let with_largest = |mut packet: Vec<u8>, largest: u32| {
        let field = packet.last_chunk_mut::<4>().unwrap();
        *field = largest.to_be_bytes();
        packet
    };
    wire.client.send(&with_largest(open(b"session", 70, &[]), u32::MAX)).await.unwrap();
    wire.host_hears(&with_largest(open(b"session", 0, &[]), 128 * 1024)).await;
    wire.host.send(&with_largest(confirmation(0, 90), 1 << 30)).await.unwrap();
    wire.client_hears(&with_largest(confirmation(70, 0), 128 * 1024)).await;
}

#[tokio::test]
async fn answers_keep_the_order_of_their_requests_though_one_is_ours() {
    let mut wire = Wire::with(Allowed { x11: false, ..Allowed::everything() }).await;
    wire.channel().await;
    // Without waiting: two for the host, with one between them that is not allowed.
    let x11 = request(0, b"x11-req", true, &[0; 13]);
    let size = |recipient| request(recipient, b"window-change", true, &[0; 16]);
    for packet in [size(0), x11, exec(0, b"two")] {
        wire.client.send(&packet).await.unwrap();
    }
    wire.host_hears(&size(90)).await;
    wire.host_hears(&exec(90, b"two")).await;
    wire.host.send(&message::about(CHANNEL_SUCCESS, 0)).await.unwrap();
    wire.host.send(&message::about(CHANNEL_SUCCESS, 0)).await.unwrap();
    for expected in [CHANNEL_SUCCESS, CHANNEL_FAILURE, CHANNEL_SUCCESS] {
        wire.client_hears(&message::about(expected, 70)).await;
    }
}

#[tokio::test]
async fn a_host_opens_nothing_that_was_not_asked_for() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    let mut tcp = Vec::new();
    for _ in 0..2 {
        tcp.put_string(b"127.0.0.1");
        tcp.put_u32(22);
    }
    for (kind, rest) in
        [(&b"auth-agent@openssh.com"[..], &[][..]), (b"x11", &[0; 8]), (b"forwarded-tcpip", &tcp)]
    {
        wire.host.send(&open(kind, 5, rest)).await.unwrap();
        let no = message::open_failure(5, message::open::PROHIBITED, "not allowed");
        wire.host_hears(&no).await;
    }
    // Nor what the client alone may open: on record it is not the client's.
    for (kind, rest) in [(&b"session"[..], &[][..]), (b"direct-tcpip", &tcp), (b"tun@openssh.com", &[0; 8])] {
        wire.host.send(&open(kind, 5, rest)).await.unwrap();
        wire.host_hears(&message::open_failure(5, message::open::UNKNOWN_TYPE, "not known here")).await;
    }
    for kind in ["Session", "DirectTcpip", "Unknown"] {
        assert!(!wire.seen.has(&format!("allowed: false, action: Open({kind}")), "{kind}");
    }
    assert!(wire.seen.has("allowed: false, action: Open(Uninvited"));
    // With the agent lent, it may ask the agent, and nothing else.
    wire.client.send(&request(0, b"auth-agent-req@openssh.com", false, &[])).await.unwrap();
    wire.host_hears(&request(90, b"auth-agent-req@openssh.com", false, &[])).await;
    wire.host.send(&open(b"auth-agent@openssh.com", 5, &[])).await.unwrap();
    assert_eq!(wire.client.message().await.unwrap().first(), Some(&CHANNEL_OPEN));
}

#[tokio::test]
async fn what_the_host_says_of_its_keys_does_not_reach_the_client() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    let mut keys = vec![message::GLOBAL_REQUEST];
    keys.put_string(b"hostkeys-00@openssh.com");
    keys.put_bool(false);
    keys.put_string(b"a key");
    wire.host.send(&keys).await.unwrap();
    let mut alive = vec![message::GLOBAL_REQUEST];
    alive.put_string(b"keepalive@openssh.com");
    alive.put_bool(true);
    wire.host.send(&alive).await.unwrap();
    wire.client_hears(&alive).await;
    wire.client.send(&[message::REQUEST_FAILURE]).await.unwrap();
    wire.host_hears(&[message::REQUEST_FAILURE]).await;
}

#[tokio::test]
async fn puttys_way_to_measure_a_window_is_answered_by_the_host_and_is_nobodys_business() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    let measure = |recipient| request(recipient, b"winadj@putty.projects.tartarus.org", true, &[]);
    wire.client.send(&measure(0)).await.unwrap();
    wire.host_hears(&measure(90)).await;
    wire.host.send(&message::about(CHANNEL_FAILURE, 0)).await.unwrap();
    wire.client_hears(&message::about(CHANNEL_FAILURE, 70)).await;
    assert!(!wire.seen.has("winadj"));
}

#[tokio::test]
async fn a_sign_of_life_is_nobodys_business_whatever_library_gives_it() {
    let mut wire = Wire::new().await;
    for name in
        ["keepalive@openssh.com", "keepalive@lag.net", "keepalive@jcraft.com", "keepalive@libssh2.org"]
    {
        let mut alive = vec![message::GLOBAL_REQUEST];
        alive.put_string(name.as_bytes());
        alive.put_bool(true);
        wire.client.send(&alive).await.unwrap();
        wire.host_hears(&alive).await;
        wire.host.send(&[message::REQUEST_FAILURE]).await.unwrap();
        wire.client_hears(&[message::REQUEST_FAILURE]).await;
    }
    assert!(wire.seen.0.lock().unwrap().is_empty(), "it would keep an idle session alive");
}

#[tokio::test]
async fn a_channel_that_does_not_come_to_be_ends_for_the_tap_too() {
    let mut wire = Wire::new().await;
    let ends = |wire: &Wire| {
        let seen = wire.seen.0.lock().unwrap();
        seen.iter().filter(|event| event.contains("Close {")).count()
    };
    wire.client.send(&open(b"session", 70, &[])).await.unwrap();
    wire.host_hears(&open(b"session", 0, &[])).await;
    let no = |recipient| message::open_failure(recipient, message::open::PROHIBITED, "no");
    wire.host.send(&no(0)).await.unwrap();
    wire.client_hears(&no(70)).await;
    assert_eq!(ends(&wire), 1);
    // Nobody ever says anything about this one.
    wire.client.send(&open(b"session", 70, &[])).await.unwrap();
    wire.host_hears(&open(b"session", 1, &[])).await;
    let seen = wire.seen.clone();
    wire.client.send(&message::disconnect(11, "bye")).await.unwrap();
    wire.outcome().await.unwrap();
    assert!(seen.has("channel: Some(1), allowed: true, action: Close {"));
}

#[tokio::test]
async fn a_host_too_hears_answers_in_the_order_of_its_requests() {
    let mut wire = Wire::new().await;
    let global = |name: &[u8]| {
        let mut packet = vec![message::GLOBAL_REQUEST];
        packet.put_string(name);
        packet.put_bool(true);
        packet
    };
    wire.host.send(&global(b"keepalive@openssh.com")).await.unwrap();
    wire.host.send(&global(b"something else")).await.unwrap();
    wire.client_hears(&global(b"keepalive@openssh.com")).await;
    // Its second request has come when this has.
    wire.channel().await;
    wire.client.send(&[message::REQUEST_SUCCESS]).await.unwrap();
    wire.host_hears(&[message::REQUEST_SUCCESS]).await;
    wire.host_hears(&[message::REQUEST_FAILURE]).await;
}

#[tokio::test]
async fn nothing_is_sent_into_a_channel_that_is_not_there_or_not_open_yet() {
    let mut wire = Wire::new().await;
    wire.client.send(&open(b"session", 70, &[])).await.unwrap();
    wire.host_hears(&open(b"session", 0, &[])).await;
    // Before the host agrees, and into channels that nobody opened.
    for number in [0, 1, 90, u32::MAX] {
        wire.client.send(&data(number, b"too early")).await.unwrap();
        wire.client.send(&exec(number, b"id")).await.unwrap();
    }
    wire.client.send(&confirmation(0, 1)).await.unwrap();
    wire.host.send(&confirmation(0, 90)).await.unwrap();
    wire.client_hears(&confirmation(70, 0)).await;
    wire.client.send(&data(0, b"now")).await.unwrap();
    wire.host_hears(&data(90, b"now")).await;
    assert!(!wire.seen.has("Exec"));
}

#[tokio::test]
async fn messages_that_cannot_be_read_or_have_no_place_end_the_session() {
    for (bad, why) in [
        (vec![CHANNEL_DATA, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1], "ends before it should"),
        ([data(0, b"x"), vec![0]].concat(), "ends before it should"),
        (vec![CHANNEL_REQUEST, 0, 0, 0, 0], "ends before it should"),
        (vec![CHANNEL_OPEN, 0, 0, 0, 9], "ends before it should"),
        (vec![message::USERAUTH_SUCCESS], "has no place in a session"),
        (vec![message::SERVICE_REQUEST, 0, 0, 0, 0], "has no place in a session"),
        (vec![message::REQUEST_SUCCESS], "an answer to no request"),
    ] {
        let mut wire = Wire::new().await;
        wire.channel().await;
        wire.client.send(&bad).await.unwrap();
        assert!(wire.goodbye().await.contains(why), "{bad:?}");
        assert!(wire.seen.has("Malformed"), "{bad:?}");
        let fault = wire.outcome().await.unwrap_err().fault;
        assert!(matches!(fault, RelayFault::Malformed(Malformed::Ssh(_))), "{fault:?}");
    }
}

#[tokio::test]
async fn a_host_that_breaks_the_protocol_is_told_from_a_client_that_does() {
    for bad in [vec![CHANNEL_DATA, 0, 0, 0, 0, 9], message::about(CHANNEL_SUCCESS, 0).to_vec()] {
        let mut wire = Wire::new().await;
        wire.channel().await;
        wire.host.send(&bad).await.unwrap();
        assert_eq!(wire.goodbye().await, "the host has broken the protocol");
        assert!(matches!(wire.outcome().await.unwrap_err().fault, RelayFault::Upstream(_)));
    }
}

#[tokio::test]
async fn requests_without_end_are_not_kept() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    // The host answers none of them.
    let size = request(0, b"window-change", true, &[0; 16]);
    for _ in 0..300 {
        if wire.client.send(&size).await.is_err() {
            break;
        }
    }
    assert_eq!(wire.goodbye().await, "too many requests at once");
}

#[tokio::test]
async fn channels_without_end_are_refused() {
    let mut wire = Wire::new().await;
    let mut tcp = Vec::new();
    for _ in 0..2 {
        tcp.put_string(b"127.0.0.1");
        tcp.put_u32(22);
    }
    let count = crate::ssh::CHANNELS as u32;
    for number in 0..count {
        wire.client.send(&open(b"direct-tcpip", number, &tcp)).await.unwrap();
        wire.host_hears(&open(b"direct-tcpip", number, &tcp)).await;
    }
    wire.client.send(&open(b"direct-tcpip", count, &tcp)).await.unwrap();
    let no = message::open_failure(count, message::open::RESOURCE_SHORTAGE, "max_sessions limit reached");
    wire.client_hears(&no).await;
}

#[tokio::test]
async fn a_tap_that_closes_ends_the_session_before_anything_is_passed_on() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    wire.seen.close();
    wire.client.send(&exec(0, b"id")).await.unwrap();
    assert_eq!(wire.goodbye().await, "the session can no longer be recorded, so it ends");
    assert!(
        matches!(wire.host.message().await, Err(SshFault::Disconnected { .. })),
        "no command came before"
    );
    assert!(matches!(wire.outcome().await.unwrap_err().fault, RelayFault::TapClosed));
}

#[tokio::test]
async fn sftp_under_a_name_that_the_host_would_shorten_is_refused() {
    let mut wire = Wire::with(Allowed { file_copy: false, ..Allowed::everything() }).await;
    wire.channel().await;
    let mut rest = Vec::new();
    rest.put_string(b"sftp\0");
    wire.client.send(&request(0, b"subsystem", true, &rest)).await.unwrap();
    wire.client_hears(&message::about(CHANNEL_FAILURE, 70)).await;
    assert!(wire.seen.has("allowed: false, action: Subsystem"));
}

#[tokio::test]
async fn sftp_that_cannot_be_followed_ends_the_session() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    wire.sftp().await;
    wire.client.send(&data(0, &[0xff; 16])).await.unwrap();
    assert_eq!(wire.goodbye().await, "an SFTP message of an impossible length");
}

#[tokio::test]
async fn what_could_be_followed_of_sftp_is_seen_before_the_end() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    wire.sftp().await;
    // REMOVE of /a, to which the host says yes, and then something else.
    let mut remove = vec![0, 0, 0, 11, 13, 0, 0, 0, 1];
    remove.put_string(b"/a");
    wire.client.send(&data(0, &remove)).await.unwrap();
    wire.host_hears(&data(90, &remove)).await;
    let yes = [&[0, 0, 0, 9, 101, 0, 0, 0, 1, 0, 0, 0, 0][..], &[0xff; 4]].concat();
    wire.host.send(&data(0, &yes)).await.unwrap();
    assert_eq!(wire.goodbye().await, "the host has broken the protocol");
    assert!(wire.seen.has("operation: Remove") && wire.seen.has("outcome: Done"));
}

#[tokio::test]
async fn one_thing_is_started_in_a_channel_unless_the_host_has_refused_it() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    let mut sftp = Vec::new();
    sftp.put_string(b"sftp");
    wire.client.send(&request(0, b"subsystem", true, &sftp)).await.unwrap();
    wire.host_hears(&request(90, b"subsystem", true, &sftp)).await;
    wire.host.send(&message::about(CHANNEL_FAILURE, 0)).await.unwrap();
    wire.client_hears(&message::about(CHANNEL_FAILURE, 70)).await;
    wire.client.send(&exec(0, b"sh")).await.unwrap();
    wire.host_hears(&exec(90, b"sh")).await;
    wire.host.send(&message::about(CHANNEL_SUCCESS, 0)).await.unwrap();
    wire.client_hears(&message::about(CHANNEL_SUCCESS, 70)).await;
    // What it says is no SFTP any more.
    wire.client.send(&data(0, b"exec something; exit")).await.unwrap();
    wire.host_hears(&data(90, b"exec something; exit")).await;
    for again in [exec(0, b"again"), request(0, b"shell", true, &[]), request(0, b"subsystem", true, &sftp)] {
        wire.client.send(&again).await.unwrap();
        wire.client_hears(&message::about(CHANNEL_FAILURE, 70)).await;
    }
    assert!(wire.seen.has("allowed: false, action: Exec"));
}

/// A host that runs SFTP, or a command, and does not say so: its no to what was asked behind that is none to that.
#[tokio::test]
async fn a_host_that_leaves_an_answer_out_hides_nothing_by_its_next() {
    let mut sftp = Vec::new();
    sftp.put_string(b"sftp");
    let starts = request(0, b"subsystem", true, &sftp);
    for (start, to_host) in
        [(starts, request(90, b"subsystem", true, &sftp)), (exec(0, b"a"), exec(90, b"a"))]
    {
        let mut wire = Wire::new().await;
        wire.channel().await;
        let is_sftp = to_host != exec(90, b"a");
        wire.client.send(&start).await.unwrap();
        wire.host_hears(&to_host).await;
        let mut variable = Vec::new();
        variable.put_string(b"LANG");
        variable.put_string(b"C");
        wire.client.send(&request(0, b"env", true, &variable)).await.unwrap();
        wire.host_hears(&request(90, b"env", true, &variable)).await;
        wire.host.send(&message::about(CHANNEL_FAILURE, 0)).await.unwrap();
        wire.client_hears(&message::about(CHANNEL_FAILURE, 70)).await;
        if is_sftp {
            wire.client.send(&data(0, &[INIT, &remove()].concat())).await.unwrap();
            wire.host_hears(&data(90, &[INIT, &remove()].concat())).await;
            let yes = [VERSION, &[0, 0, 0, 9, 101, 0, 0, 0, 1, 0, 0, 0, 0]].concat();
            wire.host.send(&data(0, &yes)).await.unwrap();
            wire.client_hears(&data(70, &yes)).await;
            assert!(wire.seen.has("operation: Remove"));
        }
        // One thing runs in a channel: what it comes to would be said to be another's.
        wire.client.send(&request(0, b"shell", false, &[])).await.unwrap();
        wire.client.send(&data(0, b"")).await.unwrap();
        wire.host_hears(&data(90, b"")).await;
        assert!(wire.seen.has("allowed: false, action: Shell"));
    }
}

#[tokio::test]
async fn what_a_shell_shows_is_seen_without_a_terminal_too_and_what_a_command_shows_is_not() {
    for (start, to_host, is_seen) in [
        (request(0, b"shell", false, &[]), request(90, b"shell", false, &[]), true),
        (exec(0, b"a"), exec(90, b"a"), false),
    ] {
        let mut wire = Wire::new().await;
        wire.channel().await;
        wire.client.send(&start).await.unwrap();
        wire.host_hears(&to_host).await;
        wire.host.send(&data(0, b"shown")).await.unwrap();
        wire.client_hears(&data(70, b"shown")).await;
        assert_eq!(wire.seen.has("action: Output"), is_seen);
    }
}

#[tokio::test]
async fn what_a_terminal_shows_is_seen_whatever_the_host_says_to_its_request() {
    let rest = terminal();
    let answers = [None, Some(CHANNEL_SUCCESS), Some(CHANNEL_FAILURE)];
    for (answer, want_reply) in answers.into_iter().map(|answer| (answer, true)).chain([(None, false)]) {
        let mut wire = Wire::new().await;
        wire.channel().await;
        wire.client.send(&request(0, b"pty-req", want_reply, &rest)).await.unwrap();
        wire.host_hears(&request(90, b"pty-req", want_reply, &rest)).await;
        if let Some(answer) = answer {
            wire.host.send(&message::about(answer, 0)).await.unwrap();
            wire.client_hears(&message::about(answer, 70)).await;
        }
        wire.client.send(&request(0, b"shell", false, &[])).await.unwrap();
        wire.host_hears(&request(90, b"shell", false, &[])).await;
        wire.host.send(&data(0, b"$ ")).await.unwrap();
        wire.client_hears(&data(70, b"$ ")).await;
        assert!(wire.seen.has("action: Output"), "{answer:?} {want_reply}");
    }
}

#[tokio::test]
async fn what_runs_without_a_terminal_does_not_get_one_later() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    wire.client.send(&exec(0, b"sh")).await.unwrap();
    wire.host_hears(&exec(90, b"sh")).await;
    wire.host.send(&message::about(CHANNEL_SUCCESS, 0)).await.unwrap();
    wire.client_hears(&message::about(CHANNEL_SUCCESS, 70)).await;
    let rest = terminal();
    wire.client.send(&request(0, b"pty-req", true, &rest)).await.unwrap();
    wire.client_hears(&message::about(CHANNEL_FAILURE, 70)).await;
    assert!(wire.seen.has("allowed: false, action: Pty"));
}

#[tokio::test]
async fn sftp_does_not_go_through_a_terminal_that_would_change_it() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    let rest = terminal();
    wire.client.send(&request(0, b"pty-req", false, &rest)).await.unwrap();
    wire.host_hears(&request(90, b"pty-req", false, &rest)).await;
    let mut name = Vec::new();
    name.put_string(b"sftp");
    wire.client.send(&request(0, b"subsystem", true, &name)).await.unwrap();
    wire.client_hears(&message::about(CHANNEL_FAILURE, 70)).await;
    assert!(wire.seen.has("allowed: false, action: Subsystem"));
    wire.client.send(&exec(0, b"id")).await.unwrap();
    wire.host_hears(&exec(90, b"id")).await;
}

const INIT: &[u8] = &[0, 0, 0, 5, 1, 0, 0, 0, 3];
const VERSION: &[u8] = &[0, 0, 0, 5, 2, 0, 0, 0, 3];

/// REMOVE of /a.
fn remove() -> Vec<u8> {
    let mut remove = vec![0, 0, 0, 11, 13, 0, 0, 0, 1];
    remove.put_string(b"/a");
    remove
}

#[tokio::test]
async fn sftp_is_followed_where_the_host_runs_it_whatever_it_is_asked_for() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    // Before the command, too: the host may keep it for what will run.
    wire.client.send(&data(0, INIT)).await.unwrap();
    wire.host_hears(&data(90, INIT)).await;
    wire.client.send(&exec(0, b"true")).await.unwrap();
    wire.host_hears(&exec(90, b"true")).await;
    wire.client.send(&data(0, &remove())).await.unwrap();
    wire.host_hears(&data(90, &remove())).await;
    let yes = [VERSION, &[0, 0, 0, 9, 101, 0, 0, 0, 1, 0, 0, 0, 0]].concat();
    wire.host.send(&data(0, &yes)).await.unwrap();
    wire.client_hears(&data(70, &yes)).await;
    assert!(wire.seen.has("operation: Remove") && wire.seen.has("outcome: Done"));
    wire.client.send(&data(0, &[0xff; 16])).await.unwrap();
    assert_eq!(wire.goodbye().await, "an SFTP message of an impossible length");
}

#[tokio::test]
async fn sftp_that_nobody_has_asked_for_is_not_hidden_by_what_cannot_be_followed() {
    let twice = [INIT, &remove(), &remove()].concat();
    for (terminal_first, file_copy, said, why) in [
        (false, true, &twice[..], "two SFTP requests of the same number"),
        (true, true, &[0x81], "SFTP through a terminal"),
        (false, false, INIT, "SFTP is not allowed"),
    ] {
        let mut wire = Wire::with(Allowed { file_copy, ..Allowed::everything() }).await;
        wire.channel().await;
        if terminal_first {
            wire.client.send(&request(0, b"pty-req", false, &terminal())).await.unwrap();
            wire.host_hears(&request(90, b"pty-req", false, &terminal())).await;
        }
        wire.client.send(&exec(0, b"true")).await.unwrap();
        wire.host_hears(&exec(90, b"true")).await;
        wire.client.send(&data(0, said)).await.unwrap();
        wire.host_hears(&data(90, said)).await;
        wire.host.send(&data(0, VERSION)).await.unwrap();
        assert_eq!(wire.goodbye().await, why);
        let fault = wire.outcome().await.unwrap_err().fault;
        assert!(matches!(fault, RelayFault::Malformed(_)), "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_no_sftp_passes_however_it_begins() {
    for (said, answer) in [
        (INIT, &b"sh: no such command"[..]),
        (VERSION, INIT),
        (&[0, 0, 0, 5, 13, 0, 0, 0, 3], VERSION),
        (b"#!/bin/sh", VERSION),
    ] {
        let mut wire = Wire::new().await;
        wire.channel().await;
        wire.client.send(&exec(0, b"sh")).await.unwrap();
        wire.host_hears(&exec(90, b"sh")).await;
        for (from_client, from_host) in [(said, answer), (&[0xff; 20][..], &[0xff; 20][..])] {
            wire.client.send(&data(0, from_client)).await.unwrap();
            wire.host_hears(&data(90, from_client)).await;
            wire.host.send(&data(0, from_host)).await.unwrap();
            wire.client_hears(&data(70, from_host)).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_asked_of_sftp_before_it_is_there() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    wire.client.send(&data(0, &[0, 0, 0, 5, 1, 0, 0, 0, 3])).await.unwrap();
    wire.host_hears(&data(90, &[0, 0, 0, 5, 1, 0, 0, 0, 3])).await;
    let mut rest = Vec::new();
    rest.put_string(b"sftp");
    wire.client.send(&request(0, b"subsystem", true, &rest)).await.unwrap();
    assert_eq!(wire.goodbye().await, "data in a channel before SFTP was asked for");
    assert!(matches!(wire.host.message().await, Err(SshFault::Disconnected { .. })));
}

#[tokio::test]
async fn a_side_that_goes_ends_the_session_and_the_other_is_told() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    wire.client.send(&message::disconnect(11, "bye")).await.unwrap();
    assert!(matches!(wire.host.message().await, Err(SshFault::Disconnected { reason: 11, .. })));
    assert_eq!(wire.outcome().await.unwrap().end, End::Client);

    let mut wire = Wire::new().await;
    wire.channel().await;
    wire.host.send(&message::disconnect(2, "secrets of the host's")).await.unwrap();
    assert_eq!(wire.goodbye().await, "the host has closed the connection");
    assert_eq!(wire.outcome().await.unwrap().end, End::Upstream);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_welcome_does_not_outlive_its_permit() {
    // More words than there is room for.
    let (near, far) = tokio::io::duplex(4 * 1024);
    let plan = Plan { banner: vec![b'x'; 12 * 1024], ..Plan::default() };
    let Begun { client, session, end, .. } = begin(plan, near, far).await;
    end.send(Refusal::new(RefusalCode::SessionExpired, "it is over")).unwrap();
    let outcome = timeout(LONG, session).await.expect("the session ends").unwrap();
    assert_eq!(outcome.unwrap().end, End::Refused(RefusalCode::SessionExpired));
    drop(client);
}

#[tokio::test]
async fn a_client_that_leaves_and_does_not_let_go_of_its_connection_is_left() {
    let (near, far) = tokio::io::duplex(1 << 20);
    let mut wire = Wire::between(Plan::default(), near, Clinging(far)).await;
    wire.client.send(&message::disconnect(11, "bye")).await.unwrap();
    let Wire { client, host, session, .. } = wire;
    let outcome = timeout(LONG, session).await.expect("the session ends").unwrap();
    assert_eq!(outcome.unwrap().end, End::Client);
    drop((client, host));
}

/// Far longer than anything takes here: a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

/// A connection that does not close, as TLS does not while what was written before is not read.
struct Clinging(DuplexStream);

impl AsyncRead for Clinging {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Clinging {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn an_end_in_the_middle_of_much_data_is_still_told() {
    let mut wire = Wire::new().await;
    wire.channel().await;
    for _ in 0..40 {
        wire.host.send(&data(0, &[7; 32_000])).await.unwrap();
    }
    let refusal = Refusal::new(RefusalCode::SessionExpired, "it is over");
    wire.end.take().unwrap().send(refusal).unwrap();
    assert_eq!(wire.goodbye().await, "it is over");
    assert_eq!(wire.outcome().await.unwrap().end, End::Refused(RefusalCode::SessionExpired));
}

#[tokio::test]
async fn a_message_that_nobody_knows_is_answered_so() {
    let mut wire = Wire::new().await;
    wire.client.send(&[192, 0, 0, 0, 0]).await.unwrap();
    let answer = wire.client.message();
    // Our own transport passes over what it is told here; the session goes on.
    let next = timeout(Duration::from_millis(50), answer).await;
    assert!(next.is_err(), "nothing else comes");
    wire.channel().await;
}
