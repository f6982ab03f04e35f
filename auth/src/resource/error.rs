//! Why a resource was not accepted: always with the field, and with the line where there is one.

use std::fmt;

use crate::{
    identity::NameError,
    policy::{LabelError, TemplateError},
};

/// A resource that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceError {
    /// Line in the file, from 1; `None` when the resource did not come from a text with lines.
    pub line: Option<usize>,
    /// The field, as a path from the top: `spec.allow.logins`. Empty for the document itself.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not YAML or not JSON.
    #[error("syntax error: {0}")]
    Syntax(String),
    /// The text is larger, deeper or longer than any resource needs to be.
    #[error("too large: more than {limit} {what}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// Nobody knows such a field.
    #[error("unknown field {field:?}; known here: {}", known.join(", "))]
    UnknownField {
        /// The field's name.
        field: String,
        /// The fields that may stand there.
        known: Vec<&'static str>,
    },
    /// The same field twice.
    #[error("field {0:?} appears twice")]
    DuplicateField(String),
    /// A field that must be there is not.
    #[error("missing field {0:?}")]
    MissingField(&'static str),
    /// A list where a text should be, and the like.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What should stand there.
        expected: &'static str,
        /// What does.
        found: &'static str,
    },
    /// A text that does not mean anything here.
    #[error("{value:?} is not {expected}")]
    Value {
        /// What was written.
        value: String,
        /// What may be written.
        expected: &'static str,
    },
    /// A name that nothing can have.
    #[error(transparent)]
    Name(NameError),
    /// A `{{…}}` that does not parse.
    #[error(transparent)]
    Template(TemplateError),
    /// A label selector that can match nothing as written.
    #[error(transparent)]
    Label(LabelError),
    /// A text that should hold certificates.
    #[error("not a certificate in PEM: {0}")]
    Pem(&'static str),
    /// Teleport knows the field; Touchstone cannot enforce it, and to ignore it would give people more than was meant.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ResourceError {}
