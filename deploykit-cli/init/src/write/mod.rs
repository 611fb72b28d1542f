//! Writes down what was found, for an administrator to read.

mod checks;
mod lines;

use std::io;
use std::path::{Path, PathBuf};

use deploykit::services::Role;

use crate::InitError;
use crate::findings::{ASKED, Findings, Found, FoundMaintenance, FoundManager, FoundService, Question};
use crate::read::files::shown;
use lines::{Lines, NOT_UTF8, array, found, key, quoted};

impl Findings {
    /// Returns the text of the `deploykit.toml` for the directory that was looked at.
    #[must_use]
    pub fn to_toml(&self) -> String {
        draft(self).0
    }

    /// Lists the questions anew, with the lines where they stand.
    pub(crate) fn number(&mut self) {
        self.questions = draft(self).1;
    }

    /// Fails when there is a configuration already.
    ///
    /// # Errors
    ///
    /// [`InitError::Exists`].
    pub fn may_be_written(&self) -> Result<(), InitError> {
        match &self.existing {
            Some(path) => Err(InitError::Exists { path: path.clone() }),
            None => Ok(()),
        }
    }

    /// Writes the file and returns its path.
    ///
    /// # Errors
    ///
    /// [`InitError::Exists`] when there is one, [`InitError::Write`] when the system refuses.
    pub fn write(&self) -> Result<PathBuf, InitError> {
        self.may_be_written()?;
        let path = self.file.clone();
        let written = std::fs::File::create_new(&path).and_then(|mut file| {
            io::Write::write_all(&mut file, self.to_toml().as_bytes())?;
            file.sync_all()
        });
        match written {
            Ok(()) => Ok(path),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Err(InitError::Exists { path }),
            Err(source) => Err(InitError::Write { path, source }),
        }
    }
}

/// Where supervisor's configuration is when nobody knows better.
const SUPERVISORD: &str = "/etc/supervisor/supervisord.conf";

/// Returns the text of the file, and the questions with their lines.
pub(crate) fn draft(findings: &Findings) -> (String, Vec<Question>) {
    let mut draft = Draft { findings, out: Lines::default() };
    draft.all();
    let mut text = draft.out.lines.join("\n");
    text.push('\n');
    (text, draft.out.questions)
}

struct Draft<'f> {
    findings: &'f Findings,
    out: Lines,
}

