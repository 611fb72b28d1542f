//! Chooses the project, the settings and the environment.

use std::path::{Path, PathBuf};

use super::{WORDS, listed, narrow, says, says_words, web};
use crate::InitError;
use crate::findings::{Found, in_backticks};
use crate::read::files::{Tree, directory_name, dotenv, entries_of, file_name, is_aside, real, shown, text};
use crate::read::git;
use crate::read::hints::{self, Hint, Hints};
use crate::read::literals::without_comments;
use crate::read::program::Program;
use crate::read::settings::{Module, Settings, default_settings, module_file};
use deploykit::services::Role;

/// Chooses the directory of manage.py: the one that `init` was called for, if it has one.
pub(crate) fn project(
    top: &Path,
    directory: &Path,
    tree: &Tree,
    programs: &[&Program],
) -> Result<Found<PathBuf>, InitError> {
    let here = |file: &&PathBuf| directory != top && file.parent() == Some(directory);
    let near =
        |file: &&PathBuf| here(file) || file.strip_prefix(top).is_ok_and(|inside| inside.iter().count() <= 4);
    let all: Vec<&PathBuf> = tree.named("manage.py").filter(near).collect();
    let mut candidates = all.clone();
    let says = |file: &PathBuf, word: &str| text(file).is_some_and(|text| text.to_lowercase().contains(word));
    narrow(&mut candidates, here);
    // One that is only imported does nothing when it is run.
    narrow(&mut candidates, |file| says(file, "__main__"));
    narrow(&mut candidates, |file| says(file, "django"));
    narrow(&mut candidates, |file| !is_aside(top, file));
    if candidates.len() > 1 {
        narrow(&mut candidates, |file| {
            let directory = real(file.parent().unwrap_or(top));
            programs.iter().any(|program| program.uses(&directory))
        });
    }
    let found = |file: &PathBuf| {
        let directory = file.parent().unwrap_or(top).to_owned();
        Found::new(directory, shown(top, file))
    };
    match candidates.as_slice() {
        [] => Err(InitError::NoProject { repository: top.to_owned() }),
        [only] => Ok(found(only)),
        [first, ..] => {
            let question = format!("which project is the site's? there are {}", listed(top, &candidates));
            Ok(found(first).asking(question))
        }
    }
}

/// Returns the directory that the project's modules are imported from.
pub(crate) fn import_directory(
    top: &Path,
    project: &Path,
    module: &str,
    programs: &[&Program],
) -> Option<PathBuf> {
    let own = [project.to_owned(), project.join("src"), top.join("src"), top.to_owned()];
    let paths = programs.iter().filter_map(|program| program.variable("PYTHONPATH"));
    let given = paths.flat_map(|paths| paths.split(':').map(PathBuf::from).collect::<Vec<_>>());
    given
        .filter(|path| path.is_absolute())
        .chain(own)
        .find(|directory| module_file(directory, module).is_some())
}

/// Returns `manage.py`, `wsgi.py` and `asgi.py` as settings: with the files that they load.
pub(crate) fn starters(project: &Path, tree: &Tree) -> Settings {
    let named = ["wsgi.py", "asgi.py"].into_iter().flat_map(|name| tree.named(name));
    let files = named.filter(|file| file.starts_with(project)).cloned().chain([project.join("manage.py")]);
    let files = files.filter_map(|file| Some((file.clone(), without_comments(&text(&file)?))));
    Settings { files: files.collect(), ..Settings::default() }
}

