//! The corpus: made-up sites in `layouts/`, each with the configuration that a knowing administrator would write.
//!
//! A file is in the txtar form: a head that says whose shape it is, then files after `-- path --` lines. `site/` is the
//! checkout, `srv/` the directory around it, `etc/` the system's. `{root}` stands for the directory that all of it is in.

use std::collections::{BTreeMap, BTreeSet};

use deploykit::internal::secrets::{DEFAULT_PATTERN, compile_pattern, names_asked_for};

use super::*;
use crate::look::PLACES;

/// How well `init` did: the share of layouts that are written whole, or ask only what nothing on the machine tells.
const REACHED: usize = 100;

/// Keys whose wrong value changes or breaks something on a server.
const HARMFUL: [&str; 16] = [
    "environment",
    "site.repository",
    "site.project",
    "site.settings",
    "site.env-file",
    "python.virtualenv",
    "python.requirements",
    "python.lock",
    "secrets.file",
    "static.",
    "database.",
    "services",
    "maintenance.page",
    "maintenance.status-file",
    "smoke.connect",
    "smoke.base",
];
/// Keys of a service that only make it slower or more patient.
const HARMLESS: [&str; 2] = ["stop-timeout", "name"];
/// What a key has when the file does not have it.
const DEFAULTS: [(&str, &str); 7] = [
    ("environment", "\"production\""),
    ("site.repository", "\"{root}/srv/site\""),
    ("site.project", "\"{root}/srv/site\""),
    ("git.remote", "\"origin\""),
    ("git.branch", "\"master\""),
    ("static.collect", "\"auto\""),
    ("smoke.pages", "[\"/\"]"),
];
/// Keys with paths, and what relative ones start at.
const PATHS: [(&str, &str); 9] = [
    ("site.repository", ""),
    ("site.project", "site"),
    ("site.env-file", ""),
    ("python.virtualenv", ""),
    ("python.requirements", "site"),
    ("python.lock", "site"),
    ("secrets.file", ""),
    ("maintenance.page", ""),
    ("maintenance.status-file", ""),
];
const SERVICE_PATHS: [&str; 5] = ["config", "pidfile", "vassal", "ini", "fifo"];

/// One made-up site.
struct Layout {
    name: String,
    head: String,
    files: Vec<(String, String)>,
    expected: String,
    questions: Vec<(String, Vec<String>)>,
}

