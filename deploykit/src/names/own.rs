//! The names of what deploykit makes outside its state directory: beside a directory of the site, or inside one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// How the name of anything beside a directory of the site goes on after the directory's own name.
const MARK: &str = ".deploykit-";

/// Purpose: what will replace the directory.
pub(crate) const NEXT: &str = "next";

/// Purpose: a directory that a link has replaced. Further ones have a number.
pub(crate) const ORIGINAL: &str = "original";

/// Purpose: whose the directory is.
pub(crate) const SITE: &str = "site";

/// Purpose: a test whether the directory can be moved.
pub(crate) const TRIAL: &str = "trial";

/// Marks a virtualenv as complete.
pub(crate) const COMPLETE: &str = ".deploykit-complete";

/// The directory inside a virtualenv that stays where it is, for its next and its previous packages.
pub(crate) const PACKAGES: &str = ".deploykit-packages";

/// Something half copied from another file system, or half removed after that. There is one at a time in a directory.
pub(crate) const CARRY: &str = ".deploykit-carry.unfinished";

/// The start and the end of the names of temporary files, and how many random letters are between them.
pub(crate) const TEMPORARY: &str = ".deploykit-";
pub(crate) const UNFINISHED: &str = ".unfinished";
pub(crate) const LETTERS: usize = 10;

/// Returns the hidden neighbour of a directory for a purpose, which may be the name of a run: `/srv/.site.deploykit-next`.
pub(crate) fn beside(directory: &Path, purpose: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(directory.file_name().unwrap_or_default());
    name.push(MARK);
    name.push(purpose);
    directory.with_file_name(name)
}

/// Tells whether a path was made by [`beside`] for a purpose.
pub(crate) fn is_beside(path: &Path, purpose: &str) -> bool {
    purpose_of(path.file_name().unwrap_or_default()).is_some_and(|found| found == purpose)
}

/// Returns the name of the temporary link of a process.
pub(crate) fn temporary_link(pid: u32) -> String {
    format!("{TEMPORARY}link-{pid}{UNFINISHED}")
}

/// Tells the name of a temporary file from one that a user might have chosen.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let name = name.strip_suffix(".txt").unwrap_or(name);
    let inner = name.strip_prefix(TEMPORARY).and_then(|name| name.strip_suffix(UNFINISHED));
    inner.is_some_and(|inner| match inner.strip_prefix("link-") {
        Some(pid) => pid.parse::<u32>().is_ok(),
        None => inner.len() == LETTERS && inner.bytes().all(|byte| byte.is_ascii_alphanumeric()),
    })
}

/// Tells whether deploykit itself makes files of this name: its state, what it puts beside the directories of a site for a
/// run or a rollback, temporary files, and markers.
pub(crate) fn is_own(name: &OsStr) -> bool {
    let inside = [".deploykit", COMPLETE, PACKAGES, CARRY];
    inside.iter().any(|own| name == *own) || is_temporary(name) || purpose_of(name).is_some()
}

/// Returns the purpose in a name that [`beside`] made.
fn purpose_of(name: &OsStr) -> Option<String> {
    let name = name.to_string_lossy();
    let (directory, purpose) = name.rsplit_once(MARK)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_known = [NEXT, ORIGINAL, SITE, TRIAL].contains(&purpose)
        || match purpose.split_once('-') {
            Some((ORIGINAL, number)) => is_number(number),
            Some((day, run)) => day.len() == 8 && is_number(day) && is_number(run),
            None => false,
        };
    (directory.len() > 1 && directory.starts_with('.') && is_known).then(|| purpose.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_deploykit_gives_are_its_own() {
        let own = [
            ".deploykit",
            ".deploykit-complete",
            ".deploykit-a1B2c3D4e5.unfinished",
            ".deploykit-a1B2c3D4e5.unfinished.txt",
            ".deploykit-link-4711.unfinished",
            ".deploykit-carry.unfinished",
            ".site.deploykit-next",
            ".site.requirements.deploykit-next",
            ".static.deploykit-next",
            ".static.deploykit-20261122-1",
            ".my site.deploykit-20261122-12",
            "..venv.deploykit-original",
            ".venv.deploykit-original-2",
            ".venv.deploykit-site",
            ".output.deploykit-trial",
        ];
        own.iter().for_each(|name| assert!(is_own(OsStr::new(name)), "{name}"));
        let others = [
            "deploykit.toml",
            "deploykit",
            "my.deploykit",
            ".deploykit-backup",
            ".deploykit-notes.unfinished",
            ".deploykit.old",
            "static.deploykit-next",
            "..deploykit-next",
            ".static.deploykit-copy",
            ".static.deploykit-2026-1",
            ".static.deploykit-20261122-",
            ".venv.deploykit-original-",
            ".venv.deploykit-original.py",
        ];
        others.iter().for_each(|name| assert!(!is_own(OsStr::new(name)), "{name}"));
    }

    #[test]
    fn a_neighbour_is_known_by_its_purpose() {
        for directory in ["/srv/site", "/srv/a.deploykit-next", "/srv/.venv", "/srv/caf\u{e9}"].map(Path::new)
        {
            for purpose in [NEXT, ORIGINAL, SITE, TRIAL, "20261122-1"] {
                let beside = beside(directory, purpose);
                assert!(is_own(beside.file_name().unwrap()) && is_beside(&beside, purpose), "{beside:?}");
                assert_eq!(beside.parent(), directory.parent());
                assert!(!is_beside(&beside, "other"));
            }
        }
    }
}
