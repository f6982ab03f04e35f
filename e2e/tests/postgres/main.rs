//! No client can tell the difference: what real PostgreSQL clients print is the same against the database itself and
//! through a sidecar, natively and by tunnel.
#![cfg(test)]

mod bulk;
mod cancel;
mod drivers;
mod ended;
mod options;
mod pgbench;
mod psql;
mod replication;
mod rust;
mod scene;
mod settings;
mod stage;
mod tools;
mod trail;
