//! Codes for clients that can be asked: who is asked, for what, and what a code opens.

use auth::{
    credential::OtpProof,
    identity::{Identity, MfaEvidence, Protocol, Route, TargetName},
    proto::{VerifyOtpRequest, VerifyOtpResponse},
};
use protocols::SshProof;

use super::*;

/// What authd would say.
struct Codes {
    log: Log,
    /// Of which device it is.
    device: auth::identity::DeviceId,
    /// An answer for another connection than the one that asked.
    other_connection: bool,
    refuses: bool,
}

impl VerifyCode for Codes {
    fn verify(
        &self,
        asked: VerifyOtpRequest,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<OtpProof, CodeError>> + Send + '_>> {
        self.log.add(format!("verify {} for {}", asked.code, asked.route.clone().unwrap().target_name));
        Box::pin(async move {
            if self.refuses {
                return Err(CodeError::Refused("locked out".into()));
            }
            if asked.code != "123456" {
                return Err(CodeError::Wrong);
            }
            let time = auth::clock::unix_millis(std::time::SystemTime::now());
            let answer =
                VerifyOtpResponse { device_id: self.device.to_string(), time, user: "jerry".to_owned() };
            let mut asked = asked;
            if self.other_connection {
                asked.session_hash = vec![9; 32];
            }
            Ok(OtpProof::from_answer(&asked, &answer).unwrap())
        })
    }
}

fn proof(world: &World, identity: &Identity) -> SshProof {
    SshProof { certificate: world.authorities.ssh_user(identity), session_hash: [7; 32] }
}

