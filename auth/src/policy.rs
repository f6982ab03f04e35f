//! Who may: labels, users and names against roles, deny before allow, and whether a session needs a touch.
//!
//! One function judges: [`evaluate()`]. It answers "may they?" and "is a touch needed?" alike, for authd before it issues
//! a session certificate, for a sidecar before it opens a session, and for `tctl access explain`. It reads nothing but
//! its arguments; every [`Decision`] names the role that made it.
//!
//! ```text
//! 1. Every session needs a touch and this one has none            -> MFA required
//! 2. A role's deny has matching labels, or names the login,
//!    the database user or the database                            -> deny
//! 3. A role's allow has matching labels AND names the login
//!    (database user and database)
//!      touched, or no role of this user asks for a touch          -> allow
//!      the role asks for a touch                                  -> MFA required
//!      otherwise remember it, and look for a matching role that asks
//! 4. Remembered -> allow. Nothing matched -> deny
//! ```

mod access;
mod decision;
mod evaluate;
mod go_regex;
mod labels;
mod options;
mod role_set;
mod template;

pub use access::{Access, MfaStatus, Target, TargetKind};
pub use decision::{Decision, DeniedBy, DenyList, Explanation, MfaRequiredBy};
pub use evaluate::{evaluate, explain};
pub use labels::{LabelError, LabelPattern};
pub use options::SessionOptions;
pub use role_set::{AllowedValues, PolicyError, RoleSet};
pub use template::{Template, TemplateError};
