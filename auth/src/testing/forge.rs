//! Writes X.509 certificates, good and bad.

use std::time::SystemTime;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls_pki_types::CertificateDer;
use yasna::{
    DERWriter, Tag,
    models::{ObjectIdentifier, TaggedDerValue},
    tags::{TAG_GENERALIZEDTIME, TAG_UTF8STRING},
};

use super::{HOUR, MINUTE, now};
use crate::{
    certificate::x509::{self, RECEIPT_OID_DER, SubjectAttribute, receipt_extension_value},
    identity::{Identity, MfaEvidence},
};

pub(crate) const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
pub(crate) const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

/// A key that signs whatever it is given.
pub(crate) struct Ca {
    name: String,
    key: EcdsaKeyPair,
    pub(crate) certificate: CertificateDer<'static>,
}

/// Everything that a certificate may say; tests change what they need.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) subject: Vec<SubjectAttribute>,
    /// The string type of the subject's values.
    pub(crate) text: Tag,
    pub(crate) spki: Vec<u8>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) purposes: Vec<&'static [u64]>,
    pub(crate) authority: bool,
    pub(crate) dns_names: Vec<String>,
    /// Identifier (DER), critical, content of extnValue.
    pub(crate) extensions: Vec<(Vec<u8>, bool, Vec<u8>)>,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let mut ca = Self { name: name.to_owned(), key, certificate: CertificateDer::from(Vec::new()) };
        let draft = Draft { authority: true, purposes: vec![], ..Draft::named(name, ca.spki()) };
        ca.certificate = ca.sign(&draft);
        ca
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        self.key.public_key().as_der().unwrap().as_ref().to_vec()
    }

    pub(crate) fn sign(&self, draft: &Draft) -> CertificateDer<'static> {
        let body = yasna::construct_der(|writer| draft.write(writer, &self.name));
        let signature = self.key.sign(&SystemRandom::new(), &body).unwrap();
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|fields| {
                fields.next().write_der(&body);
                algorithm(fields.next());
                fields.next().write_bitvec_bytes(signature.as_ref(), signature.as_ref().len() * 8);
            });
        });
        CertificateDer::from(der)
    }
}

impl Draft {
    /// A certificate that names somebody and is otherwise like a user's.
    pub(crate) fn named(name: &str, spki: Vec<u8>) -> Self {
        Self {
            subject: vec![attribute(&[2, 5, 4, 3], name)],
            text: TAG_UTF8STRING,
            spki,
            not_before: now() - MINUTE,
            not_after: now() + HOUR,
            purposes: vec![CLIENT_AUTH],
            authority: false,
            dns_names: vec![],
            extensions: vec![],
        }
    }

    /// The certificate for an identity, as authd writes it.
    pub(crate) fn user(identity: &Identity, spki: Vec<u8>) -> Self {
        let mut draft = Self::named("", spki);
        draft.subject = x509::subject(identity);
        draft.not_after = identity.not_after;
        if let MfaEvidence::Receipt { receipt, .. } = &identity.mfa {
            draft.extensions.push((RECEIPT_OID_DER.to_vec(), false, receipt_extension_value(receipt)));
        }
        draft
    }

    pub(crate) fn without(mut self, oid: &[u64]) -> Self {
        self.subject.retain(|attribute| attribute.oid != oid);
        self
    }

    pub(crate) fn with(mut self, oid: &[u64], value: &str) -> Self {
        self.subject.push(attribute(oid, value));
        self
    }

