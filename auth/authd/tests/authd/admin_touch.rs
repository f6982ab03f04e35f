//! What administrators change from a user certificate: one touch, one command.

use std::time::Duration;

use auth::{
    api::touch,
    proto::{self, AdminMfa, admin_client::AdminClient, create_challenge_request},
};
use prost::Message;
use tonic::{Code, Request, Status, transport::Channel};

use crate::world::*;

/// What reads only. A method of the service that does not stand here must ask for a touch.
const READ_ONLY: [&str; 7] = [
    "Status",
    "GetResources",
    "ListAuthorities",
    "ListAllTargets",
    "ListAllRecordings",
    "ExplainAccess",
    "ListAudit",
];

/// May everything.
const EVERYTHING: &str = "
kind: role
version: v7
metadata: {name: everything}
spec: {allow: {rules: [{resources: ['*'], verbs: ['*']}]}}
";

/// Every method of the service, as the contract has them.
fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap().file;
    let services = files.into_iter().flat_map(|file| file.service);
    let admin = services.into_iter().find(|service| service.name() == "Admin").unwrap();
    admin.method.iter().map(|method| method.name().to_owned()).collect()
}

/// Calls any method with an empty request, which every request can be read from.
async fn call(channel: &Channel, method: &str, mfa: Option<&AdminMfa>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(());
    if let Some(mfa) = mfa {
        touch::attach(&mut request, mfa);
    }
    let path = format!("/{}/{method}", proto::admin_server::SERVICE_NAME).parse().unwrap();
    client.unary(request, path, tonic_prost::ProstCodec::<(), ()>::default()).await.map(drop)
}

async fn create(
    world: &World,
    person: &Person,
    request_sha256: Vec<Vec<u8>>,
    command: &str,
) -> Result<proto::MfaChallenge, Status> {
    let action = create_challenge_request::AdminAction { command: command.to_owned(), request_sha256 };
    let scope = Some(create_challenge_request::Scope::AdminAction(action));
    let request = proto::CreateChallengeRequest { scope };
    Ok(world.users(person.identity()).await.create_challenge(request).await?.into_inner())
}

/// A touch for these calls.
pub(crate) async fn touch_for(world: &World, person: &mut Person, calls: &[[u8; 32]]) -> AdminMfa {
    let calls = calls.iter().map(|call| call.to_vec()).collect();
    let challenge = create(world, person, calls, "tctl create -f x.yaml").await.unwrap();
    let mfa = Some(person.answer(&challenge, world));
    AdminMfa { challenge_id: challenge.challenge_id, mfa }
}

/// A call with its touch.
pub(crate) fn with<T>(request: T, mfa: &AdminMfa) -> Request<T> {
    let mut request = Request::new(request);
    touch::attach(&mut request, mfa);
    request
}

struct Office {
    world: World,
    olga: Person,
    channel: Channel,
}

impl Office {
    async fn new() -> Self {
        let world = World::new().await;
        world.put(EVERYTHING).await;
        let olga = world.person_with_key("olga", &["everything"]).await;
        Self::of(world, olga).await
    }

    async fn of(world: World, mut olga: Person) -> Self {
        world.login(&mut olga).await;
        let channel = world.channel(Some(olga.identity())).await;
        Self { world, olga, channel }
    }

