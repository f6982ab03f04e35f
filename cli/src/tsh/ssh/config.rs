//! `tsh config`: an ssh_config for OpenSSH, and for scp, sftp, rsync, git, Ansible, editors.

use std::{env, ffi::OsString, path::Path};

use anyhow::{Context as _, ensure};
use auth::proto::Target;

use super::node;
use crate::{environment, home::UserFiles, output::print_text, profile::Profile, tsh::context::Context};

pub(in crate::tsh) async fn run(context: &Context) -> anyhow::Result<()> {
    context.refuse_identity()?;
    let connection = context.connect().await?;
    let profile = &connection.login.profile;
    let files = context.home.user(&profile.proxy, &profile.user);
    for file in [files.ssh_key(), files.ssh_certificate(&profile.cluster), context.home.known_hosts()] {
        ensure!(file.exists(), "{} is missing, log out and in again: tsh logout; tsh login", file.display());
    }
    let nodes = node::list(&connection.channel).await?;
    let tsh = Tsh {
        program: env::current_exe().context("cannot tell where tsh is")?.into_os_string(),
        home: environment::value("TSH_HOME"),
    };
    let known_hosts = std::path::absolute(context.home.known_hosts())?;
    Ok(print_text(&text(profile, &files, &known_hosts, &tsh, &nodes)?)?)
}

/// How tsh is run again.
struct Tsh {
    program: OsString,
    /// `TSH_HOME`, where it is set, maybe under Teleport's name: the ssh of an editor or a timer does not have it.
    home: Option<OsString>,
}

fn text(
    profile: &Profile,
    files: &UserFiles,
    known_hosts: &Path,
    tsh: &Tsh,
    nodes: &[Target],
) -> anyhow::Result<String> {
    let (proxy, cluster) = (&profile.proxy, &profile.cluster);
    let names: Vec<&str> =
        nodes.iter().map(|node| node.name.as_str()).filter(|name| is_plain(name)).collect();
    let mut hosts = vec![format!("*.{cluster}")];
    hosts.extend(names.iter().map(|&name| name.to_owned()));
    let mut lines =
        vec![format!("# Begin generated Touchstone configuration for {proxy} by tsh"), String::new()];
    for name in &names {
        // The host certificate is verified by this name, and known_hosts trusts the authority for it.
        lines.extend([format!("Host {name}"), format!("    HostKeyAlias {name}.{cluster}"), String::new()]);
    }
    lines.push(format!("Host {}", hosts.join(" ")));
    let certificate = std::path::absolute(files.ssh_certificate(cluster))?;
    for (keyword, path) in [
        ("UserKnownHostsFile", known_hosts),
        ("IdentityFile", &std::path::absolute(files.ssh_key())?),
        ("CertificateFile", &certificate),
    ] {
        lines.push(format!("    {keyword} {}", quoted_path(path)?));
    }
    lines.extend(
        ["IdentitiesOnly yes", "StrictHostKeyChecking yes", "UpdateHostKeys no"]
            .map(|line| format!("    {line}")),
    );
    lines.push(format!("    ProxyCommand {}", proxy_command(profile, tsh)?));
    lines.extend([String::new(), "# End generated Touchstone configuration".to_owned()]);
    Ok(lines.join("\n"))
}

/// A name that is one word of ssh_config, and no pattern.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

