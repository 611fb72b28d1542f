//! Writes down what was found, for an administrator to read.

use std::path::Path;

use super::files::seen_from;
use super::{Findings, Found, FoundMaintenance, FoundManager, FoundService, Question};
use deploykit::services::Role;

/// Where the comments after values start.
const COLUMN: usize = 42;
/// Characters of a comment's line.
const WIDTH: usize = 110;
/// Where supervisor's configuration is when nobody knows better.
const SUPERVISORD: &str = "/etc/supervisor/supervisord.conf";

/// Returns the text of the file, and the questions with their lines.
pub(super) fn draft(findings: &Findings, directory: &Path) -> (String, Vec<Question>) {
    let mut draft = Draft { findings, directory, lines: Vec::new(), questions: Vec::new(), section: "" };
    draft.all();
    let mut text = draft.lines.join("\n");
    text.push('\n');
    (text, draft.questions)
}

struct Draft<'f> {
    findings: &'f Findings,
    directory: &'f Path,
    lines: Vec<String>,
    questions: Vec<Question>,
    section: &'static str,
}

impl Draft<'_> {
    fn all(&mut self) {
        let development = self.findings.environment.value.as_deref() == Some("development");
        self.comment(
            "How deploykit updates this site. `deploykit init` looked at it and wrote down what it found.",
        );
        self.comment("What stands below NEEDS A PERSON is a guess or a gap. Relative paths start at this file's directory.");
        let environment = self.findings.environment.clone();
        self.text("environment", &environment, "\"production\"");
        self.site();
        self.git();
        self.python();
        self.secrets();
        self.static_files();
        if development {
            self.blank();
            self.comment("In development, services are left alone and nothing is announced.");
        } else {
            self.services();
            self.maintenance();
        }
        self.smoke(development);
        self.logs();
    }

    fn site(&mut self) {
        let findings = self.findings;
        let repository = findings.repository.value.clone().unwrap_or_default();
        self.head("site", "[site]", "");
        self.path("repository", &findings.repository, self.directory, "\".\"");
        self.path("project", &findings.project, &repository, "\".\"");
        self.text("settings", &findings.settings, "\"config.settings\"");
        let pairs = findings.env.value.clone().unwrap_or_default();
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
        let value = (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")));
        self.value("env", value, &findings.env, "{ NAME = \"value\" }");
        self.path("env-file", &findings.env_file, self.directory, "\".env\"");
    }

    fn git(&mut self) {
        self.head("git", "[git]", "");
        let (remote, branch) = (&self.findings.remote, &self.findings.branch);
        self.text("remote", remote, "\"origin\"");
        self.text("branch", branch, "\"main\"");
    }

    fn python(&mut self) {
        let findings = self.findings;
        self.head("python", "[python]", "");
        self.path("virtualenv", &findings.virtualenv, self.directory, "\"../venv\"");
        let repository = findings.repository.value.clone().unwrap_or_default();
        let mut found = findings.requirements.clone();
        let mut names = Vec::new();
        for file in found.value.iter().flatten() {
            names.push(quoted(&seen_from(&repository, file).to_string_lossy()));
            if file.to_str().is_none() {
                found.question = Some(NOT_UTF8.to_owned());
            }
        }
        let value = (!names.is_empty()).then(|| format!("[{}]", names.join(", ")));
        self.value("requirements", value, &found, "[\"requirements.txt\"]");
    }

    fn secrets(&mut self) {
        let findings = self.findings;
        let (file, pattern) = (&findings.secrets_file, &findings.secrets_pattern);
        if file.value.is_none() && file.question.is_none() && pattern.question.is_none() {
            return;
        }
        self.head("secrets", "[secrets]", "the names that new code asks for are compared with this file");
        self.path("file", file, self.directory, "\"secrets.json\"");
        self.text("pattern", pattern, "'''get_secret\\(\\s*[\"'](\\w+)[\"']'''");
    }

    fn static_files(&mut self) {
        let (root, source) = (&self.findings.static_root.value, &self.findings.static_root.source);
        let note = match (root, source) {
            (Some(root), Some(source)) => format!("STATIC_ROOT in {source}: {root}"),
            _ => "no STATIC_ROOT was found in the settings".to_owned(),
        };
        self.head("static", "[static]", "");
        self.line("collect = \"auto\"", &note);
    }

    fn services(&mut self) {
        let services = &self.findings.services;
        for service in services {
            self.service(service);
        }
        self.section = "";
        let missing = if services.is_empty() {
            "no program of supervisor or systemd belongs to this checkout; what runs the site?"
        } else if services.iter().all(|service| service.role != Role::Web) {
            "none of the services answers requests; what does?"
        } else {
            return;
        };
        self.blank();
        self.ask("services", missing);
        let example = ["[[services]]", "name = \"gunicorn\"", "manager = \"supervisor\"", "role = \"web\""];
        self.lines.extend(example.iter().map(|line| format!("# {line}")));
        self.comment(&format!("config = \"{SUPERVISORD}\""));
    }

    fn service(&mut self, service: &FoundService) {
        self.blank();
        self.section = "services";
        self.line("[[services]]", &found(&service.source));
        if let (Some(question), FoundManager::Systemd { .. }) = (&service.question, &service.manager) {
            self.ask(&format!("{}.name", service.name), question);
        }
        self.line(&format!("name = {}", quoted(&service.name)), "");
        let patience = match &service.manager {
            FoundManager::Supervisor { config, program } => {
                self.line("manager = \"supervisor\"", "");
                let config = config.as_deref().unwrap_or(Path::new(SUPERVISORD));
                let lossy = config.to_str().is_none().then_some(NOT_UTF8);
                if let Some(question) = service.question.as_deref().or(lossy) {
                    self.ask(&format!("{}.config", service.name), question);
                }
                let config = quoted(&seen_from(self.directory, config).to_string_lossy());
                self.line(&format!("config = {config}"), "");
                if let Some(program) = program {
                    self.line(&format!("program = {}", quoted(program)), "what supervisor calls it");
                }
                service.stop_seconds.unwrap_or(10)
            }
            FoundManager::Systemd { unit, sudo } => {
                self.line("manager = \"systemd\"", "");
                self.line(&format!("unit = {}", quoted(unit)), "");
                if *sudo {
                    self.line("sudo = true", "`sudo -n systemctl`, so without a password");
                }
                service.stop_seconds.unwrap_or(90)
            }
        };
        self.line(&format!("role = \"{}\"", service.role), "");
        // deploykit's own default is 30 s, and it has to be the more patient one.
        if patience >= 30 && service.role != Role::Required {
            self.line(
                &format!("stop-timeout = \"{}s\"", patience.saturating_add(5)),
                "its manager may wait that long",
            );
        }
        for caution in &service.cautions {
            wrapped(caution).iter().for_each(|line| self.comment(line));
        }
    }

    fn maintenance(&mut self) {
        let findings = self.findings;
        let note = match (findings.maintenance.value, &findings.maintenance.source) {
            (Some(FoundMaintenance::Own), Some(source)) => {
                format!("maintenanceon and maintenanceoff of {source} are found by themselves")
            }
            (Some(FoundMaintenance::Package), _) => {
                "maintenance_mode closes the site at once, so it announces nothing".to_owned()
            }
            _ => "the site has no maintenanceon and maintenanceoff: nothing is announced".to_owned(),
        };
        self.head("maintenance", "[maintenance]", &note);
        if findings.status_file.value.is_some() {
            self.path("status-file", &findings.status_file, self.directory, "");
        } else if let Some(source) = &findings.status_file.source {
            self.line("# status-file = \"\"", &format!("computed: {source}"));
        }
        match &findings.page.value {
            None => {
                self.line(
                    "# page = \"/srv/www/tmp/maintenance.html\"",
                    "for nginx: if (-f THIS) { return 503; }",
                );
            }
            Some(page) if findings.page.question.is_some() || self.lacks_connect() => {
                let lacking = "nginx looks for this file; name `smoke.connect` as well, to check the site behind the page";
                let question = findings.page.question.clone().unwrap_or_else(|| lacking.to_owned());
                let page = quoted(&seen_from(self.directory, page).to_string_lossy());
                self.value::<()>("page", None, &Found::open(question), &page);
            }
            Some(_) => self.path("page", &findings.page, self.directory, ""),
        }
    }

    fn lacks_connect(&self) -> bool {
        self.findings.connect.value.is_none() && self.findings.base.value.is_some()
    }

    fn smoke(&mut self, development: bool) {
        let findings = self.findings;
        self.head("smoke", "[smoke]", "");
        let mut base = findings.base.clone();
        let known = base.value.is_some();
        if !known && !development {
            base.question = Some("the site's public address; ALLOWED_HOSTS names no host".to_owned());
        }
        self.text("base", &base, "\"https://www.example.org/\"");
        let mut connect = findings.connect.clone();
        if connect.value.is_none() && connect.question.is_none() && !development {
            let services = findings.services.iter().any(|service| service.role == Role::Web);
            // Without a service there is a greater question already.
            connect.question = services.then(|| "where does the web service itself listen?".to_owned());
        }
        self.text("connect", &connect, "\"127.0.0.1:8000\"");
        if known {
            self.line("pages = [\"/\"]", "add what must work: { path = \"/about/\", contains = \"About\" }");
        } else {
            self.line("# pages = [\"/\"]", "with `base`");
        }
    }

    fn logs(&mut self) {
        if self.findings.logs.is_empty() {
            return;
        }
        self.head("logs", "[logs]", "");
        for (name, path) in &self.findings.logs {
            let path = quoted(&seen_from(self.directory, path).to_string_lossy());
            self.line(&format!("{} = {path}", key(name)), "");
        }
    }

    fn blank(&mut self) {
        self.lines.push(String::new());
    }

    fn head(&mut self, section: &'static str, header: &str, note: &str) {
        self.blank();
        self.section = section;
        self.line(header, note);
    }

    fn comment(&mut self, text: &str) {
        self.lines.push(format!("# {}", plain(text)));
    }

    fn line(&mut self, line: &str, note: &str) {
        if note.is_empty() {
            self.lines.push(line.to_owned());
        } else {
            // One space at least, where the value is longer than the column.
            self.lines.push(format!("{line:<COLUMN$} # {}", plain(note)));
        }
    }

    fn text(&mut self, key: &str, found: &Found<String>, example: &str) {
        self.value(key, found.value.as_deref().map(quoted), found, example);
    }

    fn path(&mut self, key: &str, found: &Found<std::path::PathBuf>, from: &Path, example: &str) {
        let value = found.value.as_deref().map(|path| quoted(&seen_from(from, path).to_string_lossy()));
        if found.value.as_deref().is_some_and(|path| path.to_str().is_none()) {
            self.value(key, value, &found.clone().asking(NOT_UTF8), example);
        } else {
            self.value(key, value, found, example);
        }
    }

    /// Writes a value, with its question above it; a question without a value stands above an example.
    fn value<T>(&mut self, key: &str, value: Option<String>, meta: &Found<T>, example: &str) {
        if let Some(question) = &meta.question {
            self.ask(key, question);
        }
        match value {
            Some(value) => {
                let note = meta.source.as_deref().map(found).unwrap_or_default();
                self.line(&format!("{key} = {value}"), &note);
            }
            None if meta.question.is_some() => self.comment(&format!("{key} = {example}")),
            None => {}
        }
    }

    /// Writes a question above the line that is about to come.
    fn ask(&mut self, key: &str, question: &str) {
        let key = if self.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.section) };
        let mut line = "# NEEDS A PERSON:".to_owned();
        for word in plain(question).split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 4 {
                self.lines.push(std::mem::replace(&mut line, "#  ".to_owned()));
            }
            line.push(' ');
            line.push_str(word);
        }
        self.lines.push(line);
        self.questions.push(Question { key, why: question.to_owned(), line: Some(self.lines.len() + 1) });
    }
}

