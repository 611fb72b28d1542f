//! Chooses the requirements files and the virtualenv.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{WORDS, is_aside, listed, narrow, says, says_words};
use crate::findings::Found;
use crate::read::files::{Tree, directory_name, entries_of, file_name, is_virtualenv, real, shown, text};
use crate::read::git;
use crate::read::program::Program;
use crate::read::scripts::{self, Installs};

/// What the packages come from: requirements files or a lock file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Packages {
    pub requirements: Found<Vec<PathBuf>>,
    pub lock: Found<PathBuf>,
    pub groups: Found<Vec<String>>,
    pub extras: Found<Vec<String>>,
}

/// Lock files, and the tool of each.
const LOCKS: [(&str, &str); 5] = [
    ("uv.lock", "uv"),
    ("poetry.lock", "poetry"),
    ("pdm.lock", "pdm"),
    ("Pipfile.lock", "pipenv"),
    ("pylock.toml", "pylock"),
];

/// Chooses what the packages come from. Requirements files and a lock file are never taken together.
pub(crate) fn packages(top: &Path, project: &Path, tree: &Tree, environment: &str) -> Packages {
    let scripts = scripts::installs(tree);
    let found = requirements(top, project, tree, environment);
    let near = |name: &str| [project, top].into_iter().map(|at| at.join(name)).find(|path| path.is_file());
    let mut locks: Vec<(PathBuf, &str)> =
        LOCKS.iter().filter_map(|(name, tool)| Some((near(name)?, *tool))).collect();
    narrow(&mut locks, |(_, tool)| scripts.iter().any(|script| script.locker == Some(*tool)));
    let Some((lock, tool)) = locks.first().cloned() else {
        return Packages { requirements: with_more(top, found, &scripts), ..Packages::default() };
    };
    let used = scripts.iter().find(|script| script.locker == Some(tool));
    let by_pip = scripts.iter().find(|script| !script.requirements.is_empty() && script.locker.is_none());
    let mut packages = Packages::default();
    if found.value.is_some() && used.is_none() {
        if let Some(script) = by_pip {
            let source = shown(top, &script.file);
            return Packages {
                requirements: with_more(top, Found { source: Some(source), ..found }, &scripts),
                ..packages
            };
        }
        let files: Vec<&PathBuf> = found.value.iter().flatten().chain([&lock]).collect();
        let question = format!("what do the packages come from? there are {}", listed(top, &files));
        packages.requirements = Found::open(question);
        return packages;
    }
    if locks.len() > 1 {
        let files: Vec<&PathBuf> = locks.iter().map(|(file, _)| file).collect();
        packages.lock =
            Found::guess(lock, format!("which lock file is the site's? there are {}", listed(top, &files)));
        return packages;
    }
    let source = used.map(|script| shown(top, &script.file));
    if let (Some(script), Some(source)) = (used, &source) {
        let listed = |names: &[String]| {
            if names.is_empty() { Found::default() } else { Found::new(names.to_vec(), source.clone()) }
        };
        (packages.groups, packages.extras) = (listed(&script.groups), listed(&script.extras));
        if script.all_extras {
            packages.extras = listed(&all_extras(&lock));
        }
    }
    packages.lock = Found::new(lock, source.unwrap_or_default());
    packages
}

/// Returns the names of the extras of the project that a lock file belongs to.
fn all_extras(lock: &Path) -> Vec<String> {
    let project =
        text(&lock.with_file_name("pyproject.toml")).and_then(|text| text.parse::<toml::Table>().ok());
    let extras =
        project.as_ref().and_then(|project| project.get("project")?.get("optional-dependencies")?.as_table());
    extras.map(|extras| extras.keys().cloned().collect()).unwrap_or_default()
}

/// Adds the requirements that git does not know and that the project's own script installs where they are.
fn with_more(top: &Path, mut found: Found<Vec<PathBuf>>, scripts: &[Installs]) -> Found<Vec<PathBuf>> {
    let Some(files) = &mut found.value else { return found };
    for script in scripts {
        let near = script.file.parent().unwrap_or(top);
        for name in &script.requirements {
            let file = near.join(name);
            if file.is_file() && !files.contains(&file) && !git::is_tracked(top, &file) {
                files.push(file);
                found.source = Some(shown(top, &script.file));
            }
        }
    }
    found
}

