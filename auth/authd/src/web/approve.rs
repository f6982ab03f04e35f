//! Approving a touch: see [`crate::browser_mfa`]. The id allows looking; the number and the key allow the rest.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    session::Client,
    wire::{self, Answer, Given},
};
use crate::cluster::Cluster;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    id: String,
}

pub(super) async fn show(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Show { id }): Given<Show>,
) -> Answer {
    Ok(Json(json!(cluster.show_page(&id, address).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Number {
    id: String,
    number: String,
}

pub(super) async fn number(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Number { id, number }): Given<Number>,
) -> Answer {
    let (options, pass) = cluster.press_number(&id, &number, address).await?;
    Ok(Json(json!({"webauthn": wire::options(&options)?, "pass": pass})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Touch {
    id: String,
    pass: String,
    assertion: Value,
}

pub(super) async fn answer(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Touch { id, pass, assertion }): Given<Touch>,
) -> Answer {
    cluster.approve(&id, &pass, &assertion, address).await?;
    Ok(Json(json!({})))
}

pub(super) async fn deny(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Show { id }): Given<Show>,
) -> Answer {
    cluster.deny(&id, address).await?;
    Ok(Json(json!({})))
}
