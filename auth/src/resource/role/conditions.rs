//! `spec.allow` and `spec.deny`: the same fields, read the same way.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    policy::{LabelPattern, Template},
    resource::{
        Kind,
        error::{Problem, ResourceError},
        fields::Field,
        metadata::Kept,
        write::Object,
    },
};

/// A label selector: every key must be on the target, and for each key one of the patterns must match its value.
/// Without any key it matches nothing; `'*': '*'` matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels(pub BTreeMap<String, Vec<LabelPattern>>);

/// What a role gives, or takes away.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Operating system accounts, exact.
    pub logins: Vec<Template>,
    /// Database users, exact, or `*` for any.
    pub db_users: Vec<Template>,
    /// Database names, exact, or `*` for any.
    pub db_names: Vec<Template>,
    /// Which SSH hosts. `None`: not written, see [`RoleVersion`](super::RoleVersion).
    pub node_labels: Option<Labels>,
    /// Which databases. `None`: not written, see [`RoleVersion`](super::RoleVersion).
    pub db_labels: Option<Labels>,
    /// What may be done to resources.
    pub rules: Vec<Rule>,
    /// Conditions about what we do not have: Kubernetes, applications, desktops.
    pub kept: Kept,
}

/// What may be done to resources by administrators.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Kinds; `*` is every kind.
    pub resources: Vec<String>,
    /// What is done: `list`, `create`, `read`, `update`, `delete`, …; `*` is anything.
    pub verbs: Vec<String>,
    /// A condition that we cannot judge. A rule with one never grants and always denies.
    pub condition: Option<String>,
    /// `actions`.
    pub kept: Kept,
}

/// Conditions about kinds of access that we do not offer: to leave them unheeded gives nobody more.
const KEPT: &[&str] = &[
    "account_assignments",
    "app_labels",
    "app_labels_expression",
    "aws_role_arns",
    "azure_identities",
    "cluster_labels",
    "cluster_labels_expression",
    "db_permissions",
    "db_roles",
    "db_service_labels",
    "db_service_labels_expression",
    "desktop_groups",
    "gcp_service_accounts",
    "github_permissions",
    "group_labels",
    "group_labels_expression",
    "host_groups",
    "host_sudoers",
    "impersonate",
    "join_sessions",
    "kubernetes_groups",
    "kubernetes_labels",
    "kubernetes_labels_expression",
    "kubernetes_resources",
    "kubernetes_users",
    "mcp",
    "request",
    "review_requests",
    "spiffe",
    "windows_desktop_labels",
    "windows_desktop_labels_expression",
    "windows_desktop_logins",
    "workload_identity_labels",
    "workload_identity_labels_expression",
];

/// Conditions that narrow access to what we do offer, and that we cannot judge.
const REFUSED: &[(&str, &str)] = &[
    ("node_labels_expression", "label expressions are not evaluated; use node_labels"),
    ("db_labels_expression", "label expressions are not evaluated; use db_labels"),
    (
        "require_session_join",
        "moderated sessions do not exist; the role would let people in without the moderator",
    ),
];

/// What a rule may call what is done.
const VERBS: &[&str] = &[
    "*",
    "list",
    "create",
    "read",
    "readnosecrets",
    "update",
    "delete",
    "rotate",
    "use",
    "enroll",
    "create_enroll_token",
];

impl Labels {
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let labels: BTreeMap<String, Vec<LabelPattern>> = field.map(|key, values| {
            if key.contains("{{") || key.contains("}}") {
                return Err(values.error(Problem::Unsupported("a variable in the name of a label")));
            }
            let patterns = values.list(|value| {
                LabelPattern::parse(value.text()?).map_err(|error| value.error(Problem::Label(error)))
            })?;
            if patterns.is_empty() {
                return Err(values.error(Problem::Type { expected: "at least one value", found: "none" }));
            }
            if key == "*" && patterns.iter().map(LabelPattern::as_str).ne(["*"]) {
                return Err(values
                    .error(Problem::Unsupported("the label '*' has only one meaning, with the value '*'")));
            }
            Ok(patterns)
        })?;
        Ok(Self(labels))
    }

    fn to_value(&self) -> Value {
        let one = |patterns: &[LabelPattern]| match patterns {
            [only] => Value::from(only.as_str()),
            several => several.iter().map(|pattern| Value::from(pattern.as_str())).collect(),
        };
        Value::Object(self.0.iter().map(|(key, patterns)| (key.clone(), one(patterns))).collect())
    }
}

