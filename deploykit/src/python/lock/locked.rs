//! The set of packages that a lock means for one Python.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::packages::{Package, Packages, clean_url, normalise};
use super::super::sources;
use super::error::LockFileError;
use super::index::host_of;
use super::{Reading, text};
use crate::names;

/// The index that installers use unless they are told of another one.
const PYPI: &str = "https://pypi.org/simple";

/// Where a locked package comes from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// An index; `None`: the one that the installer is set up with.
    Index(Option<String>),
    /// A file at a URL; its fragment may name a subdirectory.
    Archive(String),
    /// A file on this machine.
    File(PathBuf),
    /// A commit of a Git repository; the subdirectory may be empty.
    Git { url: String, commit: String, subdirectory: String },
    /// A directory on this machine.
    Directory { path: PathBuf, editable: bool, extras: Vec<String> },
}

/// One package with all that an installer must know.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Locked {
    pub(super) name: String,
    /// Empty where the lock does not name it.
    pub(super) version: String,
    /// `sha256:` and digits.
    pub(super) hashes: Vec<String>,
    pub(super) source: Source,
}

impl Locked {
    /// Checks that the entry says exactly what to install, in words that cannot mean anything else to an installer.
    fn checked(self, lock: &Path) -> Result<Self, LockFileError> {
        let Locked { name, version, hashes, source } = &self;
        let missing =
            |missing| LockFileError::Incomplete { file: lock.to_owned(), package: name.clone(), missing };
        let is_made_of = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let wrong = |problem: String| LockFileError::Unreadable { file: lock.to_owned(), problem };
        if !is_made_of(name, "-_.") {
            return Err(wrong(format!("`{}` is not a package name", name.escape_debug())));
        }
        if !version.is_empty() && !is_made_of(version, ".+!-_") {
            return Err(wrong(format!("`{}` is not a version of `{name}`", version.escape_debug())));
        }
        if let Some(hash) = hashes.iter().find(|hash| !is_made_of(hash, ":")) {
            return Err(wrong(format!("`{}` is not a hash of `{name}`", hash.escape_debug())));
        }
        match source {
            Source::Index(_) | Source::File(_) if version.is_empty() => return Err(missing("version")),
            Source::Index(_) | Source::Archive(_) | Source::File(_) if hashes.is_empty() => {
                return Err(missing("hash"));
            }
            Source::Git { commit, .. } if commit.len() < 40 || !is_made_of(commit, "") => {
                return Err(missing("commit"));
            }
            _ => {}
        }
        let directory;
        let places: [&str; 2] = match source {
            Source::Index(url) => [url.as_deref().unwrap_or_default(), ""],
            Source::Archive(url) => [url, ""],
            Source::Git { url, subdirectory, .. } => [url, subdirectory],
            Source::File(file) => {
                directory = names::text(file);
                [&directory, ""]
            }
            Source::Directory { .. } => [""; 2],
        };
        if places.iter().any(|text| text.contains(|c: char| c.is_whitespace() || c.is_control())) {
            return Err(wrong(format!("the URL or the path of `{name}` contains whitespace")));
        }
        Ok(self)
    }

    fn package(&self) -> Package {
        let origin = match &self.source {
            Source::Index(_) | Source::File(_) | Source::Directory { .. } => None,
            Source::Archive(url) => Some(clean_url(url)),
            Source::Git { url, commit, subdirectory } => {
                let fragment = if subdirectory.is_empty() {
                    String::new()
                } else {
                    format!("#subdirectory={subdirectory}")
                };
                Some(format!("git+{}@{commit}{fragment}", clean_url(url)))
            }
        };
        Package { name: self.name.clone(), version: self.version.clone(), origin }
    }

    fn requirement(&self) -> String {
        let Locked { name, version, .. } = self;
        let mut line = match &self.source {
            Source::Index(_) | Source::File(_) | Source::Directory { .. } => format!("{name}=={version}"),
            Source::Archive(url) => format!("{name} @ {url}"),
            Source::Git { url, commit, subdirectory } if subdirectory.is_empty() => {
                format!("{name} @ git+{url}@{commit}")
            }
            Source::Git { url, commit, subdirectory } => {
                format!("{name} @ git+{url}@{commit}#subdirectory={subdirectory}")
            }
        };
        for hash in &self.hashes {
            let _ = write!(line, " --hash={hash}");
        }
        line.push('\n');
        line
    }
}

/// The packages that a lock means for one Python.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct LockedSet {
    packages: BTreeMap<String, Locked>,
    /// More indexes that may have packages.
    pub(super) indexes: Vec<String>,
    /// Pages and directories with files of packages.
    pub(super) links: Vec<String>,
    /// Hosts whose certificates are not verified.
    unverified: BTreeSet<String>,
    /// What a person may want to know.
    pub(crate) warnings: Vec<String>,
}

impl std::fmt::Debug for LockedSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address of an index may hold a password.
        f.debug_struct("LockedSet").field("packages", &self.packages()).finish_non_exhaustive()
    }
}

