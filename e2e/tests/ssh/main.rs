//! SSH, with real clients, a real sshd, and everything of ours in between.
#![cfg(test)]

mod clients;
mod copies;
mod editors;
mod exact;
mod forwards;
mod live;
mod mfa;
mod recordings;
mod renewal;
mod roles;
mod rotation;
mod session;
mod sshfs;
mod stage;
mod trail;
mod tsh;
mod upstream;
mod x11;
