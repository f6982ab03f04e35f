//! `tctl auth`: certificates. `sign` makes a database's own, `export` shows what others must trust, `rotate` replaces keys.

mod export;
mod rotate;
mod sign;

use anyhow::Result;

use super::Admin;

/// Certificates: sign a database's, export the authorities, replace their keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Auth {
    /// Make a key and a certificate for a database
    Sign(sign::Sign),
    /// Print an authority's public certificates or keys
    Export(export::Export),
    /// Replace an authority's keys
    Rotate(rotate::Rotate),
}

impl Auth {
    pub(super) async fn run(self, admin: &mut Admin) -> Result<()> {
        match self {
            Self::Sign(sign) => sign.run(admin).await,
            Self::Export(export) => export.run(admin).await,
            Self::Rotate(rotate) => rotate.run(admin).await,
        }
    }
}
