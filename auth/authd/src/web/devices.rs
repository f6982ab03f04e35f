//! One's own devices and recovery codes. Whatever changes them is proved by a device at hand, not by the session alone;
//! but for a name, which opens nothing.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    session::SignedIn,
    wire::{self, Answer, Device, Given, Kind, Nothing, Proof},
};
use crate::{challenge::Scope, cluster::Cluster, registration::Wish};

pub(super) async fn list(
    State(cluster): State<Arc<Cluster>>,
    SignedIn { user, .. }: SignedIn,
    Given(Nothing {}): Given<Nothing>,
) -> Answer {
    let accepted = wire::accepted(&cluster).await?;
    Ok(Json(json!({
        "user": user,
        "cluster": cluster.name,
        "webauthn": accepted.webauthn,
        "totp": accepted.totp,
        "passwordless": accepted.passwordless,
        "recovery_codes": cluster.recovery_codes_left(&user).await?,
        "devices": wire::devices(&cluster.list_devices(&user).await?),
    })))
}

pub(super) async fn challenge(
    State(cluster): State<Arc<Cluster>>,
    SignedIn { user, .. }: SignedIn,
    Given(Nothing {}): Given<Nothing>,
) -> Answer {
    wire::challenge(&cluster.create_challenge(&user, Scope::ManageDevices).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    proof: Proof,
    password: Option<String>,
    kind: Kind,
    passwordless: bool,
}

pub(super) async fn begin(
    State(cluster): State<Arc<Cluster>>,
    SignedIn { user, address }: SignedIn,
    Given(Begin { proof, password, kind, passwordless }): Given<Begin>,
) -> Answer {
    let wish = Wish::from_proto(kind.into(), passwordless)?;
    let password = Zeroizing::new(password.unwrap_or_default());
    cluster.prove_to_add(&user, &proof.challenge_id, proof.response(), password, address).await?;
    wire::registration(&cluster.begin_add_device(&user, wish).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    device: Device,
}

pub(super) async fn finish(
    State(cluster): State<Arc<Cluster>>,
    SignedIn { user, address }: SignedIn,
    Given(Finish { device }): Given<Finish>,
) -> Answer {
    cluster.finish_add_device(&user, device.into()).await?;
    // With the first device comes the first set; a set that is used up is asked for.
    let account = cluster.existing_account(&user).await?;
    let first = cluster.devices(&user).await?.len() == 1 && cluster.recovery_codes_left(&user).await? == 0;
    let codes = match first {
        true => cluster.replace_recovery_codes(&user, &account, address).await?,
        false => vec![],
    };
    Ok(Json(json!({"recovery_codes": codes})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rename {
    device_id: Uuid,
    name: String,
}

/// Without a proof: see [`Cluster::rename_device`].
pub(super) async fn rename(
    State(cluster): State<Arc<Cluster>>,
    SignedIn { user, .. }: SignedIn,
    Given(Rename { device_id, name }): Given<Rename>,
) -> Answer {
    cluster.rename_device(&user, device_id, name).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    proof: Proof,
    device_id: String,
}

pub(super) async fn remove(
    State(cluster): State<Arc<Cluster>>,
    SignedIn { user, .. }: SignedIn,
    Given(Remove { proof, device_id }): Given<Remove>,
) -> Answer {
    cluster.prove_for_devices(&user, &proof.challenge_id, proof.response()).await?;
    cluster.delete_device(&user, &device_id).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Codes {
    proof: Proof,
    password: Option<String>,
}

/// A set of codes is worth a device: it is proved for as one.
pub(super) async fn codes(
    State(cluster): State<Arc<Cluster>>,
    SignedIn { user, address }: SignedIn,
    Given(Codes { proof, password }): Given<Codes>,
) -> Answer {
    let password = Zeroizing::new(password.unwrap_or_default());
    let account = cluster.existing_account(&user).await?;
    cluster.prove_to_add(&user, &proof.challenge_id, proof.response(), password, address).await?;
    let codes = cluster.replace_recovery_codes(&user, &account, address).await?;
    Ok(Json(json!({"recovery_codes": codes})))
}
