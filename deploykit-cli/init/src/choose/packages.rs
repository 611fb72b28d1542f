//! Chooses the requirements files or the lock file.

use std::path::{Path, PathBuf};

use super::{WORDS, listed, narrow, says, says_words};
use crate::findings::{Found, in_backticks};
use crate::read::files::{Tree, directory_name, file_name, is_aside, shown, text};
use crate::read::git;
use crate::read::hints::{self, Hints};
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
pub(crate) fn packages(
    top: &Path,
    project: &Path,
    tree: &Tree,
    environment: &str,
    hints: &Hints,
) -> Packages {
    let scripts = scripts::installs(tree);
    let (docs, ci) = (hints::installs(&hints.docs), hints::installs(&hints.ci));
    let found = requirements(top, project, tree, environment, &docs, &ci);
    let near = |name: &str| [project, top].into_iter().map(|at| at.join(name)).find(|path| path.is_file());
    let mut locks: Vec<(PathBuf, &str)> =
        LOCKS.iter().filter_map(|(name, tool)| Some((near(name)?, *tool))).collect();
    let mut locked_by = |installs: &[Installs]| {
        narrow(&mut locks, |(_, tool)| installs.iter().any(|one| one.locker == Some(*tool)));
    };
    locked_by(&scripts);
    locked_by(&docs);
    let Some((lock, tool)) = locks.first().cloned() else {
        return Packages { requirements: with_more(top, found, &scripts), ..Packages::default() };
    };
    let is_told = |all: &[Installs]| all.iter().any(|one| one.locker == Some(tool) || by_pip_alone(one));
    // Documents say what no script says.
    let told = if is_told(&scripts) { &scripts } else { &docs };
    let is_locker = |script: &&Installs| script.locker == Some(tool);
    let is_by_pip = |script: &&Installs| by_pip_alone(script) && installs_one_of(script, &found);
    // The first one is that of updates; one that exports the lock into a requirements file comes after it.
    let first = told.iter().find(|script| is_locker(script) || is_by_pip(script));
    let (used, by_pip) = (first.filter(is_locker), first.filter(is_by_pip));
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
        let ci = ci.iter().find(|one| one.locker.is_some() || by_pip_alone(one));
        let used = ci.map(|ci| format!("; `{}` uses {}", shown(top, &ci.file), ci.locker.unwrap_or("pip")));
        let (files, used) = (listed(top, &files), used.unwrap_or_default());
        let question = format!("what do the packages come from? there are {files}{used}");
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
    } else if let Some(ci) = ci.iter().find(|one| one.locker == Some(tool) && !deployed(one).is_empty()) {
        let (file, groups) = (shown(top, &ci.file), in_backticks(deployed(ci)));
        packages.groups = Found::open(format!("`{file}` installs {groups} as well; does the site need it?"));
    }
    packages.lock = Found::new(lock, source.unwrap_or_default());
    packages
}

fn by_pip_alone(one: &Installs) -> bool {
    !one.requirements.is_empty() && one.locker.is_none()
}

/// Tells whether one of the requirements files is what a script installs.
fn installs_one_of(script: &Installs, found: &Found<Vec<PathBuf>>) -> bool {
    let is_named =
        |file: &PathBuf| script.requirements.iter().any(|name| file_name(Path::new(name)) == file_name(file));
    found.value.iter().flatten().any(is_named)
}

/// Returns the groups that can be for a server.
fn deployed(one: &Installs) -> Vec<&String> {
    one.groups.iter().filter(|group| !is_for_developers(&group.to_lowercase())).collect()
}

fn is_for_developers(name: &str) -> bool {
    let words = [
        "check", "ci", "doc", "docs", "format", "lint", "linting", "test", "testing", "tests", "types",
        "typing",
    ];
    says(name, &words) || says_words(name, "development")
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
            let file = [near, top].map(|at| at.join(name)).into_iter().find(|file| file.is_file());
            let Some(file) = file else { continue };
            if !files.contains(&file) && !git::is_tracked(top, &file) {
                files.push(file);
                found.source = Some(shown(top, &script.file));
            }
        }
    }
    found
}

