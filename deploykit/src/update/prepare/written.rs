//! What the new version's code wrote while it was prepared.

use std::path::PathBuf;

use super::{Failed, Preparation};
use crate::git::{GitError, StagedTree, Written};
use crate::runner::error_chain;
use crate::update::answers::Output;
use crate::update::written::{Apart, Carrying};

/// How many changed files a notice names.
const SHOWN: usize = 5;

impl Preparation<'_, '_> {
    /// Finds it, and refuses what cannot be carried over in the window.
    pub(super) fn written(
        &mut self,
        tree: &StagedTree,
        apart: Apart,
        outputs: &[Output],
        static_root: Option<PathBuf>,
        migrates: bool,
    ) -> Result<Carrying, Failed> {
        // What the site's own steps make goes live another way.
        let made = outputs.iter().map(|output| output.path.clone());
        let caches = self.site.config().steps.iter().flat_map(|step| step.cache.iter().cloned());
        let excluded: Vec<PathBuf> = self.declared_outputs().into_iter().chain(made).chain(caches).collect();
        let found = Written::find(&self.host, tree, &excluded, &[])?;
        if let Some((path, why)) = found.in_the_way() {
            return Err(GitError::NotCarried { path: path.to_owned(), why }.into());
        }
        match Written::changed(&self.host, tree, &excluded) {
            Ok(changed) if changed.is_empty() => {}
            Ok(changed) => {
                let names = changed.iter().take(SHOWN).map(|path| format!("`{}`", path.display()));
                let names = names.collect::<Vec<_>>().join(", ");
                let rest = changed.len().saturating_sub(SHOWN);
                let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                self.notice(format!(
                    "tracked files were changed in the staged tree while it was prepared; they go live as committed: {names}{more}"
                ));
            }
            Err(error) => self.notice(format!(
                "whether tracked files were changed in the staged tree is not known: {}",
                error_chain(&error)
            )),
        }
        let carrying =
            Carrying { found, apart, static_root, tree: tree.clone(), excluded, directory: self.directory() };
        let (links, new) = (carrying.found.links.as_slice(), carrying.found.new.as_slice());
        // What is new now is a link when the migrations run.
        let later = [links, new].concat();
        let early =
            [carrying.at_code(), carrying.at_static()].into_iter().flatten().map(|carry| (carry, links));
        let migrate = migrates.then(|| (carrying.at_migrate(), later.as_slice()));
        for (carry, links) in early.chain(migrate).filter(|_| !self.request.only_plan) {
            carry.keep_links(links)?;
        }
        Ok(carrying)
    }
}
