//! Finishing an invitation in a browser.

use std::sync::Arc;

use auth::proto;
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::json;

use super::{
    session::Client,
    wire::{self, Answer, Device, Given, Kind},
};
use crate::cluster::Cluster;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    token: String,
}

pub(super) async fn show(
    State(cluster): State<Arc<Cluster>>,
    _: Client,
    Given(Show { token }): Given<Show>,
) -> Answer {
    let invitation = cluster.describe_invitation(&token).await?;
    Ok(Json(json!({
        "user": invitation.user,
        "cluster": invitation.cluster_name,
        "expires": invitation.expires,
        "webauthn": invitation.accepts_webauthn,
        "totp": invitation.accepts_totp,
        "passwordless": invitation.accepts_webauthn && cluster.ping().await?.passwordless,
        "device_required": invitation.device_required,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    token: String,
    kind: Kind,
    passwordless: bool,
}

pub(super) async fn begin(
    State(cluster): State<Arc<Cluster>>,
    _: Client,
    Given(Begin { token, kind, passwordless }): Given<Begin>,
) -> Answer {
    let request = proto::BeginInvitationRequest { token, kind: kind.into(), passwordless };
    wire::registration(&cluster.begin_invitation(&request).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accept {
    token: String,
    password: String,
    device: Option<Device>,
}

pub(super) async fn accept(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Accept { token, password, device }): Given<Accept>,
) -> Answer {
    let user = cluster.describe_invitation(&token).await?.user;
    let request = proto::AcceptInvitationRequest { token, password, device: device.map(Into::into) };
    let accepted = cluster.accept_invitation(request, address).await?;
    Ok(Json(json!({
        "user": user,
        "proxy": cluster.public_addr,
        "recovery_codes": accepted.recovery_codes,
    })))
}
