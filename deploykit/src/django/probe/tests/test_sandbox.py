"""A process in a sandbox (`sandbox.py`) changes nothing outside it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from deploykit_probe import sandbox

from .sites import LOADER, MANAGE, program

PACKAGE = Path(sandbox.__file__).parent
ORDINARY = 1234
USERS = [0, ORDINARY] if os.getuid() == 0 else [os.getuid()]

START = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from deploykit_probe import errors, sandbox
try:
    sandbox.enter(json.loads(sys.argv[2]), set())
except errors.Refused as error:
    print(json.dumps(error.fields), flush=True)
    os._exit(3)
exec(sys.argv[3])
"""

# What every script in the sandbox begins with; `SITE` is the directory of the site.
TRIED = """
import ctypes, json, os, signal, socket, sqlite3, subprocess, sys, threading, time
SITE, tried = sys.argv[4], {}
def attempt(name, work, *args):
    try:
        work(*args)
        tried[name] = True
    except OSError as error:
        tried[name] = error.strerror
def write(path, how="w"):
    with open(path, how) as file:
        file.write("the rehearsal's")
def connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(2)
        client.connect(address)
        client.sendall(b"from the rehearsal")
"""


class Listener:
    """A live server that counts its connections."""

    def __init__(self, family: int, address: Any) -> None:
        """Begins to listen."""
        self.came: list[bytes] = []
        self.server = socket.socket(family)
        self.server.bind(address)
        self.server.listen()
        if family == socket.AF_UNIX and not address.startswith("\0"):
            os.chmod(address, 0o777)
        self.address = self.server.getsockname()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        """Accepts connections and datagrams."""
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            with client:
                self.came.append(client.recv(100))


class Site:
    """A live site, and what is staged beside it."""

    def __init__(self, top: Path, user: int) -> None:
        """Lays it out."""
        self.top, self.user = top, user
        self.python = "/usr/bin/python3" if user != os.getuid() else sys.executable
        live, staged = top / "app", top / "next"
        for directory in (
            "data",
            "app/media/old",
            "app/venv/bin",
            "next/shop",
            "static",
            "static-next",
            "uploads/deep",
            "scratch/databases",
            "app/.git/worktrees/next",
        ):
            (top / directory).mkdir(parents=True)
        for name in ("app/manage.py", "app/.env", "app/db.sqlite3", "app/db.sqlite3-wal", "app/site.log", "app/media/photo"):
            (top / name).write_text("live")
        for name in ("app/media/old/one", "app/venv/bin/python", "static/style.css", "uploads/deep/file", "uploads/file"):
            (top / name).write_text("live")
        for name in ("data/db.sqlite3", "data/db.sqlite3-journal"):
            (top / name).write_text("live")
        for name in ("next/manage.py", "next/shop/views.py", "static-next/style.css"):
            (top / name).write_text("staged")
        (top / "app/.git/worktrees/next/HEAD").write_text("live")
        (top / "next/.git").write_text("gitdir: %s/.git/worktrees/next\n" % live)
        (top / "scratch/databases/default").write_text("copy")
        (top / "scratch/databases/data").touch()
        for name in ("media", ".env", "db.sqlite3", "db.sqlite3-wal", "site.log", "venv", "gone"):
            (staged / name).symlink_to(live / name)
        if user != os.getuid():
            # What `uploads` belongs to is no user of the sandbox.
            for path in [top, *top.rglob("*")]:
                os.chown(path, user, 0 if "uploads" in path.parts else user, follow_symlinks=False)
            (top / "uploads").chmod(0o2775)
        self.package = top.parent / "probe"
        shutil.copytree(PACKAGE, self.package / "deploykit_probe", ignore=shutil.ignore_patterns("__pycache__"))
        self.spec: dict[str, Any] = {
            "scratch": str(top / "scratch"),
            "tree": {"live": str(live), "staged": str(staged)},
            "show": [[str(top / "static-next"), str(top / "static")]],
            "files": [
                [str(top / "scratch/databases/default"), str(live / "db.sqlite3")],
                [str(top / "scratch/databases/data"), str(top / "data/db.sqlite3")],
            ],
            "empty": [str(live / "site.log")],
            "writable": [str(top / "uploads")],
            "variables": {"IN_THE_SANDBOX": "yes"},
        }

    def command(self, *argv: str) -> list[str]:
        """Returns a command that is run as the site's user."""
        if self.user == os.getuid():
            return list(argv)
        return ["setpriv", "--reuid=%d" % self.user, "--regid=%d" % self.user, "--clear-groups", *argv]

    def start(self, script: str) -> subprocess.Popen[bytes]:
        """Starts a script in a sandbox."""
        argv = [self.python, "-B", "-c", START, str(self.package), json.dumps(self.spec), TRIED + script, str(self.top)]
        return subprocess.Popen(self.command(*argv), cwd="/", stdout=subprocess.PIPE)

    def run(self, script: str) -> Any:
        """Runs a script, and returns its output."""
        process = self.start(script + "\nprint(json.dumps(tried))")
        out, _ = process.communicate(timeout=60)
        told = json.loads(out)
        assert process.returncode == 0, told
        return told

    def everything(self) -> list[tuple[Any, ...]]:
        """Returns contents and attributes of the live files."""
        places = [self.top / name for name in ("app", "data", "next", "static", "static-next", "uploads")]
        found = []
        for path in [self.top, *places, *(path for place in places for path in place.rglob("*"))]:
            stat = path.lstat()
            times = (stat.st_mtime_ns, stat.st_ctime_ns)
            text = path.read_text() if path.is_file() and not path.is_symlink() else ""
            found.append((str(path), stat.st_mode, stat.st_uid, stat.st_gid, stat.st_ino, *times, text))
        return sorted(found)


