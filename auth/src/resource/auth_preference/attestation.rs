//! Whose make security keys may be: the certificates of `attestation_allowed_cas` and `attestation_denied_cas`.

use rustls_pki_types::{
    CertificateDer,
    pem::{PemObject, SectionKind},
};

use crate::resource::{
    error::{Problem, ResourceError},
    fields::{Field, Fields},
    write::Object,
};

/// More makers than anybody lists.
const MAX_CERTIFICATES: usize = 64;

const ALLOWED: &str = "attestation_allowed_cas";
const DENIED: &str = "attestation_denied_cas";

/// The two lists. Where both are empty, nobody asks a key who made it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttestationAuthorities {
    allowed: List,
    denied: List,
}

/// Certificates, and the text that they were read from.
#[derive(Clone, Debug, Default, PartialEq)]
struct List {
    pem: Vec<String>,
    certificates: Vec<CertificateDer<'static>>,
}

impl AttestationAuthorities {
    /// A key's own certificate must lead to one of these, unless there are none.
    pub fn allowed(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.allowed.certificates.iter()
    }

    /// And to none of these.
    pub fn denied(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.denied.certificates.iter()
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowed.certificates.is_empty() && self.denied.certificates.is_empty()
    }

    pub(super) fn from_fields(fields: &mut Fields<'_>) -> Result<Self, ResourceError> {
        Ok(Self {
            allowed: fields.optional(ALLOWED, List::from_field)?.unwrap_or_default(),
            denied: fields.optional(DENIED, List::from_field)?.unwrap_or_default(),
        })
    }

    pub(super) fn put(&self, object: Object) -> Object {
        object
            .put_list(ALLOWED, self.allowed.pem.iter().map(String::as_str))
            .put_list(DENIED, self.denied.pem.iter().map(String::as_str))
    }
}

impl List {
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let mut list = Self::default();
        field.list(|item| {
            let text = item.text()?;
            let certificates = certificates(text).map_err(|why| item.error(Problem::Pem(why)))?;
            list.pem.push(text.to_owned());
            list.certificates.extend(certificates);
            Ok(())
        })?;
        if list.certificates.len() > MAX_CERTIFICATES {
            return Err(field.error(Problem::TooLarge { what: "certificates", limit: MAX_CERTIFICATES }));
        }
        Ok(list)
    }
}

/// At least one certificate, and nothing else between BEGIN and END.
fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, bytes) = section.map_err(|_| "it does not parse as PEM")?;
        if kind != SectionKind::Certificate {
            return Err("it holds something else than certificates");
        }
        let certificate = CertificateDer::from(bytes);
        webpki::anchor_from_trusted_cert(&certificate).map_err(|_| "its content is no X.509 certificate")?;
        found.push(certificate);
    }
    if found.is_empty() {
        return Err("it has no BEGIN CERTIFICATE; write the certificate itself, not the name of its file");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use crate::{
        resource::{AuthPreference, Resource},
        testing::Ca,
    };

    fn pem(ca: &Ca) -> String {
        let body = BASE64_STANDARD.encode(&ca.certificate);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    fn preference(webauthn: serde_json::Value) -> Result<AuthPreference, String> {
        let json = serde_json::json!({
            "kind": "cluster_auth_preference", "version": "v2", "metadata": {"name": "cluster-auth-preference"},
            "spec": {"webauthn": webauthn},
        });
        match Resource::from_json(&json.to_string()).map_err(|error| error.to_string())? {
            Resource::AuthPreference(preference) => Ok(preference),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_lists_are_read_and_written_as_they_were() {
        let (one, two, three) = (Ca::new("one"), Ca::new("two"), Ca::new("three"));
        let several = [pem(&one), pem(&two)].concat();
        let given = serde_json::json!({
            "attestation_allowed_cas": [several], "attestation_denied_cas": [pem(&three)],
        });
        let read = preference(given).unwrap();
        assert!(read.attestation.allowed().eq([&one.certificate, &two.certificate]));
        assert!(read.attestation.denied().eq([&three.certificate]));
        let written = Resource::AuthPreference(read.clone()).to_json();
        let Resource::AuthPreference(again) = Resource::from_json(&written).unwrap() else { panic!() };
        assert_eq!(again.attestation, read.attestation);
    }

    #[test]
    fn empty_lists_ask_for_nothing() {
        let given = serde_json::json!({"attestation_allowed_cas": [], "attestation_denied_cas": []});
        assert!(preference(given).unwrap().attestation.is_empty());
        assert!(AuthPreference::default().attestation.is_empty());
    }

    #[test]
    fn more_makers_than_anybody_lists_are_refused() {
        let all: Vec<_> = vec![pem(&Ca::new("one")); super::MAX_CERTIFICATES + 1];
        assert!(
            preference(serde_json::json!({"attestation_allowed_cas": all}))
                .unwrap_err()
                .contains("certificates")
        );
    }
}
