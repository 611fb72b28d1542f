//! The change of each operation in a rollback: what the finished update did, reversed.

use std::path::Path;
use std::time::Duration;

use super::Facts;
use super::databases::Database;
use crate::action::Action;
use crate::django::reasons::{grouped, reasons};
use crate::django::{Migrate, Project, PutBack, RestoreDatabase, ReversedMigration};
use crate::git::{CarryWritten, Exclude, counted};
use crate::operations::django_manage::{Prepared, Reversal, StaticSet};
use crate::operations::{Change, Check, of_databases};
use crate::update::backup::Backup;
use crate::update::error::paths;
use crate::update::recipe::Answers;
use crate::update::services::Services;
use crate::update::written::{CODE, MIGRATE, STATIC};

/// Returns why its migrations alone could not restore the new version completely.
pub(super) fn backup_reasons(reversed: &[ReversedMigration]) -> Vec<String> {
    let all = reversed.iter().flat_map(|one| {
        let mut all = reasons(&one.id, &one.unknown);
        if !one.drops.is_empty() {
            let text = format!("applied again, it would not restore {}", one.drops.join(" and "));
            all.push((one.id.clone(), text));
        }
        if !one.transactional {
            all.push((one.id.clone(), "its reversal may stay half done".to_owned()));
        }
        all
    });
    grouped(&all.collect::<Vec<_>>())
}

impl Database {
    pub(super) fn alias(&self) -> &str {
        &self.done.left.database
    }

    fn backup_reasons(&self, run: &str) -> Vec<String> {
        match &self.copy {
            Some(_) => vec![format!("the copy of run {run} replaces the database")],
            None => backup_reasons(&self.reversed),
        }
    }

    /// Returns the copy from which deploykit itself can restore the new version's database.
    fn way_forward(&self) -> Option<&Backup> {
        self.backup.as_ref().filter(|backup| backup.put_back != PutBack::ByHand)
    }

    /// Returns how the database is restored; `None` where the update left it as it was.
    pub(super) fn reversal(&self, run: &str, project: &Project) -> Option<Reversal> {
        let left = self.done.left.clone();
        if let (Some(copy), Some(backup)) = (&self.copy, self.way_forward()) {
            return Some(copy.reversal(run, backup));
        }
        // Without migrations to reverse there may be records of squashed ones.
        let migrate = self.done.migrate.as_ref().filter(|migrate| migrate.before.applied != left.applied)?;
        let undo = match self.way_forward() {
            Some(backup) => Action::RestoreDatabase(backup.restore(left, false)),
            None => Action::Migrate(Migrate { project: project.clone(), ..migrate.clone() }),
        };
        let reason = match self.reversed.len() {
            0 => "the records of squashed migrations".to_owned(),
            count => format!("{} to reverse", counted(count, "migration")),
        };
        let restore = RestoreDatabase::new(project.clone(), migrate.before.clone(), None);
        Some(Reversal { reason, reversed: self.reversed.clone(), restore, undo })
    }

    /// Returns what is lost of the data written since the update.
    fn losses(&self) -> Vec<String> {
        if let Some(copy) = &self.copy {
            return copy.losses.clone();
        }
        let mut notices: Vec<String> = self
            .reversed
            .iter()
            .filter(|one| !one.drops.is_empty())
            .map(|one| format!("`{}` is reversed: {} are lost", one.id, one.drops.join(" and ")))
            .collect();
        let unknown = self.reversed.iter().flat_map(|one| reasons(&one.id, &one.unknown));
        let unknown = grouped(&unknown.collect::<Vec<_>>());
        if !notices.is_empty() && self.way_forward().is_none() {
            notices.push(
                "they are lost even if the rollback fails: no copy of the database is restored then"
                    .to_owned(),
            );
        }
        notices.extend(unknown.into_iter().map(|text| format!("reversed by the site's own code: {text}")));
        notices
    }
}

impl Facts {
    /// Returns how long it takes to restore the copies of the update, which were about as large as the databases are now.
    pub(super) fn put_back(&self) -> Duration {
        self.backups()
            .filter(|(database, _)| database.copy.is_some())
            .map(|(_, backup)| backup.duration())
            .sum()
    }

    /// Returns the copies that are made, each with its database.
    pub(super) fn backups(&self) -> impl Iterator<Item = (&Database, &Backup)> {
        self.databases.iter().filter_map(|database| Some((database, database.backup.as_ref()?)))
    }

    /// Returns the change of each operation.
    pub(super) fn answers(&self, services: &Services) -> Answers {
        let code = match &self.target {
            Some(target) => target.change(),
            None => Check::unchanged("the update brought no commits"),
        };
        let virtualenv = self.packages.change_in_window(services.web_stops());
        let static_files = match &self.done.static_files {
            None => Check::unchanged("the update changed no static files"),
            Some(way) => {
                let (actions, undo) = (way.back.clone(), way.there.clone());
                let reason = "the files from before the update".to_owned();
                let set = StaticSet { reason, actions, undo, ..StaticSet::default() };
                Prepared::Static(Box::new(set)).change()
            }
        };
        // After the last of the hidden paths is restored, nothing is left to hide.
        let (virtualenv, static_files) = match &self.done.environment {
            Some(_) => (self.shown(virtualenv), static_files),
            None if self.done.static_files.is_some() => (virtualenv, self.shown(static_files)),
            None => (virtualenv, static_files),
        };
        // Backwards, as the undo of the update would.
        let reversals = self.databases.iter().rev();
        let reversals = reversals.filter_map(|one| one.reversal(&self.done.run, &self.project));
        let migrate = match Prepared::Reversal(reversals.collect()).change() {
            change @ Check::Change(_) => self.carried(MIGRATE).fold(change, |check, carry| {
                check.then(Action::TakeOutWritten(carry.clone()), Action::CarryWritten(carry))
            }),
            unchanged => self.left_by_command().map_or(unchanged, Check::unchanged),
        };
        Answers {
            backup: self.backup(),
            code: self.without_carried(code, CODE),
            outputs: self.outputs(),
            virtualenv,
            static_files: self.without_carried(static_files, STATIC),
            migrate,
            smoke_check: self.smoke_check(services.smoke_check(self.bridges.new.is_some())),
        }
    }

