//! A site as its `deploykit.toml` describes it, and the operations that belong to it.

mod checks;
mod claim;
mod config;
mod known;
mod lacks;
mod obeyed;
mod pages;
mod problem;
mod reference;
mod sections;
mod services;
mod shown;
mod steps;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use claim::{Adopted, ClaimError};
use config::NAME;
pub use config::{Config, find};
pub use problem::{ConfigError, Mistakes};
pub use reference::{UnknownKey, describe, reference};
pub use sections::{
    AnnounceWhen, DatabaseSection, GitSection, HooksSection, HostRole, MaintenanceSection, PythonSection,
    RehearsalSection, SecretsSection, SiteSection, SmokeSection, StaticSection,
};
pub use steps::{OwnStep, OwnTask};

use crate::django::{Databases, Project, SiteFacts};
use crate::host::files::{FileError, InPath};
use crate::host::{Cancel, Host, Redactor, Umask, Variables, owners};
pub use crate::keys::{Environment, Key, Problem, Section, Size};
use crate::names;
use crate::operations::git_update::GitUpdate;
use crate::operations::maintenance::{Announcement, Page};
use crate::operations::pip_install::{PipInstall, Record};
use crate::operations::service_control::{ServiceControl, Want};
use crate::operations::smoke_check::SmokeCheck;
use crate::python::{Lock, Wanted};
use crate::secrets::{SecretsFile, Sensitive};
use crate::services::{CommandManager, Manager, Role, Serves};
use crate::state::State;

/// A site, checked and ready to use. It is read once; what an update brings does not change it.
///
/// # Examples
///
/// ```no_run
/// use deploykit::Site;
///
/// let site = Site::load("/srv/site/deploykit.toml".as_ref(), None)?;
/// println!("{} serves {}", site.config().environment.as_str(), site.config().site.repository.display());
/// # Ok::<(), deploykit::site::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Site {
    config: Config,
    variables: Variables,
    redactor: Redactor,
    fingerprint: String,
    /// Read once: the command line and each host need it.
    umask: OnceLock<Option<Umask>>,
}

impl Site {
    /// Reads a configuration file and the site's environment file; `environment` overrules the name in it.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`]; all mistakes of the file are reported at once.
    pub fn load(path: &Path, environment: Option<&str>) -> Result<Self, ConfigError> {
        let site = Site::load_partial(path, environment)?;
        site.config.require_all()?;
        Ok(site)
    }

    /// Like [`load`](Site::load), and accepts a configuration that lacks `site.settings` or `python.virtualenv`. What needs
    /// them fails and names them.
    ///
    /// # Errors
    ///
    /// Like [`load`](Site::load), but for missing keys.
    #[doc(hidden)]
    pub fn load_partial(path: &Path, environment: Option<&str>) -> Result<Self, ConfigError> {
        Site::of(Config::load_partial(path, environment)?)
    }

    /// Checks that the configuration has all required keys.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with the keys that are missing.
    #[doc(hidden)]
    pub fn require_all(&self) -> Result<(), ConfigError> {
        self.config.require_all()
    }

