//! The configuration: every key, every default, every kind of mistake.

mod mistakes;
mod reference;
mod uses;

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use super::{AnnounceWhen, Config, ConfigError, Environment, OwnStep, OwnTask};
use crate::django::When;
use crate::operations::git_update::{LocalChanges, LocalCommits};
use crate::operations::smoke_check::Page;
use crate::python::{Installer, UpgradeStrategy};
use crate::services::{CommandManager, Gunicorn, Kill, Manager, Role, Server, Service, Supervisor};

const LEAST: &str = "[site]\nsettings = \"config.settings\"\n[python]\nvirtualenv = \"../venv\"\n";

fn parse_as(text: &str, environment: Option<&str>) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/srv/site/deploykit.toml"), environment)
}

#[track_caller]
fn parsed(text: &str) -> Config {
    parse_as(text, None).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the mistakes of a configuration that is right but for these lines, without the file's name.
#[track_caller]
fn mistakes(lines: &str) -> String {
    let text = format!("{LEAST}{lines}\n");
    match parse_as(&text, None) {
        Err(ConfigError::Invalid(mistakes)) => {
            let shift = LEAST.lines().count();
            let lines = mistakes.problems.iter().map(|problem| {
                let line = mistakes.line(problem);
                let line = line.checked_sub(shift).map_or("above".to_owned(), |line| line.to_string());
                format!("{line}: {}: {}\n", problem.key, problem.message)
            });
            lines.collect()
        }
        other => panic!("expected mistakes: {other:?}"),
    }
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn everything_but_two_keys_has_a_default() {
    let seconds = Duration::from_secs;
    let none: [Vec<String>; 0] = [];
    let config = parsed(LEAST);
    assert_eq!(config.path, Path::new("/srv/site/deploykit.toml"));
    assert!(config.text.contains("[site]"), "it is the text that was read");
    assert_eq!(config.directory, Path::new("/srv/site"));
    assert_eq!((config.environment, config.keep), (Environment::Production, 3));
    let site = config.site;
    assert_eq!((&site.repository, &site.project), (&config.directory, &config.directory));
    assert_eq!(site.settings.as_deref(), Some("config.settings"));
    assert_eq!((site.env, site.env_file), (vec![], None));
    let git = config.git;
    assert_eq!((git.remote.as_str(), git.branch.as_str()), ("origin", "master"));
    assert_eq!((git.local_changes, git.local_commits), (LocalChanges::Refuse, LocalCommits::Refuse));
    assert!(!git.verify_signature);
    assert_eq!(git.deadline, seconds(300));
    let python = config.python;
    assert_eq!(python.virtualenv.as_deref(), Some(Path::new("/srv/venv")));
    assert_eq!((python.requirements, python.installer, python.extra_args), (vec![], Installer::Auto, vec![]));
    assert_eq!((python.upgrade, python.deadline), (UpgradeStrategy::OnlyIfNeeded, seconds(1800)));
    assert_eq!((config.secrets.file, config.secrets.required), (None, vec![]));
    assert_eq!(config.secrets.pattern, crate::secrets::DEFAULT_PATTERN);
    assert_eq!((config.static_files.collect, config.static_files.clear), (When::Auto, When::Auto));
    let database = config.database;
    assert_eq!((database.backup, database.deadline), (When::Auto, seconds(60)));
    assert_eq!((database.backup_command, database.restore_command), (None, None));
    assert_eq!((config.services, config.steps, config.logs), (vec![], vec![], vec![]));
    let maintenance = config.maintenance;
    assert_eq!((maintenance.on, maintenance.off, maintenance.status_file), (None, None, None));
    assert_eq!((maintenance.page, maintenance.page_template), (None, None));
    assert_eq!(maintenance.message, "The site is being updated and will be back in a few minutes.");
    assert_eq!((maintenance.notice, maintenance.hold), (seconds(1200), seconds(10)));
    assert_eq!(maintenance.when, AnnounceWhen::Always);
    assert_eq!(parse_as(LEAST, Some("staging")).unwrap().maintenance.when, AnnounceWhen::Needed);
    let smoke = config.smoke;
    assert_eq!((smoke.base, smoke.connect, smoke.ca, smoke.pages), (None, None, None, vec![]));
    assert_eq!((smoke.deadline, smoke.settle, smoke.timeout), (seconds(60), seconds(5), seconds(10)));
    assert_eq!(smoke.commands, none);
    assert_eq!((config.hooks.after_success, config.hooks.after_failure), (vec![], vec![]));
}

const EVERYTHING: &str = r#"
environment = "staging"
keep = 1

[site]
repository = "checkout"
project = "project"
settings = "config.settings.production"
env = { LANG = "C.UTF-8" }
env-file = ".env"

[git]
remote = "upstream"
branch = "main"
local-changes = "keep"
local-commits = "rebase"
verify-signature = true
deadline = "90s"

[python]
virtualenv = "/srv/venv"
requirements = ["requirements/production.txt"]
installer = "uv"
upgrade = "eager"
extra-args = ["--no-index"]
deadline = "1h"

[secrets]
file = "secrets.json"
required = ["SENTRY_DSN"]
pattern = 'secret\("(\w+)"\)'

[static]
collect = "always"
clear = "never"

[database]
backup = "never"
backup-command = ["./copy"]
restore-command = ["./put-back", "-v"]

[[services]]
name = "gunicorn"
manager = "supervisor"
config = "config/supervisor.conf"
program = "site:gunicorn"
role = "web"
stop-timeout = "5s"
kill = "never"
start-timeout = "1m"
stay-up = "2s"

[[services]]
name = "redis"
manager = "command"
start = ["redis-server", "--daemonize", "yes"]
stop = ["redis-cli", "shutdown"]
status = ["redis-cli", "ping"]
directory = "run"
role = "required"
sudo = true

[[services]]
name = "web2"
manager = "gunicorn"
pidfile = "run/gunicorn.pid"
start = ["gunicorn", "--daemon"]
directory = "checkout"

[[steps]]
name = "compress"
after = "static"
manage = ["compress"]

[[steps]]
name = "warm"
after = "start-web"
run = ["./warm", "all"]

[[steps]]
name = "reindex"
after = "finish"
manage = ["reindex"]
process = true

[maintenance]
on = ["maintenanceon", "{time}"]
off = ["maintenanceoff"]
status-file = "maintenance.json"
page = "www/maintenance.html"
page-template = "maintenance.html"
message = "Back soon"
notice = "1h 30m"
when = "needed"
hold = "4s"

[smoke]
base = "https://example.org/"
connect = "127.0.0.1:8000"
ca = "ca.pem"
deadline = "30s"
timeout = "2s"
pages = ["/", { path = "/about/", status = 302, redirect = "/login/", contains = "About", lacks = "Traceback", within = "800ms" }]
commands = [["./check-login", "-v"]]

[logs]
nginx = "/var/log/nginx/error.log"
django = "log/django.log"

[hooks]
after-success = [["./tell", "good"]]
after-failure = [["./tell", "bad"]]
"#;

#[test]
fn every_key_is_read() {
    let config = parsed(EVERYTHING);
    let at = |path: &str| PathBuf::from("/srv/site").join(path);
    assert_eq!((config.environment, config.keep), (Environment::Staging, 1));
    assert_eq!((config.site.repository, config.site.project), (at("checkout"), at("checkout/project")));
    assert_eq!(config.site.settings.as_deref(), Some("config.settings.production"));
    assert_eq!(config.site.env, [("LANG".to_owned(), "C.UTF-8".to_owned())]);
    assert_eq!(config.site.env_file, Some(at(".env")));
    assert_eq!((config.git.remote.as_str(), config.git.branch.as_str()), ("upstream", "main"));
    assert_eq!(
        (config.git.local_changes, config.git.local_commits),
        (LocalChanges::Keep, LocalCommits::Rebase)
    );
    assert!(config.git.verify_signature);
    assert_eq!(
        (config.git.deadline, config.python.deadline),
        (Duration::from_secs(90), Duration::from_secs(3600))
    );
    assert_eq!(config.python.virtualenv.as_deref(), Some(Path::new("/srv/venv")));
    // Requirements belong to the checkout.
    assert_eq!(config.python.requirements, [at("checkout/requirements/production.txt")]);
    assert_eq!(config.python.upgrade, UpgradeStrategy::Eager);
    assert_eq!((config.python.installer, config.python.extra_args), (Installer::Uv, texts(&["--no-index"])));
    assert_eq!(
        (config.secrets.file, config.secrets.required),
        (Some(at("secrets.json")), texts(&["SENTRY_DSN"]))
    );
    assert_eq!(config.secrets.pattern, r#"secret\("(\w+)"\)"#);
    assert_eq!(
        (config.static_files.collect, config.static_files.clear, config.database.backup),
        (When::Always, When::Never, When::Never)
    );
    assert_eq!(config.database.backup_command, Some(texts(&["./copy"])));
    assert_eq!(config.database.restore_command, Some(texts(&["./put-back", "-v"])));
    let second = Duration::from_secs;
    let gunicorn = Service {
        name: "gunicorn".into(),
        manager: Manager::Supervisor(Supervisor {
            server: Server::Config(at("config/supervisor.conf")),
            program: Some("site:gunicorn".into()),
        }),
        role: Role::Web,
        stop_timeout: second(5),
        kill: Kill::Never,
        start_timeout: second(60),
        stay_up: Some(second(2)),
        sudo: false,
        hold: Some(at(".deploykit/hold/gunicorn")),
        rehearse: Vec::new(),
        serves: None,
    };
    let redis = Service {
        name: "redis".into(),
        manager: Manager::Command(CommandManager {
            start: texts(&["redis-server", "--daemonize", "yes"]),
            stop: texts(&["redis-cli", "shutdown"]),
            status: texts(&["redis-cli", "ping"]),
            held: false,
            directory: Some(at("run")),
        }),
        role: Role::Required,
        stop_timeout: second(30),
        kill: Kill::Auto,
        start_timeout: second(60),
        stay_up: None,
        sudo: true,
        hold: Some(at(".deploykit/hold/redis")),
        rehearse: Vec::new(),
        serves: None,
    };
    let web2 = Service {
        name: "web2".into(),
        manager: Manager::Gunicorn(Gunicorn {
            pidfile: at("run/gunicorn.pid"),
            start: texts(&["gunicorn", "--daemon"]),
            directory: Some(at("checkout")),
        }),
        role: Role::Worker,
        sudo: false,
        hold: Some(at(".deploykit/hold/web2")),
        ..redis.clone()
    };
    assert_eq!(config.services, [gunicorn, redis, web2]);
    let step = |name: &str, after: &str, task| {
        let (name, after, outputs) = (name.into(), after.into(), Vec::new());
        OwnStep {
            name,
            after,
            task,
            outputs,
            cache: Vec::new(),
            needs_memory: None,
            process: false,
            rehearse: false,
        }
    };
    assert_eq!(
        config.steps,
        [
            step("compress", "static", OwnTask::Manage(texts(&["compress"]))),
            step("warm", "start-web", OwnTask::Run(texts(&["./warm", "all"]))),
            OwnStep { process: true, ..step("reindex", "finish", OwnTask::Manage(texts(&["reindex"]))) },
        ]
    );
    assert_eq!(config.maintenance.on, Some(texts(&["maintenanceon", "{time}"])));
    assert_eq!(config.maintenance.off, Some(texts(&["maintenanceoff"])));
    assert_eq!(config.maintenance.status_file, Some(at("maintenance.json")));
    assert_eq!(
        (config.maintenance.page, config.maintenance.page_template),
        (Some(at("www/maintenance.html")), Some(at("maintenance.html")))
    );
    assert_eq!(
        (config.maintenance.message.as_str(), config.maintenance.notice),
        ("Back soon", Duration::from_secs(5400))
    );
    assert_eq!(
        (config.maintenance.when, config.maintenance.hold),
        (AnnounceWhen::Needed, Duration::from_secs(4))
    );
    assert_eq!(config.smoke.base.as_deref(), Some("https://example.org/"));
    assert_eq!(config.smoke.connect, Some("127.0.0.1:8000".parse().unwrap()));
    assert_eq!(config.smoke.ca, Some(at("ca.pem")));
    assert_eq!((config.smoke.deadline, config.smoke.timeout), (second(30), second(2)));
    let about = Page {
        status: Some(302),
        redirect: Some("/login/".into()),
        contains: texts(&["About"]),
        lacks: texts(&["Traceback"]),
        within: Some(Duration::from_millis(800)),
        ..Page::new("/about/")
    };
    assert_eq!(config.smoke.pages, [Page::new("/"), about]);
    assert_eq!(config.smoke.commands, [texts(&["./check-login", "-v"])]);
    let log = |name: &str, path: PathBuf| (name.to_owned(), path);
    assert_eq!(
        config.logs,
        [log("django", at("log/django.log")), log("nginx", "/var/log/nginx/error.log".into())]
    );
    assert_eq!(config.hooks.after_success, [texts(&["./tell", "good"])]);
    assert_eq!(config.hooks.after_failure, [texts(&["./tell", "bad"])]);
}

#[test]
fn development_keeps_local_work_and_manages_no_services() {
    let config = parse_as(EVERYTHING, Some("development")).unwrap();
    assert_eq!(config.environment, Environment::Development);
    assert_eq!(config.services, []);
    let config = parse_as(LEAST, Some("development")).unwrap();
    assert_eq!(
        (config.git.local_changes, config.git.local_commits),
        (LocalChanges::Keep, LocalCommits::Rebase)
    );
}

#[test]
fn an_environment_overrides_key_by_key() {
    let text = format!(
        "{LEAST}[git]\nbranch = \"main\"\nremote = \"upstream\"\n\
         [environments.staging.git]\nbranch = \"staging\"\n\
         [environments.staging.smoke]\nbase = \"https://staging.example.org/\"\n\
         [environments.production.git]\nlocal-changes = \"keep\"\n"
    );
    let staging = parse_as(&text, Some("staging")).unwrap();
    assert_eq!((staging.git.branch.as_str(), staging.git.remote.as_str()), ("staging", "upstream"));
    assert_eq!(staging.smoke.base.as_deref(), Some("https://staging.example.org/"));
    assert_eq!(staging.git.local_changes, LocalChanges::Refuse);
    let production = parse_as(&text, None).unwrap();
    assert_eq!((production.git.branch.as_str(), production.smoke.base), ("main", None));
    assert_eq!(production.git.local_changes, LocalChanges::Keep);
}

#[test]
fn mistakes_in_an_override_are_in_its_place() {
    assert_data_eq!(
        mistakes(
            "[environments.production.git]\nbrnch = \"x\"\n[environments.prod]\n[environments]\nproduction.git.branch = 3"
        ),
        str![[r#"
2: git.brnch: unknown key; did you mean `branch`?
3: environments.prod: unknown key
5: : duplicate key

"#]]
        .raw()
    );
    // Those of another environment are found today, not on the day when it is chosen; each is told once.
    let text = format!("{LEAST}[environments.staging.git]\nbranch = 3\n[git]\nremote = 4\n");
    for environment in ["production", "staging", "development"] {
        let error = parse_as(&text, Some(environment)).unwrap_err().to_string();
        assert_data_eq!(
            error,
            str![[r#"
/srv/site/deploykit.toml:6: `git.branch`: expected a string, found an integer
/srv/site/deploykit.toml:8: `git.remote`: expected a string, found an integer
"#]]
            .raw()
        );
    }
}

#[test]
fn a_site_at_a_path_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("deploykit.toml"), "[site]\nsettings = \"config.settings\"\n").unwrap();
    let error = Config::load(&directory.join("deploykit.toml"), None).unwrap_err().to_string();
    assert!(error.ends_with("caf\\xe9/deploykit.toml` is not UTF-8"), "{error}");
}
