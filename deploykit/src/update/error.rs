//! Why an update did not begin.

mod rollback;

use std::error::Error;
use std::path::PathBuf;

use thiserror::Error;

use crate::django::{DjangoError, Raised};
use crate::git::{counted, short};
use crate::host::files::FileError;
use crate::http::Connect;
use crate::journal::{Entry, JournalError, can_finish, held_at};
use crate::lock::LockError;
use crate::operations::smoke_check::PageResult;
use crate::plan::StepKind;
use crate::report::Report;
use crate::secrets::Missing;
use crate::services::Role;
use crate::site::{ClaimError, ConfigError};

pub use rollback::RollbackError;

/// Why an update did not begin; the live site was not touched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Another run has the lock.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The configuration lacks a required key.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An earlier run was interrupted, or is held for a person.
    #[error("run {run} is unfinished: {}", why_unfinished(held.as_ref()))]
    Unfinished {
        /// The run.
        run: String,
        /// The step that could not be undone, for which the site is held; `None`: the run was interrupted.
        held: Option<StepKind>,
        /// Whether it can be completed, too; otherwise it can only be undone.
        can_finish: bool,
    },
    /// An unfinished run cannot be completed, only undone.
    #[error("run {run} cannot be completed, only undone: {reason}")]
    NoWayForward {
        /// The run.
        run: String,
        /// Why.
        reason: &'static str,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] FileError),
    /// A journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The site is another one, or the caller may not work on it.
    #[error(transparent)]
    Claim(ClaimError),
    /// A step of the preparation failed.
    #[error("step `{step}` failed")]
    Prepare {
        /// The step.
        step: StepKind,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
        /// What is kept in the history.
        report: Box<Report>,
    },
}

impl From<ClaimError> for UpdateError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Locked(error) => error.into(),
            ClaimError::State(error) => error.into(),
            ClaimError::Journal(error) => error.into(),
            error => UpdateError::Claim(error),
        }
    }
}

