//! How git is called: without what another git left in the environment, and never with a question.

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
pub(crate) fn nul_separated<'p>(paths: impl IntoIterator<Item = &'p Path>) -> String {
    let mut text = String::new();
    for path in paths {
        text.push_str(&path.to_string_lossy());
        text.push('\0');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
