//! Writing X.509 certificates: a template in, signed DER out.

use std::{net::IpAddr, time::SystemTime};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, ParsedPublicKey},
};
use rustls_pki_types::CertificateDer;
use yasna::Tag;

use super::{
    CaError,
    der::{self, KeyUsage},
};

/// Everything before the point in the SubjectPublicKeyInfo of a P-256 key (RFC 5480): id-ecPublicKey, prime256v1, and
/// the head of a bit string that holds one uncompressed point.
const P256_SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A public key that may stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct P256PublicKey {
    spki: Vec<u8>,
    point: Vec<u8>,
}

impl P256PublicKey {
    /// Reads a SubjectPublicKeyInfo; one encoding alone is accepted, and the point must lie on the curve.
    ///
    /// # Errors
    /// [`CaError::PublicKey`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, CaError> {
        let point = spki.strip_prefix(&P256_SPKI_HEAD).ok_or(CaError::PublicKey)?;
        if point.len() != 65 || point.first() != Some(&4) {
            return Err(CaError::PublicKey);
        }
        ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, point).map_err(|_| CaError::PublicKey)?;
        Ok(Self { spki: spki.to_vec(), point: point.to_vec() })
    }

    pub(super) fn from_point(point: &[u8]) -> Result<Self, CaError> {
        Self::from_spki(&[P256_SPKI_HEAD.as_slice(), point].concat())
    }

    /// The SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    /// RFC 5280 section 4.2.1.2, method 1: SHA-1 of the bit string. An identifier, not a protection.
    pub(super) fn identifier(&self) -> Vec<u8> {
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.point).as_ref().to_vec()
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// One attribute of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its object identifier.
    pub oid: Vec<u64>,
    /// Its value, written as UTF8String.
    pub value: String,
}

impl Attribute {
    /// The common name.
    #[must_use]
    pub fn common_name(value: impl Into<String>) -> Self {
        Self { oid: vec![2, 5, 4, 3], value: value.into() }
    }

    /// The organisation: a role, of a user or of a service.
    #[must_use]
    pub fn organization(value: impl Into<String>) -> Self {
        Self { oid: vec![2, 5, 4, 10], value: value.into() }
    }
}

/// A name under which a server may be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// A host name: ASCII.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// A non-critical extension of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The whole DER of its object identifier, tag and length included.
    pub oid_der: Vec<u8>,
    /// The content of extnValue.
    pub value: Vec<u8>,
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Proving who connects.
    Client,
    /// Proving who is connected to.
    Server,
    /// Both: a sidecar, which is connected to and connects to authd.
    ClientAndServer,
}

/// What a certificate will say.
#[derive(Clone, Debug)]
pub struct Template {
    /// The subject, in this order.
    pub subject: Vec<Attribute>,
    /// Whose key it is.
    pub public_key: P256PublicKey,
    /// First moment of validity; whole seconds count.
    pub not_before: SystemTime,
    /// Last moment of validity. Cut to the authority's own.
    pub not_after: SystemTime,
    /// Extended key usage.
    pub usage: Usage,
    /// Subject alternative names.
    pub names: Vec<San>,
    /// Further extensions.
    pub extensions: Vec<Extension>,
}

/// A certificate just made.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its serial number, lower-case hex.
    pub serial_hex: String,
    /// Its end, which may be earlier than asked.
    pub not_after: SystemTime,
}

/// Who signs.
pub(super) struct Signer<'a> {
    pub(super) subject: &'a [Attribute],
    pub(super) key: &'a EcdsaKeyPair,
    pub(super) public_key: &'a P256PublicKey,
}

/// Leaf or authority: what differs in the extensions.
pub(super) enum Role {
    Authority,
    Leaf(Usage),
}

pub(super) fn write(signer: &Signer<'_>, template: &Template, role: &Role) -> Result<Issued, CaError> {
    let (not_before, not_after) = (der::truncate(template.not_before), der::truncate(template.not_after));
    if not_after < not_before {
        return Err(CaError::Validity);
    }
    let mut serial = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut serial)?;
    let body = body(signer, template, role, &serial, (not_before, not_after))?;
    let signature = signer.key.sign(&SystemRandom::new(), &body)?;
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            fields.next().write_der(&body);
            fields.next().write_sequence(|algorithm| {
                algorithm.next().write_oid(&der::oid(der::ECDSA_WITH_SHA256));
            });
            let bytes = signature.as_ref();
            fields.next().write_bitvec_bytes(bytes, bytes.len() * 8);
        });
    });
    Ok(Issued { der: CertificateDer::from(der), serial_hex: hex::encode(serial), not_after })
}

/// TBSCertificate (RFC 5280 section 4.1).
fn body(
    signer: &Signer<'_>,
    template: &Template,
    role: &Role,
    serial: &[u8],
    (not_before, not_after): (SystemTime, SystemTime),
) -> Result<Vec<u8>, CaError> {
    yasna::try_construct_der(|writer| {
        writer.write_sequence(|fields| {
            fields.next().write_tagged(Tag::context(0), |version| version.write_u8(2));
            fields.next().write_bigint_bytes(serial, true);
            fields.next().write_sequence(|algorithm| {
                algorithm.next().write_oid(&der::oid(der::ECDSA_WITH_SHA256));
            });
            der::name(fields.next(), signer.subject);
            fields.next().write_sequence(|validity| {
                der::time(validity.next(), not_before)?;
                der::time(validity.next(), not_after)
            })?;
            der::name(fields.next(), &template.subject);
            fields.next().write_der(template.public_key.spki());
            fields.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|list| {
                    match role {
                        Role::Authority => {
                            der::basic_constraints(list, true);
                            der::key_usage(list, KeyUsage::CertificateAndCrlSign);
                        }
                        Role::Leaf(usage) => {
                            der::basic_constraints(list, false);
                            der::key_usage(list, KeyUsage::DigitalSignature);
                            der::extended_key_usage(
                                list,
                                match usage {
                                    Usage::Client => &[der::CLIENT_AUTH],
                                    Usage::Server => &[der::SERVER_AUTH],
                                    Usage::ClientAndServer => &[der::SERVER_AUTH, der::CLIENT_AUTH],
                                },
                            );
                        }
                    }
                    der::subject_key_identifier(list, &template.public_key.identifier());
                    der::authority_key_identifier(list, &signer.public_key.identifier());
                    if !template.names.is_empty() {
                        der::subject_alt_names(list, &template.names);
                    }
                    for extension in &template.extensions {
                        der::foreign_extension(list, &extension.oid_der, &extension.value);
                    }
                });
            });
            Ok(())
        })
    })
}
