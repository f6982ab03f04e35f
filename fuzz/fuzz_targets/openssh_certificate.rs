//! OpenSSH certificates, as clients present them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| auth::fuzz::openssh_certificate(bytes));
