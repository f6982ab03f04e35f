//! Why a configuration is refused.

use std::{io, path::PathBuf};

use auth::identity::TargetName;

use super::MIN_SPOOL_BOUND;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be; the message names line, column and key.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// Two targets want the same.
    #[error("targets {first} and {second} have the same {what}")]
    Twice {
        /// Of what.
        what: &'static str,
        /// One target.
        first: TargetName,
        /// The other.
        second: TargetName,
    },
    /// No targets.
    #[error("no targets are configured")]
    NoTargets,
    /// Settings of a target that exclude each other, or mean nothing.
    #[error("target {target}: {what}")]
    Upstream {
        /// Which target.
        target: TargetName,
        /// What excludes what.
        what: &'static str,
    },
    /// The bound of the audit spool, or of recordings, is too small.
    #[error("{what}.max_spool is {bytes} bytes, less than {MIN_SPOOL_BOUND}")]
    SpoolBound {
        /// Of which.
        what: &'static str,
        /// What was asked for.
        bytes: u64,
    },
    /// A limit of zero would let nobody in.
    #[error("limits.{what} is 0")]
    NoRoom {
        /// Which limit.
        what: &'static str,
    },
}
