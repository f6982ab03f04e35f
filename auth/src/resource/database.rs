//! A database target as the cluster knows it.

use super::{
    Kind,
    error::ResourceError,
    fields::Fields,
    metadata::{self, Kept, Metadata},
    write::Object,
};
use crate::identity::{Protocol, TargetName};

/// A database target. How to reach it is its sidecar's configuration; the `uri` here is for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The target's name and the labels that roles select by.
    pub metadata: Metadata<TargetName>,
    /// What it speaks; not SSH.
    pub protocol: Protocol,
    /// Where it is.
    pub uri: String,
    /// TLS and cloud settings.
    pub kept: Kept,
}

const KEPT: &[&str] =
    &["ad", "admin_user", "aws", "azure", "ca_cert", "gcp", "mongo_atlas", "mysql", "oracle", "tls"];

/// Why labels by command are refused, of databases and nodes.
pub(super) const LABELS_BY_COMMAND: &str =
    "labels by command are not evaluated, so a role that denies by one would not; write metadata.labels";

impl Database {
    pub(super) fn from_fields(mut fields: Fields<'_>) -> Result<Self, ResourceError> {
        let metadata = metadata::header(&mut fields, "v3")?;
        let spec_field = fields.required("spec")?;
        let mut spec = spec_field.fields()?;
        let mut kept = spec.keep(KEPT);
        spec.refuse(&mut kept, &[("dynamic_labels", LABELS_BY_COMMAND)])?;
        let word = spec.required("protocol")?;
        let protocol = match Protocol::parse(word.text()?) {
            Some(protocol @ (Protocol::Postgres | Protocol::Mysql)) => protocol,
            Some(Protocol::Ssh) | None => {
                return Err(word.invalid("a protocol of databases: postgres or mysql"));
            }
        };
        let uri = spec.required("uri")?.text()?.to_owned();
        spec.finish()?;
        fields.finish()?;
        Ok(Self { metadata, protocol, uri, kept })
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        let spec = Object::new()
            .put("protocol", self.protocol.as_str())
            .put("uri", self.uri.as_str())
            .put_kept(&self.kept);
        Object::new()
            .put("kind", Kind::Database.as_str())
            .put("version", "v3")
            .put("metadata", self.metadata.to_value())
            .put("spec", spec.into_value())
            .into_value()
    }
}
