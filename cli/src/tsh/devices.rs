//! `tsh mfa ls|add|rm`, and what adding a device shares with finishing an invitation.

use anyhow::{Context as _, bail, ensure};
use auth::{
    identity::UserName,
    proto::{
        BeginAddMfaDeviceRequest, CreateChallengeRequest, DeleteMfaDeviceRequest, DeviceKind,
        DeviceRegistration, FinishAddMfaDeviceRequest, ListMfaDevicesRequest, MfaDevice, MfaResponse,
        NewDevice, PingRequest, TotpSecret, create_challenge_request, device_registration, new_device::Proof,
        public_client::PublicClient, users_client::UsersClient,
    },
};
use serde::Serialize;
use tonic::transport::Channel;

use super::{
    arguments::{self, DeviceType},
    context::Context,
};
use crate::{
    connect::Connection,
    mfa::{self, Asked, Challenge, Prompter, Reason, Whose},
    output::{self, Table, print_text, printable},
    times,
};

/// Codes mistyped before giving up.
const CODE_ATTEMPTS: usize = 3;

pub(super) async fn list(context: &Context, arguments: &arguments::ListDevices) -> anyhow::Result<()> {
    let connection = context.connect().await?;
    let mut devices = registered(&connection).await?;
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    let shown: Vec<Shown> = devices.iter().map(Shown::of).collect();
    output::print(arguments.listing.format, &shown, || table(&devices, arguments.verbose))?;
    Ok(())
}

async fn registered(connection: &Connection) -> anyhow::Result<Vec<MfaDevice>> {
    let mut users = UsersClient::new(connection.channel.clone());
    Ok(users.list_mfa_devices(ListMfaDevicesRequest {}).await?.into_inner().devices)
}

#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    added_at: String,
    last_used: Option<String>,
}

impl Shown {
    fn of(device: &MfaDevice) -> Self {
        Self {
            id: device.id.clone(),
            name: device.name.clone(),
            kind: kind_name(device.kind()),
            added_at: times::rfc3339(times::from_millis(device.added_at)),
            last_used: (device.last_used != 0).then(|| times::rfc3339(times::from_millis(device.last_used))),
        }
    }
}

fn kind_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Totp => "TOTP",
        DeviceKind::Webauthn => "WebAuthn",
        DeviceKind::Unspecified => "unknown",
    }
}

fn table(devices: &[MfaDevice], verbose: bool) -> String {
    let mut table = match verbose {
        true => Table::new(["Name", "ID", "Type", "Added at", "Last used"]),
        false => Table::new(["Name", "Type", "Added at", "Last used"]),
    };
    for device in devices {
        let used = match device.last_used {
            0 => "never".to_owned(),
            at => times::rfc1123(times::from_millis(at)),
        };
        let added = times::rfc1123(times::from_millis(device.added_at));
        let kind = kind_name(device.kind()).to_owned();
        let mut row = vec![device.name.clone(), kind, added, used];
        if verbose {
            row.insert(1, device.id.clone());
        }
        table.row(row);
    }
    table.render()
}

pub(super) async fn add(context: &Context, asked: &arguments::NewDevice) -> anyhow::Result<()> {
    let connection = context.connect().await?;
    let kinds = [Choice::Device(DeviceKind::Totp), Choice::Device(DeviceKind::Webauthn)];
    let Choice::Device(kind) = choose_kind(context, &kinds, asked).await? else { return Ok(()) };
    let profile = &connection.login.profile;
    let prompter = context.prompter(&profile.proxy, &connection.channel);
    if kind == DeviceKind::Webauthn && prompter.key.is_none() {
        let page = format!("add it (or a passkey) in a browser: https://{}/web/devices", profile.proxy);
        bail!(mfa::missing(&page));
    }
    let name = choose_name(context, asked.name.as_deref()).await?;
    let passwordless = choose_passwordless(context, &connection.channel, kind, asked).await?;
    let (challenge_id, mfa) = prove_existing(&connection, &prompter, Whose::Registered).await?;
    // Who has no device yet proves to be there by the password: a stolen login must not add the first one.
    let password = match mfa.response {
        Some(_) => String::new(),
        None => password(context, &profile.user).await?,
    };
    let mut users = UsersClient::new(connection.channel.clone());
    let begin =
        BeginAddMfaDeviceRequest { kind: kind.into(), challenge_id, mfa: Some(mfa), passwordless, password };
    let registration = users.begin_add_mfa_device(begin).await?.into_inner();
    let device = prove_new(context, &prompter, registration, name).await?;
    let added =
        users.finish_add_mfa_device(FinishAddMfaDeviceRequest { device: Some(device) }).await?.into_inner();
    Ok(print_text(&format!("MFA device \"{}\" added.", printable(&added.name)))?)
}