@pytest.fixture(params=USERS, ids=lambda user: "root" if user == 0 else "ordinary")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site, of root and of an ordinary user."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        top = Path(directory) / "a,b:c site"
        top.mkdir()
        yield Site(top, request.param)


def processes(marker: str) -> list[int]:
    """Returns the processes whose command line holds a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def until(found: Callable[[], list[int]], count: int) -> list[int]:
    """Waits up to a minute until so many are found, and returns them."""
    deadline = time.monotonic() + 60
    while len(found()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found()


def gone(marker: str) -> bool:
    """Waits until no process is left whose command line holds a text."""
    until = time.monotonic() + 10
    while processes(marker):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_staged_files_appear_at_the_live_paths(site: Site) -> None:
    """The staged code, the live untracked files, the copies of the databases, and empty logs."""
    names = "app/manage.py app/shop/views.py app/.env app/media/photo app/db.sqlite3 app/site.log static/style.css uploads/file"
    told = site.run(
        """
for name in %r.split():
    tried[name] = open(os.path.join(SITE, name)).read()
for name in ("app/gone", "app/db.sqlite3-wal", "data/db.sqlite3-journal"):
    tried[name] = os.path.lexists(os.path.join(SITE, name))
# A journal of the live site does not belong to the copy.
database = sqlite3.connect(SITE + "/data/db.sqlite3", isolation_level=None)
database.execute("PRAGMA journal_mode = wal")
database.execute("CREATE TABLE item (name)")
tried["journal"] = os.path.exists(SITE + "/data/db.sqlite3-wal")
tried["beside the copy"] = os.path.exists(SITE + "/scratch/databases/data-wal")
database.close()
tried["links"] = [name for name in os.listdir(SITE + "/app") if os.path.islink(SITE + "/app/" + name)]
tried["variable"], tried["user"] = os.environ["IN_THE_SANDBOX"], os.getuid()
tried["capabilities"] = open("/proc/self/status").read()
tried["descriptors"] = len(os.listdir("/proc/self/fd"))
"""
        % names
    )
    assert [told[name] for name in names.split()] == ["staged", "staged", "live", "live", "copy", "", "staged", "live"]
    assert (told["app/gone"], told["app/db.sqlite3-wal"], told["links"]) == (False, False, ["db.sqlite3"])
    assert (told["data/db.sqlite3-journal"], told["journal"], told["beside the copy"]) == (False, False, True)
    assert (told["variable"], told["user"], told["descriptors"]) == ("yes", site.user, 4)
    kept = "00000000000000ff" if site.user == 0 else "0000000000000000"
    assert set(re.findall(r"Cap(?:Prm|Eff|Bnd):\s+(\w+)", told["capabilities"])) == {kept}
    assert re.search(r"NoNewPrivs:\s+1", told["capabilities"])


def test_git_finds_the_repository(site: Site) -> None:
    """The staged tree's link to it leads to the live repository, whose place that tree takes; what git writes stays here."""
    before = site.everything()
    told = site.run(
        """
link = open(SITE + "/app/.git").read()
tried["head"] = open(link[len("gitdir: "):].strip() + "/HEAD").read()
attempt("write", write, link[len("gitdir: "):].strip() + "/HEAD")
"""
    )
    assert (told, site.everything()) == ({"head": "live", "write": True}, before)


