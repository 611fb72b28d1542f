//! `git-update`: step 5 of the manual as a one-liner.

use deploykit::operations::Operation;
use deploykit::operations::git_update::{GitUpdate, LocalChanges, LocalCommits};

use crate::args::{GitUpdateArgs, Global};
use crate::failure::Failure;
use crate::output::Ui;

pub fn run(global: &Global, args: &GitUpdateArgs, ui: Ui) -> Result<u8, Failure> {
    let site = if args.repository.is_some() { None } else { Some(super::site(global)?) };
    let mut update = match (&args.repository, &site) {
        (None, Some(site)) => site.git_update(args.revision.as_deref()),
        (repository, _) => {
            let repository = repository.clone().unwrap_or_default();
            let repository = std::path::absolute(&repository).unwrap_or(repository);
            GitUpdate { revision: args.revision.clone(), ..GitUpdate::new(repository) }
        }
    };
    if let Some(branch) = &args.branch {
        update.branch.clone_from(branch);
    }
    if let Some(remote) = &args.remote {
        update.remote.clone_from(remote);
    }
    if args.keep_changes {
        update.local_changes = LocalChanges::Keep;
    }
    if args.rebase {
        update.local_commits = LocalCommits::Rebase;
    }
    let host = super::host(site.as_ref())?;
    update.fetch(&host).map_err(|error| Failure::refused(&error))?;
    log::info!("{}: fetched", update.name());
    super::say(&super::apply(&update, site.as_ref(), &host, args.check)?, ui)
}
