//! The one place where somebody is let in. HOT.
//!
//! [`Authorizer::authorize`] looks at everything, in this order, and the first thing that is wrong is the answer:
//!
//! 1. the replica is complete;
//! 2. the certificate: genuine, a user's, of this cluster, in date ([`x509::verify_user`]);
//! 3. the route, where it has one: this target, this protocol, and a login that it covers ([`Route::covers`]: this one);
//! 4. the MFA evidence, where it has any: a registered device of this user; a receipt that proves the touch for this session;
//!    a one-time code only where the cluster takes codes. Evidence that proves nothing is refused even where none is needed;
//! 5. what may also change while the session lives: no lock in force; every role known; the replica not stale, where
//!    locking is strict; the address, where a role pins it; and the policy's decision;
//! 6. the age of the touch, where the roles set `mfa_verification_interval`: at most that and [`CLOCK_SKEW`]. Counted from the
//!    time that the security key signed, so authd cannot make an old touch young by a long or a new certificate; for a
//!    one-time code, from the beginning of the certificate. Without that option the session certificate's own life is the
//!    bound: with a receipt it begins at most a challenge's life after the touch. Ends no session that has begun.
//!
//! Only step 5's decision is ever remembered. A [`Permit`] comes from here and from nowhere else.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;

use crate::{
    cache::{CompiledRoles, DecisionCache, RoleSetCache},
    certificate::{CertificateError, RejectedCertificate, VerifiedCertificate, x509},
    clock::Clock,
    denied::{AccessDenied, DenyReason},
    identity::{DeviceId, Identity, Login, MfaEvidence, RoleName, Route},
    lock,
    permit::Permit,
    policy::{Access, Decision, MfaStatus, Target},
    receipt::{self, CLOCK_SKEW},
    replica::{DeviceKind, Replica, STALE_AFTER, Snapshot},
    resource::LockingMode,
};

#[cfg(test)]
mod tests;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// Where to.
    pub target: Arc<Target>,
    /// As whom.
    pub login: Login,
    /// From where, as the sidecar sees it.
    pub client: IpAddr,
}

/// Decides who may open a session. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct Authorizer(Arc<Core>);

pub(crate) struct Core {
    pub(crate) replica: Arc<Replica>,
    pub(crate) clock: Clock,
    sidecar_id: Option<String>,
    roles: RoleSetCache,
    decisions: DecisionCache,
}

/// A session as it was let in: what stays true of it.
pub(crate) struct Session {
    pub(crate) certificate: VerifiedCertificate,
    pub(crate) request: SessionRequest,
    pub(crate) mfa: Mfa,
}

/// What was proven about MFA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mfa {
    NotVerified,
    Verified {
        device: DeviceId,
        /// When the device answered, by the best evidence that there is.
        at: SystemTime,
    },
}

/// How things are, as of one moment: everything in one judgement is judged by the same.
pub(crate) struct View {
    /// Of this snapshot, or of an older one: see [`Replica::age`].
    pub(crate) age: Option<Duration>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) now: SystemTime,
}

/// Why a session may go on, and with what.
pub(crate) struct Standing {
    pub(crate) decided_by: RoleName,
    pub(crate) roles: Arc<CompiledRoles>,
}

impl Authorizer {
    /// Decides from a replica, by a clock.
    #[must_use]
    pub fn new(replica: Arc<Replica>, clock: Clock) -> Self {
        Self::for_sidecar(replica, clock, None)
    }

    /// Also knows by which id locks may name the sidecar (`server_id`).
    #[must_use]
    pub fn for_sidecar(replica: Arc<Replica>, clock: Clock, sidecar_id: Option<String>) -> Self {
        let (roles, decisions) = (RoleSetCache::new(), DecisionCache::new());
        Self(Arc::new(Core { replica, clock, sidecar_id, roles, decisions }))
    }

    /// Below the door, for what is measured there.
    #[cfg(feature = "testing")]
    pub(crate) fn core(&self) -> &Core {
        &self.0
    }

