//! One-time codes of SSH clients: a sidecar asked for one on its own connection, and asks here whether it is right.
//!
//! The sidecar's word is not enough for anything but what it alone can know (the code, the session hash, the address): the
//! certificate is judged again, so is policy, and the answer is about its user. What a right code opens is decided by the
//! sidecar's authorizer, for the connection with this session hash and for no other.

use std::{net::IpAddr, ops::RangeInclusive};

use auth::{
    certificate::{RejectedCertificate, VerifiedCertificate, openssh},
    clock::unix_millis,
    identity::Login,
    policy::TargetKind,
    proto,
};
use ssh_key::PublicKey;
use uuid::Uuid;

use crate::{
    access::{LockSubject, Wanted},
    ca::AuthorityKind,
    challenge::{IntentParts, Scope},
    cluster::Cluster,
    error::Refused,
    issue::SessionCaller,
    mfa::{Answer, Device},
};

/// Bytes of a session identifier (RFC 4253 §7.2): the output of a hash from SHA-256 to SHA-512.
const SESSION_HASH: RangeInclusive<usize> = 32..=64;

impl Cluster {
    pub(crate) async fn verify_otp(
        &self,
        sidecar: Uuid,
        request: proto::VerifyOtpRequest,
    ) -> Result<proto::VerifyOtpResponse, Refused> {
        let wanted = Wanted::from_proto(request.route.as_ref())?;
        let Login::Node { login } = &wanted.route.login else {
            return Err(Refused::field("route", "is not a node's"));
        };
        if !self.guards(sidecar, TargetKind::Node, wanted.route.target.as_str()).await? {
            return Err(Refused::NotFound { kind: "node", name: wanted.route.target.to_string() });
        }
        if !SESSION_HASH.contains(&request.session_hash.len()) {
            return Err(Refused::field("session_hash", "must have 32 to 64 bytes"));
        }
        let client: IpAddr = request
            .client_address
            .parse()
            .map_err(|_| Refused::field("client_address", "is not an address"))?;
        let client = client.to_canonical();

        let certificate = self.login_certificate(&request.ssh_certificate, login, client)?;
        let caller = caller_of(&certificate, client)?;
        let standing = self.standing(&caller.user, Some(&caller.roles)).await?;
        standing.refuse_ended_login(caller.not_before)?;
        let possible = self.possible(standing, &wanted).await?;
        let pinned = possible.standing.role_set.options().pin_source_ip;
        if pinned && caller.login_ip != Some(caller.address) {
            return Err(Refused::OtherAddress);
        }

        let route = request.route.ok_or_else(|| Refused::field("route", "is missing"))?;
        let parts = IntentParts { route, public_key_sha256: certificate.public_key_sha256, client };
        let intent = self.intent(&caller.user, parts)?;
        let scope = Scope::SshCode { intent, session_hash: request.session_hash };
        let challenge = self.code_challenge(&caller.user, scope).await?;
        let proof = self.judge_answer(&caller.user, &challenge, &Answer::Totp(request.code)).await?;
        let device = proof.device().map(Device::id).ok_or(Refused::Internal("a code of no device"))?;
        let target = Some(wanted.route.target.as_str());
        let subject = LockSubject { device: Some(device), login: Some(login), target };
        self.refuse_locked(&caller.user, &possible.standing.roles, subject).await?;
        Ok(proto::VerifyOtpResponse {
            device_id: device.to_string(),
            time: unix_millis(self.clock.now()),
            user: caller.user.to_string(),
        })
    }

    /// A login certificate with this account, by the rules of the sidecar.
    fn login_certificate(
        &self,
        wire: &[u8],
        login: &str,
        client: IpAddr,
    ) -> Result<VerifiedCertificate, Refused> {
        let certificate = openssh::parse(wire).map_err(Refused::Certificate)?;
        let trusted = self.authorities.ssh_public_keys(AuthorityKind::User);
        let authorities: Vec<PublicKey> =
            trusted.iter().filter_map(|line| PublicKey::from_openssh(line).ok()).collect();
        let presented = openssh::Presented { certificate: &certificate, login, client };
        openssh::verify_user(&presented, &authorities, &self.name, self.clock.now())
            .map_err(|RejectedCertificate { error, .. }| Refused::Certificate(error))
    }
}

/// Who holds it, as if they had called themselves.
fn caller_of(certificate: &VerifiedCertificate, address: IpAddr) -> Result<SessionCaller, Refused> {
    let identity = &certificate.identity;
    if identity.route.is_some() {
        return Err(Refused::SessionCertificate);
    }
    Ok(SessionCaller {
        user: identity.user.clone(),
        roles: identity.roles.clone(),
        not_before: certificate.not_before,
        not_after: identity.not_after,
        login_ip: identity.login_ip.map(|ip| ip.to_canonical()),
        address,
    })
}
