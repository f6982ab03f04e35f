//! The address of the auth service as people type it: `HOST:PORT`, the port 3080 unless said otherwise.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The port that authd listens on by default.
const DEFAULT_PORT: u16 = 3080;

/// Where the auth service is: what `--proxy` names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyAddress {
    host: String,
    port: u16,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address of the form HOST:PORT")]
pub struct AddressError {
    text: String,
}

impl ProxyAddress {
    /// The host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ProxyAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError { text: text.to_owned() };
        let address = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(error)?)),
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| error()))?;
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(known) || port == 0 {
            return Err(error());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for ProxyAddress {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<ProxyAddress> for String {
    fn from(address: ProxyAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        text.parse::<ProxyAddress>().unwrap().to_string()
    }

    #[test]
    fn the_port_has_a_default_and_urls_are_understood() {
        assert_eq!(parsed("auth.example.com"), "auth.example.com:3080");
        assert_eq!(parsed("Auth.Example.com:443"), "auth.example.com:443");
        assert_eq!(parsed("https://auth.example.com:443/"), "auth.example.com:443");
        assert_eq!(parsed("[::1]:3080"), "[::1]:3080");
        assert_eq!("[::1]".parse::<ProxyAddress>().unwrap().host(), "::1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":3080",
            "host:",
            "host:0",
            "host:70000",
            "ho st:1",
            "a/b:1",
            "[::1",
            "::1",
            "[::1]x",
            "http://h",
        ] {
            assert!(text.parse::<ProxyAddress>().is_err(), "{text}");
        }
    }
}