async fn password(context: &Context, user: &UserName) -> anyhow::Result<String> {
    let prompt = format!("Enter password for Touchstone user {user}:");
    Ok(context.ask(move |terminal| terminal.ask_hidden(&prompt)).await?.to_string())
}

pub(super) async fn remove(context: &Context, device: &str) -> anyhow::Result<()> {
    let connection = context.connect().await?;
    // Before anybody touches anything for it.
    if !registered(&connection).await?.iter().any(|known| known.name == device || known.id == device) {
        bail!("MFA device \"{}\" not found, run: tsh mfa ls", printable(device));
    }
    let prompter = context.prompter(&connection.login.profile.proxy, &connection.channel);
    let (challenge_id, mfa) = prove_existing(&connection, &prompter, Whose::Any).await?;
    let request = DeleteMfaDeviceRequest { device: device.to_owned(), challenge_id, mfa: Some(mfa) };
    let removed = UsersClient::new(connection.channel).delete_mfa_device(request).await?.into_inner().device;
    let name = removed.map_or_else(|| device.to_owned(), |removed| removed.name);
    Ok(print_text(&format!("MFA device \"{}\" removed.", printable(&name)))?)
}

async fn prove_existing(
    connection: &Connection,
    prompter: &Prompter,
    whose: Whose,
) -> anyhow::Result<(String, MfaResponse)> {
    let scope = create_challenge_request::Scope::ManageDevices(create_challenge_request::ManageDevices {});
    let request = CreateChallengeRequest { scope: Some(scope) };
    let challenge =
        UsersClient::new(connection.channel.clone()).create_challenge(request).await?.into_inner();
    let profile = &connection.login.profile;
    let asked = Asked { cluster: &profile.cluster, user: &profile.user, reason: Reason::ManageDevices };
    let challenge = Challenge::checked(challenge, &asked)?;
    let answer = prompter.answer(&challenge, whose).await?;
    Ok((challenge.into_id(), answer))
}

/// What may be chosen as a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// A device of this kind.
    Device(DeviceKind),
    /// None at all.
    None,
}

impl Choice {
    fn word(self) -> &'static str {
        match self {
            Self::Device(DeviceKind::Webauthn) => "WEBAUTHN",
            Self::Device(_) => "TOTP",
            Self::None => "NONE",
        }
    }
}

/// The kind of the new device: as asked for on the command line, else by a question.
pub(super) async fn choose_kind(
    context: &Context,
    choices: &[Choice],
    asked: &arguments::NewDevice,
) -> anyhow::Result<Choice> {
    let words: Vec<&str> = choices.iter().map(|choice| choice.word()).collect();
    let words = words.join(", ");
    let answer = match asked.kind {
        Some(DeviceType::Totp) => "TOTP".to_owned(),
        Some(DeviceType::Webauthn) => "WEBAUTHN".to_owned(),
        None => {
            let question = format!("Choose device type [{words}]: ");
            context.ask(move |terminal| terminal.ask(&question)).await?
        }
    };
    let chosen = choices.iter().find(|choice| choice.word().eq_ignore_ascii_case(answer.trim()));
    chosen.copied().with_context(|| format!("the device type must be one of: {words}"))
}

/// Whether the new device may log in by itself: as said on the command line; else asked for, where the cluster allows it.
pub(super) async fn choose_passwordless(
    context: &Context,
    channel: &Channel,
    kind: DeviceKind,
    asked: &arguments::NewDevice,
) -> anyhow::Result<bool> {
    match (kind, asked.allow_passwordless) {
        (DeviceKind::Webauthn, Some(said)) => return Ok(said),
        (DeviceKind::Webauthn, None) => {}
        (_, Some(true)) => bail!("only security keys can log in by themselves: --type=WEBAUTHN"),
        (_, _) => return Ok(false),
    }
    let ping = PublicClient::new(channel.clone()).ping(PingRequest {}).await?.into_inner();
    if !ping.passwordless {
        return Ok(false);
    }
    let answer = context.ask(|terminal| terminal.ask("Allow passwordless logins [YES, NO]: ")).await?;
    yes_or_no(&answer).context("answer YES or NO")
}

fn yes_or_no(answer: &str) -> Option<bool> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "yes" | "y" => Some(true),
        "no" | "n" => Some(false),
        _ => None,
    }
}

/// The name of the new device: as given on the command line, else by a question.
pub(super) async fn choose_name(context: &Context, given: Option<&str>) -> anyhow::Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => context.ask(|terminal| terminal.ask("Enter device name: ")).await?,
    };
    let name = name.trim().to_owned();
    ensure!(!name.is_empty(), "device name cannot be empty");
    ensure!(name.chars().count() <= 64, "device name cannot be longer than 64 characters");
    Ok(name)
}

