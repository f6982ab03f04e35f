//! `tsh login`: password and second factor against certificates of up to 12 hours.

use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use auth::{
    api::{self, ApiError},
    identity::{ClusterName, UserName},
    key,
    proto::{
        BeginLoginRequest, BeginPasswordlessLoginRequest, FinishLoginRequest, ListMfaDevicesRequest,
        LoginCertificates, MfaResponse, PingRequest, public_client::PublicClient, users_client::UsersClient,
    },
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use ssh_key::{LineEnding, PrivateKey};
use tonic::{Code, transport::Channel};
use zeroize::Zeroizing;

pub(super) mod out;

use self::out::Out;
use super::{
    arguments::{self, Auth},
    context::Context,
    status,
};
use crate::{
    armour, connect,
    home::{self, Home},
    mfa::{Asked, Challenge, Prompter, Reason, Whose},
    output::{Format, print_text, printable},
    profile::{self, Login, Profile, Selection},
    proxy_address::ProxyAddress,
    ssh, trust,
};

const SECONDS_A_MINUTE: u32 = 60;

pub(super) async fn run(context: &Context, arguments: &arguments::Login) -> anyhow::Result<()> {
    context.refuse_identity()?;
    let context = &context.in_cluster(arguments.into.as_deref())?;
    let out = arguments.out.as_deref().map(|file| Out::new(file, arguments.format));
    if let Some(out) = out.as_ref().filter(|_| !arguments.overwrite) {
        out.refuse_existing()?;
    }
    if out.is_none()
        && let Ok(login) = Login::load(&context.home, &context.selection, SystemTime::now())
        && !is_refused(&login).await
    {
        // Whom one logs in as is whom the next commands mean, though nothing needs to be asked.
        let saving = context.home.lock()?;
        login.profile.save(&context.home)?;
        drop(saving);
        return status::run(context, Format::Text);
    }
    let proxy = proxy(context)?;
    let trusted = trust::establish(&context.home, &proxy, arguments.ca_pin, &context.terminal).await?;
    let channel = api::connect(&proxy.to_string(), trusted, None).await?;
    let ping = PublicClient::new(channel.clone()).ping(PingRequest {}).await?.into_inner();
    if !ping.message_of_the_day.is_empty() {
        let lines: Vec<String> = ping.message_of_the_day.lines().map(printable).collect();
        context.terminal.say(&lines.join("\n"))?;
    }
    let cluster = ClusterName::new(ping.cluster_name).context("the auth service has no name")?;
    if let Some(asked) = context.selection.cluster.as_ref().filter(|asked| *asked != cluster.as_str()) {
        bail!("cluster {asked:?} is not found, {proxy} is the auth service of {cluster}");
    }
    let keys = Keys::generate()?;
    let asking = Asking {
        prompter: context.prompter(&proxy, &channel),
        channel,
        keys: &keys,
        ttl_seconds: arguments.ttl.unwrap_or(0).saturating_mul(SECONDS_A_MINUTE),
    };
    let (profile, certificates) = match arguments.auth {
        Auth::Local => {
            let profile = Profile { user: user(context, &proxy)?, proxy, cluster };
            let certificates = asking.by_password(context, &profile).await?;
            (profile, certificates)
        }
        Auth::Passwordless => {
            ensure!(ping.passwordless, "passwordless login is not allowed by the cluster");
            let certificates = asking.by_passkey(&cluster).await?;
            let user = whoever_it_was(&certificates, context.selection.user.as_ref())?;
            (Profile { proxy, user, cluster }, certificates)
        }
    };
    if let Some(out) = out {
        return Ok(print_text(&out.write(&profile.cluster, &keys, &certificates)?)?);
    }
    keep(&context.home, &profile, &keys, &certificates)?;
    let selection =
        Selection { proxy: Some(profile.proxy), user: Some(profile.user), ..Selection::default() };
    status::print_login(&Login::load(&context.home, &selection, SystemTime::now())?, &context.home)
}

/// Is a login none, though it is in date? The service says so: it was ended, the authority that signed it is gone, its roles are, or
/// it is good at another address alone. Or it opens nothing, because whoever is there is nobody whom we trust. Where the service
/// cannot be asked, it is taken for one.
async fn is_refused(login: &Login) -> bool {
    let channel = match connect::channel(login).await {
        Ok(channel) => channel,
        Err(error) => return !is_away(&error),
    };
    let answer = UsersClient::new(channel).list_mfa_devices(ListMfaDevicesRequest {}).await;
    answer.is_err_and(|status| matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied))
}

/// Could the service not be asked?
fn is_away(error: &anyhow::Error) -> bool {
    use ApiError::{TimedOut, Tls, Unreachable};
    matches!(error.downcast_ref(), Some(Unreachable { .. } | TimedOut { .. } | Tls { .. }))
}

fn proxy(context: &Context) -> anyhow::Result<ProxyAddress> {
    let chosen = match &context.selection.proxy {
        Some(proxy) => Some(proxy.clone()),
        None => profile::current_proxy(&context.home)?,
    };
    chosen.context("no proxy address specified, use: tsh login --proxy=HOST:PORT --user=USER")
}