/// Chooses the requirements files; among equals those that the documents install.
fn requirements(
    top: &Path,
    project: &Path,
    tree: &Tree,
    environment: &str,
    docs: &[Installs],
    ci: &[Installs],
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
            let named = |one: &Installs| -> Vec<PathBuf> {
                let files = one.requirements.iter().filter_map(|name| named_file(top, &candidates, name));
                files.filter(|file| rank(file) < 9).collect()
            };
            let told = |all: &[Installs]| -> Vec<(Vec<PathBuf>, String)> {
                let told = all.iter().map(|one| (named(one), shown(top, &one.file)));
                told.filter(|(files, _)| !files.is_empty()).collect()
            };
            let docs = told(docs);
            if let Some((files, source)) =
                docs.first().filter(|(files, _)| docs.iter().all(|(other, _)| other == files))
            {
                return Found::new(files.clone(), source.clone());
            }
            let mut question =
                format!("which requirements are the site's? there are {}", listed(top, &candidates));
            if let Some((files, source)) = told(ci).first() {
                question.push_str(&format!(
                    "; `{source}` installs {}",
                    listed(top, &files.iter().collect::<Vec<_>>())
                ));
            }
            Found::guess(vec![(*some).clone()], question)
        }
    }
}

/// Returns the only candidate that a command can mean by a name: `requirements/live.txt`, `$SITE/requirements.txt`.
fn named_file(top: &Path, candidates: &[&PathBuf], name: &str) -> Option<PathBuf> {
    let inside = |file: &PathBuf| Path::new(name).ends_with(file.strip_prefix(top).unwrap_or(file));
    let exact: Vec<&PathBuf> = candidates.iter().filter(|file| inside(file)).copied().collect();
    let near: Vec<&PathBuf> = candidates.iter().filter(|file| file.ends_with(name)).copied().collect();
    match (exact.as_slice(), near.as_slice()) {
        ([.., only], _) | ([], [only]) => Some((*only).clone()),
        _ => None,
    }
}

fn without_requirements(tree: &Tree) -> Found<Vec<PathBuf>> {
    Found::open(if tree.named("pyproject.toml").next().is_some() {
        "the packages are in `pyproject.toml`; commit a lock file, such as by `uv lock`, or a requirements file"
    } else {
        "there is no requirements file; without one, packages are left as they are"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::tests::Site;

    impl Site {
        fn requirements(&self, environment: &str) -> Found<Vec<PathBuf>> {
            requirements(&self.top(), &self.top(), &self.tree(), environment, &[], &[])
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
        let packages = packages(&site.top(), &site.top(), &site.tree(), "production", &Hints::default());
        assert_eq!(packages.lock.value, Some(site.top().join("uv.lock")));
        assert_eq!(packages.requirements, Found::default());
        let site = Site::new(&[("requirements.txt", ""), ("uv.lock", "")]);
        let both = super::packages(&site.top(), &site.top(), &site.tree(), "production", &Hints::default());
        assert_eq!(both.lock, Found::default());
        assert!(both.requirements.question.unwrap().contains("`requirements.txt`, `uv.lock`"));
    }

    #[test]
    fn documents_decide_among_candidates_and_ci_is_quoted() {
        let all = [("requirements.txt", ""), ("uv.lock", "")];
        let with = |path: &'static str, text: &'static str| {
            let site = Site::new(&[all[0], all[1], (path, text)]);
            let hints = Hints::read(&site.top(), &site.tree());
            packages(&site.top(), &site.top(), &site.tree(), "production", &hints)
        };
        let told = with("docs/install.md", "```\nuv sync --group live\n```\n");
        assert_eq!(told.lock.source.as_deref(), Some("docs/install.md"));
        assert_eq!((told.groups.value.unwrap(), told.requirements.value), (vec!["live".to_owned()], None));
        let told =
            with("docs/install.md", "```\n/srv/venv/bin/pip install -r /srv/site/requirements.txt\n```\n");
        assert_eq!((names(&told.requirements), told.lock.value), (vec!["requirements.txt".to_owned()], None));
        let upgrade = (
            "scripts/upgrade.sh",
            "pip install -r requirements.txt\npip install -r local_requirements.txt\n",
        );
        let export = ("scripts/export.sh", "uv export > requirements.txt\n");
        let site = Site::new(&[all[0], all[1], upgrade, export, ("local_requirements.txt", "")]);
        let told = packages(&site.top(), &site.top(), &site.tree(), "production", &Hints::default());
        assert_eq!(names(&told.requirements), ["requirements.txt", "local_requirements.txt"]);
        let told = with(".github/workflows/x.yml", "- run: uv sync\n");
        let question = told.requirements.question.unwrap();
        assert!(question.ends_with("`uv.lock`; `.github/workflows/x.yml` uses uv"), "{question}");
    }
}
