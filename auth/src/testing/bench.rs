//! What benches measure, prepared so that nothing else is in the measurement: jerry, so many roles, and a sidecar's door.

use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::{World, now, world};
use crate::{
    authorizer::{Evidence, Mfa, Session, SessionRequest, View},
    certificate::{VerifiedCertificate, x509},
    credential::Credential,
    identity::{Identity, MfaEvidence, RoleName},
    receipt,
    replica::DeviceKind,
};

const TARGET: &str = "prod-pg";

/// A session certificate with a receipt, and what it is shown to.
pub struct Door {
    world: World,
    chain: Vec<CertificateDer<'static>>,
    request: SessionRequest,
    /// The same session, its certificate and its receipt verified, its user with many roles.
    verified: Session,
}

impl Door {
    /// jerry holds `roles` roles, of which the last to be looked at lets him in.
    #[must_use]
    pub fn with_roles(roles: usize) -> Self {
        let world = World::new();
        let names: Vec<_> = (1..roles).map(|n| format!("role-{n}")).collect();
        for name in &names {
            world.apply(world::resource("role", name, &elsewhere(name))).unwrap();
        }
        let roles = names.into_iter().chain(["access-prod".to_owned()]);
        let roles = roles.map(|name| RoleName::new(name).unwrap()).collect();
        let identity = Identity { roles, ..world.touched(TARGET) };
        let chain = vec![world.certify(&identity)];
        let MfaEvidence::Receipt { device, .. } = identity.mfa else { unreachable!("touched") };
        let certificate = verify(&world, &chain);
        let request = world::request(TARGET);
        let mfa = Mfa::Verified { device, at: now() };
        let verified = Session::new(Evidence::new(certificate, mfa).into(), request.clone());
        Self { world, chain, request, verified }
    }

    /// The whole of `authorize`: certificate, receipt, locks, decision. True where jerry is let in.
    #[must_use]
    pub fn authorize(&self) -> bool {
        self.world.authorizer.authorize(&Credential::X509(&self.chain), &self.request).is_ok()
    }

    /// Lets certificates be as if they came for the first time. Decisions stay remembered.
    pub fn forget(&self) {
        self.world.authorizer.core().forget_certificates();
    }

    /// What is asked again and again while a session lives, and what is left of `authorize` behind the signatures: locks,
    /// roles, and the decision, remembered where nothing has changed. True where he may go on.
    #[must_use]
    pub fn decide(&self) -> bool {
        let view = View { age: Some(Duration::ZERO), snapshot: self.world.replica.snapshot(), now: now() };
        self.world.authorizer.core().standing(&self.verified, &view).is_ok()
    }

    /// Somebody changes a role: nothing that was remembered is found again.
    pub fn change_policy(&self) {
        self.world.apply(world::resource("role", "access-dev", world::ACCESS_DEV)).unwrap();
    }

    /// From a certificate's bytes to who is there.
    #[must_use]
    pub fn identity(&self) -> Identity {
        verify(&self.world, &self.chain).identity
    }

    /// From a receipt's bytes to what was touched for.
    #[must_use]
    pub fn receipt(&self) -> bool {
        let snapshot = self.world.replica.snapshot();
        let VerifiedCertificate { identity, public_key_sha256, not_before, .. } = self.verified.certificate();
        let MfaEvidence::Receipt { device, receipt } = &identity.mfa else { unreachable!("touched") };
        let known = snapshot.device(*device).unwrap();
        let DeviceKind::Webauthn(key) = &known.kind else { unreachable!("a security key") };
        let expected = receipt::Expected {
            cluster: &identity.cluster,
            user: &identity.user,
            device: *device,
            route: identity.route.as_ref().unwrap(),
            public_key_sha256,
            not_before: *not_before,
        };
        receipt::verify(receipt, &expected, key, snapshot.relying_party().unwrap()).is_ok()
    }
}

fn verify(world: &World, chain: &[CertificateDer<'_>]) -> VerifiedCertificate {
    let snapshot = world.replica.snapshot();
    x509::verify_user(chain, snapshot.user_authorities(), snapshot.cluster().unwrap(), now()).unwrap()
}

/// A role for databases that are not asked for.
fn elsewhere(name: &str) -> String {
    format!(
        r#"{{"kind":"role","version":"v6","metadata":{{"name":"{name}"}},
            "spec":{{"allow":{{"db_labels":{{"env":"{name}"}},"db_users":["app"],"db_names":["shop"]}}}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_a_session_that_is_let_in() {
        let door = Door::with_roles(20);
        assert!(door.authorize() && door.decide() && door.receipt());
        door.change_policy();
        assert!(door.authorize() && door.decide());
        assert_eq!(door.identity().user.as_str(), "jerry");
    }
}
