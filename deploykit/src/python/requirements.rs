//! Requirements files: read for what they include, for their contents' hash, and for what points into the checkout.
//!
//! Source: <https://pip.pypa.io/en/stable/reference/requirements-file-format/>

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::asked::{Wish, wishes_in};
use super::error::PythonError;
use super::lines::{is_name, logical_lines, value};
use super::sources::Source;
use crate::digest;
use crate::names;

/// What a set of requirements files says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// All files, those that are included too, in the order of reading.
    pub files: Vec<PathBuf>,
    /// A hash of their contents and of the installer's arguments; not of their paths.
    pub fingerprint: String,
    /// Whether something is included from the network, so that the contents cannot be known without asking.
    pub remote: bool,
    /// The packages of the checkout that they name.
    pub sources: Vec<Source>,
    /// The first requirement that names something else of the checkout, or something beside it.
    pub local: Option<LocalRequirement>,
    /// The lines that say where packages come from (`--index-url`, `--find-links`), paths made absolute. They may hold a
    /// password.
    pub(crate) options: Vec<String>,
    /// What the files ask for by name; `None`: something in them has no name that could be told without an installer.
    pub(crate) wishes: Option<Vec<Wish>>,
}

impl std::fmt::Debug for Requirements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requirements")
            .field("files", &self.files)
            .field("fingerprint", &self.fingerprint)
            .field("remote", &self.remote)
            .field("sources", &self.sources)
            .field("local", &self.local)
            .field("wishes", &self.wishes)
            .finish_non_exhaustive()
    }
}

/// A requirement that is a directory or file which cannot be installed from the staged tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRequirement {
    /// The requirements file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// Why it cannot be installed.
    pub problem: &'static str,
}

impl Requirements {
    /// Reads files with everything that they include.
    ///
    /// # Errors
    ///
    /// When one of them is missing or cannot be read.
    pub fn read(files: &[PathBuf], directory: &Path, extra_args: &[String]) -> Result<Self, PythonError> {
        let mut found = Requirements::default();
        let mut text = String::new();
        for file in files {
            found.add(file, directory, &mut text)?;
        }
        for argument in extra_args {
            let _ = writeln!(text, "\0argument {argument}");
        }
        found.fingerprint = digest::sha256(text.as_bytes());
        found.wishes = wishes_in(files, &|line| matches!(classify(line, directory), Line::Local { .. }));
        Ok(found)
    }

