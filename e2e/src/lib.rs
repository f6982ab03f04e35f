//! It really works: the harness that plays whole stories with the built programs and real databases.
//!
//! A [`World`] is one temporary directory with everything in it: authd, a PostgreSQL, sidecars in front of it, and people
//! with their own homes. A [`MariadbWorld`] is the same around a MariaDB, a [`NodeWorld`] around an sshd. Nothing in it is simulated. The programs are the built binaries, started as an administrator would
//! start them; people sit at a pseudo terminal; the only stand-in is the software security key, which signs what a real
//! key would sign.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use e2e::World;
//!
//! let world = World::jerry_and_olga()?;
//! let mut psql = world.jerry.at_terminal(&["db", "connect", "prod-pg"])?;
//! psql.expect("Tap any security key")?;
//! psql.expect("app=> ")?;
//! psql.send("select current_user;")?;
//! psql.expect("jerry")?;
//! # Ok(())
//! # }
//! ```
//!
//! Whatever a world started is stopped when it is dropped, also when a test panics. Each child additionally asks the
//! kernel to be killed when the thread that started it ends, so that not even a killed test run leaves a database behind.
//! For that reason programs are started from the test's own thread, never from a helper thread that ends early.

mod authd;
mod binaries;
mod browser;
mod clients;
mod mariadb;
mod mariadb_client;
mod mariadb_world;
mod node_world;
mod openssh;
mod otp;
mod owner;
mod postgres;
pub mod process;
mod psql;
mod sidecar;
mod sshd;
mod tctl;
mod terminal;
mod tsh;
mod world;

pub use authd::{Authd, CLUSTER};
pub use binaries::postgres as postgres_program;
pub use browser::{Browser, ENTER, ESCAPE, Key, KeyOptions, TAB};
pub use clients::{Way, interpreted, same_transcript};
pub use mariadb::Mariadb;
pub use mariadb_client::MariadbClient;
pub use mariadb_world::MariadbWorld;
pub use node_world::{NodeWorld, role_for};
pub use openssh::OpenSsh;
pub use otp::OtpDevice;
pub use postgres::Postgres;
pub use process::{Daemon, Finished, command_line, mortal, poll, run};
pub use psql::Psql;
pub use sidecar::{Guarded, Sidecar, SidecarOptions, guard};
pub use sshd::{Sshd, account};
pub use tctl::Tctl;
pub use terminal::Terminal;
pub use tsh::{PASSWORD, Tsh};
pub use world::{ACCESS_DEV, ACCESS_PROD, PREFERENCE, World, directory};
