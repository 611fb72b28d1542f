//! Checks of values and between keys, for configurations that are read and for those that are made in code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::pages::wrong_path;
use super::{Config, ConfigError, DatabaseSection, HostRole, Mistakes, services, steps};
use crate::keys::Problem;
use crate::python::Lock;
use crate::secrets::{DEFAULT_PATTERN, compile_pattern};

/// Takes the key, from the top of the file, and what is wrong.
type Report<'r> = dyn FnMut(&str, String) + 'r;

/// Checks what the reader sees to: required keys have values, and paths are absolute.
fn required(config: &Config, report: &mut Report<'_>) {
    match &config.site.settings {
        None => report("site.settings", "is missing".to_owned()),
        Some(settings) if settings.is_empty() => report("site.settings", "is empty".to_owned()),
        Some(_) => {}
    }
    let paths = [
        ("site.repository", Some(&config.site.repository)),
        ("python.virtualenv", config.python.virtualenv.as_ref()),
    ];
    for (key, path) in paths {
        let Some(path) = path else {
            report(key, "is missing".to_owned());
            continue;
        };
        if path.as_os_str().is_empty() {
            report(key, "is empty".to_owned());
        } else if path.is_relative() {
            report(key, format!("`{}` is not an absolute path", path.display()));
        }
    }
}

/// Checks the values of the sections.
pub(super) fn sections(config: &Config, report: &mut Report<'_>) {
    let Config { site, python, secrets, database, maintenance, smoke, .. } = config;
    if !site.project.starts_with(&site.repository) {
        let message = format!("is not inside the repository `{}`", site.repository.display());
        report("site.project", message);
    }
    // The default is valid and is not compiled at every start.
    if secrets.pattern != DEFAULT_PATTERN
        && let Err(error) = compile_pattern(&secrets.pattern)
    {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        report("secrets.pattern", reason);
    }
    if database.restore_command.is_some() && database.backup_command.is_none() {
        let message = "`backup-command` is missing: it makes the copy that `restore-command` restores";
        report("database.restore-command", message.to_owned());
    }
    if site.role == HostRole::Follower && database.migrate_command.is_some() {
        let message = "`site.role` is `follower`: what the command does is not known beforehand, so nothing tells when the leader has done it";
        report("database.migrate-command", message.to_owned());
    }
    if site.pause_limit.as_secs() < 1 {
        report("site.pause-limit", "expected at least \"1s\"".to_owned());
    }
    databases(&config.database, report);
    if database.deadline.as_secs() < 1 {
        report("database.deadline", "expected at least \"1s\"".to_owned());
    }
    if python.python.as_deref().is_some_and(|python| !is_python(python)) {
        report("python.python", "expected a version such as \"3.12\", or an absolute path".to_owned());
    }
    if python.in_place && python.python.is_some() {
        let message = "`in-place` is set too: the virtualenv then keeps its Python";
        report("python.python", message.to_owned());
    }
    if let Some(file) = &python.lock {
        if !python.requirements.is_empty() {
            report("python.lock", "`requirements` is set too: packages come from one of them".to_owned());
            report("python.requirements", "`lock` is set too: packages come from one of them".to_owned());
        }
        if let Err(error) = Lock::new(file).check_name() {
            report("python.lock", error.to_string());
        }
    }
    let of_lock = [
        ("groups", !python.groups.is_empty()),
        ("extras", !python.extras.is_empty()),
        ("project", python.project.is_some()),
        ("install-project", python.install_project.is_some()),
    ];
    for (key, is_set) in of_lock {
        if is_set && python.lock.is_none() {
            report(&format!("python.{key}"), "cannot be used without `lock`".to_owned());
        }
    }
    let pair = [("on", &maintenance.on), ("off", &maintenance.off)];
    for ((there, command), (lacking, other)) in [(pair[0], pair[1]), (pair[1], pair[0])] {
        if command.is_some() && other.is_none() {
            let message = format!("`{lacking}` is missing: `off` undoes what `on` did");
            report(&format!("maintenance.{there}"), message);
        }
    }
    if let Some(base) = &smoke.base
        && !(base.starts_with("http://") || base.starts_with("https://"))
    {
        let message = "expected a URL that starts with `http://` or `https://`";
        report("smoke.base", message.to_owned());
    }
    if smoke.base.is_none() && smoke.pages.iter().any(|page| page.path.starts_with('/')) {
        report("smoke.pages", "`base` is missing: the address that the paths belong to".to_owned());
    }
    if maintenance.start_early && maintenance.page.is_none() {
        let message = "`page` is missing: visitors must not reach the web before the migrations are done";
        report("maintenance.start-early", message.to_owned());
    }
    if maintenance.page.is_some()
        && smoke.base.is_some()
        && smoke.connect.is_none()
        && !smoke.pages.is_empty()
    {
        let message = "`smoke.connect` is missing: while the page is up, the public address answers 503; give the \
                       address that the application server listens on";
        report("maintenance.page", message.to_owned());
    }
}

