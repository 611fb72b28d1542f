//! What the new version's code wrote while it was prepared.

use super::{Failed, Preparation};
use crate::git::{GitError, NextTree, Written};
use crate::update::written::{Apart, Carrying};

/// How many changed files a notice names.
const SHOWN: usize = 5;

impl Preparation<'_, '_> {
    /// Finds it, and refuses what cannot be carried over in the window.
    pub(super) fn written(
        &mut self,
        tree: &NextTree,
        apart: Apart,
        migrates: bool,
    ) -> Result<Carrying, Failed> {
        let excluded = Vec::new();
        let found = Written::find(&self.host, tree, &excluded, &[])?;
        if let Some((path, why)) = found.in_the_way() {
            return Err(GitError::NotCarried { path: path.to_owned(), why }.into());
        }
        if !found.changed.is_empty() {
            let names = found.changed.iter().take(SHOWN).map(|path| format!("`{}`", path.display()));
            let (names, rest) =
                (names.collect::<Vec<_>>().join(", "), found.changed.len().saturating_sub(SHOWN));
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            self.notice(format!(
                "tracked files were changed in the staged tree while it was prepared; they go live as committed: {names}{more}"
            ));
        }
        let carrying = Carrying { found, apart, tree: tree.clone(), excluded, folder: self.folder() };
        let (links, new) = (carrying.found.links.as_slice(), carrying.found.new.as_slice());
        // What is new now is a link when the migrations run.
        let later = [links, new].concat();
        let code = carrying.at_code().map(|carry| (carry, links));
        let migrate = migrates.then(|| (carrying.at_migrate(), later.as_slice()));
        for (carry, links) in code.into_iter().chain(migrate).filter(|_| !self.request.only_plan) {
            carry.keep_links(links)?;
        }
        Ok(carrying)
    }
}
