//! What a client asks before it logs in.

use std::sync::Arc;

use auth::proto;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{cluster::Cluster, error::Refused};

impl Cluster {
    /// What one needs to know before logging in.
    pub(crate) async fn ping(&self) -> Result<proto::PingResponse, Refused> {
        let preference = self.preference().await?;
        let passwordless = self.is_passwordless(&preference);
        Ok(proto::PingResponse {
            cluster_name: self.name.to_string(),
            server_version: crate::VERSION.to_owned(),
            second_factor: preference.second_factor.as_str().to_owned(),
            webauthn_rp_id: match self.webauthn(&preference) {
                Ok(_) => self.rp_id(&preference).unwrap_or_default(),
                Err(_) => String::new(),
            },
            webauthn_origin: self.origin_text(),
            ca_pins: self.ca_pins(),
            message_of_the_day: preference.message_of_the_day.clone(),
            public_addr: self.public_addr.clone(),
            passwordless,
        })
    }
}

pub(super) async fn ping(State(cluster): State<Arc<Cluster>>) -> Response {
    let Ok(ping) = cluster.ping().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "try again\n").into_response();
    };
    let body = json!({
        "auth": {
            "type": "local",
            "second_factor": ping.second_factor,
            "preferred_local_mfa": if ping.webauthn_rp_id.is_empty() { "otp" } else { "webauthn" },
            "webauthn": {"rp_id": ping.webauthn_rp_id, "origin": ping.webauthn_origin},
            "allow_passwordless": ping.passwordless,
            "has_motd": !ping.message_of_the_day.is_empty(),
        },
        "server_version": ping.server_version,
        "min_client_version": ping.server_version,
        "cluster_name": ping.cluster_name,
        "public_addr": ping.public_addr,
        "ca_pins": ping.ca_pins,
    });
    Json(body).into_response()
}
