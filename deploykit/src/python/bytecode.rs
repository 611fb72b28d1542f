//! Takes bytecode along from one virtualenv to the next, for sources that are the same in both: compiling all of a
//! site's packages again takes seconds of CPU while the site serves.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::share::link;
use super::virtualenv::site_packages;
use crate::host::{Host, files};

/// The header of a compiled file: a magic number, flags, the time and the size of the source. Source: PEP 552.
const HEADER: usize = 16;

/// Takes along what can be and is not there, and returns the sources that are without bytecode.
///
/// # Errors
///
/// When the packages of the new virtualenv cannot be listed.
pub(super) fn take_along(host: &Host, from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for (_, packages) in site_packages(to) {
        if let Ok(inside) = packages.strip_prefix(to) {
            directories.extend(sources_below(&from.join(inside), &packages)?);
        }
    }
    Ok(host.on_all_cores(&directories, Directory::take_along).concat())
}

/// A directory of sources in two virtualenvs.
struct Directory {
    old: PathBuf,
    new: PathBuf,
    names: Vec<OsString>,
}

/// Lists the directories below `new` that have sources.
fn sources_below(old: &Path, new: &Path) -> io::Result<Vec<Directory>> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(inside) = directories.pop() {
        let mut names = Vec::new();
        for entry in fs::read_dir(new.join(&inside))? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            if kind.is_dir() && name != "__pycache__" {
                directories.push(inside.join(name));
            } else if kind.is_file() && Path::new(&name).extension().is_some_and(|ending| ending == "py") {
                names.push(name);
            }
        }
        if !names.is_empty() {
            found.push(Directory { old: old.join(&inside), new: new.join(&inside), names });
        }
    }
    Ok(found)
}

impl Directory {
    /// Takes along the bytecode of its sources, and returns those that are without.
    fn take_along(&self) -> Vec<PathBuf> {
        let there = compiled_in(&self.new);
        let missing = self.names.iter().filter(|name| !there.contains_key(&*stem(name)));
        let mut compiled = None;
        let missing = missing.filter(|name| {
            let compiled = compiled.get_or_insert_with(|| compiled_in(&self.old));
            let of_it = compiled.get(&*stem(name)).map(Vec::as_slice).unwrap_or_default();
            !take(&self.old.join(name), of_it, &self.new.join(name)).unwrap_or(false)
        });
        missing.map(|name| self.new.join(name)).collect()
    }
}

fn stem(name: &OsStr) -> Cow<'_, str> {
    Path::new(name).file_stem().unwrap_or_default().to_string_lossy()
}