/// The user of the flag; else the profile's; else the one who is logged in to this machine.
fn user(context: &Context, proxy: &ProxyAddress) -> anyhow::Result<UserName> {
    let selection = Selection { proxy: Some(proxy.clone()), ..Selection::default() };
    let known = Profile::load(&context.home, &selection).ok().map(|profile| profile.user);
    let here = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let local = || here().and_then(|user| UserName::new(user.name).ok());
    let chosen = context.selection.user.clone().or(known).or_else(local);
    chosen.context("no user specified, use: tsh login --proxy=HOST:PORT --user=USER")
}

/// What certificates are asked for with.
struct Asking<'a> {
    channel: Channel,
    prompter: Prompter,
    keys: &'a Keys,
    ttl_seconds: u32,
}

impl Asking<'_> {
    /// Password, second factor, certificates.
    async fn by_password(&self, context: &Context, profile: &Profile) -> anyhow::Result<LoginCertificates> {
        let prompt = format!("Enter password for Touchstone user {}:", profile.user);
        let password = context.ask(move |terminal| terminal.ask_hidden(&prompt)).await?;
        let (challenge_id, mfa) = prove(&self.channel, profile, &self.prompter, &password).await?;
        self.finish(challenge_id, mfa).await
    }

    /// A passkey, certificates.
    async fn by_passkey(&self, cluster: &ClusterName) -> anyhow::Result<LoginCertificates> {
        let (challenge_id, mfa) = prove_by_passkey(&self.channel, cluster, &self.prompter).await?;
        self.finish(challenge_id, mfa).await
    }

    async fn finish(&self, challenge_id: String, mfa: MfaResponse) -> anyhow::Result<LoginCertificates> {
        let finish = FinishLoginRequest {
            challenge_id,
            mfa: Some(mfa),
            tls_public_key: self.keys.tls_public.clone(),
            ssh_public_key: self.keys.ssh.public_key().to_bytes()?,
            ttl_seconds: self.ttl_seconds,
        };
        Ok(PublicClient::new(self.channel.clone()).finish_login(finish).await?.into_inner())
    }
}

/// A passkey says who is there, for a passwordless login and nothing else.
async fn prove_by_passkey(
    channel: &Channel,
    cluster: &ClusterName,
    prompter: &Prompter,
) -> anyhow::Result<(String, MfaResponse)> {
    let request = BeginPasswordlessLoginRequest {};
    let challenge = PublicClient::new(channel.clone()).begin_passwordless_login(request).await?.into_inner();
    let challenge = Challenge::checked_passwordless(challenge, cluster)?;
    let answer = prompter.answer(&challenge, Whose::Any).await?;
    ensure!(answer.response.is_some(), "the auth service asks for no passkey");
    Ok((challenge.into_id(), answer))
}

/// Whom the passkey logged in; an error where somebody else was wanted.
fn whoever_it_was(certificates: &LoginCertificates, wanted: Option<&UserName>) -> anyhow::Result<UserName> {
    let user =
        UserName::new(certificates.user.as_str()).context("the auth service does not say who logged in")?;
    match wanted {
        Some(wanted) if *wanted != user => bail!("this passkey is of user {user}, not of {wanted}"),
        _ => Ok(user),
    }
}

/// The password, then the second factor, for a login and nothing else.
async fn prove(
    channel: &Channel,
    profile: &Profile,
    prompter: &Prompter,
    password: &str,
) -> anyhow::Result<(String, MfaResponse)> {
    let begin = BeginLoginRequest { user: profile.user.to_string(), password: password.to_owned() };
    let challenge = PublicClient::new(channel.clone()).begin_login(begin).await?.into_inner();
    let asked = Asked { cluster: &profile.cluster, user: &profile.user, reason: Reason::Login };
    let challenge = Challenge::checked(challenge, &asked)?;
    let answer = prompter.answer(&challenge, Whose::Any).await?;
    Ok((challenge.into_id(), answer))
}

/// The two keys of a login.
struct Keys {
    tls: Zeroizing<PrivatePkcs8KeyDer<'static>>,
    tls_public: Vec<u8>,
    ssh: PrivateKey,
}

impl Keys {
    fn generate() -> anyhow::Result<Self> {
        let (tls, tls_public) = key::generate_p256()?;
        Ok(Self { tls, tls_public, ssh: ssh::key::generate()? })
    }
}

/// Writes what a login consists of; the profile last, so that it never names what is not there.
fn keep(home: &Home, profile: &Profile, keys: &Keys, certificates: &LoginCertificates) -> anyhow::Result<()> {
    let _keeping = home.lock()?;
    let files = home.user(&profile.proxy, &profile.user);
    let authorities: Vec<_> =
        certificates.host_authorities.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    if !authorities.is_empty() {
        trust::save(home, &profile.proxy, &profile.cluster, &authorities)?;
    }
    home::write(&files.tls_key(), armour::private_key(&keys.tls).as_bytes())?;
    home::write(&files.tls_certificate(), armour::certificate(&certificates.tls_certificate).as_bytes())?;
    home::write(&files.ssh_key(), keys.ssh.to_openssh(LineEnding::LF)?.as_bytes())?;
    home::write(&files.ssh_public_key(), format!("{}\n", keys.ssh.public_key().to_openssh()?).as_bytes())?;
    let ssh_certificate = format!("{}\n", certificates.ssh_certificate.trim());
    home::write(&files.ssh_certificate(&profile.cluster), ssh_certificate.as_bytes())?;
    trust::save_ssh(home, profile, &certificates.ssh_host_authorities)?;
    profile.save(home)?;
    Ok(())
}

#[cfg(test)]
mod tests;