impl Draft<'_> {
    fn all(&mut self) {
        let development = self.findings.environment.value.as_deref() == Some("development");
        self.out.comment(
            "How deploykit updates this site. `deploykit init` looked at it and wrote down what it found.",
        );
        self.out.comment(
            "What stands below NEEDS A PERSON is a guess or a gap: answer it, then remove that comment.",
        );
        self.out.comment("Relative paths start at this file's directory.");
        for why in &self.findings.unasked {
            self.out.wrapped(why, "  ");
        }
        let environment = self.findings.environment.clone();
        self.out.text("environment", &environment, "\"production\"");
        self.site();
        self.git();
        self.python();
        self.secrets();
        self.static_files();
        self.databases();
        if development {
            self.out.blank();
            self.out.comment("In development, services are left alone and nothing is announced.");
        } else {
            self.services();
            self.maintenance();
        }
        self.steps();
        self.smoke(development);
        self.logs();
    }

    fn site(&mut self) {
        let findings = self.findings;
        let repository = findings.repository.value.clone().unwrap_or_default();
        self.out.head("site", "[site]", "");
        self.out.path("repository", &findings.repository, &findings.directory, "\".\"");
        self.out.path("project", &findings.project, &repository, "\".\"");
        self.out.text("settings", &findings.settings, "\"config.settings\"");
        let pairs = findings.env.value.clone().unwrap_or_default();
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
        let value = (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")));
        self.out.value("env", value, &findings.env, "{ NAME = \"value\" }");
        self.out.path("env-file", &findings.env_file, &findings.directory, "\".env\"");
    }

    fn git(&mut self) {
        self.out.head("git", "[git]", "");
        let (remote, branch) = (&self.findings.remote, &self.findings.branch);
        self.out.text("remote", remote, "\"origin\"");
        self.out.text("branch", branch, "\"main\"");
    }

    fn python(&mut self) {
        let findings = self.findings;
        self.out.head("python", "[python]", "");
        self.out.path("virtualenv", &findings.virtualenv, &self.findings.directory, "\"../venv\"");
        if let Some((question, version)) = &findings.python {
            self.out.text("python", &Found::open(question), &quoted(version));
        }
        let repository = findings.repository.value.clone().unwrap_or_default();
        let mut found = findings.requirements.clone();
        let mut names = Vec::new();
        for file in found.value.iter().flatten() {
            names.push(quoted(&shown(&repository, file)));
            if file.to_str().is_none() {
                found.question = Some(NOT_UTF8.to_owned());
            }
        }
        let value = (!names.is_empty()).then(|| format!("[{}]", names.join(", ")));
        self.out.value("requirements", value, &found, "[\"requirements.txt\"]");
        self.out.path("lock", &findings.lock, &repository, "\"uv.lock\"");
        for (key, found) in [("groups", &findings.groups), ("extras", &findings.extras)] {
            self.out.value(key, found.value.as_deref().map(array), found, "[]");
        }
    }

    fn secrets(&mut self) {
        let findings = self.findings;
        let (file, pattern) = (&findings.secrets_file, &findings.secrets_pattern);
        if file.value.is_none() && file.question.is_none() && pattern.question.is_none() {
            return;
        }
        self.out.head("secrets", "[secrets]", "the names that new code asks for are compared with this file");
        self.out.path("file", file, &self.findings.directory, "\"secrets.json\"");
        if !findings.secrets_required.is_empty() {
            self.out.line(
                &format!("required = {}", array(&findings.secrets_required)),
                "fields without a default",
            );
        }
        self.out.text("pattern", pattern, "'''get_secret\\(\\s*[\"'](\\w+)[\"']'''");
    }

    fn static_files(&mut self) {
        let (root, source) = (&self.findings.static_root.value, &self.findings.static_root.source);
        let note = match (root, source) {
            (Some(root), Some(source)) if source == ASKED => format!("STATIC_ROOT is {root} ({source})"),
            (Some(root), Some(source)) => format!("STATIC_ROOT in {source}: {root}"),
            (None, Some(source)) => source.clone(),
            _ => "no STATIC_ROOT was found in the settings".to_owned(),
        };
        self.out.head("static", "[static]", "");
        match (&self.findings.collect.value, &self.findings.collect.source) {
            (Some(collect), Some(source)) => self.out.line(&format!("collect = {}", quoted(collect)), source),
            _ => self.out.line("collect = \"auto\"", &note),
        }
        if let (Some(clear), Some(source)) = (&self.findings.clear.value, &self.findings.clear.source) {
            self.out.line(&format!("clear = {}", quoted(clear)), source);
        }
    }

    fn services(&mut self) {
        let services = &self.findings.services;
        for service in services {
            self.service(service);
        }
        self.out.section = "";
        let missing = if let Some(shared) = &self.findings.shared {
            shared
        } else if services.is_empty() {
            &self.what_runs_it()
        } else if services.iter().all(|service| service.role != Role::Web) {
            "none of the services answers requests; what does?"
        } else {
            return;
        };
        self.out.blank();
        self.out.ask("services", missing);
        let example = ["[[services]]", "name = \"gunicorn\"", "manager = \"supervisor\"", "role = \"web\""];
        self.out.lines.extend(example.iter().map(|line| format!("# {line}")));
        self.out.comment(&format!("config = \"{SUPERVISORD}\""));
    }

    /// Asks what runs the site, with what the project's own files start.
    fn what_runs_it(&self) -> String {
        let starts =
            self.findings.starts.iter().map(|(file, command)| format!("`{file}` starts `{command}`"));
        let starts: Vec<String> = starts.take(2).collect();
        let hint = if starts.is_empty() { String::new() } else { format!(" ({})", starts.join("; ")) };
        format!(
            "no program of supervisor or systemd for this checkout was found in `/etc`, in the checkout, beside it, or from there up to \
             the home directory; what runs the site?{hint}"
        )
    }

    fn service(&mut self, service: &FoundService) {
        self.out.blank();
        self.out.section = "services";
        self.out.line("[[services]]", &found(&service.source));
        if let (Some(question), FoundManager::Systemd { .. }) = (&service.question, &service.manager) {
            self.out.ask(&format!("{}.name", service.name), question);
        }
        self.out.line(&format!("name = {}", quoted(&service.name)), "");
        let patience = match &service.manager {
            FoundManager::Supervisor { config, program } => {
                self.out.line("manager = \"supervisor\"", "");
                let config = config.as_deref().unwrap_or(Path::new(SUPERVISORD));
                let lossy = config.to_str().is_none().then_some(NOT_UTF8);
                if let Some(question) = service.question.as_deref().or(lossy) {
                    self.out.ask(&format!("{}.config", service.name), question);
                }
                let config = quoted(&shown(&self.findings.directory, config));
                self.out.line(&format!("config = {config}"), "");
                if let Some(program) = program.as_ref().filter(|program| **program != service.name) {
                    self.out.line(&format!("program = {}", quoted(program)), "what supervisor calls it");
                }
                service.stop_seconds.unwrap_or(10)
            }
            FoundManager::Systemd { unit, sudo } => {
                self.out.line("manager = \"systemd\"", "");
                self.out.line(&format!("unit = {}", quoted(unit)), "");
                if *sudo {
                    self.out.line("sudo = true", "`sudo -n systemctl`, so without a password");
                }
                service.stop_seconds.unwrap_or(90)
            }
            FoundManager::Uwsgi(uwsgi) => {
                self.out.line("manager = \"uwsgi\"", "");
                let directory = &self.findings.directory;
                let paths = [
                    ("pidfile", Some(&uwsgi.pidfile)),
                    ("fifo", uwsgi.fifo.as_ref()),
                    ("vassal", uwsgi.vassal.as_ref()),
                ];
                for (key, path) in paths.into_iter().filter_map(|(key, path)| Some((key, path?))) {
                    self.out.line(&format!("{key} = {}", quoted(&shown(directory, path))), "");
                }
                if !uwsgi.start.is_empty() {
                    self.out.line(&format!("start = {}", array(&uwsgi.start)), "");
                }
                0
            }
        };
        self.out.line(&format!("role = \"{}\"", service.role), "");
        let is_timer =
            matches!(&service.manager, FoundManager::Systemd { unit, .. } if unit.ends_with(".timer"));
        if is_timer {
            self.out.line("stop-timeout = \"10m\"", "the longest that its job may take");
        } else if patience >= 30 && service.role != Role::Required {
            self.out.line(&format!("stop-timeout = \"{}s\"", patience.saturating_add(10)), "");
        }
        for caution in &service.cautions {
            self.out.wrapped(caution, "");
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
        self.out.head("maintenance", "[maintenance]", &note);
        if findings.status_file.value.is_some() {
            self.out.path("status-file", &findings.status_file, &self.findings.directory, "");
        } else if let Some(source) = &findings.status_file.source {
            self.out.line("# status-file = \"\"", &format!("computed: {source}"));
        }
        if let Some(jobs) = &findings.jobs {
            self.out.ask("wait-for-jobs", jobs);
            self.out.comment("wait-for-jobs = \"10m\"");
        }
        match &findings.page.value {
            None => {
                self.out.line(
                    "# page = \"/srv/www/tmp/maintenance.html\"",
                    "for nginx: if (-f THIS) { return 503; }",
                );
            }
            Some(page) if findings.page.question.is_some() || self.lacks_connect() => {
                let lacking = "nginx looks for this file; name `smoke.connect` as well, to check the site behind the page";
                let question = findings.page.question.clone().unwrap_or_else(|| lacking.to_owned());
                let page = quoted(&shown(&self.findings.directory, page));
                self.out.value::<()>("page", None, &Found::open(question), &page);
            }
            Some(_) => self.out.path("page", &findings.page, &self.findings.directory, ""),
        }
    }

    fn lacks_connect(&self) -> bool {
        self.findings.connect.value.is_none() && self.findings.base.value.is_some()
    }

    fn steps(&mut self) {
        for step in &self.findings.steps {
            self.out.blank();
            self.out.section = "steps";
            self.out.line("[[steps]]", &found(&step.source));
            self.out.line(&format!("name = {}", quoted(&step.name)), "");
            self.out.line(&format!("after = {}", quoted(step.after)), "");
            let kind = if step.manage { "manage" } else { "run" };
            self.out.line(&format!("{kind} = {}", array(&step.command)), "");
            if let Some(question) = &step.outputs.question {
                self.out.ask(&format!("{}.outputs", step.name), question);
            }
            if let Some(outputs) = &step.outputs.value {
                self.out.list("outputs", outputs);
            }
            if step.rehearse {
                self.out.line("rehearse = true", "the pages need what it creates");
            }
        }
        if let Some((question, step)) = &self.findings.more_steps {
            self.out.blank();
            self.out.section = "";
            self.out.ask("steps", question);
            let name = format!("name = {}", quoted(&step.name));
            let manage = format!("manage = {}", array(&step.command));
            for line in ["[[steps]]".to_owned(), name, format!("after = {}", quoted(step.after)), manage] {
                self.out.comment(&line);
            }
        }
    }
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
            // Two variables of one name would be a mistake of the reader.
            let twice = findings.env.value.iter().flatten().map(|(name, _)| name).collect::<Vec<_>>();
            prop_assume!(twice.len() < 2 || twice[0] != twice[1]);
            let (text, questions) = draft(&findings);
            let table: toml::Table = text.parse().map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(table["services"][0]["name"].as_str(), Some(name.as_str()));
            if let Some(settings) = &findings.settings.value {
                prop_assert_eq!(table["site"]["settings"].as_str(), Some(settings.as_str()));
            }
            for question in questions {
                let line = text.lines().nth(question.line - 1).unwrap_or_default();
                let key = question.key.rsplit('.').next().unwrap_or_default();
                prop_assert!(line.contains(key), "{question:?}: {line}");
            }
        }
    }
}
