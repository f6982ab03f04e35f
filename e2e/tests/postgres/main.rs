//! No client can tell the difference: what real PostgreSQL clients print is the same against the database itself and
//! through a sidecar, natively and by tunnel.
#![cfg(test)]

mod bulk;
mod cancel;
mod drivers;
mod pgbench;
mod psql;
mod rust;
mod settings;
mod stage;
mod tools;
