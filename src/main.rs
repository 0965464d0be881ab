//! The `weakrest` command.

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_target(false)
        .format_timestamp(None)
        .init();
    let arguments = commands::Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::from(error.kind().exit_code())
        }
    }
}
