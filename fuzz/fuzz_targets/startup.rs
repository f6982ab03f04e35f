//! The first packet of a connection that nobody knows yet.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocols::fuzz::startup(bytes));
