//! `package.toml` with any content.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weakrest::fuzzing::manifest(bytes));