/// Chooses `DJANGO_SETTINGS_MODULE`; `wanted` is the environment that somebody asked for.
pub(crate) fn settings(
    top: &Path,
    project: &Path,
    tree: &Tree,
    programs: &[&Program],
    wanted: Option<&str>,
    hints: &Hints,
) -> Found<String> {
    let exists = |module: &str| import_directory(top, project, module, programs).is_some();
    let mut named: Vec<(String, String)> = Vec::new();
    for program in programs {
        if let Some(module) = settings_of(program)
            && !named.iter().any(|(known, _)| *known == module)
        {
            named.push((module, shown(top, &program.file)));
        }
    }
    let starters = starters(project, tree);
    let files: Vec<PathBuf> =
        [project.join(".env"), top.join(".env")].into_iter().chain(starters.loaded()).collect();
    for file in &files {
        let module = text(file).and_then(|text| dotenv(&text, "DJANGO_SETTINGS_MODULE"));
        if let Some(module) = module.filter(|_| named.is_empty()) {
            named.push((module, shown(top, file)));
        }
    }
    if let Some((module, source)) = named.first() {
        let found = Found::new(module.clone(), source.clone());
        if !exists(module) {
            return found.asking("the services name this module, but the checkout does not contain it");
        }
        if named.len() > 1 {
            let names = in_backticks(named.iter().map(|(name, _)| name));
            return found.asking(format!("the services name different settings modules: {names}"));
        }
        return found;
    }
    // What documents and CI name helps where the machine does not tell.
    let hinted = |hints: &[Hint]| -> Vec<(String, String)> {
        let named = hints::settings(hints).into_iter().filter(|(module, _)| {
            let last = module.rsplit('.').next().unwrap_or(module);
            exists(module) && is_for_a_server(Path::new(&format!("{last}.py")))
        });
        named.map(|(module, file)| (module, shown(top, &file))).collect()
    };
    let (docs, ci) = (hinted(&hints.docs), hinted(&hints.ci));
    let ci = ci.first().map(|(module, file)| format!("; `{file}` has `{module}`")).unwrap_or_default();
    let asking = |found: Found<String>| match (&found.question, docs.as_slice()) {
        (None, _) => found,
        (Some(_), [(module, file)]) => Found::new(module.clone(), file.clone()),
        (Some(question), _) => {
            let question = format!("{question}{ci}");
            found.asking(question)
        }
    };
    let variables = |name: &str| {
        let own = programs.iter().find_map(|program| program.variable(name));
        own.or_else(|| files.iter().find_map(|file| dotenv(&text(file)?, name)))
    };
    let served = programs.iter().any(|program| program.installed && web::role(&program.command) == Role::Web);
    let usual = starters.files.iter().filter(|(file, _)| !is_aside(top, file));
    let default = usual.clone().find_map(|(file, text)| Some((default_settings(text, &variables)?, file)));
    match default {
        Some((Module::Named(module), file)) => {
            let found = by_default(top, project, &module, file, served, wanted);
            return if served { found } else { asking(found) };
        }
        Some((Module::Computed(expression), file)) => {
            let why = format!(
                "`{}` computes the name: `{expression}`; which settings does the site use?",
                shown(top, file)
            );
            // The document knows the usual answer; the variable is set somewhere.
            return match docs.as_slice() {
                [(module, file)] => Found::guess(module.clone(), format!("{why} `{file}` has `{module}`")),
                _ => Found::open(format!("{why}{ci}")),
            };
        }
        None => {}
    }
    let inside = |file: &&PathBuf| file.starts_with(project) && !is_aside(top, file);
    let mut files: Vec<&PathBuf> = tree.named("settings.py").filter(inside).collect();
    // An app may have a module of that name as well.
    narrow(&mut files, |file| text(file).is_some_and(|text| text.contains("ROOT_URLCONF")));
    match files.as_slice() {
        [] => {
            let package =
                |file: &&PathBuf| inside(file) && directory_name(file) == "settings" && is_for_a_server(file);
            let modules: Vec<&PathBuf> = tree.files.iter().filter(package).collect();
            let why = "neither services nor manage.py name the settings";
            asking(Found::open(if modules.is_empty() {
                why.to_owned()
            } else {
                format!("{why}; there are {}", listed(top, &modules))
            }))
        }
        [first, rest @ ..] => {
            let module = first.strip_prefix(project).unwrap_or(first).with_extension("");
            let module: Vec<String> = module.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let found = Found::new(module.join("."), shown(top, first));
            let question = format!("which settings does the site use? there are {}", listed(top, &files));
            if rest.is_empty() { found } else { asking(found.asking(question)) }
        }
    }
}

