//! Reads how the project's own scripts install its packages: hints, no more.

use std::path::{Path, PathBuf};

use super::files::{Tree, file_name, text};
use super::program::{SERVERS, words};
use regex_lite::Regex;

/// Programs that install from a lock file, and the command of theirs that does.
const LOCKERS: [(&str, &[&str]); 4] = [
    ("uv", &["sync", "export"]),
    ("poetry", &["install", "sync"]),
    ("pdm", &["install", "sync"]),
    ("pipenv", &["install", "sync"]),
];

/// What a script installs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Installs {
    pub file: PathBuf,
    /// `uv`, `poetry`, `pdm` or `pipenv`.
    pub locker: Option<&'static str>,
    pub groups: Vec<String>,
    pub extras: Vec<String>,
    /// All extras of the project.
    pub all_extras: bool,
    /// The requirements files that pip gets.
    pub requirements: Vec<String>,
}

/// Returns what the project's own files start where it runs in containers or on a platform: the file and the command.
pub(crate) fn starts(top: &Path) -> Vec<(PathBuf, String)> {
    let files = [
        ("Procfile", r"(?m)^web:[ \t]*(.+)$"),
        ("docker-compose.yml", r#"(?m)^[ \t]+command:[ \t]*["']?([^\n|>\[][^\n]*?)["']?$"#),
        ("compose.yml", r#"(?m)^[ \t]+command:[ \t]*["']?([^\n|>\[][^\n]*?)["']?$"#),
        ("Dockerfile", r"(?m)^CMD[ \t]+(.+)$"),
    ];
    let found = files.into_iter().filter_map(|(name, pattern)| {
        let file = top.join(name);
        let (text, pattern) = (text(&file)?, Regex::new(pattern).ok()?);
        let commands = pattern
            .captures_iter(&text)
            .map(|found| found[1].replace(['"', '[', ']'], "").replace(", ", " "));
        let serves = |command: &String| SERVERS.iter().any(|server| command.contains(server));
        Some((file, commands.filter(serves).last()?.trim().to_owned()))
    });
    found.collect()
}

/// Returns the scripts of a package of Node that the project's own scripts run, and then those of its documents:
/// `npm run build:prod`.
pub(crate) fn node_scripts<'d>(tree: &Tree, docs: impl Iterator<Item = &'d str>) -> Vec<String> {
    let Ok(run) = Regex::new(r"\b(?:npm|pnpm|yarn|bun)[ \t]+(?:run[ \t]+)?([\w:.-]+)") else {
        return Vec::new();
    };
    let texts: Vec<String> =
        scripts(tree).filter_map(|file| text(file)).chain(docs.map(str::to_owned)).collect();
    texts.iter().flat_map(|text| run.captures_iter(text).map(|found| found[1].to_owned())).collect()
}

/// A command of manage.py that a script runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManageCommand {
    /// Its name and its arguments.
    pub words: Vec<String>,
    /// It means the same without a shell: it has no variables and no quotes.
    pub plain: bool,
}

impl ManageCommand {
    /// Reads the text up to the end of the command; `redirected`: a `<` or `>` ends it.
    fn read(text: &str, redirected: bool) -> Self {
        let text = text.split(" #").next().unwrap_or(text);
        let text = match text.rsplit_once([' ', '\t']) {
            // `2>/dev/null`
            Some((before, last)) if redirected && last.parse::<u8>().is_ok() => before,
            _ => text,
        };
        // What closes around the command: `su -c "manage.py x"`.
        let inner = text.trim_end().trim_end_matches(['"', '\'', ')', '`']);
        let plain = inner.chars().all(|c| c.is_alphanumeric() || " \t_./=:-".contains(c));
        ManageCommand { words: words(if plain { inner } else { text }), plain }
    }
}

/// Returns the commands of manage.py that the project's own script for updates runs, and that script: the first one that
/// migrates.
pub(crate) fn commands_of_updates(top: &Path, tree: &Tree) -> Option<(PathBuf, Vec<ManageCommand>)> {
    let words_of_updates = ["upgrade", "update", "deploy", "release", "postdeploy"];
    let is_update = |file: &&PathBuf| {
        let name = file_name(file).to_lowercase();
        let stem = name.strip_suffix(".sh").unwrap_or(&name).replace(['-', '_'], "");
        let near = file.strip_prefix(top).is_ok_and(|inside| inside.iter().count() <= 2);
        near && (words_of_updates.contains(&stem.as_str()) || name == "procfile")
    };
    tree.files.iter().filter(is_update).find_map(|file| {
        let text = text(file)?.replace("\\\n", " ");
        let release = file_name(file) != "Procfile";
        let commands = manage_commands(text.lines().filter(|line| release || line.starts_with("release:")));
        commands.iter().any(|command| command.words[0] == "migrate").then(|| (file.clone(), commands))
    })
}

/// Returns the commands of manage.py that lines of a shell run.
pub(crate) fn manage_commands<'l>(lines: impl Iterator<Item = &'l str>) -> Vec<ManageCommand> {
    let manage = Regex::new(r"(?:manage\.py|-m[ \t]+manage|django-admin)[ \t]+([a-z][^;&|<>]*)([<>]?)");
    let Ok(manage) = manage else { return Vec::new() };
    let read = |found: regex_lite::Captures<'_>| ManageCommand::read(&found[1], !found[2].is_empty());
    let lines = lines.filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| manage.captures_iter(line).map(read).collect::<Vec<_>>()).collect()
}