/// A door in front of a node, a client with this peer, and what its person answers.
fn stage(world: World, target_name: &str, peer: Peer, replies: &[&'static str]) -> Stage {
    stage_with(world, target_name, peer, replies, |_| {})
}

fn stage_with(
    world: World,
    target_name: &str,
    peer: Peer,
    replies: &[&'static str],
    change: impl FnOnce(&mut Codes),
) -> Stage {
    let mut stage = Stage::with_user(world, target_name, None, Script::UntilEnded, mint::LOGIN);
    let door = Arc::get_mut(&mut stage.door).unwrap();
    let target = Target { kind: TargetKind::Node, protocol: Protocol::Ssh, ..Target::clone(&door.target) };
    door.target = Arc::new(target);
    door.protocol.peer = peer;
    door.protocol.replies = replies.to_vec();
    door.protocol.script = Script::Breaks;
    let mut codes =
        Codes { log: stage.log.clone(), device: mint::OTP_DEVICE, other_connection: false, refuses: false };
    change(&mut codes);
    door.codes = Arc::new(codes);
    stage
}

fn login_at(target: &str, replies: &[&'static str]) -> Stage {
    let world = World::new();
    let peer = Peer::Ssh(proof(&world, &mint::jerry()));
    stage(world, target, peer, replies)
}

fn asked(stage: &Stage) -> usize {
    stage.log.all().iter().filter(|line| line.starts_with("ask: ")).count()
}

fn is_let_in(stage: &Stage) -> bool {
    stage.log.all().iter().any(|line| line == "logged in")
}

#[tokio::test]
async fn nobody_is_asked_where_no_touch_is_needed() {
    let stage = login_at("dev-web", &["123456"]);
    stage.serve().await;
    assert_eq!((asked(&stage), is_let_in(&stage)), (0, true));
    let events = stage.events().await;
    assert_eq!(names(&events), ["session.start", "session.data", "session.end"]);
    assert_eq!((&events[0]["login"], &events[0]["server_hostname"]), (&"app".into(), &"dev-web".into()));
    assert!(events[0].get("with_mfa").is_none());
}

#[tokio::test]
async fn a_right_code_opens_the_session_and_the_device_is_on_record() {
    let stage = login_at("prod-web", &["123456"]);
    stage.serve().await;
    let log = stage.log.all();
    let question = "ask: access to resource requires MFA. With a security key: tsh ssh app@prod-web Enter an OTP code from a device: ";
    assert_eq!(log[1..3], [question, "verify 123456 for prod-web"]);
    assert!(is_let_in(&stage), "{log:?}");
    let events = stage.events().await;
    assert_eq!((&events[0]["event"], &events[0]["code"]), (&"session.start".into(), &"T2000I".into()));
    assert_eq!(events[0]["with_mfa"], mint::OTP_DEVICE.to_string());
    assert!(stage.counted(r#"outcome="allowed_with_mfa""#));
}

#[tokio::test]
async fn wrong_codes_are_asked_again_three_times_and_refused_as_without() {
    let stage = login_at("prod-web", &["1", "000000", "", "123456"]);
    stage.serve().await;
    assert_eq!((asked(&stage), is_let_in(&stage)), (3, false));
    assert_eq!(stage.log.all().last().unwrap(), "refuse: access to resource requires MFA");
    let events = stage.events().await;
    assert_eq!((&events[0]["event"], &events[0]["code"]), (&"auth".into(), &"T3007W".into()));
    assert_eq!((&events[0]["reason"], &events[0]["user"]), (&"mfa_required".into(), &"jerry".into()));

    let stage = login_at("prod-web", &["000000", "123456"]);
    stage.serve().await;
    assert_eq!((asked(&stage), is_let_in(&stage)), (2, true));
}

#[tokio::test]
async fn what_is_no_code_is_not_sent_anywhere() {
    let stage = login_at("prod-web", &["", "a very long text that is no code at all"]);
    stage.serve().await;
    assert!(!stage.log.all().iter().any(|line| line.starts_with("verify")));
}

#[tokio::test]
async fn who_is_locked_out_is_not_asked_again() {
    let world = World::new();
    let peer = Peer::Ssh(proof(&world, &mint::jerry()));
    let stage = stage_with(world, "prod-web", peer, &["1", "2"], |codes| codes.refuses = true);
    stage.serve().await;
    assert_eq!((asked(&stage), is_let_in(&stage)), (1, false));
}

#[tokio::test]
async fn a_code_that_was_judged_for_another_connection_opens_nothing() {
    let world = World::new();
    let peer = Peer::Ssh(proof(&world, &mint::jerry()));
    let stage = stage_with(world, "prod-web", peer, &["123456"], |codes| codes.other_connection = true);
    stage.serve().await;
    assert!(!is_let_in(&stage));
    assert_eq!(stage.events().await[0]["reason"], "other_code");
}

#[tokio::test]
async fn a_code_of_an_unknown_device_opens_nothing() {
    let world = World::new();
    let peer = Peer::Ssh(proof(&world, &mint::jerry()));
    let unknown = auth::identity::DeviceId(Uuid::from_u128(99));
    let stage = stage_with(world, "prod-web", peer, &["123456"], |codes| codes.device = unknown);
    stage.serve().await;
    assert!(!is_let_in(&stage));
    assert_eq!(stage.events().await[0]["reason"], "unknown_device");
}

#[tokio::test]
async fn nobody_is_asked_whose_certificate_is_no_login_or_whose_roles_give_nothing() {
    let route = Route {
        target: TargetName::new("prod-web").unwrap(),
        protocol: Protocol::Ssh,
        login: Login::Node { login: mint::LOGIN.to_owned() },
    };
    let session =
        Identity { route: Some(route), previous_expiry: Some(mint::jerry().not_after), ..mint::jerry() };
    let other_account = Identity { logins: vec!["root".to_owned()], ..mint::jerry() };
    let no_role = Identity { roles: vec![], ..mint::jerry() };
    let device = mint::OTP_DEVICE;
    let no_route = Identity { mfa: MfaEvidence::Claimed { device }, ..mint::jerry() };
    for identity in [session, other_account, no_role, no_route] {
        let world = World::new();
        let peer = Peer::Ssh(proof(&world, &identity));
        let stage = stage(world, "prod-web", peer, &["123456"]);
        stage.serve().await;
        assert_eq!((asked(&stage), is_let_in(&stage)), (0, false), "{identity:?}");
    }
}

#[tokio::test]
async fn inside_tls_nobody_is_asked_and_both_certificates_must_be_one_users() {
    let world = World::new();
    let ssh = proof(&world, &mint::jerry());
    let peer = Peer::SshInTls { chain: chain(&world.login()), ssh };
    let prod = stage(world, "prod-web", peer, &["123456"]);
    prod.serve().await;
    assert_eq!((asked(&prod), is_let_in(&prod)), (0, false));

    let world = World::new();
    let olga = Identity { user: auth::identity::UserName::new("olga").unwrap(), ..mint::jerry() };
    let peer = Peer::SshInTls { chain: chain(&world.login()), ssh: proof(&world, &olga) };
    let stage = stage(world, "dev-web", peer, &[]);
    stage.serve().await;
    assert!(!is_let_in(&stage));
    assert_eq!(stage.events().await[0]["reason"], "other_user_inside");
}

#[tokio::test]
async fn a_lock_that_comes_while_somebody_types_is_in_force() {
    let world = World::new();
    let peer = Peer::Ssh(proof(&world, &mint::jerry()));
    let replica = Arc::clone(&world.replica);
    struct Locking(Codes, Arc<Replica>);
    impl VerifyCode for Locking {
        fn verify(
            &self,
            asked: VerifyOtpRequest,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<OtpProof, CodeError>> + Send + '_>> {
            self.1.apply(mint::lock_jerry()).unwrap();
            self.0.verify(asked)
        }
    }
    let mut stage = stage(world, "prod-web", peer, &["123456"]);
    let codes =
        Codes { log: stage.log.clone(), device: mint::OTP_DEVICE, other_connection: false, refuses: false };
    Arc::get_mut(&mut stage.door).unwrap().codes = Arc::new(Locking(codes, replica));
    stage.serve().await;
    assert!(!is_let_in(&stage));
    assert_eq!(stage.events().await[0]["reason"], "locked");
}

/// An authd that is never done with a code: as a person who never types one.
struct Forever(Log);

impl VerifyCode for Forever {
    fn verify(
        &self,
        _: VerifyOtpRequest,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<OtpProof, CodeError>> + Send + '_>> {
        self.0.add("verify");
        Box::pin(future::pending())
    }
}

#[tokio::test]
async fn whoever_never_gives_a_code_takes_a_bounded_part_of_the_room() {
    const CLIENTS: usize = 30;
    let mut stage = login_at("prod-web", &["123456"]);
    let codes = Arc::new(Forever(stage.log.clone()));
    Arc::get_mut(&mut stage.door).unwrap().codes = codes;
    // Five that are asked for a code, three that are unknown, and two that are on their way out.
    let admission = Admission::new(Room { connections: 10, unknown: 3, unknown_per_address: 3 });
    let mut sessions = tokio::task::JoinSet::new();
    let everybody = async {
        for number in 1..=CLIENTS {
            let (socket, client, _) = Stage::connection().await;
            let place = loop {
                match admission.admit(client.ip()) {
                    Some(place) => break place,
                    None => drop(sessions.join_next().await),
                }
            };
            let door = Arc::clone(&stage.door);
            sessions.spawn(async move {
                tokio::select! {
                    () = door.serve(socket, client, &place, Span::none()) => {}
                    () = place.evicted() => {}
                }
            });
            while stage.log.all().iter().filter(|line| *line == "verify").count() < number {
                tokio::task::yield_now().await;
            }
        }
    };
    timeout(Duration::from_secs(20), everybody).await.expect("somebody found no room");
}
