"""The site that the hosts serve: the demo site of this project, with its rows in a PostgreSQL that the hosts share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from machines import DATABASE, SITE, Host, Postgresql, run

ROOT = Path(__file__).resolve().parents[3]
PYTHON = Path(sys.executable).resolve()
# Long enough for each phase; short enough for the tests.
PAUSE_LIMIT = "25s"

SUPERVISOR = """\
[unix_http_server]
file=/srv/run/supervisor.sock
chmod=0700

[supervisord]
logfile=/srv/log/supervisord.log
pidfile=/srv/run/supervisord.pid
childlogdir=/srv/log
environment=DEMO_DATA="/srv/data",DJANGO_SETTINGS_MODULE="config.settings.production"

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix:///srv/run/supervisor.sock

[program:sshd]
command=/usr/sbin/sshd -D -e -f /srv/etc/sshd_config
autorestart=true
redirect_stderr=true
stdout_logfile=/srv/log/sshd.log

[program:nginx]
command=nginx -e /srv/log/nginx.log -p /srv -c /srv/etc/nginx.conf
redirect_stderr=true
stdout_logfile=/srv/log/nginx-output.log

[program:gunicorn]
command=/srv/venv/bin/gunicorn --no-control-socket --graceful-timeout 5 --workers 1 -b 127.0.0.1:8000 config.wsgi
directory=/srv/site/project
stopwaitsecs=30
startretries=0
redirect_stderr=true
stdout_logfile=/srv/log/gunicorn.log

[program:worker]
command=/srv/venv/bin/python manage.py work
directory=/srv/site/project
stopwaitsecs=60
redirect_stderr=true
stdout_logfile=/srv/log/worker.log
"""

NGINX = """\
user root;
daemon off;
worker_processes 1;
pid /srv/run/nginx.pid;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path /srv/run/body; proxy_temp_path /srv/run/proxy; fastcgi_temp_path /srv/run/fastcgi;
    uwsgi_temp_path /srv/run/uwsgi; scgi_temp_path /srv/run/scgi;
    server {
        listen 80;
        recursive_error_pages on;
        error_page 503 /maintenance.html;
        location = /maintenance.html {
            internal;
            root /srv/www;
            error_page 404 = @page_gone;
        }
        location @page_gone { return 503; }
        location / {
            if (-f /srv/www/maintenance.html) { return 503; }
            proxy_set_header Host $host;
            proxy_pass http://127.0.0.1:8000;
        }
    }
}
"""

# What a test can make fail on one host, by a file with the number of the release.
WSGI = """
from django.conf import settings

_die = settings.DATA / "die"
if _die.exists() and _die.read_text() == __import__("config.release").release.RELEASE:
    os._exit(3)
"""

MIGRATION = """\
from django.conf import settings
from django.db import migrations, models


def fail(apps, schema_editor):
    if (settings.DATA / "fail").exists():
        raise RuntimeError("told to fail")


class Migration(migrations.Migration):
    dependencies = [("guestbook", "{before}")]
    operations = [
        migrations.AddField("entry", "extra_{number}", models.CharField(max_length=9, default="")),
        migrations.RunPython(fail, migrations.RunPython.noop),
    ]
"""

# One that the old version's code does not notice.
ADDITION = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("guestbook", "{before}")]
    operations = [migrations.AddField("entry", "extra_{number}", models.CharField(max_length=9, null=True))]
"""

# The sections of `deploykit.toml` below `[site]`.
SETTINGS = f"""\
[git]
branch = "main"

[python]
virtualenv = "../venv"
requirements = ["requirements/production.txt"]
installer = "uv"
extra-args = ["--no-index", "--find-links=/srv/wheels"]

[secrets]
file = "secrets.json"

[rehearsal]
when = "never"

[[services]]
name = "gunicorn"
manager = "supervisor"
config = "/srv/supervisor.conf"
role = "web"

[[services]]
name = "worker"
manager = "supervisor"
config = "/srv/supervisor.conf"
role = "worker"

[maintenance]
page = "/srv/www/maintenance.html"
notice = "0s"

[smoke]
base = "http://{SITE}/"
connect = "127.0.0.1:8000"
deadline = "10s"
settle = "1s"
pages = [{{ path = "/", contains = "Guestbook" }}]

[logs]
gunicorn = "/srv/log/gunicorn.log"
worker = "/srv/log/worker.log"
"""

# What the role writes.
ROLE = {
    "site_program": "/srv/bin/deploykit",
    "site_virtualenv": "/srv/deploykit",
    "site_directory": "/srv/site",
    "site_user": "root",
    "site_pause_limit": PAUSE_LIMIT,
    "site_keys": {
        "repository": ".",
        "project": "project",
        "settings": "config.settings.production",
        "env": {"DEMO_DATA": "/srv/data", "UV_CACHE_DIR": "/srv/cache"},
    },
    "site_settings": SETTINGS,
}


def has_migration(number: int) -> bool:
    """Every other release brings a migration."""
    return number % 2 == 0


