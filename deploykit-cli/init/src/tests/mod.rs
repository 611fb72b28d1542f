//! `init` looks at realistic checkouts, made with the real git, and writes a configuration.

mod asked;
mod layouts;
mod unusual;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::findings::{FoundMaintenance, FoundManager};
use crate::look::{Request, look_also_in};
use crate::{Findings, InitError, Question};
use deploykit::Host;
use deploykit::services::Role;
use deploykit::site::{Config, ConfigError};

/// A directory that holds a checkout with its surroundings, and a place for what would be in `/etc`.
struct Place {
    directory: tempfile::TempDir,
    site: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let site = directory.path().join("srv").join(name);
        fs::create_dir_all(&site).unwrap();
        let place = Place { directory, site };
        place.git(&["init", "-q", "-b", "master"]);
        place
    }

    fn git(&self, args: &[&str]) {
        let output = Command::new("git")
            .current_dir(&self.site)
            .args(args)
            .env("HOME", self.directory.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.org")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.org")])
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Commits what is there, and clones `origin` from it so that the branch follows something.
    fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
        let origin = self.directory.path().join("origin.git");
        self.git(&["clone", "-q", "--bare", ".", origin.to_str().unwrap()]);
        self.git(&["remote", "add", "origin", origin.to_str().unwrap()]);
        self.git(&["fetch", "-q", "origin"]);
        self.git(&["branch", "-q", "--set-upstream-to=origin/master"]);
    }

    /// Writes a file: relative to the checkout, `@SITE@` and `@SRV@` filled in.
    fn file(&self, path: &str, text: &str) {
        let path = self.site.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let srv = self.site.parent().unwrap().to_str().unwrap();
        fs::write(path, text.replace("@SITE@", self.site.to_str().unwrap()).replace("@SRV@", srv)).unwrap();
    }

    fn elsewhere(&self) -> PathBuf {
        self.directory.path().join("etc")
    }

    fn look(&self) -> Result<Findings, InitError> {
        look_also_in(&Request::from(self.site.as_path()), &Host::new(), &[self.elsewhere()], None)
    }

    /// What is written is read without a mistake, but for the lines that need a person.
    fn check_is_read(&self, text: &str, questions: &[Question]) {
        let Err(error) = Config::parse(text, &self.site.join("deploykit.toml"), None) else { return };
        let ConfigError::Invalid(mistakes) = &error else { panic!("{error}\n{text}") };
        for problem in &mistakes.problems {
            let asked = questions.iter().any(|question| question.key == problem.key);
            assert!(asked, "{error}\n{questions:?}\n{text}");
        }
    }

    fn found(&self) -> (Findings, String) {
        let findings = self.look().unwrap();
        let text = findings.to_toml();
        check(&text, &findings.questions);
        self.check_is_read(&text, &findings.questions);
        (findings, text)
    }
}

/// Every question stands above the line that it is about.
fn check_lines(text: &str, questions: &[Question]) {
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() <= 90, "{} lines:\n{text}", lines.len());
    let marked = lines.iter().filter(|line| line.starts_with("# NEEDS A PERSON: ")).count();
    assert_eq!(marked, questions.len(), "{questions:?}\n{text}");
    for question in questions {
        let line = lines[question.line - 1];
        let key = question.key.rsplit('.').next().unwrap();
        assert!(line.contains(key), "{question:?} is not about `{line}`\n{text}");
    }
}

/// What holds for every file that is written.
fn check(text: &str, questions: &[Question]) -> toml::Table {
    check_lines(text, questions);
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let known = [
        ("", "environment site git python secrets static database services steps maintenance smoke logs"),
        ("site", "repository project settings env env-file"),
        ("git", "remote branch"),
        ("python", "virtualenv python requirements lock groups extras"),
        ("secrets", "file required pattern"),
        ("static", "collect clear"),
        ("database", "migrate-command"),
        ("maintenance", "status-file page"),
        ("smoke", "base connect pages"),
    ];
    for (section, keys) in known {
        let table =
            if section.is_empty() { Some(&table) } else { table.get(section).and_then(|it| it.as_table()) };
        for key in table.into_iter().flat_map(|table| table.keys()) {
            assert!(keys.split(' ').any(|known| known == key), "unknown {section}.{key}\n{text}");
        }
    }
    for section in ["site", "git", "python", "static"] {
        assert!(table.contains_key(section), "no [{section}]\n{text}");
    }
    let maintenance = table.get("maintenance").and_then(|it| it.get("page"));
    let smoke = table.get("smoke").unwrap();
    assert!(maintenance.is_none() || smoke.get("connect").is_some() || smoke.get("base").is_none(), "{text}");
    table
}

