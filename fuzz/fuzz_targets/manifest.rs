//! `package.toml` as anyone could have written it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weakrest::fuzzing::manifest(bytes));
