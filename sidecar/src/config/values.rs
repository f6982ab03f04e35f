//! Single values as people write them: `5m`, `1GiB`, `localhost:5432`, `unix:/run/…`, `env=prod,team=a`.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, time::Duration};

use protocols::UpstreamAddress;
use rustls_pki_types::ServerName;
use serde::Deserialize;

use super::TlsMode;

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a duration.
    #[error("a duration is a number and a unit: 500ms, 30s, 5m, 12h")]
    Duration,
    /// Not a size.
    #[error("a size is a number and a unit: 512KiB, 64MiB, 2GiB")]
    Size,
    /// Not an upstream address.
    #[error("an upstream is HOST:PORT or unix:/absolute/path/of/the/socket")]
    Uri,
    /// Not labels.
    #[error("labels are key=value,key=value, each key once")]
    Labels,
    /// Not a TLS mode.
    #[error("upstream TLS is one of verify-full, verify-ca, insecure, insecure-plaintext")]
    TlsMode,
    /// Not a name that a certificate can carry.
    #[error("not a DNS name or IP address")]
    ServerName,
}

/// Reads `500ms`, `30s`, `5m`, `12h`.
///
/// # Errors
/// It is none of these.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let (number, unit) = split_unit(text).ok_or(ValueError::Duration)?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return Err(ValueError::Duration),
    };
    let number = u32::try_from(number).map_err(|_| ValueError::Duration)?;
    unit.checked_mul(number).ok_or(ValueError::Duration)
}

fn parse_size(text: &str) -> Result<u64, ValueError> {
    let (number, unit) = split_unit(text).ok_or(ValueError::Size)?;
    let unit = match unit {
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return Err(ValueError::Size),
    };
    number.checked_mul(unit).ok_or(ValueError::Size)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// Declares a value that is read from text, in a file and on the command line alike.
macro_rules! from_text {
    ($(#[$doc:meta])* $type:ident($inner:ty), $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(pub $inner);

        impl FromStr for $type {
            type Err = ValueError;
            fn from_str(text: &str) -> Result<Self, ValueError> {
                $parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $type {
            type Error = ValueError;
            fn try_from(text: String) -> Result<Self, ValueError> {
                text.parse()
            }
        }
    };
}

from_text! {
    /// `30s`
    Period(Duration), parse_duration
}
from_text! {
    /// `1GiB`
    Size(u64), parse_size
}
from_text! {
    /// `localhost:5432`, `[::1]:5432`, `unix:/run/postgresql/.s.PGSQL.5432`
    Uri(UpstreamAddress), parse_uri
}
from_text! {
    /// `env=prod,team=a`
    Labels(BTreeMap<String, String>), parse_labels
}
from_text! {
    /// `verify-full`, `verify-ca`, `insecure`, `insecure-plaintext`
    Tls(TlsMode), parse_tls
}
from_text! {
    /// A DNS name or an IP address.
    Name(ServerName<'static>), |text: &str| ServerName::try_from(text.to_owned()).map_err(|_| ValueError::ServerName)
}

fn parse_uri(text: &str) -> Result<UpstreamAddress, ValueError> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        // `sun_path` holds 108 bytes, one of them the terminating zero.
        let fits = path.as_os_str().len() < 108;
        return if path.is_absolute() && fits {
            Ok(UpstreamAddress::Unix(path))
        } else {
            Err(ValueError::Uri)
        };
    }
    let (host, port) = text.rsplit_once(':').ok_or(ValueError::Uri)?;
    let port = port.parse().ok().filter(|&port| port != 0).ok_or(ValueError::Uri)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    // Whatever a certificate could name can be dialled; an IPv6 address needs its brackets.
    let is_host = ServerName::try_from(host).is_ok() && host.contains(':') == bracketed.is_some();
    if is_host { Ok(UpstreamAddress::Tcp { host: host.to_owned(), port }) } else { Err(ValueError::Uri) }
}

fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, ValueError> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(ValueError::Labels)?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(ValueError::Labels);
        }
    }
    Ok(labels)
}

fn parse_tls(text: &str) -> Result<TlsMode, ValueError> {
    match text {
        "verify-full" => Ok(TlsMode::VerifyFull),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "insecure" => Ok(TlsMode::Insecure),
        "insecure-plaintext" => Ok(TlsMode::Plaintext),
        _ => Err(ValueError::TlsMode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_whole_number() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["", "5", "m", "-5m", "5 m", "1.5h", "5M", "99999999999h"] {
            assert_eq!(parse_duration(wrong), Err(ValueError::Duration), "{wrong}");
        }
    }

    #[test]
    fn sizes_need_a_binary_unit() {
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        for wrong in ["", "2", "2GB", "99999999999999999GiB"] {
            assert_eq!(parse_size(wrong), Err(ValueError::Size), "{wrong}");
        }
    }

    #[test]
    fn upstreams_are_hosts_with_ports_or_absolute_sockets() {
        let tcp = |host: &str, port| Ok(UpstreamAddress::Tcp { host: host.to_owned(), port });
        assert_eq!(parse_uri("localhost:5432"), tcp("localhost", 5432));
        assert_eq!(parse_uri("192.0.2.1:1"), tcp("192.0.2.1", 1));
        assert_eq!(parse_uri("[::1]:5432"), tcp("::1", 5432));
        let socket = "/run/postgresql/.s.PGSQL.5432";
        assert_eq!(parse_uri(&format!("unix:{socket}")), Ok(UpstreamAddress::Unix(socket.into())));
        let long = format!("unix:/{}", "x".repeat(108));
        for wrong in
            ["", "localhost", "localhost:", "localhost:0", ":5432", "::1:5432", "a b:1", "unix:run", &long]
        {
            assert_eq!(parse_uri(wrong), Err(ValueError::Uri), "{wrong}");
        }
    }

    #[test]
    fn labels_name_each_key_once() {
        let labels = parse_labels("env=prod, team = a b").unwrap();
        assert_eq!(
            labels,
            [("env".to_owned(), "prod".to_owned()), ("team".to_owned(), "a b".to_owned())].into()
        );
        assert_eq!(parse_labels("").unwrap(), BTreeMap::new());
        for wrong in ["env", "=prod", "env=a,env=b"] {
            assert_eq!(parse_labels(wrong), Err(ValueError::Labels), "{wrong}");
        }
    }
}
