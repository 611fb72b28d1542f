//! Patterns with `*`, `?` and `[…]`, as Python's `glob` reads them: no hidden file unless the pattern says so.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

const AS_IN_PYTHON: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Returns the paths that a pattern names, in the order of their names. A pattern that cannot be read names itself.
#[must_use]
pub fn matching(pattern: &Path) -> Vec<PathBuf> {
    match pattern.to_str().map(|pattern| glob::glob_with(pattern, AS_IN_PYTHON)) {
        Some(Ok(paths)) => paths.filter_map(Result::ok).collect(),
        _ => Some(pattern.to_owned()).filter(|path| path.exists()).into_iter().collect(),
    }
}

/// Tells whether a pattern names a path.
#[must_use]
pub fn matches(pattern: &Path, path: &Path) -> bool {
    match pattern.to_str().map(Pattern::new) {
        Some(Ok(pattern)) => pattern.matches_path_with(path, AS_IN_PYTHON),
        _ => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn patterns_name_files_as_in_python() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["b.conf", "a.conf", ".hidden.conf", "a.ini"] {
            fs::write(path(name), "").unwrap();
        }
        assert_eq!(matching(&path("*.conf")), [path("a.conf"), path("b.conf")]);
        assert_eq!(matching(&path("?.ini")), [path("a.ini")]);
        assert_eq!(matching(&path("a.ini")), [path("a.ini")]);
        assert!(matching(&path("none*")).is_empty() && matching(&path("none")).is_empty());
        assert!(matches(&path("*.conf"), &path("a.conf")));
        assert!(!matches(&path("*.conf"), &path("deep/a.conf")));
        assert!(!matches(&path("*.conf"), &path(".hidden.conf")));
        assert!(matches(&path("a["), &path("a[")));
    }
}
