//! `tctl auth export`: an authority's public half, in the form of whoever must trust it.

use anyhow::{Result, bail};
use auth::proto::{Authority, ListAuthoritiesRequest, StatusRequest};

use super::super::Admin;
use crate::{armour, output};

/// Print an authority's public certificates or keys.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Export {
    /// Which authority, for whom [default: user and host]
    #[arg(long = "type", value_enum)]
    kind: Option<ExportType>,
}

/// Which authority, in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ExportType {
    /// SSH keys that sign users, for an authorized_keys file
    User,
    /// SSH keys that sign hosts, for a known_hosts file
    Host,
    /// Certificates that sign users
    TlsUser,
    /// Certificates that sign authd and the sidecars
    TlsHost,
    /// Certificates that sign databases
    Db,
    /// Certificates that sign the sidecars for databases
    DbClient,
    /// SSH keys that sign the sidecars for hosts, for sshd's TrustedUserCAKeys
    Openssh,
}

impl ExportType {
    fn authority(self) -> &'static str {
        match self {
            Self::User | Self::TlsUser => "user",
            Self::Host | Self::TlsHost => "host",
            Self::Db => "db",
            Self::DbClient => "db_client",
            Self::Openssh => "openssh",
        }
    }
}

impl Export {
    pub(in super::super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let kinds = self.kind.map_or_else(|| vec![ExportType::User, ExportType::Host], |kind| vec![kind]);
        let mut exported = String::new();
        for kind in kinds {
            exported.push_str(&fetched(admin, kind).await?);
        }
        output::print_text(exported.trim_end())?;
        Ok(())
    }
}

async fn fetched(admin: &mut Admin, kind: ExportType) -> Result<String> {
    let request = ListAuthoritiesRequest { r#type: kind.authority().to_owned() };
    let authorities = admin.client.list_authorities(request).await?.into_inner().authorities;
    let cluster = match kind {
        ExportType::Host => admin.client.status(StatusRequest {}).await?.into_inner().cluster_name,
        _ => String::new(),
    };
    let text: String = authorities.into_iter().map(|authority| text(kind, authority, &cluster)).collect();
    if text.is_empty() {
        bail!("the {} authority has nothing of that form", kind.authority());
    }
    Ok(text)
}

fn text(kind: ExportType, authority: Authority, cluster: &str) -> String {
    let keys = |prefix: &str| -> String {
        authority.ssh_public_keys.iter().map(|key| format!("{prefix}{}\n", key.trim())).collect()
    };
    match kind {
        ExportType::User => keys("cert-authority "),
        ExportType::Host => keys(&format!("@cert-authority {cluster},*.{cluster} ")),
        ExportType::Openssh => keys(""),
        ExportType::TlsUser | ExportType::TlsHost | ExportType::Db | ExportType::DbClient => {
            authority.certificates.iter().map(|der| armour::certificate(der)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        Authority {
            r#type: "user".to_owned(),
            certificates: vec![vec![1, 2, 3]],
            ssh_public_keys: vec!["ssh-ed25519 AAAA main".to_owned()],
        }
    }

    #[test]
    fn a_host_trusts_the_sidecars_and_not_everybody_who_has_logged_in() {
        assert_eq!(ExportType::Openssh.authority(), "openssh");
        assert_eq!(ExportType::User.authority(), "user");
    }

    #[test]
    fn each_reader_gets_its_own_form() {
        let of = |kind| text(kind, authority(), "main");
        assert_eq!(of(ExportType::User), "cert-authority ssh-ed25519 AAAA main\n");
        assert_eq!(of(ExportType::Host), "@cert-authority main,*.main ssh-ed25519 AAAA main\n");
        assert_eq!(of(ExportType::Openssh), "ssh-ed25519 AAAA main\n");
        assert_eq!(of(ExportType::TlsUser), "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n");
    }
}
