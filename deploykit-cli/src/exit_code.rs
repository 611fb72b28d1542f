//! The exit codes, in one place: `--help` prints this table.

/// The exit codes, for the help.
pub const TABLE: &str = "\
Exit codes:
  0  done, or nothing to do
  1  unexpected error; or updated, but a step after `finish` failed
  2  usage error
  3  configuration error
  4  refused, or failed before anything was changed
  5  failed and rolled back: the previous version serves
  6  failed and held in maintenance: a person is needed
  7  interrupted: run `deploykit recover`
 10  an update is available (`plan --exit-code`), or something would change (`--check --exit-code`)";

/// The exit codes of `exec`, for its help.
pub const OF_EXEC: &str = "\
Exit codes: that of the command, or
  0  not run: the site is being changed, and `--skip` is given
  2  usage error
  3  configuration error, or the configuration belongs to another user
  4  not run: the site was still being changed after `--wait`, or the job cannot be registered
126  the program cannot be executed
127  there is no such program";

/// The exit codes of `hold-socket`, for its help.
pub const OF_HOLD_SOCKET: &str = "\
Exit codes:
  0  ended by SIGTERM, SIGINT or SIGQUIT, after the server
  2  usage error
  4  the address is in use, or the socket gate cannot be seen
127  there is no such server";

pub const DONE: u8 = 0;
pub const UNEXPECTED: u8 = 1;
pub const USAGE: u8 = 2;
pub const CONFIGURATION: u8 = 3;
pub const REFUSED: u8 = 4;
pub const ROLLED_BACK: u8 = 5;
pub const HELD: u8 = 6;
pub const INTERRUPTED: u8 = 7;
pub const WAITING: u8 = 10;
