//! The library against real programs. One binary, so that it links once.

#[macro_use]
extern crate deploykit_test_collect;

#[path = "../support/mod.rs"]
mod support;

mod book;
mod database;
mod demo;
mod django;
mod doctor;
mod examples;
mod faults;
mod git;
mod nothing_new;
mod public_api;
mod python;
mod reference;
mod rehearsal;
mod secrets;
mod services;
mod smoke;
mod tidy;
mod update;

fn main() -> std::process::ExitCode {
    support::harness::main()
}
