//! Bytecode of the checkout that was compiled beforehand, so that the web need not compile it in the window.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::files::{Found, look, parent};

/// Files of bytecode. Each counts only for the very source that it was made of, so one that is missing, or left over,
/// costs time and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytecode {
    /// The tree that they were compiled in.
    #[serde(with = "crate::names::one")]
    pub from: PathBuf,
    /// The checkout that they belong to.
    #[serde(with = "crate::names::one")]
    pub to: PathBuf,
    /// From the top of either.
    #[serde(with = "crate::names::many")]
    pub files: Vec<PathBuf>,
}

impl Bytecode {
    /// Brings them to the checkout.
    pub fn place(&self) {
        self.each(|file| {
            let (source, target) = (self.from.join(file), self.to.join(file));
            let directory = parent(&target);
            match look(directory) {
                Found::Directory => {}
                Found::Nothing => fs::create_dir(directory)?,
                // Not where it seems to be.
                Found::Link(_) | Found::File => return Ok(()),
            }
            fs::rename(source, target)
        });
    }

    /// Removes them from the checkout, with directories that they leave empty: these would keep a package importable.
    pub fn remove(&self) {
        self.each(|file| {
            let target = self.to.join(file);
            if look(parent(&target)) == Found::Directory {
                fs::remove_file(&target)?;
                // It stays where Python keeps other bytecode.
                let _ = fs::remove_dir(parent(&target));
            }
            Ok(())
        });
    }

    fn each(&self, work: impl Fn(&Path) -> io::Result<()>) {
        for file in &self.files {
            if let Err(error) = work(file)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("bytecode `{}`: {error}", file.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_comes_and_goes_twice_and_never_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for directory in [
            "next/a/__pycache__",
            "next/b/__pycache__",
            "next/c/__pycache__",
            "live/a",
            "live/b",
            "elsewhere",
        ] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        for file in ["next/a/__pycache__/x", "next/b/__pycache__/x", "next/c/__pycache__/x"] {
            fs::write(path(file), "").unwrap();
        }
        symlink(path("elsewhere"), path("live/b/__pycache__")).unwrap();
        let files = ["a", "b", "c"].map(|name| PathBuf::from(name).join("__pycache__/x")).to_vec();
        let code = Bytecode { from: path("next"), to: path("live"), files };
        for _ in 0..2 {
            code.place();
            assert!(path("live/a/__pycache__/x").exists());
        }
        assert!(!path("elsewhere/x").exists() && !path("live/c").exists());
        fs::write(path("elsewhere/x"), "").unwrap();
        for _ in 0..2 {
            code.remove();
            assert!(!path("live/a/__pycache__").exists() && path("live/a").exists());
        }
        assert!(path("elsewhere/x").exists());
    }
}
