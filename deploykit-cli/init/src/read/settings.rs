//! Reads Python settings as text: assignments, the strings in them, and the paths that they spell out.
//!
//! Nothing is run. An expression that is more than strings, names and path arithmetic has no value here.

use std::path::{Path, PathBuf};

use regex_lite::Regex;

use super::expression;
use super::files::text;
use super::literals::{is_word, string_length, strings, without_comments};
use deploykit::internal::names;

/// How deep names may refer to names.
const DEPTH: usize = 12;

/// A settings module and what it imports with `*`, the module itself first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub files: Vec<(PathBuf, String)>,
    /// The text of the `.env` file, whose paths are used where the settings ask for them.
    pub variables: String,
}

impl Settings {
    /// Reads a module, given as the directory that it is imported from and its dotted name.
    pub fn read(directory: &Path, module: &str) -> Self {
        let mut settings = Settings::default();
        if let Some(file) = module_file(directory, module) {
            settings.add(directory, &file);
        }
        settings
    }

    fn add(&mut self, top: &Path, file: &Path) {
        if self.files.len() >= DEPTH || self.files.iter().any(|(known, _)| known == file) {
            return;
        }
        let Some(text) = text(file).map(|text| without_comments(&text)) else { return };
        self.files.push((file.to_owned(), text.clone()));
        let Ok(import) = Regex::new(r"(?m)^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+\(?\*") else {
            return;
        };
        for found in import.captures_iter(&text) {
            let (dots, name) = (found[1].len(), &found[2]);
            let from = if dots == 0 { Some(top) } else { file.ancestors().nth(dots) };
            if let Some(file) = from.and_then(|from| module_file(from, name)) {
                self.add(top, &file);
            }
        }
    }

    /// Returns the last assignment of a name in the first file that has one: the file and the expression.
    pub fn assigned(&self, name: &str) -> Option<(&Path, String)> {
        self.files.iter().find_map(|(file, text)| Some((file.as_path(), assignment(text, name)?)))
    }

    /// Returns the names that are assigned and match.
    pub fn names(&self, pattern: &str) -> Vec<String> {
        let Ok(assigned) = Regex::new(&format!(r"(?m)^({pattern})[ \t]*(?::[^=\n]*)?=[^=]")) else {
            return Vec::new();
        };
        let texts = self.files.iter().map(|(_, text)| text);
        texts.flat_map(|text| assigned.captures_iter(text).map(|found| found[1].to_owned())).collect()
    }

    /// Returns the path that an expression of one of the files spells out, if it does.
    pub fn path(&self, file: &Path, expression: &str) -> Option<PathBuf> {
        self.value(file, expression, DEPTH)
            .map(|path| names::normal(Path::new(&path)))
            .filter(|path| path.is_absolute())
    }