/// Checks the aliases of databases.
fn databases(database: &DatabaseSection, report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    if database.migrate.is_empty() {
        report("database.migrate", "names no database; without this key, `default` is migrated".to_owned());
    }
    for alias in &database.migrate {
        // It is part of a file name.
        if alias.is_empty() || alias.contains(['/', '\0']) || alias.starts_with('.') {
            report(
                "database.migrate",
                format!(
                    "`{alias}` cannot be used in a file name: it is empty, starts with `.` or contains `/`"
                ),
            );
        }
        if !seen.insert(alias) {
            report("database.migrate", format!("`{alias}` is named twice"));
        }
    }
    for (alias, direct) in &database.direct {
        if !seen.contains(alias) {
            report("database.direct", format!("`{alias}` is not in `migrate`"));
        }
        if seen.contains(direct) {
            report("database.direct", format!("`{direct}` is in `migrate`: it would be migrated twice"));
        }
    }
}

/// Tells whether a Python is named: `3.12`, `3.12.1`, `/usr/bin/python3.12`.
fn is_python(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    text.starts_with('/') || ((2..=3).contains(&text.split('.').count()) && text.split('.').all(is_number))
}

/// Checks each service, step and page. The reader does this while it reads them, and knows the places of mistakes.
fn items(config: &Config, report: &mut Report<'_>) {
    let mut names = BTreeSet::new();
    for (index, service) in config.services.iter().enumerate() {
        if let Some(wrong) = services::wrong_name(&service.name, &mut names) {
            report(&format!("services[{index}].name"), wrong);
        }
        if service.sudo
            && let Some(wrong) = services::wrong_sudo(service.manager.kind(), Some(&service.manager))
        {
            report(&format!("services[{index}].sudo"), wrong);
        }
    }
    for (index, step) in config.steps.iter().enumerate() {
        if let Some(wrong) = steps::wrong_name(&step.name, &config.steps[..index]) {
            report(&format!("steps[{index}].name"), wrong);
        }
        let outputs = step.outputs.iter().map(|path| (path, "outputs"));
        for (path, key) in outputs.chain(step.cache.iter().map(|path| (path, "cache"))) {
            let (shown, kept) = (path.display().to_string(), |path: &Path| config.kept_at(path));
            if let Some(wrong) = steps::wrong_path(&shown, path, Some(&step.after), key, kept) {
                report(&format!("steps[{index}].{key}"), wrong);
            }
        }
    }
    for wrong in steps::nested_outputs(&config.steps) {
        report("steps", wrong);
    }
    for (index, page) in config.smoke.pages.iter().enumerate() {
        if let Some(wrong) = wrong_path(page) {
            report(&format!("smoke.pages[{index}].path"), wrong);
        }
    }
}

impl Config {
    /// Checks all values, as the reader does.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut report = |key: &str, message| {
            problems.push(Problem { span: 0..0, key: key.to_owned(), message });
        };
        required(self, &mut report);
        sections(self, &mut report);
        items(self, &mut report);
        if problems.is_empty() {
            return Ok(());
        }
        let (path, text) = (self.path.clone(), self.text.clone());
        Err(ConfigError::Invalid(Mistakes { path, text, problems }))
    }

    /// Returns the path that an output of a step would replace, if deploykit must keep it.
    pub(super) fn kept_at(&self, output: &Path) -> Option<PathBuf> {
        let files =
            [self.python.virtualenv.as_ref(), self.secrets.file.as_ref(), self.site.env_file.as_ref()];
        let state = self.directory.join(".deploykit");
        let output = self.site.repository.join(output);
        let mut kept = files.into_iter().flatten().chain([&state]).filter(|kept| kept.is_absolute());
        kept.find(|kept| kept.starts_with(&output) || output.starts_with(kept)).cloned()
    }
}
