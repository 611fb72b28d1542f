//! The keys of `deploykit.toml`, one row each. Those of services, steps and pages are in files of their own.

use std::path::PathBuf;
use std::time::Duration;

use super::pages::pages;
use crate::django::{DATABASE_DEADLINE, DEFAULT, When};
use crate::http::Connect;
use crate::keys::{Environment, Raw, Reader, Size, Value, choices, keys};
use crate::operations::git_update::{LocalChanges, LocalCommits};
use crate::python::{Installer, Lock, UpgradeStrategy, Wanted};
use crate::smoke::Page;

choices!(When { "auto" => Auto, "always" => Always, "never" => Never });
choices!(LocalChanges { "refuse" => Refuse, "keep" => Keep });
choices!(LocalCommits { "refuse" => Refuse, "rebase" => Rebase });
choices!(Installer { "auto" => Auto, "pip" => Pip, "uv" => Uv });
choices!(UpgradeStrategy { "only-if-needed" => OnlyIfNeeded, "eager" => Eager });
choices!(HostRole { "leader" => Leader, "follower" => Follower });
choices!(AnnounceWhen { "always" => Always, "needed" => Needed });

/// What a host does for the others that serve the same site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostRole {
    /// Everything.
    #[default]
    Leader,
    /// Everything but what happens once for all hosts: announcements and changes of the databases.
    Follower,
}

/// When an update announces maintenance and shows the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnounceWhen {
    /// In every update.
    #[default]
    Always,
    /// Unless the sockets are held and the window is expected to be short.
    Needed,
}

keys! {
    /// Keys at the top of the file, before the first section.
    pub(super) struct TopSection in ""
        then "[environments.staging.git]\nbranch = \"staging\"\n\n[environments.development.site]\nsettings = \"config.settings.dev\""
    {
        /// `staging` does not announce maintenance. `development` has neither maintenance nor services, and keeps local
        /// changes. `-e` and `DEPLOYKIT_ENVIRONMENT` override this key.
        "environment" => environment: Environment = Environment::Production, shown "`\"production\"`";
        /// How many past updates can be rolled back, one after another. deploykit keeps the previous virtualenv, static
        /// files and commit of each of them.
        "keep" => keep: usize = 3_usize, by keep, type "integer, 1 to 100";
        /// `[environments.NAME.SECTION]` overrides keys of a section in that environment. An array replaces the whole array.
        "environments" => environments: (), by merged, type "tables", shown "none", example Raw("");
    }
}

keys! {
    /// The Django site: its checkout, its settings, its variables.
    pub struct SiteSection in "[site]" {
        /// The Git checkout.
        "repository" => repository: PathBuf, by repository, shown "the file's directory", example ".";
        /// The directory of `manage.py`.
        "project" => project: PathBuf, by project, type "path in the repository", shown "the repository",
            example "project";
        /// `DJANGO_SETTINGS_MODULE`.
        "settings" => settings: Option<String>,
            required "is missing: the site's DJANGO_SETTINGS_MODULE, such as \"config.settings\"",
            example "config.settings.production";
        /// Variables for `manage.py` and for the site's own steps, checks and commands.
        "env" => env: Vec<(String, String)>, shown "none", example Raw("{ LANG = \"C.UTF-8\" }");
        /// A file of `NAME=value` lines with more variables. `env` takes precedence.
        "env-file" => env_file: Option<PathBuf>, example "../site.env";
        /// What this host does if several hosts with one database serve the site. A `follower` announces nothing, copies and migrates
        /// no database and rehearses nothing: it waits until the `leader` has migrated.
        "role" => role: HostRole = HostRole::Leader;
        /// How long a run that `--until` paused waits for `--continue`. After that, it rolls back.
        "pause-limit" => pause_limit: Duration = minutes(10);
    }
}

keys! {
    /// The remote and the branch of new versions, and what may be in the checkout.
    pub struct GitSection in "[git]" {
        /// The remote to fetch from.
        "remote" => remote: String = "origin";
        /// The branch to deploy. If HEAD is detached or another branch is checked out, the update switches to this branch.
        "branch" => branch: String = "master", example "main";
        /// What an update does if the checkout has local changes, including those hidden by `assume-unchanged` or
        /// `skip-worktree`. `keep` keeps the changes that do not conflict with the update.
        "local-changes" => local_changes: LocalChanges = LocalChanges::Refuse, in Development LocalChanges::Keep;
        /// What an update does if the checkout has commits that the remote lacks.
        "local-commits" => local_commits: LocalCommits = LocalCommits::Refuse, in Development LocalCommits::Rebase;
        /// Require that a trusted key signed the target commit: gpg trusts the key fully or ultimately, or
        /// `gpg.ssh.allowedSignersFile` lists it.
        "verify-signature" => verify_signature: bool;
        /// Deadline of each `git` command that contacts the remote.
        "deadline" => deadline: Duration = minutes(5);
    }
}

