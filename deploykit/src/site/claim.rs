//! Claims a site before it is changed or its state is read: the state must be this site's, the caller must be allowed to
//! work on it, and no other run may hold its lock.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Site;
use crate::git;
use crate::host::Host;
use crate::host::files::{self, FileError};
use crate::host::owners::{DistrustError, is_ours, is_writable, not_root_over_others};
use crate::journal::JournalError;
use crate::lock::{Lock, LockError};
use crate::names;
use crate::services::Origin;
use crate::state::{Owner, OwnerError, State, real, state_above};

/// The name of the registration, in git's own directory: no commit brings a file there.
const REGISTRATION: &str = "deploykit-site.json";

/// How many directories beside a virtualenv or page are looked into for its site.
const BESIDE: usize = 1000;

/// Why a site may not be worked on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another run has the lock.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] FileError),
    /// The caller may not work on it.
    #[error(transparent)]
    Distrust(#[from] DistrustError),
    /// The state belongs to another site.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// A journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A commit brought files into the state directory.
    #[error("the commit that is checked out brought files into `{}`, which is deploykit's own", directory.display())]
    Tracked {
        /// The state directory.
        directory: PathBuf,
    },
    /// The checkout is that of another configuration.
    #[error("the checkout `{}` is that of the site `{}`", repository.display(), configuration.display())]
    OtherSite {
        /// The checkout.
        repository: PathBuf,
        /// The configuration of the other site.
        configuration: PathBuf,
    },
    /// An unfinished run is in the way of an adoption.
    #[error("run {run} in `{}` is unfinished, and it changed the site that it names, not this one", directory.display())]
    UnfinishedElsewhere {
        /// The run.
        run: String,
        /// The state directory.
        directory: PathBuf,
    },
    /// The virtualenv is a link into the state of another site.
    #[error("the virtualenv `{}` leads to `{}`, which belongs to another site", virtualenv.display(), target.display())]
    VirtualenvElsewhere {
        /// The virtualenv.
        virtualenv: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
}

/// The result of an adoption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// The previous owner of the state, if it is recorded; `None` also when the state was this site's already.
    pub before: Option<Owner>,
    /// Where the earlier runs are now; `None`: the state was this site's already, and nothing was changed.
    pub aside: Option<PathBuf>,
    /// Whether the virtualenvs in the state directory stayed where they are.
    pub virtualenvs_stay: bool,
}

/// Whose a checkout is, as git's own directory says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Registration {
    /// The number of the state directory.
    id: String,
    /// The state directory.
    directory: PathBuf,
    /// The configuration.
    configuration: PathBuf,
}

