//! The auth service of Touchstone: the only code that can sign.

pub mod ca;
mod password;
pub mod store;
