//! Packages of the checkout: directories that requirements name as `-e .` or `./lib`, and the project of a lock.
//!
//! They are built in a copy of the files that git tracks, because build backends write into their sources. The paths of that
//! copy in the virtualenv are then replaced by those of the staged tree, and by those of the checkout once that is live.

mod copied;
mod pointed;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::installer::Tool;
use super::packages::{Packages, normalise};
use crate::command::Command;
use crate::names;

pub(in crate::python) use copied::Copied;
pub(in crate::python) use pointed::{bytecode_of, point};

/// A package of the checkout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its directory, wheel or archive, from the top of the checkout; empty: the checkout itself.
    #[serde(with = "crate::names::one")]
    pub path: PathBuf,
    /// Whether it is imported from the checkout instead of being copied into the virtualenv.
    pub editable: bool,
    /// Its extras that are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<String>,
}

impl Source {
    /// Reads what a requirement names: `.`, `./lib[extra]`, `file:lib`; a path from `directory`. `None`: it is outside.
    pub(super) fn read(target: &str, editable: bool) -> Option<Self> {
        let target = target.split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default();
        let target = target.split('#').next().unwrap_or_default();
        let target = target.strip_prefix("file:").unwrap_or(target);
        let (path, extras) = match target.strip_suffix(']').and_then(|target| target.split_once('[')) {
            Some((path, extras)) => (path, extras.split(',').map(|extra| extra.trim().to_owned()).collect()),
            None => (target, Vec::new()),
        };
        Source::at(Path::new(path), editable, extras)
    }

    /// Makes one of a path from the top; `None`: it is outside of the checkout.
    pub(super) fn at(path: &Path, editable: bool, extras: Vec<String>) -> Option<Self> {
        let mut inside = PathBuf::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => inside.push(name),
                Component::ParentDir if inside.pop() => {}
                _ => return None,
            }
        }
        Some(Source { path: inside, editable, extras })
    }

    /// Tells whether an installer can build something of it.
    pub(super) fn is_package(&self, directory: &Path) -> bool {
        let path = directory.join(&self.path);
        path.is_file() || ["pyproject.toml", "setup.py"].iter().any(|name| path.join(name).is_file())
    }

    /// Returns its name, where that can be read without running code.
    pub(crate) fn name(&self, directory: &Path) -> Option<String> {
        let path = directory.join(&self.path);
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && path.is_file()
        {
            return name.split_once('-').map(|(name, _)| normalise(name));
        }
        let manifest = fs::read_to_string(path.join("pyproject.toml")).unwrap_or_default();
        let manifest: serde_json::Value = toml::from_str(&manifest).unwrap_or_default();
        let name =
            ["/project/name", "/tool/poetry/name"].iter().find_map(|key| manifest.pointer(key)?.as_str());
        name.map(normalise).or_else(|| {
            let settings = fs::read_to_string(path.join("setup.cfg")).ok()?;
            let (_, metadata) = settings.split_once("[metadata]")?;
            let lines = metadata.lines().skip(1).take_while(|line| !line.starts_with('['));
            let (_, name) =
                lines.filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "name")?;
            Some(normalise(name))
        })
    }

    /// Returns the requirement, for an installer that runs at the top.
    pub(super) fn requirement(&self) -> String {
        let editable = if self.editable { "-e " } else { "" };
        let extras =
            if self.extras.is_empty() { String::new() } else { format!("[{}]", self.extras.join(",")) };
        format!("{editable}{}{extras}\n", self.place())
    }

    fn place(&self) -> String {
        let path = names::text(&self.path);
        if path.is_empty() { ".".to_owned() } else { format!("./{path}") }
    }
}

impl Tool {
    /// Sets up an installer for packages of a checkout.
    pub(super) fn for_sources(&self, command: Command, sources: &[Source], checkout: &Path) -> Command {
        if sources.is_empty() {
            return command;
        }
        // Versions come from git, whose index is not theirs to write.
        let command = command.env("GIT_OPTIONAL_LOCKS", "0");
        let names = sources.iter().filter_map(|source| source.name(checkout));
        match self {
            Tool::Pip => command.arg("--use-pep517"),
            // uv looks at few files to tell whether it has built a directory before.
            Tool::Uv { .. } => {
                names.fold(command, |command, name| command.args(["--refresh-package", &name]))
            }
        }
    }
}

