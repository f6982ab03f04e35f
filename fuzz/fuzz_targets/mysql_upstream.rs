//! MySQL's answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocols::fuzz::mysql_upstream(bytes));