/// Chooses the requirements files.
fn requirements(top: &Path, project: &Path, tree: &Tree, environment: &str) -> Found<Vec<PathBuf>> {
    let is_candidate = |file: &&PathBuf| {
        let name = file_name(file).to_lowercase();
        let inside = says(&directory_name(file).to_lowercase(), &["requirements", "reqs", "requires"]);
        name.ends_with(".txt") && (name.starts_with("requirements") || inside) && !is_aside(top, file)
    };
    let candidates: Vec<&PathBuf> = tree.files.iter().filter(is_candidate).collect();
    let rank = |file: &Path| {
        let name = file_name(file).to_lowercase();
        let stem = name.trim_end_matches(".txt");
        if says_words(stem, environment) {
            return 0;
        }
        let other = WORDS.iter().any(|(name, words)| *name != environment && says(stem, words));
        if other
            || says(
                stem,
                &["test", "tests", "testing", "docs", "doc", "lint", "ci", "constraints", "optional"],
            )
        {
            return 9;
        }
        match (name.as_str(), file.parent()) {
            ("requirements.txt", Some(directory)) if directory == top => 1,
            ("requirements.txt", Some(directory)) if directory == project => 2,
            _ if says(stem, &["base", "common", "main"]) => 3,
            _ => 4,
        }
    };
    let best = candidates.iter().map(|file| rank(file)).min();
    let first: Vec<&PathBuf> = candidates.iter().filter(|file| Some(rank(file)) == best).copied().collect();
    match first.as_slice() {
        [] => without_requirements(tree),
        [only] if rank(only) < 9 => Found::new(
            vec![(*only).clone()],
            if rank(only) == 0 { "the file for this environment" } else { "" },
        ),
        [some, ..] => {
            let question =
                format!("which requirements are the site's? there are {}", listed(top, &candidates));
            Found::guess(vec![(*some).clone()], question)
        }
    }
}

fn without_requirements(tree: &Tree) -> Found<Vec<PathBuf>> {
    Found::open(if tree.named("pyproject.toml").next().is_some() {
        "the packages are in `pyproject.toml`; commit a lock file, such as by `uv lock`, or a requirements file"
    } else {
        "there is no requirements file; without one, packages are left as they are"
    })
}

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
    let mut candidates: Vec<&PathBuf> = all.iter().collect();
    narrow(&mut candidates, |directory| has_django(directory));
    let name = file_name(top);
    narrow(&mut candidates, |directory| {
        let inside = directory.starts_with(top);
        inside || says(&file_name(directory), &["venv", "env", "virtualenv", &name]) || has_django(directory)
    });
    match candidates.as_slice() {
        [] => Found::guess(top.join(".venv"), "no virtualenv was found in or beside the checkout"),
        [only] => Found::new((*only).clone(), if has_django(only) { "has Django" } else { "pyvenv.cfg" }),
        [first, ..] => Found::guess(
            (*first).clone(),
            format!("which virtualenv does the site use? there are {}", listed(top, &candidates)),
        ),
    }
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

    impl Site {
        fn requirements(&self, environment: &str) -> Found<Vec<PathBuf>> {
            requirements(&self.top(), &self.top(), &self.tree(), environment)
        }
    }

    fn names(found: &Found<Vec<PathBuf>>) -> Vec<String> {
        found.value.iter().flatten().map(|path| file_name(path)).collect()
    }

    #[test]
    fn requirements_follow_the_environment() {
        let all = ["base", "dev", "production", "staging"].map(|name| format!("requirements/{name}.txt"));
        let site = Site::new(&all.each_ref().map(|path| (path.as_str(), "")));
        assert_eq!(names(&site.requirements("production")), ["production.txt"]);
        assert_eq!(names(&site.requirements("staging")), ["staging.txt"]);
        assert_eq!(names(&site.requirements("development")), ["dev.txt"]);
        let site = Site::new(&[
            ("requirements.txt", ""),
            ("requirements_prod.txt", ""),
            ("docs/requirements.txt", ""),
        ]);
        assert_eq!(names(&site.requirements("production")), ["requirements_prod.txt"]);
        assert_eq!(names(&site.requirements("staging")), ["requirements.txt"]);
    }

    #[test]
    fn requirements_that_do_not_say_whose_they_are_are_asked_about() {
        let site = Site::new(&[("requirements/one.txt", ""), ("requirements/two.txt", "")]);
        let found = site.requirements("production");
        assert_eq!(names(&found), ["one.txt"]);
        assert!(found.question.unwrap().contains("`requirements/two.txt`"));
        let site = Site::new(&[("requirements-dev.txt", "")]);
        assert!(site.requirements("production").question.is_some());
        let site = Site::new(&[("pyproject.toml", ""), ("uv.lock", "")]);
        assert!(site.requirements("production").question.unwrap().contains("uv lock"));
        let packages = packages(&site.top(), &site.top(), &site.tree(), "production");
        assert_eq!(packages.lock.value, Some(site.top().join("uv.lock")));
        assert_eq!(packages.requirements, Found::default());
        let site = Site::new(&[("requirements.txt", ""), ("uv.lock", "")]);
        let both = super::packages(&site.top(), &site.top(), &site.tree(), "production");
        assert_eq!(both.lock, Found::default());
        assert!(both.requirements.question.unwrap().contains("`requirements.txt`, `uv.lock`"));
    }

    #[test]
    fn the_virtualenv_with_django_is_the_sites() {
        let site = Site::new(&[("a", ""), (".venv/pyvenv.cfg", ""), ("../tools/pyvenv.cfg", "")]);
        let all = || virtualenvs(&site.top(), &site.tree());
        assert_eq!(virtualenv(&site.top(), &all(), &[]).value, Some(site.top().join(".venv")));
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
