//! The site's own steps in the preparation. They run in the staged tree, and what they write does not reach the live site.

use std::fs;
use std::path::{Path, PathBuf};

use super::Preparation;
use crate::django::Project;
use crate::git::StagedTree;
use crate::host::Host;
use crate::host::copies::{Copyable, Limit, Stamps, are_same, copy, copyable, stamps};
use crate::host::files::{self, FileError, InPath};
use crate::plan::StepKind;
use crate::site::{Config, OwnTask};
use crate::update::error::{PreparationError, UpdateError};
use crate::update::recipe::own_command;

/// What is copied for the steps, of all that the staged tree shows of the live one.
const LIMIT: Limit = Limit { entries: 20_000, bytes: 1 << 29 };

/// The same of what only builds write into: a build that empties it, as `npm ci` does, must not meet the live one.
const LIMIT_OF_BUILDS: Limit = Limit { entries: 300_000, bytes: 1 << 32 };

/// How many files are looked at of what is not copied.
const LOOKED_AT: usize = 100_000;

/// Directories that a serving site writes into, and no build does.
const OF_THE_SITE: [&str; 14] = [
    "backup", "backups", "cache", ".cache", "data", "log", "logs", "media", "run", "sessions", "temp", "tmp",
    "upload", "uploads",
];

/// Endings of files that a serving site writes.
const FILES_OF_THE_SITE: [&str; 7] = [".log", ".pid", ".sock", "-wal", "-shm", "-journal", ".lock"];

/// Directories that only builds write into.
const OF_BUILDS: [&str; 8] = [
    "bower_components",
    "build",
    "dist",
    ".next",
    "node_modules",
    ".nuxt",
    ".parcel-cache",
    "__pypackages__",
];

impl Preparation<'_, '_> {
    /// Runs the site's own steps that follow a step of the preparation, in the staged tree.
    pub(super) fn own_steps(
        &mut self,
        anchor: StepKind,
        tree: &StagedTree,
        project: Option<&Project>,
    ) -> Result<(), UpdateError> {
        let config = self.site.config();
        let own = config.steps.iter().filter(|step| step.after == anchor);
        let mut copies = None;
        for step in own.cloned().collect::<Vec<_>>() {
            let directory = self.site.in_tree(&config.site.project, &tree.path);
            let project = match project {
                Some(project) => project.clone(),
                None => Project { directory, ..self.site.project()? },
            };
            let command = own_command(&step.task, &tree.path, &project, &self.host);
            let own = StepKind::Own(step.name.clone());
            self.step(own.clone(), |this| {
                let copies: &mut Copies<'_> = match &mut copies {
                    Some(copies) => copies,
                    None => copies.insert(Copies::take(&this.host, tree, config)?),
                };
                step.memory().map_or(Ok(()), |need| need.check())?;
                let view = match step.task {
                    OwnTask::Manage(_) => Some(this.step_view(tree, &project)?),
                    OwnTask::Run(_) => None,
                };
                let shown = view.as_ref().map(|view| view.show(command.clone(), &config.site.project));
                this.host.run_unread(shown.as_ref().unwrap_or(&command))?;
                drop(view);
                for notice in copies.look(&own)? {
                    this.notice(notice);
                }
                Ok(((), String::new()))
            })?;
        }
        // What Django writes, which boots there, reaches the live site.
        let rejoined = copies.map_or(Ok(()), |mut copies| copies.rejoin());
        self.or_fail(anchor, rejoined.map_err(Into::into))
    }
}

/// A file or directory that the staged tree shows of the live one.
#[derive(Debug)]
struct Place {
    /// From the top of either tree.
    inside: PathBuf,
    /// Whether the staged tree has a copy of it now.
    is_copy: bool,
    /// Whether it is clear that a site that serves does not write there.
    is_quiet: bool,
    stamps: Stamps,
}

/// What the staged tree shows of the live one, copied while the site's own steps run.
#[derive(Debug)]
struct Copies<'t> {
    tree: &'t StagedTree,
    places: Vec<Place>,
}

impl<'t> Copies<'t> {
    /// Replaces links into the live tree by copies. What is too large stays linked, and is looked at afterwards; what the
    /// site writes as it serves stays linked, and so do the secret files. What only builds write into never does.
    fn take(host: &Host, tree: &'t StagedTree, config: &Config) -> Result<Self, FileError> {
        let secret = [&config.secrets.file, &config.site.env_file];
        let (mut limit, mut limit_of_builds) = (LIMIT, LIMIT_OF_BUILDS);
        let mut copies = Copies { tree, places: Vec::new() };
        for inside in copies.links()? {
            let (live, staged) = (tree.repository.join(&inside), tree.path.join(&inside));
            // Other preparations link files of the virtualenv, and whoever builds there builds in the staged one.
            if is_of_the_site(&inside)
                || config.python.virtualenv.as_ref().is_some_and(|virtualenv| virtualenv.starts_with(&live))
            {
                continue;
            }
            let is_secret = secret.iter().any(|file| file.as_ref() == Some(&live));
            let is_of_builds = has_part(&inside, &OF_BUILDS);
            let limit = if is_of_builds { &mut limit_of_builds } else { &mut limit };
            let found = if is_secret { Copyable::No } else { copyable(&live, limit) };
            if is_of_builds && found == Copyable::No {
                files::remove_file(&staged)?;
                copies.places.push(Place { inside, is_copy: true, is_quiet: true, stamps: Stamps::new() });
                continue;
            }
            let is_copy = match found {
                Copyable::InUse => continue,
                Copyable::Yes => copies.copy(host, &inside)?,
                Copyable::No => false,
            };
            let is_quiet = is_copy || is_secret || is_of_builds;
            let looked = if is_copy { stamps(&staged, usize::MAX) } else { stamps(&live, LOOKED_AT) };
            match looked {
                Some(stamps) => copies.places.push(Place { inside, is_copy, is_quiet, stamps }),
                None if is_copy => copies.link(&inside)?,
                None => {}
            }
        }
        Ok(copies)
    }

