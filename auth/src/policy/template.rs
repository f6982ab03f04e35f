//! `{{internal.logins}}` and its kin: what a user's traits put into a role.
//!
//! ```text
//! template   = literal | prefix "{{" expression "}}" suffix
//! expression = ("internal" | "external") ( "." name | "[" string "]" )
//!            | "email.local" "(" expression ")"
//!            | "regexp.replace" "(" expression "," string "," string ")"
//! ```
//! A variable stands for every value of its trait, so one entry of a role becomes none, one or several.

mod parse;

#[cfg(test)]
mod tests;

use regex::Regex;

use crate::identity::Traits;

/// A value of a role, checked: a literal, or a text around one variable.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    variable: Option<Variable>,
}

/// A variable between two literals.
#[derive(Clone, Debug)]
struct Variable {
    prefix: String,
    expression: Expression,
    suffix: String,
}

#[derive(Clone, Debug)]
enum Expression {
    /// The values of a trait. `internal` and `external` read the same traits.
    Trait(String),
    /// What stands before the `@`.
    EmailLocal(Box<Expression>),
    /// Values that match, rewritten; others are dropped.
    Replace { of: Box<Expression>, pattern: Regex, replacement: String },
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Brackets that do not hold one expression.
    #[error("{text:?} has template brackets but is not of the form prefix{{{{expression}}}}suffix")]
    Brackets {
        /// What was written.
        text: String,
    },
    /// An expression that does not parse.
    #[error("{text:?}: {reason}")]
    Expression {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An internal variable that nothing sets.
    #[error("unknown variable internal.{name}; known: {}", INTERNAL.join(", "))]
    UnknownInternal {
        /// The name after the dot.
        name: String,
    },
}

/// The traits that `internal` may read.
const INTERNAL: &[&str] = &[
    "logins",
    "db_names",
    "db_users",
    "db_roles",
    "kubernetes_groups",
    "kubernetes_users",
    "windows_logins",
    "aws_role_arns",
    "azure_identities",
    "gcp_service_accounts",
    "jwt",
];

impl Template {
    /// Checks a value from outside.
    ///
    /// # Errors
    /// [`TemplateError`] says what is wrong with it.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let variable = parse::template(source)?;
        Ok(Self { source: source.to_owned(), variable })
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The text, if there is no variable in it.
    pub(super) fn literal(&self) -> Option<&str> {
        self.variable.is_none().then_some(self.source.as_str())
    }

    /// What it means for a user. An unknown trait gives nothing, and so do empty values.
    #[must_use]
    pub fn expand(&self, traits: &Traits) -> Vec<String> {
        match &self.variable {
            None if self.source.is_empty() => Vec::new(),
            None => vec![self.source.clone()],
            Some(variable) => variable
                .expression
                .values(traits)
                .into_iter()
                .filter(|value| !value.is_empty())
                .map(|value| format!("{}{value}{}", variable.prefix, variable.suffix))
                .collect(),
        }
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Template {}

impl Expression {
    fn values(&self, traits: &Traits) -> Vec<String> {
        match self {
            Self::Trait(name) => traits.get(name).cloned().unwrap_or_default(),
            Self::EmailLocal(of) => of.values(traits).iter().filter_map(|value| email_local(value)).collect(),
            Self::Replace { of, pattern, replacement } => of
                .values(traits)
                .iter()
                .filter(|value| pattern.is_match(value))
                .map(|value| pattern.replace_all(value, replacement.as_str()).into_owned())
                .collect(),
        }
    }
}

/// The local part of an address such as `ann@example.com` or `Ann <ann@example.com>`.
fn email_local(text: &str) -> Option<String> {
    let address = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((_, address)) => address,
        None => text,
    };
    let (local, domain) = address.rsplit_once('@')?;
    let plain =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '<' || c == '>');
    (plain(local) && plain(domain) && !local.contains('@')).then(|| local.to_owned())
}
