//! What stands before pages and calls: they answer under our own name, and calls to scripts of our own pages alone.
//!
//! Calls change things in the name of whoever holds a cookie, so another site must not be able to have a browser make them.
//! Three bars, each of which would do: the cookie is `SameSite=Strict`, the content type is one that forms cannot send and
//! that other origins must first ask leave for, and `Origin` (which scripts cannot set) must be ours.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::wire::Failure;
use crate::{cluster::Cluster, error::Refused};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what was asked under another name: a name that somebody else points at us (DNS rebinding), or an address, where
/// neither the cookie nor a security key would count.
pub(super) async fn own_host(State(cluster): State<Arc<Cluster>>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = single(request.headers(), &header::HOST);
    // HTTP/2 has the authority, HTTP/1.1 the header; whoever sends both must mean the same.
    let named: Vec<&str> = authority.into_iter().chain(host).collect();
    let doubled = request.headers().get_all(header::HOST).iter().count() > 1;
    if named.is_empty() || doubled || !named.iter().all(|name| is_ours(&cluster.public_addr, name)) {
        let text = format!("these pages are at https://{}/web\n", cluster.public_addr);
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    next.run(request).await
}

fn is_ours(public_addr: &str, named: &str) -> bool {
    // Browsers leave the port of https away.
    let without_port = public_addr.strip_suffix(":443");
    named.eq_ignore_ascii_case(public_addr)
        || without_port.is_some_and(|host| named.eq_ignore_ascii_case(host))
}

/// Refuses calls that were not made by a script of our own pages.
pub(super) async fn own_origin(
    State(cluster): State<Arc<Cluster>>,
    request: Request,
    next: Next,
) -> Response {
    match judge(&cluster, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => Failure::from(refused).into_response(),
    }
}

fn judge(cluster: &Cluster, headers: &HeaderMap) -> Result<(), Refused> {
    if single(headers, &header::CONTENT_TYPE) != Some("application/json") {
        return Err(Refused::OtherOrigin);
    }
    if single(headers, &header::ORIGIN) != Some(&cluster.origin_text()) {
        return Err(Refused::OtherOrigin);
    }
    match single(headers, &SEC_FETCH_SITE) {
        // Old browsers do not say.
        None | Some("same-origin") => Ok(()),
        Some(_) => Err(Refused::OtherOrigin),
    }
}

/// The value of a header that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_away_where_it_is_that_of_https() {
        assert!(is_ours("auth.example.com:443", "auth.example.com"));
        assert!(is_ours("auth.example.com:443", "AUTH.example.com:443"));
        assert!(!is_ours("auth.example.com:3080", "auth.example.com"));
        for other in
            ["", "auth.example.com.", "auth.example.com:44", "evil.example:443", "auth.example.com:443@evil"]
        {
            assert!(!is_ours("auth.example.com:443", other), "{other}");
        }
    }

    #[test]
    fn a_header_that_is_there_twice_is_not_there() {
        let mut headers = HeaderMap::new();
        headers.append(header::ORIGIN, "https://a".parse().unwrap());
        assert_eq!(single(&headers, &header::ORIGIN), Some("https://a"));
        headers.append(header::ORIGIN, "https://b".parse().unwrap());
        assert_eq!(single(&headers, &header::ORIGIN), None);
    }
}
