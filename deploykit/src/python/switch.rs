//! Brings a virtualenv to the path that the site uses, and back.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::PythonError;
use super::in_place;
use super::marker::Marker;
use super::sources::point;
use super::virtualenv::site_packages;
use crate::host::files::{self, Found, InPath};
use crate::names;

/// What is to be at the virtualenv's path. At every instant something is there.
///
/// A virtualenv that is a real directory is put away beside its path, and restored to exactly that path, which its
/// scripts contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The path that the site uses.
    #[serde(with = "crate::names::one")]
    pub virtualenv: PathBuf,
    /// What it is to be.
    pub target: Target,
    /// Where the directory is, or is to be, that a link replaces.
    #[serde(with = "crate::names::one")]
    pub kept: PathBuf,
    /// The staged tree and the checkout, for packages of the checkout that are to be imported from there once this is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<[PathBuf; 2]>,
}

/// What can be at a virtualenv's path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A link to a virtualenv that deploykit built.
    #[serde(alias = "environment")]
    Virtualenv(#[serde(with = "crate::names::one")] PathBuf),
    /// A link as it was found, wherever it leads to.
    Link(#[serde(with = "crate::names::one")] PathBuf),
    /// The directory that was put away.
    #[serde(alias = "folder")]
    Directory,
    /// The virtualenv stays; its packages are exchanged for those at this place inside it.
    InPlace {
        /// Where the next packages are, and those from before once the next ones are live.
        #[serde(with = "crate::names::one")]
        place: PathBuf,
        /// Whether the next ones are to be live.
        next: bool,
    },
}

impl Switch {
    /// Returns the virtualenv that it brings to the live path, or the place of packages; `None`: the original directory.
    #[must_use]
    pub fn staged(&self) -> Option<PathBuf> {
        match &self.target {
            Target::Virtualenv(staged) => Some(staged.clone()),
            Target::Link(to) => Some(files::parent(&self.virtualenv).join(to)),
            Target::InPlace { place, .. } => Some(place.clone()),
            Target::Directory => None,
        }
    }

    /// Returns the directories and links that it replaces.
    pub(crate) fn replaces(&self) -> Vec<PathBuf> {
        match self.target {
            Target::InPlace { .. } => {
                site_packages(&self.virtualenv).into_iter().map(|(_, directory)| directory).collect()
            }
            _ => vec![self.virtualenv.clone()],
        }
    }

    /// Tells whether the virtualenv stays where it is.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self.target, Target::InPlace { .. })
    }

    /// Returns what it makes that was not there: paths, the last part of which may end with `*`.
    #[must_use]
    pub fn makes(&self) -> Vec<PathBuf> {
        if self.is_in_place() {
            return vec![self.virtualenv.join(names::PACKAGES)];
        }
        let mut original = kept_path(&self.virtualenv, 1).into_os_string();
        original.push("*");
        let virtualenvs = self.staged().and_then(|path| Some(path.parent()?.to_owned()));
        [self.virtualenv.clone(), original.into()].into_iter().chain(virtualenvs).collect()
    }

    /// Makes the switch to the packages at a place in a virtualenv that stays, and the one that undoes it.
    pub(crate) fn in_place(virtualenv: &Path, place: &Path) -> (Switch, Switch) {
        let switch = |next| Switch {
            virtualenv: virtualenv.to_owned(),
            target: Target::InPlace { place: place.to_owned(), next },
            kept: place.to_owned(),
            sources: None,
        };
        (switch(true), switch(false))
    }

    /// Makes the switch to a virtualenv and the one that undoes it.
    ///
    /// # Errors
    ///
    /// When there is no virtualenv.
    pub fn pair(virtualenv: &Path, staged: &Path) -> Result<(Switch, Switch), PythonError> {
        let now = match files::look(virtualenv) {
            Found::Link(to) => Target::Link(to),
            Found::Directory => Target::Directory,
            Found::Nothing => return Err(PythonError::NoVirtualenv { path: virtualenv.to_owned() }),
            Found::File => return Err(PythonError::NotAVirtualenv { path: virtualenv.to_owned() }),
        };
        let kept = (1..)
            .map(|count| kept_path(virtualenv, count))
            .find(|path| files::look(path) != Found::Directory)
            .unwrap_or_default();
        let switch =
            |target| Switch { virtualenv: virtualenv.to_owned(), target, kept: kept.clone(), sources: None };
        Ok((switch(Target::Virtualenv(staged.to_owned())), switch(now)))
    }

    /// Makes it so.
    ///
    /// # Errors
    ///
    /// When the virtualenv is not complete, the old directory is gone, or the system refuses.
    pub fn perform(&self) -> Result<(), PythonError> {
        if !self.is_in_place() {
            self.look()?;
        }
        if let (Some([from, to]), Target::Virtualenv(staged)) = (&self.sources, &self.target) {
            let incomplete = || PythonError::Incomplete { staged: staged.clone() };
            let mut marker = Marker::read(staged).ok_or_else(incomplete)?;
            // No preparation uses it from here on, even if this is interrupted halfway.
            marker.tree = PathBuf::new();
            marker.write(staged)?;
            point(staged, from, to)?;
            marker.tree.clone_from(to);
            marker.write(staged)?;
        }
        match &self.target {
            Target::Virtualenv(to) | Target::Link(to) => self.link(to),
            Target::Directory => self.directory(),
            Target::InPlace { place, next } => in_place::bring(&self.virtualenv, place, *next),
        }
    }

    /// Tells whether it is so.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match (&self.target, files::look(&self.virtualenv)) {
            (Target::Virtualenv(to) | Target::Link(to), Found::Link(now)) => now == *to,
            (Target::Directory, found) => found == Found::Directory,
            (Target::InPlace { place, next }, _) => in_place::is_live(place) == *next,
            _ => false,
        }
    }

    /// Checks that what is to be live exists.
    ///
    /// # Errors
    ///
    /// When the virtualenv is not complete, or the old directory is gone.
    pub fn look(&self) -> Result<(), PythonError> {
        let (place, mark) = match &self.target {
            Target::Virtualenv(staged) => (staged.clone(), names::COMPLETE),
            Target::Link(to) => (files::parent(&self.virtualenv).join(to), "pyvenv.cfg"),
            Target::Directory if self.is_done() || files::look(&self.kept) == Found::Directory => {
                return Ok(());
            }
            Target::InPlace { place, .. } if in_place::is_ready(place) => return Ok(()),
            Target::Directory | Target::InPlace { .. } => {
                return Err(PythonError::OriginalGone { kept: self.kept.clone() });
            }
        };
        if place.join(mark).is_file() {
            return Ok(());
        }
        Err(PythonError::Incomplete { staged: place })
    }

    fn link(&self, to: &Path) -> Result<(), PythonError> {
        match files::look(&self.virtualenv) {
            Found::Link(now) if now == to => self.tidy(),
            Found::Directory => {
                files::link(&self.kept, to)?;
                if exchange(&self.virtualenv, &self.kept)? {
                    return Ok(());
                }
                // Whatever is half done of this, `directory` and this itself find what is missing.
                files::remove_file(&self.kept)?;
                files::rename(&self.virtualenv, &self.kept)?;
                Ok(files::link(&self.virtualenv, to)?)
            }
            _ => Ok(files::link(&self.virtualenv, to)?),
        }
    }

    fn directory(&self) -> Result<(), PythonError> {
        match (files::look(&self.virtualenv), files::look(&self.kept)) {
            (Found::Directory, _) => {}
            (Found::Nothing, Found::Directory) => files::rename(&self.kept, &self.virtualenv)?,
            (_, Found::Directory) => {
                if !exchange(&self.virtualenv, &self.kept)? {
                    files::remove_file(&self.virtualenv)?;
                    files::rename(&self.kept, &self.virtualenv)?;
                }
            }
            _ => return Err(PythonError::OriginalGone { kept: self.kept.clone() }),
        }
        self.tidy()
    }

    /// Removes the link that waits for an exchange, or that remained of one.
    fn tidy(&self) -> Result<(), PythonError> {
        match files::look(&self.kept) {
            Found::Link(_) => Ok(files::remove_file(&self.kept)?),
            _ => Ok(()),
        }
    }
}

