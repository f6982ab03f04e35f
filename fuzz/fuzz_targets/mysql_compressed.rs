//! MySQL's compressed packets, as clients send them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| protocols::fuzz::mysql_compressed(bytes));
