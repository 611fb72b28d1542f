//! The databases: whether each answers, and whether an update can copy it.

use super::findings::Findings;
use super::look::{Booted, Look};
use crate::django::{Database, Databases, DjangoError, When};
use crate::git::counted;
use crate::host::Host;
use crate::site::Site;
use crate::update::prepare::databases as prepared;
use crate::update::{PreparationError, backup};

/// What else copies a database.
const OWN_COMMAND: &str =
    "name a program of your own in `database.backup-command`, or set `database.backup = \"never\"`";

pub(super) fn databases(look: &mut Look<'_>, findings: &mut Findings) {
    let (site, host, follows) = (look.site, look.host.clone(), look.follows());
    let is_updated = !look.past.is_empty();
    if look.django().is_none() {
        if look.knows_django() {
            let text = "not known: Django, which has their settings, does not boot";
            findings.problem(text, "fix what is said about `django`, then run `deploykit doctor` again");
        }
        return;
    }
    let mut copies = 0;
    if let Some(django) = look.django() {
        let Ok(project) = site.project() else { return };
        let wanted = project.databases;
        if let Err(error) = prepared::check(&wanted, &django.facts.databases) {
            findings.error(error, "correct `database.migrate`");
        }
        let all = django.facts.databases.clone();
        for database in all.iter().filter(|database| database.vendor != "unknown") {
            let mut one = One { site, host: &host, wanted: &wanted, follows, is_updated, django, database };
            if let Some((text, bytes)) = one.look(findings) {
                copies += bytes;
                findings.good(text);
            }
        }
    }
    look.copies = copies;
}

/// A database that is looked at.
struct One<'l> {
    site: &'l Site,
    host: &'l Host,
    wanted: &'l Databases,
    follows: bool,
    /// Whether deploykit has updated the site.
    is_updated: bool,
    django: &'l mut Booted,
    database: &'l Database,
}

impl One<'_> {
    /// Returns what is good about it, and the size of its copy in bytes; `None`: a finding says what is wrong.
    fn look(&mut self, findings: &mut Findings) -> Option<(String, u64)> {
        let alias = self.database.alias.as_str();
        let is_migrated = self.wanted.migrate.iter().any(|one| one == alias);
        if let Some(file) = self.database.file.as_deref().filter(|file| !file.exists()) {
            // To connect would make it.
            if !is_migrated || !self.is_updated {
                return Some((format!("`{alias}`: there is no `{}` yet", file.display()), 0));
            }
            findings.problem(
                format!("`{alias}`: there is no `{}`, although the site was updated before", file.display()),
                "move the file back, or correct `DATABASES` in the settings",
            );
            return None;
        }
        let pooled = self.answers(alias, is_migrated);
        let way_out = || format!("check that the server of `{alias}` runs, and `DATABASES` in the settings");
        let pooled = pooled.map_err(|error| findings.error(error, way_out())).ok()?;
        if !is_migrated || self.follows {
            return Some((format!("`{alias}` answers"), 0));
        }
        let pending = self.pending(alias);
        let lists = "`deploykit manage -- showmigrations` lists the migrations";
        let pending = pending.map_err(|error| findings.error(error, lists)).ok()?;
        let mut text = format!("`{alias}` answers");
        if pending > 0 {
            text.push_str(&format!(", {} for an update to apply", counted(pending, "pending migration")));
        }
        let config = &self.site.config().database;
        if config.backup_command.is_some() || config.backup == When::Never {
            let how = if config.backup == When::Never { "not copied" } else { "copied by your own command" };
            return Some((format!("{text}; {how}"), 0));
        }
        if pooled {
            findings.error(PreparationError::Pooled { alias: alias.to_owned() }, "set `database.direct`");
            return None;
        }
        let facts = self.django.session.on(alias).backup_facts(self.host);
        let facts = match facts {
            Ok(facts) => facts,
            Err(DjangoError::Unsupported { engine, .. }) => {
                let text =
                    format!("a copy of {engine} is not supported, so an update that needs one is refused");
                findings.problem(format!("`{alias}`: {text}"), OWN_COMMAND);
                return None;
            }
            Err(error) => {
                findings.error(named(alias, error), OWN_COMMAND);
                return None;
            }
        };
        let runs = self.site.state().runs().unwrap_or_default();
        let expected = backup::expect(&facts, alias, &runs);
        Some((format!("{text}; a copy takes {}", expected.describe()), expected.file_bytes))
    }

    /// Tells whether it is reached through a pooler; fails where it cannot be reached.
    fn answers(
        &mut self,
        alias: &str,
        is_migrated: bool,
    ) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        if is_migrated {
            return prepared::is_pooled(self.wanted, alias, &mut self.django.session, self.host);
        }
        let found = self.django.session.on(alias).pooling(self.host, false);
        found.map(|_| false).map_err(|error| named(alias, error).into())
    }

    /// Returns how many migrations of the live version are pending, as far as Django's own command applies them.
    fn pending(&mut self, alias: &str) -> Result<usize, DjangoError> {
        let mut database = self.django.session.on(alias);
        let pending = match self.wanted.command {
            Some(_) => database.state(self.host).map(|_| 0),
            None => database.migrations(self.host).map(|plan| plan.pending.len()),
        };
        pending.map_err(|error| named(alias, error))
    }
}

/// Names the database in an error.
fn named(alias: &str, error: DjangoError) -> DjangoError {
    DjangoError::InDatabase { database: alias.to_owned(), source: Box::new(error) }
}
