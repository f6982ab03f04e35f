//! No client can tell the difference: what real clients of MySQL print is the same against the database itself and through
//! a sidecar, natively and by tunnel.
#![cfg(test)]

mod drivers;
mod replication;
mod rust;
mod stage;
mod tools;