keys! {
    /// The virtualenv and its packages.
    pub struct PythonSection in "[python]" {
        /// The site's virtualenv. The first update that changes packages replaces the directory with a symbolic link.
        "virtualenv" => virtualenv: Option<PathBuf>, required "is missing: the directory of the site's virtualenv",
            example "../venv";
        /// The Python of the virtualenv: a version such as `3.12`, or the absolute path of an interpreter. If the virtualenv has
        /// another one, the next update builds the whole virtualenv anew. Without this key it stays as it is.
        "python" => python: Option<String>, example "3.12";
        /// Whether to change the packages inside the virtualenv, which stays where it is, instead of replacing it with a symbolic
        /// link: for a conda environment, an installation of Python or a mount point. The previous packages stay beside the new
        /// ones for the rollback. Every program that uses the virtualenv sees the change at once: stop those that deploykit does
        /// not manage.
        "in-place" => in_place: bool;
        /// The requirements files. Without them and without a lock, deploykit leaves the packages alone.
        "requirements" => requirements: Vec<PathBuf>, by in_repository, type "array of paths in the repository",
            example ["requirements/production.txt"];
        /// The lock file, instead of requirements files: `uv.lock`, `poetry.lock`, `pdm.lock`, `Pipfile.lock`, `pylock.toml`
        /// or `pylock.*.toml`. Exactly its packages are installed, and their hashes are checked. Packages that it does not
        /// list are removed.
        "lock" => lock: Option<PathBuf>, by one_in_repository, type "path in the repository", commented "uv.lock";
        /// Dependency groups of the lock to install besides the project's own dependencies. For `Pipfile.lock`: categories.
        "groups" => groups: Vec<String>, commented ["prod"];
        /// Extras of the project to install from the lock.
        "extras" => extras: Vec<String>, commented ["redis"];
        /// The directory of the `pyproject.toml` or `Pipfile` that the lock belongs to.
        "project" => project: Option<PathBuf>, by one_in_repository, type "path in the repository",
            shown "the directory of the lock", commented "backend";
        /// Whether to install the project of the lock itself, as an editable package. Without this key, it is
        /// installed if the live virtualenv has it. Other packages of the checkout that a lock lists are always installed.
        "install-project" => install_project: Option<bool>, commented true;
        /// `auto` uses uv if it is in `PATH`, otherwise the virtualenv's pip. It also uses pip if a `pip.conf` or a variable
        /// tells only pip where packages come from, because uv does not read these.
        "installer" => installer: Installer = Installer::Auto;
        /// Which packages to upgrade. `only-if-needed` works like `pip install -U -r`: packages that the requirements name
        /// get the newest version that the requirements allow; their dependencies change only as far as needed. `eager`
        /// upgrades the dependencies as well. With a lock this key has no effect.
        "upgrade" => upgrade: UpgradeStrategy = UpgradeStrategy::OnlyIfNeeded;
        /// More arguments for the installer. Passwords are rejected here: put them into `PIP_INDEX_URL` in `env-file`, into
        /// `pip.conf` or into `.netrc`.
        "extra-args" => extra_args: Vec<String>, example ["--prefer-binary"];
        /// Deadline for resolving the requirements, and again for building the virtualenv.
        "deadline" => deadline: Duration = minutes(30);
    }
}

keys! {
    /// The secrets that the code reads.
    pub struct SecretsSection in "[secrets]" {
        /// The secrets file: JSON, or `NAME=value` lines.
        "file" => file: Option<PathBuf>, example "secrets.json";
        /// Names that must be present in addition to those that the code reads.
        "required" => required: Vec<String>, example ["EMAIL_HOST_PASSWORD"];
        /// Matches the code that reads a secret. The first group is the secret's name. `\w`, `\d` and `\s` match ASCII
        /// characters only, and there is no `\p{…}`.
        "pattern" => pattern: String = crate::secrets::DEFAULT_PATTERN, type "regular expression";
    }
}

keys! {
    /// The static files.
    pub struct StaticSection in "[static]" {
        /// When to collect static files. `auto`: when a static file was added, changed or removed.
        "collect" => collect: When = When::Auto;
        /// Whether to remove obsolete files below `STATIC_ROOT`, which no source has. `auto`: only those known to come from a
        /// source that is gone.
        "clear" => clear: When = When::Auto;
        /// How long obsolete files stay before `clear = "auto"` removes them, so that open pages still find their scripts and styles.
        "keep-old" => keep_old: Duration = seconds(0), example "7d";
    }
}