const NOT_UTF8: &str = "the name is not UTF-8, which this file cannot hold; rename it or give another";

fn found(source: &str) -> String {
    if source.is_empty() { String::new() } else { format!("found: {source}") }
}

/// Returns a text as TOML, on one line whatever is in it.
fn quoted(text: &str) -> String {
    if text.chars().any(char::is_control) {
        return basic(text);
    }
    toml::Value::String(text.to_owned()).to_string()
}

/// Returns a text between double quotes.
fn basic(text: &str) -> String {
    // What JSON escapes TOML reads alike; it alone forbids a bare DEL.
    serde_json::to_string(text).unwrap_or_default().replace('\u{7f}', "\\u007f")
}

/// Returns a name as a key of TOML.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    // A key may be quoted in the two short ways only.
    if bare { name.to_owned() } else { basic(name) }
}

/// Returns a text that can stand in a comment.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Breaks a sentence into lines of a comment.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() + 3 <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn found<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Found<T>> {
        (proptest::option::of(value), proptest::option::of("\\PC{0,40}"), proptest::option::of(".{1,200}"))
            .prop_map(|(value, source, question)| Found { value, source, question })
    }

    fn path() -> impl Strategy<Value = PathBuf> {
        "(?s).{1,30}".prop_map(|name| PathBuf::from("/srv/site").join(name.replace(['\0', '/'], "_")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn whatever_is_found_the_file_can_be_read(
            project in found(path()),
            settings in found("(?s).{0,30}"),
            branch in found("(?s).{0,30}"),
            env in found(proptest::collection::vec(("(?s).{0,9}", "(?s).{0,9}"), 0..2)),
            virtualenv in found(path()),
            name in "(?s).{1,20}",
            question in proptest::option::of("(?s).{1,200}"),
            logs in proptest::collection::btree_map("(?s).{0,9}", path(), 0..3),
        ) {
            let config = virtualenv.value.clone();
            let service = FoundService {
                name: name.clone(),
                role: Role::Web,
                manager: FoundManager::Supervisor { config, program: Some(name.clone()) },
                stop_seconds: Some(60),
                cautions: Vec::new(),
                source: name.clone(),
                question,
            };
            let unit = FoundService {
                manager: FoundManager::Systemd { unit: format!("{name}.service"), sudo: true },
                ..service.clone()
            };
            let findings = Findings {
                directory: "/srv/site".into(),
                repository: Found::new("/srv/site".into(), ""),
                env,
                page: project.clone(),
                project,
                settings,
                branch,
                virtualenv,
                services: vec![service, unit],
                logs: logs.into_iter().collect(),
                ..Findings::default()
            };
            // Two variables of one name would be a mistake of whoever found them.
            let twice = findings.env.value.iter().flatten().map(|(name, _)| name).collect::<Vec<_>>();
            prop_assume!(twice.len() < 2 || twice[0] != twice[1]);
            let (text, questions) = draft(&findings, &findings.directory);
            let table: toml::Table = text.parse().map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(table["services"][0]["name"].as_str(), Some(name.as_str()));
            if let Some(settings) = &findings.settings.value {
                prop_assert_eq!(table["site"]["settings"].as_str(), Some(settings.as_str()));
            }
            for question in questions {
                let line = text.lines().nth(question.line.unwrap_or(0) - 1).unwrap_or_default();
                let key = question.key.rsplit('.').next().unwrap_or_default();
                prop_assert!(line.contains(key), "{question:?}: {line}");
            }
        }
    }
}