/// Tells whether a file of a package of settings can be that of a server.
fn is_for_a_server(file: &Path) -> bool {
    let name = file_name(file).to_lowercase();
    let stem = name.strip_suffix(".py").filter(|stem| !stem.starts_with('_') && !stem.contains('.'));
    stem.is_some_and(|stem| {
        !says_words(stem, "development")
            && !says(stem, &["base", "common", "ci", "test", "tests", "testing", "docker"])
    })
}

/// Follows what wsgi.py or manage.py say; towards production when there are settings for it and nothing runs yet.
fn by_default(
    top: &Path,
    project: &Path,
    module: &str,
    file: &Path,
    served: bool,
    wanted: Option<&str>,
) -> Found<String> {
    let environment = wanted.unwrap_or("production");
    let source = shown(top, file);
    let last = |module: &str| module.rsplit('.').next().unwrap_or(module).to_lowercase();
    if says_words(&last(module), environment) {
        return Found::new(module.to_owned(), source);
    }
    let Some(directory) = import_directory(top, project, module, &[]) else {
        return Found::new(module.to_owned(), source).asking("this module was not found in the checkout");
    };
    // Of a package `settings` the modules in it, of a module the ones beside it.
    let (package, parent) = match module_file(&directory, module) {
        Some(path) if file_name(&path) == "__init__.py" => (path.parent().map(Path::to_owned), module),
        path => {
            let parent = module.rsplit_once('.').map_or("", |(parent, _)| parent);
            (path.as_deref().and_then(Path::parent).map(Path::to_owned), parent)
        }
    };
    let modules = package.map(|package| entries_of(&package)).unwrap_or_default();
    let stems = modules.iter().filter_map(|path| file_name(path).strip_suffix(".py").map(str::to_owned));
    let mut fitting: Vec<String> = stems
        .filter(|stem| [environment, "staging"].iter().any(|name| says_words(&stem.to_lowercase(), name)))
        .collect();
    fitting.sort_by_key(|stem| (stem != environment, !says_words(stem, environment)));
    // What a package imports by itself, and what a running service starts with, is no default that somebody changes.
    let package = module_file(&directory, module).filter(|file| file_name(file) == "__init__.py");
    let text = package.and_then(|file| text(&file)).unwrap_or_default();
    let chooses = text.lines().any(|line| line.contains("import *"));
    let named = |stem: &String| if parent.is_empty() { stem.clone() } else { format!("{parent}.{stem}") };
    if let Some(stem) = fitting.first().filter(|stem| says_words(stem, environment) && !served && !chooses) {
        let chosen = named(stem);
        let found = Found::new(chosen, format!("the settings for {environment} ({source} says {module})"));
        let all = in_backticks(fitting.iter().map(named));
        let question = format!("which settings does the site use? there are {all}");
        return if fitting.len() == 1 { found } else { found.asking(question) };
    }
    let found = Found::new(module.to_owned(), source);
    if !served && wanted.is_none() && says(&last(module), &["docker", "compose", "container", "ci"]) {
        return found.asking("these settings are for containers; which ones does this server use?");
    }
    let other = environment != "development" && says_words(&last(module), "development");
    if other || says(&last(module), &["test", "tests"]) {
        return found.asking("these are not the settings of a server, and no others were found");
    }
    found
}

