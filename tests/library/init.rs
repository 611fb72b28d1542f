//! `init` looks at realistic checkouts, made with the real git, and writes a configuration.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use deploykit::Host;
use deploykit::init::{
    Findings, FoundMaintenance, FoundManager, FoundRole, InitError, Question, look_also_in,
};

use deploykit::site::{Config, ConfigError};

use crate::support;

/// A folder that holds a checkout with its surroundings, and a place for what would be in `/etc`.
struct Place {
    folder: tempfile::TempDir,
    site: PathBuf,
}

impl Place {
    fn new(name: &str) -> Option<Self> {
        support::program("git")?;
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("srv").join(name);
        fs::create_dir_all(&site).unwrap();
        let place = Place { folder, site };
        place.git(&["init", "-q", "-b", "master"]);
        Some(place)
    }

    fn git(&self, args: &[&str]) {
        let output = Command::new("git")
            .current_dir(&self.site)
            .args(args)
            .env("HOME", self.folder.path())
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
        let origin = self.folder.path().join("origin.git");
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
        self.folder.path().join("etc")
    }

    fn look(&self) -> Result<Findings, InitError> {
        look_also_in(&self.site, &Host::new(), &[self.elsewhere()])
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
        let text = findings.to_toml(&self.site);
        check(&text, &findings.questions);
        self.check_is_read(&text, &findings.questions);
        (findings, text)
    }
}

/// What holds for every file that is written.
fn check(text: &str, questions: &[Question]) -> toml::Table {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() <= 90, "{} lines:\n{text}", lines.len());
    let marked = lines.iter().filter(|line| line.starts_with("# NEEDS A PERSON: ")).count();
    assert_eq!(marked, questions.len(), "{questions:?}\n{text}");
    for question in questions {
        let line = lines[question.line.unwrap() - 1];
        let key = question.key.rsplit('.').next().unwrap();
        assert!(line.contains(key), "{question:?} is not about `{line}`\n{text}");
    }
    let known = [
        ("", "environment site git python secrets static services maintenance smoke logs"),
        ("site", "repository project settings env env-file"),
        ("git", "remote branch"),
        ("python", "virtualenv requirements"),
        ("secrets", "file pattern"),
        ("static", "collect"),
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

fn coralnet() -> Option<Place> {
    let place = Place::new("coralnet")?;
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
        "server {\n  server_name coralnet.example;\n  if (-f @SRV@/maintenance.html) { return 503; }\n}\n",
    );
    place.file("../venv/pyvenv.cfg", "");
    place.commit();
    Some(place)
}

#[test]
fn a_site_as_it_is_run_leaves_no_question() {
    let Some(place) = coralnet() else { return };
    let (findings, text) = place.found();
    assert_eq!(findings.questions, [], "{text}");
    let shown = text.replace(place.folder.path().to_str().unwrap(), "");
    let expected = r#"# How deploykit updates this site. `deploykit init` looked at it and wrote down what it found.
# What stands below NEEDS A PERSON is a guess or a gap. Relative paths start at this file's folder.
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
file = "project/config/settings/secrets.json" # found: what project/config/settings/production.py reads

[static]
collect = "auto"                           # STATIC_ROOT in project/config/settings/base.py: /srv/static_serve

[[services]]                               # found: config/supervisor.conf
name = "gunicorn"
manager = "supervisor"
config = "config/supervisor.conf"
role = "web"

[[services]]                               # found: config/supervisor.conf
name = "celery"
manager = "supervisor"
config = "config/supervisor.conf"
role = "worker"
stop-timeout = "605s"                      # its manager may wait that long

[[services]]                               # found: config/supervisor.conf
name = "redis"
manager = "supervisor"
config = "config/supervisor.conf"
role = "required"

[maintenance]                              # maintenanceon and maintenanceoff of project/lib are found by themselves
status-file = "../tmp/maintenance.json"    # found: MAINTENANCE_STATUS_FILE_PATH in project/config/settings/base.py
page = "../maintenance.html"               # found: config/nginx.conf

[smoke]
base = "https://coralnet.example/"         # found: project/config/settings/production.py
connect = "127.0.0.1:8007"                 # found: supervisor.conf
pages = ["/"]                              # add what must work: { path = "/about/", contains = "About" }

[logs]
gunicorn = "/srv/log/gunicorn.log"
"#;
    snapbox::assert_data_eq!(shown, expected);
    assert!(!text.contains("hunter2"));
}

