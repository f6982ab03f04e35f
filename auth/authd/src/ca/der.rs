//! The pieces of DER that every certificate is made of (RFC 5280).

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use yasna::{
    DERWriter, DERWriterSeq, Tag,
    models::{ObjectIdentifier, TaggedDerValue},
    tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME},
};

use super::{Attribute, CaError, San};

pub(super) const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const SUBJECT_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 14];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

pub(super) const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
pub(super) const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];

/// First bits of KeyUsage (RFC 5280 section 4.2.1.3), most significant first.
#[derive(Clone, Copy)]
pub(super) enum KeyUsage {
    /// Bit 0.
    DigitalSignature,
    /// Bits 5 and 6.
    CertificateAndCrlSign,
}

pub(super) fn oid(components: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(components)
}

/// One attribute to a relative distinguished name, in the order given; an attribute may repeat.
pub(super) fn name(writer: DERWriter<'_>, attributes: &[Attribute]) {
    writer.write_sequence(|names| {
        for attribute in attributes {
            names.next().write_set(|set| {
                set.next().write_sequence(|pair| {
                    pair.next().write_oid(&oid(&attribute.oid));
                    pair.next().write_utf8_string(&attribute.value);
                });
            });
        }
    });
}

/// RFC 5280 section 4.1.2.5: UTCTime until 2049, GeneralizedTime from then on.
pub(super) fn time(writer: DERWriter<'_>, at: SystemTime) -> Result<(), CaError> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| CaError::Validity)?;
    let seconds = i64::try_from(since.as_secs()).map_err(|_| CaError::Validity)?;
    let at = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| CaError::Validity)?;
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    let (tag, text) = match at.year() {
        year @ 1970..=2049 => (TAG_UTCTIME, format!("{:02}{rest}", year % 100)),
        year => (TAG_GENERALIZEDTIME, format!("{year:04}{rest}")),
    };
    writer.write_tagged_der(&TaggedDerValue::from_tag_and_bytes(tag, text.into_bytes()));
    Ok(())
}

/// Whole seconds, as certificates hold them.
pub(super) fn truncate(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn extension(list: &mut DERWriterSeq<'_>, id: &[u64], critical: bool, value: &[u8]) {
    list.next().write_sequence(|fields| {
        fields.next().write_oid(&oid(id));
        if critical {
            fields.next().write_bool(true);
        }
        fields.next().write_bytes(value);
    });
}

/// An extension whose identifier comes as DER, because its arcs are wider than 64 bits.
pub(super) fn foreign_extension(list: &mut DERWriterSeq<'_>, oid_der: &[u8], value: &[u8]) {
    list.next().write_sequence(|fields| {
        fields.next().write_der(oid_der);
        fields.next().write_bytes(value);
    });
}

pub(super) fn basic_constraints(list: &mut DERWriterSeq<'_>, authority: bool) {
    let value = yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            if authority {
                fields.next().write_bool(true);
                // These authorities sign leaves, never other authorities.
                fields.next().write_u8(0);
            }
        });
    });
    extension(list, BASIC_CONSTRAINTS, true, &value);
}

pub(super) fn key_usage(list: &mut DERWriterSeq<'_>, usage: KeyUsage) {
    let (bits, length): (u8, usize) = match usage {
        KeyUsage::DigitalSignature => (0b1000_0000, 1),
        KeyUsage::CertificateAndCrlSign => (0b0000_0110, 7),
    };
    let value = yasna::construct_der(|writer| writer.write_bitvec_bytes(&[bits], length));
    extension(list, KEY_USAGE, true, &value);
}

pub(super) fn extended_key_usage(list: &mut DERWriterSeq<'_>, purposes: &[&[u64]]) {
    let value = yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            for purpose in purposes {
                fields.next().write_oid(&oid(purpose));
            }
        });
    });
    extension(list, EXTENDED_KEY_USAGE, false, &value);
}

pub(super) fn subject_key_identifier(list: &mut DERWriterSeq<'_>, id: &[u8]) {
    let value = yasna::construct_der(|writer| writer.write_bytes(id));
    extension(list, SUBJECT_KEY_IDENTIFIER, false, &value);
}

pub(super) fn authority_key_identifier(list: &mut DERWriterSeq<'_>, id: &[u8]) {
    let value = yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            fields.next().write_tagged_implicit(Tag::context(0), |id_writer| id_writer.write_bytes(id));
        });
    });
    extension(list, AUTHORITY_KEY_IDENTIFIER, false, &value);
}

pub(super) fn subject_alt_names(list: &mut DERWriterSeq<'_>, names: &[San]) {
    let value = yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            for name in names {
                match name {
                    San::Dns(host) => fields
                        .next()
                        .write_tagged_implicit(Tag::context(2), |writer| writer.write_ia5_string(host)),
                    San::Ip(std::net::IpAddr::V4(address)) => {
                        fields.next().write_tagged_implicit(Tag::context(7), |writer| {
                            writer.write_bytes(&address.octets())
                        })
                    }
                    San::Ip(std::net::IpAddr::V6(address)) => {
                        fields.next().write_tagged_implicit(Tag::context(7), |writer| {
                            writer.write_bytes(&address.octets())
                        })
                    }
                }
            }
        });
    });
    extension(list, SUBJECT_ALT_NAME, false, &value);
}
