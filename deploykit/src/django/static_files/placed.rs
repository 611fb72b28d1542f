//! Collected files that go to their places one by one: into a directory that holds files of git, which is not exchanged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::DjangoError;
use crate::host::Swap;
use crate::host::files::{self, InPath, inode};
use crate::names;

/// Files that are exchanged with those of the same names in a neighbouring directory.
///
/// What is wanted is named by its inode, so that a file which is in its place already stays there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFiles {
    /// The directory that the site uses.
    #[serde(with = "crate::names::one")]
    pub live: PathBuf,
    /// Its neighbour, on the same file system; what was live is there afterwards.
    #[serde(with = "crate::names::one")]
    pub aside: PathBuf,
    /// The inode that is to be live under each name; `None`: nothing is to be there.
    pub wanted: BTreeMap<String, Option<u64>>,
}

impl PlacedFiles {
    /// Makes what brings these files of `aside` to `live`, and what undoes that.
    pub(super) fn pair<'n>(
        live: &Path,
        aside: &Path,
        names: impl Iterator<Item = &'n String> + Clone,
    ) -> (Self, Self) {
        let now = |directory: &Path| PlacedFiles {
            live: live.to_owned(),
            aside: aside.to_owned(),
            wanted: names.clone().map(|name| (name.clone(), inode(&names::join(directory, name)))).collect(),
        };
        (now(aside), now(live))
    }

    /// Returns what restores the present files after others have replaced them.
    #[must_use]
    pub fn way_back(&self) -> Self {
        let now = |name: &String| (name.clone(), inode(&names::join(&self.live, name)));
        PlacedFiles { wanted: self.wanted.keys().map(now).collect(), ..self.clone() }
    }

    /// Tells whether all that is wanted is in one of the two places.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.swaps().all(|swap| {
            swap.wanted.is_none() || [&swap.live, &swap.aside].iter().any(|path| inode(path) == swap.wanted)
        })
    }

    /// Makes it so.
    ///
    /// # Errors
    ///
    /// When a file is in neither place, or the system refuses.
    pub fn perform(&self) -> Result<(), DjangoError> {
        for swap in self.swaps() {
            for path in [&swap.live, &swap.aside] {
                let directory = files::parent(path);
                fs::create_dir_all(directory).at("create the directory", directory)?;
            }
            swap.perform()?;
        }
        Ok(())
    }

    fn swaps(&self) -> impl Iterator<Item = Swap> + '_ {
        self.wanted.iter().map(|(name, wanted)| Swap {
            live: names::join(&self.live, name),
            aside: names::join(&self.aside, name),
            wanted: *wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_to_their_places_and_back_and_the_rest_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (file, text) in [
            ("live/git.css", "of git"),
            ("live/shop/a.css", "old"),
            ("next/shop/a.css", "new"),
            ("next/shop/deep/b.css", "added"),
        ] {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), text).unwrap();
        }
        let names = ["shop/a.css", "shop/deep/b.css"].map(str::to_owned);
        let (there, back) = PlacedFiles::pair(&path("live"), &path("next"), names.iter());
        let read = |name: &str| fs::read_to_string(path("live").join(name)).unwrap_or_default();
        back.perform().unwrap();
        for _ in 0..2 {
            there.perform().unwrap();
            assert_eq!((read("shop/a.css"), read("shop/deep/b.css")), ("new".into(), "added".into()));
        }
        let forward = back.way_back();
        assert!(there.is_there() && back.is_there());
        // Half of the way.
        fs::rename(path("live/shop/deep/b.css"), path("next/shop/deep/b.css")).unwrap();
        for _ in 0..2 {
            back.perform().unwrap();
            assert_eq!((read("shop/a.css"), read("shop/deep/b.css")), ("old".into(), String::new()));
            assert_eq!(read("git.css"), "of git");
        }
        assert_eq!(forward, there);
        fs::remove_file(path("next/shop/a.css")).unwrap();
        assert!(!there.is_there() && back.is_there());
        there.perform().unwrap_err();
    }
}
