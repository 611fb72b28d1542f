//! Reads what the project's documents and its CI say of an installation: hints, which never decide against what is
//! installed.

use std::path::{Path, PathBuf};

use regex_lite::Regex;

use super::files::{Tree, directory_name, entries_of, file_name, shown, text};
use super::program::SERVERS;
use super::scripts::{Installs, read};

/// Beginnings of the words in names and headings of documents about a server.
const SERVER: [&str; 14] = [
    "apache", "deploy", "gunicorn", "host", "install", "manual", "nginx", "produc", "server", "setup",
    "systemd", "updat", "upgrad", "uwsgi",
];
/// Beginnings of the words in those about something else.
const ASIDE: [&str; 12] = [
    "changelog",
    "contain",
    "contribut",
    "develop",
    "docker",
    "heroku",
    "history",
    "kubernet",
    "local",
    "news",
    "release",
    "test",
];
/// Documents that are read; those with names about a server come first.
const MOST: usize = 100;

/// A file, and the part of it that is a hint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub file: PathBuf,
    /// Commands and units.
    pub text: String,
    /// Those of sections about updates.
    pub updates: String,
}

/// The hints of a checkout.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// The sections of the documents that are about a server.
    pub docs: Vec<Hint>,
    /// What CI runs.
    pub ci: Vec<Hint>,
}

impl Hints {
    pub(crate) fn read(top: &Path, tree: &Tree) -> Self {
        let mut files: Vec<&PathBuf> = tree.files.iter().filter(|file| is_document(top, file)).collect();
        files.sort_by_key(|file| !begins(&shown(top, file), &SERVER));
        let docs = files.into_iter().take(MOST).filter_map(|file| document(top, file));
        let workflows = entries_of(&top.join(".github/workflows"));
        let others = [".gitlab-ci.yml", "tox.ini"].map(|name| top.join(name));
        let is_yaml = |file: &PathBuf| file.extension().is_some_and(|it| it == "yml" || it == "yaml");
        let ci = workflows.into_iter().filter(is_yaml).chain(others).filter_map(|file| {
            let text = text(&file)?;
            Some(Hint { file, text, updates: String::new() })
        });
        Hints { docs: docs.collect(), ci: ci.collect() }
    }

    /// Returns what the documents start: the file and the command.
    pub(crate) fn starts(&self, top: &Path) -> Vec<(String, String)> {
        let started = self.docs.iter().filter_map(|hint| {
            let text = hint.text.replace("\\\n", " ");
            let mut lines = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
            let serves = |line: &&str| SERVERS.iter().any(|server| line.contains(server));
            Some((shown(top, &hint.file), lines.rfind(serves)?.trim().to_owned()))
        });
        started.collect()
    }

    /// Returns the versions of Python that CI uses, and the first file that has each.
    pub(crate) fn pythons(&self) -> Vec<(String, PathBuf)> {
        let Ok(number) = Regex::new(r"\b3\.\d+\b|\bpy3\d+\b") else { return Vec::new() };
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for hint in &self.ci {
            let mut within = false;
            for line in hint.text.lines().map(str::trim) {
                let named = ["python-version", "python:", "envlist", "basepython", "python_version"];
                within = named.iter().any(|word| line.contains(word)) || within && line.starts_with("- ");
                for version in number.find_iter(line).filter(|_| within) {
                    let version = version.as_str().replace("py3", "3.");
                    if found.iter().all(|(known, _)| *known != version) {
                        found.push((version, hint.file.clone()));
                    }
                }
            }
        }
        found
    }
}

/// Returns the settings modules that hints name, each with the first file that does.
pub(crate) fn settings(hints: &[Hint]) -> Vec<(String, PathBuf)> {
    let named = r#"(?:DJANGO_SETTINGS_MODULE["']?[ \t]*[:=,]|--settings[= ])[ \t]*["']?([A-Za-z_][\w.]*)"#;
    let Ok(named) = Regex::new(named) else { return Vec::new() };
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for hint in hints {
        for module in named.captures_iter(&hint.text).map(|found| found[1].to_owned()) {
            if found.iter().all(|(known, _)| *known != module) {
                found.push((module, hint.file.clone()));
            }
        }
    }
    found
}

