//! Who may: identities, certificates, roles, decisions, permits and the API of Touchstone.

pub mod api;
pub mod certificate;
pub mod clock;
pub mod identity;
pub mod key;
pub mod policy;
pub mod proto;
pub mod receipt;
pub mod resource;