    fn backup(&self) -> Check {
        let changes = self.backups().map(|(database, backup)| {
            let reasons = database.backup_reasons(&self.done.run);
            (database.alias(), backup.change_for("to return to the new version", reasons))
        });
        match of_databases(self.databases.len() > 1, changes.collect()) {
            Some(change) => Check::Change(change),
            None if self.databases.iter().all(|database| database.reversed.is_empty()) => {
                Check::unchanged("no migrations are reversed")
            }
            None => Check::unchanged("the migrations can be applied again"),
        }
    }

    /// Shows git again what the update hid from it.
    fn shown(&self, check: Check) -> Check {
        self.done.hidden.iter().fold(check, |check, exclude| {
            let hide = Exclude { excluded: true, ..exclude.clone() };
            check.then(Action::Exclude(exclude.clone()), Action::Exclude(hide))
        })
    }

    /// Restores the previous outputs of the site's own steps; `None` where the update brought none.
    fn outputs(&self) -> Option<Check> {
        let (back, there): (Vec<_>, Vec<_>) = self.done.outputs.iter().cloned().unzip();
        let change = Change {
            reason: "the outputs of the site's own steps from before the update".to_owned(),
            actions: back.into_iter().map(Action::SwapOutput).collect(),
            undo: there.into_iter().map(Action::SwapOutput).collect(),
            ..Change::default()
        };
        (!change.actions.is_empty()).then_some(Check::Change(change))
    }

    /// Requests the pages and expects them as they were before the update.
    fn smoke_check(&self, mut check: Check) -> Check {
        if let (Check::Change(change), Some(before)) = (&mut check, &self.done.pages)
            && let [Action::SmokeCheck(now)] = change.actions.as_mut_slice()
        {
            "the pages as they were before the update".clone_into(&mut change.reason);
            now.check.pages.clone_from(&before.pages);
            now.check.commands.clear();
        }
        check
    }

    /// Says which outputs of the site's own steps are restored; nothing where the update brought none.
    pub(super) fn made(&self, repository: &Path) -> String {
        let outputs = self.done.outputs.iter().map(|(back, _)| &back.live);
        let inside = outputs.map(|live| live.strip_prefix(repository).unwrap_or(live).to_owned());
        match inside.collect::<Vec<_>>().as_slice() {
            [] => String::new(),
            outputs => format!("; their outputs from before the update are restored: {}", paths(outputs)),
        }
    }

    /// Moves out first what a step of the update carried over.
    fn without_carried(&self, check: Check, record: &str) -> Check {
        self.carried(record).fold(check, |check, carry| {
            check.first(Action::TakeOutWritten(carry.clone()), Action::CarryWritten(carry))
        })
    }

    /// Returns what a step of the update carried over.
    fn carried<'f>(&'f self, record: &'f str) -> impl Iterator<Item = CarryWritten> + 'f {
        let is_it = move |carry: &&CarryWritten| carry.record.file_name().is_some_and(|name| name == record);
        self.done.written.iter().filter(is_it).cloned()
    }

    /// Says which files are moved out of the checkout because the new version's code wrote them during the update.
    pub(super) fn taken_out(&self) -> Option<String> {
        let paths: Vec<_> = self.done.written.iter().flat_map(CarryWritten::carried).collect();
        let shown = paths.iter().take(5).map(|path| format!("`{}`", path.display())).collect::<Vec<_>>();
        let directory = self.done.written.first()?.record.parent()?.display();
        (!paths.is_empty()).then(|| {
            let more = if paths.len() > shown.len() { " and others" } else { "" };
            format!("files that the update's code wrote are moved to `{directory}`, unless they were changed since: {}{more}", shown.join(", "))
        })
    }

    /// Says what a command of the site's own did that no copy undoes.
    pub(super) fn left_by_command(&self) -> Option<String> {
        let argv = self.done.command.as_ref()?.join(" ");
        let stays = self.databases.iter().any(|database| database.copy.is_none());
        stays.then(|| format!("`manage.py {argv}` changed neither migrations nor schema"))
    }

    /// Returns what is lost of the data written since the update.
    pub(super) fn losses(&self) -> Vec<String> {
        let several = self.databases.len() > 1;
        let of = |database: &Database| {
            let alias = database.alias().to_owned();
            let named = move |text| if several { format!("`{alias}`: {text}") } else { text };
            database.losses().into_iter().map(named).collect::<Vec<_>>()
        };
        self.databases.iter().flat_map(of).collect()
    }
}
