//! Files of odd names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names that are no UTF-8, or no line, or look like an option.
pub const ODD: [&[u8]; 6] =
    [b"caf\xe9.txt", b"line\nbreak.txt", b"tab\there.txt", b"-rf", b" space .txt", b"\"quoted\\.txt"];

/// Those that Django itself can collect.
pub const ODD_STATIC: [&[u8]; 3] = [b"caf\xe9.txt", b"-rf.txt", b"in space.txt"];

pub fn write_odd(directory: &Path, names: &[&[u8]], text: &str) {
    fs::create_dir_all(directory).expect("a directory");
    for name in names {
        fs::write(directory.join(OsStr::from_bytes(name)), format!("{text}\n")).expect("a file");
    }
}
