//! The sections of `deploykit.toml`, checked, with defaults filled in and paths made absolute.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::items::{pages, services, steps};
use super::problem::{ConfigError, Mistakes, Problem};
use super::reader::{Reader, merge};
use crate::django::{DATABASE_DEADLINE, When};
use crate::host::owners;
use crate::operations::git_update::{LocalChanges, LocalCommits};
use crate::operations::smoke_check::{Page, SmokeCheck};
use crate::plan::StepKind;
use crate::python::{Installer, UpgradeStrategy};
use crate::services::Service;

/// The environment of a site: it decides what an update does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// All steps.
    Production,
    /// All steps but the announcement.
    Staging,
    /// No maintenance, no services; local changes are kept.
    Development,
}

impl Environment {
    /// Returns its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Environment::Production => "production",
            Environment::Staging => "staging",
            Environment::Development => "development",
        }
    }
}

const WHEN: [(&str, When); 3] = [("auto", When::Auto), ("always", When::Always), ("never", When::Never)];
const ENVIRONMENTS: [(&str, Environment); 3] = [
    ("production", Environment::Production),
    ("staging", Environment::Staging),
    ("development", Environment::Development),
];

/// A step that the configuration defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnStep {
    /// Its name.
    pub name: String,
    /// The step that it follows.
    pub after: StepKind,
    /// A manage.py command, or a program.
    pub task: OwnTask,
    /// The files that it makes, relative to the top of the checkout.
    pub outputs: Vec<PathBuf>,
}

/// What an own step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnTask {
    /// Arguments of manage.py.
    Manage(Vec<String>),
    /// A program with its arguments, run in the checkout.
    Run(Vec<String>),
}

/// The whole configuration, ready to use. Field by field it is the file; see the reference in `docs/configuration.md`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the keys of the file, which the reference describes")]
pub struct Config {
    pub path: PathBuf,
    /// The text that was read.
    pub text: String,
    pub directory: PathBuf,
    pub environment: Environment,
    pub keep: usize,
    pub repository: PathBuf,
    pub project: PathBuf,
    pub settings: String,
    pub env: Vec<(String, String)>,
    pub env_file: Option<PathBuf>,
    pub remote: String,
    pub branch: String,
    pub local_changes: LocalChanges,
    pub local_commits: LocalCommits,
    pub verify_signature: bool,
    pub git_deadline: Duration,
    pub virtualenv: PathBuf,
    pub requirements: Vec<PathBuf>,
    pub installer: Installer,
    pub upgrade: UpgradeStrategy,
    pub extra_args: Vec<String>,
    pub install_deadline: Duration,
    pub secrets_file: Option<PathBuf>,
    pub secrets_required: Vec<String>,
    pub secrets_pattern: String,
    pub collect: When,
    pub clear: When,
    pub backup: When,
    pub backup_command: Option<Vec<String>>,
    pub restore_command: Option<Vec<String>>,
    pub database_deadline: Duration,
    pub services: Vec<Service>,
    pub steps: Vec<OwnStep>,
    pub maintenance_on: Option<Vec<String>>,
    pub maintenance_off: Option<Vec<String>>,
    pub status_file: Option<PathBuf>,
    pub page: Option<PathBuf>,
    pub page_template: Option<PathBuf>,
    pub message: String,
    pub notice: Duration,
    pub when_needed: bool,
    pub hold: Duration,
    pub smoke_base: Option<String>,
    pub smoke_connect: Option<String>,
    pub smoke_ca: Option<PathBuf>,
    pub smoke_deadline: Duration,
    pub smoke_settle: Duration,
    pub smoke_timeout: Duration,
    pub pages: Vec<Page>,
    pub smoke_commands: Vec<Vec<String>>,
    pub logs: Vec<(String, PathBuf)>,
    pub after_success: Vec<Vec<String>>,
    pub after_failure: Vec<Vec<String>>,
}

/// The name of the configuration.
pub(super) const NAME: &str = "deploykit.toml";

/// Finds `deploykit.toml` in a directory or above it.
///
/// # Errors
///
/// [`ConfigError::NotFound`].
pub fn find(directory: &Path) -> Result<PathBuf, ConfigError> {
    directory
        .ancestors()
        .map(|directory| directory.join(NAME))
        .find(|file| file.is_file())
        .ok_or_else(|| ConfigError::NotFound { directory: directory.to_owned() })
}

