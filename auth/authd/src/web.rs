//! The web pages, and the calls that they make.
//!
//! Pages, style and scripts are files of `web/`, compiled in. A page holds no data and is the same for everybody: its script
//! fetches what there is to show by the calls below and puts it into the page as text, never as markup. So nothing of a
//! request, and nothing that somebody stored, can become part of a page.
//!
//! # Pages
//! ```text
//! GET /web/invite/<token>     finish an invitation (what the fragment holds stays in the browser)
//! GET /web/login              sign in; then the devices. There is no "next": nothing leads anywhere else
//! GET /web/devices            devices, recovery codes
//! GET /web/approve/<id>       approve one touch; needs no session, since the key is who one is
//! GET /web/recover            a lost device: password and recovery code, then a new device
//! GET /web/logout             a button
//! GET /web/assets/<name>      style, scripts, icon
//! ```
//!
//! # Calls
//! Each is `POST /web/api/<call>`: JSON both ways, from our own origin, at most 64 KiB. What is refused is
//! `{"error": {"code", "message"}}`, where the message may be shown and the code is that of gRPC in small letters, or
//! `not_signed_in`. Times are Unix milliseconds. The words below:
//! ```text
//! challenge      {challenge_id, webauthn: {publicKey} | null, totp, none_required}
//! proof          {challenge_id, code} or {challenge_id, assertion}; {challenge_id} where none is required
//! registration   {registration_id, webauthn: {publicKey} | null, totp: {secret, account, issuer, qr: {size, path}} | null}
//! device         {registration_id, name, code} or {registration_id, name, credential}
//! kind           "webauthn" | "totp"
//! ```
//! Inviting, signing in:
//! ```text
//! invite/show {token}                          {user, cluster, expires, webauthn, totp, passwordless, device_required}
//! invite/begin {token, kind, passwordless}     registration
//! invite/accept {token, password, device}      {user, proxy, recovery_codes}; device may be null where none is required
//! login/begin {user, password}                 challenge
//! login/passwordless {}                        challenge
//! login/finish {proof}                         {user}, and the cookie of a session
//! logout {}                                    {}
//! ```
//! With a session:
//! ```text
//! devices/list {}                              {user, cluster, webauthn, totp, passwordless, recovery_codes: count,
//!                                               devices: [{id, name, kind, passwordless, added_at, last_used}]}
//! devices/challenge {}                         challenge
//! devices/begin {proof, password, kind, passwordless}     registration; password may be null where a proof is required
//! devices/finish {device}                      {recovery_codes}; some where these are the first
//! devices/rename {device_id, name}             {}; needs no proof
//! devices/remove {proof, device_id}            {}
//! devices/codes {proof, password}              {recovery_codes}; those from before are worth nothing
//! ```
//! Approving a touch, which the id allows:
//! ```text
//! approve/show {id}                            {user | null, cluster, purpose, target: {kind, name, protocol, login, database},
//!                                               command, address, same_address, time, expires, numbers: [3]}
//!                                              purpose: session | login | devices | admin; same_address: as who looks
//! approve/number {id, number}                  {webauthn, pass}; a wrong number ends it
//! approve/answer {id, pass, assertion}         {}
//! approve/deny {id}                            {}
//! ```
//! Recovering an account:
//! ```text
//! recover/begin {user, password, code}         {grant, user, webauthn, totp, passwordless, devices}
//! recover/register {grant, kind, passwordless} registration
//! recover/device {grant, device, lost: [id]}   {recovery_codes}
//! ```

mod approve;
mod devices;
mod guard;
mod headers;
mod invite;
mod login;
mod pages;
mod ping;
mod qr;
mod recover;
mod session;
mod wire;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    middleware,
    response::Redirect,
    routing::{get, post},
};

use crate::cluster::Cluster;

pub(crate) fn routes(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .nest(
            "/web/api",
            calls().layer(middleware::from_fn_with_state(Arc::clone(&cluster), guard::own_origin)),
        )
        .merge(pages::routes())
        .route("/", get(start))
        .route("/web", get(start))
        .layer(middleware::from_fn_with_state(Arc::clone(&cluster), guard::own_host))
        .route("/webapi/ping", get(ping::ping))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
        .layer(middleware::from_fn_with_state(Arc::clone(&cluster), headers::add))
        .with_state(cluster)
}

fn calls() -> Router<Arc<Cluster>> {
    Router::new()
        .route("/invite/show", post(invite::show))
        .route("/invite/begin", post(invite::begin))
        .route("/invite/accept", post(invite::accept))
        .route("/login/begin", post(login::begin))
        .route("/login/passwordless", post(login::passwordless))
        .route("/login/finish", post(login::finish))
        .route("/logout", post(login::logout))
        .route("/devices/list", post(devices::list))
        .route("/devices/challenge", post(devices::challenge))
        .route("/devices/begin", post(devices::begin))
        .route("/devices/finish", post(devices::finish))
        .route("/devices/rename", post(devices::rename))
        .route("/devices/remove", post(devices::remove))
        .route("/devices/codes", post(devices::codes))
        .route("/approve/show", post(approve::show))
        .route("/approve/number", post(approve::number))
        .route("/approve/answer", post(approve::answer))
        .route("/approve/deny", post(approve::deny))
        .route("/recover/begin", post(recover::begin))
        .route("/recover/register", post(recover::register))
        .route("/recover/device", post(recover::device))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
}

/// Whoever types the address alone. Fixed: nothing of the request decides where it leads.
async fn start() -> Redirect {
    Redirect::to("/web/devices")
}