/// Exchanges two paths. `false`: the file system cannot. Then they are renamed one after another, and nothing is there for a moment.
fn exchange(one: &Path, other: &Path) -> Result<bool, PythonError> {
    match files::exchange(one, other) {
        Ok(()) => Ok(true),
        Err(error) if files::cannot_exchange(&error) => Ok(false),
        Err(error) => Err(match error.source.raw_os_error() {
            Some(code)
                if code == rustix::io::Errno::BUSY.raw_os_error()
                    || code == rustix::io::Errno::XDEV.raw_os_error() =>
            {
                PythonError::DifferentFileSystem { path: one.to_owned() }
            }
            _ => error.into(),
        }),
    }
}

fn kept_path(virtualenv: &Path, count: usize) -> PathBuf {
    match count {
        1 => names::beside(virtualenv, names::ORIGINAL),
        _ => names::beside(virtualenv, &format!("{}-{count}", names::ORIGINAL)),
    }
}

/// Returns the directories that links replaced and that still exist, oldest first.
#[must_use]
pub fn kept_originals(virtualenv: &Path) -> Vec<PathBuf> {
    (1..)
        .map(|count| kept_path(virtualenv, count))
        .take_while(|path| files::look(path) == Found::Directory)
        .collect()
}

/// Removes virtualenvs that deploykit built, except for those in `keep` and the live one; returns what it removed.
///
/// # Errors
///
/// When the system refuses.
pub fn prune(virtualenvs: &Path, virtualenv: &Path, keep: &[PathBuf]) -> Result<Vec<PathBuf>, PythonError> {
    in_place::prune(virtualenv, |place| keep.contains(place))?;
    let entries = match fs::read_dir(virtualenvs) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("read", virtualenvs)?,
    };
    let kept: Vec<PathBuf> = keep
        .iter()
        .map(PathBuf::as_path)
        .chain([virtualenv])
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect();
    let mut removed = Vec::new();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let ours = path.file_name().is_some_and(|name| is_key(&name.to_string_lossy()));
        if ours
            && files::look(&path) == Found::Directory
            && !fs::canonicalize(&path).is_ok_and(|path| kept.contains(&path))
        {
            // Without its marker, the rest that an interruption left is no virtualenv.
            files::remove_file(&path.join(names::COMPLETE))?;
            files::remove_tree(&path)?;
            removed.push(path);
        }
    }
    removed.sort();
    Ok(removed)
}