    fn add(&mut self, file: &Path, directory: &Path, text: &mut String) -> Result<(), PythonError> {
        if self.files.iter().any(|known| known == file) {
            return Ok(());
        }
        let contents = fs::read(file)
            .map_err(|source| PythonError::RequirementsMissing { path: file.to_owned(), source })?;
        let contents = String::from_utf8_lossy(&contents);
        self.files.push(file.to_owned());
        let _ = writeln!(text, "\0file {}\n{contents}", contents.len());
        let above = file.parent().unwrap_or(Path::new("."));
        for (line, content) in logical_lines(&contents) {
            match classify(&content, directory) {
                Line::Include(name) if name.contains("://") && !name.starts_with("file:") => {
                    self.remote = true
                }
                Line::Include(name) => {
                    let name = name.strip_prefix("file://").unwrap_or(name);
                    self.add(&names::normal(&above.join(name)), directory, text)?;
                }
                Line::Option => self.options.push(with_absolute_path(&content, above)),
                Line::Local { target, editable } => match Source::read(target, editable) {
                    Some(source) if source.is_package(directory) => self.sources.push(source),
                    found if self.local.is_none() => {
                        let problem = match found {
                            Some(_) => "no `pyproject.toml` or `setup.py` is there",
                            None => "it is not a path below the top of the checkout",
                        };
                        self.local =
                            Some(LocalRequirement { file: file.to_owned(), line, text: content, problem });
                    }
                    _ => {}
                },
                Line::Other => {}
            }
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line<'t> {
    /// `-r`, `-c`.
    Include(&'t str),
    /// Where packages come from, and in which form.
    Option,
    /// Something of the checkout.
    Local {
        target: &'t str,
        editable: bool,
    },
    Other,
}

fn classify<'t>(line: &'t str, directory: &Path) -> Line<'t> {
    for (short, long) in [("-r", "--requirement"), ("-c", "--constraint")] {
        if let Some(name) = value(line, short, long) {
            return Line::Include(name);
        }
    }
    if let Some(target) = value(line, "-e", "--editable") {
        let is_local = is_local(target, true, directory);
        return if is_local { Line::Local { target, editable: true } } else { Line::Other };
    }
    if line.starts_with('-') {
        // Hashes are required where they are given anyway; what else there is concerns the build of single packages.
        let about_index =
            ["-i", "-f", "--index-url", "--extra-index-url", "--find-links", "--no-index", "--trusted-host"]
                .iter()
                .chain(&["--pre", "--no-binary", "--only-binary", "--prefer-binary"])
                .any(|option| line.starts_with(option));
        return if about_index { Line::Option } else { Line::Other };
    }
    let (target, direct) = match line.split_once('@') {
        Some((name, target)) if is_name(name) => (target.trim_start(), true),
        _ => (line, false),
    };
    if is_local(target, direct, directory) { Line::Local { target, editable: false } } else { Line::Other }
}

/// Tells whether a requirement is something of the checkout. A relative path always is: it would lead elsewhere from
/// the staged tree.
fn is_local(target: &str, surely_a_place: bool, directory: &Path) -> bool {
    let target = target.split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default();
    let path = if let Some(path) = target.strip_prefix("file:") {
        path.strip_prefix("//localhost").or(path.strip_prefix("//")).unwrap_or(path)
    } else if target.contains("://") || is_ssh_address(target) {
        return false;
    } else {
        target
    };
    let archive = [".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2"].iter().any(|suffix| path.ends_with(suffix));
    let a_place = surely_a_place
        || target.starts_with("file:")
        || path.contains('/')
        || path.starts_with('.')
        || archive;
    let path = Path::new(path);
    a_place && (path.is_relative() || names::normal(path).starts_with(names::normal(directory)))
}

/// `git+git@host:path`, which pip took once.
fn is_ssh_address(target: &str) -> bool {
    target.split_once('+').is_some_and(|(vcs, _)| ["git", "hg", "svn", "bzr"].contains(&vcs))
}

fn with_absolute_path(line: &str, directory: &Path) -> String {
    match value(line, "-f", "--find-links") {
        Some(place) if !place.contains("://") && directory.join(place).exists() => {
            format!("--find-links {}", directory.join(place).display())
        }
        _ => line.to_owned(),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    for (_, line) in logical_lines(&String::from_utf8_lossy(bytes)) {
        let _ = (classify(&line, Path::new("/srv")), with_absolute_path(&line, Path::new("/srv")));
        let _ = super::asked::wish_of(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_joined_and_comments_removed() {
        let text = "\u{feff}a==1 \\\n  --hash=sha256:1 \\\n  --hash=sha256:2\n# c \\\nb # no\nc @ https://h/c#egg=c\n\nd \\";
        let expected = [
            (1, "a==1   --hash=sha256:1   --hash=sha256:2"),
            (5, "b"),
            (6, "c @ https://h/c#egg=c"),
            (8, "d"),
        ];
        assert_eq!(logical_lines(text), expected.map(|(number, line)| (number, line.to_owned())));
    }

    #[test]
    fn every_kind_of_line_is_told_apart() {
        let kind = |line| classify(line, Path::new("/srv/site"));
        for line in
            ["-r base.txt", "-rbase.txt", "--requirement base.txt", "--requirement=base.txt", "-c base.txt"]
        {
            assert_eq!(kind(line), Line::Include("base.txt"), "{line}");
        }
        for line in [
            "-e .",
            "--editable=./libs/x",
            "-e libs",
            ".",
            "./libs/x ; python_version > '3'",
            "libs/x[extra]",
            "vendor/x-1-py3-none-any.whl",
            "x.tar.gz",
            "x @ file:///srv/site/libs/x",
            "file:libs/x",
            "file:///srv/other/../site/x",
            "/srv/site/x",
            "x@./x",
        ] {
            assert!(matches!(kind(line), Line::Local { .. }), "{line}");
        }
        for line in [
            "Django>=4.2,<5 ; python_version >= '3.9'",
            "x[a,b]==1 --hash=sha256:abc",
            "-e git+https://host/x.git#egg=x",
            "x @ https://host/x-1.whl",
            "x @ git+ssh://git@host/x",
            "/opt/wheels/x-1.whl",
            "file:///opt/x",
            "--require-hashes",
        ] {
            assert_eq!(kind(line), Line::Other, "{line}");
        }
        assert_eq!(kind("--extra-index-url https://u:p@host/simple"), Line::Option);
    }

    #[test]
    fn included_files_count_and_paths_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let read =
            |file: &PathBuf| Requirements::read(std::slice::from_ref(file), directory.path(), &[]).unwrap();
        let one = write("one/top.txt", "-r ../one/base.txt\n-c c.txt\n--find-links wheels\na\n");
        write("one/base.txt", "-r top.txt\nb==1\n");
        write("one/c.txt", "b<3\n");
        fs::create_dir(directory.path().join("one/wheels")).unwrap();
        let found = read(&one);
        assert_eq!(found.files.len(), 3, "a circle ends: {found:?}");
        assert_eq!(
            found.options,
            [format!("--find-links {}", directory.path().join("one/wheels").display())]
        );
        let two = write("two/top.txt", "-r ../one/base.txt\n-c c.txt\n--find-links wheels\na\n");
        write("two/c.txt", "b<3\n");
        write("two/base.txt", "");
        assert_ne!(read(&two).fingerprint, found.fingerprint, "the circle is another one");
        write("one/c.txt", "b<4\n");
        assert_ne!(read(&one).fingerprint, found.fingerprint);
        let arguments = Requirements::read(&[one], directory.path(), &["--pre".into()]).unwrap();
        assert_ne!(arguments.fingerprint, found.fingerprint);
    }

    #[test]
    fn a_missing_include_is_named_and_a_remote_one_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("r.txt");
        fs::write(&file, "-r https://host/r.txt\n-r nowhere.txt\n").unwrap();
        let error = Requirements::read(std::slice::from_ref(&file), directory.path(), &[]).unwrap_err();
        let PythonError::RequirementsMissing { path, .. } = error else { panic!("{error:?}") };
        assert_eq!(path, directory.path().join("nowhere.txt"));
        fs::write(&file, "-r https://host/r.txt\n").unwrap();
        assert!(Requirements::read(&[file], directory.path(), &[]).unwrap().remote);
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(text in any::<Vec<u8>>()) {
            for (_, line) in logical_lines(&String::from_utf8_lossy(&text)) {
                let _ = classify(&line, Path::new("/srv"));
            }
        }
        #[test]
        fn no_printable_line_is_either(text in "[-a-z@/.:+=;# \\\\\n]*") {
            for (_, line) in logical_lines(&text) {
                let _ = classify(&line, Path::new("/srv"));
            }
        }
    }
}