/// `` editable `.` ``, `` `./lib` ``.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}`{}`", if self.editable { "editable " } else { "" }, self.place())
    }
}

/// Returns packages without those of the checkout. These are known by where they were installed from, or by their names.
pub(crate) fn without(packages: &Packages, sources: &[Source], checkout: &Path, trees: &[&Path]) -> Packages {
    if sources.is_empty() {
        return packages.clone();
    }
    let names: Vec<String> = sources.iter().filter_map(|source| source.name(checkout)).collect();
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let places: Vec<PathBuf> = trees
        .iter()
        .chain(&[checkout])
        .flat_map(|tree| {
            sources.iter().flat_map(|source| [tree.join(&source.path), whole(tree).join(&source.path)])
        })
        .collect();
    let is_other = |(name, package): &(&str, &super::Package)| {
        let is_there = package.installed_from().is_some_and(|path| places.contains(&names::normal(&path)));
        !is_there && !names.iter().any(|known| known == name)
    };
    packages.iter().filter(is_other).map(|(_, package)| package.clone()).collect()
}

/// Returns the normalised names of installed packages that are not among the `others`.
pub(crate) fn names_without(installed: &Packages, others: &Packages) -> BTreeSet<String> {
    let names = installed.iter().map(|(name, _)| name);
    names.filter(|name| others.get(name).is_none()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::Package;

    #[test]
    fn requirements_of_the_checkout_are_read_and_written() {
        for (text, expected) in [
            (".", "-e .\n"),
            ("./", "-e .\n"),
            ("./lib/../libs/x[a, b]; python_version > '3'", "-e ./libs/x[a,b]\n"),
            ("file:libs/x#egg=x", "-e ./libs/x\n"),
        ] {
            let text = text.replace(", ", ",");
            assert_eq!(Source::read(&text, true).unwrap().requirement(), expected, "{text}");
        }
        assert_eq!(
            Source::read("vendor/x-1-py3-none-any.whl", false).unwrap().requirement(),
            "./vendor/x-1-py3-none-any.whl\n"
        );
        for outside in ["../lib", "/srv/lib", "lib/../../x", "file:///srv/lib"] {
            assert_eq!(Source::read(outside, false), None, "{outside}");
        }
    }

    #[test]
    fn names_are_read_where_no_code_must_run() {
        let directory = tempfile::tempdir().unwrap();
        let name = |files: &[(&str, &str)]| {
            let lib = directory.path().join("lib");
            let _ = fs::remove_dir_all(&lib);
            fs::create_dir(&lib).unwrap();
            files.iter().for_each(|(file, text)| fs::write(lib.join(file), text).unwrap());
            let source = Source::read("lib", false).unwrap();
            (source.name(directory.path()), source.is_package(directory.path()))
        };
        let known = |name: &str| (Some(name.to_owned()), true);
        assert_eq!(name(&[("pyproject.toml", "[project]\nname = \"My_Lib\"\n")]), known("my-lib"));
        assert_eq!(name(&[("pyproject.toml", "[tool.poetry]\nname = \"a\"\n")]), known("a"));
        let setup =
            [("setup.py", ""), ("setup.cfg", "[options]\nname = no\n[metadata]\nversion = 1\nname = b\n")];
        assert_eq!(name(&setup), known("b"));
        assert_eq!(name(&[("setup.py", "setup(name='c')")]), (None, true));
        assert_eq!(name(&[]), (None, false));
    }

    #[test]
    fn packages_of_the_checkout_are_told_from_others() {
        let package = |name: &str, origin: &str| Package {
            origin: (!origin.is_empty()).then(|| origin.to_owned()),
            ..Package::new(name, "1")
        };
        let packages: Packages = [
            package("a", "editable:file:///srv/site"),
            package("b", "file:///srv/site/lib"),
            package("c", "file:///srv/site/library"),
            package("d", ""),
        ]
        .into_iter()
        .collect();
        let sources = [Source::read(".", true).unwrap(), Source::read("lib", false).unwrap()];
        let left = without(&packages, &sources, Path::new("/srv/site"), &[]);
        assert_eq!(left.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["c", "d"]);
        assert_eq!(without(&packages, &[], Path::new("/srv/site"), &[]), packages);
    }
}
