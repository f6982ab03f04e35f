//! The one extension of our own: the receipt of the touch.

use x509_parser::prelude::X509Certificate;

use crate::certificate::CertificateError;

/// Object identifier of the receipt extension, DER with tag and length: 2.25 and the number of the UUID
/// 6f2b1d0e-8a57-4c39-9d64-3c5f7be10a92 (ITU-T X.667: an arc that needs no registration).
pub const RECEIPT_OID_DER: &[u8] = &[
    0x06, 0x14, 0x69, 0x81, 0xde, 0xab, 0x8e, 0xc3, 0xd1, 0xa5, 0xba, 0xb0, 0xf3, 0x9d, 0xb2, 0x8f, 0x8b,
    0xf7, 0xdf, 0x84, 0x95, 0x12,
];

const OCTET_STRING: u8 = 0x04;

/// What extnValue of the receipt extension contains: a receipt as one DER OCTET STRING. The extension is not critical: a
/// sidecar reads it, everybody else may pass it over.
#[must_use]
pub fn receipt_extension_value(receipt: &[u8]) -> Vec<u8> {
    element(OCTET_STRING, receipt)
}

/// The receipt of a certificate, if it has one.
pub(super) fn receipt(certificate: &X509Certificate<'_>) -> Result<Option<Vec<u8>>, CertificateError> {
    let is_receipt = |oid: &[u8]| RECEIPT_OID_DER.get(2..) == Some(oid);
    let mut found = certificate.extensions().iter().filter(|extension| is_receipt(extension.oid.as_bytes()));
    let Some(extension) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(CertificateError::Duplicate { attribute: "receipt" });
    }
    octet_string(extension.value)
        .map(|receipt| Some(receipt.to_vec()))
        .ok_or(CertificateError::Invalid { attribute: "receipt" })
}

/// X.690 §8.1 and §10.1: definite length in the fewest octets.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|&octet| octet == 0).collect();
    let mut der = vec![tag];
    match (significant.as_slice(), u8::try_from(significant.len())) {
        ([], _) => der.push(0),
        (&[short], _) if short < 0x80 => der.push(short),
        (long, Ok(octets)) => {
            der.push(0x80 | octets);
            der.extend_from_slice(long);
        }
        // A usize has at most eight octets.
        (_, Err(_)) => {}
    }
    der.extend_from_slice(contents);
    der
}

/// The contents of exactly one OCTET STRING: the encoding must be the one that [`element`] writes.
fn octet_string(der: &[u8]) -> Option<&[u8]> {
    let (&[tag, length], rest) = der.split_first_chunk::<2>()?;
    let header = if length < 0x80 { 0 } else { usize::from(length & 0x7f) };
    let contents = rest.get(header..)?;
    (tag == OCTET_STRING && element(OCTET_STRING, contents) == der).then_some(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_octet_string_of_any_length_reads_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let contents = vec![7; length];
            assert_eq!(
                octet_string(&element(OCTET_STRING, &contents)),
                Some(contents.as_slice()),
                "{length}"
            );
        }
    }

    #[test]
    fn anything_but_one_whole_octet_string_is_refused() {
        let good = element(OCTET_STRING, &[7; 200]);
        for end in 0..good.len() {
            assert_eq!(octet_string(&good[..end]), None, "cut at {end}");
        }
        assert_eq!(octet_string(&[good.as_slice(), &[0]].concat()), None, "trailing byte");
        assert_eq!(octet_string(&element(0x30, &[7])), None, "another tag");
        assert_eq!(octet_string(&[OCTET_STRING, 0x81, 1, 7]), None, "length in more octets than needed");
    }
}
