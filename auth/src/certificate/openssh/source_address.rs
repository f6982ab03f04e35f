//! `source-address`: a list of address ranges, divided by commas, one of which must hold the client.

use std::net::IpAddr;

use crate::certificate::CertificateError;

pub(super) fn check(list: &str, client: IpAddr) -> Result<(), CertificateError> {
    let ranges: Option<Vec<Range>> = list.split(',').map(Range::parse).collect();
    let ranges = ranges.ok_or(CertificateError::Invalid { attribute: "source-address" })?;
    if ranges.iter().any(|range| range.holds(client)) { Ok(()) } else { Err(CertificateError::OtherAddress) }
}

struct Range {
    network: u128,
    /// Leading bits that count.
    prefix: u32,
    /// Of the address family.
    bits: u32,
}

impl Range {
    /// `address` or `address/prefix`, without bits beyond the prefix.
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let (network, bits) = number(address.parse().ok()?);
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => bits,
        };
        let range = Self { network, prefix, bits };
        (prefix <= bits && range.head(network) == network).then_some(range)
    }

    fn holds(&self, client: IpAddr) -> bool {
        let (client, bits) = number(client);
        bits == self.bits && self.head(client) == self.network
    }

    /// An address with the bits beyond the prefix cleared.
    fn head(&self, address: u128) -> u128 {
        let tail = self.bits.saturating_sub(self.prefix);
        address.checked_shr(tail).and_then(|head| head.checked_shl(tail)).unwrap_or(0)
    }
}

/// An address as a number, and how many bits it has. ::ffff:a.b.c.d is a.b.c.d.
fn number(address: IpAddr) -> (u128, u32) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(list: &str, client: &str) -> Option<bool> {
        match check(list, client.parse().unwrap()) {
            Ok(()) => Some(true),
            Err(CertificateError::OtherAddress) => Some(false),
            Err(_) => None,
        }
    }

    #[test]
    fn an_address_is_held_by_its_range_alone() {
        assert_eq!(holds("192.0.2.7/32", "192.0.2.7"), Some(true));
        assert_eq!(holds("192.0.2.7", "192.0.2.8"), Some(false));
        assert_eq!(holds("192.0.2.0/24", "192.0.2.200"), Some(true));
        assert_eq!(holds("192.0.2.0/24", "192.0.3.1"), Some(false));
        assert_eq!(holds("10.0.0.0/8,192.0.2.0/24", "192.0.2.1"), Some(true));
        assert_eq!(holds("2001:db8::/32", "2001:db8::1"), Some(true));
        assert_eq!(holds("2001:db8::/32", "2001:db9::1"), Some(false));
        assert_eq!(holds("0.0.0.0/0", "2001:db8::1"), Some(false), "another family");
        assert_eq!(holds("::/0", "2001:db8::1"), Some(true));
        assert_eq!(holds("192.0.2.7", "::ffff:192.0.2.7"), Some(true), "a dual-stack listener");
    }

    #[test]
    fn a_list_that_cannot_be_read_holds_nobody() {
        for list in [
            "",
            ",",
            "192.0.2.7,",
            "192.0.2.7/33",
            "192.0.2.7/",
            "192.0.2.7/+8",
            "192.0.2.7/24",
            "host",
            "!192.0.2.7",
        ] {
            assert_eq!(holds(list, "192.0.2.7"), None, "{list}");
        }
    }
}
