//! `deploykit.toml` as a value: its sections, with defaults filled in and paths made absolute.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::checks;
use super::problem::{ConfigError, Mistakes};
use super::sections::{
    DatabaseSection, GitSection, HooksSection, MaintenanceSection, PythonSection, RehearsalSection,
    SecretsSection, SiteSection, SmokeSection, StaticSection, TopSection,
};
use super::services::services;
use super::steps::{OwnStep, steps};
use crate::host::owners;
use crate::keys::{Environment, Problem, Problems, Reader, Table, Value, merge, place};
use crate::services::Service;

/// The whole configuration, ready to use; its fields are the sections of the file.
///
/// # Examples
///
/// Values can be changed before a site is made of them:
///
/// ```
/// use deploykit::Site;
/// use deploykit::site::Config;
///
/// let text = "[site]\nsettings = \"config.settings\"\n[python]\nvirtualenv = \"../venv\"\n";
/// let mut config = Config::parse(text, "/srv/site/deploykit.toml".as_ref(), None)?;
/// assert_eq!(config.git.branch, "master");
/// config.git.branch = "release".to_owned();
/// let site = Site::new(config)?;
/// assert_eq!(site.git_update(None).branch, "release");
/// # Ok::<(), deploykit::site::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// The text that was read.
    pub text: String,
    /// The directory of the file.
    pub directory: PathBuf,
    /// The environment.
    pub environment: Environment,
    /// How many past updates can be rolled back.
    pub keep: usize,
    /// `[site]`.
    pub site: SiteSection,
    /// `[git]`.
    pub git: GitSection,
    /// `[python]`.
    pub python: PythonSection,
    /// `[secrets]`.
    pub secrets: SecretsSection,
    /// `[static]`.
    pub static_files: StaticSection,
    /// `[database]`.
    pub database: DatabaseSection,
    /// `[rehearsal]`.
    pub rehearsal: RehearsalSection,
    /// `[[services]]`; none in development.
    pub services: Vec<Service>,
    /// `[[steps]]`.
    pub steps: Vec<OwnStep>,
    /// `[maintenance]`.
    pub maintenance: MaintenanceSection,
    /// `[smoke]`.
    pub smoke: SmokeSection,
    /// `[logs]`: names and files.
    pub logs: Vec<(String, PathBuf)>,
    /// `[hooks]`.
    pub hooks: HooksSection,
    /// The required keys that are missing.
    missing: Vec<Problem>,
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
        let config = Config::load_partial(path, environment)?;
        config.require_all()?;
        Ok(config)
    }

    /// Like [`load`](Config::load), and accepts a file that lacks required keys.
    pub(super) fn load_partial(path: &Path, environment: Option<&str>) -> Result<Self, ConfigError> {
        if path.exists() {
            owners::trusted(path)?;
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if path.to_str().is_none() {
            return Err(ConfigError::NotUtf8 { path });
        }
        Config::parse_partial(&text, &path, environment)
    }

    /// Reads a configuration from a string; `path` names it in messages, and relative paths start in its directory.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with all mistakes.
    pub fn parse(text: &str, path: &Path, environment: Option<&str>) -> Result<Self, ConfigError> {
        let config = Config::parse_partial(text, path, environment)?;
        config.require_all()?;
        Ok(config)
    }

    pub(super) fn parse_partial(
        text: &str,
        path: &Path,
        environment: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let problems = Problems::default();
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
        let mut config = read(table.clone(), path, environment, &problems);
        // Mistakes in the overrides of other environments are reported, too.
        for environment in Environment::ALL {
            let name = environment.as_str();
            if environment != config.environment && has_overrides(&table, name) {
                let others = Problems::default();
                let other = read(table.clone(), path, Some(name), &others);
                add(&mut problems.borrow_mut(), others.take());
                add(&mut config.missing, other.missing);
            }
        }
        let mut problems = problems.take();
        if unreadable {
            problems.truncate(known);
        }
        if problems.is_empty() {
            return Ok(Config { text: text.to_owned(), ..config });
        }
        if !unreadable {
            problems.extend(config.missing);
        }
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        Err(ConfigError::Invalid(Mistakes { path: path.to_owned(), text: text.to_owned(), problems }))
    }

    /// Returns the error that says which of these required keys are missing.
    pub(super) fn lacks(&self, keys: &[&str]) -> ConfigError {
        let problems = self.missing.iter().filter(|problem| keys.contains(&problem.key.as_str()));
        self.invalid(problems.cloned().collect())
    }

    /// Fails when a required key is missing.
    pub(super) fn require_all(&self) -> Result<(), ConfigError> {
        if self.missing.is_empty() { Ok(()) } else { Err(self.invalid(self.missing.clone())) }
    }

    fn invalid(&self, problems: Vec<Problem>) -> ConfigError {
        ConfigError::Invalid(Mistakes { path: self.path.clone(), text: self.text.clone(), problems })
    }
}

/// Adds the problems that are not there yet.
fn add(problems: &mut Vec<Problem>, others: Vec<Problem>) {
    for other in others {
        if !problems.contains(&other) {
            problems.push(other);
        }
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
    problems: &Problems,
) -> Environment {
    let top = Reader::new(table.clone(), directory, Environment::default(), problems, &Problems::default());
    let chosen = match wanted {
        None => Environment::read(&top, "environment").unwrap_or_default(),
        Some(wanted) => {
            let found = Environment::ALL.into_iter().find(|environment| environment.as_str() == wanted);
            found.unwrap_or_else(|| {
                let message = format!(
                    "there is no environment `{wanted}`: expected `production`, `staging` or `development`"
                );
                top.problem(0..0, "", message);
                Environment::default()
            })
        }
    };
    let all = top.section("environments");
    for environment in Environment::ALL {
        let _ = all.section(environment.as_str());
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

fn read(mut table: DeTable<'_>, path: &Path, wanted: Option<&str>, problems: &Problems) -> Config {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let environment = choose(&mut table, wanted, directory, problems);
    let places = table.clone();
    let missing = Problems::default();
    let top = Reader::new(table, directory, environment, problems, &missing);
    let TopSection { keep, .. } = TopSection::read(&top);
    let mut config = Config {
        path: path.to_owned(),
        text: String::new(),
        directory: directory.to_owned(),
        environment,
        keep,
        site: section(&top, "site"),
        git: section(&top, "git"),
        python: section(&top, "python"),
        secrets: section(&top, "secrets"),
        static_files: section(&top, "static"),
        database: section(&top, "database"),
        rehearsal: section(&top, "rehearsal"),
        services: services(&top),
        steps: Vec::new(),
        maintenance: section(&top, "maintenance"),
        smoke: section(&top, "smoke"),
        logs: logs(&top),
        hooks: section(&top, "hooks"),
        missing: missing.take(),
    };
    config.steps = steps(&top, |output| config.kept_at(output));
    top.finish();
    checks::sections(&config, &mut |key, message| {
        let span = place(&places, key);
        problems.borrow_mut().push(Problem { span, key: key.to_owned(), message });
    });
    config
}

fn logs(top: &Reader<'_>) -> Vec<(String, PathBuf)> {
    let logs = top.pairs("logs").unwrap_or_default();
    logs.into_iter().map(|(name, path)| (name, top.resolve(&path))).collect()
}

fn section<T: Table>(top: &Reader<'_>, name: &'static str) -> T {
    let reader = top.section(name);
    let section = T::read(&reader);
    reader.finish();
    section
}