const MANAGE: &str = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', '@MODULE@')\n\
                      from django.core.management import execute_from_command_line\n";

fn manage(settings: &str) -> String {
    MANAGE.replace("@MODULE@", settings)
}

fn coralnet() -> Place {
    let place = Place::new("coralnet");
    place.file("project/manage.py", &manage("config.settings.dev"));
    place.file("project/config/wsgi.py", "setdefault('DJANGO_SETTINGS_MODULE', 'config.settings.dev')\n");
    place.file("project/config/settings/__init__.py", "");
    place.file(
        "project/config/settings/base.py",
        "from pathlib import Path\nSETTINGS_DIR = Path(__file__).resolve().parent\n\
         PROJECT_DIR = SETTINGS_DIR.parent.parent\nSITE_DIR = PROJECT_DIR.parent.parent\n\
         with open(SETTINGS_DIR / 'secrets.json') as f:\n    secrets = json.loads(f.read())\n\
         SECRET_KEY = get_secret('SECRET_KEY')\nTOKEN = get_secret('TOKEN')\nSTATIC_ROOT = SITE_DIR / 'static_serve'\n\
         MAINTENANCE_STATUS_FILE_PATH = SITE_DIR / 'tmp' / 'maintenance.json'\n",
    );
    place.file(
        "project/config/settings/production.py",
        "from .base import *\nALLOWED_HOSTS = ['coralnet.example']\n",
    );
    place.file("project/config/settings/staging.py", "from .base import *\n");
    place.file("project/config/settings/dev.py", "from .base import *\n");
    place.file("project/config/settings/secrets.json", "{\"SECRET_KEY\": \"hunter2\"}");
    place.file("project/lib/management/commands/maintenanceon.py", "");
    place.file("project/lib/management/commands/maintenanceoff.py", "");
    for name in ["base", "dev", "production", "staging"] {
        place.file(&format!("requirements/{name}.txt"), "Django\n");
    }
    place.file(
        "config/supervisor.conf",
        "[unix_http_server]\nfile=/tmp/s.sock\n[supervisord]\n\
         [program:celery]\ncommand=@SRV@/venv/bin/celery -A config worker\ndirectory=@SITE@/project\nstopwaitsecs=600\n\
         [program:gunicorn]\ncommand=@SRV@/venv/bin/gunicorn config.wsgi -b 127.0.0.1:8007\ndirectory=@SITE@/project\n\
         environment=DJANGO_SETTINGS_MODULE=\"config.settings.production\",LANG=\"C.UTF-8\"\n\
         stdout_logfile=/srv/log/gunicorn.log\n\
         [program:redis]\ncommand=/usr/bin/redis-server --port 1\n",
    );
    place.file(
        "config/nginx.conf",
        "server {\n  listen 443 ssl;\n  server_name coralnet.example;\n  if (-f @SRV@/maintenance.html) { return 503; }\n}\n",
    );
    place.file("../venv/pyvenv.cfg", "");
    place.commit();
    place
}

