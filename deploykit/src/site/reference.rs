//! The reference of all keys.

use thiserror::Error;

use super::pages::PageKeys;
use super::sections::{
    DatabaseSection, GitSection, HooksSection, MaintenanceSection, PythonSection, RehearsalSection,
    SecretsSection, SiteSection, SmokeSection, StaticSection, TopSection,
};
use super::services;
use super::steps::StepKeys;
use crate::keys::{Key, Raw, Section, Table, keys, nearest};

keys! {
    /// Log files. Each key is a name of your choice, and its value a path.
    struct LogsSection in "[logs]" then "django = \"../log/django.log\"\nnginx = \"/var/log/nginx/error.log\"" {
        /// `deploykit logs NAME` shows the last lines of the file, and a failed update shows the lines written since it
        /// began.
        "NAME" => name: Option<std::path::PathBuf>, example Raw("");
    }
}

/// There is no key or section of this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no key or section `{name}`")]
#[non_exhaustive]
pub struct UnknownKey {
    /// The name.
    pub name: String,
    /// The most similar name, if one is similar.
    pub near: Option<String>,
}

/// Describes all keys of `deploykit.toml`, section by section, in the order of the file.
#[must_use]
pub fn reference() -> Vec<Section> {
    let first = [
        TopSection::section(),
        SiteSection::section(),
        GitSection::section(),
        PythonSection::section(),
        SecretsSection::section(),
        StaticSection::section(),
        DatabaseSection::section(),
        RehearsalSection::section(),
    ];
    let last = [
        StepKeys::section(),
        MaintenanceSection::section(),
        SmokeSection::section(),
        PageKeys::section(),
        LogsSection::section(),
        HooksSection::section(),
    ];
    first.into_iter().chain(services::sections()).chain(last).collect()
}

/// Describes a section such as `git`, or a key such as `git.branch` or `branch`, in all sections that have it.
///
/// # Errors
///
/// [`UnknownKey`].
pub fn describe(name: &str) -> Result<Vec<Section>, UnknownKey> {
    let wanted = name.trim_matches(['[', ']']);
    let sections = reference();
    let is_section = |section: &Section| {
        let name = &section.name;
        name == wanted || name.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
    };
    if !wanted.is_empty() && sections.iter().any(is_section) {
        return Ok(sections.into_iter().filter(is_section).collect());
    }
    let is_key = |key: &Key| key.name == wanted || key.name.rsplit('.').next() == Some(wanted);
    let found: Vec<Section> = sections.iter().filter_map(|section| section.clone().only(is_key)).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let keys = sections.iter().flat_map(|section| &section.keys);
    let names: Vec<&str> = sections
        .iter()
        .map(|section| section.name.as_str())
        .chain(keys.clone().map(|key| key.name.as_str()))
        .chain(keys.filter_map(|key| key.name.rsplit('.').next()))
        .filter(|name| !name.is_empty())
        .collect();
    let near = nearest(wanted, &names).map(str::to_owned);
    Err(UnknownKey { name: name.to_owned(), near })
}
