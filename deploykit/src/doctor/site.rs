//! The configuration, the user, and the runs.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::findings::Findings;
use super::look::Look;
use crate::host::files;
use crate::host::users::own_name;
use crate::lock::{Holder, Lock, LockError};
use crate::report::find_source;
use crate::update::UpdateError;

pub(super) fn configuration(look: &mut Look<'_>, findings: &mut Findings) {
    let path = look.site.config().path.display();
    if let Err(error) = look.site.require_all() {
        findings.error(error, format!("add it to {path}; `deploykit docs KEY` describes a key"));
    }
    for (text, way_out) in look.site.lacks() {
        findings.problem(text, format!("{way_out} in {path}"));
    }
    if findings.is_empty() {
        findings.good(format!("{path}, {}", look.site.config().environment.as_str()));
    }
}

pub(super) fn user(look: &mut Look<'_>, findings: &mut Findings) {
    if let Err(error) = look.site.may_be_claimed() {
        findings.error(error, "run deploykit as the user that owns the checkout");
    }
    let user = own_name();
    for directory in unwritable(&places(look)) {
        let directory = directory.display();
        findings.problem(
            format!("{user} cannot write to `{directory}`, which an update changes"),
            format!("let {user} write to it, such as with `sudo chown {user} {directory}`"),
        );
    }
    if findings.is_empty() {
        findings.good(format!("{user} can write to what an update changes"));
    }
}

/// Returns the directories that an update writes to, besides those of the virtualenv, which the installer looks at.
fn places(look: &mut Look<'_>) -> Vec<PathBuf> {
    let config = look.site.config();
    let repository = &config.site.repository;
    let mut places = vec![repository.clone(), files::parent(repository).to_owned()];
    places.extend(config.maintenance.page.as_deref().map(|page| files::parent(page).to_owned()));
    let root = look.django().and_then(|django| django.facts.static_files.root.clone());
    places.extend(root.iter().flat_map(|root| [root.clone(), files::parent(root).to_owned()]));
    places
}

/// Returns those that this process cannot write to; for one that is missing, the nearest directory above it.
fn unwritable(places: &[PathBuf]) -> Vec<PathBuf> {
    let nearest = |place: &PathBuf| place.ancestors().find(|path| path.is_dir()).map(Path::to_owned);
    let can_write = |path: &PathBuf| access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let mut found: Vec<PathBuf> = places.iter().filter_map(nearest).filter(|path| !can_write(path)).collect();
    found.sort();
    found.dedup();
    found
}

pub(super) fn runs(look: &mut Look<'_>, findings: &mut Findings) {
    match Lock::holder(&look.state.lock()) {
        Some(holder @ Holder { paused: Some(_), .. }) => {
            findings.error(LockError::Held { holder: Some(holder) }, "let the run go on, or roll it back");
        }
        Some(holder) => {
            findings.problem(
                format!("the site is locked by {holder}"),
                "wait for its end: `deploykit status --follow` shows it",
            );
        }
        None => match look.state.unfinished() {
            Ok(None) => findings.good("none is running, paused or unfinished"),
            Ok(Some((run, entries))) => {
                findings.error(UpdateError::unfinished(run.name, &entries), "`deploykit recover`");
            }
            Err(error) => {
                let denied = find_source::<io::Error>(&error)
                    .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
                let way_out =
                    if denied { "run this as the user who updates the site" } else { "`deploykit status`" };
                findings.error(error, way_out);
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_missing_counts_as_the_one_above_it() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("static/root");
        assert_eq!(unwritable(&[missing]), Vec::<PathBuf>::new());
        // Nobody, not even root, can write there.
        let twice = ["/proc/1/fdinfo".into(), "/proc/1/fdinfo".into()];
        assert_eq!(unwritable(&twice), ["/proc/1/fdinfo".to_owned()].map(PathBuf::from));
    }
}
