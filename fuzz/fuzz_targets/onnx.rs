//! The search for references to other files. It reads a network before ONNX Runtime does.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weakrest::fuzzing::onnx(bytes));
