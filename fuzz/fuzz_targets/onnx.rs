//! The search for references to other files, which sees networks before ONNX Runtime does.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weakrest::fuzzing::onnx(bytes));
