//! What a booted site says about itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What the settings and the imported code say. Never a user, password, host or key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteFacts {
    /// Django's version: `5.2.19`.
    pub django: String,
    /// Python's version: `3.11.2`.
    pub python: String,
    /// `DJANGO_SETTINGS_MODULE` as it came out in the end.
    pub settings: String,
    /// The file of the settings module.
    #[serde(with = "crate::names::maybe")]
    pub settings_file: Option<PathBuf>,
    /// The directory of `manage.py`.
    #[serde(with = "crate::names::one")]
    pub base: PathBuf,
    /// `TIME_ZONE`.
    pub time_zone: Option<String>,
    /// `DEBUG`.
    pub debug: bool,
    /// `ALLOWED_HOSTS`.
    pub allowed_hosts: Vec<String>,
    /// `WSGI_APPLICATION`.
    pub wsgi_application: Option<String>,
    /// The installed apps by their full names.
    pub apps: Vec<String>,
    /// Static files.
    pub static_files: StaticFacts,
    /// `MEDIA_ROOT`, and where the other storages of the settings keep files.
    #[serde(default)]
    pub uploads: Vec<PathBuf>,
    /// The databases, sorted by alias.
    pub databases: Vec<Database>,
    /// The file that the project's maintenance commands write, where a setting names one: `MAINTENANCE_STATUS_FILE_PATH`.
    #[serde(with = "crate::names::maybe")]
    pub maintenance_status_file: Option<PathBuf>,
    /// The names of the management commands.
    pub commands: Vec<String>,
    /// Imported modules that no installed package brought, and the files that they came from.
    #[serde(with = "crate::names::by_name")]
    pub modules: BTreeMap<String, PathBuf>,
}

/// Settings of the static files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticFacts {
    /// `django.contrib.staticfiles` is installed.
    pub installed: bool,
    /// `STATIC_ROOT`.
    #[serde(with = "crate::names::maybe")]
    pub root: Option<PathBuf>,
    /// `STATIC_URL`.
    pub url: Option<String>,
    /// The storage's class.
    pub storage: Option<String>,
    /// The storage writes to a directory of this machine.
    pub local: bool,
    /// The storage names files by their contents.
    pub manifest: bool,
}

/// One of `DATABASES`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its alias.
    pub alias: String,
    /// Its engine: `django.db.backends.postgresql`.
    pub engine: String,
    /// `sqlite`, `postgresql`, `mysql`, `oracle`, ….
    pub vendor: String,
    /// The file, for SQLite.
    #[serde(with = "crate::names::maybe")]
    pub file: Option<PathBuf>,
    /// Other aliases that the settings give the same database, and the one that it mirrors.
    #[serde(default)]
    pub twins: Vec<String>,
}

impl SiteFacts {
    /// Returns the modules that came from the live checkout although the site was booted from the staged tree.
    ///
    /// A link within the staged tree that leads to a live file counts as the staged tree. The staged tree and the virtualenv may
    /// stand inside the live checkout.
    #[must_use]
    pub fn foreign_modules(&self, live: &Path, next: &Path) -> Vec<(&str, &Path)> {
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (real_live, real_next) = (real(live), real(next));
        let within = |path: &Path, one: &Path, other: &Path| path.starts_with(one) || path.starts_with(other);
        self.modules
            .iter()
            .filter(|(_, path)| within(path, live, &real_live) && !within(path, next, &real_next))
            .map(|(name, path)| (name.as_str(), path.as_path()))
            .collect()
    }
}

/// How serious a message of the system checks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// `DEBUG` or `INFO`.
    Info,
    /// `WARNING`.
    Warning,
    /// `ERROR` or `CRITICAL`: Django's commands refuse to run.
    Error,
}

/// A message of the system checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckMessage {
    /// How serious it is.
    pub level: Level,
    /// Its id: `models.W042`.
    pub id: Option<String>,
    /// Its text.
    pub message: String,
    /// What Django advises.
    pub hint: Option<String>,
    /// What it is about.
    pub object: Option<String>,
}

impl std::fmt::Display for CheckMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(id) = &self.id {
            write!(f, "({id}) ")?;
        }
        f.write_str(&self.message)
    }
}

/// What `manage.py check` says, after the URL configuration and the application were loaded too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// All messages that are not silenced.
    pub messages: Vec<CheckMessage>,
    /// The application that was loaded, as `module:name`.
    pub application: Option<String>,
    /// The settings module that the application switched to, if it is another one than was checked.
    pub other_settings: Option<String>,
}

impl CheckReport {
    /// Returns the messages that make Django's commands refuse.
    pub fn errors(&self) -> impl Iterator<Item = &CheckMessage> {
        self.messages.iter().filter(|message| message.level == Level::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(modules: &[(&str, &str)]) -> SiteFacts {
        SiteFacts {
            django: String::new(),
            python: String::new(),
            settings: String::new(),
            settings_file: None,
            base: PathBuf::new(),
            time_zone: None,
            debug: false,
            allowed_hosts: Vec::new(),
            wsgi_application: None,
            apps: Vec::new(),
            static_files: StaticFacts {
                installed: false,
                root: None,
                url: None,
                storage: None,
                local: false,
                manifest: false,
            },
            uploads: Vec::new(),
            databases: Vec::new(),
            maintenance_status_file: None,
            commands: Vec::new(),
            modules: modules.iter().map(|(name, path)| ((*name).to_owned(), PathBuf::from(path))).collect(),
        }
    }

    #[test]
    fn a_module_of_the_live_checkout_is_foreign_and_one_of_a_staged_tree_inside_it_is_not() {
        let facts =
            facts(&[("a", "/site/app/a.py"), ("b", "/site/.deploykit/next/app/b.py"), ("c", "/opt/c.py")]);
        let foreign = facts.foreign_modules(Path::new("/site"), Path::new("/site/.deploykit/next"));
        assert_eq!(foreign, [("a", Path::new("/site/app/a.py"))]);
    }
}