    /// Puts a copy in the place of a link; `false` where that cannot be, as when the site changes what is copied.
    fn copy(&self, host: &Host, inside: &Path) -> Result<bool, FileError> {
        let (live, staged) = (self.tree.repository.join(inside), self.tree.path.join(inside));
        files::remove_file(&staged)?;
        match copy(host, &live, &staged) {
            Ok(()) => Ok(true),
            Err(error) => {
                log::debug!("`{}` stays linked: {}", inside.display(), crate::error_chain(&error));
                self.link(inside).map(|()| false)
            }
        }
    }

    /// Puts a link in the place of a copy.
    fn link(&self, inside: &Path) -> Result<(), FileError> {
        files::remove_tree(&self.tree.path.join(inside))?;
        self.tree.link(inside)
    }

    /// Returns the links of the staged tree that lead to the same place of the live one.
    fn links(&self) -> Result<Vec<PathBuf>, FileError> {
        let (mut links, mut directories) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(directory) = directories.pop() {
            let path = self.tree.path.join(&directory);
            for entry in fs::read_dir(&path).at("read", &path)? {
                let entry = entry.at("read", &path)?;
                let inside = directory.join(entry.file_name());
                match entry.file_type().at("look at", &path)? {
                    kind if kind.is_dir() => directories.push(inside),
                    kind if kind.is_symlink() => {
                        let leads_to = fs::read_link(entry.path()).unwrap_or_default();
                        if self.tree.is_link(&inside, &leads_to) {
                            links.push(inside);
                        }
                    }
                    _ => {}
                }
            }
        }
        links.sort();
        Ok(links)
    }

    /// Looks what a step has written. Returns what may have been the site itself.
    fn look(&mut self, step: &StepKind) -> Result<Vec<String>, PreparationError> {
        let (mut written, mut outputs, mut notices, mut touched) =
            (Vec::new(), Vec::new(), Vec::new(), false);
        for place in &mut self.places {
            let (staged, live) = (&self.tree.path, &self.tree.repository);
            let top = if place.is_copy { staged.join(&place.inside) } else { live.join(&place.inside) };
            // A place that is gone has nothing in it.
            let now = stamps(&top, usize::MAX).unwrap_or_default();
            let changed = changed(&place.stamps, &now);
            place.stamps = now;
            let changed = changed.into_iter().map(|path| match path.as_os_str().is_empty() {
                true => place.inside.clone(),
                false => place.inside.join(path),
            });
            let is_rewritten = |path: &PathBuf| are_same(&staged.join(path), &live.join(path));
            let changed: Vec<PathBuf> =
                changed.filter(|path| !place.is_copy || !is_rewritten(path).unwrap_or(false)).collect();
            let Some(first) = changed.first() else { continue };
            if place.is_quiet {
                touched |= !place.is_copy;
                outputs.push(place.inside.clone());
                written.extend(changed);
            } else {
                notices.push(format!(
                    "`{}` of the live site changed while step `{step}` ran; if the step wrote it, give the step `outputs = \
                     [\"{}\"]`",
                    first.display(),
                    place.inside.display()
                ));
            }
        }
        if written.is_empty() {
            return Ok(notices);
        }
        Err(PreparationError::StepReachesLive { step: step.clone(), written, outputs: few(outputs), touched })
    }

    /// Puts the links back.
    fn rejoin(&mut self) -> Result<(), FileError> {
        for place in std::mem::take(&mut self.places).iter().filter(|place| place.is_copy) {
            self.link(&place.inside)?;
        }
        Ok(())
    }
}

/// The copies do not outlive the steps.
impl Drop for Copies<'_> {
    fn drop(&mut self) {
        crate::error::warn(self.rejoin());
    }
}

/// Returns what is new, gone or another than before, caches of Python left out.
fn changed(before: &Stamps, now: &Stamps) -> Vec<PathBuf> {
    let differs = now.iter().filter(|(path, stamp)| before.get(*path) != Some(*stamp)).map(|(path, _)| path);
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    let mut paths: Vec<PathBuf> = differs.chain(gone).filter(|path| !is_bytecode(path)).cloned().collect();
    paths.sort();
    paths
}

fn is_bytecode(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pyc")
        || path.components().any(|part| part.as_os_str() == "__pycache__")
}

fn is_of_the_site(inside: &Path) -> bool {
    let name = inside.file_name().unwrap_or_default().to_string_lossy();
    has_part(inside, &OF_THE_SITE) || FILES_OF_THE_SITE.iter().any(|ending| name.ends_with(ending))
}

fn has_part(path: &Path, names: &[&str]) -> bool {
    path.components().any(|part| names.iter().any(|name| part.as_os_str() == *name))
}

/// Names the directory above many files instead of these.
fn few(places: Vec<PathBuf>) -> Vec<PathBuf> {
    let [first, .., last] = &places[..] else { return places };
    // They are sorted, so what these two share all share.
    let shared: PathBuf = first
        .components()
        .zip(last.components())
        .take_while(|(one, other)| one == other)
        .map(|(one, _)| one)
        .collect();
    if places.len() > 3 && !shared.as_os_str().is_empty() { vec![shared] } else { places }
}
