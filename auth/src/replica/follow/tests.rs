use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{Stream, StreamExt, stream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, transport::Endpoint};

use super::*;
use crate::{
    identity::RoleName,
    proto::{
        AnnounceRequest, AnnounceResponse, EmitAuditRequest, EmitAuditResponse,
        IssueUpstreamCertificateRequest, IssueUpstreamSshCertificateRequest, RecordingPart,
        SidecarCertificate, SidecarCertificateRequest, UploadRecordingResponse, UpstreamCertificate,
        UpstreamSshCertificate, VerifyOtpRequest, VerifyOtpResponse, sidecars_server, watch_event::Event,
    },
    testing::World,
};

/// What authd does in one stream.
struct Script {
    events: Vec<Event>,
    then: Then,
}

enum Then {
    Close,
    Silence,
}

/// An authd that plays one script a stream, then refuses.
#[derive(Clone)]
struct Authd {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    streams: Arc<AtomicUsize>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl sidecars_server::Sidecars for Authd {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        let script = self.scripts.lock().unwrap().pop_front();
        let Script { events, then } = script.ok_or_else(|| Status::unavailable("no more scripts"))?;
        let events = stream::iter(events.into_iter().map(|event| Ok(WatchEvent { event: Some(event) })));
        Ok(Response::new(match then {
            Then::Close => events.boxed(),
            Then::Silence => events.chain(stream::pending()).boxed(),
        }))
    }

    async fn renew_certificate(&self, _: Request<SidecarCertificateRequest>) -> Answer<SidecarCertificate> {
        Err(Status::unimplemented(""))
    }

    async fn announce(&self, _: Request<AnnounceRequest>) -> Answer<AnnounceResponse> {
        Err(Status::unimplemented(""))
    }

    async fn issue_upstream_certificate(
        &self,
        _: Request<IssueUpstreamCertificateRequest>,
    ) -> Answer<UpstreamCertificate> {
        Err(Status::unimplemented(""))
    }

    async fn issue_upstream_ssh_certificate(
        &self,
        _: Request<IssueUpstreamSshCertificateRequest>,
    ) -> Answer<UpstreamSshCertificate> {
        Err(Status::unimplemented(""))
    }

    async fn verify_otp(&self, _: Request<VerifyOtpRequest>) -> Answer<VerifyOtpResponse> {
        Err(Status::unimplemented(""))
    }

    async fn upload_recording(
        &self,
        _: Request<Streaming<RecordingPart>>,
    ) -> Answer<UploadRecordingResponse> {
        Err(Status::unimplemented(""))
    }

    async fn emit_audit(&self, _: Request<EmitAuditRequest>) -> Answer<EmitAuditResponse> {
        Err(Status::unimplemented(""))
    }
}

impl Authd {
    fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self {
            scripts: Arc::new(Mutex::new(scripts.into_iter().collect())),
            streams: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    /// A channel over memory, so that time may stand still.
    async fn channel(&self) -> Result<Channel, ApiError> {
        let service = sidecars_server::SidecarsServer::new(self.clone());
        let connector = tower::service_fn(move |_| {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(theirs), service).await;
            });
            async move { Ok::<_, std::io::Error>(TokioIo::new(ours)) }
        });
        Ok(Endpoint::from_static("http://authd").connect_with_connector(connector).await.unwrap())
    }

    /// Follows until `done`, or for a long time.
    async fn followed_until(&self, world: &World, done: impl Fn() -> bool) {
        let shutdown = CancellationToken::new();
        let following = follow(Arc::clone(&world.replica), || self.channel(), shutdown.clone());
        let watching = async {
            while !done() {
                sleep(Duration::from_millis(10)).await;
            }
            shutdown.cancel();
        };
        let both = async { tokio::join!(following, watching) };
        timeout(Duration::from_secs(600), both).await.expect("it must come to that");
    }
}

fn knows(world: &World, role: &str) -> bool {
    world.replica.snapshot().role(&RoleName::new(role).unwrap()).is_some()
}

fn without_end(world: &World) -> Vec<Event> {
    let mut events = world.events();
    events.pop();
    events
}

#[tokio::test(start_paused = true)]
async fn a_replica_fills_from_the_stream() {
    let world = World::empty();
    let authd = Authd::new([Script { events: world.events(), then: Then::Silence }]);
    authd.followed_until(&world, || world.replica.is_ready()).await;
    assert!(knows(&world, "access-dev"));
    assert_eq!(authd.streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_in_the_middle_leaves_the_replica_as_it_was() {
    let world = World::empty();
    let authd = Authd::new([
        Script { events: without_end(&world), then: Then::Close },
        Script { events: without_end(&world), then: Then::Silence },
    ]);
    authd.followed_until(&world, || authd.streams() == 4).await;
    assert!(!world.replica.is_ready());
}

#[tokio::test(start_paused = true)]
async fn after_a_break_the_next_stream_counts() {
    let world = World::empty();
    let fewer =
        world.events().into_iter().filter(|event| !format!("{event:?}").contains("access-prod")).collect();
    let authd = Authd::new([
        Script { events: world.events(), then: Then::Close },
        Script { events: fewer, then: Then::Silence },
    ]);
    authd.followed_until(&world, || world.replica.snapshot().generation() == 2).await;
    assert!(knows(&world, "access-dev") && !knows(&world, "access-prod"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_given_up() {
    let world = World::empty();
    let authd = Authd::new([
        Script { events: world.events(), then: Then::Silence },
        Script { events: world.events(), then: Then::Silence },
    ]);
    let began = Instant::now();
    authd.followed_until(&world, || authd.streams() == 2).await;
    assert!(began.elapsed() >= EVENT_DEADLINE && began.elapsed() < EVENT_DEADLINE + FIRST_PAUSE * 2);
}

#[tokio::test(start_paused = true)]
async fn an_authd_that_is_away_is_asked_now_and_then() {
    let world = World::empty();
    let shutdown = CancellationToken::new();
    let asked = AtomicUsize::new(0);
    let connect = || {
        asked.fetch_add(1, Ordering::SeqCst);
        async { Err(ApiError::NoAuthorities) }
    };
    let following = follow(Arc::clone(&world.replica), connect, shutdown.clone());
    assert!(timeout(Duration::from_secs(60), following).await.is_err());
    let asked = asked.into_inner();
    assert!((15..=40).contains(&asked), "{asked} times in a minute");
}

#[tokio::test(start_paused = true)]
async fn an_authd_that_hangs_up_at_once_is_not_asked_in_a_loop() {
    let world = World::empty();
    let scripts = (0..1_000).map(|_| Script { events: world.events(), then: Then::Close });
    let authd = Authd::new(scripts);
    let following = follow(Arc::clone(&world.replica), || authd.channel(), CancellationToken::new());
    assert!(timeout(Duration::from_secs(60), following).await.is_err());
    assert!(authd.streams() <= 40, "{} streams in a minute", authd.streams());
}

#[tokio::test]
async fn a_shutdown_ends_it() {
    let world = World::empty();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    follow(Arc::clone(&world.replica), || async { Err(ApiError::NoAuthorities) }, shutdown).await;
}

#[test]
fn a_pause_is_never_nothing_and_never_longer() {
    for _ in 0..1_000 {
        let pause = jittered(LONGEST_PAUSE);
        assert!(pause >= LONGEST_PAUSE / 2 && pause <= LONGEST_PAUSE);
    }
}
