//! The pages over real HTTPS, as browsers and as those who are none meet them.

mod accounts;
mod approvals;
pub(crate) mod browser;
mod doors;
mod recovery;
