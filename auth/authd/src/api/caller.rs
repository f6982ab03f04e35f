//! Who calls: known from the connection alone, derived once, and asked for by every call in its first line.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use auth::{
    api::CaPin,
    certificate::{CertificateError, SidecarIdentity, VerifiedCertificate, x509},
};
use rustls_pki_types::CertificateDer;
use tonic::Request;
use uuid::Uuid;

use crate::{
    access::Standing, admin::AdminCaller, ca::AuthorityKind, cluster::Cluster, error::Refused,
    issue::SessionCaller,
};

/// A connection, as every request on it sees it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) address: IpAddr,
    pub(crate) caller: Caller,
}

/// The kinds of caller.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// No client certificate.
    Nobody,
    /// A certificate of the user authority.
    User(Arc<VerifiedCertificate>),
    /// A certificate of the host authority, and of which of its keys.
    Sidecar(Arc<SidecarIdentity>, Option<CaPin>),
    /// The owner of the data directory.
    Root,
    /// A certificate that is not ours, or over. It opens nothing, not even what nobody may call: whoever presents it
    /// believes to be somebody.
    Rejected(CertificateError),
}

impl Caller {
    /// Judges what a client presented. That it has the key was proved by the handshake.
    pub(crate) fn of(cluster: &Cluster, chain: &[CertificateDer<'_>]) -> Self {
        if chain.is_empty() {
            return Self::Nobody;
        }
        let now = cluster.clock.now();
        for authority in cluster.authorities.certificates(AuthorityKind::Host) {
            match x509::verify_sidecar(chain, std::slice::from_ref(&authority), now) {
                Ok(sidecar) if sidecar.cluster == cluster.name => {
                    return Self::Sidecar(Arc::new(sidecar), CaPin::of(&authority));
                }
                Ok(sidecar) => {
                    let error = CertificateError::OtherCluster { certificate_for: sidecar.cluster };
                    return Self::Rejected(error);
                }
                Err(error @ CertificateError::Expired { .. }) => return Self::Rejected(error),
                Err(_) => {}
            }
        }
        let user = cluster.authorities.certificates(AuthorityKind::User);
        match x509::verify_user(chain, &user, &cluster.name, now) {
            Ok(certificate) => Self::User(Arc::new(certificate)),
            Err(rejected) => Self::Rejected(rejected.error),
        }
    }
}

/// Completes when a certificate that was taken is none of ours any more, because the authority that signed it is gone. (That it
/// is over is judged with each call.)
pub(crate) async fn distrusted(cluster: &Cluster, chain: &[CertificateDer<'_>], caller: &Caller) {
    let mut changes = cluster.authorities.changes();
    // What has changed since it was judged is looked at too.
    changes.mark_changed();
    while matches!(caller, Caller::User(_) | Caller::Sidecar(..)) && changes.changed().await.is_ok() {
        match Caller::of(cluster, chain) {
            Caller::Rejected(CertificateError::Expired { .. }) => {}
            Caller::Rejected(_) => return,
            Caller::Nobody | Caller::User(_) | Caller::Sidecar(..) | Caller::Root => {}
        }
    }
    std::future::pending().await
}

fn connection<T>(request: &Request<T>) -> Result<&Connection, Refused> {
    request.extensions().get().ok_or(Refused::Internal("request without connection"))
}

/// A certificate ends while its connection goes on.
fn refuse_expired(not_after: SystemTime, now: SystemTime) -> Result<(), Refused> {
    if now > not_after {
        return Err(Refused::Certificate(CertificateError::Expired { not_after, now }));
    }
    Ok(())
}

/// Anybody but the holder of a bad certificate; answers with the address.
pub(crate) fn anyone<T>(cluster: &Cluster, request: &Request<T>) -> Result<IpAddr, Refused> {
    address_of(cluster, connection(request)?)
}

/// As [`anyone`], of what a page calls.
pub(crate) fn address(cluster: &Cluster, extensions: &http::Extensions) -> Result<IpAddr, Refused> {
    let connection = extensions.get().ok_or(Refused::Internal("request without connection"))?;
    address_of(cluster, connection)
}

fn address_of(cluster: &Cluster, connection: &Connection) -> Result<IpAddr, Refused> {
    let now = cluster.clock.now();
    match &connection.caller {
        Caller::Nobody | Caller::Root => {}
        Caller::User(certificate) => refuse_expired(certificate.identity.not_after, now)?,
        Caller::Sidecar(sidecar, _) => refuse_expired(sidecar.not_after, now)?,
        Caller::Rejected(error) => return Err(Refused::Certificate(error.clone())),
    }
    Ok(connection.address)
}

/// A user with a login certificate, who still is one.
pub(crate) async fn user<T>(
    cluster: &Cluster,
    request: &Request<T>,
) -> Result<(SessionCaller, Standing), Refused> {
    let connection = connection(request)?.clone();
    let certificate = match &connection.caller {
        Caller::User(certificate) => certificate,
        Caller::Nobody => return Err(Refused::NotLoggedIn("user")),
        Caller::Sidecar(..) | Caller::Root => return Err(Refused::OtherCaller("user")),
        Caller::Rejected(error) => return Err(Refused::Certificate(error.clone())),
    };
    let identity = &certificate.identity;
    refuse_expired(identity.not_after, cluster.clock.now())?;
    if identity.route.is_some() {
        return Err(Refused::SessionCertificate);
    }
    let caller = SessionCaller {
        user: identity.user.clone(),
        roles: identity.roles.clone(),
        not_before: certificate.not_before,
        not_after: identity.not_after,
        login_ip: identity.login_ip.map(|ip| ip.to_canonical()),
        address: connection.address,
    };
    let standing = cluster.standing(&caller.user, Some(&caller.roles)).await?;
    if standing.role_set.options().pin_source_ip && caller.login_ip != Some(caller.address) {
        return Err(Refused::OtherAddress);
    }
    standing.refuse_ended_login(caller.not_before)?;
    Ok((caller, standing))
}

/// A sidecar.
#[derive(Clone, Copy)]
pub(crate) struct SidecarCaller {
    pub(crate) id: Uuid,
    /// Who has signed its certificate.
    pub(crate) authority: Option<CaPin>,
    pub(crate) not_after: SystemTime,
}

impl SidecarCaller {
    /// Refuses once the certificate is over, or the sidecar locked out.
    pub(crate) async fn still_may(&self, cluster: &Cluster) -> Result<(), Refused> {
        refuse_expired(self.not_after, cluster.clock.now())?;
        cluster.sidecar(self.id).await.map(drop)
    }
}

/// A sidecar that joined and is not locked out.
pub(crate) async fn sidecar<T>(cluster: &Cluster, request: &Request<T>) -> Result<SidecarCaller, Refused> {
    match connection(request)?.clone().caller {
        Caller::Sidecar(sidecar, authority) => {
            let caller = SidecarCaller { id: sidecar.id, authority, not_after: sidecar.not_after };
            caller.still_may(cluster).await?;
            Ok(caller)
        }
        Caller::Nobody => Err(Refused::NotLoggedIn("sidecar")),
        Caller::User(_) | Caller::Root => Err(Refused::OtherCaller("sidecar")),
        Caller::Rejected(error) => Err(Refused::Certificate(error)),
    }
}

/// Root, or a user. What a user may is for [`AdminCaller::require`] to say.
pub(crate) async fn admin<T>(cluster: &Cluster, request: &Request<T>) -> Result<AdminCaller, Refused> {
    match &connection(request)?.caller {
        Caller::Root => Ok(AdminCaller::root()),
        Caller::Nobody => Err(Refused::NotLoggedIn("user")),
        Caller::User(_) | Caller::Sidecar(..) | Caller::Rejected(_) => {
            let (caller, standing) = user(cluster, request).await?;
            Ok(AdminCaller::user(caller.user, standing))
        }
    }
}
