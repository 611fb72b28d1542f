//! A booted Django that answers and waits.

mod database;
mod rehearsal;

pub use database::{OnDatabase, Pooling};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::probe::{self, LOADER};
use super::project::path_with;
use super::protocol::{self, Line};
use super::sandbox::{Mounted, Sandbox};
use super::twin::Twin;
use super::{CheckReport, DjangoError, MigrationProgress, Project, SiteFacts, StaticSources};
use crate::host::process::Process;
use crate::host::{CommandError, Host};
use crate::names;

/// How long a site may take to boot.
const BOOT: Duration = Duration::from_secs(120);

/// How long an answer may take that reads only.
pub(super) const READ: Duration = Duration::from_secs(600);

/// How long an idle process may take to show that it lives.
const PING: Duration = Duration::from_secs(30);

/// Hears of each migration's beginning and end.
type Observer = Box<dyn FnMut(&MigrationProgress) + Send>;

/// A Django process that was booted as `manage.py` would, and that works off requests until it is dropped.
///
/// Between requests it holds no database connection and no lock. It ends when its standard input is closed, which also
/// happens when this process dies, but never in the middle of a migration.
pub struct Session {
    pub(super) project: Project,
    /// Other places that the same code and environment have come to stand in.
    also: Vec<Project>,
    boot_time: Duration,
    /// `None` once it has ended.
    pub(super) process: Option<Process>,
    /// A fork that answers once the code is live, and that commands are forked from, if there is one.
    pub(super) twin: Option<Twin>,
    progress: Vec<MigrationProgress>,
    observer: Option<Observer>,
    /// How long it may change a database; `None`: a change of a live one is never given up.
    limit: Option<Duration>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.process.as_ref().map(Process::id);
        f.debug_struct("Session")
            .field("project", &self.project)
            .field("process", &id)
            .finish_non_exhaustive()
    }
}

/// The answer of a request that has nothing to say.
#[derive(Debug, Deserialize)]
struct Nothing {}

/// A path on the site, if there is one.
#[derive(Debug, Deserialize)]
struct Login {
    path: Option<String>,
}

/// A site that is being booted.
#[derive(Debug)]
pub struct Booting {
    session: Session,
    since: Instant,
}

impl Booting {
    /// Lets the process end as soon as it is booted: nothing is asked of it, and it takes no memory meanwhile.
    #[must_use]
    pub fn only(mut self) -> Self {
        if let Some(process) = &mut self.session.process {
            process.close_input();
        }
        self
    }

    /// Waits until it is booted, for at most 120 s since it began.
    ///
    /// # Errors
    ///
    /// When the site does not load; see [`DjangoError`].
    pub fn booted(self, host: &Host) -> Result<Session, DjangoError> {
        self.booted_within(host, BOOT)
    }

    fn booted_within(self, host: &Host, limit: Duration) -> Result<Session, DjangoError> {
        let Booting { mut session, since } = self;
        // What it answered meanwhile is read at once.
        let left = limit.saturating_sub(since.elapsed()).max(Duration::from_secs(1));
        session.answer(host, "boot", Some(left))?;
        session.boot_time = since.elapsed();
        Ok(session)
    }
}

impl Session {
    /// Boots the site: `manage.py` as it is, then the settings, then the apps. At most 120 s.
    ///
    /// # Errors
    ///
    /// When there is no `manage.py` or no Python, or when the site does not load; see [`DjangoError`].
    pub fn boot(host: &Host, project: &Project) -> Result<Session, DjangoError> {
        Session::boot_within(host, project, BOOT)
    }

    /// Boots the site within this time.
    ///
    /// # Errors
    ///
    /// Like [`boot`](Session::boot).
    pub fn boot_within(host: &Host, project: &Project, limit: Duration) -> Result<Session, DjangoError> {
        Session::begin(host, project, None)?.booted_within(host, limit)
    }

    /// Begins to boot the site, beside other work; dropping it ends the process. If its code is staged, `tree` says where: in every
    /// SQL statement that it executes, the live path replaces the staged one.
    ///
    /// # Errors
    ///
    /// When there is no `manage.py` or no Python.
    pub fn begin(host: &Host, project: &Project, tree: Option<&Mounted>) -> Result<Booting, DjangoError> {
        if !project.manage_py().is_file() {
            return Err(DjangoError::NoManage { path: project.manage_py() });
        }
        Session::start(host, project, None, tree)
    }

    /// Begins to boot the site in a sandbox of its own. Nothing of the site is loaded before the process is there.
    ///
    /// # Errors
    ///
    /// When there is no Python. [`Booting::booted`] fails with [`DjangoError::NoSandbox`] when there can be no such sandbox.
    pub fn begin_in(host: &Host, project: &Project, sandbox: &Sandbox) -> Result<Booting, DjangoError> {
        Session::start(host, project, Some(sandbox), None)
    }