/// Returns what hints install.
pub(crate) fn installs(hints: &[Hint]) -> Vec<Installs> {
    hints.iter().filter_map(|hint| read(&hint.text, &hint.file)).collect()
}

fn is_document(top: &Path, file: &Path) -> bool {
    let name = file_name(file).to_lowercase();
    let known =
        [".md", ".rst", ".txt"].iter().any(|end| name.ends_with(end)) && !name.starts_with("requirements");
    let inside = file.strip_prefix(top).unwrap_or(file);
    let place = inside.iter().next().map(|part| part.to_string_lossy().to_lowercase()).unwrap_or_default();
    let at_the_top =
        directory_name(file) == file_name(top) && (begins(&name, &SERVER) || name.starts_with("readme"));
    known && (at_the_top || ["doc", "docs", "documentation"].contains(&place.as_str()))
}

/// Tells whether one of a text's words begins with one of these.
fn begins(text: &str, beginnings: &[&str]) -> bool {
    let text = text.to_lowercase();
    let mut words = text.split(|c: char| !c.is_alphanumeric());
    words.any(|word| beginnings.iter().any(|start| word.starts_with(start)))
}

fn document(top: &Path, file: &Path) -> Option<Hint> {
    let name = shown(top, file);
    let is_markdown = name.ends_with(".md");
    let text = text(file)?;
    let mut hint = Hint { file: file.to_owned(), text: String::new(), updates: String::new() };
    // The headings that a line stands under, each with its level.
    let mut headings = vec![(0, name)];
    let mut marks = Vec::new();
    let mut fenced = false;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let bare = line.trim();
        if is_markdown && (bare.starts_with("```") || bare.starts_with("~~~")) {
            fenced = !fenced;
            continue;
        }
        let level = if fenced { None } else { heading(line, lines.peek().copied(), is_markdown, &mut marks) };
        if let Some(level) = level {
            headings.retain(|(known, _)| *known < level);
            headings.push((level, bare.trim_start_matches('#').to_owned()));
        }
        let says = |words: &[&str]| headings.iter().any(|(_, heading)| begins(heading, words));
        if (fenced || line.starts_with("   ") || line.starts_with('\t')) && says(&SERVER) && !says(&ASIDE) {
            let command = without_prompt(bare);
            hint.text.extend([command, "\n"]);
            if says(&["updat", "upgrad"]) {
                hint.updates.extend([command, "\n"]);
            }
        }
    }
    (!hint.text.is_empty()).then_some(hint)
}

/// Returns a command without the prompt before it: `$ `, `(venv) # `. A `#` alone may begin a comment.
fn without_prompt(line: &str) -> &str {
    let (inside, line) = match line.strip_prefix('(').and_then(|line| line.split_once(") ")) {
        Some((_, rest)) => (true, rest),
        None => (false, line),
    };
    let programs = ["pip", "python", "sudo ", "uv ", "poetry ", "./", "/", "venv/"];
    match line.strip_prefix("# ") {
        Some(rest) if inside || programs.iter().any(|program| rest.starts_with(program)) => rest,
        _ => line.trim_start_matches(['$', '>', '%']).trim_start(),
    }
}

/// Returns the level of a heading: `## Title`, or a title with a line of marks below it.
fn heading(line: &str, next: Option<&str>, is_markdown: bool, marks: &mut Vec<char>) -> Option<usize> {
    let title = line.trim_start_matches('#');
    if is_markdown && title.len() < line.len() && title.starts_with(' ') {
        return Some(line.len() - title.len());
    }
    let below = next?.trim_end();
    let mark = below.chars().next().filter(|mark| "=-~^\"'*+#`".contains(*mark))?;
    let is_title = line.starts_with(|c: char| !c.is_whitespace() && c != mark);
    if !is_title || below.chars().any(|c| c != mark) || below.len() < line.trim_end().chars().count() {
        return None;
    }
    let known = marks.iter().position(|known| *known == mark);
    Some(
        1 + known.unwrap_or_else(|| {
            marks.push(mark);
            marks.len() - 1
        }),
    )
}

