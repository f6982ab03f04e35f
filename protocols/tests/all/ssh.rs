//! SSH, against a real OpenSSH on both sides: its server as the upstream, its clients as clients. Without one
//! installed, these tests pass without a word to say.

mod forward;
mod house;
mod login;
mod multiplex;
mod session;
mod sftp;
