//! Compares a configuration with the site as it is now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use deploykit::services::Role;
use deploykit::site::{Config, ConfigError};
use serde::Serialize;

use crate::findings::{Findings, Found};
use crate::read::files::real;
use crate::write;

/// A key whose value in the file is another one than the site's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key, from the top of the file: `site.settings`; of a service `services.NAME`.
    pub key: String,
    /// What the file has; `None`: nothing.
    pub configured: Option<String>,
    /// What was found; `None`: nothing.
    pub found: Option<String>,
    /// Where it was found, or what is wrong with what the file has.
    pub source: String,
}

impl Findings {
    /// Compares a configuration with these findings: only what was found for certain.
    ///
    /// # Errors
    ///
    /// When what was found makes no configuration.
    pub fn differences(&self, config: &Config) -> Result<Vec<Difference>, ConfigError> {
        // A required key that nobody knows must not keep the others from being compared.
        let mut complete = self.clone();
        complete.settings.value.get_or_insert_with(|| "unknown".to_owned());
        complete.virtualenv.value.get_or_insert_with(|| PathBuf::from("/unknown"));
        let found = Config::parse(&write::draft(&complete).0, &config.path, None)?;
        let mut compared = Compared { findings: self, config, found: &found, all: Vec::new() };
        compared.site();
        compared.packages();
        compared.other_sections();
        compared.services();
        compared.steps();
        compared.missing();
        Ok(compared.all)
    }
}

struct Compared<'c> {
    findings: &'c Findings,
    config: &'c Config,
    found: &'c Config,
    all: Vec<Difference>,
}

