//! First trust, and every trust after it.
//!
//! The first time a proxy is met, its host authority must be named by a pin (`--ca-pin`, or the fragment of an
//! invitation) or approved by a person at the terminal. From then on only the authorities that were saved count.

use std::path::Path;

use anyhow::{Context, bail};
use auth::{
    api::{self, CaPin, Trust},
    identity::ClusterName,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{
    armour,
    files::file_name,
    home::{self, Home, HomeError},
    profile::{Login, Profile},
    proxy_address::ProxyAddress,
    terminal::Terminal,
};

/// More authorities than any cluster has; what lies beyond is not read.
const MAX_AUTHORITIES: usize = 64;

/// The authorities saved for a proxy; empty where it was never met.
///
/// # Errors
/// [`HomeError`].
pub fn saved(home: &Home, proxy: &ProxyAddress) -> Result<Vec<CertificateDer<'static>>, HomeError> {
    let directory = home.authorities(proxy);
    let mut authorities = Vec::new();
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(authorities),
        entries => entries.map_err(|source| HomeError::Io { path: directory.clone(), source })?,
    };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "pem") {
            authorities.extend(read_authorities(&path)?);
        }
    }
    authorities.truncate(MAX_AUTHORITIES);
    Ok(authorities)
}

fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, HomeError> {
    let pem = home::read(path)?.unwrap_or_default();
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| HomeError::Damaged { path: path.to_owned(), why: "not certificates".to_owned() })
}

