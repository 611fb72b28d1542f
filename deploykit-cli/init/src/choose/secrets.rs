//! Chooses the file of the secrets, how the code asks for one, and what else stands among the settings.

use std::path::{Path, PathBuf};

use crate::findings::Found;
use crate::read::files::{Tree, file_name, is_dotenv, shown, text};
use crate::read::git;
use crate::read::literals::without_comments;
use crate::read::program::Program;
use crate::read::settings::{Settings, module_file};
use regex_lite::Regex;

/// What the settings read their secrets from, and how they ask.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    pub file: Found<PathBuf>,
    pub pattern: Found<String>,
    /// Names that no expression finds in the code.
    pub required: Vec<String>,
    /// The same file, when it is the services' environment and the site does not read it by itself.
    pub env_file: Found<PathBuf>,
}

/// Chooses the file of the secrets and the way that the code asks for one.
pub(crate) fn choose(
    top: &Path,
    project: &Path,
    tree: &Tree,
    settings: &Settings,
    starters: &Settings,
    programs: &[&Program],
) -> Secrets {
    let given = programs.iter().find_map(|program| {
        let file = program.environment_files.iter().rev().find(|file| file.is_file())?;
        Some((file.clone(), shown(top, &program.file)))
    });
    let names = ["secrets.json", ".env"];
    let known = |file: &PathBuf| is_readable(file) && !is_example(top, file);
    let spelled = [settings.paths_ending_in(&names), settings.loaded(), starters.loaded()].concat();
    let reader = settings.files.first().map(|(file, _)| shown(top, file)).unwrap_or_default();
    let mut secrets = Secrets::default();
    if let Some(file) = spelled.iter().find(|file| known(file)) {
        secrets.file = Found::new(file.clone(), format!("what {reader} reads"));
    } else if let Some((file, unit)) = &given {
        secrets.file = Found::new(file.clone(), unit.clone());
    } else if let Some(file) = lying_about(top, project, tree) {
        secrets.file = Found::new(file, "");
    } else if let Some(file) = spelled.iter().find(|file| is_readable(file)) {
        secrets.file = Found::new(file.clone(), format!("what {reader} reads, although git tracks it"));
    } else if let Some(file) =
        spelled.iter().find(|file| names.iter().any(|name| file.ends_with(name)) && !file.exists())
    {
        secrets.file = Found::guess(file.clone(), "the settings read this file, but it does not exist");
    }
    let json = secrets.file.value.as_ref().is_some_and(|file| file_name(file).ends_with(".json"));
    secrets.pattern = pattern(settings, json);
    secrets.required = fields(&imported(settings));
    if let Some((file, unit)) = given {
        secrets.env_file = Found::new(file, unit);
    } else if let Some(file) =
        secrets.file.value.as_ref().filter(|_| !json && secrets.file.question.is_none())
    {
        let reads = r"\bread_env\b|\bload_dotenv\b|\bdecouple\b|\bdotenv\b|\bdotenv_values\b|\b_?env_file\b";
        let by_itself = settings.matches(reads) || starters.matches(reads);
        if !by_itself {
            secrets.env_file = Found::new(file.clone(), "the site does not read it by itself");
        }
    }
    secrets
}

/// Tells whether deploykit can read a file of secrets: JSON, or lines of `NAME=value`.
fn is_readable(file: &Path) -> bool {
    (file_name(file).ends_with(".json") && text(file).is_some()) || is_dotenv(file)
}

/// Reads the modules that the settings import names from: the classes of pydantic's settings stand there.
fn imported(settings: &Settings) -> Vec<String> {
    let Ok(import) = Regex::new(r"(?m)^from[ \t]+(\.+)([\w.]*)[ \t]+import[ \t]+\w") else {
        return Vec::new();
    };
    let mut texts = Vec::new();
    for (file, own) in &settings.files {
        texts.push(own.clone());
        texts.extend(import.captures_iter(own).filter_map(|found| {
            let from = file.ancestors().nth(found[1].len())?;
            text(&module_file(from, &found[2])?).map(|text| without_comments(&text))
        }));
    }
    texts
}

