//! A program with its arguments, as a value: it can be shown, stored in a journal, and run by a [`Host`](crate::Host).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One program with its arguments; no shell is involved.
///
/// Values set with [`env`](Command::env) are shown and journalled, so they are never secret. What is secret belongs to
/// the site's [`Variables`](crate::Variables), which is added at the start of the process and only when
/// [`with_site_variables`](Command::with_site_variables) asks for it.
///
/// # Examples
///
/// ```
/// use deploykit::Command;
///
/// let command = Command::new("git").args(["log", "-1", "--format=%an <%ae>"]).directory("/srv/site");
/// assert_eq!(command.to_string(), "cd /srv/site && git log -1 '--format=%an <%ae>'");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a command does nothing until a host runs it"]
pub struct Command {
    program: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    /// `None` removes the variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    site_environment: bool,
    /// Escaped as [names](crate::names) are: it may be a list of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(skip)]
    secrets: Secrets,
    /// What is read back from a journal does not: the Django that waited is gone.
    #[serde(skip)]
    may_be_forked: bool,
    /// The command to show in place of this one.
    #[serde(skip)]
    shown: Option<Box<Command>>,
}

/// Environment variables whose values only the program sees.
#[derive(Clone, Default, PartialEq, Eq)]
struct Secrets(BTreeMap<String, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Command {
    /// Makes a command without arguments: a name that is looked up in `PATH`, or a path.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Command {
            program: program.as_ref().to_string_lossy().into_owned(),
            args: Vec::new(),
            directory: None,
            env: BTreeMap::new(),
            site_environment: false,
            input: None,
            accepted: Vec::new(),
            deadline_ms: None,
            secrets: Secrets::default(),
            may_be_forked: false,
            shown: None,
        }
    }

    /// Makes a command of an argument list; `None` when the list is empty.
    #[must_use]
    pub fn from_argv(argv: &[String]) -> Option<Self> {
        let (program, args) = argv.split_first()?;
        Some(Command::new(program).args(args))
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<Path>) -> Self {
        self.args.push(arg.as_ref().to_string_lossy().into_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<Path>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()));
        self
    }

    /// Sets the directory to run in; default: the caller's own.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets an environment variable, which must not be secret.
    pub fn env(mut self, name: impl Into<String>, value: impl AsRef<Path>) -> Self {
        self.env.insert(name.into(), Some(value.as_ref().to_string_lossy().into_owned()));
        self
    }

    /// Sets an environment variable that is neither shown nor journalled: what is read back from a journal lacks it.
    pub(crate) fn secret_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.secrets.0.insert(name.into(), value.into());
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        self.env.insert(name.into(), None);
        self
    }

    /// Adds the site's environment when the process starts; without this call it is not seen.
    pub fn with_site_variables(mut self) -> Self {
        self.site_environment = true;
        self
    }

    /// Replaces the arguments and the standard input by those with which the same program runs this command in another way. What is
    /// shown stays this command.
    pub(crate) fn run_by<I: IntoIterator<Item = S>, S: AsRef<Path>>(mut self, args: I, input: &str) -> Self {
        self.shown = Some(Box::new(self.clone()));
        self.args.clear();
        self.args(args).input(input)
    }

    /// Gives text or bytes to the standard input; default: closed. They are journalled, so they must not be secret.
    pub fn input(mut self, input: impl AsRef<[u8]>) -> Self {
        self.input = Some(crate::names::bytes_text(input.as_ref()));
        self
    }

    /// Declares further exit codes that are no failure; 0 always is one.
    pub fn accept(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.accepted.extend(codes);
        self
    }

    /// Ends the whole process group when it runs for longer than this; the clock starts at the spawn. Default: none.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline_ms = Some(crate::millis::of(deadline));
        self
    }

    /// Lets a command of `manage.py` run in a fork of the Django that waits, if there is one.
    pub(crate) fn forked(mut self) -> Self {
        self.may_be_forked = true;
        self
    }

    /// Returns the program.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Returns the arguments.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.args
    }

    /// Returns the directory to run in.
    #[must_use]
    pub fn working_directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    pub(crate) fn variables(&self) -> &BTreeMap<String, Option<String>> {
        &self.env
    }

    pub(crate) fn secret_variables(&self) -> &BTreeMap<String, String> {
        &self.secrets.0
    }

    pub(crate) fn wants_site_environment(&self) -> bool {
        self.site_environment
    }

    pub(crate) fn given_input(&self) -> Option<Vec<u8>> {
        self.input.as_deref().map(crate::names::text_bytes)
    }

    pub(crate) fn may_be_forked(&self) -> bool {
        self.may_be_forked
    }

    pub(crate) fn accepts(&self, code: i32) -> bool {
        code == 0 || self.accepted.contains(&code)
    }

    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.deadline_ms.map(Duration::from_millis)
    }
}

/// A line that can be pasted into a POSIX shell.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shown) = &self.shown {
            return shown.fmt(f);
        }
        if let Some(directory) = &self.directory {
            write!(f, "cd {} && ", quote(&directory.to_string_lossy()))?;
        }
        for (name, value) in &self.env {
            // A search path fills the line, and does not help a reader with another one.
            if let Some(value) = value
                && name != "PATH"
            {
                write!(f, "{name}={} ", quote(value))?;
            }
        }
        f.write_str(&quote(&self.program))?;
        for arg in &self.args {
            write!(f, " {}", quote(arg))?;
        }
        Ok(())
    }
}

/// Quotes one word for a POSIX shell, only where it is needed.
#[must_use]
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let command = Command::new("sh").args(["-c", "echo it's"]).env("LC_ALL", "C").env_remove("GIT_DIR");
        assert_eq!(command.to_string(), r"LC_ALL=C sh -c 'echo it'\''s'");
    }

    #[test]
    fn a_secret_variable_is_not_shown() {
        let command = Command::new("git").secret_env("TOKEN", "hunter22");
        let journalled = serde_json::to_string(&command).unwrap();
        for text in [command.to_string(), format!("{command:?}"), journalled] {
            assert!(!text.contains("hunter22"), "{text}");
        }
    }

    #[test]
    fn a_command_survives_the_journal() {
        let command =
            Command::new("pip").arg("check").directory("/srv").accept([3]).deadline(Duration::from_secs(9));
        let text = serde_json::to_string(&command).unwrap();
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
        assert!(!text.contains("site_environment"), "defaults are left out: {text}");
    }
}
