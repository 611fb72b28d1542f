//! Chooses among candidates: what is the site's, and what only a person can decide.

pub(crate) mod git;
pub(crate) mod maintenance;
pub(crate) mod packages;
pub(crate) mod project;
pub(crate) mod secrets;
pub(crate) mod services;
pub(crate) mod steps;
pub(crate) mod virtualenv;
pub(crate) mod web;

use std::path::{Path, PathBuf};

use crate::findings::in_backticks;
use crate::read::files::shown;

/// Words for each environment in the names of files and modules.
pub(crate) const WORDS: [(&str, &[&str]); 3] = [
    ("production", &["production", "prod", "live", "deploy", "server"]),
    ("staging", &["staging", "stage"]),
    ("development", &["development", "dev", "local", "debug"]),
];
/// Tells whether a name contains one of the words, as a word.
pub(crate) fn says(name: &str, words: &[&str]) -> bool {
    name.split(|c: char| !c.is_alphanumeric()).any(|part| words.contains(&part))
}

/// Returns paths for a question, as seen from the checkout.
pub(crate) fn listed(top: &Path, paths: &[&PathBuf]) -> String {
    let more = if paths.len() > 4 { ", …" } else { "" };
    in_backticks(paths.iter().take(4).map(|path| shown(top, path))) + more
}

/// Keeps the candidates that fit, unless none does.
pub(crate) fn narrow<T: Clone>(candidates: &mut Vec<T>, fits: impl Fn(&T) -> bool) {
    let kept: Vec<T> = candidates.iter().filter(|candidate| fits(candidate)).cloned().collect();
    if !kept.is_empty() {
        *candidates = kept;
    }
}

/// Tells whether a name contains a word for an environment.
pub(crate) fn says_words(name: &str, environment: &str) -> bool {
    WORDS.iter().any(|(known, words)| *known == environment && says(name, words))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use deploykit::Host;

    use super::*;
    use crate::read::files::{Tree, walk};

    /// A checkout that git does not know, in a directory of its own.
    pub(super) struct Site(tempfile::TempDir);

    impl Site {
        pub(super) fn new(files: &[(&str, &str)]) -> Self {
            let site = Site(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let path = site.top().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            site
        }

        pub(super) fn around(&self) -> &Path {
            self.0.path()
        }

        pub(super) fn top(&self) -> PathBuf {
            self.0.path().join("site")
        }

        pub(super) fn tree(&self) -> Tree {
            walk(&self.top(), &Host::new())
        }
    }
}
