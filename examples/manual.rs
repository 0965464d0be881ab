//! Writes the manual pages and the shells' completions: `manual DIR`

use std::path::Path;

use clap_complete::Shell;
use weakrest::commands::command;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        return Err(std::io::Error::other("usage: manual DIR"));
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command(), "weakrest", folder)?;
    }
    // A page of `help` for each command would say nothing.
    let command = command().mut_subcommands(|c| c.disable_help_subcommand(true));
    clap_mangen::generate_to(command, folder)
}
