//! Session certificates: for one target, one login, one key, and where policy asks for it, one touch.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use auth::{
    clock::{from_unix_millis, unix_millis},
    identity::{Identity, Login, MfaEvidence, RoleName, UserName},
    policy::{Decision, MfaStatus, TargetKind},
    proto,
    proto::SessionRequester,
};
use prost::Message;
use serde_json::Value;

use super::{created, ssh};
use crate::{
    access::{LockSubject, Standing, Wanted},
    ca::{AuthorityKind, P256PublicKey, SshPublicKey},
    challenge::{Challenge, IntentParts, Scope},
    cluster::Cluster,
    error::Refused,
    mfa::{Answer, Proof},
    targets::Announced,
};

/// A certificate that opens one connection.
const SINGLE_USE: Duration = Duration::from_secs(60);

/// Who asks: what the login certificate said, checked.
#[derive(Clone)]
pub(crate) struct SessionCaller {
    pub(crate) user: UserName,
    pub(crate) roles: Vec<RoleName>,
    /// Beginning of the login certificate.
    pub(crate) not_before: SystemTime,
    /// End of the login certificate.
    pub(crate) not_after: SystemTime,
    /// Where the login came from. What is issued for it keeps saying so, or a role's `pin_source_ip` could be taken off by
    /// asking from elsewhere.
    pub(crate) login_ip: Option<IpAddr>,
    /// Where this call comes from.
    pub(crate) address: IpAddr,
}

/// The key that a session certificate is for. Which of the two says which certificate it will be.
enum SessionKey {
    X509(P256PublicKey),
    /// For nodes alone: databases know no certificate of SSH.
    Ssh(SshPublicKey),
}

impl SessionKey {
    fn from_request(spki: &[u8], ssh: &[u8], wanted: &Wanted) -> Result<Self, Refused> {
        match (spki, ssh, wanted.kind) {
            (spki, [], _) => Ok(Self::X509(P256PublicKey::from_spki(spki)?)),
            ([], ssh, TargetKind::Node) => Ok(Self::Ssh(SshPublicKey::from_wire(ssh)?)),
            ([], _, TargetKind::Database) => {
                Err(Refused::field("ssh_public_key", "is for nodes; a database takes public_key"))
            }
            (_, _, _) => Err(Refused::field("ssh_public_key", "stands beside public_key; send one of them")),
        }
    }

    /// What the intent names.
    fn sha256(&self) -> [u8; 32] {
        match self {
            Self::X509(key) => key.sha256(),
            Self::Ssh(key) => key.sha256(),
        }
    }
}

/// A request for a session certificate, as far as it can be read by itself.
struct Asked {
    wanted: Wanted,
    key: SessionKey,
    requester: SessionRequester,
    /// Of one with a challenge.
    answer: Option<Answered>,
}

struct Answered {
    /// What was touched for: this very route and key.
    intent: Vec<u8>,
    asked_at: SystemTime,
    answer: Answer,
}

impl Asked {
    fn from_request(
        request: proto::IssueSessionCertificateRequest,
        challenge: Option<&Challenge>,
    ) -> Result<Self, Refused> {
        let wanted = Wanted::from_proto(request.route.as_ref())?;
        let key = SessionKey::from_request(&request.public_key, &request.ssh_public_key, &wanted)?;
        let requester = SessionRequester::try_from(request.requester)
            .map_err(|_| Refused::field("requester", "is unknown"))?;
        let answer = match challenge {
            None => None,
            Some(challenge) => {
                let Scope::Session { intent } = &challenge.scope else { return Err(Refused::Challenge) };
                let asked_at = same_intent(intent, request.route.as_ref(), &key)?;
                let answer = Answer::from_proto(request.mfa)?;
                Some(Answered { intent: intent.clone(), asked_at, answer })
            }
        };
        Ok(Self { wanted, key, requester, answer })
    }
}

/// A session that the user may open, at least with a touch.
pub(crate) struct Possible {
    pub(crate) standing: Standing,
    announced: Announced,
    needs_mfa: bool,
}

/// What a challenge brought.
struct Touch {
    evidence: MfaEvidence,
    asked_at: Option<SystemTime>,
}

impl Touch {
    const NONE: Self = Self { evidence: MfaEvidence::None, asked_at: None };
}

impl Cluster {
    /// Would a session need a touch? The question is judged as if MFA were given first: what would be refused even then
    /// is answered like a target that does not exist.
    pub(crate) async fn is_mfa_required(
        &self,
        standing: Standing,
        request: &proto::IsMfaRequiredRequest,
    ) -> Result<proto::IsMfaRequiredResponse, Refused> {
        let wanted = Wanted::from_proto(request.route.as_ref())?;
        let possible = self.possible(standing, &wanted).await?;
        let target = possible.announced.for_user(&possible.standing);
        Ok(proto::IsMfaRequiredResponse { required: possible.needs_mfa, target: Some(target) })
    }

