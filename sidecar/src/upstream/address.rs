//! Where the upstream is: what its host's name means now, asked at most once a second.
//!
//! Asking takes a thread, files and perhaps a name server; a busy door would ask for each session, and hear the same.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use moka::future::Cache;
use protocols::UpstreamAddress;
use tokio::{net::lookup_host, time::timeout};

/// For so long an answer is good: name servers do not give one for less.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// After this, whoever dials asks again, under the deadline of dialling.
const PATIENCE: Duration = Duration::from_secs(2);

/// The address of one upstream.
pub(super) struct Address {
    configured: UpstreamAddress,
    found: Cache<(), UpstreamAddress>,
}

impl Address {
    pub(super) fn new(configured: UpstreamAddress) -> Self {
        Self::asked_every(GOOD_FOR, configured)
    }

    fn asked_every(time: Duration, configured: UpstreamAddress) -> Self {
        Self { configured, found: Cache::builder().max_capacity(1).time_to_live(time).build() }
    }

    /// As it is written.
    pub(super) fn configured(&self) -> &UpstreamAddress {
        &self.configured
    }

    /// With the name looked up, where there is one and it was found: who dials says what is wrong with it. Sessions that ask at
    /// the same time wait for one answer.
    pub(super) async fn found(&self) -> UpstreamAddress {
        let UpstreamAddress::Tcp { host, port } = &self.configured else { return self.configured.clone() };
        if host.parse::<IpAddr>().is_ok() {
            return self.configured.clone();
        }
        let look_up = self.found.try_get_with((), look_up(host, *port));
        match timeout(PATIENCE, look_up).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => self.configured.clone(),
        }
    }
}

async fn look_up(host: &str, port: u16) -> io::Result<UpstreamAddress> {
    let addresses: Arc<[_]> = lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(UpstreamAddress::Found(addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str) -> UpstreamAddress {
        UpstreamAddress::Tcp { host: host.to_owned(), port: 5432 }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_and_an_address_never() {
        let address = Address::asked_every(Duration::from_secs(3600), tcp("localhost"));
        let UpstreamAddress::Found(first) = address.found().await else { panic!("not found") };
        assert!(first.iter().all(|at| at.ip().is_loopback() && at.port() == 5432), "{first:?}");
        let UpstreamAddress::Found(second) = address.found().await else { panic!("not found") };
        assert!(Arc::ptr_eq(&first, &second), "asked again");
        assert_eq!(address.configured(), &tcp("localhost"));
        for literal in [tcp("127.0.0.1"), tcp("::1"), UpstreamAddress::Unix("/run/s".into())] {
            assert_eq!(Address::new(literal.clone()).found().await, literal);
        }
    }

    #[tokio::test]
    async fn a_name_that_means_nothing_is_left_to_who_dials() {
        let nowhere = tcp("nowhere.invalid");
        assert_eq!(Address::new(nowhere.clone()).found().await, nowhere);
    }
}
