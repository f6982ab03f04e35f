//! The one place where somebody is let in. HOT.
//!
//! [`Authorizer::authorize`] looks at everything, in this order, and the first thing that is wrong is the answer:
//!
//! 1. the replica is complete;
//! 2. the certificate: genuine, a user's, of this cluster, in date ([`x509::verify_user`](crate::certificate::x509::verify_user),
//!    [`openssh::verify_user`](crate::certificate::openssh::verify_user)); of two,
//!    both, and both the same user's ([`Credential::SshInTls`]);
//! 3. the route, where it has one: this target, this protocol, and a login that it covers ([`Route::covers`]: this one);
//! 4. the MFA evidence, where it has any: a registered device of this user; a receipt that proves the touch for this session;
//!    a one-time code only where the cluster takes codes, whether the certificate claims it or authd has judged it since, for
//!    this very connection ([`OtpProof`](crate::credential::OtpProof)). Evidence that proves nothing is refused even where
//!    none is needed;
//! 5. what may also change while the session lives: no lock in force; the login not ended by a reset, a recovery or the end of
//!    the account; every role known; the replica not stale, where
//!    locking is strict; the address, where a role pins it; and the policy's decision;
//! 6. the age of the touch, where the roles set `mfa_verification_interval`: at most that and [`CLOCK_SKEW`](crate::receipt::CLOCK_SKEW). Counted from the
//!    time that the security key signed, so authd cannot make an old touch young by a long or a new certificate; for a
//!    one-time code, from the beginning of the certificate that claims it, or from authd's judgement. Without that option the session certificate's own life is the
//!    bound: with a receipt it begins at most a challenge's life after the touch. Ends no session that has begun.
//!
//! Two things are remembered, until anything in the replica changes: step 5's decision, and that a certificate's signature and its
//! evidence of MFA are good (`remembered`). A [`Permit`] comes from here and from nowhere else.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    cache::{Judge, Terms},
    certificate::VerifiedCertificate,
    clock::Clock,
    credential::Credential,
    denied::{AccessDenied, DenyReason},
    identity::{Identity, Login, MfaEvidence, RoleName, Route, UserName},
    lock,
    permit::Permit,
    policy::{Decision, Target},
    replica::{Replica, STALE_AFTER, Snapshot},
    resource::LockingMode,
};

mod mfa;
mod presented;
mod remembered;
mod session;

#[cfg(test)]
mod tests;

pub(crate) use mfa::Mfa;
use presented::Presented;
use remembered::{Key, Remembered};
pub(crate) use session::{Evidence, Session};

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
    judge: Judge,
    remembered: Remembered,
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
    pub(crate) terms: Arc<Terms>,
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
        let (judge, remembered) = (Judge::new(), Remembered::new());
        Self(Arc::new(Core { replica, clock, sidecar_id, judge, remembered }))
    }

    /// Could this user answer with a one-time code, as things are? Whoever could not need not be asked for one.
    #[must_use]
    pub fn takes_codes_of(&self, user: &UserName) -> bool {
        let snapshot = self.0.replica.snapshot();
        let preference = snapshot.auth_preference().filter(|_| snapshot.is_ready());
        preference.is_some_and(|preference| preference.second_factor.allows_otp())
            && snapshot.has_otp_device(user)
    }

    /// Below the door, for what is measured there.
    #[cfg(feature = "testing")]
    pub(crate) fn core(&self) -> &Core {
        &self.0
    }

    /// Lets somebody in, or says why not. `credential` is what the client presented and proved to hold the key of: the caller
    /// has verified the handshake's signature and nothing else. No network call; any input is answered.
    ///
    /// # Errors
    /// [`AccessDenied`]: the first check that failed, and who asked, where that is certain.
    pub fn authorize(
        &self,
        credential: &Credential<'_>,
        request: &SessionRequest,
    ) -> Result<Permit, AccessDenied> {
        let view = self.0.view();
        let key = Key::of(credential, &view.snapshot);
        let known = key.and_then(|key| self.0.remembered.find(&key));
        let presented = presented::certificate(credential, known, request, &view)?;
        check_route(presented.identity(), request).map_err(|reason| denied(presented.identity(), reason))?;
        let evidence = match presented {
            Presented::Known(evidence) => evidence,
            Presented::New(certificate) => {
                let evidence = Arc::new(verify_mfa(credential, *certificate, request, &view)?);
                if let Some(key) = key {
                    self.0.remembered.keep(key, &evidence);
                }
                evidence
            }
        };
        let session = Session::new(evidence, request.clone());
        let standing = self.0.standing(&session, &view).and_then(|standing| {
            mfa::check_age(session.mfa(), standing.terms.options.mfa_verification_interval, view.now)?;
            Ok(standing)
        });
        match standing {
            Ok(standing) => Ok(Permit::new(Arc::clone(&self.0), session, standing)),
            Err(reason) => Err(denied(session.identity(), reason)),
        }
    }
}

