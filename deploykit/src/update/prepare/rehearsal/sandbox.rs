//! The sandbox of a rehearsal: a version is booted in it, on copies of the databases.

use std::cell::Cell;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{Candidate, RehearsalError};
use crate::django::{CopiedDatabase, Copies, DjangoError, Mounted, NoCopy, NoRedis, Sandbox, Session, When};
use crate::error::{error_chain, warn};
use crate::git::StagedTree;
use crate::host::Host;
use crate::host::files::{self, InPath};
use crate::plan::{DatabaseCopy, NotRehearsed};
use crate::state::{Copied, State};
use crate::update::prepare::{Failed, Preparation};
use crate::update::rehearsal::{Unavailable, most, without_rows};

/// A process in a sandbox of its own, with the copies that it works on.
pub(super) struct Trial {
    pub session: Session,
    pub copies: Copies,
    /// The site's own steps that failed for want of the network.
    pub without: Vec<String>,
}

/// The directory for what a rehearsal writes; it goes with this value.
pub(super) struct Scratch {
    pub path: PathBuf,
    /// The scratch database of the configuration may hold a copy.
    uses_database: Cell<bool>,
}

impl Scratch {
    /// Makes the directory.
    pub(super) fn new(state: &State) -> Result<Self, Failed> {
        let scratch = Scratch::at(state.rehearsal());
        scratch.clear()?;
        Ok(scratch)
    }

    pub(super) fn at(path: PathBuf) -> Self {
        Scratch { path, uses_database: Cell::new(false) }
    }

    /// Returns the directory of the copies.
    fn databases(&self) -> PathBuf {
        self.path.join("databases")
    }

    /// Makes it an empty directory that only its owner can read.
    fn clear(&self) -> Result<(), Failed> {
        files::remove_tree(&self.path)?;
        Ok(DirBuilder::new().mode(0o700).create(&self.path).at("create the directory", &self.path)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        warn(files::remove_tree(&self.path));
    }
}

impl Preparation<'_, '_> {
    /// Boots a version in a sandbox of its own; `None`: the live version.
    pub(super) fn boot_on_new_copies(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        tree: Option<&StagedTree>,
        scratch: &Scratch,
    ) -> Result<Trial, RehearsalError> {
        let copies = self.copies(session, candidate, scratch)?;
        self.boot_on(copies, candidate, tree, scratch)
    }

    /// Boots a version in a sandbox of its own, on these copies; `None`: the live version. It has the usual priority, as in the window:
    /// otherwise its migrations would take longer on a busy machine.
    pub(super) fn boot_on(
        &self,
        copies: Copies,
        candidate: &Candidate<'_>,
        tree: Option<&StagedTree>,
        scratch: &Scratch,
    ) -> Result<Trial, RehearsalError> {
        let booted =
            self.try_boot_on(&self.host.with_low_priority(false), copies, candidate, tree, scratch)?;
        // It boots beside the site: what it lacks here is something of the machine.
        booted.map_err(|error| RehearsalError::because("Django does not boot on the copy", error))
    }

    /// Boots a version in a sandbox of its own, on these copies; returns why it does not boot there.
    pub(super) fn try_boot_on(
        &self,
        host: &Host,
        copies: Copies,
        candidate: &Candidate<'_>,
        tree: Option<&StagedTree>,
        scratch: &Scratch,
    ) -> Result<Result<Trial, DjangoError>, RehearsalError> {
        let live = &self.site.config().site.repository;
        let own = tree.and_then(|tree| self.own_virtualenv(tree, &candidate.project.python));
        let sandbox = Sandbox {
            scratch: scratch.path.clone(),
            tree: tree.map(|tree| Mounted { live: live.clone(), staged: tree.path.clone() }),
            show: tree
                .and(candidate.static_files.clone())
                .into_iter()
                .chain([self.own_state()])
                .chain(own)
                .collect(),
            writable: self.writable(candidate),
            copies: copies.clone(),
            scratch_url: self.site.scratch_url().ok().flatten(),
        };
        let project = match tree {
            Some(_) => candidate.project.clone(),
            None => self.site.project().map_err(|error| RehearsalError::Failed(error.into()))?,
        };
        let booted = Session::begin_in(host, &project, &sandbox).and_then(|booting| booting.booted(host));
        let mut session = match booted {
            Ok(session) => session,
            Err(error @ DjangoError::NoSandbox { .. }) => return Err(error.into()),
            Err(error) if error.is_cancelled() => return Err(error.into()),
            Err(error) => return Ok(Err(error)),
        };
        session
            .confirm_copies(host, &copies)
            .map_err(|error| RehearsalError::because("the copies cannot be confirmed", error))?;
        Ok(Ok(Trial { session, copies, without: Vec::new() }))
    }

    /// Lets the state directory, which holds the virtualenvs, appear where it is.
    fn own_state(&self) -> Mounted {
        let directory = self.state.directory().to_owned();
        Mounted { live: directory.clone(), staged: directory }
    }

    /// Lets a virtualenv in the checkout that the staged tree lacks appear where it is: the one from before an update.
    fn own_virtualenv(&self, tree: &StagedTree, python: &Path) -> Option<Mounted> {
        let directory = python.parent()?.parent()?.to_owned();
        let inside = directory.strip_prefix(&self.site.config().site.repository).ok()?;
        let is_own = fs::symlink_metadata(tree.path.join(inside)).is_err();
        (is_own && !directory.starts_with(self.state.directory()))
            .then(|| Mounted { live: directory.clone(), staged: directory })
    }

