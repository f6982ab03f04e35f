//! Who may: identities, certificates, roles, decisions, permits and the API of Touchstone.

pub mod api;
pub mod authorizer;
mod cache;
pub mod certificate;
pub mod clock;
pub mod denied;
pub mod identity;
pub mod key;
pub mod lock;
pub mod permit;
pub mod policy;
pub mod proto;
pub mod receipt;
pub mod replica;
pub mod resource;

#[cfg(test)]
mod testing;
