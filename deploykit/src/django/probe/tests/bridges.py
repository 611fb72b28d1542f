"""A site whose web is a real server on a held socket, and bridges to its new version."""

from __future__ import annotations

import contextlib
import json
import os
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

from deploykit_probe import kernel

from .sites import LOADER, program

ORDINARY = 1234
USERS = [0, ORDINARY] if os.getuid() == 0 else [os.getuid()]
HEADER = "X-Deploykit-Bridge"
# Of these tests; CI may lower its priority.
OWN_NICE = os.getpriority(os.PRIO_PROCESS, 0)

SETTINGS = """
import os
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY, USE_TZ, DEBUG, ALLOWED_HOSTS = "secret", True, False, ["*"]
INSTALLED_APPS, MIDDLEWARE, ROOT_URLCONF = [], [], "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
STATIC_ROOT = BASE_DIR / "collected"
STYLE = (STATIC_ROOT / "style.css").read_text()
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / path, "OPTIONS": {"timeout": 20}}
    for name, path in (("default", "db.sqlite3"), ("deep", "state/deep/db.sqlite3"))
}
"""

URLS = """
import json, os, sys, threading, time
from django.conf import settings
from django.db import connections
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from config.version import VERSION

def facts(request):
    return JsonResponse({
        "version": VERSION,
        "pid": os.getpid(),
        "master": os.getppid(),
        "directory": os.getcwd(),
        "base": str(settings.BASE_DIR),
        "file": __file__,
        "style": settings.STYLE,
        "cores": len(os.sched_getaffinity(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    })

def write(request):
    for name in ("default", "deep"):
        with connections[name].cursor() as cursor:
            cursor.execute("INSERT INTO item VALUES (%s)", [VERSION])
    return HttpResponse(VERSION)

def upload(request):
    (settings.BASE_DIR / "uploads" / VERSION).write_text("uploaded")
    return HttpResponse(VERSION)

def slow(request):
    (settings.BASE_DIR / "uploads" / "slow").touch()
    while not (settings.BASE_DIR / "uploads" / "go-on").exists():
        time.sleep(0.01)
    return HttpResponse(VERSION)

def stream(request):
    return StreamingHttpResponse(iter([VERSION] * 3))

def fail(request):
    raise ValueError("always")

urlpatterns = [path(view.__name__ + "/", view) for view in (facts, write, upload, slow, stream, fail)]
"""

WSGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""

ASGI = WSGI.replace("wsgi", "asgi")

# Starts a program as systemd does: with the sockets of its arguments.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""

# Holds a socket for a program as `deploykit hold-socket` does, and hands it over.
HOLD = """
import array, os, socket, subprocess, sys
number = int(sys.argv[1])
control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
control.bind("\\0deploykit-hold-socket-%d" % os.getpid())
control.listen()
main = subprocess.Popen(sys.argv[2:], pass_fds=[number])
print(main.pid, flush=True)
asked, _ = control.accept()
asked.sendmsg([b"127.0.0.1:8000"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [number]))])
asked.close()
main.wait()
"""


