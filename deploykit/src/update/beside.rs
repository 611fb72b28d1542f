//! What a preparation puts beside the site. It goes when it is needed no more, whichever way that comes about.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use crate::bridge::Bridge;
use crate::django::{self, Project};
use crate::error::warn;
use crate::git::{self, PathChange, StagedTree};
use crate::host::{Host, files};
use crate::names;
use crate::python;
use crate::site::Site;
use crate::state::State;

/// The staged tree and the static files beside the live ones; put away with this value.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// With the place where it waits for the next preparation.
    tree: Option<(StagedTree, PathBuf)>,
    directories: Vec<PathBuf>,
    /// Files of the live checkout that the update replaces.
    open: Vec<OwnedFd>,
    /// Left where it is: a window is open, or a recovery still needs it.
    pub stays: bool,
}

impl Beside {
    pub(super) fn new(tree: StagedTree, parked: PathBuf) -> Self {
        Beside { tree: Some((tree, parked)), directories: Vec::new(), open: Vec::new(), stays: false }
    }

    /// Removes this directory, too.
    pub(super) fn add(&mut self, directory: PathBuf) {
        self.directories.push(directory);
    }

    /// Keeps files open until the window is over that the update replaces: only then they are freed, which takes up to a
    /// millisecond each where the disk is told of it at once (`discard`).
    ///
    /// Only on ext and XFS: on others, as NFS, an open file gets another name when it is removed, and is in the way.
    pub(super) fn keep_open(&mut self, top: &Path, changes: &[PathChange]) {
        let kind = rustix::fs::statfs(top).map(|found| found.f_type);
        if kind.is_ok_and(|kind| [EXT, XFS].contains(&kind)) {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = |path| rustix::fs::open(top.join(path), flags, Mode::empty()).ok();
            self.open.extend(changes.iter().flat_map(PathChange::paths).filter_map(open).take(MOST_OPEN));
        }
    }

    /// Puts it all away. A leftover is no failure of an update.
    pub(super) fn put_away(&self) {
        if let Some((tree, parked)) = &self.tree {
            warn(tree.park(&Host::new(), parked));
        }
        for directory in &self.directories {
            warn(files::remove_tree(directory));
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.stays {
            self.put_away();
        }
    }
}

/// What `statfs` says of file systems. Source: `linux/magic.h`.
const EXT: rustix::fs::FsWord = 0xef53;
const XFS: rustix::fs::FsWord = 0x5846_5342;

/// Half of what a process may usually have open.
const MOST_OPEN: usize = 512;

/// How often, and for how long, the Django of a killed preparation is waited for.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// That a preparation is under way, on the disk: it is only left there by one that was killed.
#[derive(Debug)]
pub(super) struct Mark {
    state: State,
    directories: Vec<PathBuf>,
}

impl Mark {
    /// Makes the mark, before the first change of anything. What is there already, although no preparation is marked, is a
    /// user's own.
    pub(super) fn set(site: &Site) -> Result<Self, files::FileError> {
        let tree = StagedTree {
            repository: site.config().site.repository.clone(),
            path: site.staged_tree(),
            commit: String::new(),
        };
        if !tree.is_known() {
            files::nothing_at(&tree.path)?;
        }
        let mark = Mark { state: site.state(), directories: vec![site.staged_tree()] };
        mark.state.set_beside(&mark.directories)?;
        Ok(mark)
    }

    /// Says that this directory will be made.
    pub(super) fn add(&mut self, directory: PathBuf) -> Result<(), files::FileError> {
        files::nothing_at(&directory)?;
        self.directories.push(directory);
        self.state.set_beside(&self.directories)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        warn(self.state.forget_beside());
    }
}

/// Puts away what a preparation left that was killed, or a run after its end. The caller has the lock, and no run is
/// unfinished.
pub(super) fn sweep(site: &Site, state: &State, host: &Host) {
    let Some(directories) = state.beside() else { return };
    let config = site.config();
    // Its Django may still write there; it ends by itself.
    let tree = site.in_tree(&config.site.project, &site.staged_tree());
    let project: Vec<Project> =
        site.project().into_iter().map(|project| Project { directory: tree.clone(), ..project }).collect();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && !django::orphans(&project).is_empty() && host.wait(LOOK) {}
    let repository = config.site.repository.clone();
    warn(git::remove_left_locks(&repository));
    warn(StagedTree { repository, path: site.staged_tree(), commit: String::new() }.remove(host));
    for directory in directories.iter().filter(|directory| names::is_beside(directory, names::NEXT)) {
        warn(files::remove_tree(directory));
    }
    end_bridge(&state.bridge());
    end_bridge(&state.old_bridge());
    warn(files::remove_tree(&state.rehearsal()));
    if let Some(run) = state.runs().unwrap_or_default().last() {
        warn(django::remove_half_copy(&run.path));
    }
    let virtualenv = config.python.virtualenv.as_deref();
    for directory in [state.directory(), &state.virtualenvs()] {
        if let Some(virtualenv) = virtualenv {
            warn(python::remove_half_built(directory, virtualenv));
        }
    }
    let page = config.maintenance.page.iter().map(|page| files::parent(page));
    let environments = state.virtualenvs();
    let own = [state.directory(), &environments];
    for directory in page.chain(virtualenv.map(files::parent)).chain(own) {
        warn(files::remove_temporary(directory));
    }
    warn(state.forget_beside());
}

/// Ends a web server that waits at its gate, or whose run is over.
fn end_bridge(directory: &Path) {
    match Bridge::left_in(directory) {
        Ok(Some(bridge)) => warn(bridge.end()),
        Ok(None) => warn(files::remove_tree(directory)),
        // It may serve, and could not be ended without its record.
        Err(error) => warn(Err::<(), _>(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::ChangeStatus;
    use std::fs;
    use std::os::fd::AsRawFd;

    #[test]
    fn files_that_are_replaced_are_freed_later() {
        let directory = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(directory.path()).unwrap();
        let change = |name: &str, status| PathChange { path: name.into(), status, submodule: false };
        let changes = [change("changed", ChangeStatus::Modified), change("new", ChangeStatus::Added)];
        fs::write(top.join("changed"), "").unwrap();
        let mut beside = Beside::default();
        beside.keep_open(&top, &changes);
        fs::remove_file(top.join("changed")).unwrap();
        let kept = beside.open.iter().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()));
        let kept: Vec<PathBuf> = kept.map(|link| fs::read_link(link).unwrap()).collect();
        let kind = rustix::fs::statfs(&top).unwrap().f_type;
        // File systems of another kind may rename what is open.
        let expected = [EXT, XFS].contains(&kind).then(|| top.join("changed (deleted)"));
        assert_eq!(kept, Vec::from_iter(expected));
    }
}