    /// Lets somebody in, or says why not. `chain` is what the client presented and proved to hold the key of: the caller
    /// has verified the handshake's signature and nothing else. No network call; any input is answered.
    ///
    /// # Errors
    /// [`AccessDenied`]: the first check that failed, and who asked, where that is certain.
    pub fn authorize(
        &self,
        chain: &[CertificateDer<'_>],
        request: &SessionRequest,
    ) -> Result<Permit, AccessDenied> {
        let view = self.0.view();
        let certificate = certificate(chain, &view.snapshot, view.now)?;
        let denied =
            |identity: &Identity, reason| AccessDenied { reason, identity: Some(Box::new(identity.clone())) };

        let mfa = check_route(&certificate.identity, request)
            .and_then(|()| verify_mfa(&certificate, &view.snapshot))
            .map_err(|reason| denied(&certificate.identity, reason))?;
        let session = Session { certificate, request: request.clone(), mfa };
        let standing = self.0.standing(&session, &view).and_then(|standing| {
            check_mfa_age(session.mfa, standing.roles.set.options().mfa_verification_interval, view.now)?;
            Ok(standing)
        });
        match standing {
            Ok(standing) => Ok(Permit::new(Arc::clone(&self.0), session, standing)),
            Err(reason) => Err(denied(&session.certificate.identity, reason)),
        }
    }
}

fn certificate(
    chain: &[CertificateDer<'_>],
    snapshot: &Snapshot,
    now: SystemTime,
) -> Result<VerifiedCertificate, AccessDenied> {
    let anonymous = |reason| AccessDenied { reason, identity: None };
    let cluster = snapshot.cluster().filter(|_| snapshot.is_ready());
    let cluster = cluster.ok_or_else(|| anonymous(DenyReason::ReplicaNotReady))?;
    x509::verify_user(chain, snapshot.user_authorities(), cluster, now).map_err(
        |RejectedCertificate { error, identity }| match error {
            CertificateError::Absent => anonymous(DenyReason::NoCertificate),
            error => AccessDenied { reason: DenyReason::Certificate(error), identity },
        },
    )
}

/// A session certificate opens the session that it is for. A login certificate is for none in particular; what it may
/// open, policy says.
fn check_route(identity: &Identity, request: &SessionRequest) -> Result<(), DenyReason> {
    let Some(route) = &identity.route else { return Ok(()) };
    let Route { target, protocol, login } = route;
    if *target != request.target.name {
        let (certificate_for, asked) = (target.clone(), request.target.name.clone());
        return Err(DenyReason::OtherTarget { certificate_for, asked });
    }
    if *protocol != request.target.protocol {
        let (certificate_for, asked) = (*protocol, request.target.protocol);
        return Err(DenyReason::OtherProtocol { certificate_for, asked });
    }
    if !route.covers(&request.login) {
        let (certificate_for, asked) = (login.clone(), request.login.clone());
        return Err(DenyReason::OtherLogin { certificate_for, asked });
    }
    Ok(())
}

/// What the evidence in the certificate proves. authd's word alone is enough only for devices that leave no proof.
fn verify_mfa(certificate: &VerifiedCertificate, snapshot: &Snapshot) -> Result<Mfa, DenyReason> {
    let identity = &certificate.identity;
    let (device, receipt) = match &identity.mfa {
        MfaEvidence::None => return Ok(Mfa::NotVerified),
        MfaEvidence::Claimed { device } => (*device, None),
        MfaEvidence::Receipt { device, receipt } => (*device, Some(receipt)),
    };
    let known = snapshot.device(device).ok_or(DenyReason::UnknownDevice { device })?;
    if known.user != identity.user {
        return Err(DenyReason::DeviceOfAnotherUser { device });
    }
    let at = match (&known.kind, receipt) {
        (DeviceKind::Webauthn(key), Some(receipt)) => {
            verify_receipt(certificate, receipt, device, key, snapshot)?.time
        }
        (DeviceKind::Webauthn(_), None) => return Err(DenyReason::ReceiptMissing { device }),
        (DeviceKind::Totp, Some(_)) => return Err(DenyReason::ReceiptUnexpected { device }),
        (DeviceKind::Totp, None) => {
            let preference = snapshot.auth_preference().ok_or(DenyReason::ReplicaNotReady)?;
            if !preference.second_factor.allows_otp() {
                return Err(DenyReason::OtpNotAccepted { device });
            }
            certificate.not_before
        }
    };
    Ok(Mfa::Verified { device, at })
}

fn check_mfa_age(mfa: Mfa, interval: Option<Duration>, now: SystemTime) -> Result<(), DenyReason> {
    let (Mfa::Verified { at: touched, .. }, Some(interval)) = (mfa, interval) else { return Ok(()) };
    // A touch that is still to come by our clock is at most the skew away: the receipt and the certificate's life say so.
    let age = now.duration_since(touched).unwrap_or_default();
    if age > interval.saturating_add(CLOCK_SKEW) {
        return Err(DenyReason::MfaTooOld { touched, now, interval });
    }
    Ok(())
}

fn verify_receipt(
    certificate: &VerifiedCertificate,
    receipt: &[u8],
    device: DeviceId,
    key: &receipt::DeviceKey,
    snapshot: &Snapshot,
) -> Result<receipt::VerifiedReceipt, DenyReason> {
    let identity = &certificate.identity;
    // A certificate with evidence and without a route does not come this far: see `CertificateError::IncompleteMfa`.
    let route = identity.route.as_ref().ok_or(DenyReason::Certificate(CertificateError::IncompleteMfa))?;
    let relying_party = snapshot.relying_party().ok_or(DenyReason::ReplicaNotReady)?;
    let expected = receipt::Expected {
        cluster: &identity.cluster,
        user: &identity.user,
        device,
        route,
        // The handshake was signed with the key that the certificate holds.
        public_key_sha256: &certificate.public_key_sha256,
        not_before: certificate.not_before,
    };
    receipt::verify(receipt, &expected, key, relying_party).map_err(DenyReason::Receipt)
}

impl Core {
    pub(crate) fn view(&self) -> View {
        let age = self.replica.age();
        View { age, snapshot: self.replica.snapshot(), now: self.clock.now() }
    }

    /// What must hold at the door and for as long as the session lives.
    pub(crate) fn standing(
        &self,
        session: &Session,
        View { age, snapshot, now }: &View,
    ) -> Result<Standing, DenyReason> {
        let identity = &session.certificate.identity;
        let preference = snapshot.auth_preference().filter(|_| snapshot.is_ready());
        let preference = preference.ok_or(DenyReason::ReplicaNotReady)?;
        let subject = lock::Subject {
            identity,
            login: &session.request.login,
            target: &session.request.target.name,
            sidecar_id: self.sidecar_id.as_deref(),
        };
        if let Some(lock) = lock::in_force(snapshot.locks(), &subject, *now) {
            return Err(DenyReason::Locked(Box::new(lock)));
        }
        let roles = self.roles.resolve(identity, snapshot, preference, *now)?;
        check_age(roles.set.options().lock, *age)?;
        check_address(roles.set.options().pin_source_ip, session)?;
        let decided_by = self.decide(&roles, session, snapshot.generation())?;
        Ok(Standing { decided_by, roles })
    }

    fn decide(
        &self,
        roles: &CompiledRoles,
        session: &Session,
        generation: u64,
    ) -> Result<RoleName, DenyReason> {
        let identity = &session.certificate.identity;
        let access = Access {
            roles: identity.roles.clone(),
            traits: identity.traits.clone(),
            target: Arc::clone(&session.request.target),
            login: session.request.login.clone(),
            mfa: match session.mfa {
                Mfa::Verified { .. } => MfaStatus::Verified,
                Mfa::NotVerified => MfaStatus::NotVerified,
            },
        };
        match self.decisions.decide(&roles.set, access, generation) {
            Decision::Allow { role } => Ok(role),
            Decision::MfaRequired { by } => Err(DenyReason::MfaRequired { by }),
            Decision::Deny { by } => Err(DenyReason::Policy(by)),
        }
    }
}

fn check_age(mode: LockingMode, age: Option<Duration>) -> Result<(), DenyReason> {
    match (mode, age) {
        (LockingMode::BestEffort, _) => Ok(()),
        (LockingMode::Strict, Some(age)) if age < STALE_AFTER => Ok(()),
        (LockingMode::Strict, Some(age)) => Err(DenyReason::ReplicaStale { age }),
        (LockingMode::Strict, None) => Err(DenyReason::ReplicaNotReady),
    }
}

fn check_address(pinned: bool, session: &Session) -> Result<(), DenyReason> {
    // An IPv4 client of a dual-stack listener comes as ::ffff:a.b.c.d.
    let login = session.certificate.identity.login_ip.map(|ip| ip.to_canonical());
    let client = session.request.client.to_canonical();
    if pinned && login != Some(client) {
        return Err(DenyReason::AddressPinned { login, client });
    }
    Ok(())
}
