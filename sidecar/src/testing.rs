//! For the tests alone: a small cluster, whose replica is told what a test needs.

pub(crate) mod mint;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use auth::{
    authorizer::Authorizer,
    clock::Clock,
    identity::{Protocol, TargetName},
    policy::{Target, TargetKind},
    replica::Replica,
};
use rustls_pki_types::CertificateDer;

use self::mint::{Authorities, Minted};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// jerry, a database `prod-pg` that asks for MFA, and `dev-pg` that does not.
pub(crate) struct World {
    pub(crate) authorities: Authorities,
    pub(crate) replica: Arc<Replica>,
    pub(crate) clock: Clock,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self::not_ready();
        for event in world.authorities.snapshot() {
            world.replica.apply(event).unwrap();
        }
        assert!(world.replica.is_ready());
        world
    }

    /// Its replica has heard nothing.
    pub(crate) fn not_ready() -> Self {
        let clock = Clock::system();
        Self { authorities: Authorities::new(), replica: Replica::new(clock.clone()), clock }
    }

    pub(crate) fn authorizer(&self) -> Authorizer {
        Authorizer::new(Arc::clone(&self.replica), self.clock.clone())
    }

    /// jerry's login certificate.
    pub(crate) fn login(&self) -> Minted {
        self.authorities.user(&mint::jerry())
    }

    pub(crate) fn lock_jerry(&self) {
        self.replica.apply(mint::lock_jerry()).unwrap();
    }
}

pub(crate) fn target(name: &str) -> Arc<Target> {
    let environment = name.split('-').next().unwrap().to_owned();
    Arc::new(Target {
        kind: TargetKind::Database,
        name: TargetName::new(name).unwrap(),
        protocol: Protocol::Postgres,
        labels: BTreeMap::from([("env".to_owned(), environment)]),
    })
}

pub(crate) fn chain(minted: &Minted) -> Vec<CertificateDer<'static>> {
    vec![minted.certificate.clone()]
}

pub(crate) fn in_an_hour() -> SystemTime {
    SystemTime::now() + 60 * MINUTE
}
