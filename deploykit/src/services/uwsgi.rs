//! A uWSGI that runs by itself or as a vassal of an emperor, found by its pidfile.
//!
//! Source: <https://uwsgi-docs.readthedocs.io/en/latest/Management.html>, `MasterFIFO.html` and `Emperor.html` beside it. A
//! uWSGI leaves its pidfile, FIFO and socket behind; SIGTERM reloads it unless its options say otherwise.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, OFlags, access};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::daemon::{self, Daemon, Session};
use super::limits::Limits;
use super::pidfile::{Identity, real};
use super::uwsgi_options::{Options, is_process};
use super::{Connected, Flags, ProcessId, Service, ServiceError, ServiceState, Settings, Status};
use crate::host::Host;
use crate::host::files::{self, FileError, parent};
use crate::keys::{Reader, Section, Table, keys};

/// uWSGI's own default for `worker-reload-mercy`.
const MERCY: u64 = 60;

/// The end of the name of a vassal that is kept down. An emperor takes no file of this kind for a vassal.
const DOWN: &str = ".stopped-by-deploykit";

/// A uWSGI without a manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uwsgi {
    /// The file that it writes the number of its master process to.
    pub pidfile: PathBuf,
    /// Starts it and returns, such as `uwsgi --ini FILE` with `daemonize`; runs with the site's variables. Empty: an emperor
    /// starts it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<String>,
    /// Its `master-fifo`, which lets it complete the requests under way; `None`: SIGINT ends it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fifo: Option<PathBuf>,
    /// The file of the vassal that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vassal: Option<PathBuf>,
    /// The directory to start it in; default: the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

keys! {
    /// Keys of services with `manager = "uwsgi"`: a uWSGI that neither systemd nor supervisor runs.
    struct UwsgiKeys in "[[services]]" after "name = \"app\"\nmanager = \"uwsgi\"\nrole = \"web\"" {
        /// uWSGI's `pidfile`.
        "pidfile" => pidfile: Option<PathBuf>, required "is missing", example "/srv/site/run/app.pid";
        /// Starts uWSGI and returns: its options contain `daemonize`.
        "start" => start: Vec<String>, shown "required without `vassal`",
            example ["/srv/site/venv/bin/uwsgi", "--ini", "/srv/site/uwsgi.ini"];
        /// uWSGI's `master-fifo`. deploykit writes `q` to it, and uWSGI ends when the requests under way are complete. Without
        /// it, SIGINT ends uWSGI and interrupts running requests.
        "fifo" => fifo: Option<PathBuf>, shown "SIGINT", example "/srv/site/run/app.fifo";
        /// The file of the vassal, if an emperor runs uWSGI. deploykit renames it to stop the vassal, and back to start it.
        "vassal" => vassal: Option<PathBuf>, shown "no emperor", commented "/etc/uwsgi/vassals/app.ini";
        /// The working directory of `start`.
        "directory" => directory: Option<PathBuf>, shown "the caller's directory", example "project";
    }
}

impl Settings for Uwsgi {
    fn section() -> Section {
        UwsgiKeys::section()
    }

    fn read(reader: &Reader<'_>) -> Option<Self> {
        let UwsgiKeys { pidfile, start, fifo, vassal, directory } = UwsgiKeys::read(reader);
        match (&vassal, start.is_empty()) {
            (None, true) => reader
                .wrong("start", "is missing: the command that starts uWSGI; a vassal needs `vassal` instead"),
            (Some(_), false) => reader.wrong("start", "cannot be used with `vassal`: the emperor starts it"),
            (Some(_), true) if fifo.is_some() => {
                reader.wrong(
                    "fifo",
                    "cannot be used with `vassal`: the emperor restarts a uWSGI that `q` ends",
                );
            }
            _ => {}
        }
        Some(Uwsgi { pidfile: pidfile?, start, fifo, vassal, directory })
    }

    fn of_flags(flags: Flags) -> Self {
        Uwsgi { pidfile: flags.pidfile, start: flags.start, ..Uwsgi::default() }
    }

    fn is_same(&self, _name: &str, described: &Self, _described_name: &str) -> bool {
        real(&self.pidfile) == real(&described.pidfile)
    }

    fn connect<'a>(&'a self, service: &'a Service, host: &'a Host) -> Connected<'a> {
        Ok(Box::new(Session::new(service, self, host)))
    }

    fn commands(&self) -> [&[String]; 3] {
        [&self.start, &[], &[]]
    }

    fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

impl Uwsgi {
    /// Returns the options that it is started with.
    fn options(&self) -> Option<Options> {
        match &self.vassal {
            Some(vassal) if vassal.exists() => Some(Options::of_vassal(vassal, vassal)),
            Some(vassal) => Some(Options::of_vassal(&down(vassal), vassal)),
            None => Options::of(
                &self.start,
                &std::collections::BTreeMap::new(),
                self.directory.as_deref().unwrap_or(Path::new(".")),
            ),
        }
    }

