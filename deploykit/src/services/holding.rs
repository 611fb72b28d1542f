//! How the listening socket of a service comes to be held: the change of its manager's files, and its undo.

mod asgi;
mod diff;
mod gunicorn;
pub(super) mod supervisor;
pub(super) mod systemd;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::server::Server;
use super::{Address, Goal, ProcessId, Role, Service, ServiceAction, ServiceError, ServiceState};
use crate::command::Command;
use crate::host::files::{self, FileError};
use crate::host::users::shown_user;
use crate::host::{CommandError, Host};

/// How often a running service is looked at that seems to listen nowhere: while it starts a worker, that seems to be another one's.
const LOOKS: u32 = 10;

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// A service whose socket is to be held.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'w> {
    /// Its name.
    pub service: &'w str,
    /// Its only process that its manager has started.
    pub main: ProcessId,
    /// The only place where it listens.
    pub address: &'w Address,
    /// Its socket gate.
    pub gate: &'w Path,
    /// deploykit's own program.
    pub deploykit: &'w Path,
    /// A file in this directory is changed by a commit, and not here.
    pub checkout: &'w Path,
}

/// What a look at the socket of a service found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holding {
    /// It is held by this.
    Held(String),
    /// It would be held after this.
    Change(SocketChange),
}

/// What changes so that a socket is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketChange {
    /// The files.
    pub files: Vec<ChangedFile>,
    /// What is run after the files are written; it restarts the service.
    pub apply: Vec<Command>,
    /// What is run before the files are restored.
    pub before_undo: Vec<Command>,
    /// What is run after that; it restarts the service.
    pub undo: Vec<Command>,
}

/// A file before and after the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// Its path, without links.
    pub path: PathBuf,
    /// What was in it; `None`: there was no such file.
    pub before: Option<String>,
    /// What is in it then.
    pub after: String,
}

/// Why the socket cannot be held by a change that deploykit makes.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HoldingError {
    /// Its manager cannot be asked.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Nothing that deploykit knows how to change.
    #[error("cannot change `{service}` so that its socket is held: {reason}")]
    Unfit {
        /// The service.
        service: String,
        /// Why.
        reason: String,
    },
    /// A person has to make the change.
    #[error("cannot change `{service}` so that its socket is held: {reason}")]
    ByHand {
        /// The service.
        service: String,
        /// Why.
        reason: String,
        /// What to do, in sentences and lines.
        todo: String,
    },
    /// A file belongs to somebody else.
    #[error("`{}` belongs to {owner}", path.display())]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// A file has changed since.
    #[error("`{}` is not as deploykit read or wrote it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It runs, and its socket is not held.
    #[error("`{service}` runs, but nothing holds its socket")]
    NotHeld {
        /// The service.
        service: String,
    },
    /// The manager did not restart it.
    #[error("the manager did not restart `{service}`")]
    NotRestarted {
        /// The service.
        service: String,
    },
}

/// Returns the error for a service of an unknown shape.
pub(crate) fn unfit(service: &str, reason: impl Into<String>) -> HoldingError {
    HoldingError::Unfit { service: service.to_owned(), reason: reason.into() }
}