/// A path as ssh_config takes one: in quotes, and what stands for something else said twice.
fn quoted_path(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\n', '\r', '\\']) && !text.contains("${"));
    let text = text.with_context(|| format!("{} cannot be written into an ssh_config", path.display()))?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

/// ssh runs it with the user's shell, after it has put login, host and port in.
fn proxy_command(profile: &Profile, tsh: &Tsh) -> anyhow::Result<String> {
    let word = |word: &OsString| -> anyhow::Result<String> {
        let text = word.to_str().context("the path of tsh is not text")?;
        ensure!(!text.contains(['\n', '\r']), "the path of tsh cannot be written into an ssh_config");
        Ok(shlex::try_quote(text)?.replace('%', "%%"))
    };
    let mut command = Vec::new();
    if let Some(home) = &tsh.home {
        command.extend(["env".to_owned(), format!("TSH_HOME={}", word(home)?)]);
    }
    command.push(word(&tsh.program)?);
    command.extend(["proxy".to_owned(), "ssh".to_owned()]);
    for (flag, value) in [
        ("--cluster", profile.cluster.to_string()),
        ("--proxy", profile.proxy.to_string()),
        ("--user", profile.user.to_string()),
    ] {
        command.push(format!("{flag}={}", word(&value.into())?));
    }
    command.push("%r@%h:%p".to_owned());
    Ok(command.join(" "))
}

#[cfg(test)]
mod tests {
    use auth::identity::{ClusterName, UserName};

    use super::*;
    use crate::home::Home;

    fn node(name: &str) -> Target {
        Target { kind: "node".to_owned(), name: name.to_owned(), ..Target::default() }
    }

    fn shown(user: &str, home: Option<&str>, nodes: &[Target]) -> anyhow::Result<String> {
        let profile = Profile {
            proxy: "auth.example.com:3080".parse().unwrap(),
            user: UserName::new(user).unwrap(),
            cluster: ClusterName::new("main").unwrap(),
        };
        let files = Home::at("/h").user(&profile.proxy, &profile.user);
        let tsh = Tsh { program: "/usr/bin/tsh".into(), home: home.map(Into::into) };
        text(&profile, &files, Path::new("/h/known_hosts"), &tsh, nodes)
    }

    #[test]
    fn it_is_an_ssh_config() {
        let expected = "\
# Begin generated Touchstone configuration for auth.example.com:3080 by tsh

Host prod-1
    HostKeyAlias prod-1.main

Host *.main prod-1
    UserKnownHostsFile \"/h/known_hosts\"
    IdentityFile \"/h/keys/auth.example.com_3080/jerry\"
    CertificateFile \"/h/keys/auth.example.com_3080/jerry-ssh/main-cert.pub\"
    IdentitiesOnly yes
    StrictHostKeyChecking yes
    UpdateHostKeys no
    ProxyCommand /usr/bin/tsh proxy ssh --cluster=main --proxy=auth.example.com:3080 --user=jerry %r@%h:%p

# End generated Touchstone configuration";
        assert_eq!(shown("jerry", None, &[node("prod-1")]).unwrap(), expected);
    }

    #[test]
    fn what_ssh_would_replace_is_said_twice() {
        let text = shown("DOMAIN:jerry", Some("/my home"), &[]).unwrap();
        assert!(text.contains("IdentityFile \"/h/keys/auth.example.com_3080/DOMAIN%%3Ajerry\""), "{text}");
        assert!(text.contains("ProxyCommand env TSH_HOME='/my home' /usr/bin/tsh proxy ssh"), "{text}");
        assert!(text.contains("Host *.main\n"), "{text}");
    }

    #[test]
    fn a_name_cannot_bring_a_line_or_a_pattern_into_it() {
        let text =
            shown("jerry", None, &[node("*"), node("a\n    ProxyCommand evil"), node("b c"), node("-x")]);
        assert!(text.unwrap().contains("Host *.main\n"));
        assert!(quoted_path(Path::new("/a\"b")).is_err());
        assert!(quoted_path(Path::new("/a\nb")).is_err());
    }

    /// What OpenSSH itself makes of it.
    #[test]
    fn openssh_understands_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        std::fs::write(&file, shown("jerry", Some("/my home"), &[node("prod-1")]).unwrap()).unwrap();
        for (host, alias) in [("prod-1", "prod-1.main"), ("other.main", "none")] {
            let ssh =
                std::process::Command::new("ssh").arg("-F").arg(&file).args(["-G", host]).output().unwrap();
            let options = String::from_utf8(ssh.stdout).unwrap();
            let has = |line: &str| options.lines().any(|option| option == line);
            assert!(
                has("userknownhostsfile /h/known_hosts") && has("stricthostkeychecking true"),
                "{options}"
            );
            assert!(
                has("certificatefile /h/keys/auth.example.com_3080/jerry-ssh/main-cert.pub"),
                "{options}"
            );
            assert!(
                options.contains("proxycommand env TSH_HOME='/my home' /usr/bin/tsh proxy ssh"),
                "{options}"
            );
            assert_eq!(has(&format!("hostkeyalias {alias}")), alias != "none", "{options}");
        }
    }
}
