//! How a sidecar becomes one of us, and stays one.

use std::{collections::BTreeSet, time::SystemTime};

use auth::{
    clock::{rfc3339, unix_millis},
    identity::TargetName,
    lock::LockInForce,
    policy::TargetKind,
    proto,
    resource::{Kind, Lock, LockTarget, Resource, TokenRole},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    audit::{Common, Lines, SpoolId},
    ca::{AuthorityKind, SshPublicKey},
    cluster::Cluster,
    error::Refused,
    issue::SidecarNames,
    keys, secret,
    store::{self, Condition, Op, Stored},
};

/// What a sidecar joined with: it can never have more.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SidecarRecord {
    pub(crate) targets: BTreeSet<TargetName>,
    hosts: BTreeSet<String>,
    /// Kinds of target that its token was for.
    pub(crate) roles: Vec<String>,
    /// Hash of the token that it joined with; `None` of one that joined with an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl SidecarRecord {
    /// Was its token for targets of this kind?
    pub(crate) fn may_guard(&self, kind: TargetKind) -> bool {
        let needed = match kind {
            TargetKind::Database => TokenRole::Db,
            TargetKind::Node => TokenRole::Node,
        };
        self.roles.iter().any(|role| role == needed.as_str())
    }
}

/// The sidecar that a lock is on, where it is in force and on nothing else: with anything beside the id it is about sessions.
fn locked_out(lock: &Lock, now: SystemTime) -> Option<Uuid> {
    let server = lock.target.server_id.as_ref()?;
    let alone = LockTarget { server_id: None, ..lock.target.clone() } == LockTarget::default();
    // However the administrator writes its hexadecimal digits, as the sidecar itself reads them.
    let id = Uuid::try_parse(server.as_str()).ok()?;
    let is_id = id.to_string().eq_ignore_ascii_case(server.as_str());
    (is_id && alone && lock.is_in_force(now)).then_some(id)
}

impl Cluster {
    /// A first certificate, for a token.
    pub(crate) async fn join(
        &self,
        request: proto::JoinRequest,
        client: std::net::IpAddr,
    ) -> Result<proto::SidecarCertificate, Refused> {
        let unknown = || Refused::Secret("join token");
        let Some((Resource::Token(token), revision)) = self.resource(Kind::Token, &request.token).await?
        else {
            return Err(unknown());
        };
        if token.metadata.is_expired(self.clock.now()) {
            return Err(unknown());
        }
        let token_hash = secret::hash(&request.token);
        self.refuse_token_of_locked(&token_hash).await?;
        let certificate = request.certificate.ok_or_else(|| Refused::field("certificate", "is missing"))?;
        let names = SidecarNames::parse(&certificate.target_names, &certificate.hosts)?;
        let id = Uuid::new_v4();
        // The race: a step of the host authority that finds no sidecar whom it would lock out, while this one gets its
        // certificate.
        let _standing_still = self.authorities.standing_still().await;
        let roles = token.roles.iter().map(|role| role.as_str().to_owned()).collect();
        let (targets, hosts) = (names.targets.clone(), names.hosts.clone());
        let record = SidecarRecord { targets, hosts, roles, token: Some(token_hash) };
        let answer = self.sidecar_certificate(id, &record, &names, &certificate)?;
        let event = json!({
            "event": "instance.join", "code": "TJ002I", "success": true, "host_id": id, "method": "token",
            "role": record.roles, "target_names": record.targets, "addr.remote": client,
        });
        let ops = vec![
            // The race: the token is removed while it is used. Once that is answered, nobody joins with it.
            Op::check(keys::resource(Kind::Token, &request.token), Condition::Revision(revision)),
            Op::put(keys::sidecar(id), Condition::Absent, &record)?,
            self.held_by_new(id, &answer).op()?,
        ];
        self.commit_on_record(ops, vec![event], unknown()).await?;
        tracing::info!(sidecar = %id, targets = ?record.targets, "a sidecar joined");
        Ok(answer)
    }