class Site:
    """The remote, its releases, and what every host has at first."""

    def __init__(self, work: Path, tools: Path, database: Postgresql):
        self.work, self.tools, self.database = work, tools, database
        self.origin, self.scratch = work / "origin.git", work / "scratch"
        self.image = work / "image"
        self.commits: dict[str, str] = {}
        self.newest = 1

    def build(self) -> None:
        """Makes the remote, and the files of a host with release 1."""
        for name in ("bin", "data/static", "etc", "log", "run", "www", "cache"):
            (self.image / name).mkdir(parents=True)
        shutil.copytree(ROOT / "examples/demo_site/release-1", self.scratch)
        requirements = self.scratch / "requirements/production.txt"
        requirements.write_text(requirements.read_text() + "psycopg[binary]\n")
        with (self.scratch / "project/config/wsgi.py").open("a") as file:
            file.write(WSGI)
        self.git("init", "-q", "-b", "main")
        self._commit("1")
        run("git", "clone", "-q", "--bare", self.scratch, self.origin)
        self.git("remote", "add", "origin", self.origin)

    def git(self, *args: object) -> str:
        """Runs git in the checkout from which releases are pushed."""
        who = ("-c", "user.name=Demo", "-c", "user.email=demo@example.org")
        return run("git", *who, "-C", self.scratch, *args)

    def _commit(self, release: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"Release {release}")
        self.commits[self.git("rev-parse", "HEAD").strip()] = release

    def publish(self, packages: bool = False, adds: bool = False) -> str:
        """Publishes the next release, and returns it. With `packages`, its virtualenv differs; `adds`: the old code works on its database."""
        self.newest += 1
        number, project = self.newest, self.scratch / "project"
        (project / "config/release.py").write_text(f'RELEASE = "{number}"\n')
        if adds or has_migration(number):
            migration, options = (ADDITION, "null=True") if adds else (MIGRATION, 'default=""')
            before = max((project / "guestbook/migrations").glob("0*.py")).stem
            index = int(before[:4]) + 1
            name = f"{index:04}_extra_{number}.py"
            (project / "guestbook/migrations" / name).write_text(migration.format(before=before, number=number))
            models = (project / "guestbook/models.py").read_text()
            field = f"    extra_{number} = models.CharField(max_length=9, {options})\n\n    class Meta:"
            (project / "guestbook/models.py").write_text(models.replace("\n    class Meta:", field, 1))
        if packages:
            requirements = self.scratch / "requirements/production.txt"
            lines = requirements.read_text().splitlines()
            lines = [line for line in lines if line != "humanize"] if "humanize" in lines else [*lines, "humanize"]
            requirements.write_text("\n".join(lines) + "\n")
        self._commit(str(number))
        self.git("push", "-q", "origin", "HEAD:main")
        return str(number)

    def migrations(self, release: str) -> list[str]:
        """Returns the migrations that a release has."""
        commit = next(commit for commit, name in self.commits.items() if name == release)
        files = self.git("ls-tree", "--name-only", f"{commit}:project/guestbook/migrations").split()
        return sorted(name[:-3] for name in files if name.startswith("0"))

    def environment(self) -> dict[str, str]:
        """Returns the variables with which packages are installed without a network."""
        return {
            "PATH": f"{self.tools}/venv/bin:/srv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(self.tools / "wheels"),
            "UV_CACHE_DIR": "/srv/cache",
            "HOME": "/root",
        }

    def fill(self, hosts: list[Host], key: str) -> None:
        """Makes the first version on every host, and the database."""
        first, image = hosts[0], self.image
        (image / "supervisor.conf").write_text(SUPERVISOR)
        (image / "etc/nginx.conf").write_text(NGINX)
        (image / "etc/authorized_keys").write_text(key)
        path = self.environment()["PATH"]
        (image / "etc/sshd_config").write_text(
            "Port 22\nHostKey /srv/etc/host_key\nAuthorizedKeysFile /srv/etc/authorized_keys\nPidFile none\nStrictModes no\n"
            f"UsePAM no\nUseDNS no\nPasswordAuthentication no\nSetEnv PATH={path}\nSubsystem sftp internal-sftp\n"
            "MaxStartups 50\nMaxSessions 50\nClientAliveInterval 5\nClientAliveCountMax 3\n"
        )
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", image / "etc/host_key")
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": "site", "USER": "postgres", "HOST": DATABASE}
        database["OPTIONS"] = {"connect_timeout": 5, "tcp_user_timeout": 10000}
        (image / "data/database.json").write_text(json.dumps(database))
        self.database.ask("create database site", "postgres")
        shutil.copytree(image, first.disk, dirs_exist_ok=True)
        self._first_version(first)
        for host in hosts[1:]:
            run("cp", "-a", f"{first.disk}/.", host.disk)
        for host in hosts:
            (host.disk / "wheels").symlink_to(self.tools / "wheels")

    def _first_version(self, host: Host) -> None:
        # At the path where it serves.
        script = f"""
set -eu
mount --bind {host.disk} /srv
git clone -q {self.origin} /srv/site
uv venv -q --python {PYTHON} /srv/venv
uv pip install -q --no-index --find-links {self.tools}/wheels --python /srv/venv/bin/python pip -r /srv/site/requirements/production.txt
echo '{{"SECRET_KEY": "not-so-secret-but-long-enough-for-a-test-0123456789"}}' >/srv/site/secrets.json
cd /srv/site/project
/srv/venv/bin/python manage.py migrate -v 0
/srv/venv/bin/python manage.py collectstatic --noinput -v 0
"""
        more = {"DEMO_DATA": "/srv/data", "DJANGO_SETTINGS_MODULE": "config.settings.production"}
        environment = {**os.environ, **self.environment(), **more}
        command = ["unshare", "--mount", "sh", "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
