//! An SSH target as the cluster knows it.

use super::{
    Kind,
    database::LABELS_BY_COMMAND,
    error::ResourceError,
    fields::{Field, Fields},
    metadata::{self, Kept, Metadata},
    write::Object,
};
use crate::identity::TargetName;

/// An SSH target.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The target's name (often a UUID) and the labels that roles select by.
    pub metadata: Metadata<TargetName>,
    /// What people call it.
    pub hostname: String,
    /// Where it listens.
    pub addr: String,
    /// Where it can be reached from elsewhere.
    pub public_addrs: Vec<String>,
    /// Tunnels, versions.
    pub kept: Kept,
}

const KEPT: &[&str] = &["cloud_metadata", "peer_addr", "proxy_ids", "rotation", "use_tunnel", "version"];

impl Node {
    pub(super) fn from_fields(mut fields: Fields<'_>) -> Result<Self, ResourceError> {
        let metadata = metadata::header(&mut fields, "v2")?;
        let mut kept = fields.keep_silently(&["sub_kind"]);
        let spec_field = fields.required("spec")?;
        let mut spec = spec_field.fields()?;
        kept.extend(spec.keep(KEPT));
        spec.refuse(&mut kept, &[("cmd_labels", LABELS_BY_COMMAND)])?;
        let node = Self {
            metadata,
            hostname: spec.optional("hostname", |f| f.text().map(str::to_owned))?.unwrap_or_default(),
            addr: spec.optional("addr", |f| f.text().map(str::to_owned))?.unwrap_or_default(),
            public_addrs: spec.optional("public_addrs", Field::texts)?.unwrap_or_default(),
            kept,
        };
        spec.finish()?;
        fields.finish()?;
        Ok(node)
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        let mut kept = self.kept.clone();
        let sub_kind = kept.remove("sub_kind");
        let spec = Object::new()
            .put_unless_empty("hostname", &self.hostname)
            .put_unless_empty("addr", &self.addr)
            .put_list("public_addrs", self.public_addrs.iter().map(String::as_str))
            .put_kept(&kept);
        Object::new()
            .put("kind", Kind::Node.as_str())
            .put("version", "v2")
            .put_some("sub_kind", sub_kind)
            .put("metadata", self.metadata.to_value())
            .put("spec", spec.into_value())
            .into_value()
    }
}
