//! What errors name: exceptions, parts of a site, migrations.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::django::MigrationId;

/// An exception of the site's own Python, secrets removed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{exception}{}", after_colon(message))]
pub struct Raised {
    /// The exception's type: `django.core.exceptions.ImproperlyConfigured`.
    pub exception: String,
    /// Its text.
    pub message: String,
    /// The last lines of the traceback, without the frames that are deploykit's.
    pub traceback: Vec<String>,
}

/// A part of the site that must load before anything else can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Django itself.
    Django,
    /// `manage.py`, before it hands over to Django.
    ManagePy,
    /// The settings module of this name.
    Settings(String),
    /// The installed apps and their models.
    Apps,
    /// `ROOT_URLCONF` and what it includes.
    Urls,
    /// The system checks: one raised an exception instead of reporting.
    Checks,
    /// The WSGI or ASGI application of this name.
    Application(String),
    /// The static files' finders or storage.
    StaticFiles,
    /// The migration modules.
    Migrations,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Django => f.write_str("Django"),
            Part::ManagePy => f.write_str("`manage.py`"),
            Part::Settings(module) => write!(f, "settings module `{module}`"),
            Part::Apps => f.write_str("the installed apps"),
            Part::Urls => f.write_str("the URL configuration"),
            Part::Checks => f.write_str("the system checks"),
            Part::Application(name) => write!(f, "application `{name}`"),
            Part::StaticFiles => f.write_str("the static files' finders or storage"),
            Part::Migrations => f.write_str("the migrations"),
        }
    }
}

/// An app with more than one last migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The app's label.
    pub app: String,
    /// The migrations that no other one follows.
    pub names: Vec<String>,
}

/// A migration that cannot be reversed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Irreversible {
    /// The migration.
    #[serde(flatten)]
    pub migration: MigrationId,
    /// Fragments: "`RunSQL` without `reverse_sql`".
    pub reasons: Vec<String>,
}

/// Returns the message of an exception, which may be empty, as the rest of a sentence.
fn after_colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
