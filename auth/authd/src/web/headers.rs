//! The headers of every answer: what a browser may do with our pages, which is little.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use crate::cluster::Cluster;

/// Scripts and styles are our own files; nothing is inline, framed, loaded from elsewhere or sent by a form; and no script
/// can turn text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; frame-ancestors 'none'; base-uri 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const ALWAYS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "publickey-credentials-get=(self), publickey-credentials-create=(self), clipboard-write=(self), camera=(), \
         display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// A year. Not for sub-domains, which are not ours.
const STRICT_TRANSPORT: &str = "max-age=31536000";

/// Puts them on.
pub(super) async fn add(State(cluster): State<Arc<Cluster>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if lasts(cluster.public_host()) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(STRICT_TRANSPORT));
    }
    response
}

/// Browsers remember it for all ports of a host: not for names that every machine has.
fn lasts(host: &str) -> bool {
    host != "localhost" && host.parse::<IpAddr>().is_err()
}