/// Lets the new device prove itself: a touch, or a code that it shows.
pub(super) async fn prove_new(
    context: &Context,
    prompter: &Prompter,
    registration: DeviceRegistration,
    name: String,
) -> anyhow::Result<NewDevice> {
    let proof = match registration.kind.context("the auth service began no registration")? {
        device_registration::Kind::Totp(secret) => {
            context.terminal.say(&manual_entry(&secret))?;
            Proof::TotpCode(new_code(context, secret.digits).await?)
        }
        device_registration::Kind::WebauthnCreationOptionsJson(options) => {
            Proof::WebauthnCredentialJson(prompter.register(&options).await?)
        }
    };
    Ok(NewDevice { registration_id: registration.registration_id, name, proof: Some(proof) })
}

fn manual_entry(secret: &TotpSecret) -> String {
    let TotpSecret { otpauth_url, secret, account, issuer, algorithm, digits, period_seconds } = secret;
    let fields = [
        ("URL", printable(otpauth_url)),
        ("Account name", printable(account)),
        ("Secret key", printable(secret)),
        ("Issuer", printable(issuer)),
        ("Algorithm", printable(algorithm)),
        ("Number of digits", digits.to_string()),
        ("Period", format!("{period_seconds}s")),
    ];
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("  {name}: {value}")).collect();
    format!("Open your TOTP app and create a new manual entry with these fields:\n\n{}\n", fields.join("\n"))
}

async fn new_code(context: &Context, digits: u32) -> anyhow::Result<String> {
    for _ in 0..CODE_ATTEMPTS {
        let answer = context
            .ask(|terminal| terminal.ask("Once created, enter an OTP code generated by the app: "))
            .await?;
        let code = answer.trim();
        if is_code(code, digits) {
            return Ok(code.to_owned());
        }
        context.terminal.say(&format!("TOTP code must be exactly {digits} digits long, try again"))?;
    }
    bail!("no OTP code was entered")
}

fn is_code(code: &str, digits: u32) -> bool {
    u32::try_from(code.len()) == Ok(digits) && code.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: DeviceKind, last_used: i64) -> MfaDevice {
        MfaDevice {
            id: "0191e0a4-2f8e-7a54-b56f-1f6a4a8f0b11".to_owned(),
            name: name.to_owned(),
            kind: kind.into(),
            added_at: 1_674_115_277_000,
            last_used,
            passwordless: false,
        }
    }

    #[test]
    fn the_table_is_teleports() {
        let devices = [device("otp-device", DeviceKind::Totp, 1_674_115_604_000)];
        let expected = "\
Name       Type Added at                      Last used
---------- ---- ----------------------------- -----------------------------
otp-device TOTP Thu, 19 Jan 2023 08:01:17 UTC Thu, 19 Jan 2023 08:06:44 UTC";
        assert_eq!(table(&devices, false), expected);
    }

    #[test]
    fn verbose_adds_the_id() {
        let text = table(&[device("key", DeviceKind::Webauthn, 0)], true);
        assert!(text.starts_with("Name ID"), "{text}");
        assert!(text.contains("0191e0a4-2f8e-7a54-b56f-1f6a4a8f0b11 WebAuthn"), "{text}");
        assert!(text.ends_with("never"), "{text}");
    }

    #[test]
    fn the_manual_entry_shows_every_field() {
        let secret = TotpSecret {
            otpauth_url: "otpauth://totp/main:jerry?secret=ABC".to_owned(),
            secret: "ABC".to_owned(),
            account: "jerry".to_owned(),
            issuer: "main".to_owned(),
            algorithm: "SHA1".to_owned(),
            digits: 6,
            period_seconds: 30,
        };
        let expected = "\
Open your TOTP app and create a new manual entry with these fields:

  URL: otpauth://totp/main:jerry?secret=ABC
  Account name: jerry
  Secret key: ABC
  Issuer: main
  Algorithm: SHA1
  Number of digits: 6
  Period: 30s
";
        assert_eq!(manual_entry(&secret), expected);
    }

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        for (answer, meant) in [("YES", Some(true)), (" yes\n", Some(true)), ("No", Some(false)), ("", None)]
        {
            assert_eq!(yes_or_no(answer), meant, "{answer}");
        }
        assert_eq!(yes_or_no("yes please"), None);
    }

    #[test]
    fn a_code_has_exactly_its_digits() {
        assert!(is_code("012345", 6));
        for wrong in ["", "12345", "1234567", "12345a", "１２３４５６"] {
            assert!(!is_code(wrong, 6), "{wrong}");
        }
    }
}
