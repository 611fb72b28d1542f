//! The previous packages that changes in place keep in a virtualenv without a site.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::PythonError;
use super::in_place;
use crate::names::PACKAGES;

/// Removes all previous packages that changes in place have kept, except the newest; returns where these are.
///
/// # Errors
///
/// When the system refuses.
pub fn keep_newest(virtualenv: &Path) -> Result<Option<PathBuf>, PythonError> {
    let places = fs::read_dir(virtualenv.join(PACKAGES)).into_iter().flatten().flatten();
    let made = |place: &PathBuf| {
        fs::metadata(place).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let newest = places.map(|place| place.path()).max_by_key(made);
    in_place::prune(virtualenv, |place| Some(place) == newest.as_ref())?;
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_packages_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(keep_newest(directory.path()).unwrap(), None);
        let place = |name: &str| directory.path().join(PACKAGES).join(name);
        for (age, name) in [(2, "b"), (1, "c"), (3, "a")] {
            fs::create_dir_all(place(name)).unwrap();
            let made = SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::open(place(name)).unwrap().set_modified(made).unwrap();
        }
        assert_eq!(keep_newest(directory.path()).unwrap(), Some(place("c")));
        assert_eq!(["a", "b", "c"].map(|name| place(name).exists()), [false, false, true]);
    }
}
