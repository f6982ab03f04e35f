//! Who may: identities, certificates, roles, decisions, permits and the API of Touchstone.
//!
//! Touchstone lets nobody in to a database or a host who does not hold a short-lived certificate that the auth service
//! issued *after a touch of a security key, for this very session*. This crate holds the rules of that sentence. It opens
//! no port and signs nothing: `authd` signs, the sidecar listens, and both ask here.
//!
//! # Words
//!
//! | word | means |
//! |---|---|
//! | client → sidecar → upstream | who connects; we; the real database or sshd |
//! | target | what a sidecar guards: a *database* or a *node* (SSH host), with a name and labels |
//! | [`Identity`] | who a certificate says is there: user, roles, traits, MFA evidence, route, expiry |
//! | [`Login`] | what the client asks to be at the target: database user and name, or an SSH login |
//! | [`Access`](policy::Access) | roles and traits, target, login, MFA status: all that a decision depends on |
//! | [`Decision`](policy::Decision) | allow, deny, or "MFA required", with the role that decided |
//! | [`Permit`] | the value that one must hold to open a session; it knows when it ends |
//! | [`receipt`] | what a security key was touched for, with the key's signature: intent and assertion |
//! | login certificate | 12 hours, on disk; names a user and opens what needs no touch |
//! | session certificate | a minute, in memory; names a user *and* a [`Route`]: one target, one login |
//! | [`lock`] | an administrator's immediate stop, by user, role, login, MFA device or target |
//! | [`Replica`] | a sidecar's live copy of roles, auth preference, locks, ended logins, authorities and device keys |
//!
//! # The life of a decision
//!
//! ```text
//!  tsh                       authd                              sidecar
//!   │  "a session at prod-pg"  │                                   │
//!   ├─────────────────────────►│ intent = cluster, user, route,    │
//!   │   challenge = SHA-256    │          SHA-256(session key), …  │
//!   │◄─────────────────────────┤                                   │
//!   │ touch                    │                                   │
//!   ├─────────────────────────►│ checks, and signs a certificate   │
//!   │◄─────────────────────────┤ that holds the receipt            │
//!   │                          │                                   │
//!   ├──────────────────── TLS with that certificate ──────────────►│ Authorizer::authorize
//!   │                          ├──── roles, locks, device keys ───►│   = replica + certificate
//!   │                          │     (Replica, live)               │   → Permit, or AccessDenied
//! ```
//!
//! The sidecar asks nobody: [`Authorizer::authorize`] reads the certificate ([`certificate`]), verifies the key's signature in
//! it against the device's public key ([`receipt`]), and decides by the roles ([`policy`]), all from its replica. A flag "MFA
//! passed" in a certificate proves nothing here; a forged certificate would need a forged touch. The [`Permit`] then lives
//! as long as the session, and [`Permit::ended`] completes the moment a lock or a change of policy takes the right away.
//!
//! # One decision, worked through
//!
//! Jerry has two roles. What is labelled `env: prod` wants a touch for each session:
//!
//! ```
//! use std::{collections::BTreeMap, sync::Arc};
//! use auth::{
//!     Login, Protocol, RoleName, TargetName, Traits,
//!     policy::{Access, Decision, MfaRequiredBy, MfaStatus, RoleSet, Target, TargetKind, evaluate},
//!     resource::{AuthPreference, Resource, Role, parse_documents},
//! };
//!
//! let roles: Vec<Arc<Role>> = parse_documents("
//! kind: role
//! version: v6
//! metadata: {name: access-dev}
//! spec: {allow: {db_labels: {env: dev}, db_users: [app], db_names: [shop]}}
//! ---
//! kind: role
//! version: v6
//! metadata: {name: access-prod}
//! spec:
//!   options: {require_session_mfa: true}
//!   allow: {db_labels: {env: prod}, db_users: [app], db_names: [shop]}
//! ")?
//! .into_iter()
//! .filter_map(|parsed| match parsed.resource {
//!     Resource::Role(role) => Some(Arc::new(role)),
//!     _ => None,
//! })
//! .collect();
//!
//! // The roles that Jerry's certificate names, compiled for his traits.
//! let names = vec![RoleName::new("access-dev")?, RoleName::new("access-prod")?];
//! let known = |name: &RoleName| roles.iter().find(|role| role.metadata.name == *name).cloned();
//! let compiled = RoleSet::resolve(&names, &Traits::new(), &known, &AuthPreference::default())?;
//!
//! let prod = Target {
//!     kind: TargetKind::Database,
//!     name: TargetName::new("prod-pg")?,
//!     protocol: Protocol::Postgres,
//!     labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
//! };
//! let untouched = Access {
//!     roles: names,
//!     traits: Traits::new(),
//!     target: Arc::new(prod),
//!     login: Login::Database { user: "app".to_owned(), name: "shop".to_owned() },
//!     mfa: MfaStatus::NotVerified,
//! };
//! let by = MfaRequiredBy::Role(RoleName::new("access-prod")?);
//! assert_eq!(evaluate(&compiled, &untouched), Decision::MfaRequired { by });
//!
//! // With a touch for this very session, which only a verified receipt proves:
//! let touched = Access { mfa: MfaStatus::Verified, ..untouched };
//! assert_eq!(evaluate(&compiled, &touched), Decision::Allow { role: RoleName::new("access-prod")? });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to read on
//!
//! [`authorizer`] is the door: its first lines list every check in order. [`receipt`] is the heart. [`certificate`],
//! [`policy`], [`lock`] and [`replica`] are what the door is made of; [`api`] is the way to authd.

pub mod api;
pub mod authorizer;
mod cache;
pub mod certificate;
pub mod clock;
pub mod credential;
pub mod denied;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod identity;
pub mod key;
pub mod lock;
pub mod log;
pub mod permit;
pub mod policy;
pub mod proto;
pub mod receipt;
pub mod repeated;
pub mod replica;
pub mod resource;
pub mod text;

#[cfg(test)]
#[cfg(not(feature = "testing"))]
mod testing;
/// For benches alone; no build of a program has it.
#[cfg(feature = "testing")]
#[doc(hidden)]
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests panic freely"
)]
pub mod testing;

pub use authorizer::{Authorizer, SessionRequest};
pub use clock::Clock;
pub use credential::{Credential, OtpProof};
pub use denied::{AccessDenied, DenyReason};
pub use identity::{
    ClusterName, DeviceId, Identity, Login, MfaEvidence, Protocol, RoleName, Route, TargetName, Traits,
    UserName,
};
pub use permit::{Ended, Permit};
pub use replica::Replica;
