//! Security keys for real: the pages in a real browser, with keys that the browser believes in. Every test has a cluster and
//! a browser of its own.
#![cfg(test)]

mod approval;
mod devices;
mod expiry;
mod invitation;
mod origin;
mod recovery;
mod signing_in;
mod stage;
