//! Whether anything can be due at all: the cheap comparison with what the last good update left.

use std::path::Path;

use super::Preparation;
use crate::django::When;
use crate::git::counted;
use crate::host::Host;
use crate::site::{Environment, Site};
use crate::state::{Current, Seen, Started, State, Unread};
use crate::update::answers::Facts;

/// What the last good update left, and the first thing, the commit aside, that is not like that any more.
pub(super) struct Look {
    pub(super) current: Current,
    changed: Option<String>,
}

impl Look {
    /// Compares the site with what the last good update left.
    pub(super) fn at(site: &Site, state: &State, host: &Host) -> Self {
        let current = state.current();
        let changed = changed(site, host, &current);
        Look { current, changed }
    }
}

/// Returns the first thing, the commit aside, that is not as the last good update left it.
fn changed(site: &Site, host: &Host, current: &Current) -> Option<String> {
    if current.settings != site.fingerprint() {
        return Some("the configuration, the variables or the secrets have changed".to_owned());
    }
    let Some(seen) = &current.seen else { return Some("an earlier version updated last".to_owned()) };
    let packages_stay =
        || site.pip_install_after(current.packages.clone()).is_ok_and(|install| install.is_as_recorded(host));
    if !site.config().python.wanted().is_empty() && !packages_stay() {
        return Some("the packages have changed".to_owned());
    }
    seen.changed()
}

impl Preparation<'_, '_> {
    /// Tells whether the last good update left just this commit with just these packages, settings and files: then nothing
    /// can be due that a cheap look would tell.
    pub(super) fn is_settled(&self, look: &Look) -> bool {
        let other = (look.current.commit != self.to).then(|| "no update left this commit".to_owned());
        let changed = other.as_ref().or(look.changed.as_ref());
        if let Some(changed) = changed {
            log::info!("looks closer: {changed}");
        }
        changed.is_none()
    }

    /// Tells whether the live outputs of the site's own steps were made of just this commit, configuration and these files, as
    /// far as the last good update saw them. The packages are compared on the way.
    pub(super) fn is_built_of_the_same(&self) -> bool {
        let current = &self.last;
        let is_edited = || current.seen.as_ref().is_none_or(|seen| seen.edited().is_some());
        current.commit == self.to && current.settings == self.site.fingerprint() && !is_edited()
    }

    /// Returns what files the services have read, with those that were first seen now.
    pub(super) fn started(&self, seen: Option<&Seen>) -> Started {
        let mut started = self.state.started();
        if let Some(seen) = seen {
            let config = self.site.config();
            started.add(
                seen,
                self.started,
                [&config.secrets.file, &config.site.env_file].into_iter().flatten(),
            );
        }
        started
    }

    /// Returns the files that services read when they start, and that have changed since.
    pub(super) fn unread(&self) -> Vec<Unread> {
        let config = self.site.config();
        // In development the services are no update's matter.
        let has_services = config.environment != Environment::Development && !config.services.is_empty();
        if has_services { self.state.started().unread() } else { Vec::new() }
    }

    /// Says what was compared.
    pub(super) fn what_was_compared(&self, look: &Look) -> String {
        let config = self.site.config();
        let files = look.current.seen.as_ref().map_or(0, |seen| seen.files.len());
        let mut compared = vec!["commit".to_owned(), "configuration".to_owned(), "variables".to_owned()];
        if !config.python.wanted().is_empty() {
            compared.push("packages".to_owned());
        }
        if config.secrets.file.is_some() {
            compared.push("secrets file".to_owned());
        }
        if files > 0 {
            compared.push(counted(files, "untracked file"));
        }
        let last = compared.pop().unwrap_or_default();
        let commit = crate::git::short(&self.to);
        format!(
            "Nothing to do: {commit} serves; {} and {last} are as deploykit last saw them.",
            compared.join(", ")
        )
    }

    /// Completes what the staged tree showed with what Django says of the site.
    pub(super) fn seen(&mut self, facts: &Facts) -> Option<Seen> {
        let mut seen = self.seen.take()?;
        let (config, site) = (self.site.config(), &facts.site);
        let collects = config.static_files.collect != When::Never && site.static_files.local;
        let collected = facts.collected.as_ref().is_ok_and(|collected| !collected.record.names.is_empty());
        let live = |path: &Path| {
            let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            path.strip_prefix(self.site.staged_tree())
                .map(|inside| config.site.repository.join(inside))
                .unwrap_or(path)
        };
        for file in site.databases.iter().filter_map(|database| database.file.as_deref()) {
            seen.add_database(live(file));
        }
        if let Some(root) = site.static_files.root.as_deref().filter(|_| collects && collected) {
            seen.set_static_root(&live(root));
        }
        Some(seen)
    }
}
