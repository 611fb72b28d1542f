//! A rollback on copies of the databases: its migrations, and then the previous version's pages.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::live::Live;
use super::world::{Scratch, Tried};
use super::{Ends, Stage};
use crate::django::{Copies, DatabaseState, DjangoError, PutBack, RestoreDatabase, RowCounts, Session, When};
use crate::git::{Parked, StagedTree};
use crate::host::{Swap, copies, files};
use crate::plan::{RehearsedDatabase, StepKind};
use crate::update::beside::Beside;
use crate::update::error::{RollbackError, UpdateError};
use crate::update::past::COUNTING;
use crate::update::prepare::Preparation;
use crate::update::rehearsal::WentBack;

/// Tables into which Django itself writes when migrations are reversed.
const DJANGO_S: [&str; 2] = ["auth_permission", "django_content_type"];

/// What a rollback does to a database.
pub(in crate::update) struct Way {
    pub restore: RestoreDatabase,
    /// The database as it is now.
    pub now: DatabaseState,
    /// How many migrations are reversed.
    pub reversed: usize,
    /// The copy of the update, if deploykit can restore it.
    pub copy: Option<PathBuf>,
}

impl Preparation<'_, '_> {
    /// Rehearses what a rollback will do to the databases, and what the previous version's pages answer then. Returns how long the
    /// databases took, if the copies had all rows. `outputs` bring the previous outputs of the site's own steps back.
    pub(in crate::update) fn rehearse_back(
        &mut self,
        session: &mut Session,
        stage: &Stage<'_>,
        ways: &[Way],
        outputs: &[Swap],
    ) -> Result<Option<Duration>, UpdateError> {
        if self.rehearses() == When::Never {
            return Ok(None);
        }
        let scratch = Scratch::at(self.state.rehearsal());
        let found = self.rehearse_both_back(session, stage, ways, outputs, &scratch);
        self.empty_database(session, &scratch);
        self.tell_rehearsed();
        found
    }

    /// Rehearses what happens to the databases, and then the pages.
    fn rehearse_both_back(
        &mut self,
        session: &mut Session,
        stage: &Stage<'_>,
        ways: &[Way],
        outputs: &[Swap],
        scratch: &Scratch,
    ) -> Result<Option<Duration>, UpdateError> {
        let step = self.begin_step(StepKind::RehearseMigrations);
        let went_back = self.go_back(session, stage, ways, scratch).map(|(copies, live, back)| {
            let text = back.to_string();
            ((copies, live, back), text)
        });
        let Some((copies, live, back)) = self.end_rehearsal(step, went_back)? else { return Ok(None) };
        for text in &back.lost {
            self.notice(format!("after the rollback on a copy of the database, {text}"));
        }
        let step = self.begin_step(StepKind::RehearsePages);
        let missing: Vec<String> = copies.skipped.keys().cloned().collect();
        let mut live = Some(live);
        let pages = self.previous_version(session, copies, stage, outputs, &mut live, scratch);
        let pages = self.judged_without(&missing, pages);
        self.end_rehearsal(step, pages.map(|text| ((), text)))?;
        self.mind_live_pages(live, stage);
        Ok(back.expected())
    }

    /// Asks the live version for its pages on copies: it is what a failed rollback starts again. Then restores the copies with it, as
    /// the window will restore the databases.
    fn go_back(
        &mut self,
        session: &mut Session,
        stage: &Stage<'_>,
        ways: &[Way],
        scratch: &Scratch,
    ) -> Result<(Copies, Live, WentBack), Ends> {
        let host = self.host.clone();
        let mut tried = self.try_out(session, stage, None, scratch)?;
        self.missing(&tried.copies);
        let live = self.ask_live(&mut tried, stage, scratch)?;
        let mut back = WentBack { bytes: tried.copies.bytes, ..WentBack::default() };
        let begun = Instant::now();
        let mut counting = Duration::ZERO;
        for way in ways {
            let alias = way.restore.before.database.as_str();
            let since = Instant::now();
            let is_alike = tried.session.on(alias).state(&host)? == way.now;
            let rows = self.rows_of(&mut tried, alias)?;
            counting += since.elapsed();
            let since = Instant::now();
            self.restore(&mut tried, way, is_alike)?;
            let took = Some(since.elapsed());
            let since = Instant::now();
            let mut one = RehearsedDatabase { database: alias.to_owned(), ..RehearsedDatabase::default() };
            if way.restore.backup.is_some() {
                back.restored += 1;
                one.restored = took;
            } else {
                back.reversed += way.reversed;
                one.reversed = took;
                one.lost = self.rows_of(&mut tried, alias)?.since(&rows);
                back.lost.extend(one.lost.iter().cloned());
            }
            self.rehearsed().databases.push(one);
            counting += since.elapsed();
        }
        back.took = (!ways.is_empty()).then(|| begun.elapsed().saturating_sub(counting));
        back.is_measured = tried.copies.schema_only.is_empty();
        tried.session.stop_servers(&host)?;
        let Tried { session, copies, .. } = tried;
        session.close(&host);
        Ok((copies, live, back))
    }