impl Service {
    /// Finds who holds the service's socket, or else what would have to change. `deploykit` is the program that would hold it.
    ///
    /// # Errors
    ///
    /// When the manager cannot be asked, or the service has an unknown shape.
    pub fn holding(&self, deploykit: &Path, checkout: &Path, host: &Host) -> Result<Holding, HoldingError> {
        let unfit = |reason: &str| Err(unfit(&self.name, reason));
        let mut state = self.state(host)?;
        for _ in 0..LOOKS {
            let nobody_listens = state.socket.holder.is_none() && state.socket.listens.is_empty();
            if !nobody_listens || state.main.is_empty() || !host.wait(LOOK) {
                break;
            }
            state = self.state(host)?;
        }
        if let Some(holder) = state.socket.holder {
            return Ok(Holding::Held(holder));
        }
        let Some(gate) = self.hold.as_deref().filter(|_| self.role == Role::Web) else {
            return unfit("only the sockets of web services are held");
        };
        if !state.socket.units.is_empty() {
            return unfit("a `.socket` unit has its socket, and its unit does not wait at the socket gate");
        }
        let ServiceState { main, socket, .. } = &state;
        let ([main], [listening]) = (main.as_slice(), socket.listens.as_slice()) else {
            return unfit(match (main.len(), socket.listens.len()) {
                (0, _) => "it does not run, so nobody can see where it listens; start it first",
                (1, 0) => {
                    "it opened no socket itself, as far as can be seen: its manager passes it one, as an `[fcgi-program:x]` with \
                     one process does, or the path of its Unix socket is not absolute"
                }
                (1, _) => "it listens at several addresses",
                _ => "it has several main processes",
            });
        };
        let words = main.words();
        let by_option = Server::of(&words).and_then(|server| asgi::ByOption::of(server.name));
        if by_option.is_none() && !words.iter().take(8).any(|word| is_gunicorn(word)) {
            return unfit(
                "its main process is not gunicorn, uvicorn or hypercorn; if it is a shell, let it `exec` the server",
            );
        }
        let own = rustix::process::geteuid().as_raw();
        if main.user() != Some(own) {
            return unfit("it runs as another user, and only its own user sees the socket gate");
        }
        let (service, address) = (self.name.as_str(), &listening.address);
        let wanted = Wanted { service, main: *main, address, gate, deploykit, checkout };
        if let Some(by_option) = by_option {
            return Err(wanted.by_option(&by_option, &words));
        }
        self.connect(host)?.holding(&wanted).map(Holding::Change)
    }
}

fn is_gunicorn(word: &str) -> bool {
    word.starts_with("gunicorn:") || Path::new(word).file_name().is_some_and(|name| name == "gunicorn")
}

impl Wanted<'_> {
    /// Returns the words that hold the socket for the command behind them.
    fn hold_socket(&self) -> Result<Vec<String>, HoldingError> {
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| unfit(self.service, format!("`{}` is not UTF-8", path.display())))
        };
        let mut words = vec![text(self.deploykit)?, "hold-socket".to_owned()];
        match self.address {
            Address::Tcp(address) => words.push(address.to_string()),
            Address::Unix(path) => {
                let mode = self.socket_file()?.mode() & 0o777;
                words.push(format!("unix:{}", text(path)?));
                // gunicorn lets everybody connect; what else the bits say means nothing for a socket.
                if mode & 0o666 != 0o666 {
                    words.extend(["--mode".to_owned(), format!("{mode:o}")]);
                }
            }
        }
        words.extend(["--gate".to_owned(), text(self.gate)?, "--".to_owned()]);
        Ok(words)
    }

    /// Looks at the file of a Unix socket.
    fn socket_file(&self) -> Result<fs::Metadata, HoldingError> {
        let Address::Unix(path) = self.address else {
            return Err(unfit(self.service, "its socket has no file"));
        };
        let found = fs::symlink_metadata(path).map_err(|error| {
            unfit(self.service, format!("cannot look at its socket `{}`: {error}", path.display()))
        })?;
        if self.main.user() != Some(found.uid()) {
            return Err(unfit(self.service, "the file of its socket belongs to another user"));
        }
        Ok(found)
    }

    /// Refuses a file of the checkout.
    fn not_in_the_checkout(&self, path: &Path) -> Result<(), HoldingError> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(path).starts_with(real(self.checkout)) {
            let reason = format!("`{}` is in the checkout: change it by a commit", path.display());
            return Err(unfit(self.service, reason));
        }
        Ok(())
    }
}

impl SocketChange {
    /// Returns the change as a unified diff; `patch -d / -p1` applies it.
    #[must_use]
    pub fn diff(&self) -> String {
        self.files.iter().map(diff::of).collect()
    }

    /// Checks that this user may change the files.
    ///
    /// # Errors
    ///
    /// When one of them belongs to somebody else.
    pub fn may_be_written(&self) -> Result<(), HoldingError> {
        let own = rustix::process::geteuid();
        for file in &self.files {
            let existing = file.path.ancestors().filter(|_| file.before.is_none()).skip(1);
            let existing = existing.chain([file.path.as_path()]).find(|path| path.exists());
            let Some(existing) = existing.filter(|_| !own.is_root()) else { continue };
            let owner = fs::metadata(existing).map(|found| found.uid()).unwrap_or_default();
            if owner != own.as_raw() {
                return Err(HoldingError::NotOurs { path: existing.to_owned(), owner: shown_user(owner) });
            }
        }
        Ok(())
    }

