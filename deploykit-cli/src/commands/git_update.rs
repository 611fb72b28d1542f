//! `git-update`: step 5 of the manual as a one-liner.

use deploykit::operations::Operation;
use deploykit::operations::git_update::{GitUpdate, LocalChanges, LocalCommits};
use deploykit::{Site, Umask};

use crate::args::{GitUpdateArgs, Global};
use crate::failure::Failure;
use crate::output::Ui;

pub fn run(global: &Global, args: &GitUpdateArgs, ui: Ui) -> Result<u8, Failure> {
    let repository = args.repository.as_deref().map(super::absolute);
    // From wherever it is called: the checkout of a site is moved as that site's.
    let site = match &repository {
        Some(repository) => {
            super::not_root_over_others(repository)?;
            let site = super::site_of(global, |environment| Site::of_repository(repository, environment))?;
            match &site {
                Some(site) => {
                    super::agrees(site, "--repository", repository, &site.config().site.repository)?
                }
                None => super::take(Umask::of_files(repository, None)),
            }
            site
        }
        None => Some(super::site_or(global, "`--repository DIRECTORY`")?),
    };
    let mut update = match (repository, &site) {
        (_, Some(site)) => site.git_update(args.revision.as_deref()),
        (repository, None) => {
            GitUpdate { revision: args.revision.clone(), ..GitUpdate::new(repository.unwrap_or_default()) }
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
    let _lock = if args.check.check { None } else { super::lock(site.as_ref(), &host, update.name())? };
    update.fetch(&host).map_err(|error| Failure::refused(&error))?;
    log::info!("{}: fetched", update.name());
    super::say(&super::apply_locked(&update, &host, args.check.check)?, args.check, ui)
}