    fn start(
        host: &Host,
        project: &Project,
        sandbox: Option<&Sandbox>,
        tree: Option<&Mounted>,
    ) -> Result<Booting, DjangoError> {
        // It may look into directories that are linked to live ones: it leaves nothing behind there.
        let mut command = project.python().args(["-c", LOADER]).env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(sandbox) = sandbox {
            // The project's own may be new in the staged tree, which appears later.
            command = command.directory(&sandbox.scratch);
        }
        // Where the site's own environment says so, the database's programs are found elsewhere than ours.
        if let (Some(path), Some(programs)) = (host.variables().get("PATH"), project.python.parent()) {
            command = command.env("PATH", path_with(programs, Some(path.into())));
        }
        let since = Instant::now();
        let process =
            Process::start_dialogue(host, &command).map_err(|source| DjangoError::Start { source })?;
        let mut session = Session {
            project: project.clone(),
            also: Vec::new(),
            boot_time: Duration::ZERO,
            process: Some(process),
            twin: None,
            progress: Vec::new(),
            observer: None,
            limit: sandbox.map(|_| rehearsal::LONGEST),
        };
        let directory = names::text(&project.directory);
        let seconds = project.database_deadline.as_secs_f64();
        let mut configuration = json!({ "directory": directory, "limit": seconds });
        if let Some(sandbox) = sandbox {
            configuration["sandbox"] = sandbox.spec();
        }
        if let Some(tree) = tree {
            configuration["tree"] = json!([names::text(&tree.staged), names::text(&tree.live)]);
        }
        for line in [Value::from(probe::PROGRAM).to_string(), configuration.to_string()] {
            session.write(host, "boot", &line)?;
        }
        Ok(Booting { session, since })
    }

    /// Returns how long it took to boot.
    #[must_use]
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Tells whether it runs the code and the environment of this project.
    #[must_use]
    pub fn stands_for(&self, project: &Project) -> bool {
        let is_twin = |twin: &Twin| twin.live == *project && twin.answers();
        self.project == *project || self.also.contains(project) || self.twin.as_ref().is_some_and(is_twin)
    }

    /// Says that another project is the same: the live one, once the staged tree and the staged virtualenv are in its place.
    pub fn also_stands_for(&mut self, project: Project) {
        self.also.push(project);
    }

    /// Sets who hears of each migration's beginning and end.
    pub fn on_progress(&mut self, observer: impl FnMut(&MigrationProgress) + Send + 'static) {
        self.observer = Some(Box::new(observer));
    }

    /// Returns what was heard of migrations so far.
    #[must_use]
    pub fn progress(&self) -> &[MigrationProgress] {
        &self.progress
    }

    /// Returns the process id, while it has not been seen to end.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Tells whether it answers.
    pub fn responds(&mut self, host: &Host) -> bool {
        self.tell(host, "ping", json!({ "do": "ping" }), Some(PING)).is_ok()
    }

    /// Says what the site is.
    ///
    /// # Errors
    ///
    /// When the static files' storage or a database's driver cannot be loaded, or the process fails.
    pub fn facts(&mut self, host: &Host) -> Result<SiteFacts, DjangoError> {
        self.ask(host, "facts", json!({ "do": "facts" }), Some(READ))
    }

