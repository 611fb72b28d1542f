//! What a preparation finds out about the site as it serves: files, secrets, services, pages.

use std::path::Path;

use super::{Failed, Preparation, web_is_known};
use crate::git::{self, StagedTree, counted};
use crate::host::files::{self, Found};
use crate::host::trial;
use crate::names;
use crate::operations::git_update::Move;
use crate::operations::service_control::{Want, can_stop};
use crate::operations::smoke_check::PageResult;
use crate::secrets::Missing;
use crate::services::{Role, ServiceState, Status};
use crate::site::Environment;
use crate::update::error::{PreparationError, paths};
use crate::update::secrets;

impl Preparation<'_, '_> {
    /// Looks for the files that the configuration names: the new version may have moved them.
    pub(super) fn has_files(&self, tree: &StagedTree) -> Result<(), PreparationError> {
        let config = self.site.config();
        let manage = ("site.project", config.site.project.join("manage.py"));
        let key = if config.python.lock.is_some() { "python.lock" } else { "python.requirements" };
        let packages = config.python.wanted().files().into_iter().map(|file| (key, file));
        for (key, file) in std::iter::once(manage).chain(packages) {
            // What lies outside the checkout is not the new version's.
            if let Ok(path) = file.strip_prefix(&config.site.repository)
                && !tree.path.join(path).exists()
            {
                return Err(PreparationError::NotInTarget {
                    commit: self.to.clone(),
                    path: path.to_owned(),
                    key,
                });
            }
        }
        Ok(())
    }

    /// Tries whether a directory or link can be exchanged with its neighbour: the window will do it.
    pub(in crate::update) fn try_to_move(&mut self, path: &Path) -> Result<(), Failed> {
        if files::look(path) == Found::Nothing {
            return Ok(());
        }
        let scratch = names::beside(path, names::NEXT);
        self.mark()?.add(scratch.clone())?;
        files::own_directory(&scratch, None)?;
        files::remove_tree(&scratch)?;
        Ok(trial::can_be_moved(path, &scratch)?)
    }

    /// Checks that git could apply its filters to all files.
    pub(super) fn filters(&mut self, tree: &StagedTree) -> Result<(), Failed> {
        let found = git::unfiltered(&self.host, tree)?;
        if !found.lost.is_empty() {
            return Err(PreparationError::Pointers { files: found.lost }.into());
        }
        if !found.pointers.is_empty() {
            self.notice(format!("pointers of Git LFS instead of contents: {}", paths(&found.pointers)));
        }
        for (path, encoding) in found.encodings {
            let path = path.display();
            self.notice(format!("git does not know the encoding `{encoding}`: `{path}` stays in UTF-8"));
        }
        Ok(())
    }

    pub(in crate::update) fn secrets(&mut self, moved: Option<&Move>) -> Result<((), String), Failed> {
        let changed = moved.iter().flat_map(|moved| moved.changes.iter().flat_map(|change| change.paths()));
        let changed = changed.map(ToOwned::to_owned).collect();
        let (outcome, asked) = secrets::compare(self.site, &self.from, &self.to, &changed)?;
        if !outcome.missing.is_empty() {
            let file = self.site.config().secrets.file.clone().unwrap_or_default();
            return Err(PreparationError::SecretsMissing { file, missing: outcome.missing }.into());
        }
        Ok(((), secrets_found(asked, &outcome.tolerated)))
    }

    pub(in crate::update) fn services(&mut self) -> Result<(Vec<ServiceState>, String), Failed> {
        let control = self.site.service_control(Role::ALL, Want::Restart);
        let states = control.observe(&self.host)?;
        can_stop(&states)?;
        web_is_known(self.site, &states)?;
        let text =
            states.iter().map(|state| format!("{} {}", state.service, state.status)).collect::<Vec<_>>();
        Ok((states, text.join(", ")))
    }

    pub(in crate::update) fn pages(
        &mut self,
        states: &[ServiceState],
    ) -> Result<(Vec<PageResult>, String), Failed> {
        let config = self.site.config();
        let Some(check) = self.site.smoke_check().filter(|check| !check.pages.is_empty()) else {
            return Ok((Vec::new(), "no pages are configured".to_owned()));
        };
        let is_web = |status: Status| {
            let mut services = config.services.iter().zip(states);
            services.any(|(service, state)| service.role == Role::Web && state.status == status)
        };
        let starts = is_web(Status::Starting);
        let results = if starts { check.wait(&self.host)? } else { check.run(&self.host)? };
        let web_rests = is_web(Status::Stopped) || is_web(Status::Failed);
        let refuses = config.environment != Environment::Development && !web_rests && !self.request.broken;
        if refuses {
            can_be_judged(&results, self.rolls_back.is_some())?;
        }
        for page in results.iter().filter(|page| !page.problems.is_empty()) {
            let problem = page.problems.first().map(ToString::to_string).unwrap_or_default();
            let when = if self.rolls_back.is_some() { "now" } else { "before the update already" };
            self.notice(format!("`{}` is not as expected {when}: {problem}", page.path));
        }
        let good = results.iter().filter(|page| page.problems.is_empty()).count();
        let mut text = format!("{good} of {} answer as expected", results.len());
        let silent = results.iter().filter(|page| page.status.is_none()).count();
        if silent > 0 {
            text.push_str(&format!(", {silent} not at all"));
        }
        Ok((results, text))
    }
}

/// Refuses live pages by which no version could be judged. A rollback may find redirects.
pub(crate) fn can_be_judged(results: &[PageResult], is_rollback: bool) -> Result<(), PreparationError> {
    if results.iter().all(|page| !page.problems.is_empty()) {
        return Err(PreparationError::PagesBroken { failing: results.to_vec() });
    }
    let redirect = results.iter().filter(|page| page.redirects_to().is_some());
    let failing: Vec<PageResult> = redirect.cloned().collect();
    if is_rollback || failing.is_empty() { Ok(()) } else { Err(PreparationError::PagesRedirect { failing }) }
}

/// Says how many of the secrets that are asked for were found, and which of them the live code runs without.
pub(crate) fn secrets_found(asked: usize, tolerated: &[Missing]) -> String {
    let found = match asked.saturating_sub(tolerated.len()) {
        0 => "no required secrets".to_owned(),
        found => format!("{} found", counted(found, "required secret")),
    };
    let optional: Vec<String> = tolerated.iter().map(|missing| format!("`{}`", missing.name)).collect();
    match optional.len() {
        0 => found,
        count => format!("{found}; {} missing: {}", counted(count, "optional one"), optional.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_nobody_requires_are_not_found() {
        let missing = |name: &str| Missing { name: name.to_owned(), asked_in: Vec::new() };
        assert_eq!(secrets_found(0, &[]), "no required secrets");
        assert_eq!(secrets_found(1, &[]), "1 required secret found");
        assert_eq!(secrets_found(1, &[missing("A")]), "no required secrets; 1 optional one missing: `A`");
        let two = [missing("A"), missing("B")];
        assert_eq!(secrets_found(4, &two), "2 required secrets found; 2 optional ones missing: `A`, `B`");
    }
}
