//! `tctl recordings ls`: everybody's recorded sessions. `tsh play` plays them for whoever may see them.

use std::time::SystemTime;

use anyhow::Result;

use super::Admin;
use crate::recordings::ListRecordings;

/// Recorded sessions.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Recordings {
    /// List recorded sessions of everybody, newest first
    Ls(ListRecordings),
}

impl Recordings {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let Self::Ls(list) = self;
        let request = list.request(SystemTime::now())?;
        let answer = admin.client.list_all_recordings(request).await?;
        list.print(answer.into_inner().recordings)
    }
}
