//! `weakrest account`: who may sign in to the web page.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use console::Term;

use crate::access::Role;
use crate::access::accounts::{self, Accounts, check_name};
use crate::{Error, ErrorKind, Result};

use super::Outcome;

/// Arguments of `account`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add an account, or give it another role and password. The password is asked for, or read from standard input
    Add {
        /// What the person signs in with
        name: String,
        /// view: look; operate: also trigger, halt and resume; engineer: everything
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Role,
        /// File of accounts; web.accounts_file names it in the configuration
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List the accounts with their roles
    List {
        /// File of accounts
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Remove an account. Its sessions end within two seconds
    Remove {
        /// What the person signed in with
        name: String,
        /// File of accounts
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| format!("must be {}", Role::ALL.map(Role::name).join(", ")))
}

impl Arguments {
    pub fn run(self) -> Result<Outcome> {
        match self.command {
            Command::Add { name, role, file } => {
                // Before anybody types a password for nothing.
                check_name(&name)?;
                let is_new = accounts::add(&file, &name, role, &password(&name)?)?;
                let what = if is_new { "added" } else { "changed" };
                say!("{what} {name} with the role {role} in {}", file.display())?;
            }
            Command::List { file } => {
                for account in Accounts::read(&file)?.iter() {
                    say!("{:10} {}", account.role.name(), account.name)?;
                }
            }
            Command::Remove { name, file } => {
                accounts::remove(&file, &name)?;
                say!("removed {name} from {}", file.display())?;
            }
        }
        Ok(Outcome::Pass)
    }
}

/// The password that somebody types twice, or the first line of standard input.
fn password(name: &str) -> Result<String> {
    let failed = |e| Error::io("read the password from", Path::new("standard input"), e);
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let ask = |what: &str| {
        let term = Term::stderr();
        term.write_str(what).and_then(|()| term.read_secure_line()).map_err(failed)
    };
    let password = ask(&format!("Password for {name}: "))?;
    accounts::check_password(&password)?;
    if ask("The same again: ")? != password {
        return Err(Error::new(ErrorKind::Usage, "the passwords differ; nothing is changed"));
    }
    Ok(password)
}