impl LockedSet {
    /// Adds an entry of the lock file `lock`.
    pub(super) fn add(&mut self, locked: Locked, lock: &Path) -> Result<(), LockFileError> {
        let locked = locked.checked(lock)?;
        let Some(known) = self.packages.get_mut(&normalise(&locked.name)) else {
            self.packages.insert(normalise(&locked.name), locked);
            return Ok(());
        };
        // PDM has a package with its extras as another entry.
        if (&known.version, &known.source) == (&locked.version, &locked.source) {
            let new: Vec<String> =
                locked.hashes.into_iter().filter(|hash| !known.hashes.contains(hash)).collect();
            known.hashes.extend(new);
            return Ok(());
        }
        let [one, other] = [known.package(), locked.package()].map(|package| {
            package
                .origin
                .map_or(package.version.clone(), |origin| format!("{} from {origin}", package.version))
        });
        Err(LockFileError::Twice { file: lock.to_owned(), package: locked.name, one, other })
    }

    /// Takes over whether the certificate of an index is verified.
    pub(super) fn trust(&mut self, reading: &Reading<'_>, source: &Value) -> Result<(), LockFileError> {
        let name = text(source, "name").unwrap_or_default();
        if let (Some(false), Some(url)) =
            (source.get("verify_ssl").and_then(Value::as_bool), text(source, "url"))
        {
            self.unverified.insert(host_of(&clean_url(&reading.with_variables(name, url)?)).to_owned());
        }
        Ok(())
    }

    /// Writes the addresses of indexes in another way.
    pub(super) fn replace_indexes(&mut self, with: impl Fn(&str) -> String) {
        for locked in self.packages.values_mut() {
            if let Source::Index(Some(url)) = &mut locked.source {
                *url = with(url);
            }
        }
    }

    /// Returns the hosts for pip's `--trusted-host`: without TLS or certificate checks. The lock's hashes protect what comes
    /// from them.
    pub(crate) fn trusted(&self) -> BTreeSet<String> {
        let of_packages = self.packages.values().filter_map(|locked| match &locked.source {
            Source::Index(url) => url.as_ref(),
            _ => None,
        });
        let plain =
            of_packages.chain(&self.indexes).chain(&self.links).filter(|url| url.starts_with("http://"));
        let plain = plain.map(|url| host_of(&clean_url(url)).to_owned());
        plain.chain(self.unverified.iter().cloned()).collect()
    }

    /// Returns the set as it is compared with what is installed, without the packages of the checkout.
    pub(crate) fn packages(&self) -> Packages {
        self.installed().map(Locked::package).collect()
    }

    fn installed(&self) -> impl Iterator<Item = &Locked> {
        self.packages.values().filter(|locked| !matches!(locked.source, Source::Directory { .. }))
    }

    /// Returns the packages of the checkout that has its top at `top`.
    pub(crate) fn sources(&self, top: &Path, lock: &Path) -> Result<Vec<sources::Source>, LockFileError> {
        let mut found = Vec::new();
        for locked in self.packages.values() {
            let Source::Directory { path, editable, extras } = &locked.source else { continue };
            let inside = path.strip_prefix(top).ok();
            let source = inside.and_then(|inside| sources::Source::at(inside, *editable, extras.clone()));
            let outside = || LockFileError::Directory {
                file: lock.to_owned(),
                package: locked.name.clone(),
                path: path.clone(),
            };
            found.push(source.filter(|source| source.is_package(top)).ok_or_else(outside)?);
        }
        Ok(found)
    }

    /// Returns the lines that tell an installer of the indexes and directories which the lock names. They may hold a
    /// password. `is_alone`: nothing else tells the installer of an index.
    pub(crate) fn options(&self, is_alone: bool) -> Vec<String> {
        let mut indexes: Vec<&str> = Vec::new();
        let mut directories: Vec<&Path> = Vec::new();
        for locked in self.packages.values() {
            match &locked.source {
                Source::Index(url) => {
                    let url = url.as_deref().unwrap_or(PYPI).trim_end_matches('/');
                    if !indexes.contains(&url) {
                        indexes.push(url);
                    }
                }
                Source::File(file) => directories.extend(file.parent()),
                _ => {}
            }
        }
        if !indexes.is_empty() {
            let more = self.indexes.iter().map(|url| url.trim_end_matches('/'));
            indexes.extend(more.filter(|url| !indexes.contains(url)).collect::<Vec<_>>());
        }
        let is_alone = is_alone && !indexes.contains(&PYPI);
        let others = indexes.into_iter().filter(|url| *url != PYPI).enumerate();
        // Hashes decide what is installed, whichever index has it.
        let indexes = others.map(|(place, url)| {
            let option = if is_alone && place == 0 { "--index-url" } else { "--extra-index-url" };
            format!("{option} {url}")
        });
        directories.dedup();
        let directories = directories.iter().map(|directory| directory.display().to_string());
        let links = directories.chain(self.links.iter().cloned()).map(|link| format!("--find-links {link}"));
        indexes.chain(links).collect()
    }

    /// Returns the requirements whose hashes are checked, and those that a commit pins instead. What is `there` already, of
    /// an index, is left out: an installer would ask for all it has of it.
    pub(crate) fn requirements(&self, there: &Packages) -> [String; 2] {
        let is_there = |locked: &&Locked| {
            let same = |found: &Package| found.is_of_index() && found.is(&locked.package());
            matches!(locked.source, Source::Index(_)) && there.get(&normalise(&locked.name)).is_some_and(same)
        };
        let missing = self.installed().filter(|locked| !is_there(locked));
        let (pinned, hashed): (Vec<_>, Vec<_>) =
            missing.partition(|locked| matches!(locked.source, Source::Git { .. }));
        [hashed, pinned].map(|locked| locked.into_iter().map(Locked::requirement).collect())
    }
}
