//! Telling a client why it cannot be served, in its protocol's own words.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::database::DatabaseProtocol;

mod mysql;
mod postgres;

/// A client that has not got as far as to hear it after this long does not want to know.
const DEADLINE: Duration = Duration::from_secs(5);

/// Answers with an error where the client will read one, and closes.
///
/// # Errors
/// The client went away, took too long, or does not speak the protocol.
pub(super) async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    protocol: DatabaseProtocol,
    reason: &str,
) -> io::Result<()> {
    let told = timeout(DEADLINE, async {
        match protocol {
            DatabaseProtocol::Postgres => postgres::refuse(client, reason).await?,
            DatabaseProtocol::Mysql => client.write_all(&mysql::error_packet(reason)).await?,
        }
        client.shutdown().await
    });
    told.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_not_waited_for() {
        let (_client, mut server) = tokio::io::duplex(64);
        let told = refuse(&mut server, DatabaseProtocol::Postgres, "x").await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (_client, mut server) = tokio::io::duplex(8);
        let told = refuse(&mut server, DatabaseProtocol::Mysql, "longer than it cares to read").await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