keys! {
    /// The databases: which aliases are migrated, by which command and through which connection, and how they are copied before.
    pub struct DatabaseSection in "[database]" {
        /// Whether to copy the database before migrations. `auto`: when a migration cannot be reversed, loses data, may stay
        /// half done, or is not understood (such as `RunPython`) and the rehearsal has not shown that its reversal restores all
        /// rows. MariaDB commits each schema change at once, so there `auto` always copies.
        "backup" => backup: When = When::Auto;
        /// The site's own program that copies the database.
        "backup-command" => backup_command: Option<Vec<String>>, by command, example ["./copy-database"];
        /// The program that restores the copy of `backup-command`.
        "restore-command" => restore_command: Option<Vec<String>>, by command, example ["./put-database-back"];
        /// How long the database may take to accept a connection, to grant a lock, and to show that it is alive.
        "deadline" => deadline: Duration = DATABASE_DEADLINE;
        /// The aliases in `DATABASES` that are migrated and copied, in this order; they are undone in the reverse order.
        "migrate" => migrate: Vec<String> = vec![DEFAULT.to_owned()];
        /// The command of `manage.py` that migrates in place of `migrate`, such as that of django-tenants. What it does is not
        /// known beforehand: the database is copied first, and only the copy undoes it.
        "migrate-command" => migrate_command: Option<Vec<String>>, by command,
            example ["migrate_schemas", "--executor", "multiprocessing"];
        /// Maps an alias to the one through which it is migrated and copied: a connection to the same database that bypasses a
        /// connection pooler such as PgBouncer.
        "direct" => direct: Vec<(String, String)>, shown "none", example Raw("{ default = \"direct\" }");
    }
}

keys! {
    /// The rehearsal: before an update announces anything, it migrates copies of the databases and requests the
    /// pages from the new version there.
    pub struct RehearsalSection in "[rehearsal]" {
        /// `auto` rehearses what can be rehearsed, and says what cannot. `always` refuses an update or a rollback that
        /// cannot be rehearsed.
        "when" => when: When = When::Auto, in Development When::Never;
        /// Maximum size of a database that is copied with all rows. Of a larger one, only the schema and the rows of Django's own
        /// small tables are copied.
        "limit" => limit: Size = Size(2_000_000_000), shown "`\"2 GB\"`";
        /// Maximum duration of a copy with all rows, by the speed of the last copy of the same database within a week. What would
        /// take longer is copied like a database that is larger than `limit`.
        "time-limit" => time_limit: Duration = seconds(60);
        /// A scratch database of PostgreSQL or MariaDB, as a URL, for the copy of `default` if no private server can have it.
        /// `$NAME`: the URL is the value of that variable in `site.env` or `site.env-file`.
        "database-url" => database_url: Option<String>, type "URL", example "$REHEARSAL_DATABASE_URL";
    }
}

keys! {
    /// The announcement to users, and the page that they see during the window.
    pub struct MaintenanceSection in "[maintenance]" {
        /// The `manage.py` command that announces maintenance. `{time}` and `{date}` are in the site's time zone. Without a
        /// message, `{message}` is left out together with the option before it.
        "on" => on: Option<Vec<String>>, shown "`maintenanceon`, if the project has it",
            example ["maintenanceon", "{time}", "--date", "{date}", "--message", "{message}"];
        /// The command that ends the announcement. `on` requires `off`, and `off` requires `on`.
        "off" => off: Option<Vec<String>>, shown "`maintenanceoff`, if the project has it", example ["maintenanceoff"];
        /// The file that the commands write and delete. deploykit checks this file and ignores the commands' exit code.
        "status-file" => status_file: Option<PathBuf>,
            shown "the setting that the commands use, such as `MAINTENANCE_STATUS_FILE_PATH`",
            example "../data/maintenance.json";
        /// The page: a file that the web server shows while the file exists. `smoke.connect` is required if there are pages
        /// to check.
        "page" => page: Option<PathBuf>, example "/srv/www/tmp/maintenance.html";
        /// The contents of the page.
        "page-template" => page_template: Option<PathBuf>, shown "a plain page", example "maintenance.html";
        /// Whether the web boots while the migrations run, possibly on the old database schema. Set this only if the code changes
        /// nothing in the database when it boots. Requires `page`, which the server in front must show to everybody. Has no effect
        /// where the socket is held.
        "start-early" => start_early: bool = false;
        /// The message to users.
        "message" => message: String = "The site is being updated and will be back in a few minutes.";
        /// How long beforehand users are told. `"0s"`: not at all.
        "notice" => notice: Duration = minutes(20);
        /// How long an update waits for the jobs that `deploykit exec` runs, before anything stops. It is refused if one runs
        /// longer.
        "wait-for-jobs" => wait_for_jobs: Duration = minutes(10);
        /// `needed` skips the announcement and the page if the sockets are held and the window is expected to take no longer
        /// than `hold`.
        "when" => when: AnnounceWhen = AnnounceWhen::Always, in Staging AnnounceWhen::Needed;
        /// How long requests may wait.
        "hold" => hold: Duration = seconds(10);
    }
}

