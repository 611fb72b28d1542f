//! pip and uv: how they are started, and what their messages mean.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::Command;
use crate::host::Host;

/// Which installer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Installer {
    /// uv when it is installed, else pip.
    #[default]
    Auto,
    /// The pip of the virtualenv.
    Pip,
    /// uv.
    Uv,
}

/// An installer that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// The pip of the virtualenv.
    Pip,
    /// uv.
    Uv {
        /// Its program.
        program: PathBuf,
    },
}

impl Tool {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Tool::Pip => "pip",
            Tool::Uv { .. } => "uv",
        }
    }

    /// Makes a command of this installer that works on `environment`; its first words are those of pip: `install`, `check`.
    ///
    /// The virtualenv is named in words, so that no variable and no active virtualenv can mean another one.
    pub(crate) fn command(&self, staged: &Path, words: &[&str]) -> Command {
        let python = staged.join("bin/python");
        match self {
            Tool::Pip => isolated(Command::new(&python).args(["-m", "pip", "--no-input"]).args(words))
                .env("PIP_USER", "0"),
            Tool::Uv { program } => isolated(Command::new(program).arg("pip").args(words))
                .args([Path::new("--python"), &python])
                .env("VIRTUAL_ENV", staged),
        }
    }
}

/// Sets up a program that makes or fills a virtualenv: with the site's variables (indexes, proxies, credentials), and
/// without those that would lead it into another virtualenv.
pub(crate) fn isolated(command: Command) -> Command {
    [
        "PYTHONHOME",
        "PYTHONPATH",
        "__PYVENV_LAUNCHER__",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_PYTHON",
        "PIP_DRY_RUN",
        "PIP_REPORT",
        "PIP_IGNORE_INSTALLED",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_PROJECT_ENVIRONMENT",
    ]
    .into_iter()
    .fold(command.with_site_variables(), Command::env_remove)
}

/// Finds uv as the site's programs would find it.
pub(crate) fn find_uv(host: &Host) -> Option<PathBuf> {
    let path = host.variables().get("PATH").map(Into::into).or_else(|| std::env::var_os("PATH"));
    which::which_in("uv", path, "/").ok()
}

/// Returns what tells pip where packages come from, a file or a variable, where nothing tells uv: it reads no `pip.conf`,
/// and would take a private package of the same name from the public index.
///
/// Sources: <https://pip.pypa.io/en/stable/topics/configuration/>, <https://docs.astral.sh/uv/concepts/configuration-files/>
pub(crate) fn index_of_pip(
    host: &Host,
    virtualenv: &Path,
    directory: &Path,
    extra_args: &[String],
) -> Option<PathBuf> {
    if uv_knows_an_index(host, directory, extra_args) { None } else { told_to_pip(host, virtualenv) }
}

/// Tells whether files, variables or arguments name an index.
pub(crate) fn knows_an_index(
    host: &Host,
    virtualenv: &Path,
    directory: &Path,
    extra_args: &[String],
) -> bool {
    uv_knows_an_index(host, directory, extra_args) || told_to_pip(host, virtualenv).is_some()
}

pub(super) fn variable(host: &Host, name: &str) -> Option<PathBuf> {
    let site = host.variables().get(name).map(PathBuf::from);
    site.or_else(|| std::env::var_os(name).map(PathBuf::from)).filter(|value| !value.as_os_str().is_empty())
}

/// Returns the home directory, and that of settings.
fn homes(host: &Host) -> [PathBuf; 2] {
    let home = variable(host, "HOME").unwrap_or_default();
    let settings = variable(host, "XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    [home, settings]
}

fn says(file: &Path, what: &[&str]) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| what.iter().any(|what| line.trim_start().replace('_', "-").starts_with(what)))
}

fn uv_knows_an_index(host: &Host, directory: &Path, extra_args: &[String]) -> bool {
    let [_, settings] = homes(host);
    let of_uv = [
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_NO_INDEX",
        "UV_CONFIG_FILE",
    ];
    let files_of_uv = [settings.join("uv/uv.toml"), "/etc/uv/uv.toml".into(), directory.join("uv.toml")];
    let is_index = |argument: &String| {
        ["-i", "-f", "--index", "--default-index", "--extra-index", "--find-links", "--no-index"]
            .iter()
            .any(|name| argument.starts_with(name))
    };
    of_uv.iter().any(|name| variable(host, name).is_some())
        || files_of_uv.iter().any(|file| file.exists())
        || project_names_an_index(&directory.join("pyproject.toml"))
        || extra_args.iter().any(is_index)
}

