//! Replacing an authority's keys: who trusts whom in which phase, as callers meet it.

use std::time::{Duration, UNIX_EPOCH};

use auth::{
    api::{self, ApiError, CaPin, ClientIdentity, Trust},
    certificate::x509,
    identity::ClusterName,
    proto::{
        self,
        sidecars_client::SidecarsClient,
        watch_event::{Event, Put, put::Item},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

use crate::{
    watch::{next_change, snapshot},
    world::*,
};

impl World {
    /// Whoever is left behind.
    async fn rotate(&self, kind: &str, phase: &str) {
        assert_eq!(self.try_to_rotate(kind, phase, true).await.unwrap(), phase);
    }

    async fn try_to_rotate(&self, kind: &str, phase: &str, force: bool) -> Result<String, Status> {
        let (r#type, phase) = (kind.to_owned(), phase.to_owned());
        let request = proto::RotateAuthorityRequest { r#type, phase, grace_seconds: 0, force };
        Ok(self.admin().await.rotate_authority(request).await?.into_inner().phase)
    }

    /// Whom the next phase of the host authority would lock out.
    async fn behind(&self) -> Vec<proto::SidecarBehind> {
        let status = self.admin().await.status(proto::StatusRequest {}).await.unwrap().into_inner();
        let host = status.authorities.into_iter().find(|authority| authority.r#type == "host").unwrap();
        host.behind
    }

    /// A sidecar asks for its next certificate.
    async fn renew(&self, sidecar: &Sidecar, authority: &CertificateDer<'static>) -> Sidecar {
        let key = Key::new();
        let mut sidecars = self.sidecars_under(authority, sidecar.identity()).await;
        let certificate = sidecars.renew_certificate(certificate_request(&key, &["pg"])).await.unwrap();
        Sidecar { key, id: sidecar.id.clone(), certificate: certificate.into_inner().certificate }
    }

    /// A sidecar shows its certificate, and says whom it trusts: whoever is trusted now.
    async fn announce(&self, sidecar: &Sidecar, authority: &CertificateDer<'static>) {
        let pin = |authority: &CertificateDer<'_>| CaPin::of(authority).unwrap().to_string();
        let trusted_ca_pins = self.trusted("host").await.iter().map(pin).collect();
        let request = proto::AnnounceRequest { targets: vec![], trusted_ca_pins };
        self.sidecars_under(authority, sidecar.identity()).await.announce(request).await.unwrap();
    }

    /// Whom others are told to trust, the one who signs first.
    async fn trusted(&self, kind: &str) -> Vec<CertificateDer<'static>> {
        let request = proto::ListAuthoritiesRequest { r#type: kind.to_owned() };
        let mut list = self.admin().await.list_authorities(request).await.unwrap().into_inner().authorities;
        list.remove(0).certificates.into_iter().map(CertificateDer::from).collect()
    }

    /// What sidecars call, of an authd that stands under this authority.
    async fn sidecars_under(
        &self,
        authority: &CertificateDer<'static>,
        identity: ClientIdentity,
    ) -> SidecarsClient<Channel> {
        let trust = Trust::Authorities(vec![authority.clone()]);
        let address = self.server.address().to_string();
        SidecarsClient::new(api::connect(&address, trust, Some(identity)).await.unwrap())
    }

    /// Does authd stand under this authority alone?
    async fn is_authd_under(&self, authority: &CertificateDer<'static>) -> bool {
        let trust = Trust::Authorities(vec![authority.clone()]);
        match api::connect(&self.server.address().to_string(), trust, None).await {
            Ok(_) => true,
            Err(ApiError::Untrusted { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    }
}

fn is_users(certificate: &[u8], authority: &CertificateDer<'static>, world: &World) -> bool {
    let cluster = ClusterName::new("main").unwrap();
    let chain = [CertificateDer::from(certificate.to_vec())];
    x509::verify_user(&chain, std::slice::from_ref(authority), &cluster, world.time.now()).is_ok()
}

#[tokio::test]
async fn a_login_is_good_until_the_authority_that_signed_it_is_gone() {
    let world = World::new().await;
    let mut jerry = world.person_with_key("jerry", &["access"]).await;
    world.login(&mut jerry).await;
    let old = world.trusted("user").await.remove(0);
    let mine = async |person: &Person| {
        let mut users = world.users(person.identity()).await;
        users.list_targets(proto::ListTargetsRequest::default()).await.map(drop)
    };
    let mut later = Person { name: jerry.name.clone(), ..Person::new("jerry") };
    later.token = jerry.token.take();
    for phase in ["init", "update_clients", "update_servers"] {
        world.rotate("user", phase).await;
        mine(&jerry).await.unwrap();
        let new = world.login(&mut later).await.tls_certificate;
        assert_eq!(is_users(&new, &old, &world), phase == "init", "{phase}");
        mine(&later).await.unwrap();
    }
    let sidecar = world.sidecar(&["pg"]).await;
    let (_, mut stream) = snapshot(&world, &sidecar).await;
    world.rotate("user", "standby").await;
    assert_eq!(refused(mine(&jerry).await).0, Code::Unauthenticated);
    mine(&later).await.unwrap();
    // Sidecars are told who is left.
    let Event::Put(Put { item: Some(Item::Authority(told)) }) = next_change(&mut stream).await else {
        panic!("not an authority")
    };
    assert_eq!((told.r#type.as_str(), told.certificates.len(), told.ssh_public_keys.len()), ("user", 1, 1));
    assert_ne!(told.certificates[0], old.to_vec());
}

#[tokio::test]
async fn a_rollback_trusts_what_the_new_authority_signed_until_its_end() {
    let world = World::new().await;
    let mut jerry = world.person_with_key("jerry", &["access"]).await;
    let old = world.trusted("user").await.remove(0);
    world.rotate("user", "init").await;
    world.rotate("user", "update_clients").await;
    world.login(&mut jerry).await;
    world.rotate("user", "rollback").await;
    let list = proto::ListTargetsRequest::default();
    world.users(jerry.identity()).await.list_targets(list.clone()).await.unwrap();
    let again = world.login(&mut jerry).await.tls_certificate;
    assert!(is_users(&again, &old, &world), "the old one signs");
    world.rotate("user", "standby").await;
    assert_eq!(world.trusted("user").await, [old]);
    world.users(jerry.identity()).await.list_targets(list).await.unwrap();
}

#[tokio::test]
async fn authd_and_sidecars_show_the_new_host_authority_from_update_servers_on() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["pg"]).await;
    let old = world.trusted("host").await.remove(0);
    for phase in ["init", "update_clients"] {
        world.rotate("host", phase).await;
        assert_eq!(world.trusted("host").await[0], old, "{phase}");
        assert!(world.is_authd_under(&old).await, "{phase}");
    }
    world.rotate("host", "update_servers").await;
    let new = world.trusted("host").await.remove(0);
    assert_ne!(new, old);
    // authd makes its own certificate anew in a moment.
    let changed = async { while !world.is_authd_under(&new).await {} };
    timeout(Duration::from_secs(30), changed).await.unwrap();
    assert!(!world.is_authd_under(&old).await);
    // A sidecar that has not renewed yet is still one.
    let mut sidecars = world.sidecars_under(&new, sidecar.identity()).await;
    let key = Key::new();
    let renewed = sidecars.renew_certificate(certificate_request(&key, &["pg"])).await.unwrap().into_inner();
    assert_eq!(renewed.host_authorities, [new.to_vec(), old.to_vec()]);
    world.rotate("host", "standby").await;
    // The connection of before is cut off, and what the old one signed is nothing any more.
    let cut_off = async {
        loop {
            match sidecars.renew_certificate(certificate_request(&key, &["pg"])).await {
                Err(status) if status.code() == Code::Unauthenticated => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    timeout(Duration::from_secs(30), cut_off).await.unwrap();
    let identity = key.with(renewed.certificate);
    let mut sidecars = world.sidecars_under(&new, identity).await;
    sidecars.renew_certificate(certificate_request(&key, &["pg"])).await.unwrap();
}

#[tokio::test]
async fn databases_are_signed_for_by_the_new_authority_at_once_and_told_of_both_for_clients() {
    let world = World::new().await;
    let old = world.trusted("db").await.remove(0);
    world.rotate("db", "init").await;
    world.rotate("db_client", "init").await;
    let request = proto::SignDatabaseCertificateRequest {
        public_key: Key::new().spki,
        hosts: vec!["db.example.com".into()],
        ttl_seconds: 0,
    };
    let signed = world.admin().await.sign_database_certificate(request).await.unwrap().into_inner();
    let clients = world.trusted("db_client").await;
    let told: Vec<_> = signed.client_authorities.into_iter().map(CertificateDer::from).collect();
    assert_eq!((told.len(), &told), (2, &clients));
    let trusted = world.trusted("db").await;
    assert!(trusted.len() == 2 && trusted[1] == old);
    let leaf = CertificateDer::from(signed.certificate);
    let leaf = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let is_under = |authority| {
        let anchors = [webpki::anchor_from_trusted_cert(authority).unwrap()];
        let (algorithms, server) = (webpki::ALL_VERIFICATION_ALGS, webpki::KeyUsage::server_auth());
        let now = UnixTime::since_unix_epoch(world.time.now().duration_since(UNIX_EPOCH).unwrap());
        leaf.verify_for_usage(algorithms, &anchors, &[], now, server, None, None).is_ok()
    };
    assert!(is_under(&trusted[0]) && !is_under(&old));
}

#[tokio::test]
async fn status_tells_how_far_it_is_and_the_trail_who_did_it() {
    let world = World::new().await;
    world.rotate("db", "init").await;
    let status = world.admin().await.status(proto::StatusRequest {}).await.unwrap().into_inner();
    let db = status.authorities.iter().find(|authority| authority.r#type == "db").unwrap();
    assert_eq!((db.rotation.as_str(), db.grace_seconds, db.last_rotated), ("init", 0, 0));
    assert_ne!(db.started, 0);
    let events = world.events("cert_authority.rotate").await;
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["code"], &events[0]["user"]), (&"TTS30I".into(), &"root".into()));
    assert_eq!(events[0]["spki_sha256"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_host_authority_waits_for_each_sidecar_that_a_phase_would_lock_out() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["pg"]).await;
    let old = world.trusted("host").await.remove(0);
    let may = async |phase: &str| world.try_to_rotate("host", phase, false).await;
    may("init").await.unwrap();
    may("update_clients").await.unwrap();
    // It does not know the new authority, under which authd would stand.
    let behind = world.behind().await;
    assert_eq!((behind.len(), &behind[0].target_names), (1, &vec!["pg".to_owned()]));
    assert_eq!((behind[0].last_seen, &behind[0].sidecar_id), (0, &sidecar.id));
    let (code, said) = refused(may("update_servers").await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(said.contains("would lock out a sidecar") && said.contains(&sidecar.id), "{said}");
    // What it was given counts once it is shown.
    let second = world.renew(&sidecar, &old).await;
    refused(may("update_servers").await);
    world.announce(&second, &old).await;
    assert_eq!(world.behind().await, []);
    may("update_servers").await.unwrap();

    let new = world.trusted("host").await.remove(0);
    let changed = async { while !world.is_authd_under(&new).await {} };
    timeout(Duration::from_secs(30), changed).await.unwrap();
    assert_ne!(world.behind().await[0].last_seen, 0);
    refused(may("standby").await);
    // One that has joined since is no hindrance.
    let (third, _) = (world.renew(&second, &new).await, world.sidecar(&["other"]).await);
    world.announce(&third, &new).await;
    may("standby").await.unwrap();
    world.announce(&third, &new).await;
    assert_eq!(
        world.events("cert_authority.rotate").await.iter().filter(|e| e.get("left_behind").is_some()).count(),
        0
    );
}

#[tokio::test]
async fn a_rotation_waits_for_nobody_who_is_locked_out_or_whose_certificate_is_over_and_force_is_on_record() {
    let world = World::new().await;
    let old = world.trusted("host").await.remove(0);
    let [locked, away] = [world.sidecar(&["pg"]).await, world.sidecar(&["pg"]).await];
    world.rotate("host", "init").await;
    world.rotate("host", "update_clients").await;
    assert_eq!(world.behind().await.len(), 2);
    // The way back is open.
    world.try_to_rotate("host", "rollback", false).await.unwrap();
    world.try_to_rotate("host", "standby", false).await.unwrap();
    for phase in ["init", "update_clients"] {
        world.try_to_rotate("host", phase, false).await.unwrap();
    }
    let lock = format!(
        "kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{server_id: {}}}}}\n",
        locked.id
    );
    world.put(&lock).await;
    let behind = world.behind().await;
    assert_eq!((behind.len(), &behind[0].sidecar_id), (1, &away.id));
    world.try_to_rotate("host", "update_servers", true).await.unwrap();
    let events = world.events("cert_authority.rotate").await;
    assert_eq!(events.last().unwrap()["left_behind"], serde_json::json!([away.id]));
    refused(world.try_to_rotate("host", "standby", false).await);
    world.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(world.behind().await, []);
    world.try_to_rotate("host", "standby", false).await.unwrap();
    assert_ne!(world.trusted("host").await, [old]);
}