impl Config {
    /// Reads a file, which must belong to the caller or to root; `environment` overrides the one in it.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`]; all mistakes of the file are reported at once.
    pub fn load(path: &Path, environment: Option<&str>) -> Result<Self, ConfigError> {
        if path.exists() {
            owners::trusted(path)?;
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if path.to_str().is_none() {
            return Err(ConfigError::NotUtf8 { path });
        }
        Config::parse(&text, &path, environment)
    }

    /// Reads a configuration from a string; `path` names it in messages, and relative paths start in its directory.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with all mistakes.
    pub fn parse(text: &str, path: &Path, environment: Option<&str>) -> Result<Self, ConfigError> {
        let problems = Rc::new(RefCell::new(Vec::new()));
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let message = error.message().to_owned();
            let span = error.span().unwrap_or(0..0);
            problems.borrow_mut().push(Problem { span, key: String::new(), message });
        }
        // A part that cannot be read would seem to lack keys.
        let unreadable = problems.borrow().iter().any(|problem| problem.message != "duplicate key");
        let known = problems.borrow().len();
        let table = table.into_inner();
        let config = read(table.clone(), path, environment, &problems);
        // Mistakes in the overrides of other environments are reported, too.
        for (name, value) in ENVIRONMENTS {
            if value != config.environment && has_overrides(&table, name) {
                let others = Rc::default();
                read(table.clone(), path, Some(name), &others);
                let mut problems = problems.borrow_mut();
                let new: Vec<_> = others.take().into_iter().filter(|one| !problems.contains(one)).collect();
                problems.extend(new);
            }
        }
        let mut problems = problems.take();
        if unreadable {
            problems.truncate(known);
        }
        if problems.is_empty() {
            return Ok(Config { text: text.to_owned(), ..config });
        }
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        Err(ConfigError::Invalid(Mistakes { path: path.to_owned(), text: text.to_owned(), problems }))
    }
}

/// Tells whether the table overrides keys for this environment.
fn has_overrides(table: &DeTable<'_>, environment: &str) -> bool {
    let all = table.get("environments").and_then(|all| all.get_ref().as_table());
    all.is_some_and(|all| all.contains_key(environment))
}

/// Merges the overrides of the chosen environment into the table.
fn choose(
    table: &mut DeTable<'_>,
    wanted: Option<&str>,
    directory: &Path,
    problems: &Rc<RefCell<Vec<Problem>>>,
) -> Environment {
    let top = Reader::new(table.clone(), directory, Rc::clone(problems));
    let written = top.choice("environment", &ENVIRONMENTS);
    let chosen = match wanted {
        None => written.unwrap_or(Environment::Production),
        Some(wanted) => ENVIRONMENTS.iter().find(|(name, _)| *name == wanted).map_or_else(
            || {
                let message = format!(
                    "there is no environment `{wanted}`: expected `production`, `staging` or `development`"
                );
                top.problem(0..0, "", message);
                Environment::Production
            },
            |(_, value)| *value,
        ),
    };
    let all = top.section("environments");
    for (name, _) in ENVIRONMENTS {
        let _ = all.section(name);
    }
    all.finish();
    if let Some(environments) = table.remove("environments")
        && let DeValue::Table(mut environments) = environments.into_inner()
        && let Some(over) = environments.remove(chosen.as_str())
        && let DeValue::Table(over) = over.into_inner()
    {
        merge(table, over);
    }
    chosen
}

