//! The path of a package's sources, as the files of a virtualenv name it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::host::files::{self, FileError, InPath};
use crate::python::own::replace;
use crate::python::record;
use crate::python::virtualenv::{names_in, site_packages};

/// What Python's `urllib.parse.quote` leaves as it is.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'_').remove(b'.').remove(b'-').remove(b'~');

/// What a package's `dist-info` says of where it was installed from.
///
/// Source: <https://packaging.python.org/en/latest/specifications/direct-url/>
const ORIGIN: &str = "direct_url.json";

/// Lets the packages that were installed from below `from` be those below `to`. Performing it twice does no harm.
///
/// Files are replaced, never written into: uv's are hard links into its cache.
pub(in crate::python) fn point(virtualenv: &Path, from: &Path, to: &Path) -> Result<(), FileError> {
    let [from, to] = [from, to].map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
    if from == to {
        return Ok(());
    }
    let paths = Paths { from: spelt(&from), to: spelt(&to) };
    for (_, packages) in site_packages(virtualenv) {
        for name in names_in(&packages).filter(|name| name.ends_with(".dist-info")) {
            let info = packages.join(name);
            let origin = info.join(ORIGIN);
            if fs::read(&origin).is_ok_and(|text| paths.are_in(&text)) {
                paths.of_package(&packages, &info)?;
                // The last one: with it all is done.
                paths.of_file(&origin)?;
            }
        }
    }
    Ok(())
}

/// Returns a path as it is, and as it is in URLs.
fn spelt(path: &Path) -> [Vec<u8>; 2] {
    let path = path.as_os_str().as_bytes();
    [path.to_owned(), percent_encode(path, QUOTED).to_string().into_bytes()]
}

struct Paths {
    from: [Vec<u8>; 2],
    to: [Vec<u8>; 2],
}

impl Paths {
    fn are_in(&self, text: &[u8]) -> bool {
        self.replaced(text) != text
    }

    fn replaced(&self, text: &[u8]) -> Vec<u8> {
        let spellings = self.from.iter().zip(&self.to);
        spellings.fold(text.to_owned(), |text, (from, to)| replace(&text, from, to))
    }

    /// Does it in all files of a package's record, and corrects the record.
    fn of_package(&self, packages: &Path, info: &Path) -> Result<(), FileError> {
        let list = info.join("RECORD");
        let mut lines = record::read(&list).at("read", &list)?;
        for line in &mut lines {
            let path = packages.join(record::file_of(line));
            let contents = fs::read(&path).unwrap_or_default();
            let is_text = !contents.contains(&0);
            if path != list && is_text && self.are_in(&contents) {
                let contents = self.replaced(&contents);
                *line = record::changed(line, &contents);
                if !path.ends_with(ORIGIN) {
                    self.of_file(&path)?;
                }
            }
        }
        let text = record::text_of(&lines).at("write", &list)?;
        files::write_whole(&list, &text, 0o644)
    }

    fn of_file(&self, path: &Path) -> Result<(), FileError> {
        let found = fs::metadata(path).at("look at", path)?;
        let contents = self.replaced(&fs::read(path).at("read", path)?);
        files::write_whole(path, &contents, found.permissions().mode() & 0o777)?;
        bytecode_of(path).iter().try_for_each(|compiled| files::remove_file(compiled))
    }
}

/// Returns the bytecode of a module: it holds the same paths.
pub(in crate::python) fn bytecode_of(path: &Path) -> Vec<PathBuf> {
    let Some(module) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".py")) else {
        return Vec::new();
    };
    let caches = files::parent(path).join("__pycache__");
    let compiled = names_in(&caches).filter(|name| name.starts_with(&format!("{module}.")));
    compiled.map(|name| caches.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::record::hash_of;

    #[test]
    fn only_what_came_from_there_is_pointed_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let (from, to) = (root.join("a b"), root.join("site"));
        let packages = root.join("venv/lib/python3.11/site-packages");
        let put = |file: &str, text: &str| {
            let path = packages.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let read = |file: &str| fs::read_to_string(packages.join(file)).unwrap();
        let place = from.display().to_string();
        put("__editable__.demo-1.pth", &format!("{place}/src\n{place}-2\n"));
        put("demo_finder.py", &format!("MAPPING = {{'demo': '{place}/demo'}}\n"));
        put("__pycache__/demo_finder.cpython-311.pyc", &place);
        put("other.py", &place);
        put("demo-1.dist-info/direct_url.json", &format!("{{\"url\":\"file://{}/a%20b\"}}", root.display()));
        put(
            "demo-1.dist-info/RECORD",
            "__editable__.demo-1.pth,sha256=x,1\ndemo_finder.py,sha256=x,1\ndemo-1.dist-info/direct_url.json,sha256=x,1\ndemo-1.dist-info/RECORD,,\n",
        );
        put("other-1.dist-info/RECORD", "other.py,sha256=x,1\n");
        let kept = root.join("cache");
        fs::hard_link(packages.join("demo_finder.py"), &kept).unwrap();

        for _ in 0..2 {
            point(&root.join("venv"), &from, &to).unwrap();
            let site = to.display().to_string();
            assert_eq!(read("__editable__.demo-1.pth"), format!("{site}/src\n{place}-2\n"));
            assert_eq!(read("demo_finder.py"), format!("MAPPING = {{'demo': '{site}/demo'}}\n"));
            assert_eq!(read("demo-1.dist-info/direct_url.json"), format!("{{\"url\":\"file://{site}\"}}"));
            let record = read("demo-1.dist-info/RECORD");
            let hash = hash_of(read("demo_finder.py").as_bytes());
            let line = format!("demo_finder.py,sha256={hash},{}\n", read("demo_finder.py").len());
            assert!(record.contains(&line) && record.ends_with("RECORD,,\n"), "{record}");
        }
        assert!(!packages.join("__pycache__/demo_finder.cpython-311.pyc").exists());
        assert_eq!(read("other.py"), place, "no package that was installed from there");
        assert!(fs::read_to_string(kept).unwrap().contains(&place), "the installer's cache stays");
    }
}