fn settings_of(program: &Program) -> Option<String> {
    if let Some(module) = program.variable("DJANGO_SETTINGS_MODULE") {
        return Some(module);
    }
    let words = &program.command;
    let module = words.iter().enumerate().find_map(|(index, word)| {
        let given = ["DJANGO_SETTINGS_MODULE=", "--settings=", "--env=DJANGO_SETTINGS_MODULE="]
            .iter()
            .find_map(|prefix| word.strip_prefix(prefix));
        given
            .map(str::to_owned)
            .or_else(|| (word == "--settings").then(|| words.get(index + 1).cloned()).flatten())
    });
    module.filter(|module| {
        !module.is_empty() && module.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
    })
}

/// Says which environment this is: by the name of the settings, or by a variable of the `.env` file. What services run is
/// no development, whatever its settings are called.
pub(crate) fn environment(settings: &Found<String>, variables: Option<&str>, served: bool) -> Found<String> {
    let module = settings.value.as_deref().unwrap_or_default().to_lowercase();
    let last = module.rsplit('.').next().unwrap_or_default();
    let named = |text: &str| WORDS.iter().map(|(name, _)| *name).find(|name| says_words(text, name));
    let fits = |name: &&str| !served || *name != "development";
    if let Some(name) = named(last).filter(fits) {
        return Found::new(name.to_owned(), "the name of the settings");
    }
    let usual = ["SETTINGS_BASE", "DJANGO_ENV", "DJANGO_ENVIRONMENT", "ENVIRONMENT", "APP_ENV", "ENV"];
    let set = usual.iter().find_map(|variable| {
        let value = dotenv(variables?, variable)?.to_lowercase();
        Some((named(&value).filter(fits)?, *variable))
    });
    match set {
        Some((name, variable)) => Found::new(name.to_owned(), format!("{variable} in .env")),
        None => Found::new("production".to_owned(), ""),
    }
}

/// Finds `STATIC_ROOT`: the path, or the expression where it is computed.
pub(crate) fn static_root(top: &Path, settings: &Settings) -> Found<String> {
    let Some((file, expression)) = settings.assigned("STATIC_ROOT") else { return Found::default() };
    let path = settings.path(file, &expression).map(|path| path.to_string_lossy().into_owned());
    let spelled = expression.lines().next().unwrap_or_default().chars().take(60).collect();
    Found::new(path.unwrap_or(spelled), shown(top, file))
}

