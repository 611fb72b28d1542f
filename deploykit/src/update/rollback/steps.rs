//! The steps of a rollback that an update has not.

use std::path::Path;
use std::time::Duration;

use super::Facts;
use crate::action::Action;
use crate::django::reasons::{grouped, reasons};
use crate::django::{Migrate, PutBack, RestoreDatabase, ReversedMigration};
use crate::git::{CarryWritten, Exclude, counted};
use crate::operations::{Change, Check};
use crate::plan::{Step, StepKind};
use crate::update::backup::Backup;
use crate::update::error::paths;
use crate::update::written::{CODE, MIGRATE, STATIC};

/// Says why the new version could not come back whole by its migrations alone.
pub(super) fn backup_reasons(reversed: &[ReversedMigration]) -> Vec<String> {
    let all = reversed.iter().flat_map(|one| {
        let mut all = reasons(&one.id, &one.unknown);
        if !one.drops.is_empty() {
            let text = format!("applied again, it would not bring back {}", one.drops.join(" and "));
            all.push((one.id.clone(), text));
        }
        if !one.transactional {
            all.push((one.id.clone(), "its reversal may stay half done".to_owned()));
        }
        all
    });
    grouped(&all.collect::<Vec<_>>())
}

impl Facts {
    fn backup_reasons(&self) -> Vec<String> {
        match &self.database.copy {
            Some(_) => vec![format!("the copy of run {} replaces the database", self.done.run)],
            None => backup_reasons(&self.database.reversed),
        }
    }

    /// Returns how long it takes to put back the copy of the update, which was as large as the database is now, about.
    pub(super) fn put_back(&self) -> Duration {
        let copy = self.database.copy.as_ref().and(self.database.backup.as_ref());
        copy.map(Backup::duration).unwrap_or_default()
    }

    /// Returns the copy that brings the new version's database back by itself.
    fn way_forward(&self) -> Option<&Backup> {
        self.database.backup.as_ref().filter(|backup| backup.put_back != PutBack::ByHand)
    }

    pub(super) fn backup(&self) -> Step {
        let check = match &self.database.backup {
            Some(backup) => {
                Check::Change(backup.change_for("for the way to the new version", self.backup_reasons()))
            }
            None if self.database.reversed.is_empty() => {
                Check::Unchanged { reason: "no migrations are reversed".to_owned() }
            }
            None => Check::Unchanged { reason: "the migrations can be applied again".to_owned() },
        };
        Step::new(StepKind::Backup, check)
    }

    pub(super) fn migrate(&self) -> Step {
        if let (Some(copy), Some(backup)) = (&self.database.copy, self.way_forward()) {
            let mut change = copy.change(&self.done.run, backup);
            change.actions.extend(self.carried(MIGRATE).map(Action::TakeOutWritten));
            change.undo.splice(0..0, self.carried(MIGRATE).map(Action::CarryWritten));
            return Step::new(StepKind::Migrate, Check::Change(change));
        }
        let check = match &self.done.migrate {
            // Without migrations to reverse there may be records of squashed ones.
            Some(migrate) if migrate.before.applied != self.done.kept.database.applied => {
                let project = self.project.clone();
                let undo = match self.way_forward() {
                    Some(backup) => {
                        Action::RestoreDatabase(backup.restore(self.done.kept.database.clone(), false))
                    }
                    None => Action::Migrate(Migrate { project: project.clone(), ..migrate.clone() }),
                };
                let mut undo = vec![undo];
                undo.splice(0..0, self.carried(MIGRATE).map(Action::CarryWritten));
                let before = migrate.before.clone();
                let back = RestoreDatabase::new(project, before, None);
                Check::Change(Change {
                    reason: match self.database.reversed.len() {
                        0 => "the records of squashed migrations".to_owned(),
                        count => format!("{} to reverse", counted(count, "migration")),
                    },
                    details: self.database.reversed.iter().map(|one| one.id.to_string()).collect(),
                    actions: std::iter::once(Action::RestoreDatabase(back))
                        .chain(self.carried(MIGRATE).map(Action::TakeOutWritten))
                        .collect(),
                    undo,
                    ..Change::default()
                })
            }
            _ => Check::Unchanged { reason: "the update applied no migrations".to_owned() },
        };
        Step::new(StepKind::Migrate, check)
    }

    pub(super) fn static_files(&self) -> Step {
        let check = match &self.done.static_files {
            None => Check::Unchanged { reason: "the update changed no static files".to_owned() },
            Some(way) => {
                let (actions, undo) = way.actions();
                let reason = "the files of before the update".to_owned();
                let change = Change { reason, actions, undo, ..Change::default() };
                Check::Change(if self.done.environment.is_none() { self.shown(change) } else { change })
            }
        };
        let mut step = Step::new(StepKind::Static, check);
        step.change.actions.splice(0..0, self.carried(STATIC).map(Action::TakeOutWritten));
        step.change.undo.extend(self.carried(STATIC).map(Action::CarryWritten));
        step
    }