    /// Makes a site of a configuration that was changed in code. Its values are checked as [`Site::load`] checks those of a
    /// file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with all mistakes; when the environment file cannot be used; when a file that the
    /// configuration names is not trusted; when root calls and the checkout or the virtualenv belongs to somebody else.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let mut site = Site::of(config)?;
        let (config, path) = (&site.config, &site.config.path);
        let mut read = Config::parse_partial(&config.text, path, Some(config.environment.as_str()))?;
        know_processes(&mut read);
        if read != *config {
            site.fingerprint = fingerprint(config, &site.variables, &format!("{config:?}"));
        }
        Ok(site)
    }

    /// Makes a site of a configuration whose values were checked.
    fn of(mut config: Config) -> Result<Self, ConfigError> {
        know_processes(&mut config);
        let git = config.site.repository.join(".git");
        for path in [&config.site.repository, &git].into_iter().chain(&config.python.virtualenv) {
            owners::not_root_over_others(path)?;
        }
        for file in config.obeyed().filter(|file| file.exists()) {
            owners::trusted(&file)?;
        }
        let mut variables = Variables::new();
        let mut sensitive = Sensitive::default();
        if let Some(file) = &config.site.env_file {
            variables.read_file(file)?;
            variables.iter().for_each(|(name, value)| sensitive.add(&[name], value));
        }
        for (name, value) in &config.site.env {
            variables.set(name, value);
            sensitive.add(&[name], value);
        }
        if let Some(url) = &config.rehearsal.database_url {
            sensitive.add(&["database-url"], url);
        }
        // A secrets file that cannot be read is reported by the step that needs it.
        if let Some(file) = config.secrets.file.as_deref().and_then(|file| SecretsFile::read(file).ok()) {
            sensitive.extend(file.sensitive());
        }
        let redactor = Redactor::new(sensitive.hidden(&config.shown()));
        let fingerprint = fingerprint(&config, &variables, "");
        Ok(Site { config, variables, redactor, fingerprint, umask: OnceLock::new() })
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the state directory.
    #[doc(hidden)]
    #[must_use]
    pub fn state(&self) -> State {
        State::at(&self.config.directory.join(".deploykit"))
    }

    /// Returns the machine with the site's variables; it removes secrets from whatever it shows.
    #[must_use]
    pub fn host(&self, cancel: Option<Cancel>) -> Host {
        let host = Host::new().with_variables(self.variables.clone()).with_redactor(self.redactor.clone());
        let host = host.with_umask(self.umask());
        match cancel {
            Some(cancel) => host.with_cancel(cancel),
            None => host,
        }
    }

    /// Returns the umask of the project's sources: an update makes files with the same umask.
    #[doc(hidden)]
    #[must_use]
    pub fn umask(&self) -> Option<Umask> {
        *self.umask.get_or_init(|| Umask::of_files(&self.config.site.project, Some("py")))
    }

    /// Returns the update of the checkout; `revision` instead of the tip of the branch.
    #[must_use]
    pub fn git_update(&self, revision: Option<&str>) -> GitUpdate {
        let config = &self.config;
        GitUpdate {
            remote: config.git.remote.clone(),
            branch: config.git.branch.clone(),
            revision: revision.map(str::to_owned),
            local_changes: config.git.local_changes,
            local_commits: config.git.local_commits,
            verify_signature: config.git.verify_signature,
            deadline: config.git.deadline,
            ignore: vec![self.state().directory().to_owned()],
            ..GitUpdate::new(&config.site.repository)
        }
    }

    /// Returns the virtualenv.
    ///
    /// # Errors
    ///
    /// When the configuration lacks `python.virtualenv`.
    pub fn virtualenv(&self) -> Result<&Path, ConfigError> {
        self.config.python.virtualenv.as_deref().ok_or_else(|| self.config.lacks(&["python.virtualenv"]))
    }

    /// Returns the installation of the packages that the checkout asks for.
    ///
    /// # Errors
    ///
    /// When the configuration lacks `python.virtualenv`.
    pub fn pip_install(&self) -> Result<PipInstall, ConfigError> {
        self.pip_install_after(self.state().current().packages)
    }

    /// Like [`pip_install`](Site::pip_install), with the record of the last good update.
    pub(crate) fn pip_install_after(&self, record: Option<Record>) -> Result<PipInstall, ConfigError> {
        let config = &self.config;
        Ok(PipInstall {
            installer: config.python.installer,
            upgrade: config.python.upgrade,
            python: config.python.python.clone(),
            in_place: config.python.in_place,
            extra_args: config.python.extra_args.clone(),
            record,
            deadline: config.python.deadline,
            ..PipInstall::new(
                self.virtualenv()?,
                config.python.wanted(),
                &config.site.repository,
                self.state().virtualenvs(),
            )
        })
    }

    /// Returns the live Django project.
    ///
    /// # Errors
    ///
    /// When the configuration lacks `python.virtualenv` or `site.settings`.
    pub fn project(&self) -> Result<Project, ConfigError> {
        let config = &self.config;
        let (Some(virtualenv), Some(settings)) = (&config.python.virtualenv, &config.site.settings) else {
            return Err(config.lacks(&["python.virtualenv", "site.settings"]));
        };
        Ok(Project {
            python: virtualenv.join("bin/python"),
            directory: config.site.project.clone(),
            settings: settings.clone(),
            database_deadline: config.database.deadline,
            databases: Databases {
                migrate: config.database.migrate.clone(),
                direct: config.database.direct.iter().cloned().collect(),
                command: config.database.migrate_command.clone(),
            },
        })
    }

    /// Returns the control of the services with one of these roles.
    #[must_use]
    pub fn service_control(&self, roles: &[Role], want: Want) -> ServiceControl {
        let services =
            self.config.services.iter().filter(|service| roles.contains(&service.role)).cloned().collect();
        ServiceControl { services, want }
    }

    /// Returns the check of the pages; `None` when neither pages nor commands are configured.
    #[must_use]
    pub fn smoke_check(&self) -> Option<SmokeCheck> {
        let config = &self.config;
        if config.smoke.pages.is_empty() && config.smoke.commands.is_empty() {
            return None;
        }
        let commands = config.smoke.commands.iter().filter_map(|argv| self.command(argv));
        Some(SmokeCheck {
            base: config.smoke.base.clone(),
            connect: config.smoke.connect.clone(),
            ca: config.smoke.ca.clone(),
            pages: config.smoke.pages.clone(),
            commands: commands.collect(),
            deadline: config.smoke.deadline,
            settle: config.smoke.settle,
            timeout: config.smoke.timeout,
        })
    }

    /// Returns the maintenance commands: those of the configuration, or those that the project has.
    pub(crate) fn maintenance_commands(
        &self,
        facts: &SiteFacts,
    ) -> Result<Option<Announcement>, ConfigError> {
        let (config, project) = (&self.config, self.project()?);
        let mut found = match (&config.maintenance.on, &config.maintenance.off) {
            (Some(on), Some(off)) => Announcement {
                project,
                on: on.clone(),
                off: off.clone(),
                time_zone: facts.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
                status_file: facts.maintenance_status_file.clone(),
            },
            _ => match Announcement::found_in(&project, facts) {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        // The settings may name the file relative to their own place, which is the staged tree here.
        let inside = found.status_file.as_ref().and_then(|file| file.strip_prefix(self.staged_tree()).ok());
        if let Some(inside) = inside {
            found.status_file = Some(config.site.repository.join(inside));
        }
        if config.maintenance.status_file.is_some() {
            found.status_file.clone_from(&config.maintenance.status_file);
        }
        Ok(Some(found))
    }

    /// Returns the URL of the scratch database for the rehearsal, if there is one.
    ///
    /// # Errors
    ///
    /// With the name of a variable that is missing.
    pub(crate) fn scratch_url(&self) -> Result<Option<String>, &str> {
        let Some(url) = self.config.rehearsal.database_url.as_deref() else { return Ok(None) };
        let Some(name) = url.strip_prefix('$') else { return Ok(Some(url.to_owned())) };
        self.variables.get(name).map(|url| Some(url.to_owned())).ok_or(name)
    }

    /// Returns the page that the web server shows while it exists.
    ///
    /// # Errors
    ///
    /// When the configured template cannot be read.
    pub fn maintenance_page(&self) -> Result<Option<Page>, FileError> {
        let html = match &self.config.maintenance.page_template {
            Some(template) => Some(std::fs::read_to_string(template).at("read", template)?),
            None => None,
        };
        Ok(self.config.maintenance.page.clone().map(|path| Page { path, html }))
    }

    /// Returns what identifies the configuration: a change of it may make something due that no commit shows.
    ///
    /// It is of what was read, when it was read: the text of the file, the environment's name, the variables and the secrets
    /// file; and of the values, when they were changed in code.
    #[doc(hidden)]
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Makes a command that runs in the directory of the configuration, with the site's variables.
    pub(crate) fn command(&self, argv: &[String]) -> Option<crate::Command> {
        let argv: Vec<String> = argv.iter().map(|word| self.word(word)).collect();
        Some(crate::Command::from_argv(&argv)?.directory(&self.config.directory).with_site_variables())
    }

    /// Makes a word of an argument list that names a file, such as `./check`, absolute.
    fn word(&self, word: &str) -> String {
        match word.strip_prefix("./") {
            Some(rest) => self.config.directory.join(rest).to_string_lossy().into_owned(),
            None => word.to_owned(),
        }
    }

    /// Returns the place of the staged tree: beside the checkout, so that settings which start at the directory above it
    /// (`BASE_DIR.parent / "data"`) find the same things from there.
    #[doc(hidden)]
    #[must_use]
    pub fn staged_tree(&self) -> PathBuf {
        names::beside(&self.config.site.repository, names::NEXT)
    }

    /// Returns the requirements files or the lock file of another tree of the project.
    pub(crate) fn wanted_in(&self, tree: &Path) -> Wanted {
        match self.config.python.wanted() {
            Wanted::Requirements(files) => {
                files.iter().map(|file| self.in_tree(file, tree)).collect::<Vec<_>>().into()
            }
            Wanted::Lock(lock) => {
                let [file, project] = [&lock.file, &lock.project].map(|path| self.in_tree(path, tree));
                Lock { file, project, ..lock }.into()
            }
        }
    }

    /// Returns where a path of the checkout is in another tree of the same project.
    #[must_use]
    pub(crate) fn in_tree(&self, path: &Path, tree: &Path) -> PathBuf {
        match path.strip_prefix(&self.config.site.repository) {
            Ok(inside) if !inside.as_os_str().is_empty() => tree.join(inside),
            Ok(_) => tree.to_owned(),
            Err(_) => path.to_owned(),
        }
    }
}

/// Returns what identifies the configuration with the variables, the secrets file, and what was changed in code.
fn fingerprint(config: &Config, environment: &Variables, changes: &str) -> String {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    };
    add(config.text.as_bytes());
    add(config.environment.as_str().as_bytes());
    for (name, value) in environment.iter() {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    if let Some(file) = &config.secrets.file {
        add(&std::fs::read(file).unwrap_or_default());
    }
    if !changes.is_empty() {
        add(changes.as_bytes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says how the processes of the only web service are known, where it is started by commands. Where somebody else holds its
/// socket, whoever listens there has to stay.
fn know_processes(config: &mut Config) {
    let check = SmokeCheck {
        base: config.smoke.base.clone(),
        connect: config.smoke.connect.clone(),
        ..SmokeCheck::default()
    };
    let mut web = config.services.iter_mut().filter(|service| service.role == Role::Web);
    if let (Some(service), None, Some(address)) = (web.next(), web.next(), check.address())
        && let Some(virtualenv) = config.python.virtualenv.clone()
        && let Manager::Command(CommandManager { held: false, .. }) = service.manager
    {
        let checkout = config.site.repository.clone();
        service.serves = Some(Serves { address, virtualenv, checkout });
    }
}
