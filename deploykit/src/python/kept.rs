//! What is kept of the previous packages and virtualenvs where there is no site.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::PythonError;
use super::switch::prune;
use crate::names::PACKAGES;

/// Removes all previous packages of changes in place, except the newest, and all virtualenvs in `virtualenvs`, except the live one
/// and `previous`. Returns the directory of the packages that are kept.
///
/// # Errors
///
/// When the system refuses.
pub fn keep_newest(
    virtualenv: &Path,
    virtualenvs: &Path,
    previous: Option<PathBuf>,
) -> Result<Option<PathBuf>, PythonError> {
    let places = fs::read_dir(virtualenv.join(PACKAGES)).into_iter().flatten().flatten();
    let made = |place: &PathBuf| {
        fs::metadata(place).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let newest = places.map(|place| place.path()).max_by_key(made);
    let keep: Vec<PathBuf> = newest.iter().cloned().chain(previous).collect();
    prune(virtualenvs, virtualenv, &keep)?;
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_packages_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let live = directory.path().join("venv");
        let virtualenvs = directory.path().join(".venv.environments");
        assert_eq!(keep_newest(&live, &virtualenvs, None).unwrap(), None);
        let place = |name: &str| live.join(PACKAGES).join(name);
        for (age, name) in [(2, "b"), (1, "c"), (3, "a")] {
            fs::create_dir_all(place(name)).unwrap();
            let made = SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::open(place(name)).unwrap().set_modified(made).unwrap();
        }
        let staged = ["0", "1"].map(|digit| virtualenvs.join(digit.repeat(16)));
        staged.iter().for_each(|staged| fs::create_dir_all(staged).unwrap());
        let kept = keep_newest(&live, &virtualenvs, Some(staged[1].clone())).unwrap();
        assert_eq!(kept, Some(place("c")));
        assert_eq!(staged.map(|staged| staged.exists()), [false, true]);
        assert_eq!(["a", "b", "c"].map(|name| place(name).exists()), [false, false, true]);
    }
}