/// Returns the variables that the fields of pydantic's settings need: those without a default.
fn fields(texts: &[String]) -> Vec<String> {
    let (Ok(class), Ok(prefix), Ok(field)) = (
        Regex::new(
            r"(?m)^class[ \t]+\w+\([^)]*\bBaseSettings\b[^)]*\):[^\n]*\n((?:[ \t]+[^\n]*\n|[ \t]*\n)*)",
        ),
        Regex::new(r#"env_prefix[ \t]*=[ \t]*["'](\w*)["']"#),
        Regex::new(r"(?m)^(?:    |\t)([a-z]\w*)[ \t]*:[ \t]*[^=\n]+$"),
    ) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for text in texts {
        for body in class.captures_iter(text) {
            let prefix = prefix.captures(&body[1]).map(|found| found[1].to_owned()).unwrap_or_default();
            names.extend(
                field.captures_iter(&body[1]).map(|found| format!("{prefix}{}", &found[1]).to_uppercase()),
            );
        }
    }
    names
}

/// Parts of names of files that show what a file of secrets looks like.
const EXAMPLES: [&str; 7] = ["example", "sample", "template", "dist", "default", "test", "ci"];

/// Tells whether a file only shows what one of secrets looks like: it is tracked, or named so.
fn is_example(top: &Path, file: &Path) -> bool {
    let name = file_name(file).to_lowercase();
    let inside = file.strip_prefix(top).unwrap_or(file);
    let directories =
        inside.parent().into_iter().flat_map(Path::iter).map(|part| part.to_string_lossy().to_lowercase());
    let mut parts = name.split(['.', '-', '_']).map(str::to_owned).chain(directories);
    parts.any(|part| EXAMPLES.iter().any(|example| part == *example || part == format!("{example}s")))
        || git::is_tracked(top, file)
}

fn lying_about(top: &Path, project: &Path, tree: &Tree) -> Option<PathBuf> {
    let real = |file: &PathBuf| file.is_file() && !is_example(top, file);
    let beside = top.parent().map(|parent| parent.join("secrets.json"));
    let near = [project.join("secrets.json"), top.join("secrets.json")];
    let json =
        near.into_iter().find(real).or_else(|| tree.named("secrets.json").find(|file| real(file)).cloned());
    let json = json.or(beside.filter(real));
    json.or_else(|| [project.join(".env"), top.join(".env")].into_iter().find(real))
}

/// Chooses the expression that finds the names of secrets; which of them have a default is found out where they are.
fn pattern(settings: &Settings, json: bool) -> Found<String> {
    // An expression and the beginning of a call that it stands for.
    let mut openers: Vec<(&str, &str)> =
        vec![("get_secret()", r"\bget_secret\("), ("get_env_variable()", r"\bget_env_variable\(")];
    if json {
        openers.push(("secrets[]", r"\b(?i:secrets)\["));
    } else {
        openers.push(("env()", r"\benv(?:\.\w+)?\("));
        if settings.matches(r"\bdecouple\b") {
            openers.push(("config()", r"\bconfig\("));
        }
    }
    let used = |openers: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> {
        let name = r#"\s*["']\w+["']"#;
        openers.iter().filter(|(_, opener)| settings.matches(&format!("{opener}{name}"))).copied().collect()
    };
    let mut asked = used(&openers);
    if asked.is_empty() && !json {
        asked = used(&[("os.environ[]", r"\bos\.environ\[")]);
    }
    let names: Vec<&str> = asked.iter().map(|(name, _)| *name).collect();
    // What deploykit looks for by itself; a question about another way would be one that few can answer.
    if names.is_empty() || names == ["get_secret()"] {
        return Found::default();
    }
    let opener = asked.iter().map(|(_, opener)| *opener).collect::<Vec<_>>().join("|");
    let opener = if asked.len() > 1 { format!("(?:{opener})") } else { opener };
    Found::new(format!(r#"{opener}\s*["'](\w+)["']"#), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use deploykit::internal::secrets::{DEFAULT_PATTERN, compile_pattern, names_asked_for};

    fn settings(text: &str) -> Settings {
        Settings { files: vec![("/srv/site/settings.py".into(), text.to_owned())], ..Settings::default() }
    }

    fn asked(text: &str, json: bool) -> Vec<String> {
        let found = pattern(&settings(text), json);
        let pattern = found.value.unwrap_or_else(|| DEFAULT_PATTERN.to_owned());
        names_asked_for(text, &compile_pattern(&pattern).unwrap())
    }

    #[test]
    fn a_name_is_asked_for_in_the_sites_own_way() {
        let text = "A = get_secret('A')\nB = get_secret(\n  'B', required=False)\n";
        assert_eq!(asked(text, true), ["A"]);
        assert_eq!(asked("A = secrets['A']\nB = SECRETS[\"B\"]\n", true), ["A", "B"]);
        assert_eq!(asked("A = env('A')\nB = env.int(\"B\")\nC = env('C', default=1)\n", false), ["A", "B"]);
        assert_eq!(
            asked("from decouple import config\nA = config('A')\nB = config('B', cast=int)\n", false),
            ["A", "B"]
        );
        assert_eq!(asked("A = os.environ['A']\nB = os.environ.get('B')\n", false), ["A"]);
        assert_eq!(asked("A = env('A')\nB = os.environ['HOME']\n", false), ["A"]);
    }

    #[test]
    fn a_file_that_only_shows_the_way_is_no_secrets_file() {
        let top = Path::new("/srv/site");
        for (file, example) in [
            (".env.example", true),
            ("secrets.sample.json", true),
            ("docs/examples/secrets.json", true),
            ("tests/secrets.json", true),
            ("secrets.json", false),
            ("config/.env.production", false),
        ] {
            assert_eq!(is_example(top, &top.join(file)), example, "{file}");
        }
    }

    #[test]
    fn the_usual_way_needs_no_pattern() {
        assert_eq!(pattern(&settings("A = get_secret('A')"), true), Found::default());
        assert_eq!(pattern(&settings("A = vault('A')"), true), Found::default());
    }

    #[test]
    fn fields_without_a_default_are_required() {
        let text = "class Env(BaseSettings):\n    model_config = SettingsConfigDict(env_prefix=\"A_\")\n\n    key: str\n    \
                    debug: bool = False\n\nclass Other:\n    name: str\n";
        assert_eq!(fields(&[text.to_owned()]), ["A_KEY"]);
    }
}
