//! What administrators do: resources in their JSON form, tokens, explanations.

mod change;
pub(crate) mod events;
mod resources;

pub(crate) use change::Change;

use std::{sync::Arc, time::Duration};

use auth::{
    clock::{from_unix_millis, unix_millis},
    identity::UserName,
    policy::{Access, Decision, MfaStatus, explain},
    proto,
    resource::{Kind, Metadata, Resource, Token, TokenName, TokenRole},
};
use serde_json::json;

use crate::{
    access::{Standing, Wanted},
    audit::Query,
    ca::AuthorityKind,
    cluster::{Cluster, put_op},
    error::Refused,
    secret,
    store::Condition,
};

/// Life of a join token unless asked otherwise.
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 60);
/// Events of one listing, unless asked otherwise, and at most.
const LIST_EVENTS: usize = 1000;
const MAX_LIST_EVENTS: usize = 10_000;

/// Who administrates.
#[derive(Clone, Debug)]
pub(crate) enum Admin {
    /// Through the socket in the data directory.
    Root,
    /// By `rules` of the user's roles.
    User(UserName),
}

impl Admin {
    /// As audit events name them.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Root => "root",
            Self::User(name) => name.as_str(),
        }
    }
}

/// Somebody who administrates, with the rules that say how far. To read, this is enough; who changes something holds a
/// [`Change`].
pub(crate) struct AdminCaller {
    pub(crate) admin: Admin,
    /// `None`: root, who may everything.
    standing: Option<Standing>,
}

impl AdminCaller {
    pub(crate) fn root() -> Self {
        Self { admin: Admin::Root, standing: None }
    }

    pub(crate) fn user(name: UserName, standing: Standing) -> Self {
        Self { admin: Admin::User(name), standing: Some(standing) }
    }

    /// May the caller do this with resources of the kind?
    ///
    /// # Errors
    /// [`Refused::Rule`].
    pub(crate) fn require(&self, resource: &'static str, verb: &'static str) -> Result<(), Refused> {
        match &self.standing {
            None => Ok(()),
            Some(standing) if standing.role_set.allows_rule(resource, verb) => Ok(()),
            Some(_) => Err(Refused::Rule { resource, verb }),
        }
    }
}

impl Cluster {
    pub(crate) async fn status(&self) -> Result<proto::StatusResponse, Refused> {
        let mut authorities = Vec::new();
        for kind in AuthorityKind::ALL {
            authorities.push(self.authority_status(kind).await?);
        }
        Ok(proto::StatusResponse {
            cluster_name: self.name.to_string(),
            server_version: crate::VERSION.to_owned(),
            authorities,
            ca_pins: self.ca_pins(),
        })
    }

