//! What a preparation asks the booted Django of the new version, and lets it do.

use std::path::{Path, PathBuf};

use super::{Failed, Preparation, databases};
use crate::django::{
    CheckReport, Collected, Collecting, MigrationPlan, Mounted, Project, Session, SiteFacts, StaticFiles,
    When,
};
use crate::git::{ChangeStatus, StagedTree, Tree, counted, tracked_below};
use crate::names;
use crate::operations::django_manage::{Migrations, static_summary};
use crate::operations::git_update::Move;
use crate::operations::pip_install::Prepared as Packages;
use crate::plan::StepKind;
use crate::python::Bytecode;
use crate::update::answers::InDatabase;
use crate::update::backup::{self, Asked, Backup};
use crate::update::beside::Beside;
use crate::update::error::PreparationError;
use crate::update::history;
use crate::update::migrate_command::MigrateCommand;
use crate::update::written::Apart;

/// How many sources are compiled beforehand at most: their names stand in the journal.
const MOST_SOURCES: usize = 2000;

/// The databases that are migrated, and the command that does so in place of `migrate`.
type Migrating = (Vec<InDatabase>, Option<MigrateCommand>);

impl Preparation<'_, '_> {
    pub(super) fn boot(
        &mut self,
        project: &Project,
        tree: &StagedTree,
        packages: &Packages,
    ) -> Result<(Session, SiteFacts, String), Failed> {
        let config = self.site.config();
        let live = &config.site.repository;
        let both = Mounted { live: tree.repository.clone(), staged: tree.path.clone() };
        // It migrates in the window: only root can raise a priority again.
        let host = self.host.with_low_priority(false);
        let mut session = Session::begin(&host, project, Some(&both))?.booted(&host)?;
        let facts = session.facts(&self.host)?;
        self.site.remember(&facts);
        // An editable package that stays is the same in both trees.
        let stays = |path: &Path| match packages {
            Packages::Unchanged { record, .. } => record.has_sources_at(live, path),
            _ => false,
        };
        let foreign = facts.foreign_modules(live, &tree.path);
        if let Some((name, path)) = foreign.into_iter().find(|(_, path)| !stays(path)) {
            return Err(
                PreparationError::NotRelocatable { module: name.to_owned(), path: path.to_owned() }.into()
            );
        }
        let report: CheckReport = session.check(&self.host, None)?;
        let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
        if !errors.is_empty() {
            return Err(PreparationError::CheckFailed { errors }.into());
        }
        let text = format!("Django {} boots, no errors", facts.django);
        Ok((session, facts, text))
    }