    fn client(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    async fn touch(&mut self, calls: &[[u8; 32]]) -> AdminMfa {
        touch_for(&self.world, &mut self.olga, calls).await
    }

    async fn add_token(&self, mfa: Option<&AdminMfa>) -> Result<(), Status> {
        let request = match mfa {
            Some(mfa) => with(token(), mfa),
            None => Request::new(token()),
        };
        self.client().add_token(request).await.map(drop)
    }
}

fn token() -> proto::AddTokenRequest {
    proto::AddTokenRequest { types: vec!["db".into()], ttl_seconds: 0 }
}

fn token_call() -> [u8; 32] {
    touch::digest("AddToken", &token())
}

#[track_caller]
fn assert_needs_touch<T>(result: Result<T, Status>) {
    match result {
        Ok(_) => panic!("was not refused"),
        Err(status) => assert!(touch::is_needed(&status), "{status}"),
    }
}

#[tokio::test]
async fn every_method_that_is_not_declared_to_read_only_needs_a_touch_for_itself() {
    let mut office = Office::new().await;
    for name in READ_ONLY {
        assert!(methods().iter().any(|method| method == name), "{name} is no method");
    }
    for method in methods() {
        let untouched = call(&office.channel, &method, None).await;
        if READ_ONLY.contains(&method.as_str()) {
            assert!(untouched.err().is_none_or(|status| !touch::is_needed(&status)), "{method}");
            continue;
        }
        assert!(untouched.is_err_and(|status| touch::is_needed(&status)), "{method} needs no touch");
        // A touch for another call of the service is none for this.
        let mfa = office.touch(&[touch::digest("Other", &())]).await;
        let result = call(&office.channel, &method, Some(&mfa)).await;
        assert!(result.is_err_and(|status| touch::is_needed(&status)), "{method} takes another's touch");
        // Its own gets it past that gate, under the name that the contract has for it.
        let mfa = office.touch(&[touch::digest(&method, &())]).await;
        let result = call(&office.channel, &method, Some(&mfa)).await;
        assert!(result.err().is_none_or(|status| !touch::is_needed(&status)), "{method} has another name");
        let again = call(&office.channel, &method, Some(&mfa)).await;
        assert!(again.is_err_and(|status| touch::is_needed(&status)), "{method} can be made twice");
    }
}

#[tokio::test]
async fn root_on_the_socket_needs_no_touch() {
    let world = World::new().await;
    world.admin().await.add_token(token()).await.unwrap();
}

#[tokio::test]
async fn one_touch_is_one_command_of_several_calls() {
    let mut office = Office::new().await;
    let role = |name: &str| proto::PutResourceRequest {
        resource: Some(proto::Resource {
            json: format!(r#"{{"kind":"role","version":"v7","metadata":{{"name":"{name}"}},"spec":{{}}}}"#),
            ..Default::default()
        }),
        ..Default::default()
    };
    let (one, two, three) = (role("one"), role("two"), role("three"));
    let calls = [touch::digest("PutResource", &one), touch::digest("PutResource", &two)];
    let mfa = office.touch(&calls).await;
    let mut client = office.client();
    // In whatever order.
    client.put_resource(with(two.clone(), &mfa)).await.unwrap();
    // What was not named is not covered, and does not spoil what was.
    assert_needs_touch(client.put_resource(with(three, &mfa)).await);
    client.put_resource(with(one, &mfa)).await.unwrap();
    // Each once.
    assert_needs_touch(client.put_resource(with(two, &mfa)).await);
}

#[tokio::test]
async fn a_request_that_differs_by_a_bit_is_another() {
    let mut office = Office::new().await;
    let mfa = office.touch(&[token_call()]).await;
    let longer = proto::AddTokenRequest { ttl_seconds: 1, ..token() };
    assert_needs_touch(office.client().add_token(with(longer, &mfa)).await);
    // The touch was spent by that, but not what it was for.
    office.add_token(Some(&mfa)).await.unwrap();
    assert_needs_touch(office.add_token(Some(&mfa)).await);
}

#[tokio::test]
async fn the_same_request_is_made_as_often_as_it_is_named() {
    let mut office = Office::new().await;
    let mfa = office.touch(&[token_call(), token_call()]).await;
    office.add_token(Some(&mfa)).await.unwrap();
    office.add_token(Some(&mfa)).await.unwrap();
    assert_needs_touch(office.add_token(Some(&mfa)).await);
}

#[tokio::test]
async fn of_two_calls_that_race_for_one_name_one_is_made() {
    let mut office = Office::new().await;
    let mfa = office.touch(&[token_call(), token_call()]).await;
    office.add_token(Some(&mfa)).await.unwrap();
    let (one, other) = tokio::join!(office.add_token(Some(&mfa)), office.add_token(Some(&mfa)));
    assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
    assert_needs_touch(one.and(other));
    // Nor do two that race for the challenge itself get one name twice.
    let mfa = office.touch(&[token_call()]).await;
    let (one, other) = tokio::join!(office.add_token(Some(&mfa)), office.add_token(Some(&mfa)));
    assert!(one.is_ok() != other.is_ok());
}

#[tokio::test]
async fn what_is_left_of_a_touch_is_over_after_five_minutes() {
    let mut office = Office::new().await;
    let mfa = office.touch(&[token_call(), token_call(), token_call()]).await;
    office.add_token(Some(&mfa)).await.unwrap();
    office.world.clock.advance(Duration::from_secs(299));
    office.add_token(Some(&mfa)).await.unwrap();
    office.world.clock.advance(Duration::from_secs(2));
    assert_needs_touch(office.add_token(Some(&mfa)).await);
}

#[tokio::test]
async fn a_touch_that_waits_five_minutes_for_its_first_call_is_late() {
    let mut office = Office::new().await;
    let mfa = office.touch(&[token_call()]).await;
    office.world.clock.advance(Duration::from_secs(301));
    assert_needs_touch(office.add_token(Some(&mfa)).await);
}

#[tokio::test]
async fn the_touch_of_one_administrator_is_nothing_in_the_hands_of_another() {
    let mut office = Office::new().await;
    let mut mallory = office.world.person_with_key("mallory", &["everything"]).await;
    office.world.login(&mut mallory).await;
    let mut hers = AdminClient::new(office.world.channel(Some(mallory.identity())).await);
    let mfa = office.touch(&[token_call(), token_call()]).await;
    // Neither the answer before it was used, nor the approval after.
    assert_needs_touch(hers.add_token(with(token(), &mfa)).await);
    office.add_token(Some(&mfa)).await.unwrap();
    assert_needs_touch(hers.add_token(with(token(), &mfa)).await);
    office.add_token(Some(&mfa)).await.unwrap();
}

#[tokio::test]
async fn a_touch_for_something_else_changes_nothing() {
    let mut office = Office::new().await;
    let scope = Some(create_challenge_request::Scope::ManageDevices(Default::default()));
    let mut users = office.world.users(office.olga.identity()).await;
    let request = proto::CreateChallengeRequest { scope };
    let challenge = users.create_challenge(request).await.unwrap().into_inner();
    let mfa = Some(office.olga.answer(&challenge, &office.world));
    let mfa = AdminMfa { challenge_id: challenge.challenge_id, mfa };
    assert_eq!(refused(office.add_token(Some(&mfa)).await).0, Code::FailedPrecondition);
    // And a command's touch changes no devices.
    let mfa = office.touch(&[token_call()]).await;
    let request = proto::BeginAddMfaDeviceRequest {
        kind: proto::DeviceKind::Totp as i32,
        challenge_id: mfa.challenge_id,
        mfa: mfa.mfa,
        ..Default::default()
    };
    assert_eq!(refused(users.begin_add_mfa_device(request).await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_wrong_answer_spends_the_challenge_and_is_recorded() {
    let mut office = Office::new().await;
    let mut mfa = office.touch(&[token_call()]).await;
    let right = mfa.mfa.replace(code_response("000000"));
    assert_eq!(refused(office.add_token(Some(&mfa)).await).1, CREDENTIALS);
    mfa.mfa = right;
    assert_needs_touch(office.add_token(Some(&mfa)).await);
    let event = office.world.events("mfa_auth_challenge.validate").await.pop().unwrap();
    assert_eq!((&event["code"], &event["success"]), (&"T1016W".into(), &false.into()));
    assert_eq!((&event["user"], &event["command"]), (&"olga".into(), &"tctl create -f x.yaml".into()));
}

#[tokio::test]
async fn the_touch_and_what_it_changed_name_the_device() {
    let mut office = Office::new().await;
    let device = office.world.events("mfa.add").await[0]["mfa_device_uuid"].clone();
    let mfa = office.touch(&[token_call()]).await;
    office.add_token(Some(&mfa)).await.unwrap();
    let event = office.world.events("mfa_auth_challenge.validate").await.pop().unwrap();
    assert_eq!((&event["code"], &event["challenge_scope"]), (&"T1016I".into(), &"ADMIN_ACTION".into()));
    assert_eq!((&event["mfa_device"]["mfa_device_uuid"], &event["calls"]), (&device, &1.into()));
    let event = office.world.events("join_token.create").await.pop().unwrap();
    assert_eq!((&event["user"], &event["with_mfa"]), (&"olga".into(), &device));
}

#[tokio::test]
async fn a_device_that_is_locked_after_its_touch_changes_nothing_more() {
    let mut office = Office::new().await;
    let device = office.world.events("mfa.add").await[0]["mfa_device_uuid"].as_str().unwrap().to_owned();
    let mfa = office.touch(&[token_call(), token_call()]).await;
    office.add_token(Some(&mfa)).await.unwrap();
    let lock = format!(
        "kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{mfa_device: {device}}}}}\n"
    );
    office.world.put(&lock).await;
    assert_eq!(refused(office.add_token(Some(&mfa)).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn nothing_is_asked_where_the_cluster_asks_for_nothing() {
    for (factor, has_device, needed) in [
        ("off", true, false),
        ("optional", true, true),
        ("optional", false, false),
        ("on", true, true),
        ("otp", true, true),
    ] {
        let world = World::new().await;
        world.put(EVERYTHING).await;
        let mut olga = Person::new("olga");
        if has_device {
            olga = world.person_with_totp("olga", &["everything"]).await;
            world.cap(&format!("second_factor: '{factor}'")).await;
        } else {
            world.cap(&format!("second_factor: '{factor}'")).await;
            let token = world.invite("olga", &["everything"]).await;
            world.accept(&token, None).await.unwrap();
        }
        let challenge = world.begin_login("olga", PASSWORD).await.unwrap();
        let mfa = (!challenge.none_required).then(|| olga.answer(&challenge, &world));
        let certificates = world.finish_login(&olga.key, &challenge.challenge_id, mfa).await.unwrap();
        olga.certificate = certificates.tls_certificate;
        let channel = world.channel(Some(olga.identity())).await;
        let result = AdminClient::new(channel).add_token(token()).await;
        let asked = result.err().is_some_and(|status| touch::is_needed(&status));
        assert_eq!(asked, needed, "{factor}, device: {has_device}");
    }
}

#[tokio::test]
async fn a_challenge_names_between_one_and_256_calls() {
    let office = Office::new().await;
    let name = vec![7_u8; 32];
    for (calls, command, good) in [
        (vec![name.clone(); 256], "x".repeat(1000), true),
        (vec![name.clone(); 257], String::new(), false),
        (vec![], String::new(), false),
        (vec![vec![7; 31]], String::new(), false),
        (vec![name.clone()], "x".repeat(1001), false),
        (vec![name], "a\nb".to_owned(), false),
    ] {
        let result = create(&office.world, &office.olga, calls, &command).await;
        assert_eq!(result.err().map(|status| status.code()), (!good).then_some(Code::InvalidArgument));
    }
}
