//! A site as its `deploykit.toml` describes it, and the operations that belong to it.

mod claim;
mod config;
mod items;
mod known;
mod obeyed;
mod problem;
mod reader;
mod shown;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use claim::{Adopted, ClaimError};
use config::NAME;
pub use config::{Config, Environment, OwnStep, OwnTask, find};
pub use problem::{ConfigError, Mistakes, Problem};

use crate::django::{Project, SiteFacts};
use crate::host::files::{FileError, InPath};
use crate::host::{Cancel, Host, Redactor, Umask, Variables, owners};
use crate::http::Connect;
use crate::operations::git_update::GitUpdate;
use crate::operations::maintenance::{Announcement, Page};
use crate::operations::pip_install::{PipInstall, Record};
use crate::operations::service_control::{ServiceControl, Want};
use crate::operations::smoke_check::SmokeCheck;
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
/// println!("{} serves {}", site.config().environment.as_str(), site.config().repository.display());
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
        Site::new(Config::load(path, environment)?)
    }

    /// Makes a site of a configuration.
    ///
    /// # Errors
    ///
    /// When the environment file cannot be used; when a file that the configuration names is not trusted; when root calls
    /// and the checkout or the virtualenv belongs to somebody else.
    pub fn new(mut config: Config) -> Result<Self, ConfigError> {
        know_processes(&mut config);
        for path in [config.repository.as_path(), &config.repository.join(".git"), &config.virtualenv] {
            owners::not_root_over_others(path)?;
        }
        for file in config.obeyed().filter(|file| file.exists()) {
            owners::trusted(&file)?;
        }
        let mut variables = Variables::new();
        let mut sensitive = Sensitive::default();
        if let Some(file) = &config.env_file {
            variables.read_file(file)?;
            variables.iter().for_each(|(name, value)| sensitive.add(&[name], value));
        }
        for (name, value) in &config.env {
            variables.set(name, value);
            sensitive.add(&[name], value);
        }
        // A secrets file that cannot be read is reported by the step that needs it.
        if let Some(file) = config.secrets_file.as_deref().and_then(|file| SecretsFile::read(file).ok()) {
            sensitive.extend(file.sensitive());
        }
        let redactor = Redactor::new(sensitive.hidden(&config.shown()));
        let fingerprint = fingerprint(&config, &variables);
        Ok(Site { config, variables, redactor, fingerprint, umask: OnceLock::new() })
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the state directory.
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
    #[must_use]
    pub fn umask(&self) -> Option<Umask> {
        *self.umask.get_or_init(|| Umask::of_files(&self.config.project, Some("py")))
    }

    /// Returns the update of the checkout; `revision` instead of the tip of the branch.
    #[must_use]
    pub fn git_update(&self, revision: Option<&str>) -> GitUpdate {
        let config = &self.config;
        GitUpdate {
            remote: config.remote.clone(),
            branch: config.branch.clone(),
            revision: revision.map(str::to_owned),
            local_changes: config.local_changes,
            local_commits: config.local_commits,
            verify_signature: config.verify_signature,
            deadline: config.git_deadline,
            ignore: vec![self.state().directory().to_owned()],
            ..GitUpdate::new(&config.repository)
        }
    }

    /// Returns the installation of the packages that the checkout asks for.
    #[must_use]
    pub fn pip_install(&self) -> PipInstall {
        self.pip_install_after(self.state().current().packages)
    }

    /// Like [`pip_install`](Site::pip_install), with the record of the last good update.
    pub(crate) fn pip_install_after(&self, record: Option<Record>) -> PipInstall {
        let config = &self.config;
        PipInstall {
            installer: config.installer,
            upgrade: config.upgrade,
            extra_args: config.extra_args.clone(),
            record,
            deadline: config.install_deadline,
            ..PipInstall::new(
                &config.virtualenv,
                config.requirements.clone(),
                &config.repository,
                self.state().virtualenvs(),
            )
        }
    }

    /// Returns the live Django project.
    #[must_use]
    pub fn project(&self) -> Project {
        Project {
            python: self.config.virtualenv.join("bin/python"),
            directory: self.config.project.clone(),
            settings: self.config.settings.clone(),
            database_deadline: self.config.database_deadline,
        }
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
        if config.pages.is_empty() && config.smoke_commands.is_empty() {
            return None;
        }
        let commands = config.smoke_commands.iter().filter_map(|argv| self.command(argv));
        Some(SmokeCheck {
            base: config.smoke_base.clone(),
            connect: connect(config),
            ca: config.smoke_ca.clone(),
            pages: config.pages.clone(),
            commands: commands.collect(),
            deadline: config.smoke_deadline,
            settle: config.smoke_settle,
            timeout: config.smoke_timeout,
        })
    }

    /// Returns the maintenance commands: those of the configuration, or those that the project has.
    #[must_use]
    pub fn maintenance_commands(&self, facts: &SiteFacts) -> Option<Announcement> {
        let config = &self.config;
        let mut found = match (&config.maintenance_on, &config.maintenance_off) {
            (Some(on), Some(off)) => Announcement {
                project: self.project(),
                on: on.clone(),
                off: off.clone(),
                time_zone: facts.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
                status_file: facts.maintenance_status_file.clone(),
            },
            _ => Announcement::found_in(&self.project(), facts)?,
        };
        // The settings may name the file relative to their own place, which is the staged tree here.
        let inside = found.status_file.as_ref().and_then(|file| file.strip_prefix(self.staged_tree()).ok());
        if let Some(inside) = inside {
            found.status_file = Some(config.repository.join(inside));
        }
        if config.status_file.is_some() {
            found.status_file.clone_from(&config.status_file);
        }
        Some(found)
    }

    /// Returns the page that the web server shows while it exists.
    ///
    /// # Errors
    ///
    /// When the configured template cannot be read.
    pub fn maintenance_page(&self) -> Result<Option<Page>, FileError> {
        let html = match &self.config.page_template {
            Some(template) => Some(std::fs::read_to_string(template).at("read", template)?),
            None => None,
        };
        Ok(self.config.page.clone().map(|path| Page { path, html }))
    }

    /// Returns what identifies the configuration: a change of it may make something due that no commit shows.
    ///
    /// It is of what was read, when it was read: the text of the file, the environment's name, the variables and the secrets
    /// file.
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
    #[must_use]
    pub fn staged_tree(&self) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.config.repository.file_name().unwrap_or_default());
        name.push(".deploykit-next");
        self.config.repository.with_file_name(name)
    }

    /// Returns the temporary directory beside the checkout for the requirements of the next version.
    pub(crate) fn next_requirements(&self) -> PathBuf {
        // Beside the staged tree: installers read the settings in the directories above.
        self.staged_tree().with_extension("requirements.deploykit-next")
    }

    /// Returns where a path of the checkout is in another tree of the same project.
    #[must_use]
    pub fn in_tree(&self, path: &Path, tree: &Path) -> PathBuf {
        match path.strip_prefix(&self.config.repository) {
            Ok(inside) if !inside.as_os_str().is_empty() => tree.join(inside),
            Ok(_) => tree.to_owned(),
            Err(_) => path.to_owned(),
        }
    }
}

/// Returns what identifies the configuration with the variables and the secrets file.
fn fingerprint(config: &Config, environment: &Variables) -> String {
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
    if let Some(file) = &config.secrets_file {
        add(&std::fs::read(file).unwrap_or_default());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns where the pages are asked for; it was parsed when the configuration was read.
fn connect(config: &Config) -> Option<Connect> {
    config.smoke_connect.as_deref().and_then(|text| text.parse().ok())
}

/// Says how the processes of the only web service are known, where it is started by commands. Where somebody else holds its
/// socket, whoever listens there has to stay.
fn know_processes(config: &mut Config) {
    let check =
        SmokeCheck { base: config.smoke_base.clone(), connect: connect(config), ..SmokeCheck::default() };
    let mut web = config.services.iter_mut().filter(|service| service.role == Role::Web);
    if let (Some(service), None, Some(address)) = (web.next(), web.next(), check.address())
        && let Manager::Command(CommandManager { held: false, .. }) = service.manager
    {
        let (virtualenv, checkout) = (config.virtualenv.clone(), config.repository.clone());
        service.serves = Some(Serves { address, virtualenv, checkout });
    }
}
