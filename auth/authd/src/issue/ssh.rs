//! What SSH certificates say: of a login, of a session, of a sidecar as a host, and of a sidecar before a host's sshd.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use auth::{
    certificate::openssh,
    identity::{Identity, Login, TargetName, UserName},
    policy::{Decision, MfaStatus, TargetKind},
    proto,
};

use super::{
    backdated,
    host::{self, SidecarNames},
};
use crate::{
    access::{LockSubject, Standing, is_account},
    ca::{AuthorityKind, IssuedSsh, SshPublicKey, SshTemplate},
    cluster::Cluster,
    error::Refused,
};

/// A principal that is nobody's account, for users without logins: OpenSSH reads an empty list as "everybody".
const NO_LOGIN: &str = "-touchstone-no-login";

/// Life of what a sidecar shows to a host's sshd.
const UPSTREAM: Duration = Duration::from_secs(3600);
/// What OpenSSH calls everything that a user certificate can permit. What a session may do is the sidecar's to say, who
/// knows the roles; the host's own sshd_config may say less.
const ALL_PERMISSIONS: [&str; 5] = [
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];

impl Cluster {
    /// The certificate by which clients know a sidecar as the host that it stands before: its targets, each also with the
    /// cluster behind it, and the hosts under which it is reached.
    pub(crate) fn issue_ssh_host(
        &self,
        names: &SidecarNames,
        key: &SshPublicKey,
        not_after: SystemTime,
    ) -> Result<IssuedSsh, Refused> {
        let mut principals = Vec::new();
        for target in &names.targets {
            principals.extend([target.to_string(), format!("{target}.{}", self.name)]);
        }
        for host in &names.hosts {
            if !principals.contains(host) {
                principals.push(host.clone());
            }
        }
        let key_id = names.targets.first().map(ToString::to_string).unwrap_or_default();
        Ok(self.authorities.signer(AuthorityKind::Host).sign_ssh(
            key,
            &SshTemplate {
                key_id,
                principals,
                not_before: host::backdated(self.clock.now()),
                not_after,
                critical_options: vec![],
                extensions: vec![],
            },
        )?)
    }

    /// What a sidecar shows to the sshd of a node: one account, and the name of the person for the host's own log.
    pub(crate) async fn issue_upstream_ssh(
        &self,
        request: &proto::IssueUpstreamSshCertificateRequest,
    ) -> Result<IssuedSsh, Refused> {
        if !is_account(&request.login) {
            return Err(Refused::field("login", "is not an account"));
        }
        let user = UserName::new(request.user.as_str()).map_err(|e| Refused::field("user", e))?;
        let key = SshPublicKey::from_wire(&request.ssh_public_key)?;
        let standing = self.standing_at_host(&user, request).await?;
        let now = self.clock.now();
        let permission = |name: &str| (name.to_owned(), String::new());
        Ok(self.authorities.signer(AuthorityKind::Openssh).sign_ssh(
            &key,
            &SshTemplate {
                key_id: user.to_string(),
                principals: vec![request.login.clone()],
                not_before: host::backdated(now),
                not_after: standing.at_most(now + UPSTREAM),
                critical_options: vec![],
                extensions: ALL_PERMISSIONS.map(permission).to_vec(),
            },
        )?)
    }

    /// A sidecar asks for people who may be there, as far as their roles say now. Every host that trusts the authority takes what
    /// is signed; one that was broken into shall not get accounts that nobody has at its own node.
    async fn standing_at_host(
        &self,
        user: &UserName,
        request: &proto::IssueUpstreamSshCertificateRequest,
    ) -> Result<Standing, Refused> {
        let hidden = || Refused::NotFound { kind: "node", name: request.target_name.clone() };
        let name = TargetName::new(request.target_name.as_str()).map_err(|_| hidden())?;
        let standing = self.standing(user, None).await?;
        let subject = LockSubject {
            login: Some(&request.login),
            target: Some(&request.target_name),
            ..LockSubject::default()
        };
        self.refuse_locked(user, &standing.roles, subject).await?;
        let announced = self.announced(TargetKind::Node, &name).await?.ok_or_else(hidden)?;
        let target = Arc::new(announced.policy_target().ok_or_else(hidden)?);
        let login = Login::Node { login: request.login.clone() };
        match standing.decide(&target, &login, MfaStatus::Verified) {
            Decision::Deny { .. } => Err(Refused::NoAccess),
            Decision::Allow { .. } | Decision::MfaRequired { .. } => Ok(standing),
        }
    }
}

/// Of a login or a session: who, as whom, and what the roles let them do.
pub(super) fn user_template(identity: &Identity, standing: &Standing, now: SystemTime) -> SshTemplate {
    let options = standing.role_set.options();
    let mut extensions = openssh::extensions(identity);
    extensions.extend(openssh::permissions(options));
    let critical_options = match identity.login_ip {
        Some(ip) if options.pin_source_ip => {
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            vec![(openssh::SOURCE_ADDRESS.to_owned(), format!("{ip}/{bits}"))]
        }
        _ => vec![],
    };
    let principals =
        if identity.logins.is_empty() { vec![NO_LOGIN.to_owned()] } else { identity.logins.clone() };
    SshTemplate {
        key_id: identity.user.to_string(),
        principals,
        not_before: backdated(now, standing),
        not_after: identity.not_after,
        critical_options,
        extensions,
    }
}