    /// Copies every database of the site, where there can be a sandbox for them. A database on a server may be missing if it does not
    /// change: the pages that need it cannot be rehearsed then.
    pub(super) fn copies(
        &mut self,
        session: &mut Session,
        candidate: &Candidate<'_>,
        scratch: &Scratch,
    ) -> Result<Copies, RehearsalError> {
        scratch.clear()?;
        if let Some(reason) = session.sandbox_unavailable(&self.host, &scratch.path)? {
            return Err(RehearsalError::unavailable(reason));
        }
        let url = self.site.scratch_url().map_err(|name| {
            RehearsalError::unavailable(format!(
                "`site.env` and `site.env-file` lack the variable `{name}` of `rehearsal.database-url`"
            ))
        })?;
        let limits = &self.site.config().rehearsal;
        let copied = self.state.copied();
        let known = candidate.site.databases.iter().filter(|one| one.vendor != "unknown");
        let databases: Vec<(String, u64)> =
            known.map(|one| (one.alias.clone(), most(limits, &copied, &one.alias))).collect();
        let copies = session
            .copy_databases(&self.host, &scratch.databases(), &databases, url.as_deref())
            .map_err(|error| RehearsalError::because("a database cannot be copied", error))?;
        scratch.uses_database.set(copies.use_scratch() || !copies.skipped.is_empty());
        let rows = |alias: &String| !copies.schema_only.contains(alias);
        let copy = |(alias, done): (&String, &CopiedDatabase)| DatabaseCopy {
            database: alias.clone(),
            size_bytes: done.size_bytes,
            duration_ms: done.duration_ms,
            rows: rows(alias),
        };
        let seen = self.rehearsed();
        (seen.bytes, seen.copies) = (copies.bytes, copies.copied.iter().map(copy).collect());
        self.record_copies(&copies, copied)?;
        if let Some(NoRedis { servers, reason, help }) = &copies.in_memory {
            let hint = help;
            let help = hint.iter().map(|help| format!("; {help}")).collect::<String>();
            let text = format!(
                "the rehearsal has no Redis at {}, and keeps caches and Celery queues in memory: {reason}{help}",
                servers.join(", ")
            );
            if !self.notices.contains(&text) {
                let (what, reason) = (format!("Redis at {}", servers.join(", ")), reason.clone());
                let skipped = NotRehearsed { what, reason, help: hint.clone() };
                self.rehearsed().skipped.push(skipped);
                self.notice(text);
            }
        }
        // The sandbox hides servers, but not files.
        let is_file = |alias: &String| {
            candidate.site.databases.iter().any(|one| one.alias == *alias && one.vendor == "sqlite")
        };
        let is_always = self.rehearses() == When::Always;
        let is_needed = |alias: &String| is_always || candidate.changes.contains(alias) || is_file(alias);
        match copies.skipped.iter().find(|(alias, _)| is_needed(alias)) {
            None => Ok(copies),
            Some((alias, why)) => {
                let reason = format!("database `{alias}` cannot be copied: {}", why.reason);
                Err(RehearsalError::Unavailable(Unavailable { reason, help: why.help.clone() }))
            }
        }
    }

    /// Tells which databases have no copy, and why. Returns their aliases.
    pub(super) fn missing(&mut self, copies: &Copies) -> Vec<String> {
        for (alias, NoCopy { reason, help }) in copies.skipped.clone() {
            let what = format!("database `{alias}`");
            self.rehearsed().skipped.push(NotRehearsed { what, reason: reason.clone(), help: help.clone() });
            self.notice(format!("database `{alias}` was {}", Unavailable { reason, help }));
        }
        copies.skipped.keys().cloned().collect()
    }

    /// Records how long the copies took, and says which have no rows, and why. `copied` are the copies before.
    fn record_copies(&mut self, copies: &Copies, mut copied: Copied) -> Result<(), RehearsalError> {
        let limits = &self.site.config().rehearsal;
        for (alias, done) in &copies.copied {
            if copies.schema_only.contains(alias) {
                let text = without_rows(limits, &copied, alias, done.size_bytes);
                if !self.notices.contains(&text) {
                    self.notice(text);
                }
            } else {
                copied.add(alias, done.size_bytes, done.duration_ms);
            }
        }
        self.state.set_copied(&copied).map_err(|error| RehearsalError::Failed(error.into()))
    }

    /// Empties the scratch database of the configuration, if a copy may be in it.
    pub(super) fn empty_database(&mut self, session: &mut Session, scratch: &Scratch) {
        if !scratch.uses_database.get() {
            return;
        }
        let Ok(Some(url)) = self.site.scratch_url() else { return };
        if let Err(error) = session.clear_scratch(&self.host, &url, &scratch.databases()) {
            self.notice(format!(
                "the database of `rehearsal.database-url` is not emptied: {}",
                error_chain(&error)
            ));
        }
    }

    /// Returns the directories that the site writes much into.
    fn writable(&self, candidate: &Candidate<'_>) -> Vec<PathBuf> {
        let all = candidate.site.uploads.iter().chain(&candidate.site.static_files.root);
        let all = all.map(|path| self.in_live(candidate, path));
        all.filter(|directory| directory.is_dir()).collect()
    }

    /// Returns where a path of the staged tree is live.
    pub(super) fn in_live(&self, candidate: &Candidate<'_>, path: &Path) -> PathBuf {
        match path.strip_prefix(&candidate.tree.path) {
            Ok(inside) => self.site.config().site.repository.join(inside),
            Err(_) => path.to_owned(),
        }
    }
}