keys! {
    /// The pages and commands that show that the site works.
    pub struct SmokeSection in "[smoke]" {
        /// The URL that paths belong to. Its host is sent in the `Host` header.
        "base" => base: Option<String>, type "URL", shown "required for paths", example "https://coralnet.example/";
        /// Where to connect instead: the application server itself. `uwsgi:127.0.0.1:8001` and `uwsgi:unix:/run/site.sock` are
        /// asked in the uwsgi protocol.
        "connect" => connect: Option<Connect>, shown "the base's address", example "127.0.0.1:8000";
        /// A PEM file with the certificate of a private authority.
        "ca" => ca: Option<PathBuf>, shown "public authorities", example "/etc/ssl/private-ca.pem";
        /// How long all pages together may take to become as expected.
        "deadline" => deadline: Duration = seconds(60);
        /// How long deploykit repeats the request when a page responds, but not as expected. A page that may still be
        /// starting (nothing listens, no response, 502, 503, 504) is requested until `deadline`.
        "settle" => settle: Duration = seconds(5);
        /// Maximum response time per page.
        "timeout" => timeout: Duration = seconds(10);
        /// Paths, URLs, or tables with the keys below.
        "pages" => pages: Vec<Page>, by pages, type "array of strings and tables", shown "none", example Raw(PAGES);
        /// Commands that run once the pages are as expected. Each must exit with 0. `./name` starts at the file's directory.
        "commands" => commands: Vec<Vec<String>>, example [["./scripts/check-login"]];
    }
}

keys! {
    /// Commands after an update, a rollback or a recovery.
    pub struct HooksSection in "[hooks]" {
        /// Run when the wanted version serves.
        "after-success" => after_success: Vec<Vec<String>>, example [["./scripts/tell-chat"]];
        /// Run in all other cases.
        "after-failure" => after_failure: Vec<Vec<String>>, example [["./scripts/tell-chat", "--loud"]];
    }
}

const PAGES: &str = r#"[
    "/",
    { path = "/about/", status = 200, contains = "About", lacks = "Traceback", within = "2s" },
    { path = "/upload/", redirect = "/accounts/login/" },
]"#;

impl Value for Connect {
    fn kind() -> String {
        "`\"address:port\"` or `\"unix:/path\"`, behind `uwsgi:` for the uwsgi protocol".to_owned()
    }

    fn read(reader: &Reader<'_>, key: &'static str) -> Option<Self> {
        let connect = reader.text(key)?.parse();
        connect.map_err(|error: crate::http::ConnectError| reader.wrong(key, error.to_string())).ok()
    }
}

/// The overrides are merged before the other tables are read.
fn merged(_: &Reader<'_>, _: &'static str) -> Option<()> {
    None
}

fn keep(reader: &Reader<'_>, key: &'static str) -> Option<usize> {
    reader.number(key, 1..101).map(usize::from)
}

fn repository(reader: &Reader<'_>, key: &'static str) -> Option<PathBuf> {
    let repository = reader.path(key).unwrap_or_else(|| reader.directory().to_owned());
    reader.set_repository(&repository);
    Some(repository)
}

fn project(reader: &Reader<'_>, key: &'static str) -> Option<PathBuf> {
    Some(reader.in_repository(&reader.text(key).unwrap_or_default()))
}

fn in_repository(reader: &Reader<'_>, key: &'static str) -> Option<Vec<PathBuf>> {
    Some(reader.texts(key)?.iter().map(|path| reader.in_repository(path)).collect())
}

fn one_in_repository(reader: &Reader<'_>, key: &'static str) -> Option<Option<PathBuf>> {
    Some(Some(reader.in_repository(&reader.text(key)?)))
}

impl PythonSection {
    /// Returns what says which packages the site needs.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let Some(file) = &self.lock else { return self.requirements.clone().into() };
        let lock = Lock::new(file);
        let project = self.project.clone().unwrap_or(lock.project);
        let (groups, extras) = (self.groups.clone(), self.extras.clone());
        Lock { project, groups, extras, install_project: self.install_project, ..lock }.into()
    }
}

/// Reads a command.
fn command(reader: &Reader<'_>, key: &'static str) -> Option<Option<Vec<String>>> {
    let argv = reader.texts(key)?;
    if argv.is_empty() {
        reader.wrong(key, "names no command; name one, or remove the key");
        return None;
    }
    Some(Some(argv))
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