impl Compared<'_> {
    fn add(&mut self, key: &str, configured: Option<String>, found: Option<String>, source: &str) {
        let (key, source) = (key.to_owned(), source.to_owned());
        self.all.push(Difference { key, configured, found, source });
    }

    /// Compares one key, when its value was found without a question.
    fn key<T, V: PartialEq>(
        &mut self,
        key: &str,
        meta: &Found<T>,
        [configured, found]: [&V; 2],
        show: impl Fn(&V) -> Option<String>,
    ) {
        let source = meta.source.as_ref();
        let hinted = source.is_some_and(|source| self.findings.documents.contains(source));
        let certain = meta.value.is_some() && meta.question.is_none() && !hinted;
        if certain && configured != found {
            let source = meta.source.clone().unwrap_or_default();
            self.add(key, show(configured), show(found), &source);
        }
    }

    fn text(&mut self, key: &str, meta: &Found<String>, both: [&Option<String>; 2]) {
        self.key(key, meta, both, Clone::clone);
    }

    /// Compares arrays whose order means nothing.
    fn list<T: Ord + Clone>(
        &mut self,
        key: &str,
        meta: &Found<Vec<T>>,
        [configured, found]: [&Vec<T>; 2],
        show: impl Fn(&T) -> String,
    ) {
        let sorted = |all: &Vec<T>| all.iter().cloned().collect::<BTreeSet<T>>();
        if sorted(configured) != sorted(found) {
            self.key(key, meta, [configured, found], |all| {
                Some(all.iter().map(&show).collect::<Vec<_>>().join(", ")).filter(|all| !all.is_empty())
            });
        }
    }

    /// Compares paths by what they lead to: a virtualenv may have become a link.
    fn path(&mut self, key: &str, meta: &Found<PathBuf>, [configured, found]: [Option<&Path>; 2]) {
        if configured.map(real) != found.map(real) {
            self.key(key, meta, [&configured, &found], |path| path.map(shown));
        }
    }

    fn site(&mut self) {
        let (findings, config, found) = (self.findings, self.config, self.found);
        if findings.environment.source.as_ref().is_some_and(|source| !source.is_empty()) {
            self.key("environment", &findings.environment, [&config.environment, &found.environment], |it| {
                Some(it.as_str().to_owned())
            });
        }
        let (was, is) = (&config.site, &found.site);
        self.path("site.repository", &findings.repository, [Some(&was.repository), Some(&is.repository)]);
        self.path("site.project", &findings.project, [Some(&was.project), Some(&is.project)]);
        self.text("site.settings", &findings.settings, [&was.settings, &is.settings]);
        self.path("site.env-file", &findings.env_file, [was.env_file.as_deref(), is.env_file.as_deref()]);
        // Of more variables than the services get, nothing is known.
        let of = |all: &[(String, String)], wanted: &str| {
            all.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
        };
        for (name, value) in findings.env.value.iter().flatten() {
            let (configured, found) = (of(&was.env, name), Some(value.clone()));
            self.key(&format!("site.env.{name}"), &findings.env, [&configured, &found], Clone::clone);
        }
        let (was, is) = (&config.git, &found.git);
        let some = |text: &String| Some(text.clone());
        self.key("git.remote", &findings.remote, [&was.remote, &is.remote], some);
        self.key("git.branch", &findings.branch, [&was.branch, &is.branch], some);
    }

    fn packages(&mut self) {
        let findings = self.findings;
        let (was, is) = (&self.config.python, &self.found.python);
        let virtualenvs = [was.virtualenv.as_deref(), is.virtualenv.as_deref()];
        self.path("python.virtualenv", &findings.virtualenv, virtualenvs);
        if let (None, Some((why, _))) = (&was.python, &findings.python) {
            self.add("python.python", None, None, why);
        }
        let files = [&was.requirements, &is.requirements];
        self.list("python.requirements", &findings.requirements, files, |file| shown(file));
        self.path("python.lock", &findings.lock, [was.lock.as_deref(), is.lock.as_deref()]);
        if was.lock == is.lock {
            self.list("python.groups", &findings.groups, [&was.groups, &is.groups], String::clone);
            self.list("python.extras", &findings.extras, [&was.extras, &is.extras], String::clone);
        }
    }

    fn other_sections(&mut self) {
        let (findings, config, found) = (self.findings, self.config, self.found);
        let files = [config.secrets.file.as_deref(), found.secrets.file.as_deref()];
        self.path("secrets.file", &findings.secrets_file, files);
        let (was, is) = (&config.static_files, &found.static_files);
        let when = |when: &_| Some(format!("{when:?}").to_lowercase());
        self.key("static.collect", &findings.collect, [&was.collect, &is.collect], when);
        self.key("static.clear", &findings.clear, [&was.clear, &is.clear], when);
        let (was, is) = (&config.maintenance, &found.maintenance);
        // Without the key it is the file that Django says.
        if was.status_file.is_some() {
            let files = [was.status_file.as_deref(), is.status_file.as_deref()];
            self.path("maintenance.status-file", &findings.status_file, files);
        }
        self.path("maintenance.page", &findings.page, [was.page.as_deref(), is.page.as_deref()]);
        let (was, is) = (&config.smoke, &found.smoke);
        let site = |url: &Option<String>| url.as_ref().map(|url| url.trim_end_matches('/').to_lowercase());
        if site(&was.base) != site(&is.base) {
            self.text("smoke.base", &findings.base, [&was.base, &is.base]);
        }
        let text = |connect: &Option<_>| connect.as_ref().map(ToString::to_string);
        let (was, is) = (text(&was.connect), text(&is.connect));
        if was.as_deref().map(listener) != is.as_deref().map(listener) {
            self.text("smoke.connect", &findings.connect, [&was, &is]);
        }
    }

    fn services(&mut self) {
        let (configured, found) = (&self.config.services, &self.found.services);
        for service in found {
            let known = self.findings.services.iter().find(|known| known.name == service.name);
            let Some(known) = known.filter(|known| known.question.is_none()) else { continue };
            let key = format!("services.{}", service.name);
            let what = |role: Role| Some(format!("{role} of {}", service.manager.kind().as_str()));
            match configured
                .iter()
                .find(|one| one.manager.is_same(&one.name, &service.manager, &service.name))
            {
                None => self.add(&key, None, what(service.role), &known.source),
                Some(one) if one.role != service.role => {
                    self.add(
                        &format!("services.{}.role", one.name),
                        Some(one.role.to_string()),
                        Some(service.role.to_string()),
                        &known.source,
                    );
                }
                Some(_) => {}
            }
        }
    }

    fn steps(&mut self) {
        for step in &self.found.steps {
            let known = self.findings.steps.iter().find(|known| known.name == step.name);
            // One of that name is the administrator's own version of it.
            let configured =
                self.config.steps.iter().any(|one| one.name == step.name || one.task == step.task);
            let Some(known) = known.filter(|_| !configured) else { continue };
            self.add(&format!("steps.{}", step.name), None, Some(known.command.join(" ")), &known.source);
        }
    }

    /// Adds the files that the configuration names and that are gone.
    fn missing(&mut self) {
        let config = self.config;
        let told: Vec<String> = self.all.iter().map(|one| one.key.clone()).collect();
        let python = config.python.virtualenv.as_ref().map(|directory| directory.join("bin/python"));
        let requirements =
            config.python.requirements.iter().map(|file| ("python.requirements", file.clone()));
        let one = |key: &'static str, path: &Option<PathBuf>| path.clone().map(|path| (key, path));
        let named = [
            one("site.project", &Some(config.site.project.join("manage.py"))),
            one("site.env-file", &config.site.env_file),
            one("python.virtualenv", &python),
            one("python.lock", &config.python.lock),
            one("secrets.file", &config.secrets.file),
        ];
        for (key, path) in named.into_iter().flatten().chain(requirements) {
            if path.symlink_metadata().is_err() && !told.iter().any(|told| told == key) {
                self.add(key, Some(shown(&path)), None, "does not exist");
            }
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Returns the canonical form of an address: the same for all spellings that mean the same.
fn listener(connect: &str) -> String {
    match connect.split_once("unix:") {
        Some((protocol, path)) => format!("{protocol}unix:{}", real(Path::new(path)).display()),
        None => connect.replace("localhost", "127.0.0.1"),
    }
}