/// Takes along the bytecode of one source; returns whether there is any.
fn take(old: &Path, compiled: &[PathBuf], new: &Path) -> io::Result<bool> {
    if compiled.is_empty() {
        return Ok(false);
    }
    let (before, after) = (fs::metadata(old)?, fs::metadata(new)?);
    let is_same_file = (before.dev(), before.ino()) == (after.dev(), after.ino());
    if before.len() != after.len() || !is_same_file && fs::read(old)? != fs::read(new)? {
        return Ok(false);
    }
    let mut found = false;
    for compiled in compiled {
        let mut bytes = Vec::new();
        // Never through a link.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(compiled, flags, Mode::empty()) else { continue };
        let mut file = File::from(file);
        let owner = file.metadata()?;
        file.by_ref().take(HEADER as u64).read_to_end(&mut bytes)?;
        // Another user who can write there could run code in the staged virtualenv, too.
        let is_ours = owner.is_file() && [rustix::process::geteuid().as_raw(), 0].contains(&owner.uid());
        if !is_ours || bytes.get(4..HEADER) != Some(&stamp(&before)[..]) {
            continue;
        }
        let Some(name) = compiled.file_name() else { continue };
        let target = new.with_file_name("__pycache__").join(name);
        // Python replaces such a file and never writes into it, so two virtualenvs may share it.
        let is_linked = stamp(&before) == stamp(&after) && link(compiled, &target).is_ok();
        if !is_linked && !target.exists() {
            file.read_to_end(&mut bytes)?;
            let Some(header) = bytes.get_mut(4..HEADER) else { continue };
            header.copy_from_slice(&stamp(&after));
            fs::create_dir_all(files::parent(&target))?;
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

/// Returns the compiled files of a directory's sources that are not optimised, by the names of these:
/// `__pycache__/NAME.TAG.pyc`.
fn compiled_in(directory: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(directory.join("__pycache__")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // The name of a source may have dots, a tag has none: that of optimised code would have.
        let parts = name.strip_suffix(".pyc").and_then(|name| name.rsplit_once('.'));
        if let Some((stem, tag)) = parts
            && !tag.is_empty()
            && !tag.starts_with("opt-")
        {
            found.entry(stem.to_owned()).or_default().push(entry.path());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    struct Environments {
        directory: tempfile::TempDir,
    }

    impl Environments {
        fn new() -> Self {
            let virtualenvs = Environments { directory: tempfile::tempdir().unwrap() };
            fs::create_dir_all(virtualenvs.file("old", "__pycache__")).unwrap();
            fs::create_dir_all(virtualenvs.file("new", "")).unwrap();
            virtualenvs
        }

        fn file(&self, staged: &str, name: &str) -> PathBuf {
            self.directory.path().join(staged).join("lib/python3.11/site-packages").join(name)
        }

        fn source(&self, staged: &str, name: &str, text: &str, time: u64) {
            let path = self.file(staged, name);
            fs::write(&path, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }

        /// Writes the bytecode of a source in the old virtualenv.
        fn compile(&self, name: &str) -> Vec<u8> {
            let source = self.file("old", &format!("{name}.py"));
            let mut bytes = b"mgc\n".to_vec();
            bytes.extend(stamp(&fs::metadata(source).unwrap()));
            bytes.extend(b"code");
            fs::write(self.file("old", &format!("__pycache__/{name}.cpython-311.pyc")), &bytes).unwrap();
            bytes
        }

        fn take_along(&self) -> Vec<PathBuf> {
            let [old, new] = ["old", "new"].map(|name| self.directory.path().join(name));
            take_along(&Host::new(), &old, &new).unwrap()
        }

        fn taken(&self, name: &str) -> Option<Vec<u8>> {
            fs::read(self.file("new", &format!("__pycache__/{name}.cpython-311.pyc"))).ok()
        }
    }

    #[test]
    fn the_same_source_keeps_its_bytecode_and_another_does_not() {
        let virtualenvs = Environments::new();
        for name in ["same", "changed"] {
            virtualenvs.source("old", &format!("{name}.py"), "old", 5);
        }
        virtualenvs.source("new", "same.py", "old", 5);
        // The same size and the same time, as reproducible packages have them.
        virtualenvs.source("new", "changed.py", "new", 5);
        virtualenvs.source("new", "fresh.py", "", 5);
        let same = virtualenvs.compile("same");
        virtualenvs.compile("changed");
        let mut missing = virtualenvs.take_along();
        missing.sort();
        assert_eq!(missing, [virtualenvs.file("new", "changed.py"), virtualenvs.file("new", "fresh.py")]);
        assert_eq!(virtualenvs.taken("same"), Some(same));
        assert_eq!(virtualenvs.taken("changed"), None);
    }

    #[test]
    fn what_is_compiled_in_the_new_environment_stays_as_it_is() {
        let virtualenvs = Environments::new();
        for name in ["taken", "fresh"] {
            virtualenvs.source("old", &format!("{name}.py"), "text", 5);
            virtualenvs.source("new", &format!("{name}.py"), "text", 5);
        }
        let taken = virtualenvs.compile("taken");
        assert_eq!(virtualenvs.take_along(), [virtualenvs.file("new", "fresh.py")]);
        fs::write(virtualenvs.file("new", "__pycache__/fresh.cpython-311.pyc"), "by Python").unwrap();
        virtualenvs.compile("fresh");
        assert!(virtualenvs.take_along().is_empty());
        assert_eq!(virtualenvs.taken("taken"), Some(taken));
        assert_eq!(virtualenvs.taken("fresh").unwrap(), b"by Python");
    }

    #[test]
    fn an_installer_that_sets_the_time_anew_is_followed() {
        let virtualenvs = Environments::new();
        virtualenvs.source("old", "a.py", "text", 5);
        virtualenvs.source("new", "a.py", "text", 7);
        let mut bytes = virtualenvs.compile("a");
        assert!(virtualenvs.take_along().is_empty());
        bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
        assert_eq!(virtualenvs.taken("a"), Some(bytes));
    }

    #[test]
    fn bytecode_that_python_would_not_believe_is_left() {
        let virtualenvs = Environments::new();
        for name in ["stale", "hashed", "cut"] {
            virtualenvs.source("old", &format!("{name}.py"), "text", 5);
            virtualenvs.compile(name);
            virtualenvs.source("new", &format!("{name}.py"), "text", 5);
        }
        virtualenvs.source("old", "stale.py", "text", 6);
        let hashed = virtualenvs.file("old", "__pycache__/hashed.cpython-311.pyc");
        let mut bytes = fs::read(&hashed).unwrap();
        bytes[4] = 3;
        fs::write(hashed, bytes).unwrap();
        fs::write(virtualenvs.file("old", "__pycache__/cut.cpython-311.pyc"), "mgc").unwrap();
        fs::write(virtualenvs.file("old", "__pycache__/cut.cpython-311.opt-1.pyc"), "x").unwrap();
        assert_eq!(virtualenvs.take_along().len(), 3);
        assert_eq!(["stale", "hashed", "cut"].map(|name| virtualenvs.taken(name)), [None, None, None]);
    }
}
