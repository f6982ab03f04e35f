//! A small cluster: jerry, his security key, two databases, and a sidecar's replica of it all.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use rustls_pki_types::CertificateDer;

use super::{
    Ca, Draft, HOUR, MINUTE, SecurityKey, now,
    security_key::{ORIGIN, RP_ID, Touch},
    ssh,
};
use crate::{
    authorizer::{Authorizer, SessionRequest},
    clock::{Clock, ClockHandle, unix_millis},
    credential::Credential,
    denied::{AccessDenied, DenyReason},
    identity::{
        ClusterName, DeviceId, Identity, Login, MfaEvidence, Protocol, RoleName, Route, TargetName, Traits,
        UserName,
    },
    key::generate_p256,
    permit::Permit,
    policy::{Target, TargetKind},
    proto::{self, WatchEvent, watch_event},
    replica::Replica,
};

pub(crate) const ACCESS_DEV: &str = r#"{"kind":"role","version":"v6","metadata":{"name":"access-dev"},
    "spec":{"allow":{"db_labels":{"env":"dev"},"db_users":["app"],"db_names":["shop"],
                     "node_labels":{"env":"dev"},"logins":["jerry"]}}}"#;
pub(crate) const ACCESS_PROD: &str = r#"{"kind":"role","version":"v6","metadata":{"name":"access-prod"},
    "spec":{"options":{"require_session_mfa":true},
            "allow":{"db_labels":{"env":"prod"},"db_users":["app"],"db_names":["shop"],
                     "node_labels":{"env":"prod"},"logins":["jerry","root"]}}}"#;