    /// Returns what keeps the vassal from being renamed.
    fn fixed(&self) -> Option<FileError> {
        let directory = parent(self.vassal.as_deref()?);
        let source = access(directory, Access::WRITE_OK).err()?.into();
        Some(FileError { what: "rename files in", path: directory.to_owned(), source })
    }
}

impl Identity for Uwsgi {
    fn name(&self) -> &'static str {
        "uwsgi"
    }

    fn pidfile(&self) -> &Path {
        &self.pidfile
    }

    fn pidfile_options(&self) -> &'static [&'static str] {
        &["--pidfile", "--pidfile2"]
    }

    fn start(&self) -> (&[String], Option<&Path>) {
        (&self.start, self.directory.as_deref())
    }

    fn is_title(&self, word: &str) -> bool {
        is_process(word)
    }
}

impl Daemon for Uwsgi {
    fn detaches(&self) -> &'static str {
        "daemonize"
    }

    /// uWSGI leaves the file behind, however it ends.
    fn after(&self, pid: i32) -> (Status, String) {
        match self.vassal {
            Some(_) => {
                (Status::Retrying, format!("process {pid} has ended; the emperor has not restarted it yet"))
            }
            None => (Status::Stopped, format!("process {pid}, which its pidfile names, has ended")),
        }
    }

    fn kept_down(&self) -> Option<String> {
        let vassal = self.vassal.as_deref().filter(|vassal| !vassal.exists())?;
        let down = down(vassal);
        let text = if down.exists() {
            format!("kept stopped: the vassal's file is renamed to `{}`", down.display())
        } else {
            format!("the vassal's file `{}` does not exist", vassal.display())
        };
        Some(text)
    }

    fn put_up(&self) -> Result<&'static str, ServiceError> {
        if let Some(vassal) = self.vassal.as_deref().filter(|vassal| !vassal.exists()) {
            files::rename(&down(vassal), vassal)?;
        }
        Ok("the emperor has not started it yet")
    }

    fn take_down(
        &self,
        service: &Service,
        master: Option<ProcessId>,
        host: &Host,
    ) -> Result<(), ServiceError> {
        if let Some(vassal) = &self.vassal {
            if vassal.exists() {
                files::rename(vassal, &down(vassal))?;
            }
            return Ok(());
        }
        let Some(fifo) = self.fifo.as_deref().filter(|_| master.is_some()) else {
            return daemon::signal(service, master, Signal::INT);
        };
        match tell(fifo) {
            Ok(()) => Ok(()),
            Err(error) => {
                let text = format!(
                    "service `{}`: cannot write to the FIFO `{}`: {error}; \
                     sending SIGINT, which interrupts running requests",
                    service.name,
                    fifo.display()
                );
                host.note(&text);
                log::warn!("{text}");
                daemon::signal(service, master, Signal::INT)
            }
        }
    }

    fn limits(&self, _state: &ServiceState) -> Limits {
        let mut more = Vec::new();
        let interrupts = "interrupts running requests";
        let is_fifo = |fifo: &PathBuf| fifo.metadata().is_ok_and(|found| found.file_type().is_fifo());
        match (&self.vassal, &self.fifo) {
            (Some(_), _) => {
                more.extend(self.fixed().map(|error| crate::error::error_chain(&error)));
                more.push(format!("its emperor {interrupts}"));
            }
            (None, None) => more.push(format!(
                "SIGINT {interrupts}; with `fifo` set to uWSGI's `master-fifo`, they complete"
            )),
            (None, Some(fifo)) if !is_fifo(fifo) => {
                more.push(format!("SIGINT {interrupts}: there is no FIFO `{}`", fifo.display()));
            }
            (None, Some(_)) => {
                let options = self.options();
                let mercy = options.as_ref().and_then(|options| {
                    options.last("worker-reload-mercy").or(options.last("reload-mercy"))?.parse().ok()
                });
                let mercy = Duration::from_secs(mercy.unwrap_or(MERCY));
                return Limits { force: Some((mercy, "worker-reload-mercy")), ..Limits::default() };
            }
        }
        Limits { more, ..Limits::default() }
    }

    fn logs(&self) -> Vec<PathBuf> {
        let options = self.options();
        let file = |name| options.as_ref().and_then(|options| options.path(name));
        ["logto", "logto2", "daemonize", "daemonize2"].into_iter().find_map(file).into_iter().collect()
    }
}

/// Returns the path of a vassal's file while deploykit keeps the vassal stopped.
fn down(vassal: &Path) -> PathBuf {
    let mut name = vassal.as_os_str().to_owned();
    name.push(DOWN);
    name.into()
}

/// Tells uWSGI to end when the requests under way are complete. Nobody waits for a uWSGI that does not read.
fn tell(fifo: &Path) -> io::Result<()> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(fifo)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"));
    }
    file.write_all(b"q")
}