    /// Restores a copy; `is_alike`: its schema is described as the live one's is.
    fn restore(&self, tried: &mut Tried, way: &Way, is_alike: bool) -> Result<(), Ends> {
        let before = &way.restore.before;
        if let Some(backup) = &way.restore.backup {
            if way.restore.put_back != PutBack::Itself {
                return Err(Ends::cannot(
                    "only `database.restore-command` can restore the copy of the update",
                ));
            }
            let restored =
                tried.attempt(&self.host, |session, host| session.restore_backup(host, before, backup))?;
            // It may need rights that nobody has in a private server.
            let what = "the copy of the update cannot be restored in the rehearsal";
            return restored.map_err(|error| Ends::because(what, error));
        }
        match tried.attempt(&self.host, |session, host| session.restore(host, before))? {
            Ok(()) => Ok(()),
            Err(DjangoError::SchemaDiffers { .. }) if !is_alike => {
                let alias = &before.database;
                let what = format!("the copy of database `{alias}` has another schema than the original");
                Err(Ends::cannot(what))
            }
            Err(source) => {
                Err(Ends::Fails(RollbackError::ReversalFails { source, copy: way.copy.clone() }.into()))
            }
        }
    }

    fn rows_of(&self, tried: &mut Tried, alias: &str) -> Result<RowCounts, Ends> {
        let mut rows = tried.session.on(alias).rows(&self.host, COUNTING)?;
        rows.counts.retain(|table, _| !DJANGO_S.contains(&table.as_str()));
        Ok(rows)
    }

    /// Boots the previous version on these copies, and asks it for its pages.
    fn previous_version(
        &mut self,
        session: &mut Session,
        copies: Copies,
        stage: &Stage<'_>,
        outputs: &[Swap],
        live: &mut Option<Live>,
        scratch: &Scratch,
    ) -> Result<String, Ends> {
        if !stage.project.python.exists() {
            let python = stage.project.python.display();
            return Err(Ends::cannot(format!("`{python}` of the previous version is missing")));
        }
        // It goes with this value.
        let _beside = Beside::new(stage.tree.clone(), self.state.staged_tree());
        let tree = self.previous_tree(stage.tree, outputs)?;
        // The present version boots there: what this one lacks is its own.
        let tried = self
            .try_on(&self.host, copies, stage, Some(&tree), scratch)?
            .map_err(|source| Ends::Fails(RollbackError::NoBoot { source }.into()))?;
        self.rehearse_serving(session, tried, stage, live, scratch)
    }

    /// Checks the previous version out beside the site, with its outputs of the site's own steps.
    fn previous_tree(&self, tree: &StagedTree, outputs: &[Swap]) -> Result<StagedTree, Ends> {
        let steps = self.site.config().steps.iter();
        let caches: Vec<PathBuf> = steps.flat_map(|step| step.cache.iter().cloned()).collect();
        let made = outputs.iter().map(|swap| swap.live.clone());
        let mut exclude: Vec<PathBuf> = caches.iter().cloned().chain(made).collect();
        exclude.push(self.state.directory().to_owned());
        let place = self.state.staged_tree();
        let parked = Some(Parked { place: &place, keep: &caches });
        let StagedTree { repository, path, commit } = tree;
        let tree = StagedTree::prepare(&self.host, repository, path, commit, &exclude, parked)
            .map_err(|error| Ends::Fails(error.into()))?;
        for swap in outputs.iter().filter(|swap| swap.wanted.is_some()) {
            let Ok(inside) = swap.live.strip_prefix(repository) else { continue };
            let target = tree.path.join(inside);
            let copied =
                files::remove_tree(&target).and_then(|()| copies::copy(&self.host, &swap.aside, &target));
            copied.map_err(|error| Ends::Fails(error.into()))?;
        }
        Ok(tree)
    }
}
