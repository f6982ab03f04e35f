//! `tsh register URL`: an invitation is finished in the terminal, password first, then a device.

use anyhow::{Context as _, bail, ensure};
use auth::{
    api::{self, CaPin, Trust},
    identity::{ClusterName, UserName},
    proto::{
        AcceptInvitationRequest, BeginInvitationRequest, DeviceKind, GetInvitationRequest, Invitation,
        NewDevice, public_client::PublicClient,
    },
};
use tonic::transport::Channel;
use url::Url;
use zeroize::Zeroizing;

use super::{arguments, context::Context, devices};
use crate::{
    mfa,
    output::{print_text, printable},
    profile::{Profile, login_command},
    proxy_address::ProxyAddress,
    trust,
};

/// Shortest and longest password that the service takes, in characters.
const PASSWORD_CHARACTERS: std::ops::RangeInclusive<usize> = 6..=128;

/// An invitation as it was sent.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    proxy: ProxyAddress,
    token: String,
    pin: Option<CaPin>,
}

pub(super) async fn run(context: &Context, arguments: &arguments::Register) -> anyhow::Result<()> {
    let link = Link::parse(&arguments.url)?;
    let trusted = trust::establish(&context.home, &link.proxy, link.pin, &context.terminal).await?;
    let channel = api::connect(&link.proxy.to_string(), trusted.clone(), None).await?;
    let request = GetInvitationRequest { token: link.token.clone() };
    let invitation = PublicClient::new(channel.clone()).get_invitation(request).await?.into_inner();
    let profile = invited(&link.proxy, &invitation)?;
    let cluster = &profile.cluster;
    context.terminal.say(&format!("Welcome, {}. You are invited to {cluster}.", profile.user))?;
    let password = new_password(context).await?;
    let device = new_device(context, &link, &channel, &invitation, &arguments.device).await?;
    let name = device.as_ref().map(|device| device.name.clone());
    let request = AcceptInvitationRequest { token: link.token, password: password.to_string(), device };
    PublicClient::new(channel).accept_invitation(request).await?;
    if let Trust::Authorities(authorities) = &trusted {
        trust::save(&context.home, &link.proxy, cluster, authorities)?;
    }
    if let Some(name) = name {
        print_text(&format!("MFA device \"{}\" added.", printable(&name)))?;
    }
    print_text(&format!("Your account is ready. Log in with:\n\n  {}\n", login_command(&profile)))?;
    Ok(())
}

fn invited(proxy: &ProxyAddress, invitation: &Invitation) -> anyhow::Result<Profile> {
    Ok(Profile {
        proxy: proxy.clone(),
        user: UserName::new(invitation.user.as_str()).context("the invitation cannot be read")?,
        cluster: ClusterName::new(invitation.cluster_name.as_str())
            .context("the invitation cannot be read")?,
    })
}

async fn new_password(context: &Context) -> anyhow::Result<Zeroizing<String>> {
    let first = context.ask(|terminal| terminal.ask_hidden("Enter new password:")).await?;
    let length = first.chars().count();
    ensure!(
        PASSWORD_CHARACTERS.contains(&length),
        "a password has {} to {} characters",
        PASSWORD_CHARACTERS.start(),
        PASSWORD_CHARACTERS.end()
    );
    let second = context.ask(|terminal| terminal.ask_hidden("Confirm new password:")).await?;
    ensure!(*first == *second, "the passwords do not match");
    Ok(first)
}

async fn new_device(
    context: &Context,
    link: &Link,
    channel: &Channel,
    invitation: &Invitation,
    asked: &arguments::NewDevice,
) -> anyhow::Result<Option<NewDevice>> {
    let mut kinds = Vec::new();
    if invitation.accepts_totp {
        kinds.push(devices::Choice::Device(DeviceKind::Totp));
    }
    if invitation.accepts_webauthn {
        kinds.push(devices::Choice::Device(DeviceKind::Webauthn));
    }
    if !invitation.device_required {
        kinds.push(devices::Choice::None);
    }
    let devices::Choice::Device(kind) = devices::choose_kind(context, &kinds, asked).await? else {
        return Ok(None);
    };
    let prompter = context.prompter(&link.proxy, channel);
    if kind == DeviceKind::Webauthn && prompter.key.is_none() {
        bail!(mfa::missing("open the invitation in a browser, where passkeys will do too"));
    }
    let name = devices::choose_name(context, asked.name.as_deref()).await?;
    let passwordless = devices::choose_passwordless(context, channel, kind, asked).await?;
    let request = BeginInvitationRequest { token: link.token.clone(), kind: kind.into(), passwordless };
    let registration = PublicClient::new(channel.clone()).begin_invitation(request).await?.into_inner();
    devices::prove_new(context, &prompter, registration, name).await.map(Some)
}

impl Link {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let form = "an invitation looks like https://HOST:PORT/web/invite/TOKEN#ca-pin=sha256:...";
        let url = Url::parse(text).context(form)?;
        let token = url.path().strip_prefix("/web/invite/").unwrap_or_default();
        let known = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let plain = url.scheme() == "https" && url.username().is_empty() && url.query().is_none();
        if !plain || token.is_empty() || !token.chars().all(known) {
            bail!("{form}");
        }
        let host = url.host_str().context(form)?;
        let proxy = format!("{host}:{}", url.port().unwrap_or(443)).parse()?;
        let pin = match url.fragment() {
            None | Some("") => None,
            Some(fragment) => Some(fragment.strip_prefix("ca-pin=").context(form)?.parse()?),
        };
        Ok(Self { proxy, token: token.to_owned(), pin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_pin_travels_in_the_fragment() {
        let link =
            Link::parse(&format!("https://auth.example.com:3080/web/invite/abc123#ca-pin={PIN}")).unwrap();
        assert_eq!(link.proxy.to_string(), "auth.example.com:3080");
        assert_eq!(link.token, "abc123");
        assert_eq!(link.pin.unwrap().to_string(), PIN);
    }

    #[test]
    fn a_link_without_a_pin_or_a_port_is_understood() {
        let link = Link::parse("https://[::1]/web/invite/abc").unwrap();
        assert_eq!(link.proxy.to_string(), "[::1]:443");
        assert_eq!(link.pin, None);
    }

    #[test]
    fn what_is_no_invitation_is_refused() {
        for text in [
            "",
            "auth.example.com",
            "http://h/web/invite/abc",
            "https://h/web/invite/",
            "https://h/web/invite/a/b",
            "https://h/web/reset/abc",
            "https://u@h/web/invite/abc",
            "https://h/web/invite/abc?x=1",
            "https://h/web/invite/abc#ca-pin=sha256:00",
            "https://h/web/invite/abc#something-else",
        ] {
            assert!(Link::parse(text).is_err(), "{text}");
        }
    }
}
