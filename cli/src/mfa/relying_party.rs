//! Whom a security key answers: only the service that was dialled.
//!
//! A browser refuses to let one site use the keys of another. tsh is the browser here: a cluster that somebody was lured
//! to must not pass on the challenge of another cluster and get an answer for it.

use std::net::IpAddr;

use url::Url;

use crate::proxy_address::ProxyAddress;

/// A relying party that the dialled service may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelyingParty {
    id: String,
    origin: Url,
}

/// Why a service may not have a key's answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelyingPartyError {
    /// The relying party id is neither the dialled host nor a parent domain of it.
    #[error("security keys of this cluster answer to {rp_id:?}, not to {host:?}: use that name with --proxy")]
    OtherHost {
        /// What the service claims.
        rp_id: String,
        /// What was dialled.
        host: String,
    },
    /// The origin is not an https URL of the dialled host.
    #[error(
        "security keys of this cluster are used at {origin:?}, not at {host:?}: use that name with --proxy"
    )]
    Origin {
        /// What the service claims.
        origin: String,
        /// What was dialled.
        host: String,
    },
    /// The options are for another relying party.
    #[error("the challenge is for {asked:?}, not for {rp_id:?}")]
    OtherParty {
        /// What the challenge names.
        asked: String,
        /// What the service speaks for.
        rp_id: String,
    },
}

impl RelyingParty {
    /// What a service claims to be, where it may: its relying party id is the host that was dialled or a parent domain of
    /// it (`localhost` for loopback addresses), and its origin is that host. A neighbour's origin will not do, though it
    /// may share the id: it would have a key answer the neighbour's challenges.
    ///
    /// # Errors
    /// [`RelyingPartyError`].
    pub fn claimed(proxy: &ProxyAddress, rp_id: &str, origin: &str) -> Result<Self, RelyingPartyError> {
        if !may_speak_for(proxy.host(), rp_id) {
            return Err(RelyingPartyError::OtherHost {
                rp_id: rp_id.to_owned(),
                host: proxy.host().to_owned(),
            });
        }
        let host = proxy.host().to_owned();
        let wrong = || RelyingPartyError::Origin { origin: origin.to_owned(), host: host.clone() };
        let url = Url::parse(origin).map_err(|_| wrong())?;
        let is_dialled =
            url.host_str().is_some_and(|named| named == host || (is_loopback(named) && is_loopback(&host)));
        if url.scheme() != "https" || !is_dialled || url.path() != "/" {
            return Err(wrong());
        }
        Ok(Self { id: rp_id.to_owned(), origin: url })
    }

    /// The relying party id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The origin for the client data.
    #[must_use]
    pub fn origin(&self) -> &Url {
        &self.origin
    }

    /// Checks the relying party id of a challenge.
    ///
    /// # Errors
    /// [`RelyingPartyError::OtherParty`].
    pub fn check(&self, asked: &str) -> Result<(), RelyingPartyError> {
        if asked == self.id {
            return Ok(());
        }
        Err(RelyingPartyError::OtherParty { asked: asked.to_owned(), rp_id: self.id.clone() })
    }
}

fn may_speak_for(host: &str, rp_id: &str) -> bool {
    host == rp_id || is_parent(rp_id, host) || (is_loopback(host) && rp_id == "localhost")
}

/// This machine, whatever it is called.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// True where `host` lies under `domain`. A domain of one label (`com`) is nobody's own.
fn is_parent(domain: &str, host: &str) -> bool {
    domain.contains('.')
        && host.parse::<IpAddr>().is_err()
        && host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(proxy: &str, rp_id: &str, origin: &str) -> Result<RelyingParty, RelyingPartyError> {
        RelyingParty::claimed(&proxy.parse().unwrap(), rp_id, origin)
    }

    #[test]
    fn a_service_may_speak_for_its_own_host_and_parents() {
        claimed("auth.example.com:3080", "auth.example.com", "https://auth.example.com:3080").unwrap();
        claimed("auth.example.com:3080", "example.com", "https://auth.example.com:3080").unwrap();
        claimed("localhost:41234", "localhost", "https://localhost:41234").unwrap();
        claimed("127.0.0.1:41234", "localhost", "https://localhost:41234").unwrap();
    }

    #[test]
    fn a_service_may_not_speak_for_another() {
        for (proxy, rp_id) in [
            ("evil.com:3080", "auth.example.com"),
            ("badexample.com:3080", "example.com"),
            ("auth.example.com:3080", "com"),
            ("evil.com:3080", "localhost"),
            ("10.0.0.1:3080", "0.1"),
            ("example.com:3080", ""),
        ] {
            let refused = claimed(proxy, rp_id, "https://auth.example.com");
            assert!(matches!(refused, Err(RelyingPartyError::OtherHost { .. })), "{proxy} {rp_id}");
        }
    }

    #[test]
    fn an_origin_elsewhere_or_in_the_clear_is_refused() {
        for origin in
            ["https://evil.com", "http://example.com", "https://xexample.com", "https://example.com/x", ""]
        {
            let refused = claimed("example.com", "example.com", origin);
            assert!(matches!(refused, Err(RelyingPartyError::Origin { .. })), "{origin}");
        }
    }

    #[test]
    fn a_neighbour_under_the_same_domain_may_not_pass_on_challenges() {
        let refused = claimed("evil.example.com", "example.com", "https://auth.example.com:3080");
        assert!(matches!(refused, Err(RelyingPartyError::Origin { .. })));
        let refused = claimed("auth.example.com", "example.com", "https://evil.example.com");
        assert!(matches!(refused, Err(RelyingPartyError::Origin { .. })));
    }

    #[test]
    fn a_challenge_for_another_party_is_refused() {
        let party = claimed("auth.example.com", "example.com", "https://auth.example.com").unwrap();
        party.check("example.com").unwrap();
        assert!(party.check("auth.example.com").is_err());
    }
}