    /// A join token with a random name, which is its secret.
    pub(crate) async fn add_token(
        &self,
        request: proto::AddTokenRequest,
        change: &Change,
    ) -> Result<proto::AddTokenResponse, Refused> {
        let mut roles = Vec::new();
        for word in &request.types {
            let role = TokenRole::parse(word).ok_or_else(|| Refused::field("types", "must be db or node"))?;
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        if roles.is_empty() {
            return Err(Refused::field("types", "name at least one of db, node"));
        }
        let life = match request.ttl_seconds {
            0 => TOKEN_LIFE,
            seconds => Duration::from_secs(seconds.into()),
        };
        let secret = secret::generate()?;
        let expires = self.clock.now() + life;
        let name = TokenName::new(secret.clone()).map_err(|e| Refused::field("name", e))?;
        let mut metadata = Metadata::named(name);
        metadata.expires = Some(expires);
        let token = Token { metadata, roles, kept: Default::default() };
        let event = events::token(&token, change);
        let op = put_op(&Resource::Token(token), Condition::Absent)?;
        self.commit_on_record(vec![op], vec![event], Refused::Internal("a token that exists already"))
            .await?;
        Ok(proto::AddTokenResponse {
            token: secret,
            expires: unix_millis(expires),
            ca_pins: self.ca_pins(),
            auth_server: self.public_addr.clone(),
        })
    }

    pub(crate) async fn sign_database(
        &self,
        request: &proto::SignDatabaseCertificateRequest,
        change: &Change,
    ) -> Result<proto::SignDatabaseCertificateResponse, Refused> {
        let ttl = Some(Duration::from_secs(request.ttl_seconds.into())).filter(|ttl| !ttl.is_zero());
        let issued = self.issue_database(&request.hosts, &request.public_key, ttl)?;
        let event = json!({
            "event": "cert.create", "code": "TC000I", "cert_type": "db",
            "hosts": request.hosts, "serial": issued.serial_hex,
        });
        self.audit.emit(change.sign(event)).await?;
        Ok(proto::SignDatabaseCertificateResponse {
            certificate: issued.der.to_vec(),
            client_authorities: self.authorities.certificate_bytes(AuthorityKind::DbClient),
            not_after: unix_millis(issued.not_after),
        })
    }

    pub(crate) fn list_authorities(&self, kind: &str) -> Result<Vec<proto::Authority>, Refused> {
        let found: Vec<_> = AuthorityKind::ALL
            .into_iter()
            .filter(|authority| kind.is_empty() || authority.as_str() == kind)
            .map(|kind| crate::watch::authority(kind, &self.authorities.of(kind)))
            .collect();
        if found.is_empty() {
            return Err(Refused::field("type", "must be user, host, db, db_client or openssh"));
        }
        Ok(found)
    }

    /// What the sidecar would decide about a login certificate, and why.
    pub(crate) async fn explain_access(
        &self,
        request: &proto::ExplainAccessRequest,
    ) -> Result<proto::ExplainAccessResponse, Refused> {
        let missing = || Refused::NotFound { kind: "user", name: request.user.clone() };
        let name = UserName::new(request.user.as_str()).map_err(|_| missing())?;
        let user = self.user(&name).await?.ok_or_else(missing)?;
        let wanted = Wanted::from_proto(request.route.as_ref())?;
        let unknown = || Refused::NotFound { kind: "target", name: wanted.route.target.to_string() };
        let announced = self.announced(wanted.kind, &wanted.route.target).await?.ok_or_else(unknown)?;
        let target = announced.policy_target().ok_or_else(unknown)?;
        let roles = self.roles(&user.roles).await?;
        let role_set = self.role_set(&user.roles, &user, &roles).await?;
        let access = Access {
            roles: user.roles.clone(),
            traits: user.traits.clone(),
            target: Arc::new(target),
            login: wanted.route.login,
            mfa: MfaStatus::NotVerified,
        };
        let mut explanation = explain(&role_set, &access);
        // Judged first as if there were a touch: what would be refused even then is no session that needs one.
        let touched = explain(&role_set, &Access { mfa: MfaStatus::Verified, ..access });
        if let Decision::Deny { .. } = touched.decision {
            explanation = touched;
        }
        let decision = match &explanation.decision {
            Decision::Allow { .. } => "allow",
            Decision::MfaRequired { .. } => "mfa_required",
            Decision::Deny { .. } => "deny",
        };
        Ok(proto::ExplainAccessResponse {
            decision: decision.to_owned(),
            role: explanation.decision.role().map(ToString::to_string).unwrap_or_default(),
            reasons: explanation.reasons,
        })
    }

    pub(crate) async fn list_audit(
        &self,
        request: proto::ListAuditRequest,
    ) -> Result<proto::ListAuditResponse, Refused> {
        let since = match request.since {
            0 => None,
            at => Some(from_unix_millis(at).ok_or_else(|| Refused::field("since", "is not a time"))?),
        };
        let limit = match request.limit {
            0 => LIST_EVENTS,
            limit => usize::try_from(limit).unwrap_or(MAX_LIST_EVENTS).min(MAX_LIST_EVENTS),
        };
        let event = Some(request.event).filter(|event| !event.is_empty());
        Ok(proto::ListAuditResponse { events: self.audit.list(Query { since, limit, event }).await? })
    }

    pub(crate) fn parse_kind(word: &str) -> Result<Kind, Refused> {
        Kind::parse(word).ok_or_else(|| {
            Refused::field("kind", "must be role, user, cluster_auth_preference, token, lock, db or node")
        })
    }
}
