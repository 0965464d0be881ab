//! The `weakrest` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Released ONNX Runtimes keep a log of their use in the home directory, meant for their maker. Asking them not to through
    // their own interface comes too late.
    // SAFETY: no other thread is running yet.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    weakrest::commands::main()
}
