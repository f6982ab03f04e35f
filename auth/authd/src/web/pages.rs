//! The pages and what they load: files of `web/`, compiled in, the same for everybody.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use super::{session::Client, wire::Failure};
use crate::{cluster::Cluster, error::Refused};

/// Assets may be kept, and are asked about at each use: a new version is seen at once.
const REVALIDATE: &str = "no-cache";

/// A page from its title, its script, and its parts.
macro_rules! page {
    ($title:literal, $script:literal, $($part:literal),+) => {
        concat!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>",
            $title,
            " · Touchstone</title>\n<script type=\"module\" src=\"/web/assets/",
            $script,
            "\"></script>\n",
            include_str!("../../web/parts/top.html"),
            $(include_str!(concat!("../../web/", $part)),)+
            include_str!("../../web/parts/bottom.html"),
        )
    };
}

const INVITE: &str = page!(
    "Finish your invitation",
    "invite.js",
    "invite.html",
    "parts/enroll.html",
    "parts/codes.html",
    "parts/done.html"
);
const LOGIN: &str = page!("Sign in", "login.js", "login.html", "parts/prove.html");
const DEVICES: &str = page!(
    "Your devices",
    "devices.js",
    "devices.html",
    "parts/prove.html",
    "parts/enroll.html",
    "parts/codes.html"
);
const APPROVE: &str = page!("Approve", "approve.js", "approve.html");
const RECOVER: &str = page!(
    "Recover your account",
    "recover.js",
    "recover.html",
    "parts/enroll.html",
    "parts/codes.html",
    "parts/done.html"
);
const LOGOUT: &str = page!("Sign out", "logout.js", "logout.html");

/// An asset under the name of its file.
macro_rules! asset {
    ($name:literal, $kind:literal) => {
        ($name, $kind, include_str!(concat!("../../web/", $name)))
    };
}
macro_rules! script {
    ($name:literal) => {
        asset!($name, "text/javascript; charset=utf-8")
    };
}

/// Name, content type, text.
const ASSETS: [(&str, &str, &str); 14] = [
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    script!("call.js"),
    script!("codes.js"),
    script!("enroll.js"),
    script!("key.js"),
    script!("page.js"),
    script!("prove.js"),
    script!("approve.js"),
    script!("devices.js"),
    script!("invite.js"),
    script!("login.js"),
    script!("logout.js"),
    script!("recover.js"),
];

pub(super) fn routes() -> Router<Arc<Cluster>> {
    Router::new()
        .route("/web/invite/{token}", get(invite))
        .route("/web/login", get(|| async { Html(LOGIN) }))
        .route("/web/devices", get(|| async { Html(DEVICES) }))
        .route("/web/approve/{id}", get(approve))
        .route("/web/recover", get(|| async { Html(RECOVER) }))
        .route("/web/logout", get(|| async { Html(LOGOUT) }))
        .route("/web/assets/{name}", get(asset))
}

/// The same page, whatever the token; the status alone says whether it is good. Looking changes nothing: whoever previews
/// links uses none up.
async fn invite(State(cluster): State<Arc<Cluster>>, _: Client, Path(token): Path<String>) -> Response {
    (status(cluster.describe_invitation(&token).await), Html(INVITE)).into_response()
}

/// As [`invite`].
async fn approve(
    State(cluster): State<Arc<Cluster>>,
    Client(address): Client,
    Path(id): Path<String>,
) -> Response {
    (status(cluster.show_page(&id, address).await), Html(APPROVE)).into_response()
}

fn status<T>(found: Result<T, Refused>) -> StatusCode {
    match found {
        Ok(_) => StatusCode::OK,
        Err(Refused::Secret(_)) => StatusCode::NOT_FOUND,
        Err(refused) => Failure::from(refused).status(),
    }
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, kind, text)) = ASSETS.iter().find(|(known, _, _)| *known == name) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    let tag = format!("\"{}\"", hex::encode(digest(&SHA256, text.as_bytes())));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let headers = [
        (header::CONTENT_TYPE, (*kind).to_owned()),
        (header::CACHE_CONTROL, REVALIDATE.to_owned()),
        (header::ETAG, tag),
    ];
    match known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, *text).into_response(),
    }
}
