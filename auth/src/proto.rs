//! The generated form of `proto/auth.proto`, which holds the commented contract.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the contract is documented in auth.proto"
)]

tonic::include_proto!("touchstone.auth.v1");

/// The contract as an encoded `google.protobuf.FileDescriptorSet`: every service and method, for whoever must not forget one.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
