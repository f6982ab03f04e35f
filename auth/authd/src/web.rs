//! The few web pages: what a client asks before it logs in, and where an invitation leads.

use std::sync::Arc;

use auth::proto;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{cluster::Cluster, error::Refused};

/// Our pages hold no script and load nothing.
const SECURITY_HEADERS: [(header::HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

pub(crate) fn routes(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .route("/webapi/ping", get(ping))
        .route("/web/invite/{token}", get(invite))
        .fallback(|| async { (StatusCode::NOT_FOUND, SECURITY_HEADERS, "not found\n") })
        .with_state(cluster)
}

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
            message_of_the_day: preference.message_of_the_day,
            public_addr: self.public_addr.clone(),
            passwordless,
        })
    }
}

async fn ping(State(cluster): State<Arc<Cluster>>) -> Response {
    let Ok(ping) = cluster.ping().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, SECURITY_HEADERS, "try again\n").into_response();
    };
    let body = json!({
        "auth": {
            "type": "local",
            "second_factor": ping.second_factor,
            "preferred_local_mfa": if ping.webauthn_rp_id.is_empty() { "otp" } else { "webauthn" },
            "webauthn": {"rp_id": ping.webauthn_rp_id, "origin": ping.webauthn_origin},
            "has_motd": !ping.message_of_the_day.is_empty(),
        },
        "server_version": ping.server_version,
        "min_client_version": ping.server_version,
        "cluster_name": ping.cluster_name,
        "public_addr": ping.public_addr,
        "ca_pins": ping.ca_pins,
    });
    (SECURITY_HEADERS, Json(body)).into_response()
}

/// Says the same whatever the token is: whether it is good is told to `tsh register` alone. Nothing of the request is
/// repeated in the answer.
async fn invite() -> Response {
    let page = "You are invited to use this cluster.\n\nIn a terminal, run:\n\n    tsh register 'THE ADDRESS OF THIS PAGE'\n\n\
                with the whole address, the part after # included.\n";
    (SECURITY_HEADERS, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], page).into_response()
}