fn read(
    mut table: DeTable<'_>,
    path: &Path,
    wanted: Option<&str>,
    problems: &Rc<RefCell<Vec<Problem>>>,
) -> Config {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let environment = choose(&mut table, wanted, directory, problems);
    let development = environment == Environment::Development;
    let top = Reader::new(table, directory, Rc::clone(problems));
    let _ = top.text("environment");
    let keep = top.number("keep", 1..101).map_or(3, usize::from);

    let site = top.section("site");
    let repository = site.path("repository").unwrap_or_else(|| directory.to_owned());
    let project = site.text("project").map_or_else(|| repository.clone(), |text| normal(&repository, &text));
    if !project.starts_with(&repository) {
        let message = format!("is not inside the repository `{}`", repository.display());
        site.wrong("project", message);
    }
    let settings = site.text("settings").unwrap_or_else(|| {
        if !site.has("settings") {
            site.wrong(
                "settings",
                "is missing: the site's DJANGO_SETTINGS_MODULE, such as \"config.settings\"",
            );
        }
        String::new()
    });
    let (env, env_file) = (site.pairs("env"), site.path("env-file"));
    site.finish();

    let git = top.section("git");
    let remote = git.text("remote").unwrap_or_else(|| "origin".to_owned());
    let branch = git.text("branch").unwrap_or_else(|| "master".to_owned());
    let local_changes = git
        .choice("local-changes", &[("refuse", LocalChanges::Refuse), ("keep", LocalChanges::Keep)])
        .unwrap_or(if development { LocalChanges::Keep } else { LocalChanges::Refuse });
    let local_commits = git
        .choice("local-commits", &[("refuse", LocalCommits::Refuse), ("rebase", LocalCommits::Rebase)])
        .unwrap_or(if development { LocalCommits::Rebase } else { LocalCommits::Refuse });
    let verify_signature = git.flag("verify-signature").unwrap_or(false);
    let git_deadline = git.duration("deadline").unwrap_or(Duration::from_secs(5 * 60));
    git.finish();

    let python = top.section("python");
    let virtualenv = python.path("virtualenv").unwrap_or_else(|| {
        if !python.has("virtualenv") {
            python.wrong("virtualenv", "is missing: the directory of the site's virtualenv");
        }
        PathBuf::new()
    });
    let requirements: Vec<PathBuf> = python
        .texts("requirements")
        .unwrap_or_default()
        .iter()
        .map(|text| normal(&repository, text))
        .collect();
    let installer = python
        .choice("installer", &[("auto", Installer::Auto), ("pip", Installer::Pip), ("uv", Installer::Uv)])
        .unwrap_or(Installer::Auto);
    let strategies = [("only-if-needed", UpgradeStrategy::OnlyIfNeeded), ("eager", UpgradeStrategy::Eager)];
    let upgrade = python.choice("upgrade", &strategies).unwrap_or_default();
    let extra_args = python.texts("extra-args").unwrap_or_default();
    let install_deadline = python.duration("deadline").unwrap_or(Duration::from_secs(30 * 60));
    python.finish();

    let secrets = top.section("secrets");
    let secrets_file = secrets.path("file");
    let secrets_required = secrets.texts("required").unwrap_or_default();
    let secrets_pattern = secrets.text("pattern");
    // The default is valid and is not compiled at every start.
    if let Some(Err(error)) = secrets_pattern.as_deref().map(crate::secrets::compile_pattern) {
        let text = crate::error_chain(&error);
        // The first lines repeat the pattern.
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        secrets.wrong("pattern", reason);
    }
    let secrets_pattern = secrets_pattern.unwrap_or_else(|| crate::secrets::DEFAULT_PATTERN.to_owned());
    secrets.finish();

    let static_files = top.section("static");
    let collect = static_files.choice("collect", &WHEN).unwrap_or(When::Auto);
    let clear = static_files.choice("clear", &WHEN).unwrap_or(When::Auto);
    static_files.finish();

    let database = top.section("database");
    let backup = database.choice("backup", &WHEN).unwrap_or(When::Auto);
    let backup_command = database.texts("backup-command").filter(|argv| !argv.is_empty());
    let restore_command = database.texts("restore-command").filter(|argv| !argv.is_empty());
    if restore_command.is_some() && backup_command.is_none() {
        database.wrong(
            "restore-command",
            "`backup-command` is missing: it makes the copy that `restore-command` restores",
        );
    }
    let database_deadline = database.duration("deadline").unwrap_or(DATABASE_DEADLINE);
    if database_deadline < Duration::from_secs(1) {
        database.wrong("deadline", "expected at least \"1s\"");
    }
    database.finish();

    let services = if development {
        let _ = top.items("services");
        Vec::new()
    } else {
        services(&top)
    };
    let steps = steps(&top, |output| {
        let kept = [Some(&virtualenv), secrets_file.as_ref(), env_file.as_ref()];
        let state = directory.join(".deploykit");
        let mut kept = kept.into_iter().flatten().chain([&state]);
        let output = repository.join(output);
        kept.find(|kept| kept.starts_with(&output) || output.starts_with(kept)).cloned()
    });

    let maintenance = top.section("maintenance");
    let maintenance_on = maintenance.texts("on");
    let maintenance_off = maintenance.texts("off");
    if maintenance_on.is_some() != maintenance_off.is_some() {
        let (there, lacking) = if maintenance_on.is_some() { ("on", "off") } else { ("off", "on") };
        maintenance.wrong(there, format!("`{lacking}` is missing: `off` undoes what `on` did"));
    }
    let status_file = maintenance.path("status-file");
    let page = maintenance.path("page");
    let page_template = maintenance.path("page-template");
    let message = maintenance
        .text("message")
        .unwrap_or_else(|| "The site is being updated and will be back in a few minutes.".to_owned());
    let notice = maintenance.duration("notice").unwrap_or(Duration::from_secs(20 * 60));

    let staging = environment == Environment::Staging;
    let when_needed = maintenance.choice("when", &[("always", false), ("needed", true)]).unwrap_or(staging);
    let hold = maintenance.duration("hold").unwrap_or(Duration::from_secs(10));

    let smoke = top.section("smoke");
    let smoke_base = smoke.text("base");
    if let Some(base) = &smoke_base
        && !(base.starts_with("http://") || base.starts_with("https://"))
    {
        smoke.wrong("base", "expected a URL that starts with `http://` or `https://`");
    }
    let smoke_connect = smoke.text("connect");
    if let Some(connect) = &smoke_connect
        && let Err(error) = connect.parse::<crate::http::Connect>()
    {
        smoke.wrong("connect", error.to_string());
    }
    let smoke_ca = smoke.path("ca");
    let default = SmokeCheck::default();
    let smoke_deadline = smoke.duration("deadline").unwrap_or(default.deadline);
    let smoke_settle = smoke.duration("settle").unwrap_or(default.settle);
    let smoke_timeout = smoke.duration("timeout").unwrap_or(default.timeout);
    let pages = pages(&smoke);
    if smoke_base.is_none() && pages.iter().any(|page| page.path.starts_with('/')) {
        smoke.wrong("pages", "`base` is missing: the address that the paths belong to");
    }
    if page.is_some() && smoke_base.is_some() && smoke_connect.is_none() && !pages.is_empty() {
        let message = "`smoke.connect` is missing: while the page is up, the public address answers 503; give the \
                       address that gunicorn listens on";
        maintenance.wrong("page", message);
    }
    let smoke_commands = smoke.commands("commands");
    smoke.finish();
    maintenance.finish();

    let logs = top.pairs("logs").into_iter().map(|(name, path)| (name, top.resolve(&path))).collect();

    let hooks = top.section("hooks");
    let after_success = hooks.commands("after-success");
    let after_failure = hooks.commands("after-failure");
    hooks.finish();
    top.finish();

    Config {
        path: path.to_owned(),
        text: String::new(),
        directory: directory.to_owned(),
        environment,
        keep,
        repository,
        project,
        settings,
        env,
        env_file,
        remote,
        branch,
        local_changes,
        local_commits,
        verify_signature,
        git_deadline,
        virtualenv,
        requirements,
        installer,
        upgrade,
        extra_args,
        install_deadline,
        secrets_file,
        secrets_required,
        secrets_pattern,
        collect,
        clear,
        backup,
        backup_command,
        restore_command,
        database_deadline,
        services,
        steps,
        maintenance_on,
        maintenance_off,
        status_file,
        page,
        page_template,
        message,
        notice,
        when_needed,
        hold,
        smoke_base,
        smoke_connect,
        smoke_ca,
        smoke_deadline,
        smoke_settle,
        smoke_timeout,
        pages,
        smoke_commands,
        logs,
        after_success,
        after_failure,
    }
}

/// Joins a path to a directory and removes `.` and `..`.
fn normal(directory: &Path, text: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in directory.join(text).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    path
}