/// Tells whether `[tool.uv]` of a project names an index.
///
/// Source: <https://docs.astral.sh/uv/reference/settings/>
fn project_names_an_index(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let project: Value = toml::from_str(&text).unwrap_or_default();
    let keys = ["index", "index-url", "extra-index-url", "find-links", "no-index"];
    ["/tool/uv", "/tool/uv/pip"]
        .iter()
        .filter_map(|table| project.pointer(table))
        .any(|table| keys.iter().any(|key| table.get(key).is_some()))
}

fn told_to_pip(host: &Host, virtualenv: &Path) -> Option<PathBuf> {
    let [home, settings] = homes(host);
    let files: Vec<PathBuf> = match variable(host, "PIP_CONFIG_FILE") {
        // Without any.
        Some(file) if file == Path::new("/dev/null") => Vec::new(),
        own => {
            let user = [settings.join("pip/pip.conf"), home.join(".pip/pip.conf")];
            let all = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"].map(PathBuf::from);
            [virtualenv.join("pip.conf")].into_iter().chain(own).chain(user).chain(all).collect()
        }
    };
    let keys = ["index-url", "extra-index-url", "find-links", "no-index"];
    let variables = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"];
    let file = files.into_iter().find(|file| says(file, &keys));
    file.or_else(|| variables.iter().find(|name| variable(host, name).is_some()).map(PathBuf::from))
}

/// Time that several programs share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    started: Instant,
    total: Duration,
}

impl Budget {
    pub(crate) fn new(total: Duration) -> Self {
        Budget { started: Instant::now(), total }
    }

    /// Returns what is left; never nothing, so that the program itself reports that its time is over.
    pub(crate) fn left(&self) -> Duration {
        self.total.saturating_sub(self.started.elapsed()).max(Duration::from_millis(1))
    }
}

/// Returns the newer pip that pip itself tells of.
///
/// # Examples
///
/// ```
/// let line = "[notice] A new release of pip is available: 23.0 -> 26.3";
/// assert_eq!(deploykit::internal::python::newer_pip(line).as_deref(), Some("26.3"));
/// ```
#[must_use]
pub fn newer_pip(output: &str) -> Option<String> {
    static NOTICE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        // pip colours it on a terminal, and since 22.1 writes "A new release of pip [available]: 1 -> 2".
        Regex::new(
            r"(?:new release of pip(?: is)? available:?\S*\s+\S+\s+->\s+|using pip version \S+ however, version )([0-9][0-9A-Za-z.]*[0-9])",
        )
        .ok()
    });
    let output = without_colour(output);
    let found = NOTICE.as_ref()?.captures(&output)?;
    Some(found[1].to_owned())
}

fn without_colour(text: &str) -> String {
    static COLOUR: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("\u{1b}\\[[0-9;]*m").ok());
    COLOUR.as_ref().map_or_else(|| text.to_owned(), |colour| colour.replace_all(text, "").into_owned())
}

/// What an installer said about requirements that it could not resolve.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The requirement that nothing satisfies.
    pub(crate) requirement: Option<String>,
    /// The Python that was asked for instead of this one.
    pub(crate) needs_python: Option<String>,
}

/// Reads the messages of pip and uv. Where their wording is another one, only the tail tells.
pub(crate) fn refusal(output: &str) -> Refusal {
    static REQUIREMENT: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        [
            r"No matching distribution found for ([^\s;]+(?: ?@ ?\S+)?)",
            r"Could not find a version that satisfies the requirement ([^\s;(]+)",
            r"Because there (?:is|are) no versions? of (\S+)",
            r"Because (\S+) requires Python ",
            r"Because (\S+) was not found in",
            r"Because only \S+?(?:[<>=!].*?)? (?:is|are) available and you require ([^\s,]+)",
        ]
        .iter()
        .filter_map(|pattern| Regex::new(pattern).ok())
        .collect()
    });
    static PYTHON: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        [
            r"Requires-Python ([^;\s]+)",
            r"requires a different Python: \S+ not in '([^']+)'",
            r"requires Python ([<>=!~][^\s;]*)",
            r"does not satisfy Python\s*([<>=!~][^\s,]*(?:,[<>=!~][^\s,]+)*)",
        ]
        .iter()
        .filter_map(|pattern| Regex::new(pattern).ok())
        .collect()
    });
    let output = without_colour(output);
    let first = |patterns: &[Regex]| {
        patterns
            .iter()
            .find_map(|pattern| Some(pattern.captures(&output)?[1].trim_end_matches([',', '.']).to_owned()))
    };
    Refusal { requirement: first(&REQUIREMENT), needs_python: first(&PYTHON) }
}

