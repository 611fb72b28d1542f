//! What deploykit makes inside a checkout is invisible to git: a link does not match `/venv/` in a `.gitignore`, and
//! `git clean -fd` would remove it with what a rollback needs.
//!
//! Source: <https://git-scm.com/docs/gitignore>

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::files::{self, FileError, InPath};

/// The lines around deploykit's own.
const BEGIN: &str = "# deploykit: what it makes in the checkout";
const END: &str = "# deploykit: end";

/// Patterns that are to be in the `info/exclude` of a repository, or not to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclude {
    /// The file.
    pub file: PathBuf,
    /// The patterns.
    pub patterns: Vec<String>,
    /// Whether they are to be there.
    pub excluded: bool,
}

impl Exclude {
    /// Makes what hides paths from git, and what undoes that; `None`: no checkout is around them, or deploykit hides all of
    /// them already. The last part of a path may be a pattern that ends with `*`.
    #[must_use]
    pub fn pair(paths: &[PathBuf]) -> Option<(Self, Self)> {
        let place = fs::canonicalize(files::parent(paths.first()?)).ok()?;
        let repository = git2::Repository::discover(&place).ok()?;
        let top = fs::canonicalize(repository.workdir()?).ok()?;
        let file = repository.commondir().join("info/exclude");
        let there = lines_of(&fs::read_to_string(&file).unwrap_or_default());
        let patterns = paths.iter().filter_map(|path| pattern(&top, path));
        let patterns: Vec<String> = patterns.filter(|pattern| !there.contains(pattern)).collect();
        if patterns.is_empty() {
            return None;
        }
        let exclude = |excluded| Exclude { file: file.clone(), patterns: patterns.clone(), excluded };
        Some((exclude(true), exclude(false)))
    }

    /// Makes it so.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn perform(&self) -> Result<(), FileError> {
        let text = files::read(&self.file).at("read", &self.file)?.unwrap_or_default();
        let changed = self.changed(&text);
        if changed == text {
            return Ok(());
        }
        if changed.is_empty() {
            return files::remove_file(&self.file);
        }
        let directory = files::parent(&self.file);
        fs::create_dir_all(directory).at("create the directory", directory)?;
        files::write_whole(&self.file, &changed, 0o644)
    }

    /// Returns the text of the file as it is to be. Other lines stay as they are, byte for byte.
    fn changed(&self, text: &[u8]) -> Vec<u8> {
        let (mut lines, mut own) = (Vec::new(), Vec::new());
        let mut at = None;
        let mut inside = false;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let trimmed = String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned();
            match trimmed.as_str() {
                BEGIN => {
                    inside = true;
                    at.get_or_insert(lines.len());
                }
                END if inside => inside = false,
                _ if inside => own.push(trimmed),
                _ => lines.push(line),
            }
        }
        own.retain(|pattern| !self.patterns.contains(pattern));
        if self.excluded {
            own.extend(self.patterns.iter().cloned());
        }
        own.sort();
        let mut block = Vec::new();
        if !own.is_empty() {
            block = [&[BEGIN.to_owned()], own.as_slice(), &[END.to_owned(), String::new()]]
                .concat()
                .join("\n")
                .into_bytes();
        }
        let (before, after) = lines.split_at(at.unwrap_or(lines.len()));
        let mut changed = before.concat();
        if !block.is_empty() && !changed.is_empty() && !changed.ends_with(b"\n") {
            changed.push(b'\n');
        }
        changed.extend(block);
        changed.extend(after.concat());
        changed
    }
}

/// Returns deploykit's own lines.
fn lines_of(text: &str) -> Vec<String> {
    let own = text.lines().skip_while(|line| *line != BEGIN).skip(1).take_while(|line| *line != END);
    own.map(str::to_owned).collect()
}

/// Returns the pattern for a path, from the top of the checkout; `None`: it lies elsewhere, or no line can name it.
fn pattern(top: &Path, path: &Path) -> Option<String> {
    let place = fs::canonicalize(files::parent(path)).ok()?;
    let inside = place.strip_prefix(top).ok()?.join(path.file_name()?);
    let text = inside.to_str().filter(|text| !text.contains(['\n', '\r']))?;
    let (text, end) = text.strip_suffix('*').map_or((text, ""), |start| (start, "*"));
    let mut pattern = String::from("/");
    for c in text.chars() {
        if "*?[\\ ".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Some(pattern + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(exclude: &Exclude, text: &str) -> String {
        String::from_utf8(exclude.changed(text.as_bytes())).unwrap()
    }

    #[test]
    fn lines_come_once_and_go_without_a_trace() {
        let exclude = |patterns: &[&str], excluded| Exclude {
            file: PathBuf::new(),
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
            excluded,
        };
        for own in ["", "# mine\n*.log\n", "*.log"] {
            let one = text(&exclude(&["/venv"], true), own);
            let ended =
                if own.is_empty() || own.ends_with('\n') { own.to_owned() } else { format!("{own}\n") };
            assert_eq!(one, format!("{ended}{BEGIN}\n/venv\n{END}\n"));
            assert_eq!(text(&exclude(&["/venv"], true), &one), one);
            let two = text(&exclude(&["/a b", "/venv"], true), &(one.clone() + "later\n"));
            assert_eq!(two, format!("{ended}{BEGIN}\n/a b\n/venv\n{END}\nlater\n"));
            assert_eq!(text(&exclude(&["/a b"], false), &two), one.clone() + "later\n");
            assert_eq!(text(&exclude(&["/venv"], false), &one), ended);
            assert_eq!(text(&exclude(&["/venv"], false), own), own);
        }
    }

    #[test]
    fn git_sees_none_of_it_and_cleans_none_of_it_away() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("site");
        let git = |args: &[&str]| {
            let command = std::process::Command::new("git").arg("-C").arg(&top).args(args).output().unwrap();
            String::from_utf8(command.stdout).unwrap()
        };
        fs::create_dir(&top).unwrap();
        git(&["init", "-q"]);
        fs::write(top.join(".gitignore"), "/.gitignore\n/my venv/\n").unwrap();
        let file = top.join(".git/info/exclude");
        let before = fs::read_to_string(&file).ok();
        std::os::unix::fs::symlink("/", top.join("my venv")).unwrap();
        fs::create_dir_all(top.join("a[b]/.my venv.deploykit-original-2")).unwrap();
        fs::write(top.join("a[b]/.my venv.deploykit-original-2/x"), "").unwrap();
        assert_eq!(git(&["status", "--porcelain"]).lines().count(), 2);
        let paths = [top.join("my venv"), top.join("a[b]/.my venv.deploykit-original*")];
        let (there, back) = Exclude::pair(&paths).unwrap();
        for _ in 0..2 {
            there.perform().unwrap();
            assert_eq!(git(&["status", "--porcelain"]), "");
            git(&["clean", "-fdq"]);
            assert!(
                top.join("my venv").is_symlink() && top.join("a[b]/.my venv.deploykit-original-2/x").exists()
            );
        }
        assert_eq!(Exclude::pair(&paths), None, "they are hidden already");
        for _ in 0..2 {
            back.perform().unwrap();
            assert_eq!(fs::read_to_string(&file).ok(), before);
        }
        assert_eq!(Exclude::pair(&[directory.path().join("elsewhere")]), None);
    }
}
