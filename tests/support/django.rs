//! Small Django sites in temporary directories, on one virtualenv that all tests share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use deploykit::Host;
use deploykit::internal::django::{Project, Session};
use tempfile::TempDir;

use super::database::{Database, Engine};
use super::{program, wheels};

/// A Django project of one app, `shop`, on SQLite.
pub struct Site {
    pub directory: TempDir,
    pub project: Project,
}

const SETTINGS: &str = r#"
import os
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "not-a-real-key"
DEBUG = False
ALLOWED_HOSTS = ["example.org"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3",
    "USER": "someone", "PASSWORD": "hunter22", "HOST": "db.internal"}}
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "www" / "static"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MAINTENANCE_STATUS_FILE_PATH = BASE_DIR / "maintenance.json"
"#;

const MANAGE: &str = r#"
import os
import sys

def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)

if __name__ == "__main__":
    main()
"#;

const WSGI: &str = r#"
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"#;

const MODELS: &str = r#"
from django.db import models

class Item(models.Model):
    name = models.CharField(max_length=50)
"#;

/// The first migration of `shop`.
const INITIAL: &str = r#"
from django.db import migrations, models

class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.CreateModel("Item", [
        ("id", models.BigAutoField(primary_key=True, serialize=False)),
        ("name", models.CharField(max_length=50)),
    ])]
"#;

/// CoralNet's commands as far as FACTS go: a prompt, an exit code of 0 after "no", a JSON file.
const MAINTENANCE_ON: &str = r#"
import datetime
import json
from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("time", nargs="?")
        parser.add_argument("--date")
        parser.add_argument("--message")

    def handle(self, *args, **options):
        naive = datetime.datetime.strptime(options["date"] + " " + options["time"], "%Y-%m-%d %H:%M")
        start = timezone.make_aware(naive)
        answer = input("Is this OK? [yN] ")
        if answer[:1].lower() != "y":
            self.stdout.write("Aborting.")
            return
        with open(settings.MAINTENANCE_STATUS_FILE_PATH, "w") as file:
            json.dump({"timestamp": int(start.timestamp()), "message": options["message"]}, file)
        self.stdout.write("Maintenance mode on.")
"#;

const MAINTENANCE_OFF: &str = r#"
import os
from django.conf import settings
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    def handle(self, *args, **options):
        if os.path.isfile(settings.MAINTENANCE_STATUS_FILE_PATH):
            os.remove(settings.MAINTENANCE_STATUS_FILE_PATH)
        self.stdout.write("Maintenance mode off.")
"#;

/// Returns the Python of a virtualenv with Django, made once and used again by the next run.
pub fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON
        .get_or_init(|| {
            // Another Django than the wheels': for a look at the oldest and newest ones.
            if let Some(python) = std::env::var_os("DEPLOYKIT_TEST_DJANGO") {
                return Some(python.into());
            }
            let (uv, wheels) = (program("uv")?, wheels()?);
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let lock = fs::File::create(directory.join("django.lock")).expect("a lock file");
            lock.lock().expect("the lock");
            let venv = directory.join("django");
            let python = venv.join("bin/python");
            if !python.exists() {
                let mut make = Command::new(&uv);
                run(make.args(["venv", "-q", "--no-config", "--clear", "--python", "python3"]).arg(&venv));
            }
            let mut install = Command::new(&uv);
            // Sessions write no bytecode: without it every test would compile Django.
            install.args(["pip", "install", "-q", "--no-config", "--compile-bytecode", "--no-index"]);
            install.arg("--find-links").arg(wheels).arg("--python").arg(&python);
            install.args(["Django", "psycopg[binary]", "PyMySQL", "whitenoise"]);
            run(&mut install);
            Some(python)
        })
        .as_deref()
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Site {
    /// Makes a site; `None` when Django cannot be installed here.
    pub fn new() -> Option<Site> {
        let python = python()?;
        let temporary = tempfile::tempdir().expect("a temporary directory");
        // Where the temporary directory is a link, Django's own paths are the real ones.
        let directory = temporary.path().canonicalize().expect("it was just made");
        let project = Project::new(python, directory, "config.settings");
        let site = Site { directory: temporary, project };
        site.write("manage.py", MANAGE);
        site.write("config/__init__.py", "");
        site.write("config/settings.py", SETTINGS);
        site.write("config/urls.py", "urlpatterns = []\n");
        site.write("config/wsgi.py", WSGI);
        site.write("shop/__init__.py", "");
        site.write("shop/models.py", MODELS);
        site.write("shop/migrations/__init__.py", "");
        site.write("shop/migrations/0001_initial.py", INITIAL);
        Some(site)
    }

    /// Makes a site with maintenance commands like CoralNet's.
    pub fn with_maintenance(time_zone: &str) -> Option<Site> {
        let site = Site::new()?;
        site.write("shop/management/__init__.py", "");
        site.write("shop/management/commands/__init__.py", "");
        site.write("shop/management/commands/maintenanceon.py", MAINTENANCE_ON);
        site.write("shop/management/commands/maintenanceoff.py", MAINTENANCE_OFF);
        site.append("config/settings.py", &format!("TIME_ZONE = {time_zone:?}\n"));
        Some(site)
    }

    /// Makes a site whose database is on a server.
    pub fn on(database: &Database) -> Option<Site> {
        let site = Site::new()?;
        let driver = match database.engine {
            Engine::PostgreSql => "",
            Engine::MariaDb => "import pymysql\npymysql.install_as_MySQLdb()\n",
        };
        let settings = database.settings();
        site.append("config/settings.py", &format!("{driver}DATABASES = {{'default': {settings}}}\n"));
        Some(site)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.project.directory.join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("within the site")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    pub fn append(&self, name: &str, text: &str) {
        let old = fs::read_to_string(self.path(name)).expect("a file");
        self.write(name, &format!("{old}\n{text}"));
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    /// Adds a migration of `shop` after another one.
    pub fn migration(&self, name: &str, after: &str, attributes: &str, operations: &str) {
        let text = format!(
            "from django.db import migrations, models\n\
             def fail(apps, schema_editor):\n    raise ValueError('the data is odd')\n\
             def fill(apps, schema_editor):\n    apps.get_model('shop', 'Item').objects.update(name='filled')\n\
             def unfill(apps, schema_editor):\n    apps.get_model('shop', 'Item').objects.update(name='empty')\n\
             class Migration(migrations.Migration):\n    dependencies = [('shop', '{after}')]\n    {attributes}\n    \
             operations = [{operations}]\n"
        );
        self.write(&format!("shop/migrations/{name}.py"), &text);
    }

    pub fn boot(&self) -> Session {
        Session::boot(&Host::new(), &self.project).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Runs SQL on the site's database and returns the rows.
    pub fn sql(&self, sql: &str) -> String {
        let script = "import sqlite3, sys\n\
            c = sqlite3.connect(sys.argv[1], timeout=0.2)\n\
            print(c.execute(sys.argv[2]).fetchall())\nc.commit()";
        let output = Command::new(&self.project.python)
            .args(["-c", script])
            .arg(self.path("db.sqlite3"))
            .arg(sql)
            .output()
            .expect("Python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}