    /// The next certificate of the same sidecar: same id, no new name.
    pub(crate) async fn renew(
        &self,
        id: Uuid,
        request: &proto::SidecarCertificateRequest,
    ) -> Result<proto::SidecarCertificate, Refused> {
        let record = self.sidecar(id).await?.value;
        let names = SidecarNames::parse(&request.target_names, &request.hosts)?;
        if !names.targets.is_subset(&record.targets) || !names.hosts.is_subset(&record.hosts) {
            return Err(Refused::field(
                "certificate",
                "names that this sidecar did not join with; join again",
            ));
        }
        self.sidecar_certificate(id, &record, &names, request)
    }

    /// What a sidecar joined with, unless an administrator has locked it out.
    pub(crate) async fn sidecar(&self, id: Uuid) -> Result<Stored<SidecarRecord>, Refused> {
        let now = self.clock.now();
        if let Some(lock) = self.locks().await?.iter().find(|lock| locked_out(lock, now) == Some(id)) {
            let lock = LockInForce { target: lock.target.clone(), message: lock.message.clone() };
            return Err(Refused::Locked(lock.to_string()));
        }
        let record = store::read(&*self.store, &keys::sidecar(id)).await?;
        record.ok_or_else(|| Refused::NotFound { kind: "sidecar", name: id.to_string() })
    }

    /// Whoever is locked out knows the token that it joined with, and with that would be in again, under another id. So it lets
    /// nobody in for as long as the lock holds.
    async fn refuse_token_of_locked(&self, token_hash: &str) -> Result<(), Refused> {
        let now = self.clock.now();
        for lock in self.locks().await? {
            let Some(id) = locked_out(&lock, now) else { continue };
            let record = store::read::<SidecarRecord>(&*self.store, &keys::sidecar(id)).await?;
            if record.is_some_and(|record| record.value.token.as_deref() == Some(token_hash)) {
                let lock = LockInForce { target: lock.target.clone(), message: lock.message.clone() };
                tracing::warn!(sidecar = %id, "the join token of a sidecar that is locked out was refused");
                return Err(Refused::Locked(format!(
                    "{lock}; that sidecar has joined with this token: use another"
                )));
            }
        }
        Ok(())
    }

    /// What a sidecar is, to its peers and, before a node, to clients of SSH: one life for both.
    fn sidecar_certificate(
        &self,
        id: Uuid,
        record: &SidecarRecord,
        names: &SidecarNames,
        request: &proto::SidecarCertificateRequest,
    ) -> Result<proto::SidecarCertificate, Refused> {
        let ssh_key = match request.ssh_public_key.as_slice() {
            [] => None,
            _ if !record.may_guard(TargetKind::Node) => return Err(Refused::NoNodes),
            key => Some(SshPublicKey::from_wire(key)?),
        };
        let issued = self.issue_sidecar(id, names, &request.public_key)?;
        let ssh = ssh_key.map(|key| self.issue_ssh_host(names, &key, issued.not_after)).transpose()?;
        Ok(proto::SidecarCertificate {
            certificate: issued.der.to_vec(),
            host_authorities: self.authorities.certificate_bytes(AuthorityKind::Host),
            cluster_name: self.name.to_string(),
            sidecar_id: id.to_string(),
            not_after: unix_millis(issued.not_after),
            ssh_host_certificate: ssh.map(|ssh| ssh.line).unwrap_or_default(),
        })
    }

    /// What a sidecar shows to a database that it guards.
    pub(crate) async fn upstream_certificate(
        &self,
        id: Uuid,
        request: &proto::IssueUpstreamCertificateRequest,
    ) -> Result<proto::UpstreamCertificate, Refused> {
        if !self.guards(id, TargetKind::Database, &request.target_name).await? {
            return Err(Refused::NotFound { kind: "database", name: request.target_name.clone() });
        }
        let issued = self.issue_upstream(&request.db_user, &request.public_key)?;
        let event = json!({
            "event": "cert.create", "code": "TC000I", "cert_type": "db_client", "server_id": id,
            "db_service": request.target_name, "db_user": request.db_user, "serial": issued.serial_hex,
        });
        self.audit.emit(event).await?;
        Ok(proto::UpstreamCertificate {
            certificate: issued.der.to_vec(),
            not_after: unix_millis(issued.not_after),
            db_authorities: self.authorities.certificate_bytes(AuthorityKind::Db),
        })
    }

