//! Walks a checkout within bounds, and reads small text files.

use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use deploykit::Host;

/// Entries after which a walk ends: uploads may be among the files.
const MOST_ENTRIES: usize = 50_000;
/// Directories below the top: `src/project/app/management/commands/` has to be within.
const DEPTH: usize = 6;
/// Bytes; no file that a person writes is larger.
const LARGEST: u64 = 512 * 1024;
/// Directories that hold what others made.
const SKIPPED: [&str; 7] =
    ["node_modules", "__pycache__", "site-packages", "static", "staticfiles", "media", "uploads"];

/// Directories whose manage.py and requirements are for something else than running the site.
const ASIDE: [&str; 11] = [
    "test",
    "tests",
    "testing",
    "example",
    "examples",
    "demo",
    "sandbox",
    "doc",
    "docs",
    "testproject",
    "ci",
];

/// What stands in a checkout.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The files, shallow ones first, otherwise by name.
    pub files: Vec<PathBuf>,
    /// The virtualenvs up to two directories below the top.
    pub virtualenvs: Vec<PathBuf>,
}

impl Tree {
    /// Returns the files with a name.
    pub fn named<'t>(&'t self, name: &'t str) -> impl Iterator<Item = &'t PathBuf> {
        self.files.iter().filter(move |file| file_name(file) == name)
    }
}

/// Lists what stands in a checkout, without what git, Node and Python put there.
pub(crate) fn walk(top: &Path, host: &Host) -> Tree {
    let mut tree = Tree::default();
    let mut waiting = VecDeque::from([(top.to_owned(), 0)]);
    let mut entries = 0;
    while let Some((directory, depth)) = waiting.pop_front() {
        for path in entries_of(&directory) {
            entries += 1;
            if entries > MOST_ENTRIES || host.is_cancelled() {
                return tree;
            }
            if is_virtualenv(&path) {
                if depth < 2 {
                    tree.virtualenvs.push(path);
                }
                continue;
            }
            let name = file_name(&path);
            // A link to a directory is not followed: it may lead out, or around.
            match fs::symlink_metadata(&path).map(|found| found.file_type()) {
                Ok(kind) if kind.is_dir() => {
                    let hidden = name.starts_with('.');
                    if depth < DEPTH && !hidden && !SKIPPED.contains(&name.as_str()) {
                        waiting.push_back((path, depth + 1));
                    }
                }
                Ok(_) if path.is_file() => tree.files.push(path),
                _ => {}
            }
        }
    }
    tree
}

/// Returns what stands in a directory, by name; nothing when it cannot be read.
pub(crate) fn entries_of(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .take(MOST_ENTRIES)
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    entries.sort();
    entries
}

pub(crate) fn is_virtualenv(directory: &Path) -> bool {
    directory.join("pyvenv.cfg").is_file()
}

/// Reads a small file; `None` for one that is large, unreadable or not text.
pub(crate) fn text(path: &Path) -> Option<String> {
    let file = fs::File::open(path).ok()?;
    // A pipe or a device would never end.
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > LARGEST || bytes.contains(&0) {
        return None;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the value of a name in a file of `NAME=value` lines; of one that cannot be read nothing is known.
pub(crate) fn dotenv(text: &str, name: &str) -> Option<String> {
    let all = deploykit::internal::dotenv::parse(text.trim_start_matches('\u{feff}')).ok()?;
    let found = all.into_iter().rfind(|found| found.name == name)?;
    Some(found.value).filter(|value| !value.is_empty())
}

/// Tells whether a file has only lines of `NAME=value`, as deploykit reads them.
pub(crate) fn is_dotenv(file: &Path) -> bool {
    text(file).is_some_and(|text| deploykit::internal::dotenv::parse(&text).is_ok())
}

/// Returns the last part of a path, leniently decoded.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the name of the directory that a file stands in.
pub(crate) fn directory_name(path: &Path) -> String {
    path.parent().map(file_name).unwrap_or_default()
}

/// Returns the path with its links resolved as far as it exists.
pub(crate) fn real(path: &Path) -> PathBuf {
    for directory in path.ancestors() {
        if let Ok(real) = directory.canonicalize() {
            return path.strip_prefix(directory).map_or(real.clone(), |rest| {
                if rest.as_os_str().is_empty() { real.clone() } else { real.join(rest) }
            });
        }
    }
    path.to_owned()
}

/// Returns a path as seen from a directory: relative when it is inside or at most two directories up, absolute otherwise.
pub(crate) fn seen_from(directory: &Path, path: &Path) -> PathBuf {
    for (ups, ancestor) in directory.ancestors().take(3).enumerate() {
        if ancestor.parent().is_none() {
            break;
        }
        if let Ok(rest) = path.strip_prefix(ancestor) {
            let mut seen = PathBuf::new();
            (0..ups).for_each(|_| seen.push(".."));
            if !rest.as_os_str().is_empty() {
                seen.push(rest);
            }
            return if seen.as_os_str().is_empty() { PathBuf::from(".") } else { seen };
        }
    }
    path.to_owned()
}

/// Returns a path for a person, as [`seen_from`] a directory.
pub(crate) fn shown(directory: &Path, path: &Path) -> String {
    seen_from(directory, path).to_string_lossy().into_owned()
}

/// Tells whether a file is in a directory for something else than running the site.
pub(crate) fn is_aside(top: &Path, file: &Path) -> bool {
    is_below(top, file, &ASIDE)
}

/// Tells whether a file is in a directory with one of these names, below the top.
pub(crate) fn is_below(top: &Path, file: &Path, names: &[&str]) -> bool {
    let inside = file.strip_prefix(top).unwrap_or(file);
    inside.parent().is_some_and(|directory| {
        directory.iter().any(|part| names.contains(&part.to_string_lossy().as_ref()))
    })
}

/// Tells whether a text is the template of a file, to be filled in by Jinja or Django.
pub(crate) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_seen_from_a_directory() {
        let seen = |directory, path| shown(Path::new(directory), Path::new(path));
        assert_eq!(seen("/srv/site", "/srv/site"), ".");
        assert_eq!(seen("/srv/site", "/srv/site/a b"), "a b");
        assert_eq!(seen("/srv/site", "/srv/venv"), "../venv");
        assert_eq!(seen("/srv/site/project", "/srv/site"), "..");
        assert_eq!(seen("/srv/www/site", "/srv/tmp/page.html"), "../../tmp/page.html");
        assert_eq!(seen("/srv/site", "/etc/supervisor/x.conf"), "/etc/supervisor/x.conf");
        assert_eq!(seen("/site", "/venv"), "/venv", "everything is below the root, which says nothing");
    }

    #[test]
    fn a_walk_keeps_out_of_what_others_made() {
        let directory = tempfile::tempdir().unwrap();
        for path in [
            "a/b/manage.py",
            "node_modules/manage.py",
            ".git/manage.py",
            "venv/lib/manage.py",
            "venv/pyvenv.cfg",
        ] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink(directory.path(), directory.path().join("around")).unwrap();
        let tree = walk(directory.path(), &Host::new());
        assert_eq!(tree.named("manage.py").collect::<Vec<_>>(), [&directory.path().join("a/b/manage.py")]);
        assert_eq!(tree.virtualenvs, [directory.path().join("venv")]);
    }

    #[test]
    fn what_is_no_text_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        fs::write(&file, b"a\0b").unwrap();
        assert_eq!(text(&file), None);
        assert_eq!(text(directory.path()), None);
        fs::write(&file, b"caf\xe9").unwrap();
        assert_eq!(text(&file).as_deref(), Some("caf\u{fffd}"));
    }
}
