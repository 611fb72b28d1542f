//! What the site's own steps of the preparation make: it is the staged tree's own, and goes live in the window.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Failed, Preparation};
use crate::django::SiteFacts;
use crate::git::{StagedTree, Tree};
use crate::host::Host;
use crate::host::Swap;
use crate::host::copies::{copy, differences};
use crate::host::files::{self, Found, InPath, look};
use crate::host::trial;
use crate::names;
use crate::update::answers::Output;
use crate::update::error::{PreparationError, paths};

/// What was copied from the live tree.
pub(super) type Seeded = BTreeSet<PathBuf>;

/// The outputs of all steps, in the staged tree.
struct Outputs<'t> {
    tree: &'t StagedTree,
    /// The commits before and after: what either tracks is git's.
    commits: [Tree; 2],
}

impl Preparation<'_, '_> {
    /// Returns the paths that steps of the preparation make, from the top of the checkout.
    pub(super) fn declared_outputs(&self) -> Vec<PathBuf> {
        let steps = self.site.config().steps.iter();
        let outputs: BTreeSet<&PathBuf> = steps.flat_map(|step| &step.outputs).collect();
        outputs.into_iter().cloned().collect()
    }

    /// Fails if git tracks files in a cache: they come with a commit.
    pub(super) fn caches_are_not_tracked(&self, caches: &[PathBuf]) -> Result<(), Failed> {
        let next = Tree::open(&self.site.config().site.repository, &self.to)?;
        match caches.iter().find(|cache| next.holds(cache)) {
            Some(cache) => Err(PreparationError::CacheTracked { cache: cache.clone() }.into()),
            None => Ok(()),
        }
    }

    /// Gives the staged tree what is live of the outputs, to start from.
    pub(super) fn seed_outputs(&self, tree: &StagedTree) -> Result<Seeded, Failed> {
        let (outputs, mut seeded) = (self.outputs(tree)?, Seeded::new());
        for path in self.declared_outputs() {
            outputs.can_be_exchanged(&path)?;
            outputs.seed(&self.host, &path, &mut seeded)?;
        }
        Ok(seeded)
    }

    /// Lets the live outputs stay where nothing is new that the steps could have made others of: what differs then is the time
    /// or the chance in what a build writes, and no reason for a window. What is missing in the live checkout is another matter.
    pub(super) fn keep_outputs(&mut self, tree: &StagedTree, seeded: &Seeded) -> Result<(), Failed> {
        if self.declared_outputs().is_empty() || !self.is_built_of_the_same() {
            return Ok(());
        }
        let outputs = self.outputs(tree)?;
        let mut made = Vec::new();
        for path in self.declared_outputs() {
            outputs.made(&path, seeded, &mut made)?;
        }
        made.retain(|output| look(&output.swap.live) != Found::Nothing);
        for Output { swap, .. } in &made {
            files::remove_tree(&swap.aside)?;
            copy(&self.host, &swap.live, &swap.aside)?;
        }
        if !made.is_empty() {
            let different: Vec<PathBuf> = made.iter().flat_map(Output::files).collect();
            self.notice(format!(
                "outputs of the site's own steps differ and stay as they are, for the commit, the packages and the configuration \
                 are unchanged: {}",
                paths(&different)
            ));
        }
        Ok(())
    }

    /// Returns what the steps made that is another than what is live.
    pub(super) fn made_outputs(
        &self,
        tree: &StagedTree,
        seeded: &Seeded,
        facts: &SiteFacts,
    ) -> Result<Vec<Output>, Failed> {
        let (outputs, mut made) = (self.outputs(tree)?, Vec::new());
        for path in self.declared_outputs() {
            outputs.holds_no_data(&path, facts)?;
            outputs.made(&path, seeded, &mut made)?;
        }
        made.iter().try_for_each(|output| outputs.try_to_move(output))?;
        Ok(made)
    }

    fn outputs<'t>(&self, tree: &'t StagedTree) -> Result<Outputs<'t>, Failed> {
        let open = |commit: &str| Tree::open(&tree.repository, commit);
        Ok(Outputs { tree, commits: [open(&self.from)?, open(&self.to)?] })
    }
}

impl Output {
    /// Returns the files that differ, from the top of the checkout.
    pub(in crate::update) fn files(&self) -> Vec<PathBuf> {
        let path = |inside: &PathBuf| self.path.components().chain(inside.components()).collect();
        self.different.iter().map(path).collect()
    }
}

