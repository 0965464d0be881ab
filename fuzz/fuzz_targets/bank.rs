//! `bank-1.safetensors`: an accepted bank can be searched.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weakrest::fuzzing::bank(bytes));