    pub(crate) async fn possible(&self, standing: Standing, wanted: &Wanted) -> Result<Possible, Refused> {
        let hidden = || Refused::NotFound { kind: "target", name: wanted.route.target.to_string() };
        let announced = self.announced(wanted.kind, &wanted.route.target).await?.ok_or_else(hidden)?;
        let target = Arc::new(announced.policy_target().ok_or_else(hidden)?);
        if target.protocol != wanted.route.protocol {
            return Err(hidden());
        }
        if let Decision::Deny { .. } = standing.decide(&target, &wanted.route.login, MfaStatus::Verified) {
            return Err(hidden());
        }
        let needs_mfa = match standing.decide(&target, &wanted.route.login, MfaStatus::NotVerified) {
            Decision::Allow { .. } => false,
            Decision::MfaRequired { .. } => true,
            Decision::Deny { .. } => return Err(hidden()),
        };
        Ok(Possible { standing, announced, needs_mfa })
    }

    /// A challenge whose answer is worth one certificate: for this route and this key. None is made where the session needs
    /// none and it was asked for `if_required`.
    pub(crate) async fn create_session_challenge(
        &self,
        caller: &SessionCaller,
        standing: Standing,
        session: proto::create_challenge_request::Session,
    ) -> Result<proto::MfaChallenge, Refused> {
        let wanted = Wanted::from_proto(session.route.as_ref())?;
        let key = SessionKey::from_request(&session.public_key, &session.ssh_public_key, &wanted)?;
        let possible = self.possible(standing, &wanted).await?;
        if session.if_required && !possible.needs_mfa {
            return Ok(proto::MfaChallenge { not_required: true, ..Default::default() });
        }
        let route = session.route.ok_or_else(|| Refused::field("route", "is missing"))?;
        let parts = IntentParts { route, public_key_sha256: key.sha256(), client: caller.address };
        let intent = self.intent(&caller.user, parts)?;
        self.create_challenge(&caller.user, Scope::Session { intent }).await
    }

    pub(crate) async fn issue_session(
        &self,
        caller: &SessionCaller,
        request: proto::IssueSessionCertificateRequest,
    ) -> Result<proto::SessionCertificate, Refused> {
        // From here to its answer it waits for nothing but one commit and the audit trail.
        let _call = self.under_way.begin().await;
        let open = match request.challenge_id.as_str() {
            "" => None,
            id => Some(self.open_challenge(&caller.user, id).await?),
        };
        let asked = match Asked::from_request(request, open.as_ref().map(|open| &open.challenge)) {
            Ok(asked) => asked,
            Err(refused) => {
                // Whatever else is wrong with the request, its challenge is spent.
                if let Some(open) = open {
                    self.spend(open).await?;
                }
                return Err(refused);
            }
        };
        let (touch, judged) = match (open, asked.answer) {
            (Some(open), Some(Answered { intent, asked_at, answer })) => {
                let (proof, judged) = self.judge_open(&caller.user, open, &answer).await?;
                (Touch { evidence: evidence(&intent, proof), asked_at: Some(asked_at) }, judged)
            }
            (None, _) => (Touch::NONE, None),
            (Some(_), None) => return Err(Refused::Internal("a challenge without its answer")),
        };
        let made = self.make_session(caller, asked.wanted, &asked.key, asked.requester, touch).await;
        // Nothing leaves before it is on record, the touch before what was given for it, by one append.
        let (made, created) = match made {
            Ok((certificate, created)) => (Ok(certificate), Some(created)),
            Err(refused) => (Err(refused), None),
        };
        self.audit.emit_all(judged.into_iter().chain(created).collect()).await?;
        made
    }

    /// The certificate, signed, and the event of it; for whoever puts that on record.
    async fn make_session(
        &self,
        caller: &SessionCaller,
        wanted: Wanted,
        key: &SessionKey,
        requester: SessionRequester,
        touch: Touch,
    ) -> Result<(proto::SessionCertificate, Value), Refused> {
        // Asked again, after whatever was waited for: roles, locks and the account count as they are now.
        let standing = self.standing(&caller.user, Some(&caller.roles)).await?;
        standing.refuse_ended_login(caller.not_before)?;
        let possible = self.possible(standing, &wanted).await?;
        if possible.needs_mfa && requester == SessionRequester::Disk {
            return Err(Refused::MfaOnDisk);
        }
        if possible.needs_mfa && touch.evidence == MfaEvidence::None {
            return Err(Refused::MfaRequired);
        }
        // Evidence belongs to the process that asked for the touch; on a disk it would outlive it.
        let touch = if requester == SessionRequester::Disk { Touch::NONE } else { touch };
        self.sign_session(caller, wanted, key, requester, touch, possible).await
    }

