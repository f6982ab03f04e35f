//! `tctl access explain`: what policy decides, and which role decides it.

use anyhow::{Context, Result};
use auth::proto::{ExplainAccessRequest, ExplainAccessResponse, Route};
use serde_json::json;

use super::{Admin, targets};
use crate::output::{self, Format, printable};

/// What policy decides, and why.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Access {
    /// Say whether a user may open a session, whether it needs MFA, and which role decides
    Explain(Explain),
}

/// The session that is asked about.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Who
    #[arg(long)]
    user: String,
    /// Name of the database or node
    #[arg(long)]
    target: String,
    /// As which database user
    #[arg(long, required_unless_present = "login", conflicts_with = "login")]
    db_user: Option<String>,
    /// In which database
    #[arg(long, conflicts_with = "login")]
    db_name: Option<String>,
    /// As which SSH login
    #[arg(long)]
    login: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Access {
    pub(super) async fn run(self, admin: &mut Admin) -> Result<()> {
        let Self::Explain(explain) = self;
        explain.run(admin).await
    }
}

impl Explain {
    async fn run(self, admin: &mut Admin) -> Result<()> {
        let kind = if self.login.is_some() { "node" } else { "database" };
        let announced = targets::fetch(admin, kind).await?;
        let target = announced.iter().find(|target| target.name == self.target);
        let target = target.with_context(|| format!("{kind} {:?} not found", self.target))?;
        let route = Route {
            target_kind: kind.to_owned(),
            target_name: target.name.clone(),
            protocol: target.protocol.clone(),
            login: self.login.or(self.db_user).unwrap_or_default(),
            db_name: self.db_name.unwrap_or_default(),
        };
        let request = ExplainAccessRequest { user: self.user, route: Some(route) };
        let answer = admin.client.explain_access(request).await?.into_inner();
        let value = json!({ "decision": answer.decision, "role": answer.role, "reasons": answer.reasons });
        output::print(self.format, &value, || text(&answer))?;
        Ok(())
    }
}

fn text(answer: &ExplainAccessResponse) -> String {
    let decision = match answer.decision.as_str() {
        "allow" => "allowed, without MFA for this session",
        "mfa_required" => "allowed, with MFA for this session",
        "deny" => "denied",
        other => other,
    };
    let decided = match answer.role.as_str() {
        "" if answer.decision == "deny" => "no role allows it".to_owned(),
        "" => "the cluster's authentication preference".to_owned(),
        role => format!("role \"{}\"", printable(role)),
    };
    let mut lines = vec![format!("Decision:   {}", printable(decision)), format!("Decided by: {decided}")];
    if !answer.reasons.is_empty() {
        lines.push(String::new());
        lines.extend(answer.reasons.iter().map(|reason| format!("  {}", printable(reason))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(decision: &str, role: &str) -> ExplainAccessResponse {
        ExplainAccessResponse {
            decision: decision.to_owned(),
            role: role.to_owned(),
            reasons: vec!["access-dev: labels do not match".to_owned()],
        }
    }

    #[test]
    fn the_deciding_role_is_named() {
        let expected = "\
Decision:   allowed, with MFA for this session
Decided by: role \"access-prod\"

  access-dev: labels do not match";
        assert_eq!(text(&answer("mfa_required", "access-prod")), expected);
    }

    #[test]
    fn where_no_role_decides_that_is_said() {
        assert!(text(&answer("deny", "")).contains("Decided by: no role allows it"));
        assert!(
            text(&answer("mfa_required", "")).contains("Decided by: the cluster's authentication preference")
        );
    }
}
