//! The files that the services read when deploykit last saw them start: they do not see later edits until a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::seen::{Print, SETTINGS};
use super::{Seen, State, read, write};
use crate::host::files::FileError;

/// Files as they were when the services started, or when deploykit first saw them after that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Started {
    files: BTreeMap<PathBuf, File>,
    /// The services that have started since, while others ran on.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    restarted: BTreeSet<String>,
    /// The files as these have read them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    read: BTreeMap<PathBuf, File>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    print: Print,
    since: Timestamp,
}

/// A file that has changed since then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The file.
    pub path: PathBuf,
    /// When the file was last known to be as the services read it.
    pub since: Timestamp,
}

impl Started {
    /// Adds the files of settings that an update saw then, and those that are `named` by the configuration, as they are now.
    /// A file that is known already stays as it is known.
    pub(crate) fn add<'p>(&mut self, seen: &Seen, then: Timestamp, named: impl Iterator<Item = &'p PathBuf>) {
        let settings = seen.files.iter().filter(|(path, _)| is_settings(path));
        let seen = settings.map(|(path, print)| (path.clone(), File { print: print.clone(), since: then }));
        let named = named.filter(|path| path.to_str().is_some()).filter_map(|path| {
            Some((path.clone(), File { print: Print::of(path, true)?, since: Timestamp::now() }))
        });
        for (path, file) in seen.chain(named) {
            self.files.entry(path).or_insert(file);
        }
    }

    /// Records all files as they are now: the services have just started.
    pub(crate) fn renew(&mut self) {
        *self = Started { files: self.now(), ..Started::default() };
    }

    /// Records that these services have just started, while `others` run on. Once each service that runs has started since a
    /// file was changed, the file is read.
    fn renew_partly(&mut self, services: &[String], others: &[String]) {
        if self.restarted.is_empty() || changed(&self.read).next().is_some() {
            self.read = self.now();
            self.restarted.clear();
        }
        self.restarted.extend(services.iter().cloned());
        if others.iter().all(|other| self.restarted.contains(other)) {
            *self = Started { files: std::mem::take(&mut self.read), ..Started::default() };
        }
    }

    /// Returns the files as they are now.
    fn now(&self) -> BTreeMap<PathBuf, File> {
        let since = Timestamp::now();
        let now = |path: &PathBuf| Some((path.clone(), File { print: Print::of(path, true)?, since }));
        self.files.keys().filter_map(now).collect()
    }

    /// Returns the existing files that have changed.
    #[must_use]
    pub fn unread(&self) -> Vec<Unread> {
        let unread = |(path, file): (&PathBuf, &File)| Unread { path: path.clone(), since: file.since };
        changed(&self.files).map(unread).collect()
    }
}

/// Returns the existing files that have changed.
fn changed(files: &BTreeMap<PathBuf, File>) -> impl Iterator<Item = (&PathBuf, &File)> {
    files
        .iter()
        .filter(|(path, file)| Print::of(path, false).is_some_and(|found| !found.is_like(&file.print, path)))
}

impl State {
    /// Returns the recorded files, or the default when there is no record.
    #[must_use]
    pub fn started(&self) -> Started {
        read(&self.started_file()).unwrap_or_default()
    }

    /// Records which files the services have read.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_started(&self, started: &Started) -> Result<(), FileError> {
        if *started == self.started() {
            return Ok(());
        }
        write(&self.started_file(), started)
    }

    /// Records that these services have just started and have read the present files, while `others` run on.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn services_started(&self, services: &[String], others: &[String]) -> Result<(), FileError> {
        let mut started = self.started();
        started.renew_partly(services, others);
        self.set_started(&started)
    }

    fn started_file(&self) -> PathBuf {
        self.directory().join("started.json")
    }
}

/// Tells by its name whether services may read a file when they start.
fn is_settings(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_known = path.extension().is_some_and(|extension| SETTINGS.iter().any(|known| extension == *known));
    (is_known || name.starts_with(".env")) && name != "deploykit.toml"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_of_settings_that_is_edited_is_unread_until_the_services_start() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        let names = ["local.py", ".env.production", "notes.txt", "deploykit.toml", "secrets"];
        names.iter().for_each(|name| fs::write(at(name), "old").unwrap());
        let prints = names[..4].iter().map(|name| (at(name), Print::of(&at(name), true).unwrap()));
        let seen = Seen { files: prints.collect(), ..Seen::default() };
        let state = State::at(&at("state"));
        state.create().unwrap();
        let mut started = Started::default();
        started.add(&seen, Timestamp::UNIX_EPOCH, [at("secrets"), at("missing")].iter());
        state.set_started(&started).unwrap();
        assert_eq!(state.started().unread(), []);

        names.iter().for_each(|name| fs::write(at(name), "new").unwrap());
        let unread: Vec<PathBuf> = state.started().unread().into_iter().map(|unread| unread.path).collect();
        assert_eq!(unread, [at(".env.production"), at("local.py"), at("secrets")]);
        assert_eq!(state.started().unread()[0].since, Timestamp::UNIX_EPOCH);
        // Another look does not make it read.
        let prints = names.iter().map(|name| (at(name), Print::of(&at(name), true).unwrap()));
        started.add(&Seen { files: prints.collect(), ..Seen::default() }, Timestamp::now(), [].iter());
        assert_eq!(started.unread().len(), 3);
        fs::remove_file(at("local.py")).unwrap();
        assert_eq!(started.unread().len(), 2);
        state.services_started(&["web".to_owned()], &[]).unwrap();
        assert_eq!(state.started().unread(), []);
    }

    #[test]
    fn services_that_start_one_by_one_have_read_the_files_of_that_time() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join(".env");
        fs::write(&file, "old").unwrap();
        let mut started = Started::default();
        started.add(&Seen::default(), Timestamp::UNIX_EPOCH, std::iter::once(&file));
        let [web, huey] = ["web", "huey"].map(|name| [name.to_owned()]);
        fs::write(&file, "new").unwrap();
        started.renew_partly(&web, &huey);
        assert_eq!(started.unread().len(), 1, "huey has not read it");
        fs::write(&file, "newer").unwrap();
        started.renew_partly(&huey, &web);
        assert_eq!(started.unread().len(), 1, "web has not read the last edit");
        started.renew_partly(&web, &huey);
        assert_eq!(started.unread(), []);
    }
}