#[cfg(test)]
mod tests {
    use deploykit::Host;

    use super::*;
    use crate::read::files::walk;

    fn of(files: &[(&str, &str)]) -> (tempfile::TempDir, Hints) {
        let top = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = top.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let hints = Hints::read(top.path(), &walk(top.path(), &Host::new()));
        (top, hints)
    }

    #[test]
    fn only_sections_about_a_server_are_read() {
        let markdown = "# Shop\n```\nmake all\n```\n## Deployment\nText.\n\n    $ pip install -r requirements/live.txt\n\n\
                        ### With Docker\n```\ndocker run\n```\n### By hand\n~~~ini\n[Service]\nExecStart=/x/gunicorn \\\n    a\n~~~\n\
                        ## Development\n```\n# Deployment\npip install -r requirements/dev.txt\n```\n";
        let rst = "Guide\n=====\n\nUpgrading\n---------\n\n.. code-block:: console\n\n   $ ./manage.py migrate\n\n\
                   Tests\n-----\n\n::\n\n    ./manage.py test\n";
        let (top, hints) =
            of(&[("README.md", markdown), ("docs/guide.rst", rst), ("docs/development/setup.md", markdown)]);
        let told: Vec<(String, &str)> =
            hints.docs.iter().map(|hint| (shown(top.path(), &hint.file), hint.text.as_str())).collect();
        let shop = "pip install -r requirements/live.txt\n[Service]\nExecStart=/x/gunicorn \\\na\n";
        assert_eq!(
            told,
            [("README.md".to_owned(), shop), ("docs/guide.rst".to_owned(), "./manage.py migrate\n")]
        );
        assert_eq!(hints.docs[1].updates, "./manage.py migrate\n");
        assert_eq!(hints.starts(top.path()), [("README.md".to_owned(), "/x/gunicorn  a".to_owned())]);
        assert_eq!(installs(&hints.docs)[0].requirements, ["requirements/live.txt"]);
    }

    #[test]
    fn a_prompt_is_no_part_of_a_command() {
        for (line, command) in [
            ("$ pip install x", "pip install x"),
            ("(venv) # pip3 install x", "pip3 install x"),
            ("(venv) $ pip install x", "pip install x"),
            ("# ./manage.py migrate", "./manage.py migrate"),
            ("# then restart", "# then restart"),
            ("pip install x", "pip install x"),
        ] {
            assert_eq!(without_prompt(line), command);
        }
    }

    #[test]
    fn ci_tells_its_pythons_and_settings() {
        let workflow = "on: push\njobs:\n  test:\n    env:\n      DJANGO_SETTINGS_MODULE: a.ci\n    strategy:\n      matrix:\n\
                        \x20       python-version:\n          - \"3.12\"\n          - '3.13'\n    services:\n      db:\n\
                        \x20       image: postgres:14\n    steps:\n      - run: uv sync --group live\n";
        let (_top, hints) =
            of(&[(".github/workflows/ci.yaml", workflow), ("tox.ini", "[tox]\nenvlist = py311,py312\n")]);
        let versions: Vec<String> = hints.pythons().into_iter().map(|(version, _)| version).collect();
        assert_eq!(versions, ["3.12", "3.13", "3.11"]);
        assert_eq!(settings(&hints.ci)[0].0, "a.ci");
        assert_eq!(
            (installs(&hints.ci)[0].locker, installs(&hints.ci)[0].groups.join(",")),
            (Some("uv"), "live".to_owned())
        );
    }
}
