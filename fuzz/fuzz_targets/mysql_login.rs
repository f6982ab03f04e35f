//! MySQL's login, as clients and upstreams speak it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocols::fuzz::mysql_login(bytes));
