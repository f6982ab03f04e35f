//! SSH as tsh speaks it: a client of sidecars, with a certificate for one session.
//!
//! [`SshConnection`] is one connection to one node: dialled, the sidecar verified by its host certificate ([`HostAuthorities`]),
//! logged in with the session certificate. On it runs a [`Program`] (a shell or a command), forwarded ports ([`forward`]), or
//! files are copied through it ([`sftp`]). What a person types after `tsh ssh` is read by [`Destination`] and [`Options`].

pub mod connection;
pub mod destination;
mod escape;
pub mod forward;
mod handler;
pub mod host;
pub(crate) mod key;
mod modes;
pub mod options;
pub mod output;
pub mod program;
mod raw;
pub mod sftp;
pub mod stdio;
#[cfg(test)]
pub(crate) mod testing;
pub mod x11;

pub use connection::{Settings, SshConnection, SshError};
pub use destination::{Destination, Hosts, Labels};
pub use forward::channel_stream;
pub use host::{HostAuthorities, HostError};
pub use options::Options;
pub use output::Output;
pub use program::{Ended, Program, What};
pub use raw::RawTerminal;