def test_writing_succeeds_and_changes_nothing(site: Site) -> None:
    """Every kind of change, in the site's directories and in those of the machine."""
    before = site.everything()
    marker = "deploykit-canary-%d" % os.getpid()
    common = ["/tmp", "/var/tmp", "/dev/shm"] + ["/etc", "/usr/lib", "/var/log"] * (site.user == 0)
    told = site.run(
        """
for path in ("app/media/photo", "app/.env", "app/manage.py", "app/site.log", "app/venv/bin/python", "app/db.sqlite3",
             "app/new", "app/shop/new", "static/style.css", "uploads/new", "uploads/deep/new", "uploads/deep/file"):
    attempt(path, write, os.path.join(SITE, path), "a")
attempt("delete", os.remove, SITE + "/uploads/file")
attempt("delete deep", os.remove, SITE + "/uploads/deep/file")
attempt("delete linked", os.remove, SITE + "/app/media/old/one")
attempt("rename", os.rename, SITE + "/app/media/photo", SITE + "/app/media/picture")
import logging.handlers
for _ in range(100):
    # More than one that nobody reads would hold.
    logging.handlers.SysLogHandler("/dev/log").handle(logging.LogRecord("name", 40, "", 0, "text", None, None))
attempt("rotate", os.rename, SITE + "/app/site.log", SITE + "/app/site.log.1")
attempt("empty", os.rmdir, SITE + "/app/media/old")
attempt("again", os.mkdir, SITE + "/app/media/old")
attempt("truncate", os.truncate, SITE + "/app/manage.py", 0)
attempt("chmod", os.chmod, SITE + "/app/.env", 0o600)
attempt("times", os.utime, SITE + "/uploads/deep", (1, 1))
for directory in %r:
    attempt(directory, write, os.path.join(directory, %r))
"""
        % (common, marker)
    )
    assert {name: how for name, how in told.items() if how is not True} == {}
    assert site.everything() == before
    assert not [directory for directory in common if os.path.exists(os.path.join(directory, marker))]
    told = site.run("tried['left'] = [name for name in os.listdir(SITE + '/uploads')]")
    assert sorted(told["left"]) == ["deep", "file"]


def test_nothing_outside_is_reached(site: Site) -> None:
    """Sockets of each kind, signals, shared memory and devices of the live machine are not reached."""
    outside = subprocess.Popen(site.command("sleep", "1000"))
    made = subprocess.check_output(site.command("ipcmk", "-M", "4096")).decode()
    name = "\0" + site.top.parent.name
    listeners = [
        Listener(socket.AF_UNIX, str(site.top / "app/live.sock")),
        Listener(socket.AF_UNIX, str(site.top / "uploads/live.sock")),
        Listener(socket.AF_UNIX, name),
        Listener(socket.AF_INET, ("127.0.0.1", 0)),
    ]
    script = """
attempt("path", connect, socket.AF_UNIX, SITE + "/app/live.sock")
attempt("uploads", connect, socket.AF_UNIX, SITE + "/uploads/live.sock")
attempt("abstract", connect, socket.AF_UNIX, %r)
attempt("tcp", connect, socket.AF_INET, %r)
attempt("elsewhere", connect, socket.AF_INET, ("192.0.2.1", 80))
attempt("signal", os.kill, %d, signal.SIGTERM)
if os.getuid() == 0:
    attempt("kernel", write, "/proc/sys/kernel/domainname")
    attempt("device", os.mknod, "/tmp/disk", 0o60600, os.makedev(254, 0))
    attempt("hostname", socket.sethostname, "other")
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError as error:
    tried["terminal"] = error.strerror
tried["disks"] = [name for name in os.listdir("/dev") if name.startswith(("vd", "sd", "nvme", "loop", "mem", "kmsg"))]
tried["memory"] = len(open("/proc/sysvipc/shm").readlines())
tried["others"] = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) > 2]
""" % (name, listeners[3].address, outside.pid)
    try:
        told = site.run(script)
        assert outside.poll() is None
    finally:
        outside.kill()
        outside.wait()
        subprocess.run(["ipcrm", "-m", made.split()[-1]], check=True)
        for listener in listeners:
            listener.server.close()
    assert told.pop("terminal") == "No such device or address"
    assert (told.pop("disks"), told.pop("memory"), told.pop("others")) == ([], 1, [])
    assert {name: how for name, how in told.items() if how is True} == {}
    assert [listener.came for listener in listeners] == [[], [], [], []]


