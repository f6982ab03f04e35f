//! A thief at work while a person touches the key: gets a session certificate exactly as tsh does, and keeps certificate
//! and key in files, which tsh never does. For stories about what such a certificate still cannot open.
//!
//! Usage: `session-thief TARGET DB_USER DB_NAME PREFIX`, with the person's `TSH_HOME` and `TSH_SOFTWARE_KEY`.

use std::{env, fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, sync::Arc};

use anyhow::{Context, Result};
use auth::proto::{
    CreateChallengeRequest, IssueSessionCertificateRequest, ListTargetsRequest, MfaChallenge, MfaResponse,
    PingRequest, Route,
    create_challenge_request::{Scope, Session},
    mfa_response::Response,
    public_client::PublicClient,
    users_client::UsersClient,
};
use cli::{
    connect::{Connection, connect},
    home::Home,
    mfa::{RelyingParty, plugged_in},
    profile::Selection,
};
use pem::Pem;

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let mut next = |what: &'static str| args.next().with_context(|| format!("{what} is missing"));
    let route = Route {
        target_kind: "database".to_owned(),
        target_name: next("TARGET")?,
        // What it speaks, authd tells.
        protocol: String::new(),
        login: next("DB_USER")?,
        db_name: next("DB_NAME")?,
    };
    let prefix = next("PREFIX")?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(steal(route, &prefix))
}

async fn steal(mut route: Route, prefix: &str) -> Result<()> {
    let connection = connect(&Home::from_environment()?, &Selection::default()).await?;
    let mut users = UsersClient::new(connection.channel.clone());
    let databases = ListTargetsRequest { kind: route.target_kind.clone() };
    let targets = users.list_targets(databases).await?.into_inner().targets;
    let target = targets.into_iter().find(|target| target.name == route.target_name);
    route.protocol = target.context("no such target")?.protocol;
    let (key, public_key) = auth::key::generate_p256()?;

    let scope = Scope::Session(Session {
        route: Some(route.clone()),
        public_key: public_key.clone(),
        ..Session::default()
    });
    let challenge = users.create_challenge(CreateChallengeRequest { scope: Some(scope) }).await?.into_inner();
    let assertion = touch(&connection, &challenge).await?;
    let request = IssueSessionCertificateRequest {
        route: Some(route.clone()),
        public_key,
        requester: 0,
        challenge_id: challenge.challenge_id,
        mfa: Some(MfaResponse { response: Some(Response::WebauthnAssertionJson(assertion)) }),
        ssh_public_key: Vec::new(),
    };
    let certificate = users.issue_session_certificate(request).await?.into_inner().certificate;

    keep(&format!("{prefix}.crt"), &Pem::new("CERTIFICATE", certificate))?;
    keep(&format!("{prefix}.key"), &Pem::new("PRIVATE KEY", key.secret_pkcs8_der()))?;
    println!(
        "Kept the session certificate for {}, and its key, in {prefix}.crt and {prefix}.key.",
        route.target_name
    );
    Ok(())
}

/// The security key signs; it cannot know for whom.
async fn touch(connection: &Connection, challenge: &MfaChallenge) -> Result<String> {
    let ping = PublicClient::new(connection.channel.clone()).ping(PingRequest {}).await?.into_inner();
    let party =
        RelyingParty::claimed(&connection.login.profile.proxy, &ping.webauthn_rp_id, &ping.webauthn_origin)?;
    let key: Arc<_> = plugged_in().context("no security key")?;
    let options = serde_json::from_str(&challenge.webauthn_request_options_json)?;
    Ok(serde_json::to_string(&key.assert(&party, options)?)?)
}

fn keep(path: &str, pem: &Pem) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(pem::encode(pem).as_bytes())?;
    Ok(())
}
