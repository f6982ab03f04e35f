//! SSH before login.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocols::fuzz::ssh_login(bytes));