#[test]
fn a_site_as_it_is_run_leaves_no_question() {
    let place = coralnet();
    let (findings, text) = place.found();
    assert_eq!(findings.questions, [], "{text}");
    let shown = text.replace(place.directory.path().to_str().unwrap(), "");
    let expected = r#"# How deploykit updates this site. `deploykit init` looked at it and wrote down what it found.
# What stands below NEEDS A PERSON is a guess or a gap: answer it, then remove that comment.
# Relative paths start at this file's directory.
environment = "production"                 # found: the name of the settings

[site]
repository = "."
project = "project"                        # found: project/manage.py
settings = "config.settings.production"    # found: config/supervisor.conf
env = { LANG = "C.UTF-8" }                 # found: config/supervisor.conf

[git]
remote = "origin"                          # found: what the branch follows
branch = "master"                          # found: the branch that is checked out

[python]
virtualenv = "../venv"                     # found: config/supervisor.conf
requirements = ["requirements/production.txt"] # found: the file for this environment

[secrets]                                  # the names that new code asks for are compared with this file
file = "project/config/settings/secrets.json" # found: what project/config/settings/production.py reads, although git tracks it

[static]
collect = "auto"                           # STATIC_ROOT in project/config/settings/base.py: /srv/static_serve

[[services]]                               # found: config/supervisor.conf
name = "gunicorn"
manager = "supervisor"
config = "config/supervisor.conf"
role = "web"
# its manager kills gunicorn's master after 10 s (`stopwaitsecs`) and nothing else (`killasgroup = false`),
# while a request may take 30 s (`graceful-timeout`): a worker may live on with the socket

[[services]]                               # found: config/supervisor.conf
name = "celery"
manager = "supervisor"
config = "config/supervisor.conf"
role = "worker"
stop-timeout = "610s"

[[services]]                               # found: config/supervisor.conf
name = "redis"
manager = "supervisor"
config = "config/supervisor.conf"
role = "required"

[maintenance]                              # maintenanceon and maintenanceoff of project/lib are found by themselves
status-file = "../tmp/maintenance.json"    # found: MAINTENANCE_STATUS_FILE_PATH in project/config/settings/base.py
page = "../maintenance.html"               # found: config/nginx.conf

[smoke]
base = "https://coralnet.example/"         # found: config/nginx.conf
connect = "127.0.0.1:8007"                 # found: supervisor.conf
pages = ["/"]                              # add what must work: { path = "/about/", contains = "About" }

[logs]
gunicorn = "/srv/log/gunicorn.log"
"#;
    snapbox::assert_data_eq!(shown, expected);
    assert!(!text.contains("hunter2"));
}

#[test]
fn it_is_the_same_from_a_directory_below_and_from_the_one_above() {
    let place = coralnet();
    let below = place.site.join("project");
    let findings = look_also_in(&Request::from(below.as_path()), &Host::new(), &[], None).unwrap();
    let table = check(&findings.to_toml(), &findings.questions);
    assert_eq!(table["site"]["repository"].as_str(), Some(".."));
    assert_eq!(table["site"]["project"].as_str(), Some("project"));
    assert_eq!(table["python"]["virtualenv"].as_str(), Some("../../venv"));

    let above = place.site.parent().unwrap();
    let findings = look_also_in(&Request::from(above), &Host::new(), &[], None).unwrap();
    let table = check(&findings.to_toml(), &findings.questions);
    assert_eq!(table["site"]["repository"].as_str(), Some("coralnet"));
    assert_eq!(table["python"]["virtualenv"].as_str(), Some("venv"));
    assert_eq!(table["services"][0]["config"].as_str(), Some("coralnet/config/supervisor.conf"));
}

#[test]
fn looking_changes_nothing_and_writing_never_overwrites() {
    let place = coralnet();
    let listing = || {
        let mut all: Vec<_> = Vec::new();
        let mut directories = vec![place.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                all.push((path.clone(), fs::metadata(&path).unwrap().modified().unwrap()));
                if path.is_dir() {
                    directories.push(path);
                }
            }
        }
        all.sort();
        all
    };
    let before = listing();
    let findings = place.look().unwrap();
    assert_eq!(listing(), before);
    let path = findings.write().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), findings.to_toml());

    fs::write(&path, "mine").unwrap();
    assert!(matches!(findings.write(), Err(InitError::Exists { path: found }) if found == path));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    // Looking and printing is allowed all the same.
    let again = place.look().unwrap();
    assert_eq!(again.to_toml(), findings.to_toml());
    let error = again.write().unwrap_err();
    assert_eq!(error.to_string(), format!("there is a configuration already: `{}`", path.display()));
    // From a directory below it would be found as well.
    let below = look_also_in(&Request::from(&*place.site.join("project")), &Host::new(), &[], None).unwrap();
    assert!(matches!(below.write(), Err(InitError::Exists { .. })));
    assert!(!place.site.join("project/deploykit.toml").exists());
}