    /// Says where the site sends those who are not logged in, as far as `LOGIN_URL` names a page.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn login_url(&mut self, host: &Host) -> Result<Option<String>, DjangoError> {
        let login: Login = self.ask(host, "login page", json!({ "do": "login_url" }), Some(READ))?;
        Ok(login.path)
    }

    /// Runs the system checks and loads the URL configuration and the application.
    ///
    /// `application` is what gunicorn loads, as `module` or `module:name`; `None`: what `WSGI_APPLICATION` or
    /// `ASGI_APPLICATION` says.
    ///
    /// # Errors
    ///
    /// When one of them raises an exception. Errors that the system checks report are in the answer.
    pub fn check(&mut self, host: &Host, application: Option<&str>) -> Result<CheckReport, DjangoError> {
        let request = json!({ "do": "check", "wsgi": application });
        let mut report: CheckReport = self.ask(host, "check", request, Some(READ))?;
        for message in &mut report.messages {
            message.message = host.redactor().redact(&message.message).into_owned();
        }
        Ok(report)
    }

    /// Says what `collectstatic` would collect and from where.
    ///
    /// # Errors
    ///
    /// When static files are not installed or a finder fails.
    pub fn static_sources(&mut self, host: &Host) -> Result<StaticSources, DjangoError> {
        self.ask(host, "static files", json!({ "do": "static_sources" }), Some(READ))
    }

    /// Begins to collect the static files into this directory and nowhere else, at the host's priority. The session may be asked for
    /// other things meanwhile; [`end_collect`](Session::end_collect) waits for the end. With `seeded`, a file that is there
    /// already counts as collected.
    ///
    /// # Errors
    ///
    /// When static files are not installed.
    pub fn begin_collect(&mut self, host: &Host, target: &Path, seeded: bool) -> Result<(), DjangoError> {
        let target = names::text(target);
        let nice = host.niceness();
        let request = json!({ "do": "begin_collect", "target": target, "seeded": seeded, "nice": nice });
        self.tell(host, "collect static files", request, Some(READ))
    }

    /// Waits until the static files are collected.
    ///
    /// # Errors
    ///
    /// [`DjangoError::NotRelocatable`] when the storage would write somewhere else; [`DjangoError::Collect`] when
    /// collecting fails, as for a stylesheet that names a missing file.
    pub fn end_collect(&mut self, host: &Host) -> Result<(), DjangoError> {
        self.tell(host, "collect static files", json!({ "do": "end_collect" }), None)
    }

    /// Compiles sources of the tree `top` for the checkout `live`; returns the files of bytecode. All paths are from the
    /// top of either. What cannot be compiled is left out.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn compile(
        &mut self,
        host: &Host,
        top: &Path,
        live: &Path,
        sources: &[PathBuf],
    ) -> Result<Vec<PathBuf>, DjangoError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(with = "names::many")]
            compiled: Vec<PathBuf>,
        }
        let (top, live) = (names::text(top), names::text(live));
        let sources: Vec<String> = sources.iter().map(names::text).collect();
        let request = json!({ "do": "compile", "top": top, "live": live, "sources": sources });
        self.ask::<Answer>(host, "compile", request, Some(READ)).map(|answer| answer.compiled)
    }

    /// Ends the process.
    pub fn close(mut self, host: &Host) {
        if let Some(mut process) = self.process.take() {
            process.set_host(host);
            process.close_input();
            // It ends by itself; if not, dropping it ends it.
            let _ = process.read_line(Some(PING), &mut |_, _| ());
        }
    }

    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        host: &Host,
        during: &'static str,
        request: Value,
        limit: Option<Duration>,
    ) -> Result<T, DjangoError> {
        let request = match &self.twin {
            Some(twin) if twin.answers() => twin.request(&request),
            _ => request,
        };
        self.ask_itself(host, during, request, limit)
    }

    /// Asks the process itself, also where a fork of it answers other requests.
    pub(super) fn ask_itself<T: DeserializeOwned>(
        &mut self,
        host: &Host,
        during: &'static str,
        request: Value,
        limit: Option<Duration>,
    ) -> Result<T, DjangoError> {
        self.write(host, during, &request.to_string())?;
        let answer = self.answer(host, during, limit)?;
        serde_json::from_value(answer)
            .map_err(|error| DjangoError::Garbled { during, line: error.to_string() })
    }

    /// Asks for something to be done that has nothing to say.
    pub(super) fn tell(
        &mut self,
        host: &Host,
        during: &'static str,
        request: Value,
        limit: Option<Duration>,
    ) -> Result<(), DjangoError> {
        self.ask::<Nothing>(host, during, request, limit).map(|_| ())
    }

    pub(super) fn write(&mut self, host: &Host, during: &'static str, line: &str) -> Result<(), DjangoError> {
        let Some(process) = &mut self.process else {
            return Err(DjangoError::Silent { during, tail: Vec::new() });
        };
        process.set_host(host);
        match process.write_line(line) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.ended(during)),
            Err(source) => {
                let command = self.project.python.display().to_string();
                Err(DjangoError::Start { source: CommandError::Start { command, source } })
            }
        }
    }

    fn answer(
        &mut self,
        host: &Host,
        during: &'static str,
        limit: Option<Duration>,
    ) -> Result<Value, DjangoError> {
        loop {
            let Some(process) = &mut self.process else {
                return Err(DjangoError::Silent { during, tail: Vec::new() });
            };
            let line = match process.read_line(limit, &mut |_, _| ()) {
                Ok(Some(line)) => line,
                Ok(None) => return Err(self.ended(during)),
                Err(source) => {
                    self.process = None;
                    return Err(DjangoError::Ended { during, source });
                }
            };
            match protocol::parse(&line) {
                Some(Line::Answer(answer)) => return Ok(answer),
                Some(Line::Fault(fault)) => {
                    return Err(fault.into_error(during, &self.project.manage_py(), host.redactor()));
                }
                Some(Line::Progress(progress)) => self.hear(host, progress),
                // Python's own start, before the probe runs, may print: `.pth` files and `sitecustomize` do.
                None if during == "boot" => host.note(&line),
                None => {
                    let line = protocol::shortened(&host.redactor().redact(&line));
                    self.process = None;
                    return Err(DjangoError::Garbled { during, line });
                }
            }
        }
    }

    fn hear(&mut self, host: &Host, progress: MigrationProgress) {
        if let Some(seconds) = progress.seconds {
            let several = self.project.databases.are_several();
            let place = progress.database.as_ref().filter(|_| several);
            let place = place.map(|alias| format!(" in `{alias}`")).unwrap_or_default();
            host.note(&format!("{}{place} took {seconds:.2} s", progress.migration));
        }
        if let Some(observer) = &mut self.observer {
            observer(&progress);
        }
        self.progress.push(progress);
    }

    /// Says how the process ended.
    pub(super) fn ended(&mut self, during: &'static str) -> DjangoError {
        let Some(mut process) = self.process.take() else {
            return DjangoError::Silent { during, tail: Vec::new() };
        };
        process.close_input();
        match process.finish(&mut |_, _| ()) {
            Ok(output) => DjangoError::Silent { during, tail: output.tail },
            Err(source) => DjangoError::Ended { during, source },
        }
    }
}