    /// Lets git see again what the update hid from it: with the last step it is there no more.
    fn shown(&self, mut change: Change) -> Change {
        for exclude in &self.done.hidden {
            change.actions.push(Action::Exclude(exclude.clone()));
            change.undo.insert(0, Action::Exclude(Exclude { excluded: true, ..exclude.clone() }));
        }
        change
    }

    pub(super) fn environment(&self) -> Step {
        let check = match &self.done.environment {
            None => Check::Unchanged { reason: self.packages.clone() },
            Some((there, back)) => Check::Change(self.shown(Change {
                reason: self.packages.clone(),
                actions: vec![Action::SwitchEnvironment(back.clone())],
                undo: vec![Action::SwitchEnvironment(there.clone())],
                ..Change::default()
            })),
        };
        Step::new(StepKind::Environment, check)
    }

    /// Returns the step that brings back what the site's own steps had made; none where the update brought nothing of it.
    pub(super) fn outputs(&self) -> Option<Step> {
        let (back, there): (Vec<_>, Vec<_>) = self.done.outputs.iter().cloned().unzip();
        let change = Change {
            reason: "what the site's own steps had made before the update".to_owned(),
            actions: back.into_iter().map(Action::SwapOutput).collect(),
            undo: there.into_iter().map(Action::SwapOutput).collect(),
            ..Change::default()
        };
        (!change.actions.is_empty()).then(|| Step::new(StepKind::Outputs, Check::Change(change)))
    }

    /// Says what comes back of what the site's own steps had made; nothing where the update brought nothing of it.
    pub(super) fn made(&self, repository: &Path) -> String {
        let outputs = self.done.outputs.iter().map(|(back, _)| &back.live);
        let inside = outputs.map(|live| live.strip_prefix(repository).unwrap_or(live).to_owned());
        match inside.collect::<Vec<_>>().as_slice() {
            [] => String::new(),
            outputs => format!("; what they had made before the update comes back: {}", paths(outputs)),
        }
    }

    pub(super) fn code(&self) -> Step {
        let mut change = match &self.moved {
            None => Change { reason: "the update brought no commits".to_owned(), ..Change::default() },
            Some(moved) => Change {
                reason: format!("{} to take back", counted(moved.commit_count, "commit")),
                ..moved.change()
            },
        };
        change.actions.splice(0..0, self.carried(CODE).map(Action::TakeOutWritten));
        change.undo.extend(self.carried(CODE).map(Action::CarryWritten));
        Step::new(StepKind::Code, Check::Change(change))
    }

    /// Returns what a step of the update carried over.
    fn carried<'f>(&'f self, record: &'f str) -> impl Iterator<Item = CarryWritten> + 'f {
        let is_it = move |carry: &&CarryWritten| carry.record.file_name().is_some_and(|name| name == record);
        self.done.written.iter().filter(is_it).cloned()
    }

    /// Says what is taken out of the checkout that the new version's code wrote while it was prepared or migrated.
    pub(super) fn taken_out(&self) -> Option<String> {
        let paths: Vec<_> = self.done.written.iter().flat_map(CarryWritten::carried).collect();
        let shown = paths.iter().take(5).map(|path| format!("`{}`", path.display())).collect::<Vec<_>>();
        let folder = self.done.written.first()?.record.parent()?.display();
        (!paths.is_empty()).then(|| {
            let more = if paths.len() > shown.len() { " and others" } else { "" };
            format!("what the update's code wrote itself is moved to `{folder}` where nobody changed it since: {}{more}", shown.join(", "))
        })
    }

    /// Says what goes that was written since the update.
    pub(super) fn losses(&self) -> Vec<String> {
        if let Some(copy) = &self.database.copy {
            return copy.losses.clone();
        }
        let mut notices: Vec<String> = self
            .database
            .reversed
            .iter()
            .filter(|one| !one.drops.is_empty())
            .map(|one| format!("`{}` is reversed: {} are lost", one.id, one.drops.join(" and ")))
            .collect();
        let unknown = self.database.reversed.iter().flat_map(|one| reasons(&one.id, &one.unknown));
        let unknown = grouped(&unknown.collect::<Vec<_>>());
        if !notices.is_empty() && self.way_forward().is_none() {
            notices.push(
                "they are lost even if the rollback fails: no copy of the database is put back then"
                    .to_owned(),
            );
        }
        notices.extend(unknown.into_iter().map(|text| format!("reversed by the site's own code: {text}")));
        notices
    }
}