def until(found: Callable[[], Any], what: str) -> Any:
    """Waits up to a minute until something is found, and returns it."""
    deadline = time.monotonic() + 60
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Site:
    """A live site with its staged tree, and its processes."""

    def __init__(self, top: Path, user: int, packages: Path) -> None:
        """Lays it out."""
        self.top, self.user, self.packages = top, user, packages
        self.python = "/usr/bin/python3" if user != os.getuid() else sys.executable
        self.live, self.state = top / "app", top / "app/.deploykit"
        self.staged, self.directory = self.state / "staged", self.state / "bridge"
        self.server, self.worker_class, self.application = "gunicorn", "sync", "config.wsgi"
        self.arguments = ["--workers", "2"]
        self.activated = False
        self.started: list[subprocess.Popen[bytes]] = []
        for directory in ("uploads", "collected", ".deploykit/bridge", ".deploykit/static"):
            (self.live / directory).mkdir(parents=True)
        for tree, version in ((self.live, "old"), (self.staged, "new")):
            for name, text in (("settings", SETTINGS), ("urls", URLS), ("wsgi", WSGI), ("asgi", ASGI)):
                self.write(tree / "config" / (name + ".py"), text)
            self.write(tree / "config/version.py", "VERSION = %r\n" % version)
            self.write(tree / "config/__init__.py", "")
            self.write(tree / "state/deep/.gitkeep", "")
        self.write(self.live / "collected/style.css", "old")
        self.write(self.state / "static/style.css", "new")
        for name in ("db.sqlite3", "state/deep/db.sqlite3"):
            with contextlib.closing(sqlite3.connect(str(self.live / name))) as database:
                database.execute("CREATE TABLE item (name)")
        for name in ("db.sqlite3", "state/deep/db.sqlite3", "uploads", "collected"):
            (self.staged / name).symlink_to(self.live / name)
        self.directory.chmod(0o700)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.environment = {"DJANGO_SETTINGS_MODULE": "config.settings", "NOTIFY_SOCKET": "/nowhere", "GUNICORN_PID": "1"}
        # What begins the command line of a bridge.
        self.prefix: list[str] = []

    def write(self, path: Path, text: str) -> None:
        """Writes a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def own(self) -> None:
        """Gives everything to the user."""
        if self.user != os.getuid():
            for path in [self.top, *self.top.rglob("*")]:
                os.chown(path, self.user, self.user, follow_symlinks=False)

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a program as the site's user."""
        command = list(argv)
        if self.user != os.getuid():
            command = ["setpriv", "--reuid=%d" % self.user, "--regid=%d" % self.user, "--clear-groups", *command]
        environment = dict(os.environ, PYTHONPATH=str(self.packages), **options.pop("env", {}))
        process = subprocess.Popen(command, env=environment, **options)
        self.started.append(process)
        return process

    def argv(self) -> list[str]:
        """Returns the arguments of the server."""
        number = 3 if self.activated else self.listener.fileno()
        if self.server == "uvicorn":
            return [*self.arguments, "--fd", str(number), self.application]
        pidfile = str(self.top / "web.pid")
        bind = ["-b", "fd://%d" % number, "-p", pidfile]
        if self.server == "hypercorn":
            return [*self.arguments, *bind, self.application]
        return [*self.arguments, "-k", self.worker_class, *bind[2 if self.activated else 0 :], self.application]

    def start_web(self, *by: str) -> subprocess.Popen[bytes]:
        """Starts the web, possibly by a program, and waits until it serves."""
        number = str(self.listener.fileno())
        activate = [self.python, "-c", ACTIVATE, number] if self.activated else []
        argv = [*by, *activate, self.python, "-B", "-m", self.server, *self.argv()]
        log = (self.top / "web.log").open("ab")
        self.web = self.start(*argv, cwd=self.live, pass_fds=[self.listener.fileno()], stdout=log, stderr=log)
        log.close()
        assert Page(self, "/facts/").body
        return self.web

    def spec(self, **changed: Any) -> dict[str, Any]:
        """Returns what a bridge is told."""
        owner = self.start("sleep", "1000")
        self.owner = owner
        spec = {
            "directory": str(self.directory),
            "main": self.web.pid,
            "server": self.server,
            "argv": self.argv(),
            "is_module": True,
            "cwd": str(self.live),
            "umask": 0o022,
            "nofile": [256, 512],
            "tree": [str(self.staged), str(self.live)],
            "show": [[str(self.state / "static"), str(self.live / "collected")], [str(self.state), str(self.state)]],
            "owner": [owner.pid, kernel.started(owner.pid)],
            "header": HEADER,
            "python": self.python,
            "virtualenv": None,
        }
        return dict(spec, **changed)

    def start_bridge(self, spec: dict[str, Any] | None = None) -> subprocess.Popen[bytes]:
        """Starts a bridge."""
        log = (self.directory / "log").open("ab")
        self.own()
        given = tempfile.TemporaryFile()
        lines = (json.dumps(program()), json.dumps({"bridge": spec or self.spec()}))
        given.write("".join(line + "\n" for line in lines).encode())
        given.seek(0)
        self.bridge = self.start(
            *self.prefix,
            self.python,
            "-c",
            LOADER,
            cwd=self.directory,
            env=self.environment,
            stdin=given,
            stdout=log,
            stderr=log,
        )
        log.close()
        given.close()
        return self.bridge

    def log(self) -> str:
        """Returns what the bridge wrote."""
        return (self.directory / "log").read_text()

    def ready(self) -> list[dict[str, Any]]:
        """Waits until every worker of the bridge waits, and returns what they say."""

        def all_of_them() -> list[dict[str, Any]]:
            """Returns what they say if none is missing."""
            assert self.bridge.poll() is None, self.log()
            found = [json.loads(path.read_text()) for path in (self.directory / "ready").glob("*[0-9]")]
            return found if found and len(found) >= found[0]["workers"] else []

        found: list[dict[str, Any]] = until(all_of_them, "the workers wait")
        return found

    def open_gate(self) -> None:
        """Opens the gate."""
        (self.directory / "gate.new").write_text("")
        (self.directory / "gate.new").rename(self.directory / "gate")

    def take_over(self) -> None:
        """Lets the bridge serve in the place of the web."""
        self.ready()
        # uvicorn signals itself in the end.
        assert self.stop(self.web) in (0, -signal.SIGTERM)
        self.switch()
        self.open_gate()
        until((self.directory / "free").exists, "the view is gone")

    def failure(self) -> str:
        """Waits until the bridge has failed, and returns why."""
        self.bridge.wait(timeout=60)
        until(lambda: not self.processes(), "no process is left")
        reason: str = json.loads((self.directory / "failed").read_text())["reason"]
        return reason

    def files(self) -> list[str]:
        """Returns all files but those of the bridge."""
        found = [path for path in self.top.rglob("*") if self.directory not in path.parents]
        return sorted(str(path.relative_to(self.top)) for path in found)

    def switch(self) -> None:
        """Makes the staged files the live ones."""
        shutil.copyfile(self.staged / "config/version.py", self.live / "config/version.py")
        shutil.copyfile(self.state / "static/style.css", self.live / "collected/style.css")

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """Stops a process."""
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=60)

    def rows(self, name: str) -> list[str]:
        """Returns the rows of a database."""
        with contextlib.closing(sqlite3.connect(str(self.live / name))) as database:
            return [row[0] for row in database.execute("SELECT name FROM item")]

    def processes(self) -> list[int]:
        """Returns the processes of the bridge."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getpgid(int(path.name)) == self.bridge.pid:
                    found.append(int(path.name))
        return found

    def end(self) -> None:
        """Ends what runs."""
        if hasattr(self, "bridge"):
            print(self.log())
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(timeout=60)
        self.listener.close()


class Page:
    """An answer of the site."""

    def __init__(self, site: Site, target: str) -> None:
        """Asks for it."""
        self.target = target
        self.connection = socket.socket(site.listener.family)
        self.connection.settimeout(60)
        self.connection.connect(site.listener.getsockname())
        self.connection.sendall(b"GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" % target.encode())
        self.text = b""

    def has_come(self) -> bool:
        """Tells whether the answer has begun."""
        self.connection.setblocking(False)
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self.connection.settimeout(60)

    def read(self) -> str:
        """Returns the whole answer."""
        if not self.text:
            with self.connection:
                while True:
                    data = self.connection.recv(65536)
                    if not data:
                        break
                    self.text += data
        return self.text.decode()

    @property
    def body(self) -> str:
        """Returns the body."""
        head, _, body = self.read().partition("\r\n\r\n")
        assert head.startswith("HTTP/1."), head
        if "\r\ntransfer-encoding: chunked" not in head.lower():
            return body
        parts = []
        while body:
            size, _, body = body.partition("\r\n")
            parts.append(body[: int(size, 16)])
            body = body[int(size, 16) + 2 :]
        return "".join(parts)

    @property
    def status(self) -> int:
        """Returns the status."""
        return int(self.read().split()[1])

    @property
    def is_marked(self) -> bool:
        """Tells whether it comes from the bridge."""
        return "\r\n%s: 1\r\n" % HEADER.lower() in self.read().lower()

    @property
    def facts(self) -> dict[str, Any]:
        """Returns what the page says about its process."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Visitor:
    """Asks for pages, one after the other, until it is told to stop."""

    def __init__(self, site: Site, *targets: str) -> None:
        """Takes the pages that it asks for."""
        self.site, self.targets = site, targets
        self.pages: list[Page] = []
        self.failed: list[BaseException] = []
        self.stopping = threading.Event()
        # uvicorn and hypercorn, when they end, close connections that they have accepted and not yet read from.
        self.is_lenient = "uvicorn" in site.server + site.worker_class or site.server == "hypercorn"
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> Visitor:
        """Begins."""
        self.thread.start()
        return self

    def run(self) -> None:
        """Asks."""
        while not self.stopping.is_set() and not self.failed:
            for target in self.targets:
                try:
                    self.pages.append(self.ask(target))
                except BaseException as error:
                    self.failed.append(error)

    def ask(self, target: str) -> Page:
        """Asks for a page."""
        while True:
            is_lenient = self.is_lenient
            page = Page(self.site, target)
            try:
                assert page.read(), "the answer is empty"
                return page
            except (AssertionError, ConnectionResetError):
                if not is_lenient:
                    raise

    def __exit__(self, *exception: object) -> None:
        """Stops."""
        self.stopping.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.failed == []


