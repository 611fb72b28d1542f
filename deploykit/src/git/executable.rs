//! How git is called: without what another git left in the environment, and never with a question.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::command::Command;

/// How long git may take for what it does on this machine alone.
pub(crate) const LOCAL: Duration = Duration::from_secs(15 * 60);

/// How long a transport may take that has no limit of its own.
pub(crate) const TRANSPORT: Duration = Duration::from_secs(30 * 60);

/// Returns `git` for a checkout, to be given its arguments.
///
/// What would point it to another repository is removed from its environment; the rest of the environment, and
/// everything git was configured with, stays as the user has it.
pub(crate) fn git(directory: &Path) -> Command {
    let foreign = [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
    ];
    let command = Command::new("git").directory(directory).env("GIT_TERMINAL_PROMPT", "0").deadline(LOCAL);
    foreign.into_iter().fold(command, Command::env_remove)
}

/// Returns `git` for an answer that is parsed: in English, and without taking a lock that it can do without.
pub(crate) fn reading_git(directory: &Path) -> Command {
    git(directory).env("LC_ALL", "C").arg("--no-optional-locks")
}

/// Adds what keeps a transport from waiting for a person.
///
/// ssh asks on the terminal, whatever its standard input is; told to ask a program that says nothing, it gives up.
pub(crate) fn transporting(command: Command, deadline: Duration) -> Command {
    let command = command.deadline(deadline);
    if std::env::var_os("SSH_ASKPASS").is_some() {
        return command;
    }
    command.env("SSH_ASKPASS", "false").env("SSH_ASKPASS_REQUIRE", "force")
}

/// Joins paths for git's `-z` and `--pathspec-file-nul`.
pub(crate) fn nul_separated<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Vec<u8> {
    let mut list = Vec::new();
    for path in paths {
        list.extend_from_slice(path.as_os_str().as_bytes());
        list.push(0);
    }
    list
}

/// Splits an answer that was asked for with `-z`.
pub(crate) fn split_at_nul(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    answer.split(|byte| *byte == 0).filter(|part| !part.is_empty())
}

/// Returns a path of git's answers.
pub(crate) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Writes a path as git reads it in a list that has a line for each: quoted as in C where it must be.
///
/// Source: git's `unquote_c_style`.
pub(crate) fn quoted_line(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
    if bytes.first() != Some(&b'"') && bytes.iter().all(is_plain) {
        return [bytes, b"\n"].concat();
    }
    let mut line = vec![b'"'];
    for byte in bytes {
        match byte {
            b'"' | b'\\' => line.extend([b'\\', *byte]),
            byte if is_plain(byte) => line.push(*byte),
            byte => line.extend(format!("\\{byte:03o}").into_bytes()),
        }
    }
    line.extend(*b"\"\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_line_cannot_hold_it() {
        let line = |bytes: &[u8]| quoted_line(path_of(bytes));
        assert_eq!(line(b"a b\xe9\\c.py"), b"a b\xe9\\c.py\n");
        assert_eq!(line(b"a\nb\t\"\\\xe9"), b"\"a\\012b\\011\\\"\\\\\xe9\"\n");
        assert_eq!(line(b"\"quoted\""), b"\"\\\"quoted\\\"\"\n");
    }

    #[test]
    fn git_sees_no_other_repository_and_asks_nobody() {
        let command = transporting(reading_git(Path::new("/srv/site")), TRANSPORT);
        let value = |name: &str| command.variables().get(name).cloned();
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
            assert_eq!(value(name), Some(None), "{name} is removed");
        }
        assert_eq!(value("GIT_TERMINAL_PROMPT"), Some(Some("0".to_owned())));
        assert_eq!(value("LC_ALL"), Some(Some("C".to_owned())));
        assert_eq!(value("GIT_SSH_COMMAND"), None, "core.sshCommand and the user's own stay");
        assert_eq!(command.time_limit(), Some(TRANSPORT));
        assert_eq!(command.arguments(), ["--no-optional-locks"]);
    }
}
