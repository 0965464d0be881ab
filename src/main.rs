//! The `weakrest` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Released ONNX Runtimes log their use in the home directory, for their maker. Their own switch works too
    // late. SAFETY: no other thread is running yet.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    weakrest::commands::main()
}