impl Site {
    /// Checks that the caller may work on this site, and that its state was made for it. Changes nothing.
    ///
    /// # Errors
    ///
    /// See [`ClaimError`].
    pub fn may_be_claimed(&self) -> Result<(), ClaimError> {
        let (config, state) = (&self.config, self.state());
        let git = config.site.repository.join(".git");
        let own = [config.site.repository.as_path(), &git, state.directory()];
        for path in own.into_iter().chain(config.python.virtualenv.as_deref()) {
            not_root_over_others(path)?;
        }
        if state.directory().exists() {
            is_writable(state.directory())?;
        }
        if git::head_holds(&config.site.repository, state.directory()) {
            return Err(ClaimError::Tracked { directory: state.directory().to_owned() });
        }
        let owner = state.belongs_to(&config.path, &config.site.repository)?;
        match registered(&config.site.repository) {
            Some(other) if owner.is_none_or(|owner| owner.id != other.id) && is_alive(&other, self) => {
                let repository = config.site.repository.clone();
                Err(ClaimError::OtherSite { repository, configuration: other.configuration })
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock of this site, and records whose the state is when that was not done yet; when somebody has the lock,
    /// waits for at most `patience`.
    ///
    /// # Errors
    ///
    /// See [`ClaimError`]; then nothing was written.
    pub fn claim(&self, purpose: &str, patience: Duration, host: &Host) -> Result<Lock, ClaimError> {
        self.may_be_claimed()?;
        let state = self.state();
        is_writable(state.directory())?;
        state.create()?;
        let lock = Lock::take(&state.lock(), purpose, patience, host)?;
        let owner = state.record_owner(&self.config.path, &self.config.site.repository)?;
        self.register(&owner);
        Ok(lock)
    }

    /// Makes the state of another site this one's, as after the site's directory was copied, moved or restored: runs and what
    /// belongs to them are set aside, since they name what is elsewhere. Virtualenvs stay where the site uses them.
    ///
    /// With `abandon`, an unfinished run is set aside as well; whoever says so has made sure that the site is right.
    ///
    /// # Errors
    ///
    /// When the state has an unfinished run, when the virtualenv leads to another site, and as in [`claim`](Site::claim).
    pub fn adopt(&self, abandon: bool, host: &Host) -> Result<Adopted, ClaimError> {
        let (config, state) = (&self.config, self.state());
        let unfinished = match self.may_be_claimed() {
            Ok(()) => state.unfinished().err(),
            Err(ClaimError::Distrust(error)) => return Err(error.into()),
            Err(ClaimError::Tracked { directory }) => return Err(ClaimError::Tracked { directory }),
            Err(_) => Some(JournalError::Foreign { path: state.directory().to_owned() }),
        };
        state.create()?;
        let _lock = Lock::take(&state.lock(), "adopt the state directory", Duration::ZERO, host)?;
        let before = state.owner()?;
        if unfinished.is_none() {
            let owner = state.record_owner(&config.path, &config.site.repository)?;
            self.register(&owner);
            return Ok(Adopted { before: None, aside: None, virtualenvs_stay: true });
        }
        if !abandon && let Some(run) = state.unfinished_of_anybody()? {
            return Err(ClaimError::UnfinishedElsewhere {
                run: run.name,
                directory: state.directory().to_owned(),
            });
        }
        let live = config.python.virtualenv.as_deref().map(|virtualenv| (virtualenv, real(virtualenv)));
        let used = live.and_then(|(virtualenv, live)| Some((virtualenv, real(state_above(&live)?), live)));
        let is_used = used.is_some();
        if let Some((virtualenv, used, target)) = used
            && used != real(state.directory())
        {
            return Err(ClaimError::VirtualenvElsewhere { virtualenv: virtualenv.to_owned(), target });
        }
        let moved = before.as_ref().is_none_or(|owner| owner.directory != real(state.directory()));
        let virtualenvs_stay = !moved || is_used;
        let aside = state.set_aside(!virtualenvs_stay)?;
        let owner = state.record_owner(&config.path, &config.site.repository)?;
        self.register(&owner);
        Ok(Adopted { before, aside: Some(aside), virtualenvs_stay })
    }

    /// Records this site in Git's own directory, and beside a virtualenv or page that nothing else identifies: whoever works
    /// on them from elsewhere takes the lock of this site. If that cannot be written, only configurations identify them.
    fn register(&self, owner: &Owner) {
        let registration = Registration {
            id: owner.id.clone(),
            directory: owner.directory.clone(),
            configuration: self.config.path.clone(),
        };
        let places =
            [registration_of(&self.config.site.repository), self.beside_virtualenv(), self.beside_page()];
        for path in places.into_iter().flatten() {
            if read(&path).as_ref() == Some(&registration) {
                continue;
            }
            let text = serde_json::to_string_pretty(&registration).unwrap_or_default();
            if let Err(error) = files::write_whole(&path, text.as_bytes(), 0o600) {
                log::info!("{}", crate::error_chain(&error));
            }
        }
    }

    /// Returns where the virtualenv's registration is; `None`: it is found without one.
    fn beside_virtualenv(&self) -> Option<PathBuf> {
        let virtualenv = self.config.python.virtualenv.as_ref()?;
        let is_ours = |directory: &Path| real(directory) == real(self.state().directory());
        let is_found = self.is_near(virtualenv) || state_above(&real(virtualenv)).is_some_and(is_ours);
        (!is_found && virtualenv.exists()).then(|| beside(virtualenv))
    }

    /// Returns where the page's registration is; `None`: it is found without one.
    fn beside_page(&self) -> Option<PathBuf> {
        let page = self.config.maintenance.page.as_ref()?;
        (!self.is_near(page) && files::parent(page).is_dir()).then(|| beside(page))
    }

    fn is_near(&self, path: &Path) -> bool {
        near(path).any(|path| real(&path) == real(&self.config.path))
    }

    /// Finds the site that a checkout belongs to: by a configuration in it or above it, or by what the last update left in
    /// git's own directory.
    ///
    /// # Errors
    ///
    /// When a configuration exists, and cannot be read or is not trusted.
    pub fn of_repository(
        repository: &Path,
        environment: Option<&str>,
    ) -> Result<Option<Site>, super::ConfigError> {
        let wanted = real(repository);
        let known = registered(repository);
        let above = wanted.ancestors().map(|directory| directory.join(super::NAME));
        let is_it = |site: &Site| real(&site.config.site.repository) == wanted;
        Site::among(above, known, environment, |_| true, |_| true, is_it)
    }

    /// Finds the site whose checkout a directory is in.
    ///
    /// # Errors
    ///
    /// Like [`of_repository`](Site::of_repository).
    pub fn of_directory(
        directory: &Path,
        environment: Option<&str>,
    ) -> Result<Option<Site>, super::ConfigError> {
        let checkout = directory.ancestors().find(|above| above.join(".git").exists());
        checkout.map_or(Ok(None), |checkout| Site::of_repository(checkout, environment))
    }

    /// Finds the site that a service belongs to: by the virtualenv of one of its programs, or by the checkout that contains
    /// one of its files or working directories.
    ///
    /// # Errors
    ///
    /// When a configuration exists, and cannot be read or is not trusted.
    pub fn of_service(
        origin: &Origin,
        environment: Option<&str>,
    ) -> Result<Option<Site>, super::ConfigError> {
        for path in origin.paths() {
            let top = path.parent().and_then(Path::parent);
            if let Some(virtualenv) = top.filter(|top| top.join("pyvenv.cfg").is_file())
                && let Some(site) = Site::of_virtualenv(virtualenv, environment)?
            {
                return Ok(Some(site));
            }
        }
        // `..` may lead out of a checkout, and a stopped service has no pidfile.
        let place = |path: &Path| path.canonicalize().or_else(|_| files::parent(path).canonicalize()).ok();
        let places = origin.directories().chain(origin.paths()).filter_map(place);
        for place in places.collect::<BTreeSet<PathBuf>>() {
            if let Some(site) = Site::of_directory(&place, environment)? {
                return Ok(Some(site));
            }
        }
        Ok(None)
    }

    /// Finds the site that a virtualenv belongs to: by a configuration above it or in a directory beside it, by the state
    /// directory that it leads into, or by what the last update left beside it.
    ///
    /// # Errors
    ///
    /// When a configuration exists, and cannot be read or is not trusted.
    pub fn of_virtualenv(
        virtualenv: &Path,
        environment: Option<&str>,
    ) -> Result<Option<Site>, super::ConfigError> {
        let wanted = real(virtualenv);
        let state = state_above(&wanted).map(State::at);
        let owner = state.and_then(|state| state.owner().ok().flatten());
        let known = owner.map(|owner| Registration {
            id: owner.id,
            directory: owner.directory,
            configuration: owner.configuration,
        });
        let known = known.or_else(|| read(&beside(virtualenv)));
        Site::near(virtualenv, known, environment, |site| {
            site.config.python.virtualenv.as_deref().is_some_and(|own| real(own) == wanted)
        })
    }

    /// Finds the site that a maintenance page belongs to, whether the page is up or down: by a configuration above it or in a
    /// directory beside it, or by what the last update left beside it.
    ///
    /// # Errors
    ///
    /// When a configuration exists, and cannot be read or is not trusted.
    pub fn of_page(page: &Path, environment: Option<&str>) -> Result<Option<Site>, super::ConfigError> {
        // The page exists only while it is up.
        let place = |page: &Path| Some((real(files::parent(page)), page.file_name()?.to_owned()));
        let wanted = place(page);
        Site::near(page, read(&beside(page)), environment, |site| {
            site.config.maintenance.page.as_deref().is_some_and(|own| place(own) == wanted)
        })
    }

    /// Reads the configurations near a path, and the one that is registered, until one is right.
    fn near(
        path: &Path,
        registered: Option<Registration>,
        environment: Option<&str>,
        is_it: impl Fn(&Site) -> bool,
    ) -> Result<Option<Site>, super::ConfigError> {
        let known = registered.as_ref().map(|registered| registered.configuration.clone());
        let is_strict = |configuration: &Path| {
            known.as_deref() == Some(configuration)
                || configuration.parent().is_some_and(|above| path.starts_with(above))
        };
        let target = real(path);
        let names = [path, &target].map(|path| path.file_name().unwrap_or_default().to_string_lossy());
        let names_it = |text: &str| names.iter().any(|name| text.contains(name.as_ref()));
        Site::among(near(path), registered, environment, is_strict, names_it, is_it)
    }

    /// Reads configurations, and the one that is registered, until one is right. One that cannot be read is an error if it is
    /// strict, or if it may name the path and no other is right: without its lock, nobody may change what belongs to it.
    fn among(
        near: impl Iterator<Item = PathBuf>,
        registered: Option<Registration>,
        environment: Option<&str>,
        is_strict: impl Fn(&Path) -> bool,
        names_it: impl Fn(&str) -> bool,
        is_it: impl Fn(&Site) -> bool,
    ) -> Result<Option<Site>, super::ConfigError> {
        let mut unreadable = None;
        let registered = registered.map(|registration| registration.configuration);
        for path in registered.into_iter().chain(near).filter(|path| path.is_file()) {
            match Site::load_partial(&path, environment) {
                Ok(site) if is_it(&site) => return Ok(Some(site)),
                Ok(_) => {}
                // What a stranger put there is no word about it.
                Err(super::ConfigError::Distrust(error)) if !is_ours(&path) => log::warn!("{error}"),
                Err(error) if is_strict(&path) => return Err(error),
                // One beside it may be any site's.
                Err(error) if std::fs::read_to_string(&path).is_ok_and(|text| !names_it(&text)) => {
                    log::warn!("{error}");
                }
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        unreadable.map_or(Ok(None), Err)
    }
}

/// Returns the configurations above a path and in the directories beside it.
fn near(path: &Path) -> impl Iterator<Item = PathBuf> {
    let above = path.ancestors().map(Path::to_owned);
    let beside = std::fs::read_dir(files::parent(path)).into_iter().flatten().flatten().take(BESIDE);
    let directories = above.chain(beside.map(|entry| entry.path()));
    directories.map(|directory| directory.join(super::NAME)).filter(|path| path.is_file())
}

/// Returns the file beside a virtualenv or page that names its site.
fn beside(path: &Path) -> PathBuf {
    names::beside(path, names::SITE)
}

fn registration_of(repository: &Path) -> Option<PathBuf> {
    git::own_directory(repository).map(|directory| directory.join(REGISTRATION))
}

fn registered(repository: &Path) -> Option<Registration> {
    read(&registration_of(repository)?)
}

/// Reads a registration; one of somebody else, or of none, says nothing.
fn read(path: &Path) -> Option<Registration> {
    serde_json::from_slice(&files::read_private(path).ok()??).ok()
}

/// Tells whether a registration is that of a site which is still there, and has this checkout.
fn is_alive(registration: &Registration, site: &Site) -> bool {
    let owner = State::at(&registration.directory).owner().ok().flatten();
    owner.is_some_and(|owner| {
        owner.id == registration.id
            && owner.directory == real(&registration.directory)
            && owner.repository == real(&site.config.site.repository)
            && owner.directory != real(site.state().directory())
    })
}
