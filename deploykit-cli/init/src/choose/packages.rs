//! Chooses the requirements files and the virtualenv.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{WORDS, is_aside, listed, narrow, says, says_words};
use crate::findings::Found;
use crate::read::files::{Tree, directory_name, entries_of, file_name, is_virtualenv, real, shown};
use crate::read::program::Program;

/// Chooses the requirements files.
pub(crate) fn requirements(
    top: &Path,
    project: &Path,
    tree: &Tree,
    environment: &str,
) -> Found<Vec<PathBuf>> {
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
    let others = [
        ("uv.lock", "uv export --no-dev -o requirements.txt"),
        ("poetry.lock", "poetry export -o requirements.txt"),
        ("Pipfile.lock", "pipenv requirements > requirements.txt"),
        ("pyproject.toml", "pip-compile -o requirements.txt"),
    ];
    let other = others.iter().find(|(name, _)| tree.named(name).next().is_some());
    Found::open(match other {
        Some((name, command)) => {
            format!("the packages are in {name}; commit a requirements file, such as by `{command}`")
        }
        None => "there is no requirements file; without one, packages are left as they are".to_owned(),
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
    if let Some((directory, program)) = used.first() {
        let found = Found::new(directory.clone(), shown(top, &program.file));
        if used.len() == 1 {
            return found;
        }
        let directories: Vec<&PathBuf> = used.iter().map(|(directory, _)| directory).collect();
        return found.asking(format!("the services use several: {}", listed(top, &directories)));
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
            format!("which one does the site use? there are {}", listed(top, &candidates)),
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
        assert!(site.requirements("production").question.unwrap().contains("uv export"));
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
