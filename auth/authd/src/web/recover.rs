//! Getting back in without the device that was lost: see [`crate::recovery`].

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    session::Client,
    wire::{self, Answer, Device, Given, Kind},
};
use crate::{cluster::Cluster, registration::Wish};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    user: String,
    password: String,
    code: String,
}

pub(super) async fn begin(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Begin { user, password, code }): Given<Begin>,
) -> Answer {
    let (password, code) = (Zeroizing::new(password), Zeroizing::new(code));
    let granted = cluster.begin_recovery(user, password, code, address).await?;
    let accepted = wire::accepted(&cluster).await?;
    Ok(Json(json!({
        "grant": granted.grant,
        "user": granted.user,
        "webauthn": accepted.webauthn,
        "totp": accepted.totp,
        "passwordless": accepted.passwordless,
        "devices": wire::devices(&granted.devices),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    grant: String,
    kind: Kind,
    passwordless: bool,
}

pub(super) async fn register(
    State(cluster): State<Arc<Cluster>>,
    _: Client,
    Given(Register { grant, kind, passwordless }): Given<Register>,
) -> Answer {
    let wish = Wish::from_proto(kind.into(), passwordless)?;
    wire::registration(&cluster.begin_recovery_device(&grant, wish).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    grant: String,
    device: Device,
    lost: Vec<String>,
}

pub(super) async fn device(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Finish { grant, device, lost }): Given<Finish>,
) -> Answer {
    let codes = cluster.finish_recovery(&grant, device.into(), &lost, address).await?;
    Ok(Json(json!({"recovery_codes": codes})))
}
