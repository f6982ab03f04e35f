//! What may happen at the same time, and what must be in force at the very next call: nothing that authd remembers to be faster
//! lets anything through that was taken away.

use auth::proto::{self, create_challenge_request};
use tonic::{Code, Status, transport::Channel};

use crate::world::*;

type Users = proto::users_client::UsersClient<Channel>;

const ROLE: &str = "
kind: role
version: v7
metadata: {name: access-prod}
spec:
  options: {require_session_mfa: true}
  allow: {db_labels: {env: prod}, db_users: [alice], db_names: [app]}
";

/// A user with a device, logged in, before a target that wants a touch.
struct Scene {
    world: World,
    person: Person,
    users: Users,
    key: Key,
}

impl Scene {
    async fn new(with_key: bool) -> Self {
        let world = World::new().await;
        world.put(ROLE).await;
        world.guard("prod-pg", &[("env", "prod")]).await;
        let mut person = match with_key {
            true => world.person_with_key("olga", &["access-prod"]).await,
            false => world.person_with_totp("olga", &["access-prod"]).await,
        };
        world.login(&mut person).await;
        // The code of the login is used up.
        world.clock.advance(std::time::Duration::from_secs(60));
        let users = world.users(person.identity()).await;
        Self { world, person, users, key: Key::new() }
    }

    async fn challenge(&self) -> proto::MfaChallenge {
        let session = create_challenge_request::Session {
            route: Some(route("prod-pg")),
            public_key: self.key.spki.clone(),
            ..Default::default()
        };
        let scope = Some(create_challenge_request::Scope::Session(session));
        let asked = self.users.clone().create_challenge(proto::CreateChallengeRequest { scope }).await;
        asked.unwrap().into_inner()
    }

    fn request(
        &self,
        challenge: proto::MfaChallenge,
        mfa: proto::MfaResponse,
    ) -> proto::IssueSessionCertificateRequest {
        proto::IssueSessionCertificateRequest {
            route: Some(route("prod-pg")),
            public_key: self.key.spki.clone(),
            challenge_id: challenge.challenge_id,
            mfa: Some(mfa),
            ..Default::default()
        }
    }

    /// All of them under way before the first is answered.
    async fn all(
        &self,
        requests: Vec<proto::IssueSessionCertificateRequest>,
    ) -> Vec<Result<proto::SessionCertificate, Status>> {
        let ask = |request| {
            let mut users = self.users.clone();
            tokio::spawn(async move {
                users.issue_session_certificate(request).await.map(tonic::Response::into_inner)
            })
        };
        let mut answers = Vec::new();
        for asked in requests.into_iter().map(ask).collect::<Vec<_>>() {
            answers.push(asked.await.unwrap());
        }
        answers
    }

    async fn validated(&self, code: &str) -> usize {
        let events = self.world.events("mfa_auth_challenge.validate").await;
        events.iter().filter(|event| event["code"] == code).count()
    }
}

fn codes(answers: &[Result<proto::SessionCertificate, Status>], code: Code) -> usize {
    answers.iter().filter(|answer| answer.as_ref().is_err_and(|status| status.code() == code)).count()
}

#[tokio::test]
async fn of_many_right_answers_to_one_challenge_one_is_worth_a_certificate() {
    let mut scene = Scene::new(true).await;
    let challenge = scene.challenge().await;
    let mfa = scene.person.answer(&challenge, &scene.world);
    let same = vec![scene.request(challenge, mfa); 12];
    let answers = scene.all(same).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(codes(&answers, Code::FailedPrecondition), 11);
    // Nor does the trail tell of more.
    assert_eq!((scene.validated("T1016I").await, scene.validated("T1016W").await), (1, 0));
    assert_eq!(scene.world.events("cert.create").await.len(), 2, "the login's and this one");
}

#[tokio::test]
async fn of_many_uses_of_one_code_one_is_worth_a_certificate() {
    let scene = Scene::new(false).await;
    let code = code_response(&scene.person.code(scene.world.time.now()));
    let mut requests = Vec::new();
    for _ in 0..4 {
        requests.push(scene.request(scene.challenge().await, code.clone()));
    }
    let answers = scene.all(requests).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!((scene.validated("T1016I").await, scene.validated("T1016W").await), (1, 3));
}

#[tokio::test]
async fn wrong_codes_at_the_same_time_do_not_outnumber_the_limit() {
    let scene = Scene::new(false).await;
    let right = code_response(&scene.person.code(scene.world.time.now()));
    let mut requests = Vec::new();
    for n in 0..16 {
        requests.push(scene.request(scene.challenge().await, code_response(&format!("{n:06}x"))));
    }
    let spent = requests.clone();
    let answers = scene.all(requests).await;
    // Five were judged, and only of those does anybody hear that they were wrong.
    assert_eq!(codes(&answers, Code::ResourceExhausted), 11);
    assert_eq!(scene.validated("T1016W").await, 5);
    let late = scene.request(scene.challenge().await, right);
    assert_eq!(codes(&scene.all(vec![late]).await, Code::ResourceExhausted), 1);
    // Those that were not judged are spent all the same.
    scene.world.clock.advance(std::time::Duration::from_secs(2 * 60));
    assert_eq!(codes(&scene.all(spent).await, Code::FailedPrecondition), 16);
}

#[tokio::test]
async fn what_was_taken_away_between_challenge_and_answer_is_gone() {
    let mut scene = Scene::new(true).await;
    let answered = async |scene: &mut Scene, change: &str| {
        let challenge = scene.challenge().await;
        let mfa = scene.person.answer(&challenge, &scene.world);
        let request = scene.request(challenge, mfa);
        scene.world.put(change).await;
        scene.all(vec![request]).await
    };
    // Both were read just now, and are remembered as they were.
    let without = answered(&mut scene, &ROLE.replace("alice", "bob")).await;
    assert_eq!(codes(&without, Code::NotFound), 1, "{without:?}");
    scene.world.put(ROLE).await;
    let lock = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {login: alice}}\n";
    let locked = answered(&mut scene, lock).await;
    assert_eq!(codes(&locked, Code::PermissionDenied), 1, "{locked:?}");
    let lock = proto::DeleteResourceRequest { kind: "lock".into(), name: "l".into() };
    scene.world.admin().await.delete_resource(lock).await.unwrap();
    let codes_alone = "kind: cluster_auth_preference\nversion: v2\nmetadata: {name: cluster-auth-preference}\n\
                       spec: {second_factor: otp}\n";
    let not_accepted = answered(&mut scene, codes_alone).await;
    assert_eq!(codes(&not_accepted, Code::Unauthenticated), 1, "{not_accepted:?}");
    assert_eq!(scene.world.events("cert.create").await.len(), 1, "the login's alone");
}