#[test]
fn a_fresh_startproject_says_what_is_missing() {
    let place = Place::new("mysite");
    place.file("manage.py", &manage("mysite.settings"));
    place.file("mysite/wsgi.py", "setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\n");
    place.file("mysite/settings.py", "ALLOWED_HOSTS = []\n");
    place.git(&["add", "-A"]);
    place.git(&["commit", "-q", "-m", "first"]);
    let (findings, text) = place.found();
    assert_eq!(findings.settings.value.as_deref(), Some("mysite.settings"));
    let keys: Vec<&str> = findings.questions.iter().map(|question| question.key.as_str()).collect();
    assert_eq!(
        keys,
        ["git.remote", "python.virtualenv", "python.requirements", "services", "smoke.base"],
        "{text}"
    );
}

#[test]
fn what_is_no_site_is_refused_with_the_reason() {
    let place = Place::new("empty");
    let error = place.look().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("there is no `manage.py` in `{}` or up to three directories below it", place.site.display())
    );
    let nowhere = tempfile::tempdir().unwrap();
    let error = look_also_in(&Request::from(nowhere.path()), &Host::new(), &[], None).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is not inside a git checkout", nowhere.path().display()));
    for name in ["a", "b"] {
        fs::create_dir_all(nowhere.path().join(name).join(".git")).unwrap();
    }
    let error = look_also_in(&Request::from(nowhere.path()), &Host::new(), &[], None).unwrap_err();
    assert!(matches!(error, InitError::NotACheckout { checkouts, .. } if checkouts.len() == 2));
    let error =
        look_also_in(&Request::from(&*nowhere.path().join("missing")), &Host::new(), &[], None).unwrap_err();
    assert!(matches!(error, InitError::Read { .. }), "{error}");
}

#[test]
fn odd_names_are_written_so_that_they_are_read_back() {
    for name in
        ["it's \"here\"", "a b#c", "ta\tb\nline", "back\\slash", "é'''\"\"\"x", "[x] = 1", "\u{7f}", "100%"]
    {
        let place = Place::new(name);
        let project = format!("{name} project");
        place.file(&format!("{project}/manage.py"), &manage("x.settings"));
        place.file(
            &format!("{project}/x/settings.py"),
            "ALLOWED_HOSTS = ['x.example']\nSECRET_KEY = get_secret('A')\n",
        );
        place.file(&format!("requirements/{name}.txt"), "");
        place.file(".gitignore", "secrets.json\n");
        place.file(&format!("{project}/secrets.json"), "{}");
        place.file(&format!("../venv {name}/pyvenv.cfg"), "");
        place.commit();
        let (findings, text) = place.found();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["site"]["project"].as_str(), Some(project.as_str()), "{text}");
        assert_eq!(
            table["python"]["virtualenv"].as_str(),
            Some(format!("../venv {name}").as_str()),
            "{text}"
        );
        assert_eq!(
            table["secrets"]["file"].as_str(),
            Some(format!("{project}/secrets.json").as_str()),
            "{text}"
        );
        assert!(findings.questions.iter().all(|question| question.key != "site.project"), "{text}");
    }
}

#[test]
fn a_name_that_is_no_text_is_asked_about() {
    let place = Place::new("site");
    let directory = place.site.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("manage.py"), manage("x.settings")).unwrap();
    let (findings, text) = place.found();
    assert!(findings.questions.iter().any(|question| question.key == "site.project"), "{text}");
}

#[test]
fn a_cancelled_look_ends() {
    let place = coralnet();
    let cancel = deploykit::Cancel::new().unwrap();
    cancel.request();
    let error =
        look_also_in(&Request::from(place.site.as_path()), &Host::new().with_cancel(cancel), &[], None)
            .unwrap_err();
    assert!(matches!(error, InitError::Cancelled { .. }), "{error}");
}