/// Tells whether an argument holds the user or password of a URL.
pub(crate) fn holds_credentials(argument: &str) -> bool {
    argument.split("://").skip(1).any(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // `git+ssh://git@host` names a user and no secret.
        host.split_once('@').is_some_and(|(user, _)| user != "git" && !user.contains("${"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pip_tells_of_a_newer_pip_in_three_ways() {
        for line in [
            "[notice] A new release of pip is available: 23.0 -> 26.3",
            "\u{1b}[1m[\u{1b}[0m\u{1b}[34;49mnotice\u{1b}[0m\u{1b}[1;39;49m]\u{1b}[0m\u{1b}[39;49m A new release of pip is available: \u{1b}[0m\u{1b}[31;49m23.0\u{1b}[0m\u{1b}[39;49m -> \u{1b}[0m\u{1b}[32;49m26.3\u{1b}[0m",
            "[notice] A new release of pip available: 22.3.1 -> 26.3",
            "WARNING: You are using pip version 20.0.2; however, version 26.3 is available.\nYou should",
        ] {
            assert_eq!(newer_pip(line).as_deref(), Some("26.3"), "{line}");
        }
        assert_eq!(newer_pip("Successfully installed pip-26.3"), None);
    }

    #[test]
    fn the_requirement_and_the_python_are_found_where_they_are_named() {
        let pip = "ERROR: Ignored the following versions that require a different python version: 5.0 Requires-Python >=3.10; 5.1 Requires-Python >=3.10\nERROR: Could not find a version that satisfies the requirement Django==5.2 (from versions: 4.2)\nERROR: No matching distribution found for Django==5.2";
        let found = refusal(pip);
        assert_eq!(
            (found.requirement.as_deref(), found.needs_python.as_deref()),
            (Some("Django==5.2"), Some(">=3.10"))
        );
        let uv = "Because the current Python version (3.11.7) does not satisfy Python>=3.13 and demo==2 depends on Python>=3.13, we can conclude that demo==2 cannot be used.";
        assert_eq!(refusal(uv).needs_python.as_deref(), Some(">=3.13"));
        let uv = "error: No solution found when resolving dependencies\n  cause: Because nosuch was not found in the provided package locations and you require nosuch==1, we can conclude";
        assert_eq!(refusal(uv).requirement.as_deref(), Some("nosuch"));
        let uv = "  ╰─▶ Because there is no version of demo==9 and you require demo==9, we can conclude";
        assert_eq!(refusal(uv).requirement.as_deref(), Some("demo==9"));
        let uv = "  cause: Because modern==1.0 requires Python >=3.99 and only modern==1.0 is available, we can conclude";
        let found = refusal(uv);
        assert_eq!(
            (found.requirement.as_deref(), found.needs_python.as_deref()),
            (Some("modern==1.0"), Some(">=3.99"))
        );
        assert_eq!(refusal("something else"), Refusal::default());
    }

    #[test]
    fn credentials_are_seen_in_arguments() {
        for argument in
            ["--index-url=https://u:p@host/simple", "https://token@host/", "--find-links=x://a:b@c"]
        {
            assert!(holds_credentials(argument), "{argument}");
        }
        for argument in [
            "--index-url=https://host/a@b",
            "git+ssh://git@host/x",
            "--pre",
            "a@b",
            "https://${USER}:${PW}@h/",
        ] {
            assert!(!holds_credentials(argument), "{argument}");
        }
    }

    proptest! {
        #[test]
        fn no_output_is_too_strange(text in ".*") {
            let _ = (newer_pip(&text), refusal(&text), holds_credentials(&text));
        }
    }
}
