//! The command line of deploykit.
fn main() {}