    /// What a sidecar shows to the sshd of a node that it guards.
    pub(crate) async fn upstream_ssh_certificate(
        &self,
        id: Uuid,
        request: &proto::IssueUpstreamSshCertificateRequest,
    ) -> Result<proto::UpstreamSshCertificate, Refused> {
        if !self.guards(id, TargetKind::Node, &request.target_name).await? {
            return Err(Refused::NotFound { kind: "node", name: request.target_name.clone() });
        }
        let issued = self.issue_upstream_ssh(request).await?;
        let event = json!({
            "event": "cert.create", "code": "TC000I", "cert_type": "openssh", "server_id": id,
            "target": request.target_name, "user": request.user, "login": request.login,
            "serial": issued.serial_hex, "expires": rfc3339(issued.not_after),
        });
        self.audit.emit(event).await?;
        Ok(proto::UpstreamSshCertificate {
            ssh_certificate: issued.line,
            not_after: unix_millis(issued.not_after),
        })
    }

    /// Takes events of a sidecar; answers with the last sequence that is on disk.
    pub(crate) async fn take_audit(
        &self,
        sidecar: Uuid,
        request: proto::EmitAuditRequest,
    ) -> Result<u64, Refused> {
        let spool =
            Uuid::try_parse(&request.spool_id).map_err(|_| Refused::field("spool_id", "is not a UUID"))?;
        let mut lines = Lines::of(SpoolId { sidecar, spool });
        let sessions: Result<Vec<_>, _> = request.sessions.iter().map(|json| Common::read(json)).collect();
        let sessions = sessions.map_err(|error| Refused::field("sessions", error))?;
        let none = || Refused::field("records", "an event is of no session that is there");
        for record in &request.records {
            let (json, common) = if record.json.is_empty() {
                (&record.own, Some(sessions.get(record.session as usize).ok_or_else(none)?))
            } else {
                (&record.json, None)
            };
            let pushed = lines.push(record.sequence, json, common, self.name.as_str());
            pushed.map_err(|error| Refused::field("records", error))?;
        }
        let last = lines.last();
        if last > 0 {
            self.audit.append(lines).await?;
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;
    use crate::admin::AdminCaller;

    #[tokio::test]
    async fn nobody_joins_with_a_token_once_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::unserved(directory.path()).await;
        let root = cluster.allow_change(AdminCaller::root(), &MetadataMap::new(), [0; 32]).await.unwrap();
        let token = proto::AddTokenRequest { types: vec!["db".to_owned()], ttl_seconds: 0 };
        let token = cluster.add_token(token, &root).await.unwrap().token;
        let remove = proto::DeleteResourceRequest { kind: "token".to_owned(), name: token.clone() };
        let join = || {
            let (_, public_key) = auth::key::generate_p256().unwrap();
            let target_names = vec!["pg".to_owned()];
            let certificate =
                proto::SidecarCertificateRequest { public_key, target_names, ..Default::default() };
            proto::JoinRequest { token: token.clone(), certificate: Some(certificate) }
        };
        let address = [127, 0, 0, 1].into();
        cluster.join(join(), address).await.unwrap();
        // Both look, then the one is removed, then the other joins.
        let (removed, joined) =
            tokio::join!(biased; cluster.delete_resource(&remove, &root), cluster.join(join(), address));
        removed.unwrap();
        assert!(matches!(joined, Err(Refused::Secret(_))), "{:?}", joined.map(|joined| joined.sidecar_id));
    }
}
