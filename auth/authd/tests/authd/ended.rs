//! Logins from before a reset, a recovery or the end of an account: sidecars are told, and refuse them too.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use auth::{
    Authorizer, Credential, DenyReason, Login, Permit, Protocol, Replica, SessionRequest,
    certificate::x509,
    permit::Ended,
    policy::{Target, TargetKind},
    proto::{
        self,
        watch_event::{Event, SnapshotEnd, put::Item},
    },
};
use rustls_pki_types::CertificateDer;
use tonic::{Code, Streaming};

use crate::{
    watch::{next_change, snapshot},
    world::*,
};

/// What certificates can tell apart.
const SECOND: Duration = Duration::from_secs(1);

/// A sidecar, as far as it decides.
pub(crate) struct Door {
    replica: Arc<Replica>,
    authorizer: Authorizer,
    stream: Streaming<proto::WatchEvent>,
}

impl Door {
    pub(crate) async fn of(world: &World) -> Self {
        let (events, stream) = snapshot(world, &world.sidecar(&["pg"]).await).await;
        let replica = Replica::new(world.time.clone());
        let authorizer = Authorizer::new(Arc::clone(&replica), world.time.clone());
        let door = Self { replica, authorizer, stream };
        events.into_iter().chain([Event::SnapshotEnd(SnapshotEnd {})]).for_each(|event| door.take(event));
        door
    }

    fn take(&self, event: Event) {
        self.replica.apply(proto::WatchEvent { event: Some(event) }).unwrap();
    }

    /// Hears everything up to the news that somebody's logins have ended; of whom.
    pub(crate) async fn hears_of_ended_logins(&mut self) -> String {
        loop {
            let event = next_change(&mut self.stream).await;
            self.take(event.clone());
            if let Event::Put(proto::watch_event::Put { item: Some(Item::EndedLogins(ended)) }) = event {
                return ended.user;
            }
        }
    }

    pub(crate) fn open(&self, certificate: &[u8]) -> Result<Permit, DenyReason> {
        let request = SessionRequest {
            target: Arc::new(Target {
                kind: TargetKind::Database,
                name: "pg".to_owned().try_into().unwrap(),
                protocol: Protocol::Postgres,
                labels: BTreeMap::new(),
            }),
            login: Login::Database { user: "alice".to_owned(), name: "app".to_owned() },
            client: [127, 0, 0, 1].into(),
        };
        let chain = [CertificateDer::from(certificate)];
        self.authorizer.authorize(&Credential::X509(&chain), &request).map_err(|denied| denied.reason)
    }
}

#[track_caller]
pub(crate) fn assert_ended(opened: Result<Permit, DenyReason>) {
    assert!(matches!(opened, Err(DenyReason::LoginEnded { .. })), "{opened:?}");
}

async fn accept_again(world: &World, person: &mut Person, url: &str) {
    let token = token_of(url);
    let begin = world.begin_invitation(&token, proto::DeviceKind::Webauthn).await.unwrap();
    let device = person.new_key(&begin, world.origin());
    world.accept(&token, Some(device)).await.unwrap();
}

#[tokio::test]
async fn a_reset_ends_logins_at_every_sidecar_and_the_next_login_opens_again() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    world.login(&mut olga).await;
    world.login(&mut jerry).await;
    world.clock.advance(SECOND);
    let mut door = Door::of(&world).await;
    let permit = door.open(&olga.certificate).unwrap();

    let request = proto::ResetUserRequest { name: "olga".into(), ttl_seconds: 0 };
    let link = world.admin().await.reset_user(request).await.unwrap().into_inner();
    assert_eq!(door.hears_of_ended_logins().await, "olga");
    assert_ended(door.open(&olga.certificate));
    assert!(matches!(permit.ended().await, Ended::LoginEnded { .. }));
    assert!(door.open(&jerry.certificate).is_ok());

    // At the same moment, by the clock.
    accept_again(&world, &mut olga, &link.url).await;
    world.login(&mut olga).await;
    assert!(door.open(&olga.certificate).is_ok());
    let mut users = world.users(olga.identity()).await;
    users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await.unwrap();
}

#[tokio::test]
async fn the_end_of_an_account_ends_its_logins_and_not_those_of_the_next_of_the_name() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    world.clock.advance(SECOND);
    let mut door = Door::of(&world).await;
    let request = proto::DeleteResourceRequest { kind: "user".into(), name: "olga".into() };
    world.admin().await.delete_resource(request).await.unwrap();
    assert_eq!(door.hears_of_ended_logins().await, "olga");
    let stolen = olga.certificate;
    assert_ended(door.open(&stolen));

    let mut next = world.person_with_key("olga", &["access"]).await;
    world.login(&mut next).await;
    let door = Door::of(&world).await;
    assert_ended(door.open(&stolen));
    assert!(door.open(&next.certificate).is_ok());
}

#[tokio::test]
async fn sidecars_are_told_for_longer_than_any_certificate_lives() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    world.clock.advance(SECOND);
    let request = proto::ResetUserRequest { name: "olga".into(), ttl_seconds: 0 };
    world.admin().await.reset_user(request).await.unwrap();
    world.clock.advance(Duration::from_secs(12 * 3600 - 60));
    let certificate = CertificateDer::from(olga.certificate.as_slice());
    assert!(x509::validity(&certificate).unwrap().contains(&world.time.now()));
    assert_ended(Door::of(&world).await.open(&olga.certificate));
}

#[tokio::test]
async fn a_login_of_the_second_before_a_reset_is_over_here_too() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.clock.advance(Duration::from_secs(60));
    world.login(&mut olga).await;
    let request = proto::ResetUserRequest { name: "olga".into(), ttl_seconds: 0 };
    world.admin().await.reset_user(request).await.unwrap();
    let mut users = world.users(olga.identity()).await;
    let refused = refused(users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await);
    assert_eq!(refused.0, Code::Unauthenticated, "{}", refused.1);
}

#[tokio::test]
async fn an_account_that_is_closed_ends_its_logins_at_every_sidecar_and_whoever_is_let_in_again_logs_in_again()
 {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    world.clock.advance(SECOND);
    let mut door = Door::of(&world).await;
    let permit = door.open(&olga.certificate).unwrap();
    let user = |status: &str| {
        format!(
            "kind: user\nversion: v2\nmetadata: {{name: olga}}\nspec: {{roles: [access], traits: {{db_users: [alice], db_names: [app]}}, status: {{{status}}}}}\n"
        )
    };
    // One that was over before it began closes nothing.
    world.put(&user("is_locked: true, lock_expires: '2020-01-01T00:00:00Z'")).await;
    world.users(olga.identity()).await.list_mfa_devices(proto::ListMfaDevicesRequest {}).await.unwrap();

    world.put(&user("is_locked: true, locked_message: on leave")).await;
    assert_eq!(door.hears_of_ended_logins().await, "olga");
    assert_ended(door.open(&olga.certificate));
    assert!(matches!(permit.ended().await, Ended::LoginEnded { .. }));
    let mut users = world.users(olga.identity()).await;
    let (code, said) = refused(users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await);
    assert!(code == Code::PermissionDenied && said.contains("on leave"), "{said}");

    world.put(&user("is_locked: false")).await;
    let refused = refused(users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await);
    assert_eq!(refused.0, Code::Unauthenticated, "{}", refused.1);
    assert_ended(door.open(&olga.certificate));
    world.login(&mut olga).await;
    assert!(door.open(&olga.certificate).is_ok());
}