LEFT = """
subprocess.Popen(["setsid", sys.executable, "-c", "import time; time.sleep(1000)", SITE])
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
"""


def test_descendants_end_with_the_process(site: Site) -> None:
    """A daemon and a thread."""
    process = site.start(LEFT + "print('ready', flush=True); os._exit(7)")
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == (b"ready\n", 7)
    assert gone(str(site.top))


@pytest.mark.parametrize("which", ["the first", "the last"])
def test_a_kill_leaves_nothing(site: Site, which: str) -> None:
    """No process and no mount, whichever process is killed."""
    before, mounts = site.everything(), Path("/proc/self/mountinfo").read_text()
    process = site.start(LEFT + "write(SITE + '/uploads/file'); print('ready', flush=True); time.sleep(1000)")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    # The last one is a program that has been started, and not yet begun on a busy machine.
    sandbox = until(lambda: [pid for pid in processes(str(site.top)) if pid > process.pid], 3)
    os.kill(process.pid if which == "the first" else sorted(sandbox)[1], signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert gone(str(site.top))
    process.stdout.close()
    assert site.everything() == before
    assert Path("/proc/self/mountinfo").read_text() == mounts
    shutil.rmtree(site.top / "scratch")


SERVER = """
import socket, sys
server = socket.socket(socket.AF_INET)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen()
while True:
    client, _ = server.accept()
    try:
        client.sendall(b"the copy")
    except OSError:
        pass
    client.close()
"""


def test_servers_listen_at_the_live_address(site: Site) -> None:
    """The address and the name of another machine lead to a server of the sandbox."""
    server = {
        "argv": [site.python, "-c", SERVER, "192.0.2.7", "5432"],
        "environment": {},
        "user": None,
        "ready": {"tcp": ["192.0.2.7", 5432]},
        "stop": 15,
        "listen": ["192.0.2.7", "2001:db8::7"],
        "hosts": {"db.example.org": "192.0.2.7"},
    }
    site.spec["servers"] = [server]
    script = "tried['said'] = socket.create_connection(('db.example.org', 5432)).recv(100).decode()"
    assert site.run(script) == {"said": "the copy"}
    script = (
        "sandbox.do_stop_servers({})\n"
        "with socket.socket() as client: tried['reached'] = client.connect_ex(('192.0.2.7', 5432)) == 0"
    )
    assert site.run(script) == {"reached": False}
    site.spec["servers"] = [dict(server, argv=[site.python, "-c", "raise SystemExit(5)"])]
    process = site.start("print('no')")
    out, _ = process.communicate(timeout=60)
    assert json.loads(out) == {"kind": "no_sandbox", "reason": "`%s` exited with code 5" % os.path.basename(site.python)}


def test_a_sandbox_is_tried(site: Site) -> None:
    """It can be made here; not in a sandbox, which gives its processes no right to."""
    script = "tried['cannot'] = sandbox.do_try_sandbox({'scratch': SITE + '/scratch'})['cannot']"
    plain = START.replace("sandbox.enter(json.loads(sys.argv[2]), set())", "pass")
    argv = [site.python, "-B", "-c", plain, str(site.package), "", TRIED + script + "\nprint(json.dumps(tried))", str(site.top)]
    assert json.loads(subprocess.check_output(site.command(*argv))) == {"cannot": None}
    assert os.listdir(site.top / "scratch") == ["databases"]
    if site.user == 0:
        told = site.run(script)
        assert told == {"cannot": "root may not mount here (a container, or a service that systemd restricts)"}


SETTINGS = """
import os
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY, USE_TZ, INSTALLED_APPS = "secret", True, ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
"""

MIGRATION = """
import os, pathlib, signal, socket, subprocess, threading
from django.conf import settings
from django.db import migrations, models

def reach_out(apps, schema_editor):
    uploads = settings.BASE_DIR.parent / "uploads"
    (uploads / "file").unlink()
    (uploads / "new").write_text("new")
    (settings.BASE_DIR / ".env").write_text("new")
    for path in ("/etc", "/tmp", "/var/tmp") if os.getuid() == 0 else ("/tmp", "/var/tmp"):
        pathlib.Path(path, %(marker)r).write_text("new")
    for family, address in ((socket.AF_UNIX, %(abstract)r), (socket.AF_INET, %(tcp)r)):
        with socket.socket(family) as client:
            if not client.connect_ex(address):
                client.sendall(b"from the rehearsal")
    try:
        os.kill(%(pid)d, signal.SIGKILL)
    except ProcessLookupError:
        pass
    subprocess.Popen(["setsid", "sleep", "1000", str(uploads)])
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    apps.get_model("shop", "Thing").objects.create(name="from the rehearsal")

class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel("Thing", [("id", models.AutoField(primary_key=True)), ("name", models.TextField())]),
        migrations.RunPython(reach_out),
    ]
"""


def test_a_migration_runs_in_the_sandbox(tmp_path: Path, packages: Path) -> None:
    """With a real Django: it changes the copy of the database, and neither the live site nor the machine."""
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site", os.getuid())
    outside = subprocess.Popen(["sleep", "1000"])
    listeners = [Listener(socket.AF_UNIX, "\0" + str(tmp_path)), Listener(socket.AF_INET, ("127.0.0.1", 0))]
    live: dict[str, Any] = {"marker": "deploykit-%d" % os.getpid(), "pid": outside.pid}
    live.update(abstract=listeners[0].address.decode(), tcp=listeners[1].address)
    files = {"manage.py": MANAGE, "config/settings.py": SETTINGS, "shop/migrations/0001_initial.py": MIGRATION % live}
    for name in ("config/__init__.py", "shop/__init__.py", "shop/migrations/__init__.py", "shop/models.py"):
        files[name] = ""
    for name, text in files.items():
        (site.top / "next" / name).parent.mkdir(parents=True, exist_ok=True)
        (site.top / "next" / name).write_text(text)
    copy = site.top / "scratch/databases/default"
    copy.write_text("")
    before = site.everything()
    migrate = {"do": "migrate", "database": "default", "applied": [], "plan": [{"app": "shop", "name": "0001_initial"}]}
    configuration = {"directory": str(site.top / "app"), "limit": 60, "sandbox": site.spec}
    environment = dict(os.environ, PYTHONPATH=str(packages), PYTHONDONTWRITEBYTECODE="1")
    process = subprocess.Popen([sys.executable, "-c", LOADER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = process.communicate("".join(json.dumps(line) + "\n" for line in (program(), configuration, migrate)).encode(), 60)
    answers = [json.loads(line) for line in out.decode().splitlines() if line]
    assert (answers[0], answers[-1], process.returncode) == ({"ok": {"pid": 2}}, {"ok": {}}, 0)
    with contextlib.closing(sqlite3.connect(str(copy))) as database:
        assert database.execute("SELECT name FROM shop_thing").fetchall() == [("from the rehearsal",)]
    assert gone(str(site.top / "uploads"))
    assert outside.poll() is None
    outside.kill()
    outside.wait()
    for listener in listeners:
        listener.server.close()
    assert [listener.came for listener in listeners] == [[], []]
    assert not [path for path in ("/etc", "/tmp", "/var/tmp") if os.path.exists(os.path.join(path, live["marker"]))]
    assert site.everything() == before
