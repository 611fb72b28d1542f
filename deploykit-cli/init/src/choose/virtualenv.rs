//! Chooses the virtualenv, and asks for another Python where the project needs one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use deploykit::internal::python::unfit;

use super::{listed, narrow, says};
use crate::findings::{Found, in_backticks};
use crate::read::files::{Tree, directory_name, entries_of, file_name, is_virtualenv, real, shown, text};
use crate::read::hints::Hints;
use crate::read::program::Program;

/// Lists the virtualenvs in and beside the checkout.
pub(crate) fn virtualenvs(top: &Path, tree: &Tree) -> Vec<PathBuf> {
    let mut found = tree.virtualenvs.clone();
    // Beside the name that the checkout has here, and beside the one that it really has.
    let resolved = real(top);
    for parent in
        [top, &resolved].into_iter().filter_map(Path::parent).filter(|parent| parent.parent().is_some())
    {
        for directory in entries_of(parent) {
            if is_virtualenv(&directory) {
                found.push(directory);
            } else if says(&file_name(&directory), &["venvs", "envs", "virtualenvs", "env", "venv"]) {
                found.extend(entries_of(&directory).into_iter().filter(|directory| is_virtualenv(directory)));
            }
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|directory| seen.insert(real(directory)));
    found
}

/// Chooses the virtualenv.
pub(crate) fn virtualenv(top: &Path, all: &[PathBuf], programs: &[&Program]) -> Found<PathBuf> {
    let mut used: Vec<(PathBuf, &Program)> = Vec::new();
    for program in programs {
        for directory in program.virtualenvs() {
            if !used.iter().any(|(known, _)| real(known) == real(&directory)) {
                used.push((directory, program));
            }
        }
    }
    if is_virtualenv(top) {
        // deploykit puts a link in the place of a virtualenv.
        return Found::open(
            "the virtualenv is the checkout itself; create one elsewhere, and set its path here and in the services",
        );
    }
    if let Some((directory, program)) = used.first() {
        let found = Found::new(directory.clone(), shown(top, &program.file));
        if used.len() == 1 {
            return found;
        }
        let directories: Vec<&PathBuf> = used.iter().map(|(directory, _)| directory).collect();
        return found.asking(format!("the services use several virtualenvs: {}", listed(top, &directories)));
    }
    // One that is a checkout belongs to what is in it.
    let mut candidates: Vec<&PathBuf> =
        all.iter().filter(|directory| !directory.join(".git").exists()).collect();
    narrow(&mut candidates, |directory| has_django(directory));
    let name = file_name(top);
    let fits = |directory: &Path| {
        let inside = directory.starts_with(top);
        let names = ["venv", "env", "envs", "venvs", "virtualenv", "virtualenvs", &name];
        let named = [file_name(directory), directory_name(directory)].iter().any(|it| says(it, &names));
        inside || named || has_django(directory)
    };
    narrow(&mut candidates, |directory| fits(directory));
    match candidates.as_slice() {
        [] => Found::guess(top.join(".venv"), "no virtualenv was found in or beside the checkout"),
        [only] if !fits(only) => {
            Found::guess((*only).clone(), "is this virtualenv the site's? nothing in it or around it says so")
        }
        [only] => Found::new((*only).clone(), if has_django(only) { "has Django" } else { "pyvenv.cfg" }),
        [first, ..] => Found::guess(
            (*first).clone(),
            format!("which virtualenv does the site use? there are {}", listed(top, &candidates)),
        ),
    }
}

/// Returns the version of Python that a virtualenv was made with.
pub(crate) fn version(virtualenv: &Path) -> Option<String> {
    let settings = text(&virtualenv.join("pyvenv.cfg"))?;
    let version = settings.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        ["version", "version_info"].contains(&key.trim()).then(|| value.trim().to_owned())
    })?;
    // virtualenv writes `3.13.1.final.0`.
    let numbers: Vec<&str> = version.split('.').take(3).collect();
    Some(numbers.join("."))
}

/// Asks for the Python of the next virtualenv when the project is for another one than this version; CI knows candidates.
pub(crate) fn python(
    top: &Path,
    project: &Path,
    version: Option<&str>,
    hints: &Hints,
) -> Option<(String, String)> {
    let (why, directory) = [project, top].into_iter().find_map(|at| Some((unfit(at, version?)?, at)))?;
    let fitting: Vec<(String, PathBuf)> =
        hints.pythons().into_iter().filter(|(version, _)| unfit(directory, version).is_none()).collect();
    let question = format!("{why}; with which Python does the next update build it?");
    let Some((first, file)) = fitting.first().cloned() else {
        let named =
            why.split(|c: char| !(c.is_ascii_digit() || c == '.')).find(|word| word.starts_with("3."));
        return Some((question, named.unwrap_or("3.12").to_owned()));
    };
    let (file, all) = (shown(top, &file), in_backticks(fitting.iter().map(|(version, _)| version)));
    Some((format!("{question} `{file}` has {all}"), first))
}

fn has_django(virtualenv: &Path) -> bool {
    let versions = entries_of(&virtualenv.join("lib"));
    versions.iter().any(|version| version.join("site-packages/django/__init__.py").is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::choose::tests::Site;

    #[test]
    fn a_virtualenv_of_another_python_is_asked_about() {
        let site = Site::new(&[("pyproject.toml", "[project]\nrequires-python = '>=3.12'\n")]);
        let asked = |version: &str| python(&site.top(), &site.top(), Some(version), &Hints::default());
        assert_eq!(asked("3.12.1"), None);
        assert_eq!(asked("3.11.2").map(|(_, example)| example).as_deref(), Some("3.12"));
        assert_eq!(python(&site.top(), &site.top(), None, &Hints::default()), None);
    }

    #[test]
    fn the_virtualenv_with_django_is_the_sites() {
        let site = Site::new(&[("a", ""), (".venv/pyvenv.cfg", ""), ("../tools/pyvenv.cfg", "")]);
        let all = || virtualenvs(&site.top(), &site.tree());
        assert_eq!(virtualenv(&site.top(), &all(), &[]).value, Some(site.top().join(".venv")));
        let alone = virtualenv(&site.top(), &[site.around().join("tools")], &[]);
        assert!(alone.question.is_some(), "{alone:?}");
        let other = Site::new(&[("a", ""), ("../other/pyvenv.cfg", ""), ("../other/.git/HEAD", "")]);
        let found = virtualenv(&other.top(), &virtualenvs(&other.top(), &other.tree()), &[]);
        assert!(found.question.unwrap().starts_with("no virtualenv"));
        let django = site.around().join("tools/lib/python3.13/site-packages/django");
        fs::create_dir_all(&django).unwrap();
        fs::write(django.join("__init__.py"), "").unwrap();
        assert_eq!(
            virtualenv(&site.top(), &all(), &[]),
            Found::new(site.around().join("tools"), "has Django")
        );
        fs::remove_dir_all(site.around().join("tools/lib")).unwrap();
        for name in ["env", "venv"] {
            fs::create_dir_all(site.around().join(name)).unwrap();
            fs::write(site.around().join(name).join("pyvenv.cfg"), "").unwrap();
        }
        assert!(virtualenv(&site.top(), &all(), &[]).question.is_some());
    }
}
