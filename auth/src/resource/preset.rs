//! The roles that exist at first start, and the rules that everybody has.

use super::{Resource, Role, Rule, metadata::Kept, parse_documents};

/// Every target, as the logins, database users and database names in the user's own traits.
const ACCESS: &str = "
kind: role
version: v7
metadata:
  name: access
  description: Reach every target, as the logins and database users of one's own traits
spec:
  options:
    max_session_ttl: 30h
    forward_agent: true
    port_forwarding: true
  allow:
    logins: ['{{internal.logins}}']
    node_labels: {'*': '*'}
    db_labels: {'*': '*'}
    db_users: ['{{internal.db_users}}']
    db_names: ['{{internal.db_names}}']
";

/// All resources, no target. Like Teleport's, it signs nothing: `tctl auth sign` is for the auth host.
const EDITOR: &str = "
kind: role
version: v7
metadata:
  name: editor
  description: Edit users, roles and all other resources of the cluster
spec:
  options:
    max_session_ttl: 30h
    forward_agent: true
    port_forwarding: true
  allow:
    rules:
      - resources: [user, role, cluster_auth_preference, token, lock, db, node]
        verbs: [list, create, read, update, delete]
      - resources: [event, session]
        verbs: [list, read]
";

/// Reads what happened; changes nothing.
const AUDITOR: &str = "
kind: role
version: v7
metadata:
  name: auditor
  description: Review the audit log and recorded sessions
spec:
  options:
    max_session_ttl: 30h
  allow:
    rules:
      - resources: [event, session]
        verbs: [list, read]
";

/// Reaches every target, as the logins, database users and database names in the user's own traits.
#[must_use]
pub fn access() -> Role {
    built_in(ACCESS)
}

/// Administers everything, reaches no target.
#[must_use]
pub fn editor() -> Role {
    built_in(EDITOR)
}

/// Reads what happened; changes nothing, reaches no target.
#[must_use]
pub fn auditor() -> Role {
    built_in(AUDITOR)
}

/// The rules of Teleport's `default-implicit-role`, as far as they let nobody see a target: everybody may know the
/// authorities and the authentication preference. Which targets one sees is decided by their labels.
pub(crate) fn implicit_rules() -> Vec<Rule> {
    let readable = ["cluster_auth_preference", "cert_authority"];
    vec![Rule {
        resources: readable.map(str::to_owned).to_vec(),
        verbs: ["list", "read"].map(str::to_owned).to_vec(),
        condition: None,
        kept: Kept::new(),
    }]
}

#[expect(clippy::panic, reason = "the text is a constant above, and a test reads each")]
fn built_in(yaml: &str) -> Role {
    let parsed =
        parse_documents(yaml).map(|documents| documents.into_iter().next().map(|first| first.resource));
    match parsed {
        Ok(Some(Resource::Role(role))) => role,
        other => panic!("a preset role is malformed: {other:?}"),
    }
}