impl Outputs<'_> {
    fn is_tracked(&self, path: &Path) -> bool {
        self.commits.iter().any(|commit| commit.holds(path))
    }

    /// An output goes live by an exchange: a link or another file system on the way to it would be exchanged instead, or not
    /// at all.
    fn can_be_exchanged(&self, path: &Path) -> Result<(), PreparationError> {
        let refuse = |why: &'static str| PreparationError::OutputElsewhere { output: path.to_owned(), why };
        let device = |path: &Path| fs::symlink_metadata(path).ok().map(|found| found.dev());
        let top = device(&self.tree.path);
        for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
            let live = self.tree.repository.join(part);
            match look(&live) {
                Found::Nothing => {}
                Found::Link(_) => return Err(refuse("a symbolic link leads there")),
                _ if device(&live) != top => {
                    return Err(refuse("it is on another file system than the checkout"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The window will exchange it: whether that can be is tried.
    fn try_to_move(&self, output: &Output) -> Result<(), Failed> {
        let live = &output.swap.live;
        match look(live) {
            Found::Directory => {
                Ok(trial::can_be_moved(live, &names::beside(&self.tree.path.join("output"), names::TRIAL))?)
            }
            Found::File => match trial::why_not_replaced(live) {
                Some(why) => {
                    Err(PreparationError::OutputElsewhere { output: output.path.clone(), why }.into())
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// What the site writes must not be exchanged with a copy.
    fn holds_no_data(&self, path: &Path, facts: &SiteFacts) -> Result<(), PreparationError> {
        let places = [self.tree.path.join(path), self.tree.repository.join(path)];
        let databases = facts.databases.iter().filter_map(|database| database.file.as_ref());
        let static_root = facts.static_files.root.as_ref();
        let what = [
            ("a database", databases.collect::<Vec<_>>()),
            ("uploads", facts.uploads.iter().collect()),
            ("STATIC_ROOT", static_root.into_iter().collect()),
        ];
        for (what, found) in what {
            if found.iter().any(|found| places.iter().any(|place| found.starts_with(place))) {
                return Err(PreparationError::OutputHolds { output: path.to_owned(), what });
            }
        }
        Ok(())
    }

    fn seed(&self, host: &Host, path: &Path, seeded: &mut Seeded) -> Result<(), Failed> {
        let (live, staged) = (self.tree.repository.join(path), self.tree.path.join(path));
        let found = look(&live);
        if found == Found::Nothing || is_cache(path) {
            return Ok(());
        }
        if !self.is_tracked(path) {
            if look(&staged) == Found::Nothing {
                let directory = files::parent(&staged);
                fs::create_dir_all(directory).at("create the directory", directory)?;
                copy(host, &live, &staged)?;
                seeded.insert(path.to_owned());
            }
            return Ok(());
        }
        if found == Found::Directory {
            for entry in fs::read_dir(&live).at("read", &live)? {
                let name = entry.at("read", &live)?.file_name();
                self.seed(host, &path.join(name), seeded)?;
            }
        }
        Ok(())
    }

    fn made(&self, path: &Path, seeded: &Seeded, made: &mut Vec<Output>) -> Result<(), Failed> {
        let (live, staged) = (self.tree.repository.join(path), self.tree.path.join(path));
        if is_cache(path) {
            return Ok(());
        }
        if !self.is_tracked(path) {
            return self.made_whole(path, seeded, made);
        }
        let mut names = BTreeSet::new();
        for directory in [&live, &staged] {
            if look(directory) == Found::Directory {
                for entry in fs::read_dir(directory).at("read", directory)? {
                    names.insert(entry.at("read", directory)?.file_name());
                }
            }
        }
        names.into_iter().try_for_each(|name| self.made(&path.join(name), seeded, made))
    }

    /// Compares an output of which git tracks nothing.
    fn made_whole(&self, path: &Path, seeded: &Seeded, made: &mut Vec<Output>) -> Result<(), Failed> {
        let at = |path: &Path| (self.tree.repository.join(path), self.tree.path.join(path));
        let (live, staged) = at(path);
        let mut different = vec![PathBuf::new()];
        let (swap, back) = match (look(&live), look(&staged)) {
            (Found::Nothing, Found::Nothing) => return Ok(()),
            // It came in meanwhile, and no step has seen it.
            (_, Found::Nothing) if !seeded.contains(path) => return Ok(()),
            (_, Found::Nothing) => {
                let swap = |wanted| Swap { live: live.clone(), aside: staged.clone(), wanted };
                (swap(None), swap(files::inode(&live)))
            }
            (Found::Nothing, _) => {
                // A directory above it that only the staged tree has goes live with it.
                let is_missing = |path: &&Path| {
                    !self.is_tracked(path) && look(&self.tree.repository.join(path)) == Found::Nothing
                };
                let above = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
                let path = above.take_while(is_missing).last().unwrap_or(path);
                let (live, staged) = at(path);
                if made.iter().any(|output| output.path == path) {
                    return Ok(());
                }
                let (swap, back) = Swap::pair(&live, &staged)?;
                made.push(Output { path: path.to_owned(), different, swap, back });
                return Ok(());
            }
            _ => {
                different = differences(&live, &staged)?;
                if different.is_empty() {
                    return Ok(());
                }
                Swap::pair(&live, &staged)?
            }
        };
        made.push(Output { path: path.to_owned(), different, swap, back });
        Ok(())
    }
}

/// What Python makes for itself is not looked at.
fn is_cache(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "__pycache__" || name == ".git")
        || path.extension().is_some_and(|extension| extension == "pyc")
}