pub(crate) struct World {
    pub(crate) user_ca: Ca,
    pub(crate) host_ca: Ca,
    pub(crate) key: SecurityKey,
    pub(crate) clock: ClockHandle,
    pub(crate) replica: Arc<Replica>,
    pub(crate) authorizer: Authorizer,
    /// SubjectPublicKeyInfo of the session's key.
    pub(crate) spki: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self::empty();
        for event in world.events() {
            world.apply(event).unwrap();
        }
        assert!(world.replica.is_ready());
        world
    }

    /// A replica that has heard nothing yet.
    pub(crate) fn empty() -> Self {
        let (clock, handle) = Clock::fixed(now());
        let replica = Replica::new(clock.clone());
        Self {
            user_ca: Ca::new("user authority"),
            host_ca: Ca::new("host authority"),
            key: SecurityKey::new(),
            clock: handle,
            authorizer: Authorizer::for_sidecar(Arc::clone(&replica), clock, Some(SIDECAR_ID.to_owned())),
            replica,
            spki: generate_p256().unwrap().1,
        }
    }

    /// A whole snapshot, its end included.
    pub(crate) fn events(&self) -> Vec<watch_event::Event> {
        vec![
            watch_event::Event::Cluster(proto::ClusterFacts {
                cluster_name: "example".to_owned(),
                webauthn_rp_id: RP_ID.to_owned(),
                webauthn_origins: vec![ORIGIN.to_owned()],
            }),
            authority("user", &self.user_ca),
            authority("host", &self.host_ca),
            resource("role", "access-dev", ACCESS_DEV),
            resource("role", "access-prod", ACCESS_PROD),
            preference(""),
            device(&self.key, "jerry"),
            watch_event::Event::SnapshotEnd(watch_event::SnapshotEnd {}),
        ]
    }

    pub(crate) fn apply(&self, event: watch_event::Event) -> Result<(), crate::replica::ReplicaError> {
        self.replica.apply(WatchEvent { event: Some(event) })
    }

    /// jerry, as of his login.
    pub(crate) fn login(&self) -> Identity {
        Identity {
            user: UserName::new("jerry").unwrap(),
            cluster: ClusterName::new("example").unwrap(),
            roles: ["access-dev", "access-prod"].map(|role| RoleName::new(role).unwrap()).to_vec(),
            traits: Traits::from([("db_users".to_owned(), vec!["app".to_owned()])]),
            logins: vec!["jerry".to_owned()],
            mfa: MfaEvidence::None,
            route: None,
            previous_expiry: None,
            login_ip: Some(client()),
            not_after: now() + HOUR,
        }
    }

    /// jerry, for one session at `target`, without a touch.
    pub(crate) fn routed(&self, target: &str) -> Identity {
        Identity {
            route: Some(route(target)),
            previous_expiry: Some(now() + HOUR),
            not_after: now() + MINUTE,
            ..self.login()
        }
    }

    /// jerry, for one session at `target`, touched for.
    pub(crate) fn touched(&self, target: &str) -> Identity {
        self.touched_with(&self.key, self.key.id, &self.touch(target))
    }

    pub(crate) fn touched_with(&self, key: &SecurityKey, device: DeviceId, touch: &Touch) -> Identity {
        let mut receipt = key.sign(touch);
        receipt.device_id = device.to_string();
        let target = touch.intent.route.as_ref().unwrap().target_name.clone();
        Identity {
            mfa: MfaEvidence::Receipt { device, receipt: receipt.encode_to_vec() },
            ..self.routed(&target)
        }
    }

    /// jerry, for one session at `target`, with nothing but authd's word for a device.
    pub(crate) fn claimed(&self, target: &str, device: DeviceId) -> Identity {
        Identity { mfa: MfaEvidence::Claimed { device }, ..self.routed(target) }
    }

    pub(crate) fn touch(&self, target: &str) -> Touch {
        Touch::new(proto::SessionIntent {
            cluster: "example".to_owned(),
            user: "jerry".to_owned(),
            route: Some(proto::Route {
                target_kind: "database".to_owned(),
                target_name: target.to_owned(),
                protocol: "postgres".to_owned(),
                login: "app".to_owned(),
                db_name: "shop".to_owned(),
            }),
            public_key_sha256: digest(&SHA256, &self.spki).as_ref().to_vec(),
            client_address: client().to_string(),
            time: unix_millis(now() - MINUTE),
            nonce: vec![7; 16],
        })
    }

    /// jerry, for one SSH session at `target` as `login`, without a touch.
    pub(crate) fn node_routed(&self, target: &str, login: &str) -> Identity {
        let route = Route { login: node_login(login), protocol: Protocol::Ssh, ..route(target) };
        Identity { route: Some(route), logins: vec![login.to_owned()], ..self.routed(target) }
    }

    /// The same, touched for with the key whose hash this is.
    pub(crate) fn node_touched(&self, target: &str, login: &str, key_sha256: &[u8]) -> Identity {
        let mut touch = self.touch(target);
        touch.intent.public_key_sha256 = key_sha256.to_vec();
        touch.intent.route = Some(node_route(target, login));
        let receipt = self.key.sign(&touch).encode_to_vec();
        let mfa = MfaEvidence::Receipt { device: self.key.id, receipt };
        Identity { mfa, ..self.node_routed(target, login) }
    }

    pub(crate) fn certify(&self, identity: &Identity) -> CertificateDer<'static> {
        self.user_ca.sign(&Draft::user(identity, self.spki.clone()))
    }

    pub(crate) fn authorize(&self, identity: &Identity, target: &str) -> Result<Permit, AccessDenied> {
        self.authorizer.authorize(&Credential::X509(&[self.certify(identity)]), &request(target))
    }

    pub(crate) fn refusal(&self, identity: &Identity, target: &str) -> DenyReason {
        self.authorize(identity, target).expect_err("it must be refused").reason
    }
}

pub(crate) const SIDECAR_ID: &str = "5e1c4a51-9d1f-4f0b-8a39-b6a0d1d9a001";

pub(crate) fn client() -> IpAddr {
    IpAddr::from([192, 0, 2, 7])
}

pub(crate) fn login() -> Login {
    Login::Database { user: "app".to_owned(), name: "shop".to_owned() }
}

pub(crate) fn node_login(login: &str) -> Login {
    Login::Node { login: login.to_owned() }
}

pub(crate) fn node_route(target: &str, login: &str) -> proto::Route {
    proto::Route {
        target_kind: "node".to_owned(),
        target_name: target.to_owned(),
        protocol: "ssh".to_owned(),
        login: login.to_owned(),
        db_name: String::new(),
    }
}