/// Removes virtualenvs that were not finished, or not removed whole; the live one stays whatever it is.
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn remove_half_built(virtualenvs: &Path, virtualenv: &Path) -> Result<(), PythonError> {
    in_place::remove_half(virtualenv)?;
    let live = fs::canonicalize(virtualenv).ok();
    for path in fs::read_dir(virtualenvs).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Of a virtualenv, or of a question to an installer.
        let ours = is_key(&name) || name.starts_with(names::TEMPORARY);
        let is_half = files::look(&path) == Found::Directory && !path.join(names::COMPLETE).is_file();
        if ours && is_half && fs::canonicalize(&path).ok() != live {
            files::remove_tree(&path)?;
        }
    }
    Ok(())
}

/// `0123456789abcdef`, or with a number: `0123456789abcdef-2`.
fn is_key(name: &str) -> bool {
    let (key, number) = name.split_once('-').unwrap_or((name, "0"));
    key.len() == 16
        && key.chars().all(|c| c.is_ascii_hexdigit())
        && !number.is_empty()
        && number.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn staged(path: &Path) -> PathBuf {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("pyvenv.cfg"), "").unwrap();
        fs::write(path.join(names::COMPLETE), "").unwrap();
        path.to_owned()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_becomes_a_link_and_a_directory_again_from_every_half_step() {
        let directory = tempfile::tempdir().unwrap();
        let live = directory.path().join("venv");
        fs::create_dir(&live).unwrap();
        fs::write(live.join("mine"), "").unwrap();
        let next = staged(&directory.path().join("e"));
        let (there, back) = Switch::pair(&live, &next).unwrap();

        // Nothing done, or only the link made.
        back.perform().unwrap();
        symlink(&next, &there.kept).unwrap();
        back.perform().unwrap();
        assert_eq!(names(directory.path()), ["e", "venv"]);

        for _ in 0..2 {
            there.perform().unwrap();
            there.perform().unwrap();
            assert_eq!(files::look(&live), Found::Link(next.clone()));
            assert_eq!(kept_originals(&live), std::slice::from_ref(&there.kept));
            back.perform().unwrap();
            back.perform().unwrap();
            assert!(live.join("mine").exists());
            assert_eq!(names(directory.path()), ["e", "venv"]);
        }

        // Exchanged, and the link not yet removed.
        there.perform().unwrap();
        files::exchange(&live, &there.kept).unwrap();
        back.perform().unwrap();
        assert_eq!(names(directory.path()), ["e", "venv"]);

        // The live path is lost.
        there.perform().unwrap();
        fs::remove_file(&live).unwrap();
        back.perform().unwrap();
        assert!(live.join("mine").exists());
    }

    #[test]
    fn a_link_comes_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let live = directory.path().join("venv");
        staged(&directory.path().join("old"));
        symlink("old", &live).unwrap();
        let next = staged(&directory.path().join("e"));
        let (there, back) = Switch::pair(&live, &next).unwrap();
        there.perform().unwrap();
        back.perform().unwrap();
        back.perform().unwrap();
        assert_eq!(files::look(&live), Found::Link("old".into()));
        assert_eq!(names(directory.path()), ["e", "old", "venv"]);
    }

    #[test]
    fn an_earlier_original_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let live = directory.path().join("venv");
        fs::create_dir(&live).unwrap();
        let next = staged(&directory.path().join("e"));
        let (there, _) = Switch::pair(&live, &next).unwrap();
        there.perform().unwrap();
        // Somebody made a new virtualenv by hand.
        fs::remove_file(&live).unwrap();
        fs::create_dir(&live).unwrap();
        let (again, _) = Switch::pair(&live, &next).unwrap();
        assert_ne!(again.kept, there.kept);
        again.perform().unwrap();
        assert_eq!(kept_originals(&live).len(), 2);
    }

    #[test]
    fn what_is_half_built_or_gone_never_goes_live() {
        let directory = tempfile::tempdir().unwrap();
        let live = directory.path().join("venv");
        fs::create_dir(&live).unwrap();
        let half = directory.path().join("half");
        fs::create_dir(&half).unwrap();
        let (there, back) = Switch::pair(&live, &half).unwrap();
        assert!(matches!(there.perform(), Err(PythonError::Incomplete { .. })));
        fs::remove_dir(&live).unwrap();
        assert!(matches!(back.perform(), Err(PythonError::OriginalGone { .. })));
        assert!(matches!(Switch::pair(&live, &half), Err(PythonError::NoVirtualenv { .. })));
    }

    #[test]
    fn pruning_spares_the_live_one_the_kept_ones_and_what_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let virtualenvs = directory.path().join("environments");
        let [live, kept, old] = ["0", "1", "2"].map(|digit| staged(&virtualenvs.join(digit.repeat(16))));
        staged(&virtualenvs.join("mine"));
        symlink(&live, directory.path().join("venv")).unwrap();
        let removed = prune(&virtualenvs, &directory.path().join("venv"), &[kept]).unwrap();
        assert_eq!(removed, [old]);
        assert_eq!(names(&virtualenvs).len(), 3);
        assert!(prune(&directory.path().join("none"), &live, &[]).unwrap().is_empty());
    }
}
