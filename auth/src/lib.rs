//! Who may: identities, certificates, roles, decisions, permits and the API of Touchstone.

pub mod identity;
pub mod policy;
pub mod proto;
pub mod resource;
