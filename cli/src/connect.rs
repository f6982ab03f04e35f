//! From a login on disk to an API channel.

use std::time::SystemTime;

use auth::api::{self, Trust};
use tonic::transport::Channel;

use crate::{
    home::Home,
    profile::{Login, Selection},
};

/// A login and the channel that it opened.
pub struct Connection {
    /// The login.
    pub login: Login,
    /// The API, as the login's user.
    pub channel: Channel,
    /// Where the login is kept.
    pub home: Home,
}

/// Loads the login that a command means and connects with it. The auth service is verified against the saved
/// authorities.
///
/// # Errors
/// Not logged in, expired, or the service cannot be reached or is not the one that was trusted.
pub async fn connect(home: &Home, selection: &Selection) -> anyhow::Result<Connection> {
    let login = Login::load(home, selection, SystemTime::now())?;
    let channel = channel(&login).await?;
    Ok(Connection { login, channel, home: home.clone() })
}

/// A channel with a login that was loaded before.
///
/// # Errors
/// The service cannot be reached or is not the one that was trusted.
pub async fn channel(login: &Login) -> anyhow::Result<Channel> {
    let trust = Trust::Authorities(login.authorities.clone());
    Ok(api::connect(&login.profile.proxy.to_string(), trust, Some(login.identity())).await?)
}