    /// Writes the files, restarts the service with them, and waits until it runs and stays up. Returns who holds its socket.
    ///
    /// # Errors
    ///
    /// When a file was changed since the look or cannot be written, when a command fails, and when the service does not stay up
    /// or its socket is not held.
    pub fn apply(&self, service: &Service, host: &Host) -> Result<String, HoldingError> {
        let former = service.state(host)?.main;
        for file in &self.files {
            if read(&file.path)? != file.before {
                return Err(HoldingError::Changed { path: file.path.clone() });
            }
        }
        for file in &self.files {
            make_directory(&file.path)?;
            write(&file.path, &file.after)?;
        }
        run(&self.apply, host)?;
        let holder = runs(service, &former, host)?.socket.holder;
        holder.ok_or_else(|| HoldingError::NotHeld { service: service.name.clone() })
    }

    /// Restores the files, restarts the service with them, and waits until it runs and stays up. What is restored already stays.
    ///
    /// # Errors
    ///
    /// When a file was changed since or cannot be written, when a command fails, and when the service does not stay up.
    pub fn undo(&self, service: &Service, host: &Host) -> Result<(), HoldingError> {
        // Half of the change may have taken it away from its manager.
        let mut former = service.state(host).map(|state| state.main).unwrap_or_default();
        let mut is_made = false;
        for file in &self.files {
            let now = read(&file.path)?;
            is_made |= now.as_ref() == Some(&file.after);
            if now != file.before && now.as_ref() != Some(&file.after) {
                return Err(HoldingError::Changed { path: file.path.clone() });
            }
        }
        if is_made {
            run(&self.before_undo, host)?;
        } else {
            // The files are as before, so the service may have been restarted with them already.
            former.clear();
        }
        // An undo that is repeated runs `before_undo` again, which needs the first file: it is restored last.
        for file in self.files.iter().rev() {
            match &file.before {
                Some(before) => write(&file.path, before)?,
                None => {
                    files::remove_file(&file.path)?;
                    // The directory of a drop-in; one that is not empty stays.
                    let directory =
                        file.path.parent().filter(|path| path.extension().is_some_and(|end| end == "d"));
                    let _ = directory.map(fs::remove_dir);
                }
            }
        }
        run(&self.undo, host)?;
        runs(service, &former, host).map(|_| ())
    }
}

/// Waits until a service runs and stays up, without any of these former processes.
fn runs(service: &Service, former: &[ProcessId], host: &Host) -> Result<ServiceState, HoldingError> {
    for goal in [Goal::Running, Goal::StaysUp] {
        ServiceAction::of(service.clone(), goal).perform(host)?;
    }
    let state = service.state(host)?;
    if state.main.iter().any(|process| former.contains(process)) {
        return Err(HoldingError::NotRestarted { service: service.name.clone() });
    }
    Ok(state)
}

fn read(path: &Path) -> Result<Option<String>, HoldingError> {
    let error = |source| FileError { what: "read", path: path.to_owned(), source };
    let Some(bytes) = files::read(path).map_err(error)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| error(io::Error::other("it is not UTF-8")))?;
    Ok(Some(text))
}

fn write(path: &Path, text: &str) -> Result<(), HoldingError> {
    let mode = fs::metadata(path).map_or(0o644, |found| found.permissions().mode() & 0o7777);
    Ok(files::write_whole(path, text.as_bytes(), mode)?)
}

/// Makes the directory of a file.
fn make_directory(path: &Path) -> Result<(), HoldingError> {
    let directory = files::parent(path);
    let made = fs::create_dir_all(directory);
    Ok(made.map_err(|source| FileError {
        what: "create the directory",
        path: directory.to_owned(),
        source,
    })?)
}

fn run(commands: &[Command], host: &Host) -> Result<(), HoldingError> {
    commands.iter().try_for_each(|command| Ok(host.run(command).map(|_| ())?))
}
