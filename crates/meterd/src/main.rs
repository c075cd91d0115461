//! The `meterd` command: serves the API, and keeps its keys, data and documentation.

mod apply;
mod backup;
mod bench;
mod cli;
mod config;
mod demo;
mod docs;
mod errors;
mod export;
mod fsm_navigator;
mod import;
mod key;
mod logging;
mod memory;
mod retention;
mod server;
mod system;
mod terminal;
mod verify;
mod wattwatchers;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

/// Exit code of a command that did its work and found something wrong, such as `verify`.
const EXIT_FOUND: u8 = 1;
/// Exit code of a command that could not do its work. A wrong command line exits with 2, by the parser.
const EXIT_FAILED: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Serve(_) | Command::Demo(_)) {
        memory::share_arenas();
    }
    raise_open_files();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("meterd: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Every segment and every connection keeps a file open, and many systems allow 1,024 at first, but more if asked.
#[cfg(unix)]
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it is refused, what the system allows has to do.
    let _ = setrlimit(Resource::Nofile, raised);
}

#[cfg(not(unix))]
fn raise_open_files() {}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(options) => server::serve(&options)?,
        Command::Demo(options) => demo::demo(&options)?,
        Command::Key(command) => key::run(&command)?,
        Command::Apply(options) => apply::run(&options)?,
        Command::Errors(options) => errors::run(&options)?,
        Command::Export(options) => export::run(&options)?,
        Command::Backup(options) => backup::backup(&options)?,
        Command::Restore(options) => backup::restore(&options)?,
        Command::Bench(command) => bench::run(&command)?,
        Command::Import(options) => {
            if !import::run(&options)? {
                return Ok(ExitCode::from(EXIT_FOUND));
            }
        }
        Command::Verify(options) => {
            if !verify::run(&options)? {
                return Ok(ExitCode::from(EXIT_FOUND));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
