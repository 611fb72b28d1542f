//! A program as its service manager starts it, whichever manager that is.

use std::path::{Path, PathBuf};

use regex_lite::{Captures, Regex};

use crate::findings::Uwsgi;

use super::files::{dotenv, file_name, is_virtualenv, real, text};

/// Programs that answer requests.
pub(crate) const SERVERS: [&str; 7] =
    ["gunicorn", "uvicorn", "daphne", "hypercorn", "granian", "uwsgi", "waitress-serve"];

/// A program of a service manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub name: String,
    /// What its manager calls it, when that is another name.
    pub address: Option<String>,
    /// The name of its only process.
    pub process: Option<String>,
    /// Its command line, split into words.
    pub command: Vec<String>,
    pub directory: Option<PathBuf>,
    pub environment: Vec<(String, String)>,
    pub environment_files: Vec<PathBuf>,
    /// Seconds that its manager lets it take to end.
    pub stop_seconds: Option<u64>,
    /// Its manager kills its main process only.
    pub kills_one: bool,
    pub log: Option<PathBuf>,
    /// The socket that its manager holds for it, as supervisor writes it.
    pub socket: Option<String>,
    /// The file that it stands in.
    pub file: PathBuf,
    /// The configuration of the supervisord that runs it; `None` when that was not found, and for systemd.
    pub config: Option<PathBuf>,
    /// Its systemd unit; `None` for supervisor.
    pub unit: Option<String>,
    /// It was found where its manager reads it, not only in the checkout.
    pub installed: bool,
    /// Where it listens according to a file of its own, as `smoke.connect` has it.
    pub listens: Option<String>,
    /// The virtualenv that a file of its own names.
    pub home: Option<PathBuf>,
    /// How it is managed when it is a uWSGI that neither systemd nor supervisor runs.
    pub uwsgi: Option<Uwsgi>,
    /// It serves these other sites, too.
    pub shared: Vec<String>,
}

impl Program {
    /// Returns the value of a variable that it gets: of a file of variables, or else of its own definition.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        // systemd reads files after `Environment=`, and a later one replaces an earlier one.
        let filed = self.environment_files.iter().rev().find_map(|file| dotenv(&text(file)?, name));
        let own = || self.environment.iter().rfind(|(known, _)| known == name);
        filed.or_else(|| own().map(|(_, value)| value.clone()))
    }

    /// Returns a word of its command line with its variables filled in: `$PORT`, `${PORT}`, `${PORT:-8000}`.
    pub(crate) fn filled(&self, word: &str) -> String {
        let Ok(variable) = Regex::new(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})") else {
            return word.to_owned();
        };
        let value = |found: &Captures<'_>| {
            let name = found.get(1).or(found.get(2)).map_or("", |name| name.as_str());
            let usual = || found.get(3).map(|usual| usual.as_str().to_owned());
            self.variable(name).or_else(usual).unwrap_or_else(|| found[0].to_owned())
        };
        variable.replace_all(word, value).into_owned()
    }

    /// Tells whether it runs in a directory, or names a file of it.
    pub(crate) fn uses(&self, top: &Path) -> bool {
        let inside = |path: &Path| real(path).starts_with(top);
        self.directory.as_deref().is_some_and(inside)
            || self.paths().iter().any(|path| inside(path) || path.starts_with(top))
    }

    /// Returns the absolute paths in its command line and environment.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let values = self.environment.iter().flat_map(|(_, value)| value.split(':'));
        let words =
            self.command.iter().map(|word| word.rsplit_once('=').map_or(word.as_str(), |(_, value)| value));
        let paths = words.chain(values).map(|word| Path::new(word.strip_prefix("unix:").unwrap_or(word)));
        let paths = paths.filter(|path| path.is_absolute()).map(Path::to_owned);
        paths.chain(self.environment_files.iter().cloned()).collect()
    }

    /// Returns the virtualenvs that it names: `/srv/venv/bin/gunicorn`.
    pub(crate) fn virtualenvs(&self) -> Vec<PathBuf> {
        let directories = self.paths().into_iter().filter_map(|path| {
            let bin = if file_name(&path) == "bin" { path.as_path() } else { path.parent()? };
            (file_name(bin) == "bin").then(|| bin.parent().map(Path::to_owned)).flatten()
        });
        let mut found: Vec<PathBuf> = directories
            .chain(self.home.clone())
            .chain(self.variable("VIRTUAL_ENV").map(PathBuf::from))
            .collect();
        found.retain(|directory| is_virtualenv(directory));
        found.dedup();
        found
    }
}

impl Program {
    /// Takes the place of `deploykit hold-socket ADDRESS … -- COMMAND`, if it is that: its command and where it listens.
    pub(crate) fn held(mut self) -> Self {
        let Some(end) = self.command.iter().position(|word| word == "--") else { return self };
        let Some(name) = self.command[..end].iter().position(|word| word == "hold-socket") else {
            return self;
        };
        let is_address =
            |word: &&String| word.starts_with("unix:/") || word.parse::<std::net::SocketAddr>().is_ok();
        self.listens = self.command[name + 1..end].iter().find(is_address).cloned();
        self.command.drain(..=end);
        self.kills_one = false;
        self
    }
}

/// Tells whether a path can be a log that is read: neither a device nor computed by the manager.
pub(crate) fn is_log(path: &Path) -> bool {
    path.is_absolute() && !path.starts_with("/dev") && !path.to_string_lossy().contains('%')
}

/// Splits a command line as a shell would, without expanding anything; where a quote is open, at its blanks.
pub(crate) fn words(line: &str) -> Vec<String> {
    shlex::split(line).unwrap_or_else(|| line.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_in_a_shell() {
        assert_eq!(words(r#"a 'b c' "d \"e" f\ g '' "#), ["a", "b c", "d \"e", "f g", ""]);
        assert!(words("  ").is_empty());
    }
}
