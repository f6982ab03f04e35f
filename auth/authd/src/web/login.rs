//! Signing in and out in a browser: the steps of `tsh login`, with a session at the end instead of certificates.

use std::sync::Arc;

use auth::proto;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    session::{self, Client},
    wire::{self, Answer, Failure, Given, Nothing, Proof},
};
use crate::cluster::Cluster;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    user: String,
    password: String,
}

pub(super) async fn begin(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Begin { user, password }): Given<Begin>,
) -> Answer {
    let request = proto::BeginLoginRequest { user, password };
    wire::challenge(&cluster.begin_login(request, address).await?)
}

pub(super) async fn passwordless(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Nothing {}): Given<Nothing>,
) -> Answer {
    wire::challenge(&cluster.begin_passwordless_login(address).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    proof: Proof,
}

pub(super) async fn finish(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Given(Finish { proof }): Given<Finish>,
) -> Result<impl IntoResponse, Failure> {
    let (user, cookie) = cluster.finish_browser_login(&proof.challenge_id, proof.response(), address).await?;
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({"user": user}))))
}

/// Always the same, whoever was signed in: there is nothing to learn from it.
pub(super) async fn logout(
    State(cluster): State<Arc<Cluster>>,
    headers: HeaderMap,
    Given(Nothing {}): Given<Nothing>,
) -> Result<impl IntoResponse, Failure> {
    cluster.close_session(&headers).await?;
    Ok(([(header::SET_COOKIE, session::no_cookie()?)], Json(json!({}))))
}
