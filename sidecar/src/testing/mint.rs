//! Mints certificates with authd's own writer, and the events that a replica is built from. Shared with the integration
//! tests.

use std::time::{Duration, SystemTime};

use auth::{
    certificate::x509::{self, RECEIPT_OID_DER, receipt_extension_value},
    identity::{
        ClusterName, DeviceId, Identity, Login, MfaEvidence, Protocol, RoleName, Route, TargetName, Traits,
        UserName,
    },
    key::generate_p256,
    proto::{self, WatchEvent, watch_event},
};
use authd::ca::{
    Attribute, Authority, AuthorityKind, Extension, P256PublicKey, San, SshPublicKey, SshTemplate, Template,
    Usage,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use uuid::Uuid;

pub(crate) const CLUSTER: &str = "example";
/// The database user and database that jerry may be.
pub(crate) const DB_USER: &str = "app";
pub(crate) const DB_NAME: &str = "shop";
/// The account at hosts that jerry may be.
pub(crate) const LOGIN: &str = "app";
/// jerry's one-time password device.
pub(crate) const OTP_DEVICE: DeviceId = DeviceId(Uuid::from_u128(7));

pub(crate) struct Authorities {
    pub(crate) user: Authority,
    pub(crate) host: Authority,
    pub(crate) db: Authority,
    pub(crate) db_client: Authority,
}

/// A certificate and its key.
pub(crate) struct Minted {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Clone for Minted {
    fn clone(&self) -> Self {
        Self { certificate: self.certificate.clone(), key: self.key.clone_key() }
    }
}

impl Authorities {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now() - Duration::from_secs(3600);
        let make = |kind| Authority::generate(kind, CLUSTER, now).unwrap();
        Self {
            user: make(AuthorityKind::User),
            host: make(AuthorityKind::Host),
            db: make(AuthorityKind::Db),
            db_client: make(AuthorityKind::DbClient),
        }
    }

    pub(crate) fn user(&self, identity: &Identity) -> Minted {
        user_by(&self.user, identity)
    }

    /// An SSH certificate in its wire form.
    pub(crate) fn ssh_user(&self, identity: &Identity) -> Vec<u8> {
        let key = protocols::ssh::SshKey::generate().unwrap();
        let template = SshTemplate {
            key_id: identity.user.to_string(),
            principals: identity.logins.clone(),
            not_before: SystemTime::now() - Duration::from_secs(60),
            not_after: identity.not_after,
            critical_options: vec![],
            extensions: auth::certificate::openssh::extensions(identity),
        };
        let issued = self.user.sign_ssh(&SshPublicKey::from_wire(key.public()).unwrap(), &template).unwrap();
        STANDARD.decode(issued.line.split(' ').nth(1).unwrap()).unwrap()
    }

    /// A whole snapshot: roles `access-dev` (no MFA) and `access-prod` (MFA), all authorities, jerry's device.
    pub(crate) fn snapshot(&self) -> Vec<WatchEvent> {
        let facts = proto::ClusterFacts {
            cluster_name: CLUSTER.to_owned(),
            webauthn_rp_id: "localhost".to_owned(),
            webauthn_origins: vec!["https://localhost".to_owned()],
        };
        let mut events = vec![event(watch_event::Event::Cluster(facts))];
        for authority in [&self.user, &self.host, &self.db, &self.db_client] {
            events.push(put(watch_event::put::Item::Authority(proto::Authority {
                r#type: authority.kind().as_str().to_owned(),
                certificates: vec![authority.certificate().to_vec()],
                ssh_public_keys: authority.ssh_public_key().into_iter().collect(),
            })));
        }
        events.push(role("access-dev", "dev", "false"));
        events.push(role("access-prod", "prod", "true"));
        events.push(resource(
            "cluster_auth_preference",
            "cluster-auth-preference",
            r#"{"kind":"cluster_auth_preference","version":"v2","metadata":{"name":"cluster-auth-preference"},"spec":{}}"#,
        ));
        events.push(put(watch_event::put::Item::DeviceKey(proto::DeviceKey {
            id: OTP_DEVICE.to_string(),
            user: "jerry".to_owned(),
            kind: proto::DeviceKind::Totp.into(),
            cose_public_key: vec![],
        })));
        events.push(event(watch_event::Event::SnapshotEnd(watch_event::SnapshotEnd {})));
        events
    }
}

pub(crate) fn user_by(authority: &Authority, identity: &Identity) -> Minted {
    let subject = x509::subject(identity)
        .into_iter()
        .map(|attribute| Attribute { oid: attribute.oid, value: attribute.value })
        .collect();
    let (key, public_key) = generate_p256().unwrap();
    let mut template = template(subject, &public_key, Usage::Client, vec![]);
    template.not_after = identity.not_after;
    if let MfaEvidence::Receipt { receipt, .. } = &identity.mfa {
        let value = receipt_extension_value(receipt);
        template.extensions = vec![Extension { oid_der: RECEIPT_OID_DER.to_vec(), value }];
    }
    // An expired one began earlier.
    template.not_before = template.not_before.min(identity.not_after - Duration::from_secs(60));
    let certificate = authority.sign(&template).unwrap().der;
    Minted { certificate, key: PrivateKeyDer::Pkcs8(key.clone_key()) }
}

pub(crate) fn sign(
    authority: &Authority,
    subject: Vec<Attribute>,
    usage: Usage,
    names: Vec<San>,
    extensions: Vec<Extension>,
) -> Minted {
    let (key, public_key) = generate_p256().unwrap();
    let template = Template { extensions, ..template(subject, &public_key, usage, names) };
    let certificate = authority.sign(&template).unwrap().der;
    Minted { certificate, key: PrivateKeyDer::Pkcs8(key.clone_key()) }
}

pub(crate) fn template(
    subject: Vec<Attribute>,
    public_key: &[u8],
    usage: Usage,
    names: Vec<San>,
) -> Template {
    let now = SystemTime::now();
    Template {
        subject,
        public_key: P256PublicKey::from_spki(public_key).unwrap(),
        not_before: now - Duration::from_secs(60),
        not_after: now + Duration::from_secs(3600),
        usage,
        names,
        extensions: vec![],
    }
}

/// jerry, as of his login.
pub(crate) fn jerry() -> Identity {
    Identity {
        user: UserName::new("jerry").unwrap(),
        cluster: ClusterName::new(CLUSTER).unwrap(),
        roles: ["access-dev", "access-prod"].map(|role| RoleName::new(role).unwrap()).to_vec(),
        traits: Traits::new(),
        logins: vec![LOGIN.to_owned()],
        mfa: MfaEvidence::None,
        route: None,
        previous_expiry: None,
        login_ip: None,
        not_after: SystemTime::now() + Duration::from_secs(3600),
    }
}

/// jerry, for one session at a target.
pub(crate) fn jerry_for(target: &str) -> Identity {
    let login = Login::Database { user: DB_USER.to_owned(), name: DB_NAME.to_owned() };
    let route = Route { target: TargetName::new(target).unwrap(), protocol: Protocol::Postgres, login };
    let not_after = SystemTime::now() + Duration::from_secs(60);
    Identity { route: Some(route), previous_expiry: Some(jerry().not_after), not_after, ..jerry() }
}

/// The same, with a one-time password.
pub(crate) fn jerry_with_otp(target: &str) -> Identity {
    Identity { mfa: MfaEvidence::Claimed { device: OTP_DEVICE }, ..jerry_for(target) }
}

pub(crate) fn lock_jerry() -> WatchEvent {
    let lock = r#"{"kind":"lock","version":"v2","metadata":{"name":"stop"},"spec":{"target":{"user":"jerry"},"message":"Suspicious activity."}}"#;
    resource("lock", "stop", lock)
}

pub(crate) fn role(name: &str, environment: &str, mfa: &str) -> WatchEvent {
    let json = format!(
        r#"{{"kind":"role","version":"v6","metadata":{{"name":"{name}"}},"spec":{{"options":{{"require_session_mfa":{mfa}}},"allow":{{"db_labels":{{"env":"{environment}"}},"db_users":["{DB_USER}"],"db_names":["{DB_NAME}"],"node_labels":{{"env":"{environment}"}},"logins":["{LOGIN}"]}}}}}}"#
    );
    resource("role", name, &json)
}

pub(crate) fn resource(kind: &str, name: &str, json: &str) -> WatchEvent {
    put(watch_event::put::Item::Resource(proto::Resource {
        kind: kind.to_owned(),
        name: name.to_owned(),
        json: json.to_owned(),
    }))
}

fn put(item: watch_event::put::Item) -> WatchEvent {
    event(watch_event::Event::Put(watch_event::Put { item: Some(item) }))
}

fn event(event: watch_event::Event) -> WatchEvent {
    WatchEvent { event: Some(event) }
}