/// Reads the scripts of a checkout, those for servers first.
pub(crate) fn installs(tree: &Tree) -> Vec<Installs> {
    let mut found: Vec<Installs> = scripts(tree).filter_map(|file| read(&text(file)?, file)).collect();
    found.sort_by_key(|installs| {
        let name = file_name(&installs.file).to_lowercase();
        !["deploy", "upgrade", "update", "install"].iter().any(|word| name.contains(word))
    });
    found
}

fn scripts(tree: &Tree) -> impl Iterator<Item = &PathBuf> {
    let is_script = |file: &&PathBuf| {
        let name = file_name(file).to_lowercase();
        let known =
            ["makefile", "justfile", "fabfile.py", "procfile", "install", "deploy", "upgrade", "update"];
        name.ends_with(".sh") || name.starts_with("dockerfile") || known.contains(&name.as_str())
    };
    tree.files.iter().filter(is_script).take(40)
}

/// Returns what a script installs.
pub(super) fn read(script: &str, file: &Path) -> Option<Installs> {
    let mut found = Installs { file: file.to_owned(), ..Installs::default() };
    for line in script.replace("\\\n", " ").lines().filter(|line| !line.trim_start().starts_with('#')) {
        let words = words(line);
        for (index, word) in words.iter().enumerate() {
            let rest = &words[index + 1..];
            let program = word.rsplit(['/', '}']).next().unwrap_or(word);
            let command = rest.first().map(String::as_str).unwrap_or_default();
            if let Some((locker, _)) =
                LOCKERS.iter().find(|(name, does)| *name == program && does.contains(&command))
            {
                found.locker = Some(locker);
                let all = |names: &[&str]| options(rest, names);
                found.groups = all(&["--group", "--with", "--only", "-G", "--categories", "--only-group"]);
                found
                    .groups
                    .retain(|group| !["main", "default", "packages", "dev"].contains(&group.as_str()));
                found.extras = all(&["--extra", "--extras", "-E"]);
                found.all_extras = rest.iter().any(|word| word == "--all-extras");
            } else if ["pip", "pip3"].contains(&program) && command == "install" {
                found.requirements.extend(options(rest, &["-r", "--requirement"]));
            }
        }
    }
    (found.locker.is_some() || !found.requirements.is_empty()).then_some(found)
}

/// Returns the values of options, those of one word divided at commas.
fn options(words: &[String], names: &[&str]) -> Vec<String> {
    let ends = words.iter().position(|word| ["&&", ";", "||", "|"].contains(&word.as_str()));
    let words = &words[..ends.unwrap_or(words.len())];
    let values = words.iter().enumerate().filter_map(|(index, word)| {
        if names.contains(&word.as_str()) {
            return words.get(index + 1).cloned();
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then(|| value.to_owned())
    });
    values
        .flat_map(|value| value.split([',', ' ']).map(str::to_owned).collect::<Vec<_>>())
        .filter(|value| !value.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_elsewhere_is_a_hint() {
        let top = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(top.path().join(name), text).unwrap();
        write(
            "docker-compose.yml",
            "services:\n  web:\n    command: gunicorn a.wsgi\n  jobs:\n    command: celery -A a worker\n",
        );
        write("Procfile", "release: x\nweb: uwsgi ./a.ini\nworker: y\n");
        write("Dockerfile", "CMD [\"gunicorn\", \"-b\", \":80\", \"a.wsgi\"]\n");
        let told: Vec<String> = starts(top.path()).into_iter().map(|(_, command)| command).collect();
        assert_eq!(told, ["uwsgi ./a.ini", "gunicorn a.wsgi", "gunicorn -b :80 a.wsgi"]);
    }

    #[test]
    fn only_a_command_without_shell_means_what_it_says() {
        let is = |text: &str, redirected: bool, expected: &str, plain: bool| {
            let command = ManageCommand::read(text, redirected);
            assert_eq!((command.words.join("|").as_str(), command.plain), (expected, plain), "{text}");
        };
        is("clearsessions 2", true, "clearsessions", true);
        is("warm 2", false, "warm|2", true);
        is("warm 2 ", true, "warm|2", true);
        is("reindex --lazy # daily", false, "reindex|--lazy", true);
        is("clearsessions\"", false, "clearsessions", true);
        is("update_index --using \"$INDEX\" 2", true, "update_index|--using|$INDEX", false);
        is("update_index --using=$INDEX", false, "update_index|--using=$INDEX", false);
        is("warm 'a b'", false, "warm|a b", false);
        is("warm \"open", false, "warm|\"open", false);
    }

    #[test]
    fn a_script_says_what_it_installs() {
        let read = |text: &str| read(text, Path::new("/x/deploy.sh"));
        let uv = read("# uv sync --all-groups\nuv sync --frozen --no-dev --group production --extra=postgres && x --group y\n").unwrap();
        assert_eq!(
            (uv.locker, uv.groups, uv.extras),
            (Some("uv"), vec!["production".to_owned()], vec!["postgres".to_owned()])
        );
        let poetry = read("RUN poetry install --only main,prod --no-root\n").unwrap();
        assert_eq!((poetry.locker, poetry.groups), (Some("poetry"), vec!["prod".to_owned()]));
        let pip = read("\"${VENV}/bin/pip\" install -r requirements.txt\n").unwrap();
        assert_eq!(pip.requirements, ["requirements.txt"]);
        assert_eq!(read("pip install uv\n"), None);
        let export = read("RUN uv export --no-dev --all-extras --format requirements-txt\n").unwrap();
        assert_eq!((export.locker, export.all_extras), (Some("uv"), true));
    }
}