impl Conditions {
    pub(in crate::resource) fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let mut fields = field.fields()?;
        let mut kept = fields.keep(KEPT);
        fields.refuse(&mut kept, REFUSED)?;
        if let Some(namespaces) = fields.optional("namespaces", namespaces)? {
            kept.insert("namespaces".to_owned(), namespaces);
        }
        let conditions = Self {
            logins: fields.optional("logins", |f| f.list(login))?.unwrap_or_default(),
            db_users: fields.optional("db_users", |f| f.list(template))?.unwrap_or_default(),
            db_names: fields.optional("db_names", |f| f.list(template))?.unwrap_or_default(),
            node_labels: fields.optional("node_labels", |f| Labels::from_field(f))?,
            db_labels: fields.optional("db_labels", |f| Labels::from_field(f))?,
            rules: fields.optional("rules", |f| f.list(Rule::from_field))?.unwrap_or_default(),
            kept,
        };
        fields.finish()?;
        Ok(conditions)
    }

    pub(in crate::resource) fn to_value(&self) -> Value {
        Object::new()
            .put_list("logins", self.logins.iter().map(Template::as_str))
            .put_list("db_users", self.db_users.iter().map(Template::as_str))
            .put_list("db_names", self.db_names.iter().map(Template::as_str))
            .put_some("node_labels", self.node_labels.as_ref().map(Labels::to_value))
            .put_some("db_labels", self.db_labels.as_ref().map(Labels::to_value))
            .put_list("rules", self.rules.iter().map(Rule::to_value))
            .put_kept(&self.kept)
            .into_value()
    }
}

fn template(field: &Field<'_>) -> Result<Template, ResourceError> {
    Template::parse(field.text()?).map_err(|error| field.error(Problem::Template(error)))
}

/// A login. `*` is no wildcard there, so an administrator who writes it means something else than would happen.
fn login(field: &Field<'_>) -> Result<Template, ResourceError> {
    if field.text()? == "*" {
        return Err(field.error(Problem::Unsupported("logins are compared exactly, '*' is no wildcard")));
    }
    template(field)
}

/// There is one namespace, `default`. A condition about any other would never hold, also in `deny`.
fn namespaces(field: &Field<'_>) -> Result<Value, ResourceError> {
    let names = field.texts()?;
    if names.iter().any(|name| name == "default" || name == "*") {
        Ok(field.tree.to_json())
    } else {
        Err(field.error(Problem::Unsupported("the only namespace is default")))
    }
}

impl Rule {
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let mut fields = field.fields()?;
        let verb = |item: &Field<'_>| {
            match item.text()? {
            verb if VERBS.contains(&verb) => Ok(verb.to_owned()),
            _ => Err(item.invalid(
                "a verb: *, list, create, read, readnosecrets, update, delete, rotate, use, enroll, create_enroll_token",
            )),
        }
        };
        let resource = |item: &Field<'_>| {
            item.text().map(|word| {
                Kind::parse(word).map_or_else(|| word.to_owned(), |kind| kind.as_str().to_owned())
            })
        };
        let rule = Self {
            resources: fields.required("resources")?.list(resource)?,
            verbs: fields.required("verbs")?.list(verb)?,
            condition: fields
                .optional("where", |f| f.text().map(str::to_owned))?
                .filter(|text| !text.is_empty()),
            kept: fields.keep(&["actions"]),
        };
        fields.finish()?;
        Ok(rule)
    }

    fn to_value(&self) -> Value {
        Object::new()
            .put("resources", self.resources.as_slice())
            .put("verbs", self.verbs.as_slice())
            .put_some("where", self.condition.as_deref())
            .put_kept(&self.kept)
            .into_value()
    }
}