/// Saves the authorities of a cluster: from now on they alone are trusted at this proxy.
///
/// # Errors
/// [`HomeError`].
pub fn save(
    home: &Home,
    proxy: &ProxyAddress,
    cluster: &ClusterName,
    authorities: &[CertificateDer<'_>],
) -> Result<(), HomeError> {
    let path = authorities_file(home, proxy, cluster);
    let text: String = authorities.iter().map(|authority| armour::certificate(authority)).collect();
    home::write(&path, text.as_bytes())
}

/// Saves what the service says anew about its authorities, where that is another thing than what is saved. It said it under an
/// authority that was trusted. Of an identity file nothing is kept: it goes on with what it holds.
///
/// # Errors
/// [`HomeError`].
pub fn keep_up(home: &Home, login: &Login, host: &[Vec<u8>], ssh_host: &[String]) -> Result<(), HomeError> {
    if login.is_from_file {
        return Ok(());
    }
    let told: Vec<_> = host.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    if !told.is_empty() && told != login.authorities {
        save(home, &login.profile.proxy, &login.profile.cluster, &told)?;
    }
    if ssh_host.is_empty() { Ok(()) } else { save_ssh(home, &login.profile, ssh_host) }
}

/// Puts the authorities of a cluster's hosts into `known_hosts`, in the place of those that were there.
///
/// # Errors
/// [`HomeError`].
pub fn save_ssh(home: &Home, profile: &Profile, authorities: &[String]) -> Result<(), HomeError> {
    let before = home::read(&home.known_hosts())?.unwrap_or_default();
    let after = known_hosts(&before, profile, authorities);
    if after == before { Ok(()) } else { home::write(&home.known_hosts(), after.as_bytes()) }
}

/// The lines of other clusters, then this cluster's authorities (sshd(8), `@cert-authority`).
fn known_hosts(before: &str, profile: &Profile, authorities: &[String]) -> String {
    let hosts = format!("{},{cluster},*.{cluster}", profile.proxy.host(), cluster = profile.cluster);
    let ours = format!("@cert-authority {hosts} ");
    let mut lines: Vec<String> =
        before.lines().filter(|line| !line.starts_with(&ours)).map(str::to_owned).collect();
    let keys = authorities.iter().filter(|key| !key.contains(['\n', '\r']));
    lines.extend(keys.map(|key| format!("{ours}{} type=host", key.trim())));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Where the authorities of a cluster are saved.
#[must_use]
pub fn authorities_file(home: &Home, proxy: &ProxyAddress, cluster: &ClusterName) -> std::path::PathBuf {
    home.authorities(proxy).join(format!("{}.pem", file_name(cluster.as_str())))
}

/// The authorities to verify a proxy by: the saved ones; else the one that has a given pin; else the one that a person
/// approves. A given pin must also be among the saved ones, so that a changed authority is noticed.
///
/// # Errors
/// The proxy cannot be reached, the pin does not match, or nobody approved.
pub async fn establish(
    home: &Home,
    proxy: &ProxyAddress,
    pin: Option<CaPin>,
    terminal: &Terminal,
) -> anyhow::Result<Trust> {
    let saved = saved(home, proxy)?;
    if !saved.is_empty() {
        if let Some(pin) = pin
            && !saved.iter().any(|authority| CaPin::of(authority) == Some(pin))
        {
            bail!(
                "the CA pin does not match the authorities saved for {proxy}. If the cluster was set up anew, remove {}",
                home.authorities(proxy).display()
            );
        }
        return Ok(Trust::Authorities(saved));
    }
    let presented = api::probe(&proxy.to_string()).await?;
    match pin {
        Some(pin) if pin == presented.pin => {}
        Some(_) => bail!("the certificate of {proxy} does not match the CA pin"),
        None => approve(proxy, presented.pin, terminal)?,
    }
    Ok(Trust::Authorities(vec![presented.certificate]))
}

fn approve(proxy: &ProxyAddress, pin: CaPin, terminal: &Terminal) -> anyhow::Result<()> {
    if !terminal.is_controlling() {
        bail!(
            "the authority of {proxy} is not known yet: name it with --ca-pin=sha256:... (shown by: tctl status)"
        );
    }
    terminal.say(&format!("The authenticity of {proxy} can't be established. Its CA pin is {pin}."))?;
    let answer = terminal
        .ask("Are you sure you want to continue connecting (yes/no)? ")
        .context("nobody said whether to trust the auth service")?;
    if answer.trim() == "yes" { Ok(()) } else { bail!("{proxy} is not trusted") }
}

#[cfg(test)]
mod tests {
    use auth::identity::UserName;

    use super::*;

    #[test]
    fn a_proxy_never_met_has_no_authorities() {
        let home = tempfile::tempdir().unwrap();
        let saved = saved(&Home::at(home.path()), &"h:1".parse().unwrap()).unwrap();
        assert!(saved.is_empty());
    }

    #[test]
    fn saved_authorities_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let proxy = "h:1".parse().unwrap();
        let authorities = [CertificateDer::from(vec![1, 2, 3]), CertificateDer::from(vec![4; 200])];
        save(&home, &proxy, &ClusterName::new("main").unwrap(), &authorities).unwrap();
        assert_eq!(saved(&home, &proxy).unwrap(), authorities);
    }

    #[test]
    fn a_damaged_authorities_file_is_an_error_not_an_empty_trust() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let proxy = "h:1".parse().unwrap();
        let damaged = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        home::write(&home.authorities(&proxy).join("main.pem"), damaged.as_bytes()).unwrap();
        assert!(matches!(saved(&home, &proxy), Err(HomeError::Damaged { .. })));
    }

    fn profile() -> Profile {
        Profile {
            proxy: "auth.example.com:3080".parse().unwrap(),
            user: UserName::new("jerry").unwrap(),
            cluster: ClusterName::new("main").unwrap(),
        }
    }

    #[test]
    fn known_hosts_keeps_other_lines_and_replaces_ours() {
        let others = "github.com ssh-ed25519 AAAA\n";
        let once = known_hosts(others, &profile(), &["ssh-ed25519 BBBB".to_owned()]);
        let expected =
            format!("{others}@cert-authority auth.example.com,main,*.main ssh-ed25519 BBBB type=host\n");
        assert_eq!(once, expected);
        let again = known_hosts(&once, &profile(), &["ssh-ed25519 CCCC".to_owned()]);
        assert_eq!(again, expected.replace("BBBB", "CCCC"));
    }

    #[test]
    fn an_authority_cannot_add_lines_to_known_hosts() {
        let hostile = ["ssh-ed25519 BBBB\n* ssh-ed25519 EVIL".to_owned()];
        assert_eq!(known_hosts("", &profile(), &hostile), "");
    }
}
