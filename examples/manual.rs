//! Writes the manual pages and the shells' completions, as the arguments say: `manual DIR`

#[allow(dead_code, unused_macros, reason = "the arguments are of interest, not the commands")]
#[path = "../src/commands/mod.rs"]
mod commands;

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        return Err(std::io::Error::other("usage: manual DIR"));
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let mut command = commands::Arguments::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "weakrest", folder)?;
    }
    // Shells offer `help` by themselves; a page of it for each command would say nothing.
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder)
}