impl Layout {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut parts: Vec<(String, String)> = vec![(String::new(), String::new())];
        for line in text.lines() {
            match line.strip_prefix("-- ").and_then(|line| line.strip_suffix(" --")) {
                Some(name) => parts.push((name.to_owned(), String::new())),
                None => parts.last_mut().unwrap().1.extend([line, "\n"]),
            }
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut take = |wanted: &str| {
            let index = parts.iter().position(|(part, _)| part == wanted);
            parts.remove(index.unwrap_or_else(|| panic!("{name} has no `{wanted}`"))).1
        };
        let (head, expected, questions) = (take(""), take("deploykit.toml"), take("questions"));
        let questions = questions.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
            let (key, candidates) = line.split_once(':').unwrap_or((line, ""));
            let candidates = candidates.split([',', ' ']).filter(|part| !part.is_empty());
            (key.trim().to_owned(), candidates.map(str::to_owned).collect())
        });
        Layout { name: name.clone(), head, questions: questions.collect(), files: parts, expected }
    }

    fn directive(&self, name: &str) -> Vec<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.into_iter().flat_map(str::split_whitespace).collect()
    }

    /// Makes the site, and returns the directory that the configuration is for.
    fn build(&self, place: &Place) -> PathBuf {
        let root = place.directory.path();
        let untracked = self.directive("untracked");
        let is_untracked = |path: &str| {
            untracked.iter().any(|one| {
                path.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let write = |wanted: bool| {
            for (path, text) in self.files.iter().filter(|(path, _)| is_untracked(path) == wanted) {
                let real = root.join(match path.split_once('/') {
                    Some(("site", rest)) => format!("srv/site/{rest}"),
                    _ => path.clone(),
                });
                fs::create_dir_all(real.parent().unwrap()).unwrap();
                fs::write(real, text.replace("{root}", root.to_str().unwrap())).unwrap();
            }
        };
        write(false);
        place.git(&["add", "-A", "-f"]);
        place.commit();
        write(true);
        let link = self.directive("link");
        if let [from, "->", to] = link.as_slice() {
            std::os::unix::fs::symlink(to, root.join("srv").join(from)).unwrap();
        }
        let directory = self.directive("directory");
        directory.first().map_or_else(|| place.site.clone(), |directory| root.join(directory))
    }

    fn try_out(&self) -> Outcome {
        let place = Place::new("site");
        let directory = self.build(&place);
        let root = place.directory.path().to_str().unwrap().to_owned();
        let places: Vec<PathBuf> =
            PLACES.iter().map(|path| place.directory.path().join(path.trim_start_matches('/'))).collect();
        let findings = look_also_in(&Request::from(directory.as_path()), &Host::new(), &places, None)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let text = findings.to_toml();
        check_lines(&text, &findings.questions);
        place.check_is_read(&text, &findings.questions);
        let code: Vec<&str> = self
            .files
            .iter()
            .filter(|(path, _)| path.ends_with(".py"))
            .map(|(_, text)| text.as_str())
            .collect();
        let read = |text: &str| flat(&text.replace("{root}", &root), &root, &directory, &code);
        let (expected, written) = (read(&self.expected), read(&text));
        self.judge(&expected, &written, &findings.questions, &root, text.clone())
    }

    fn judge(
        &self,
        expected: &Flat,
        written: &Flat,
        asked: &[Question],
        root: &str,
        text: String,
    ) -> Outcome {
        let mut outcome = Outcome { text: text.replace(root, "{root}"), ..Outcome::default() };
        let covers = |question: &str, key: &str| key == question || key.starts_with(&format!("{question}."));
        let open = |key: &str| self.questions.iter().any(|(question, _)| covers(question, key));
        let keys: BTreeSet<&String> = expected.keys().chain(written.keys()).collect();
        for key in keys {
            let (wanted, got) = (expected.get(key), written.get(key));
            if wanted == got || open(key) || (key.starts_with("logs.") && wanted.is_none()) {
                continue;
            }
            let last = key.rsplit('.').next().unwrap();
            let is_asked = asked.iter().any(|question| covers(&question.key, key));
            // What is missing hurts where a service goes on running the old code.
            let gap = got.is_none() && !key.starts_with("services.");
            let harmful = HARMFUL.iter().any(|harmful| key.starts_with(harmful)) && !HARMLESS.contains(&last);
            let none = "nothing".to_owned();
            let line = format!("{key}: expected {}, got {}", wanted.unwrap_or(&none), got.unwrap_or(&none));
            let line = line.replace(root, "{root}");
            if harmful && !is_asked && !gap { &mut outcome.harm } else { &mut outcome.edits }.push(line);
        }
        for question in asked {
            if !self.questions.iter().any(|(key, _)| *key == question.key) {
                outcome.edits.push(format!(
                    "{} is asked: {}",
                    question.key,
                    question.why.replace(root, "{root}")
                ));
            }
        }
        for (key, candidates) in &self.questions {
            match asked.iter().find(|question| question.key == *key) {
                Some(question) => {
                    outcome.asked = true;
                    for candidate in candidates.iter().filter(|candidate| !question.why.contains(*candidate))
                    {
                        outcome.edits.push(format!(
                            "the question for {key} does not name {candidate}: {}",
                            question.why
                        ));
                    }
                }
                // A guess that nobody is asked about.
                None if written.contains_key(key)
                    && HARMFUL.iter().any(|harmful| key.starts_with(harmful)) =>
                {
                    outcome.harm.push(format!("{key} is {} without a question", written[key]));
                }
                None => outcome.edits.push(format!("{key} is not asked")),
            }
        }
        outcome
    }
}

#[derive(Default)]
struct Outcome {
    harm: Vec<String>,
    edits: Vec<String>,
    asked: bool,
    text: String,
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.harm.is_empty() && self.edits.is_empty()
    }

    fn word(&self) -> String {
        match (self.harm.len(), self.edits.len(), self.asked) {
            (0, 0, false) => "whole".to_owned(),
            (0, 0, true) => "asked".to_owned(),
            (0, edits, _) => format!("edits {edits}"),
            (harm, edits, _) => format!("harm {harm}, edits {edits}"),
        }
    }
}

/// A configuration as `section.key` and value; services by what their manager calls them.
type Flat = BTreeMap<String, String>;

fn flat(text: &str, root: &str, directory: &Path, code: &[&str]) -> Flat {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut flat: Flat =
        DEFAULTS.iter().map(|(key, value)| ((*key).to_owned(), value.replace("{root}", root))).collect();
    let site = PathBuf::from(root).join("srv/site");
    let absolute = |value: &toml::Value, from: &Path| match value {
        toml::Value::String(path) => {
            deploykit::internal::names::normal(&from.join(path)).display().to_string().into()
        }
        toml::Value::Array(paths) => {
            let paths = paths.iter().filter_map(toml::Value::as_str);
            paths.map(|path| from.join(path).display().to_string()).collect::<Vec<_>>().into()
        }
        other => other.clone(),
    };
    for (section, value) in &table {
        match value {
            toml::Value::Table(keys) => {
                for (key, value) in keys {
                    let name = format!("{section}.{key}");
                    let path = PATHS.iter().find(|(path, _)| *path == name);
                    let value = match path {
                        Some((_, from)) => absolute(value, if from.is_empty() { directory } else { &site }),
                        None => value.clone(),
                    };
                    flat.insert(name, value.to_string());
                }
            }
            toml::Value::Array(tables) => {
                for table in tables.iter().filter_map(toml::Value::as_table) {
                    let own = table["name"].as_str().unwrap_or_default();
                    for (key, value) in table {
                        let value = match (section.as_str(), key.as_str()) {
                            ("services", "stop-timeout") => {
                                seconds(value.as_str().unwrap_or_default()).into()
                            }
                            // Only root does without.
                            ("services", "sudo") => continue,
                            ("services", key) if SERVICE_PATHS.contains(&key) => absolute(value, directory),
                            _ => value.clone(),
                        };
                        flat.insert(format!("{section}.{own}.{key}"), value.to_string());
                    }
                    if section == "services" {
                        let mut or = |key: &str, value: String| {
                            flat.entry(format!("services.{own}.{key}")).or_insert(format!("\"{value}\""));
                        };
                        or("role", "worker".to_owned());
                        match table["manager"].as_str() {
                            Some("systemd") => or("unit", format!("{own}.service")),
                            Some("supervisor") => or("program", own.to_owned()),
                            _ => {}
                        }
                    }
                }
            }
            value => {
                flat.insert(section.clone(), value.to_string());
            }
        }
    }
    // Two expressions are the same when they find the same names.
    let pattern =
        table.get("secrets").and_then(|secrets| secrets.get("pattern")).and_then(toml::Value::as_str);
    if flat.contains_key("secrets.file") {
        let pattern = compile_pattern(pattern.unwrap_or(DEFAULT_PATTERN)).unwrap();
        let names: BTreeSet<String> = code.iter().flat_map(|code| names_asked_for(code, &pattern)).collect();
        flat.insert("secrets.pattern".to_owned(), format!("{names:?}"));
    }
    flat
}

fn seconds(text: &str) -> i64 {
    let of = |part: &str| {
        let (number, unit) = part.split_at(part.len() - 1);
        let number: i64 = number.parse().unwrap();
        number
            * match unit {
                "s" => 1,
                "m" => 60,
                _ => 3600,
            }
    };
    text.split_whitespace().map(of).sum()
}

#[test]
#[expect(clippy::print_stdout, reason = "the score is for a person")]
fn layouts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/layouts");
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let only = std::env::var("LAYOUT").unwrap_or_default();
    files.retain(|file| file.to_str().unwrap().contains(&only));
    let outcomes: Vec<(String, Outcome)> = files
        .iter()
        .map(|file| Layout::read(file))
        .map(|layout| {
            let outcome = layout.try_out();
            (layout.name, outcome)
        })
        .collect();
    for (name, outcome) in &outcomes {
        println!("{name:<28} {}", outcome.word());
        for line in &outcome.harm {
            println!("    harm: {line}");
        }
        for line in &outcome.edits {
            println!("    {line}");
        }
        if !only.is_empty() {
            println!("{}", outcome.text);
        }
    }
    let good = outcomes.iter().filter(|(_, outcome)| outcome.is_good()).count();
    let harmed = outcomes.iter().filter(|(_, outcome)| !outcome.harm.is_empty()).count();
    let percent = good * 100 / outcomes.len();
    println!("{good} of {} whole or asked ({percent} %), {harmed} with harm", outcomes.len());
    assert_eq!(harmed, 0, "a configuration that harms the site was written without a question");
    assert!(percent >= REACHED, "{percent} % of the layouts were {REACHED} % before");
}
