//! `bank.safetensors`: a bank that is accepted can also be searched.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weakrest::fuzzing::bank(bytes));
