//! `completions`: for the shells that clap knows.

use clap::CommandFactory;

use crate::args::Cli;
use crate::exit_code;
use crate::failure::Failure;
use crate::output::print;

pub fn run(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "deploykit", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(exit_code::DONE)
}
