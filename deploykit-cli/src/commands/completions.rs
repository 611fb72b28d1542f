//! `completions`: for the shells that clap knows.

use clap::CommandFactory;

use crate::args::Cli;
use crate::exit_code;
use crate::failure::Failure;

pub fn run(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "deploykit", &mut script);
    // A reader that went away, as in `… | head`, is no failure.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
    Ok(exit_code::DONE)
}