    fn value(&self, file: &Path, expression: &str, depth: usize) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        let names = |name: &str| {
            if name == "__file__" {
                return file.to_str().map(str::to_owned);
            }
            let own = self.files.iter().find(|(path, _)| path == file);
            let own = own.and_then(|(path, text)| Some((path.as_path(), assignment(text, name)?)));
            let (file, expression) = own.or_else(|| self.assigned(name))?;
            self.value(file, &expression, depth)
        };
        let found = expression::value(expression, &names, &self.variables);
        found.or_else(|| expression::value(expression::otherwise(expression)?, &names, &self.variables))
    }

    /// Returns the files that are read for variables or secrets, whatever their names are.
    pub fn loaded(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let Ok(loads) = Regex::new(r"\b(?:read_env|load_dotenv|dotenv_values)\(|\b_?env_file[ \t]*=") else {
            return paths;
        };
        let Ok(reads) = Regex::new(r"(\([^()]*\)|\w+)\.(?:read_text|open)\(") else { return paths };
        for (file, text) in &self.files {
            let mut expressions: Vec<String> = loads
                .find_iter(text)
                .map(|found| {
                    let inner = cut(&text[found.end()..], true);
                    let path = inner.split_once('=').filter(|(name, _)| name.trim().chars().all(is_word));
                    path.map_or(inner.clone(), |(_, path)| path.to_owned())
                })
                .collect();
            expressions.extend(reads.captures_iter(text).map(|found| found[1].to_owned()));
            let expressions = expressions.iter().flat_map(|expression| {
                let several = looped(text, expression);
                if several.is_empty() { vec![expression.clone()] } else { several }
            });
            for path in expressions.filter_map(|expression| self.path(file, &expression)) {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        paths
    }

    /// Returns every path whose last part is one of these names and that the files spell out.
    pub fn paths_ending_in(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let Ok(assigned) = Regex::new(r"(?m)^[ \t]*(\w+)[ \t]*=[ \t]*[^=\s]") else { return paths };
        let Ok(opened) = Regex::new(r"\b(?:open|read_env|load_dotenv|Path)\(") else { return paths };
        for (file, text) in &self.files {
            let mut expressions: Vec<String> = Vec::new();
            expressions.extend(assigned.captures_iter(text).filter_map(|found| assignment(text, &found[1])));
            for found in opened.find_iter(text) {
                let inner = cut(&text[found.end()..], true);
                // `read_env(env_file=…)` and `open(…)` name the path first.
                let path = inner.split_once('=').filter(|(name, _)| name.trim().chars().all(is_word));
                expressions.push(path.map_or(inner.clone(), |(_, path)| path.to_owned()));
            }
            for expression in expressions {
                if names.iter().any(|name| expression.contains(name))
                    && let Some(path) = self.path(file, &expression)
                    && names.iter().any(|name| path.ends_with(name))
                    && !paths.contains(&path)
                {
                    paths.push(path);
                }
            }
        }
        paths
    }

    /// Returns whether one of the files matches.
    pub fn matches(&self, pattern: &str) -> bool {
        self.files.iter().any(|(_, text)| matches(text, pattern))
    }
}

/// Tells whether a pattern is in a text.
pub(crate) fn matches(text: &str, pattern: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

/// Returns the file of a module: `a/b.py` or `a/b/__init__.py`.
pub(crate) fn module_file(directory: &Path, module: &str) -> Option<PathBuf> {
    let mut path = directory.to_owned();
    path.extend(module.split('.').filter(|part| !part.is_empty()));
    let package = path.join("__init__.py");
    if module.is_empty() {
        return package.is_file().then_some(package);
    }
    let file = PathBuf::from(format!("{}.py", path.to_str()?));
    [file, package].into_iter().find(|file| file.is_file())
}

/// Returns the expressions that a name stands for in `for NAME in (…)`.
fn looped(text: &str, name: &str) -> Vec<String> {
    let pattern = format!(r"\bfor[ \t]+{}[ \t]+in[ \t]*[(\[]", regex_lite::escape(name));
    let start = Regex::new(&pattern).ok().and_then(|pattern| pattern.find(text)).map(|found| found.end());
    let Some(start) = start.filter(|_| !name.is_empty() && name.chars().all(is_word)) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let mut rest = &text[start..];
    loop {
        let one = cut(rest, true);
        if one.is_empty() {
            return all;
        }
        let after = rest.find(&one).map_or(rest.len(), |at| at + one.len());
        all.push(one);
        match rest[after..].trim_start().strip_prefix(',') {
            Some(next) => rest = next,
            None => return all,
        }
    }
}

/// Returns the module that `manage.py` or `wsgi.py` sets when the environment names none; `variables` knows what an
/// f-string asks the environment for.
pub(crate) fn default_settings(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Option<Module> {
    let text = without_comments(text);
    let start = Regex::new(r#"DJANGO_SETTINGS_MODULE["']\s*(?:,|\]\s*=)\s*(f?)(["'])"#).ok()?;
    let found = start.captures(&text)?;
    let literal = &text[found.get(2)?.start()..];
    let value = strings(&literal[..string_length(literal)]).pop()?;
    if found[1].is_empty() {
        return is_module(&value).then_some(Module::Named(value));
    }
    let mut module = String::new();
    let mut rest = value.as_str();
    while let Some((before, inner)) = rest.split_once('{') {
        let (inner, after) = inner.split_once('}')?;
        module.push_str(before);
        let asked = assignment(&text, inner.trim()).unwrap_or_else(|| inner.to_owned());
        let mut names = strings(&asked).into_iter();
        match names.next().and_then(|name| variables(&name)).or_else(|| names.next()) {
            Some(value) => module.push_str(&value),
            None => return Some(Module::Computed(value)),
        }
        rest = after;
    }
    module.push_str(rest);
    Some(if is_module(&module) { Module::Named(module) } else { Module::Computed(value) })
}

/// A settings module as a starter of the project names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    /// Its name.
    Named(String),
    /// An expression that nothing on the machine has the value of.
    Computed(String),
}

fn is_module(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| is_word(c) || c == '.')
}

/// Returns the expression that is assigned to a name last, without its comments. What stands in a branch counts only where
/// nothing else does: it is for tests, mostly.
pub(crate) fn assignment(text: &str, name: &str) -> Option<String> {
    let pattern = format!(r"(?m)^[ \t]*{}[ \t]*(?::[^=\n]*)?=[ \t]*", regex_lite::escape(name));
    let pattern = Regex::new(&pattern).ok()?;
    let all = pattern.find_iter(text).filter(|found| !text[found.end()..].starts_with('='));
    let found = all.max_by_key(|found| (!found.as_str().starts_with([' ', '\t']), found.start()))?;
    Some(cut(&text[found.end()..], false)).filter(|expression| !expression.is_empty())
}

/// Cuts an expression off at the end of its line, or (as an argument) at the comma or bracket after it.
fn cut(text: &str, argument: bool) -> String {
    let mut kept = String::new();
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            '"' | '\'' => {
                let length = string_length(rest);
                kept.push_str(&rest[..length]);
                rest = &rest[length..];
                continue;
            }
            '#' => {
                rest = rest.find('\n').map_or("", |end| &rest[end..]);
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 && argument => break,
            '\n' if depth == 0 && !argument && !kept.ends_with('\\') => break,
            _ => {}
        }
        kept.push(c);
        rest = &rest[c.len_utf8()..];
    }
    kept.replace("\\\n", " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings {
            files: vec![("/srv/site/project/config/settings/base.py".into(), text.to_owned())],
            ..Settings::default()
        }
    }

    fn path(text: &str, name: &str) -> Option<String> {
        let settings = settings(text);
        let (file, expression) = settings.assigned(name)?;
        settings.path(file, &expression).map(|path| path.to_string_lossy().into_owned())
    }

    #[test]
    fn paths_are_computed_from_the_file_they_stand_in() {
        let text = "
from pathlib import Path
SETTINGS_DIR = Path(__file__).resolve().parent   # the directory
PROJECT_DIR = SETTINGS_DIR.parent.parent
SITE_DIR = Path(__file__).parents[3]
OLD = os.path.dirname(os.path.abspath(__file__))
STATIC_ROOT = SITE_DIR / 'static_serve' / \"v1\"
MEDIA_ROOT = os.path.join(OLD, '..', 'media')
PLAIN = '/srv/www/static'
SLASH = str(PROJECT_DIR) + '/x'
ENVIRON = environ.Path(__file__) - 3
UNIPATH = Path(__file__).ancestor(2).child('a', 'b')
DEFAULT = env.path('SITE_DIR', default=SITE_DIR.parent) / 'log'
LONG = os.path.join(
    OLD,  # a comment, with a comma
    'long',
)
";
        let is = |name, expected: &str| assert_eq!(path(text, name).as_deref(), Some(expected), "{name}");
        is("SETTINGS_DIR", "/srv/site/project/config/settings");
        is("STATIC_ROOT", "/srv/site/static_serve/v1");
        is("MEDIA_ROOT", "/srv/site/project/config/media");
        is("PLAIN", "/srv/www/static");
        is("SLASH", "/srv/site/project/x");
        is("ENVIRON", "/srv/site/project");
        is("UNIPATH", "/srv/site/project/config/a/b");
        is("DEFAULT", "/srv/log");
        is("LONG", "/srv/site/project/config/settings/long");
    }

    #[test]
    fn a_path_of_the_environment_file_comes_before_the_default() {
        let mut settings = settings("X = env('DIR', default='/a') + '/x'\n");
        let (file, expression) = settings.assigned("X").map(|(file, text)| (file.to_owned(), text)).unwrap();
        assert_eq!(settings.path(&file, &expression), Some("/a/x".into()));
        settings.variables = "DIR=/b\n".into();
        assert_eq!(settings.path(&file, &expression), Some("/b/x".into()));
    }

    #[test]
    fn without_a_variable_of_the_environment_its_alternative_counts() {
        let text = "DATA = (\n  Path(os.environ[key]) if key in os.environ else Path('/srv/data')\n)\nX = DATA / 'x'\n\
                    with (DATA / 'conf' / 'secrets.json').open() as file:\n    pass\n";
        assert_eq!(path(text, "X").as_deref(), Some("/srv/data/x"));
        assert_eq!(settings(text).loaded(), [PathBuf::from("/srv/data/conf/secrets.json")]);
    }

    #[test]
    fn what_is_no_path_has_no_value() {
        for expression in [
            "env('X')",
            "f'{BASE}/x'",
            "BASE / 'x'",
            "STATIC_ROOT",
            "1 / 2",
            "'relative'",
            "('/x'",
            "'/x' if a else b",
            "/",
            "",
            "'/a' 3",
        ] {
            assert_eq!(path(&format!("STATIC_ROOT = {expression}\n"), "STATIC_ROOT"), None, "{expression}");
        }
    }

    #[test]
    fn an_endless_expression_has_no_value() {
        let text = format!("X = {}'/a'{}\n", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(path(&text, "X"), None);
    }

    #[test]
    fn an_assignment_ends_where_its_brackets_close() {
        let text =
            "HOSTS = [\n  'a.example',  # 'not.this'\n  \"b\",\n]\nOTHER = 1\nX == 2\nT: list = ['t']\n";
        assert_eq!(strings(&assignment(text, "HOSTS").unwrap()), ["a.example", "b"]);
        assert_eq!(assignment(text, "OTHER").as_deref(), Some("1"));
        assert_eq!(assignment(text, "T").as_deref(), Some("['t']"));
        assert_eq!(assignment(text, "X"), None);
        assert_eq!(assignment("A = 1\nA = 2", "A").as_deref(), Some("2"));
        assert_eq!(assignment("A = 1\nif 'test' in sys.argv:\n    A = 2\n", "A").as_deref(), Some("1"));
        assert_eq!(assignment("if x:\n    A = 1\nelse:\n    A = 2\n", "A").as_deref(), Some("2"));
        assert_eq!(assignment("A = 'x#y' # z", "A").as_deref(), Some("'x#y'"));
        assert_eq!(assignment("A = 'never closed\nB = 2", "A").as_deref(), Some("'never closed"));
    }

    #[test]
    fn the_files_that_settings_open_are_found() {
        let text = "
BASE_DIR = Path(__file__).resolve().parent
SECRETS_FILE = BASE_DIR / 'secrets.json'
with open(os.path.join(BASE_DIR, 'other', 'secrets.json'), 'r') as f:
    pass
environ.Env.read_env(BASE_DIR / '.env')
";
        let found = settings(text).paths_ending_in(&["secrets.json", ".env"]);
        let directory = Path::new("/srv/site/project/config/settings");
        let expected = ["secrets.json", "other/secrets.json", ".env"].map(|name| directory.join(name));
        assert_eq!(found, expected);
    }

    #[test]
    fn manage_py_names_the_settings() {
        let asked = |text: &str| default_settings(text, &|name| (name == "STAGE").then(|| "live".to_owned()));
        let is = |text: &str, module: &str| {
            assert_eq!(asked(text), Some(Module::Named(module.to_owned())), "{text}")
        };
        is("os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'a.b')", "a.b");
        is(
            "# setdefault('DJANGO_SETTINGS_MODULE', 'old')\nos.environ[\"DJANGO_SETTINGS_MODULE\"] = \"c\"",
            "c",
        );
        is("setdefault('DJANGO_SETTINGS_MODULE', f\"a.{os.environ.get('STAGE', 'dev')}\")", "a.live");
        is("s = os.getenv('STAGE')\nsetdefault('DJANGO_SETTINGS_MODULE', f'a.{s}')", "a.live");
        is("setdefault('DJANGO_SETTINGS_MODULE', f\"a.{os.environ.get('OTHER', 'dev')}\")", "a.dev");
        assert_eq!(asked("setdefault('DJANGO_SETTINGS_MODULE', name)"), None);
        let computed = asked("setdefault('DJANGO_SETTINGS_MODULE', f'a.{os.environ[\"OTHER\"]}')");
        assert!(matches!(computed, Some(Module::Computed(_))));
    }

    #[test]
    fn files_that_are_loaded_are_found_whatever_they_are_called() {
        let text = "HERE = Path('/srv/site')\nfor place in (HERE / 'a.conf', Path('/etc/a.conf')):\n    load_dotenv(place)\n\
                    x = json.loads((HERE / 'etc' / 'x.json').read_text())\nSettings(_env_file=HERE / '.env')\n";
        let found = settings(text).loaded();
        let expected = ["/srv/site/a.conf", "/etc/a.conf", "/srv/site/.env", "/srv/site/etc/x.json"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn star_imports_are_followed_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("config/settings");
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(package.join("production.py"), "from .base import *\nA = 1\n").unwrap();
        std::fs::write(package.join("base.py"), "from config.settings.production import *\nA = 2\nB = 3\n")
            .unwrap();
        let settings = Settings::read(directory.path(), "config.settings.production");
        assert_eq!(settings.files.len(), 2);
        assert_eq!(settings.assigned("A").unwrap().1, "1");
        assert_eq!(settings.assigned("B").unwrap().1, "3");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn no_text_makes_the_reader_fail(text in ".{0,200}", name in "[A-Z]{1,3}") {
            let text = format!("{name} = {text}\nA = B\nB = A\nopen({text}");
            let settings = settings(&text);
            let _ = path(&text, &name);
            let _ = path(&text, "A");
            let _ = settings.paths_ending_in(&[".env", ""]);
            let _ = strings(&text);
        }
    }
}