/// Says whether static files are collected: not where they come with the commit.
pub(crate) fn collect(top: &Path, static_root: &Found<String>) -> Found<String> {
    let tracked = static_root.value.as_deref().is_some_and(|root| git::tracks_below(top, Path::new(root)));
    if tracked {
        Found::new("never".to_owned(), "git tracks files below STATIC_ROOT")
    } else {
        Found::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::tests::Site;

    impl Site {
        fn settings(&self, programs: &[&Program]) -> Found<String> {
            settings(&self.top(), &self.top(), &self.tree(), programs, None, &Hints::default())
        }
    }

    #[test]
    fn settings_for_production_come_before_the_default() {
        let manage = "setdefault('DJANGO_SETTINGS_MODULE', 'config.settings')";
        let site = Site::new(&[
            ("manage.py", manage),
            ("config/settings/__init__.py", ""),
            ("config/settings/prod.py", ""),
            ("config/settings/local.py", ""),
        ]);
        let found = site.settings(&[]);
        assert_eq!(found.value.as_deref(), Some("config.settings.prod"));
        assert_eq!(found.question, None);

        let site = Site::new(&[
            ("manage.py", manage),
            ("config/settings.py", ""),
            ("config/settings_production.py", ""),
        ]);
        assert_eq!(site.settings(&[]).value.as_deref(), Some("config.settings_production"));
    }

    #[test]
    fn the_services_know_the_settings_best() {
        let site = Site::new(&[("manage.py", ""), ("a/prod.py", ""), ("a/staging.py", "")]);
        let program = |module: &str| Program {
            environment: vec![("DJANGO_SETTINGS_MODULE".into(), module.into())],
            file: "/etc/x.conf".into(),
            ..Program::default()
        };
        let (staging, prod, missing) = (program("a.staging"), program("a.prod"), program("b.c"));
        assert_eq!(site.settings(&[&staging]), Found::new("a.staging".into(), "/etc/x.conf"));
        assert_eq!(environment(&site.settings(&[&staging]), None, false).value.as_deref(), Some("staging"));
        assert!(site.settings(&[&staging, &prod]).question.unwrap().contains("`a.prod`"));
        assert!(site.settings(&[&missing]).question.is_some());
    }

    #[test]
    fn one_settings_file_for_all_learns_the_environment_from_a_variable() {
        let settings = Found::new("config.settings".to_owned(), "");
        let is = |variables: &str| environment(&settings, Some(variables), false).value.unwrap();
        assert_eq!(is("SETTINGS_BASE=dev-local\n"), "development");
        assert_eq!(is("ENVIRONMENT='Staging'\n"), "staging");
        assert_eq!(is("ENVIRONMENT=blue\n"), "production");
        let local = Found::new("config.local".to_owned(), "");
        assert_eq!(environment(&local, None, true).value.as_deref(), Some("production"));
    }

    #[test]
    fn documents_help_where_the_machine_does_not_tell() {
        let told = |files: &[(&str, &str)]| {
            let site = Site::new(files);
            let hints = Hints::read(&site.top(), &site.tree());
            settings(&site.top(), &site.top(), &site.tree(), &[], None, &hints)
        };
        let computed = ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', f'a.{os.environ[\"STAGE\"]}')");
        let (prod, ci) = (("a/live.py", ""), (".gitlab-ci.yml", "run: ./manage.py x --settings=a.live"));
        let docs =
            ("docs/install.rst", "Variables\n=========\n\n::\n\n    export DJANGO_SETTINGS_MODULE=a.live\n");
        let found = told(&[computed, prod, docs]);
        assert_eq!(found.value.as_deref(), Some("a.live"));
        assert!(found.question.unwrap().ends_with("`docs/install.rst` has `a.live`"));
        let found = told(&[computed, prod, ci]);
        assert_eq!(found.value, None);
        assert!(found.question.unwrap().ends_with("; `.gitlab-ci.yml` has `a.live`"));
        let container = ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'a.docker')");
        let found = told(&[container, ("a/docker.py", ""), prod, docs]);
        assert_eq!(found.value.as_deref(), Some("a.live"));
        let other = ("docs/install.rst", "Setup\n=====\n\n::\n\n    ./manage.py migrate --settings a.shop\n");
        let found = told(&[container, ("a/docker.py", ""), ("a/shop.py", ""), other]);
        assert_eq!(found, Found::new("a.shop".to_owned(), "docs/install.rst"));
    }

    #[test]
    fn settings_of_a_developer_are_asked_about() {
        let manage = "setdefault('DJANGO_SETTINGS_MODULE', 'a.local')";
        let site = Site::new(&[("manage.py", manage), ("a/local.py", "")]);
        assert!(site.settings(&[]).question.is_some());
        let manage = "setdefault('DJANGO_SETTINGS_MODULE', 'a.docker_compose')";
        let site = Site::new(&[("manage.py", manage), ("a/docker_compose.py", "")]);
        assert!(site.settings(&[]).question.unwrap().contains("containers"));
        assert!(Site::new(&[("manage.py", "")]).settings(&[]).value.is_none());
        let app = ("shop/settings.py", "PRICE = 1\n");
        let site = Site::new(&[("manage.py", ""), app, ("zoo/settings.py", "ROOT_URLCONF = 'zoo.urls'\n")]);
        assert_eq!(site.settings(&[]), Found::new("zoo.settings".to_owned(), "zoo/settings.py"));
        let site = Site::new(&[("manage.py", ""), ("a/settings/base.py", ""), ("a/settings/prod.py", "")]);
        let question = site.settings(&[]).question.unwrap();
        assert!(question.contains("`a/settings/prod.py`") && !question.contains("base"), "{question}");
    }
}