    /// Compiles what the update changes: the web would do it in the window.
    pub(super) fn compile(
        &self,
        session: &mut Session,
        moved: Option<&Move>,
        tree: &StagedTree,
    ) -> Result<Option<Bytecode>, Failed> {
        let Some(moved) = moved else { return Ok(None) };
        let is_source = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "py");
        let there =
            moved.changes.iter().filter(|change| change.status != ChangeStatus::Deleted && !change.submodule);
        let sources = there.map(|change| &change.path).filter(is_source).take(MOST_SOURCES);
        let sources: Vec<PathBuf> = sources.cloned().collect();
        let (from, to) = (tree.path.clone(), moved.checkout.repository.clone());
        let files = session.compile(&self.host, &from, &to, &sources)?;
        Ok((!files.is_empty()).then_some(Bytecode { from, to, files }))
    }

    pub(super) fn migrations(
        &mut self,
        project: &Project,
        session: &mut Session,
        site: &SiteFacts,
        apart: &Apart,
    ) -> Result<(Migrating, String), Failed> {
        databases::check(&project.databases, &site.databases)?;
        let command = match &project.databases.command {
            Some(argv) => Some(MigrateCommand::look(argv, project, session, &self.host)?),
            None => None,
        };
        let several = project.databases.are_several();
        let (mut found, mut texts) = (Vec::new(), Vec::new());
        for alias in &project.databases.migrate {
            let backups = found.iter().filter_map(|one: &InDatabase| one.backup.as_ref());
            let taken = backups.map(Backup::file_bytes).sum();
            let pooled = databases::is_pooled(&project.databases, alias, session, &self.host)?;
            let asked = Asked { project, alias, reasons: &[], taken, pooled };
            let (one, text) = match &command {
                Some(command) => self.by_command(&asked, command, session, apart)?,
                None => self.migrations_of(&asked, session, apart)?,
            };
            // They are the same for each.
            let others = if found.is_empty() { one.migrations.plan.others.as_slice() } else { &[] };
            for notice in history::of_others(others).into_iter().chain(history::notices(&one.migrations.plan))
            {
                self.notice(notice);
            }
            if pooled
                && command.as_ref().map_or(!one.migrations.plan.pending.is_empty(), MigrateCommand::runs)
            {
                self.notice(databases::pooled(alias));
            }
            texts.push(if several { format!("`{alias}`: {text}") } else { text });
            found.push(one);
        }
        if command.as_ref().is_some_and(MigrateCommand::runs) {
            for notice in databases::outside(&project.databases, &site.databases) {
                self.notice(notice);
            }
        }
        let text = command.as_ref().map_or_else(|| texts.join(", "), MigrateCommand::found);
        Ok(((found, command), text))
    }

    /// Looks at a database that a command of the site's own migrates: nothing but a copy could undo that.
    fn by_command(
        &self,
        asked: &Asked<'_>,
        command: &MigrateCommand,
        session: &mut Session,
        apart: &Apart,
    ) -> Result<(InDatabase, String), Failed> {
        let Asked { project, alias, .. } = *asked;
        if command.runs() {
            self.refuse_tracked(alias, apart)?;
        }
        let state = project.databases.named(alias, session.on(alias).state(&self.host))?;
        let is_new = apart.is_new(alias);
        let reasons = [command.reason()];
        let wanted = !is_new && command.runs() && self.site.config().database.backup != When::Never;
        let backup = match wanted {
            true => Some(self.backup(&Asked { reasons: &reasons, ..*asked }, session)?),
            false => None,
        };
        let plan = MigrationPlan { applied: state.applied.clone(), ..MigrationPlan::default() };
        let migrations = Migrations { is_new, ..Migrations::new(plan, state, project.clone()) };
        Ok((InDatabase { migrations, backup }, String::new()))
    }

    fn migrations_of(
        &self,
        asked: &Asked<'_>,
        session: &mut Session,
        apart: &Apart,
    ) -> Result<(InDatabase, String), Failed> {
        let Asked { project, alias, .. } = *asked;
        let databases = &project.databases;
        let plan = databases.named(alias, session.on(alias).migrations(&self.host))?;
        let state = databases.named(alias, session.on(alias).state(&self.host))?;
        if !plan.pending.is_empty() {
            self.refuse_tracked(alias, apart)?;
        }
        // A new database is removed again when the update fails.
        let is_new = apart.is_new(alias);
        let reasons = plan.backup_reasons();
        let backup = match !is_new && backup::is_wanted(self.site.config().database.backup, &plan) {
            true => Some(self.backup(&Asked { reasons: &reasons, ..*asked }, session)?),
            false => None,
        };
        let text = match plan.pending.len() {
            0 if !plan.unrecorded.is_empty() => "squashed ones to be recorded".to_owned(),
            0 => "none pending".to_owned(),
            count => format!("{count} pending"),
        };
        let migrations = Migrations { is_new, ..Migrations::new(plan, state, project.clone()) };
        Ok((InDatabase { migrations, backup }, text))
    }

    /// Refuses to migrate a file that the new commit brings.
    fn refuse_tracked(&self, alias: &str, apart: &Apart) -> Result<(), Failed> {
        if let Some(file) = apart.databases.iter().find(|file| file.alias == alias)
            && Tree::open(&self.site.config().site.repository, &self.to)?.holds(&file.path)
        {
            return Err(PreparationError::DatabaseTracked { path: file.path.clone() }.into());
        }
        Ok(())
    }

    pub(in crate::update) fn backup(
        &self,
        asked: &Asked<'_>,
        session: &mut Session,
    ) -> Result<Backup, Failed> {
        let by_command = self.site.config().database.backup_command.is_some();
        if !by_command && asked.pooled {
            return Err(PreparationError::Pooled { alias: asked.alias.to_owned() }.into());
        }
        backup::prepare(self.site, asked, session, &self.host, &self.directory())
    }

    /// Lets Django collect; or says why it does not.
    pub(super) fn begin_collect(
        &mut self,
        session: &mut Session,
        facts: &SiteFacts,
        moved: Option<&Move>,
        tree: &StagedTree,
        beside: &mut Beside,
    ) -> Result<Result<Collecting, String>, Failed> {
        let config = self.site.config();
        let nothing = |reason: &str| Ok(Err(reason.to_owned()));
        let (collect, clear) = if self.request.clear {
            (When::Always, When::Always)
        } else {
            (config.static_files.collect, config.static_files.clear)
        };
        if collect == When::Never {
            return nothing("`static.collect` is `never`");
        }
        if !facts.static_files.installed {
            return nothing("the site does not use staticfiles");
        }
        let Some(root) = &facts.static_files.root else { return nothing("the settings have no STATIC_ROOT") };
        let root = match root.strip_prefix(&tree.path) {
            Ok(inside) => config.site.repository.join(inside),
            Err(_) => root.clone(),
        };
        let deleted =
            moved.iter().flat_map(|moved| moved.changes.iter().filter_map(|change| change.deleted()));
        if config.site.repository.starts_with(&root) {
            return Err(PreparationError::StaticRootHoldsCheckout { root }.into());
        }
        let tracked = tracked_below(&config.site.repository, &root, &[&self.from, &self.to])?;
        let files = StaticFiles {
            root,
            tracked,
            collect,
            clear,
            keep_old: config.static_files.keep_old,
            record: self.last.static_files.clone(),
            deleted: deleted.map(names::text).collect(),
            copied: config.steps.iter().any(|step| step.after >= StepKind::Static),
        };
        if files.is_git_s() {
            let count = counted(files.tracked.len(), "file");
            self.notice(format!(
                "git tracks {count} below STATIC_ROOT: these stay as the commit has them, the others are placed beside them, and nothing is cleared"
            ));
        }
        self.mark()?.add(files.aside())?;
        let collecting = files.begin(&self.host, session)?;
        collecting.aside().into_iter().for_each(|aside| beside.add(aside.to_owned()));
        Ok(Ok(collecting))
    }

    pub(super) fn collect(
        &mut self,
        session: &mut Session,
        collecting: Result<Collecting, String>,
    ) -> Result<(Result<Collected, String>, String), Failed> {
        match collecting {
            Err(reason) => Ok((Err(reason.clone()), reason)),
            Ok(collecting) => {
                let collected = collecting.finish(&self.host, session)?;
                if collected.shares {
                    self.notice(
                        "STATIC_ROOT holds more files that nobody collected than are copied: a step of the site's own that writes into \
                         one instead of replacing it changes it in the previous version, too"
                            .to_owned(),
                    );
                }
                let text = static_summary(&collected);
                Ok((Ok(collected), text))
            }
        }
    }
}
