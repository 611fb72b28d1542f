//! Takes byte code along from one environment to the next, for sources that are the same in both: compiling all of a
//! site's packages again takes seconds of CPU while the site serves.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::virtualenv::site_packages;

/// The header of a compiled file: a magic number, flags, the time and the size of the source. Source: PEP 552.
const HEADER: usize = 16;

/// Takes along what can be, and returns the sources that are without byte code.
///
/// # Errors
///
/// When the packages of the new environment cannot be listed.
pub(super) fn take_along(from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for (_, packages) in site_packages(to) {
        let old = packages.strip_prefix(to).map(|inside| from.join(inside));
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(packages.join(&folder))? {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                let kind = entry.file_type()?;
                if kind.is_dir() && entry.file_name() != "__pycache__" {
                    folders.push(path);
                } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "py") {
                    let new = packages.join(&path);
                    let taken = old.as_ref().is_ok_and(|old| take(&old.join(&path), &new).unwrap_or(false));
                    if !taken {
                        missing.push(new);
                    }
                }
            }
        }
    }
    Ok(missing)
}

/// Takes along the byte code of one source; returns whether there is any.
fn take(old: &Path, new: &Path) -> io::Result<bool> {
    let (before, after) = (fs::metadata(old)?, fs::metadata(new)?);
    let is_same_file = (before.dev(), before.ino()) == (after.dev(), after.ino());
    if before.len() != after.len() || !is_same_file && fs::read(old)? != fs::read(new)? {
        return Ok(false);
    }
    let mut found = false;
    for compiled in compiled(old)? {
        let mut bytes = fs::read(&compiled)?;
        // Whoever else could write there could run code in the next environment, too.
        let owner = fs::symlink_metadata(&compiled)?;
        let is_ours = owner.is_file() && [rustix::process::geteuid().as_raw(), 0].contains(&owner.uid());
        if !is_ours || bytes.get(4..HEADER) != Some(&stamp(&before)[..]) {
            continue;
        }
        let Some(name) = compiled.file_name() else { continue };
        let folder = new.with_file_name("__pycache__");
        fs::create_dir_all(&folder)?;
        let target = folder.join(name);
        // Python replaces such a file and never writes into it, so two environments may share it.
        let is_linked = stamp(&before) == stamp(&after) && fs::hard_link(&compiled, &target).is_ok();
        if !is_linked && !target.exists() {
            bytes[4..HEADER].copy_from_slice(&stamp(&after));
            fs::write(&target, bytes)?;
        }
        found = true;
    }
    Ok(found)
}

/// Returns what a compiled file says of its source: that it goes by time, which, and the size.
fn stamp(source: &Metadata) -> [u8; HEADER - 4] {
    // Python keeps the lower 32 bits of either.
    let part = |value: u64| (value & 0xffff_ffff).to_le_bytes();
    let (time, size) = (part(source.mtime().cast_unsigned()), part(source.len()));
    let mut bytes = [0; HEADER - 4];
    bytes[4..8].copy_from_slice(&time[..4]);
    bytes[8..].copy_from_slice(&size[..4]);
    bytes
}

/// Returns the compiled files of a source that are not optimised: `__pycache__/NAME.TAG.pyc`.
fn compiled(source: &Path) -> io::Result<Vec<PathBuf>> {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let tag = name.strip_suffix(".pyc").and_then(|name| name.strip_prefix(&stem)?.strip_prefix('.'));
        tag.is_some_and(|tag| !tag.is_empty() && !tag.contains('.'))
    };
    let entries = fs::read_dir(source.with_file_name("__pycache__"))?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(is_one).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    struct Environments {
        folder: tempfile::TempDir,
    }

    impl Environments {
        fn new() -> Self {
            let environments = Environments { folder: tempfile::tempdir().unwrap() };
            for name in ["old", "new"] {
                fs::create_dir_all(environments.file(name, "__pycache__")).unwrap();
            }
            environments
        }

        fn file(&self, environment: &str, name: &str) -> PathBuf {
            self.folder.path().join(environment).join("lib/python3.11/site-packages").join(name)
        }

        fn source(&self, environment: &str, name: &str, text: &str, time: u64) {
            let path = self.file(environment, name);
            fs::write(&path, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }

        /// Writes the byte code of a source in the old environment.
        fn compile(&self, name: &str) -> Vec<u8> {
            let source = self.file("old", &format!("{name}.py"));
            let mut bytes = b"mgc\n".to_vec();
            bytes.extend(stamp(&fs::metadata(source).unwrap()));
            bytes.extend(b"code");
            fs::write(self.file("old", &format!("__pycache__/{name}.cpython-311.pyc")), &bytes).unwrap();
            bytes
        }

        fn take_along(&self) -> Vec<PathBuf> {
            let [old, new] = ["old", "new"].map(|name| self.folder.path().join(name));
            take_along(&old, &new).unwrap()
        }

        fn taken(&self, name: &str) -> Option<Vec<u8>> {
            fs::read(self.file("new", &format!("__pycache__/{name}.cpython-311.pyc"))).ok()
        }
    }

    #[test]
    fn the_same_source_keeps_its_byte_code_and_another_does_not() {
        let environments = Environments::new();
        for name in ["same", "changed"] {
            environments.source("old", &format!("{name}.py"), "old", 5);
        }
        environments.source("new", "same.py", "old", 5);
        // The same size and the same time, as reproducible packages have them.
        environments.source("new", "changed.py", "new", 5);
        environments.source("new", "fresh.py", "", 5);
        let same = environments.compile("same");
        environments.compile("changed");
        let mut missing = environments.take_along();
        missing.sort();
        assert_eq!(missing, [environments.file("new", "changed.py"), environments.file("new", "fresh.py")]);
        assert_eq!(environments.taken("same"), Some(same));
        assert_eq!(environments.taken("changed"), None);
    }

    #[test]
    fn an_installer_that_sets_the_time_anew_is_followed() {
        let environments = Environments::new();
        environments.source("old", "a.py", "text", 5);
        environments.source("new", "a.py", "text", 7);
        let mut bytes = environments.compile("a");
        assert!(environments.take_along().is_empty());
        bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
        assert_eq!(environments.taken("a"), Some(bytes));
    }

    #[test]
    fn byte_code_that_python_would_not_believe_is_left() {
        let environments = Environments::new();
        for name in ["stale", "hashed", "cut"] {
            environments.source("old", &format!("{name}.py"), "text", 5);
            environments.compile(name);
            environments.source("new", &format!("{name}.py"), "text", 5);
        }
        environments.source("old", "stale.py", "text", 6);
        let hashed = environments.file("old", "__pycache__/hashed.cpython-311.pyc");
        let mut bytes = fs::read(&hashed).unwrap();
        bytes[4] = 3;
        fs::write(hashed, bytes).unwrap();
        fs::write(environments.file("old", "__pycache__/cut.cpython-311.pyc"), "mgc").unwrap();
        fs::write(environments.file("old", "__pycache__/cut.cpython-311.opt-1.pyc"), "x").unwrap();
        assert_eq!(environments.take_along().len(), 3);
        assert_eq!(["stale", "hashed", "cut"].map(|name| environments.taken(name)), [None, None, None]);
    }
}