    /// TBSCertificate (RFC 5280 §4.1).
    fn write(&self, writer: DERWriter<'_>, issuer: &str) {
        writer.write_sequence(|fields| {
            fields.next().write_tagged(Tag::context(0), |version| version.write_u8(2));
            fields.next().write_u32(0x1234);
            algorithm(fields.next());
            name(fields.next(), &[attribute(&[2, 5, 4, 3], issuer)], TAG_UTF8STRING);
            fields.next().write_sequence(|validity| {
                time(validity.next(), self.not_before);
                time(validity.next(), self.not_after);
            });
            name(fields.next(), &self.subject, self.text);
            fields.next().write_der(&self.spki);
            fields.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|list| {
                    for (oid, critical, value) in self.all_extensions() {
                        list.next().write_sequence(|extension| {
                            extension.next().write_der(&oid);
                            if critical {
                                extension.next().write_bool(true);
                            }
                            extension.next().write_bytes(&value);
                        });
                    }
                });
            });
        });
    }

    fn all_extensions(&self) -> Vec<(Vec<u8>, bool, Vec<u8>)> {
        let mut all = vec![(
            oid(BASIC_CONSTRAINTS),
            true,
            yasna::construct_der(|writer| {
                writer.write_sequence(|fields| {
                    if self.authority {
                        fields.next().write_bool(true);
                    }
                });
            }),
        )];
        let digital_signature = yasna::construct_der(|writer| writer.write_bitvec_bytes(&[0x80], 1));
        all.push((oid(KEY_USAGE), true, digital_signature));
        if !self.purposes.is_empty() {
            let value = yasna::construct_der(|writer| {
                writer.write_sequence(|list| {
                    for purpose in &self.purposes {
                        list.next().write_oid(&ObjectIdentifier::from_slice(purpose));
                    }
                });
            });
            all.push((oid(EXTENDED_KEY_USAGE), false, value));
        }
        if !self.dns_names.is_empty() {
            let value = yasna::construct_der(|writer| {
                writer.write_sequence(|list| {
                    for host in &self.dns_names {
                        list.next()
                            .write_tagged_implicit(Tag::context(2), |writer| writer.write_ia5_string(host));
                    }
                });
            });
            all.push((oid(SUBJECT_ALT_NAME), false, value));
        }
        all.extend(self.extensions.iter().cloned());
        all
    }
}

pub(crate) fn attribute(oid: &[u64], value: &str) -> SubjectAttribute {
    SubjectAttribute { oid: oid.to_vec(), value: value.to_owned() }
}

fn oid(components: &[u64]) -> Vec<u8> {
    yasna::construct_der(|writer| writer.write_oid(&ObjectIdentifier::from_slice(components)))
}

fn algorithm(writer: DERWriter<'_>) {
    writer.write_sequence(|algorithm| {
        algorithm.next().write_oid(&ObjectIdentifier::from_slice(ECDSA_WITH_SHA256));
    });
}

fn name(writer: DERWriter<'_>, attributes: &[SubjectAttribute], text: Tag) {
    writer.write_sequence(|names| {
        for attribute in attributes {
            names.next().write_set(|set| {
                set.next().write_sequence(|pair| {
                    pair.next().write_oid(&ObjectIdentifier::from_slice(&attribute.oid));
                    let value = attribute.value.clone().into_bytes();
                    pair.next().write_tagged_der(&TaggedDerValue::from_tag_and_bytes(text, value));
                });
            });
        }
    });
}

fn time(writer: DERWriter<'_>, at: SystemTime) {
    let at = time::OffsetDateTime::from(at);
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let clock = format!("{:02}{:02}{:02}Z", time.hour(), time.minute(), time.second());
    // RFC 5280 §4.1.2.5: from 2050 on.
    if year >= 2050 {
        let text = format!("{year:04}{month:02}{day:02}{clock}");
        writer.write_tagged_der(&TaggedDerValue::from_tag_and_bytes(TAG_GENERALIZEDTIME, text.into_bytes()));
    } else {
        let text = format!("{:02}{month:02}{day:02}{clock}", year % 100);
        let utc_time = yasna::tags::TAG_UTCTIME;
        writer.write_tagged_der(&TaggedDerValue::from_tag_and_bytes(utc_time, text.into_bytes()));
    }
}