/// SHA-256 of the key that SSH certificates of the tests certify, in its wire form.
pub(crate) fn ssh_key_sha256() -> Vec<u8> {
    let wire = ssh::key(ssh::USER).public_key().to_bytes().unwrap();
    digest(&SHA256, &wire).as_ref().to_vec()
}

/// An SSH session at `dev-host` (env: dev) or `prod-host` (env: prod).
pub(crate) fn node_request(target: &str, login: &str) -> SessionRequest {
    let database = request(target);
    let target = Target { kind: TargetKind::Node, protocol: Protocol::Ssh, ..(*database.target).clone() };
    SessionRequest { target: Arc::new(target), login: node_login(login), ..database }
}

pub(crate) fn route(target: &str) -> Route {
    Route { target: TargetName::new(target).unwrap(), protocol: Protocol::Postgres, login: login() }
}

/// A session at `dev-pg` (label env: dev) or `prod-pg` (env: prod).
pub(crate) fn request(target: &str) -> SessionRequest {
    let environment = target.split('-').next().unwrap().to_owned();
    SessionRequest {
        target: Arc::new(Target {
            kind: TargetKind::Database,
            name: TargetName::new(target).unwrap(),
            protocol: Protocol::Postgres,
            labels: BTreeMap::from([("env".to_owned(), environment)]),
        }),
        login: login(),
        client: client(),
    }
}

pub(crate) fn resource(kind: &str, name: &str, json: &str) -> watch_event::Event {
    put(watch_event::put::Item::Resource(proto::Resource {
        kind: kind.to_owned(),
        name: name.to_owned(),
        json: json.to_owned(),
    }))
}

/// The auth preference with members of `spec` in JSON, such as `"locking_mode":"strict"`.
pub(crate) fn preference(members: &str) -> watch_event::Event {
    let json = format!(
        r#"{{"kind":"cluster_auth_preference","version":"v2","metadata":{{"name":"cluster-auth-preference"}},"spec":{{{members}}}}}"#
    );
    resource("cluster_auth_preference", "cluster-auth-preference", &json)
}

/// A lock with its target in JSON, such as `"user":"jerry"`.
pub(crate) fn lock(target: &str) -> watch_event::Event {
    let json = format!(
        r#"{{"kind":"lock","version":"v2","metadata":{{"name":"stop"}},"spec":{{"target":{{{target}}},"message":"Suspicious activity."}}}}"#
    );
    resource("lock", "stop", &json)
}

/// Certificates of `user` that begin before this moment are of logins that have ended.
pub(crate) fn ended_logins(user: &str, not_before: SystemTime) -> watch_event::Event {
    put(watch_event::put::Item::EndedLogins(proto::EndedLogins {
        user: user.to_owned(),
        not_before: unix_millis(not_before),
        at: unix_millis(not_before),
    }))
}

pub(crate) fn device(key: &SecurityKey, user: &str) -> watch_event::Event {
    put(watch_event::put::Item::DeviceKey(proto::DeviceKey {
        id: key.id.to_string(),
        user: user.to_owned(),
        kind: proto::DeviceKind::Webauthn.into(),
        cose_public_key: key.cose(),
    }))
}

pub(crate) fn totp(id: DeviceId, user: &str) -> watch_event::Event {
    put(watch_event::put::Item::DeviceKey(proto::DeviceKey {
        id: id.to_string(),
        user: user.to_owned(),
        kind: proto::DeviceKind::Totp.into(),
        cose_public_key: vec![],
    }))
}

pub(crate) fn authority(kind: &str, ca: &Ca) -> watch_event::Event {
    let ssh = ssh::key(ssh::AUTHORITY).public_key().to_openssh().unwrap();
    put(watch_event::put::Item::Authority(proto::Authority {
        r#type: kind.to_owned(),
        certificates: vec![ca.certificate.to_vec()],
        ssh_public_keys: if kind == "user" { vec![ssh] } else { vec![] },
    }))
}

pub(crate) fn delete(kind: &str, name: &str) -> watch_event::Event {
    watch_event::Event::Delete(watch_event::Delete { kind: kind.to_owned(), name: name.to_owned() })
}

fn put(item: watch_event::put::Item) -> watch_event::Event {
    watch_event::Event::Put(watch_event::Put { item: Some(item) })
}