    async fn sign_session(
        &self,
        caller: &SessionCaller,
        wanted: Wanted,
        key: &SessionKey,
        requester: SessionRequester,
        touch: Touch,
        Possible { standing, announced, .. }: Possible,
    ) -> Result<(proto::SessionCertificate, Value), Refused> {
        let device = match &touch.evidence {
            MfaEvidence::Claimed { device } | MfaEvidence::Receipt { device, .. } => Some(*device),
            MfaEvidence::None => None,
        };
        let target = Some(wanted.route.target.as_str());
        let subject = LockSubject { device, login: Some(wanted.account()), target };
        self.refuse_locked(&caller.user, &standing.roles, subject).await?;

        let now = self.clock.now();
        let options = standing.role_set.options();
        let life = match requester {
            SessionRequester::Unspecified => SINGLE_USE.min(options.max_session_ttl),
            SessionRequester::Disk | SessionRequester::LocalProxy => options.max_session_ttl,
        };
        let mut not_after = standing.at_most(now + life).min(caller.not_after);
        // Counted from when the touch was asked for, as the sidecar does: a certificate that outlived its touch would be
        // refused there.
        if let (Some(interval), Some(asked_at)) = (options.mfa_verification_interval, touch.asked_at) {
            not_after = not_after.min(asked_at + interval);
        }
        if not_after <= now {
            return Err(Refused::Challenge);
        }
        let kind = wanted.kind;
        let identity = Identity {
            mfa: touch.evidence,
            route: Some(wanted.route),
            previous_expiry: Some(caller.not_after),
            ..self.identity(&standing, not_after, caller.login_ip)
        };
        let (mut answer, created) = match key {
            SessionKey::X509(key) => self.session_x509(&identity, &standing, key, now)?,
            SessionKey::Ssh(key) => self.session_ssh(identity, &standing, key, now)?,
        };
        answer.target = Some(announced.for_user(&standing));
        answer.host_authorities = self.authorities.certificate_bytes(AuthorityKind::Host);
        if kind == TargetKind::Node {
            answer.ssh_host_authorities = self.authorities.ssh_public_keys(AuthorityKind::Host);
        }
        Ok((answer, created))
    }

    fn session_x509(
        &self,
        identity: &Identity,
        standing: &Standing,
        key: &P256PublicKey,
        now: SystemTime,
    ) -> Result<(proto::SessionCertificate, Value), Refused> {
        let issued = self.sign_user(identity, standing, key, now)?;
        let created = created(identity, issued.not_after, &issued.serial_hex);
        let (certificate, not_after) = (issued.der.to_vec(), unix_millis(issued.not_after));
        Ok((proto::SessionCertificate { certificate, not_after, ..Default::default() }, created))
    }

    /// Its one principal is the login of its route.
    fn session_ssh(
        &self,
        identity: Identity,
        standing: &Standing,
        key: &SshPublicKey,
        now: SystemTime,
    ) -> Result<(proto::SessionCertificate, Value), Refused> {
        let Some(Login::Node { login }) = identity.route.as_ref().map(|route| &route.login) else {
            return Err(Refused::Internal("an SSH certificate for a database"));
        };
        let identity = Identity { logins: vec![login.clone()], ..identity };
        let issued = self
            .authorities
            .signer(AuthorityKind::User)
            .sign_ssh(key, &ssh::user_template(&identity, standing, now))?;
        let created = created(&identity, issued.not_after, &issued.serial_hex);
        let (ssh_certificate, not_after) = (issued.line, unix_millis(issued.not_after));
        Ok((proto::SessionCertificate { ssh_certificate, not_after, ..Default::default() }, created))
    }
}

/// The touch was for this route and this key, or it is for nothing. Answers with when it was asked for.
fn same_intent(intent: &[u8], route: Option<&proto::Route>, key: &SessionKey) -> Result<SystemTime, Refused> {
    let intent = proto::SessionIntent::decode(intent).map_err(|_| Refused::Challenge)?;
    let same = intent.route.as_ref() == route && intent.public_key_sha256 == key.sha256();
    from_unix_millis(intent.time).filter(|_| same).ok_or(Refused::Challenge)
}

/// What the certificate will say: with a security key its signature goes along, so that the sidecar need not take our word.
fn evidence(intent: &[u8], proof: Proof) -> MfaEvidence {
    match proof {
        Proof::NotNeeded => MfaEvidence::None,
        Proof::Totp { device } => MfaEvidence::Claimed { device: device.id() },
        Proof::Webauthn { device, assertion } => {
            let receipt = proto::Receipt {
                intent: intent.to_vec(),
                device_id: device.id.to_string(),
                client_data_json: assertion.client_data_json,
                authenticator_data: assertion.authenticator_data,
                signature: assertion.signature,
            };
            MfaEvidence::Receipt { device: device.id(), receipt: receipt.encode_to_vec() }
        }
    }
}
