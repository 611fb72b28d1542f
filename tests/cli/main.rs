//! The command line as people and scripts meet it: the real binary, its words, documents and exit codes.

#[macro_use]
extern crate deploykit_test_collect;

#[path = "../support/mod.rs"]
mod support;

mod documents;
mod rollback;
mod run;

mod bad_input;
mod control_characters;
mod doctor;
mod failures;
mod follower;
mod held;
mod help;
mod hold_socket;
mod jobs;
mod locks;
mod logs;
mod one_liners;
mod phases;
mod readme;
mod rehearse;
mod servers;
mod services_hold;
mod signals;
mod silence;
mod sites;
mod terminals;
mod trust;
mod tutorial;
mod updates;
mod usage;

fn main() -> std::process::ExitCode {
    support::harness::main()
}
