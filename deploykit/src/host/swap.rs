//! Brings a neighbour to the live place in one step, or in three where the file system knows no such step.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{FileError, InPath, cannot_exchange, exchange, inode, rename};

/// Brings one of two neighbours into the live place: a directory that was made beside it, or a link to one.
///
/// What is wanted is named by its inode, so a swap that was done already, by whomever, is not done back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The path that the site uses.
    #[serde(with = "crate::names::one")]
    pub live: PathBuf,
    /// Its neighbour, on the same file system; what was live is there afterwards.
    #[serde(with = "crate::names::one")]
    pub aside: PathBuf,
    /// The inode that is to be at `live`; `None`: nothing is to be there.
    pub wanted: Option<u64>,
}

impl Swap {
    /// Makes the swap that brings `aside` to `live`, and the one that undoes it.
    ///
    /// # Errors
    ///
    /// When nothing is at `aside`.
    pub fn pair(live: &Path, aside: &Path) -> Result<(Swap, Swap), FileError> {
        let next = inode(aside).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)).at("find", aside)?;
        let swap = |wanted| Swap { live: live.to_owned(), aside: aside.to_owned(), wanted };
        Ok((swap(Some(next)), swap(inode(live))))
    }

    /// Makes it so.
    ///
    /// # Errors
    ///
    /// When neither place holds what is wanted, or the system refuses.
    pub fn perform(&self) -> Result<(), FileError> {
        self.end_renames()?;
        let (live, aside) = (inode(&self.live), inode(&self.aside));
        if live == self.wanted {
            return Ok(());
        }
        match (self.wanted, live) {
            (None, _) => rename(&self.live, &self.aside),
            (wanted, None) if wanted == aside => rename(&self.aside, &self.live),
            (wanted, Some(_)) if wanted == aside => match exchange(&self.live, &self.aside) {
                Err(error) if cannot_exchange(&error) => self.rename_in_turn(),
                other => other,
            },
            _ => Err(io::Error::from(io::ErrorKind::NotFound)).at("find what belongs to", &self.live),
        }
    }

    /// Exchanges them on a file system that cannot: nothing is at the live place for a moment.
    fn rename_in_turn(&self) -> Result<(), FileError> {
        let third = self.third();
        rename(&self.live, &third)?;
        rename(&self.aside, &self.live)?;
        rename(&third, &self.aside)
    }

    /// Brings renames that were interrupted to an end, either way: then both places are there again.
    fn end_renames(&self) -> Result<(), FileError> {
        let third = self.third();
        if inode(&third).is_none() {
            return Ok(());
        }
        let place = if inode(&self.live).is_none() { &self.live } else { &self.aside };
        rename(&third, place)
    }

    /// Returns where the live one waits in between.
    fn third(&self) -> PathBuf {
        let mut name = self.aside.file_name().unwrap_or_default().to_owned();
        name.push("-live");
        self.aside.with_file_name(name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_swap_is_done_once_however_often_it_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let (live, aside) = (directory.path().join("static"), directory.path().join(".next"));
        fs::create_dir(&live).unwrap();
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("new"), "").unwrap();
        let (there, back) = Swap::pair(&live, &aside).unwrap();
        there.perform().unwrap();
        there.perform().unwrap();
        assert!(live.join("new").exists());
        back.perform().unwrap();
        back.perform().unwrap();
        assert!(aside.join("new").exists());
    }

    #[test]
    fn a_swap_into_an_empty_place_leaves_it_empty_when_it_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let (live, aside) = (directory.path().join("static"), directory.path().join(".next"));
        fs::create_dir(&aside).unwrap();
        let (there, back) = Swap::pair(&live, &aside).unwrap();
        there.perform().unwrap();
        assert!(live.is_dir() && !aside.exists());
        back.perform().unwrap();
        assert!(!live.exists() && aside.is_dir());
    }

    #[test]
    fn where_nothing_can_be_exchanged_every_half_of_the_renames_is_brought_to_an_end() {
        // How many of the renames were done, and whether the way goes on or back.
        for (done, forward) in (0..=3).flat_map(|done| [(done, true), (done, false)]) {
            let directory = tempfile::tempdir().unwrap();
            let (live, aside) = (directory.path().join("static"), directory.path().join(".next"));
            fs::create_dir(&live).unwrap();
            fs::create_dir(&aside).unwrap();
            fs::write(aside.join("new"), "").unwrap();
            let (there, back) = Swap::pair(&live, &aside).unwrap();
            let third = there.third();
            let renames = [(&live, &third), (&aside, &live), (&third, &aside)];
            for (from, to) in renames.iter().take(done) {
                rename(from, to).unwrap();
            }
            let swap = if forward { &there } else { &back };
            swap.perform().unwrap();
            swap.perform().unwrap();
            assert_eq!(live.join("new").exists(), forward, "{done} renames were done");
            assert!(live.is_dir() && aside.is_dir() && !third.exists());
            if forward {
                back.rename_in_turn().unwrap();
                assert!(aside.join("new").exists() && live.is_dir());
            }
        }
    }
}