fn denied(identity: &Identity, reason: DenyReason) -> AccessDenied {
    AccessDenied { reason, identity: Some(Box::new(identity.clone())) }
}

fn verify_mfa(
    credential: &Credential<'_>,
    mut certificate: VerifiedCertificate,
    request: &SessionRequest,
    view: &View,
) -> Result<Evidence, AccessDenied> {
    let mfa = mfa::verify(credential, &certificate, request, &view.snapshot)
        .map_err(|reason| denied(&certificate.identity, reason))?;
    // A code that authd has judged since is as good as one that the certificate claims: locks and audit find it there.
    if let (Credential::SshWithOtp { .. }, Mfa::Verified { device, .. }) = (credential, mfa) {
        certificate.identity.mfa = MfaEvidence::Claimed { device };
    }
    Ok(Evidence::new(certificate, mfa))
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

impl Core {
    pub(crate) fn view(&self) -> View {
        let age = self.replica.age();
        View { age, snapshot: self.replica.snapshot(), now: self.clock.now() }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn forget_certificates(&self) {
        self.remembered.forget();
    }

    /// What must hold at the door and for as long as the session lives.
    pub(crate) fn standing(
        &self,
        session: &Session,
        View { age, snapshot, now }: &View,
    ) -> Result<Standing, DenyReason> {
        let preference = snapshot.auth_preference().filter(|_| snapshot.is_ready());
        let preference = preference.ok_or(DenyReason::ReplicaNotReady)?;
        let subject = lock::Subject {
            identity: session.identity(),
            login: &session.request().login,
            target: &session.request().target.name,
            sidecar_id: self.sidecar_id.as_deref(),
        };
        if let Some(lock) = lock::in_force(snapshot.locks(), &subject, *now) {
            return Err(DenyReason::Locked(Box::new(lock)));
        }
        check_ended(session.certificate(), snapshot)?;
        let judgement = self.judge.judge(session, snapshot, preference, *now)?;
        let terms = &judgement.terms;
        check_age(terms.options.lock, *age)?;
        check_address(terms.options.pin_source_ip, session)?;
        match &judgement.decision {
            Decision::Allow { role } => Ok(Standing { decided_by: role.clone(), terms: Arc::clone(terms) }),
            Decision::MfaRequired { by } => Err(DenyReason::MfaRequired { by: by.clone() }),
            Decision::Deny { by } => Err(DenyReason::Policy(by.clone())),
        }
    }
}

/// Roles and locks stay as they are when somebody who lost a laptop gets a new start; what is on the laptop must not.
fn check_ended(certificate: &VerifiedCertificate, snapshot: &Snapshot) -> Result<(), DenyReason> {
    let Some(ended) = snapshot.ended_login(certificate) else { return Ok(()) };
    Err(DenyReason::LoginEnded { user: certificate.identity.user.clone(), at: ended.at() })
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
    let login = session.identity().login_ip.map(|ip| ip.to_canonical());
    let client = session.request().client.to_canonical();
    if pinned && login != Some(client) {
        return Err(DenyReason::AddressPinned { login, client });
    }
    Ok(())
}