#[test]
fn it_is_the_same_from_a_folder_below_and_from_the_one_above() {
    let Some(place) = coralnet() else { return };
    let below = place.site.join("project");
    let findings = look_also_in(&below, &Host::new(), &[]).unwrap();
    let table = check(&findings.to_toml(&below), &findings.questions);
    assert_eq!(table["site"]["repository"].as_str(), Some(".."));
    assert_eq!(table["site"]["project"].as_str(), Some("project"));
    assert_eq!(table["python"]["virtualenv"].as_str(), Some("../../venv"));

    let above = place.site.parent().unwrap();
    let findings = look_also_in(above, &Host::new(), &[]).unwrap();
    let table = check(&findings.to_toml(above), &findings.questions);
    assert_eq!(table["site"]["repository"].as_str(), Some("coralnet"));
    assert_eq!(table["python"]["virtualenv"].as_str(), Some("venv"));
    assert_eq!(table["services"][0]["config"].as_str(), Some("coralnet/config/supervisor.conf"));
}

#[test]
fn looking_changes_nothing_and_writing_never_overwrites() {
    let Some(place) = coralnet() else { return };
    let listing = || {
        let mut all: Vec<_> = Vec::new();
        let mut folders = vec![place.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                all.push((path.clone(), fs::metadata(&path).unwrap().modified().unwrap()));
                if path.is_dir() {
                    folders.push(path);
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
    assert_eq!(fs::read_to_string(&path).unwrap(), findings.to_toml(&place.site));

    fs::write(&path, "mine").unwrap();
    assert!(matches!(findings.write(), Err(InitError::Exists { path: found }) if found == path));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    let error = place.look().unwrap_err();
    assert_eq!(error.to_string(), format!("there is a configuration already: `{}`", path.display()));
    // From a folder below it would be found as well.
    assert!(matches!(
        look_also_in(&place.site.join("project"), &Host::new(), &[]),
        Err(InitError::Exists { .. })
    ));
}

#[test]
fn a_fresh_startproject_says_what_is_missing() {
    let Some(place) = Place::new("mysite") else { return };
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
fn a_project_below_src_with_units_and_an_env_file() {
    let Some(place) = Place::new("shop") else { return };
    place.file("src/manage.py", &manage("shop.settings"));
    place.file("src/shop/wsgi.py", "setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n");
    place.file(
        "src/shop/settings.py",
        "SECRET_KEY = env('SECRET_KEY')\nDEBUG = env.bool('DEBUG', default=False)\nALLOWED_HOSTS = env.list('HOSTS')\n",
    );
    place.file("requirements.txt", "Django\n");
    place.file("requirements-dev.txt", "pytest\n");
    place.file(".env", "SECRET_KEY=hunter2\nexport HOSTS='localhost,shop.example'\n");
    place.file(".venv/pyvenv.cfg", "");
    place.file(
        "../../etc/shop.service",
        "[Service]\nWorkingDirectory=@SITE@/src\nEnvironmentFile=@SITE@/.env\n\
         ExecStart=@SITE@/.venv/bin/gunicorn shop.wsgi\n",
    );
    place.file("../../etc/shop.socket", "[Socket]\nListenStream=/run/shop.sock\n");
    place.file(
        "../../etc/other.service",
        "[Service]\nWorkingDirectory=/srv/other\nExecStart=/srv/other/bin/gunicorn x\n",
    );
    place.commit();
    let (findings, text) = place.found();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(findings.questions, [], "{text}");
    assert_eq!(table["site"]["project"].as_str(), Some("src"));
    assert_eq!(table["site"]["env-file"].as_str(), Some(".env"));
    assert_eq!(table["python"]["virtualenv"].as_str(), Some(".venv"));
    assert_eq!(table["python"]["requirements"][0].as_str(), Some("requirements.txt"));
    assert_eq!(table["smoke"]["base"].as_str(), Some("https://shop.example/"));
    assert_eq!(table["smoke"]["connect"].as_str(), Some("unix:/run/shop.sock"));
    let services = table["services"].as_array().unwrap();
    assert_eq!(services.len(), 1, "{text}");
    assert_eq!(services[0]["stop"].as_array().unwrap().len(), 4, "the socket stops as well: {text}");
    assert_eq!(services[0]["stop-timeout"].as_str(), Some("95s"));
    let pattern = regex::Regex::new(table["secrets"]["pattern"].as_str().unwrap()).unwrap();
    let asks = |code: &str| pattern.captures(code).map(|found| found[1].to_owned());
    assert_eq!(asks("env('SECRET_KEY')").as_deref(), Some("SECRET_KEY"));
    assert_eq!(asks("env.str( \"TOKEN\", )").as_deref(), Some("TOKEN"));
    assert_eq!(asks("env.bool('DEBUG', default=False)"), None);
    assert!(!text.contains("hunter2"));
}

#[test]
fn one_settings_module_for_every_environment_is_understood() {
    let Some(place) = Place::new("coralnet") else { return };
    place.file("project/manage.py", &manage("config.settings"));
    place.file(
        "project/config/settings.py",
        "REPO_DIR = Path(__file__).resolve().parent.parent.parent\nCoralNetEnv.read_env(REPO_DIR / '.env')\n\
         SITE_DIR = env.path('SITE_DIR', default=REPO_DIR.parent)\nSTATIC_ROOT = SITE_DIR / 'static_serve'\n\
         KEY = env('SECRET_KEY')\nTIME_ZONE = env('TIME_ZONE', default='UTC')\n",
    );
    place.file(".env", "SETTINGS_BASE=staging\nSECRET_KEY=hunter2\n");
    for name in ["local", "staging", "production"] {
        place.file(&format!("requirements/{name}.txt"), "Django\n");
    }
    place.commit();
    let (findings, text) = place.found();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["environment"].as_str(), Some("staging"));
    assert_eq!(table["python"]["requirements"][0].as_str(), Some("requirements/staging.txt"));
    assert_eq!(table["secrets"]["file"].as_str(), Some(".env"));
    assert_eq!(findings.env_file.value, None, "the settings read it by themselves: {text}");
    let root = place.site.parent().unwrap().join("static_serve");
    assert_eq!(findings.static_root.value.as_deref(), root.to_str());
    assert!(!text.contains("hunter2"));
}

#[test]
fn of_two_projects_the_one_that_the_services_run_is_the_sites() {
    let Some(place) = Place::new("two") else { return };
    place.file("a/manage.py", &manage("a.settings"));
    place.file("b/manage.py", &manage("b.settings"));
    place.file("a/a/settings.py", "");
    place.file("b/b/settings.py", "");
    place.file("tests/manage.py", &manage("t.settings"));
    place.commit();
    let (findings, text) = place.found();
    let asked = &findings.questions[0];
    assert_eq!((asked.key.as_str(), asked.line), ("site.project", Some(8)), "{text}");
    assert_eq!(asked.why, "which project is the site's? there are `a/manage.py`, `b/manage.py`");

    place.file("../../etc/two.conf", "[program:web]\ncommand=/usr/bin/gunicorn b.wsgi\ndirectory=@SITE@/b\n");
    let (findings, text) = place.found();
    assert_eq!(findings.project.value, Some(place.site.join("b")), "{text}");
    assert_eq!(findings.settings.value.as_deref(), Some("b.settings"));
    // The supervisord that runs the program is not known.
    assert_eq!(
        findings.questions.iter().filter(|question| question.key == "services.web.config").count(),
        1,
        "{text}"
    );
}

#[test]
fn programs_of_other_sites_are_left_out() {
    let Some(place) = coralnet() else { return };
    fs::remove_dir_all(place.site.join("config")).unwrap();
    place.file("../other/venv/pyvenv.cfg", "");
    place.file(
        "../../etc/supervisord.conf",
        "[inet_http_server]\nport=127.0.0.1:9001\n[include]\nfiles = conf.d/*.conf\n",
    );
    place.file(
        "../../etc/conf.d/sites.conf",
        "[program:other]\ncommand=@SRV@/other/venv/bin/gunicorn x\ndirectory=@SRV@/other\n\
         [program:coralnet2]\ncommand=/usr/bin/gunicorn x\ndirectory=@SRV@/coralnet2\n\
         [program:web]\ncommand=@SRV@/venv/bin/gunicorn config.wsgi -b unix:@SRV@/web.sock\n\
         [program:huey]\ncommand=@SRV@/venv/bin/python manage.py run_huey\ndirectory=@SITE@/project\n\
         [group:coralnet]\nprograms=web,huey\n",
    );
    let (findings, text) = place.found();
    let names: Vec<(&str, FoundRole)> =
        findings.services.iter().map(|service| (service.name.as_str(), service.role)).collect();
    assert_eq!(names, [("web", FoundRole::Web), ("huey", FoundRole::Worker)], "{text}");
    let FoundManager::Supervisor { config, program } = &findings.services[0].manager else {
        panic!("{text}")
    };
    assert_eq!(config.as_deref(), Some(place.elsewhere().join("supervisord.conf").as_path()));
    assert_eq!(program.as_deref(), Some("coralnet:web"));
    let socket = format!("unix:{}", place.site.parent().unwrap().join("web.sock").display());
    assert_eq!(findings.connect.value, Some(socket));
    assert_eq!(findings.maintenance.value, Some(FoundMaintenance::Own));
}

#[test]
fn a_start_script_tells_where_gunicorn_listens() {
    let Some(place) = Place::new("site") else { return };
    place.file("manage.py", &manage("site.settings"));
    place.file("site/settings.py", "ALLOWED_HOSTS = ['.example.com']\n");
    place.file("bin/start", "#!/bin/bash\nSOCK=@SITE@/run/g.sock\nsource @SRV@/env/bin/activate\nexec gunicorn x \\\n -b unix:$SOCK\n");
    place.file("../env/pyvenv.cfg", "");
    place.file("../unused/pyvenv.cfg", "");
    place.file(
        "deploy/supervisor.conf",
        "[inet_http_server]\nport=:1\n[program:site]\ncommand=@SITE@/bin/start\n",
    );
    place.commit();
    let (findings, text) = place.found();
    assert_eq!(
        findings.connect.value,
        Some(format!("unix:{}", place.site.join("run/g.sock").display())),
        "{text}"
    );
    assert_eq!(findings.virtualenv.value, Some(place.site.parent().unwrap().join("env")));
    assert_eq!(findings.base.value.as_deref(), Some("https://example.com/"));
    assert_eq!(findings.services[0].role, FoundRole::Web);
}

#[test]
fn a_page_without_an_address_behind_it_waits_for_a_person() {
    let Some(place) = coralnet() else { return };
    fs::remove_file(place.site.join("config/supervisor.conf")).unwrap();
    let (findings, text) = place.found();
    let keys: Vec<&str> = findings.questions.iter().map(|question| question.key.as_str()).collect();
    assert_eq!(keys, ["services", "maintenance.page"], "{text}");
    assert!(text.contains("\n# page = \"../maintenance.html\"\n"), "{text}");
    assert_eq!(
        findings.settings.value.as_deref(),
        Some("config.settings.production"),
        "production comes first"
    );
}

#[test]
fn what_is_no_site_is_refused_with_the_reason() {
    let Some(place) = Place::new("empty") else { return };
    let error = place.look().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("there is no `manage.py` in `{}` or up to three folders below it", place.site.display())
    );
    let nowhere = tempfile::tempdir().unwrap();
    let error = look_also_in(nowhere.path(), &Host::new(), &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is not inside a git checkout", nowhere.path().display()));
    for name in ["a", "b"] {
        fs::create_dir_all(nowhere.path().join(name).join(".git")).unwrap();
    }
    let error = look_also_in(nowhere.path(), &Host::new(), &[]).unwrap_err();
    assert!(matches!(error, InitError::NotACheckout { checkouts, .. } if checkouts.len() == 2));
    let error = look_also_in(&nowhere.path().join("missing"), &Host::new(), &[]).unwrap_err();
    assert!(matches!(error, InitError::Read { .. }), "{error}");
}

#[test]
fn odd_names_are_written_so_that_they_are_read_back() {
    for name in
        ["it's \"here\"", "a b#c", "ta\tb\nline", "back\\slash", "é'''\"\"\"x", "[x] = 1", "\u{7f}", "100%"]
    {
        let Some(place) = Place::new(name) else { return };
        let project = format!("{name} project");
        place.file(&format!("{project}/manage.py"), &manage("x.settings"));
        place.file(
            &format!("{project}/x/settings.py"),
            "ALLOWED_HOSTS = ['x.example']\nSECRET_KEY = get_secret('A')\n",
        );
        place.file(&format!("requirements/{name}.txt"), "");
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
    let Some(place) = Place::new("site") else { return };
    let folder = place.site.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("manage.py"), manage("x.settings")).unwrap();
    let (findings, text) = place.found();
    assert!(findings.questions.iter().any(|question| question.key == "site.project"), "{text}");
}

#[test]
fn a_cancelled_look_ends() {
    let Some(place) = coralnet() else { return };
    let cancel = deploykit::Cancel::new().unwrap();
    cancel.request();
    let error = look_also_in(Path::new(&place.site), &Host::new().with_cancel(cancel), &[]).unwrap_err();
    assert!(matches!(error, InitError::Cancelled { .. }), "{error}");
}