def visited(site: Site) -> None:
    """Takes a site over the whole sequence while a visitor asks, and writes."""
    site.start_web()
    targets = ("/facts/", "/write/", "/stream/")
    with Visitor(site, *targets) as visitor:
        site.start_bridge()
        site.take_over()
        # Their bridges do not.
        visitor.is_lenient &= site.server == "gunicorn"
        until(lambda: {page.target for page in list(visitor.pages) if page.is_marked} == {*targets}, "the bridge serves")
        slow = Page(site, "/slow/")
        until((site.live / "uploads/slow").exists, "the request is under way")
        site.start_web()
        site.bridge.terminate()
        (site.live / "uploads/go-on").touch()
        assert (slow.body, slow.is_marked, site.bridge.wait(timeout=60)) == ("new", True, 0)
        count = len(visitor.pages)
        until(lambda: len(visitor.pages) > count + 10, "the web serves")
    pages = visitor.pages
    assert {page.status for page in pages} == {200}
    versions = ["old" if "old" in page.body else "new" for page in pages]
    assert versions == sorted(versions, reverse=True)
    first = versions.index("new")
    assert pages[first].is_marked
    assert not [page for page in [*pages[:first], pages[-1]] if page.is_marked]
    assert {page.body for page in pages[first:] if page.target == "/stream/"} == {"new" * 3}


@contextlib.contextmanager
def site_of(user: int, packages: Path) -> Iterator[Site]:
    """A site, which ends with the test."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        top = Path(directory) / "a,b:c site"
        top.mkdir()
        site = Site(top, user, packages)
        site.own()
        try:
            yield site
        finally:
            site.end()
