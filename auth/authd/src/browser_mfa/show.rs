//! What a page says that a touch is for: read from the very bytes that the key will sign for.

use std::net::IpAddr;

use auth::{
    clock::unix_millis,
    identity::UserName,
    proto::{AdminIntent, Route, SessionIntent},
};
use prost::Message;
use serde::Serialize;

use super::SECRET;
use crate::{challenge::Scope, cluster::Cluster, error::Refused};

/// What a page shows.
#[derive(Serialize)]
pub(crate) struct Shown {
    /// `None`: whoever has the passkey.
    user: Option<UserName>,
    cluster: String,
    /// session | login | devices | admin
    purpose: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<ShownTarget>,
    /// What an administrator typed.
    command: Option<String>,
    /// Where the terminal is.
    address: String,
    /// Whether whoever looks is there too.
    same_address: bool,
    time: i64,
    expires: i64,
    numbers: Vec<String>,
}

#[derive(Serialize)]
struct ShownTarget {
    kind: String,
    name: String,
    protocol: String,
    login: String,
    database: String,
}

impl From<Route> for ShownTarget {
    fn from(route: Route) -> Self {
        let Route { target_kind: kind, target_name: name, protocol, login, db_name: database } = route;
        Self { kind, name, protocol, login, database }
    }
}

impl Cluster {
    /// What the page of this id shows to somebody at `viewer`.
    pub(crate) async fn show_page(&self, id: &str, viewer: IpAddr) -> Result<Shown, Refused> {
        let (challenge_id, mut shown) = self.pages.with(id, self.clock.now(), |page| {
            let shown = Shown {
                user: None,
                cluster: self.name.to_string(),
                purpose: "login",
                target: None,
                command: None,
                address: page.address.to_string(),
                same_address: false,
                time: unix_millis(page.made),
                expires: unix_millis(page.until),
                numbers: page.numbers.clone(),
            };
            Ok((page.challenge_id.clone(), shown))
        })?;
        // Answered in the terminal meanwhile: over, here too.
        let (user, challenge) = self.peek_any(&challenge_id).await.map_err(|_| Refused::Secret(SECRET))?;
        shown.user = user;
        let damaged = |_| Refused::Internal("an intent of our own");
        match challenge.scope {
            Scope::Login | Scope::PasswordlessLogin => {}
            Scope::ManageDevices => shown.purpose = "devices",
            Scope::AdminAction { intent } => {
                let intent = AdminIntent::decode(intent.as_slice()).map_err(damaged)?;
                (shown.purpose, shown.command, shown.time) = ("admin", Some(intent.command), intent.time);
            }
            Scope::Session { intent } | Scope::SshCode { intent, .. } => {
                let intent = SessionIntent::decode(intent.as_slice()).map_err(damaged)?;
                (shown.purpose, shown.address, shown.time) = ("session", intent.client_address, intent.time);
                shown.target = intent.route.map(Into::into);
            }
        }
        shown.same_address = shown.address == viewer.to_string();
        Ok(shown)
    }
}