/// What can be wrong with the new version, besides the errors of its parts.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PreparationError {
    /// The code asks for secrets that the file lacks.
    #[error("secrets are missing in `{}`: {}", file.display(), names(missing))]
    SecretsMissing {
        /// The file.
        file: PathBuf,
        /// The secrets, each with where it is asked for.
        missing: Vec<Missing>,
    },
    /// `manage.py check` finds errors in the new version.
    #[error("the new version has {} of `manage.py check`:\n{}", counted(errors.len(), "error"), errors.join("\n"))]
    CheckFailed {
        /// The errors.
        errors: Vec<String>,
    },
    /// The live version does not boot, and its command would announce the update to users.
    #[error("the live version does not boot, so its command that announces the maintenance would fail")]
    LiveVersionDown {
        /// Why it does not boot.
        #[source]
        source: DjangoError,
    },
    /// The project cannot be run from another directory than its own.
    #[error("the staged tree loads `{module}` from the live checkout (`{}`), so it cannot be checked", path.display())]
    NotRelocatable {
        /// A module.
        module: String,
        /// Where it came from.
        path: PathBuf,
    },
    /// The settings have no such database.
    #[error("`{key}` names `{alias}`, but `DATABASES` has only {}", quoted(known))]
    NoAlias {
        /// The key of the configuration.
        key: &'static str,
        /// The alias.
        alias: String,
        /// The aliases that there are.
        known: Vec<String>,
    },
    /// Two aliases are the same database: it would be migrated and restored twice.
    #[error("`{alias}` and `{twin}` in `database.migrate` are the same database")]
    SameDatabase {
        /// An alias.
        alias: String,
        /// The other one.
        twin: String,
    },
    /// A pooler gives each transaction another session: the programs that copy would leave settings in sessions of the site.
    #[error(
        "alias `{alias}` reaches its server through a connection pooler in transaction mode, where the database cannot be copied"
    )]
    Pooled {
        /// The alias.
        alias: String,
    },
    /// The direct alias is another database.
    #[error("`database.direct` maps `{alias}` to `{direct}`, which is another database")]
    DirectElsewhere {
        /// The alias.
        alias: String,
        /// The one in its place.
        direct: String,
    },
    /// The migrations need a backup that deploykit cannot make.
    #[error(
        "a copy of the database is needed before the migrations ({reason}), and a copy of {engine} is not supported"
    )]
    BackupUnsupported {
        /// The database.
        engine: String,
        /// Why a backup is needed.
        reason: String,
    },
    /// The database is a file that git tracks: the staged tree has a copy of it.
    #[error("git tracks the database `{}`: the migrations would change a copy of it", path.display())]
    DatabaseTracked {
        /// The file, from the top of the checkout.
        path: PathBuf,
    },
    /// Static files would be collected over the checkout.
    #[error("STATIC_ROOT `{}` is the checkout or contains it", root.display())]
    StaticRootHoldsCheckout {
        /// The directory.
        root: PathBuf,
    },
    /// There is no room for the backup.
    #[error("a backup of the database takes about {needed}, and {free} are free in `{}`", directory.display())]
    NoRoom {
        /// Where it would be.
        directory: PathBuf,
        /// Its expected size.
        needed: String,
        /// What is free.
        free: String,
    },
    /// Services run as another user, who cannot reach the new virtualenv.
    #[error("service `{service}` runs as {user}, who cannot pass `{}` to the new virtualenv", directory.display())]
    VirtualenvShut {
        /// The service.
        service: String,
        /// Its user, as a message shows it.
        user: String,
        /// The directory that shuts others out.
        directory: PathBuf,
    },
    /// A service runs a program of the live virtualenv that no required package contains.
    #[error("service `{service}` runs `{}`, and no package that the requirements ask for brings that program", program.display())]
    ProgramMissing {
        /// The service.
        service: String,
        /// The program, in the live virtualenv.
        program: PathBuf,
    },
    /// The target commit has no such file. In the staged tree, which is gone when the message is read, its path would mislead.
    #[error("the new version ({}) has no `{}`", short(commit), path.display())]
    NotInTarget {
        /// The target commit.
        commit: String,
        /// The file, inside the repository.
        path: PathBuf,
        /// The key of the configuration that names it or its directory.
        key: &'static str,
    },
    /// The pages are answered by a service that an update does not treat as the web.
    #[error(
        "the pages of `smoke` are answered at `{address}` by service `{service}`, which has `role = \"{role}\"`, not \"web\""
    )]
    PagesOfNoWeb {
        /// The service.
        service: String,
        /// Its role.
        role: Role,
        /// Where it listens.
        address: String,
    },
    /// The pages are answered by a program that is none of the web services: it may show the maintenance page, also to the checks of
    /// an update and of its undo.
    #[error(
        "`{address}`, where `smoke.pages` are requested, is not where a service of the role `web` listens: the server there would \
         answer with the maintenance page while that is up"
    )]
    PagesInFront {
        /// Where they are requested.
        address: String,
        /// Where the web listens, as far as is known.
        web: Option<Connect>,
    },
    /// There are services and pages, and no service answers requests.
    #[error("`smoke.pages` are to be checked, and no service has `role = \"web\"`")]
    NoWeb,
    /// The web runs, and none of its pages is as expected: the new version could not be told from a broken one.
    #[error("no page is as expected before the update: {}", list(failing))]
    PagesBroken {
        /// The pages.
        failing: Vec<PageResult>,
    },
    /// Pages redirect where the configuration expects an answer: they would fail the smoke check of any version.
    #[error("{} where an answer is expected, before the update: {}", redirect(failing.len()), list(failing))]
    PagesRedirect {
        /// The pages.
        failing: Vec<PageResult>,
    },
    /// Git LFS would leave pointers where the live checkout has contents.
    #[error("{} would be pointers of Git LFS, and the live site has their contents: {}", counted(files.len(), "file"), paths(files))]
    Pointers {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A step of the site's own wrote into what the live site uses.
    #[error("step `{step}` writes into {}, which {}{}", paths(outputs), reached(*touched), in_them(outputs, written))]
    StepReachesLive {
        /// The step.
        step: StepKind,
        /// The files.
        written: Vec<PathBuf>,
        /// The files or directories of the checkout that they belong to.
        outputs: Vec<PathBuf>,
        /// Whether the live files were changed; else the step had a copy.
        touched: bool,
    },
    /// An output of a step cannot be exchanged with what is live.
    #[error("output `{}` of a step cannot be exchanged with the live one: {why}", output.display())]
    OutputElsewhere {
        /// The output.
        output: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// An output of a step holds what the live site writes.
    #[error("output `{}` of a step holds {what}, which the live site writes into", output.display())]
    OutputHolds {
        /// The output.
        output: PathBuf,
        /// What it holds.
        what: &'static str,
    },
    /// A cache of a step is git's.
    #[error("git tracks files in `{}`, the cache of a step", cache.display())]
    CacheTracked {
        /// The directory.
        cache: PathBuf,
    },
    /// The update or rollback cannot be rehearsed, and the configuration or the caller requires a rehearsal.
    #[error("the {what} cannot be rehearsed on a copy: {reason}")]
    NotRehearsed {
        /// `update` or `rollback`.
        what: &'static str,
        /// Why.
        reason: String,
        /// What would allow it.
        help: Option<String>,
    },
    /// The pending migrations fail on a copy of the database.
    #[error("the migrations fail on a copy of the database; the site serves as before")]
    MigrationsFail {
        /// How.
        #[source]
        source: DjangoError,
    },
    /// Pages of the new version, or of the previous one in a rollback, are not as expected on copies of the databases.
    #[error("the {version} version fails on a copy of the site, which serves as before: {}", list(failing))]
    PagesFail {
        /// Which version: `new`, or `previous` in a rollback.
        version: &'static str,
        /// The pages.
        failing: Vec<PageResult>,
        /// The exception that the first of them raised.
        #[source]
        raised: Option<Box<Raised>>,
    },
    /// A worker would not start: what it loads raises an exception.
    #[error("worker `{command}` of the {version} version would not start")]
    WorkerFails {
        /// Which version: `new`, or `previous` in a rollback.
        version: &'static str,
        /// Its command line.
        command: String,
        /// Why not.
        #[source]
        raised: Box<Raised>,
    },
    /// A step of the site's own fails on copies of the databases.
    #[error("step `{step}` fails on a copy of the site, which serves as before")]
    OwnStepFails {
        /// The step.
        step: String,
        /// Why.
        #[source]
        source: DjangoError,
    },
    /// The program of `services.rehearse` fails, which the rehearsal runs in place of starting the service.
    #[error("service `{service}` of the {version} version would not start")]
    ServiceFails {
        /// Which version: `new`, or `previous` in a rollback.
        version: &'static str,
        /// The service.
        service: String,
        /// Why not.
        #[source]
        source: DjangoError,
    },
    /// The end was requested.
    #[error("interrupted")]
    Interrupted,
}

impl UpdateError {
    /// Says that a run is unfinished, and why, as its journal tells.
    #[must_use]
    pub fn unfinished(run: String, entries: &[Entry]) -> Self {
        let held = held_at(entries).cloned();
        UpdateError::Unfinished { run, held, can_finish: can_finish(entries) }
    }
}

fn why_unfinished(held: Option<&StepKind>) -> String {
    match held {
        Some(step) => format!("the site is held, since step `{step}` could not be undone"),
        None => "it was interrupted".to_owned(),
    }
}

/// Names some paths.
pub(super) fn paths(paths: &[PathBuf]) -> String {
    let named: Vec<String> = paths.iter().take(5).map(|path| format!("`{}`", path.display())).collect();
    let more = paths.len() - named.len();
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

fn reached(touched: bool) -> &'static str {
    if touched { "the live site uses, and has changed it there" } else { "the live site uses" }
}

/// Names the files, unless each is one of the places itself.
fn in_them(places: &[PathBuf], files: &[PathBuf]) -> String {
    if places == files { String::new() } else { format!(": {}", paths(files)) }
}

fn redirect(pages: usize) -> String {
    if pages == 1 { "a page redirects".to_owned() } else { format!("{pages} pages redirect") }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn list(failing: &[PageResult]) -> String {
    failing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn names(missing: &[Missing]) -> String {
    let name = |missing: &Missing| match missing.asked_in.first() {
        Some(place) => format!("`{}` (asked for in {place})", missing.name),
        None => format!("`{}` (required by the configuration)", missing.name),
    };
    missing.iter().map(name).collect::<Vec<_>>().join(", ")
}
