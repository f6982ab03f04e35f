//! The attributes of a subject: which there are, and how they are read before anybody looks at what they mean.

use x509_parser::prelude::{AttributeTypeAndValue, X509Name};

use crate::{certificate::CertificateError, identity::NameError};

/// What a subject may say. The object identifiers are Teleport's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    User,
    Role,
    Usage,
    Login,
    RouteCluster,
    Traits,
    Cluster,
    MfaDevice,
    LoginIp,
    Target,
    Protocol,
    DatabaseUser,
    DatabaseName,
    PreviousExpiry,
}

impl Attribute {
    const ALL: [Self; 14] = [
        Self::User,
        Self::Role,
        Self::Usage,
        Self::Login,
        Self::RouteCluster,
        Self::Traits,
        Self::Cluster,
        Self::MfaDevice,
        Self::LoginIp,
        Self::Target,
        Self::Protocol,
        Self::DatabaseUser,
        Self::DatabaseName,
        Self::PreviousExpiry,
    ];

    pub(super) fn oid(self) -> &'static [u64] {
        match self {
            Self::User => &[2, 5, 4, 3],
            Self::Role => &[2, 5, 4, 10],
            Self::Usage => &[2, 5, 4, 11],
            Self::Login => &[2, 5, 4, 7],
            Self::RouteCluster => &[2, 5, 4, 9],
            Self::Traits => &[2, 5, 4, 17],
            Self::Cluster => &[1, 3, 9999, 1, 7],
            Self::MfaDevice => &[1, 3, 9999, 1, 8],
            Self::LoginIp => &[1, 3, 9999, 1, 9],
            Self::Target => &[1, 3, 9999, 2, 1],
            Self::Protocol => &[1, 3, 9999, 2, 2],
            Self::DatabaseUser => &[1, 3, 9999, 2, 3],
            Self::DatabaseName => &[1, 3, 9999, 2, 4],
            Self::PreviousExpiry => &[1, 3, 9999, 2, 12],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user name",
            Self::Role => "role name",
            Self::Usage => "usage",
            Self::Login => "login",
            Self::RouteCluster => "route to cluster",
            Self::Traits => "traits",
            Self::Cluster => "cluster name",
            Self::MfaDevice => "MFA device",
            Self::LoginIp => "login address",
            Self::Target => "target name",
            Self::Protocol => "protocol",
            Self::DatabaseUser => "database user or login",
            Self::DatabaseName => "database name",
            Self::PreviousExpiry => "previous expiry",
        }
    }

    pub(super) fn missing(self) -> CertificateError {
        CertificateError::Missing { attribute: self.name() }
    }

    pub(super) fn invalid(self) -> CertificateError {
        CertificateError::Invalid { attribute: self.name() }
    }

    pub(super) fn duplicate(self) -> CertificateError {
        CertificateError::Duplicate { attribute: self.name() }
    }

    /// Reads one of the newtypes of [`crate::identity`].
    pub(super) fn named<T>(
        self,
        value: &str,
        new: fn(String) -> Result<T, NameError>,
    ) -> Result<T, CertificateError> {
        new(value.to_owned()).map_err(|source| CertificateError::Name { attribute: self.name(), source })
    }
}

/// UTF8String is what we write, PrintableString what other writers make of plain ASCII. Nothing else: the older string
/// types can be read in more than one way.
pub(super) fn text(
    attribute: &AttributeTypeAndValue<'_>,
    what: Attribute,
) -> Result<String, CertificateError> {
    use x509_parser::asn1_rs::Tag;
    let value = attribute.attr_value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString => {
            String::from_utf8(value.data.to_vec()).map_err(|_| what.invalid())
        }
        _ => Err(what.invalid()),
    }
}

/// The known attributes of a subject, read but not yet understood.
pub(super) struct Fields(Vec<(Attribute, String)>);

impl Fields {
    pub(super) fn read(subject: &X509Name<'_>) -> Result<Self, CertificateError> {
        let known = |attribute: &AttributeTypeAndValue<'_>| {
            let oid: Vec<u64> = attribute.attr_type().iter()?.collect();
            Attribute::ALL.into_iter().find(|known| known.oid() == oid)
        };
        let read = subject.iter_attributes().map(|attribute| match known(attribute) {
            Some(what) => Ok((what, text(attribute, what)?)),
            None => Err(CertificateError::Unknown { name: attribute.attr_type().to_id_string() }),
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn all(&self, what: Attribute) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(attribute, _)| *attribute == what).map(|(_, value)| value.as_str())
    }

    pub(super) fn optional(&self, what: Attribute) -> Result<Option<&str>, CertificateError> {
        let mut values = self.all(what);
        let value = values.next();
        if values.next().is_some() { Err(what.duplicate()) } else { Ok(value) }
    }

    pub(super) fn one(&self, what: Attribute) -> Result<&str, CertificateError> {
        self.optional(what)?.ok_or(what.missing())
    }

    pub(super) fn parsed<T>(
        &self,
        what: Attribute,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, CertificateError> {
        self.optional(what)?.map(|value| parse(value).ok_or(what.invalid())).transpose()
    }
}
