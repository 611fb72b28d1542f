"""A bridge: gunicorn of the new version, which waits on the socket of the running one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from .bridges import HOLD, OWN_NICE, USERS, WSGI, Page, Site, site_of, until, visited

WAITING = {"workers": 2, "threads": [], "tasks": [], "processes": [], "written": [], "files": []}

# Classes of workers, with their applications and options.
KINDS = {
    "sync": ("sync", "config.wsgi", ()),
    "preload": ("sync", "config.wsgi", ("--preload",)),
    "gthread": ("gthread", "config.wsgi", ("--threads", "4")),
    "gevent": ("gevent", "config.wsgi", ()),
    "asgi": ("asgi", "config.asgi", ()),
    "uvicorn": ("uvicorn.workers.UvicornWorker", "config.asgi", ()),
    "uvicorn-worker": ("uvicorn_worker.UvicornWorker", "config.asgi", ()),
}


@pytest.fixture(params=USERS, ids=lambda user: "root" if user == 0 else "ordinary")
def site(request: pytest.FixtureRequest, servers: Path) -> Iterator[Site]:
    """A site, of root and of an ordinary user."""
    with site_of(request.param, servers) as site:
        yield site


@pytest.fixture
def ordinary(servers: Path) -> Iterator[Site]:
    """A site of an ordinary user."""
    with site_of(USERS[-1], servers) as site:
        yield site


def test_it_waits_then_serves_then_ends(site: Site) -> None:
    """Answers wait while the gate is shut; then all of them come from the bridge, at the live paths."""
    mounts = Path("/proc/self/mountinfo").read_text()
    site.start_web()
    pidfile, files = (site.top / "web.pid").read_text(), site.files()
    site.start_bridge()
    assert site.ready() == [WAITING] * 2
    assert json.loads((site.directory / "master").read_text())["pid"] == site.bridge.pid
    assert (Page(site, "/facts/").facts["version"], (site.top / "web.pid").read_text()) == ("old", pidfile)
    assert site.stop(site.web) == 0
    pages = [Page(site, "/facts/") for _ in range(8)]
    site.switch()
    assert not [page for page in pages if page.has_come()]
    site.open_gate()
    found = [page.facts for page in pages]
    assert all(page.is_marked for page in pages)
    told = {"version": "new", "master": site.bridge.pid, "directory": str(site.live), "base": str(site.live), "style": "new"}
    assert [{name: facts[name] for name in told} for facts in found] == [told] * 8
    assert {facts["file"] for facts in found} == {str(site.live / "config/urls.py")}
    assert {facts["cores"] for facts in found} == {len(os.sched_getaffinity(0))}
    until(lambda: Page(site, "/facts/").facts["nice"] == OWN_NICE, "the priority is as it was")
    assert (Page(site, "/fail/").status, Page(site, "/fail/").is_marked) == (500, True)
    assert (Page(site, "/upload/").body, (site.live / "uploads/new").read_text()) == ("new", "uploaded")
    assert (Page(site, "/write/").body, site.rows("db.sqlite3"), site.rows("state/deep/db.sqlite3")) == (
        "new",
        ["new"],
        ["new"],
    )
    assert site.stop(site.bridge) == 0
    assert site.processes() == []
    assert site.files() == sorted({*files, "app/uploads/new"} - {"web.pid"})
    assert sorted(path.name for path in site.directory.iterdir()) == ["free", "gate", "log", "master", "ready", "view"]
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_no_request_fails(site: Site) -> None:
    """For root and for an ordinary user."""
    visited(site)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sync"])
def test_no_request_fails_with(ordinary: Site, kind: str) -> None:
    """With every class of workers."""
    ordinary.worker_class, ordinary.application, options = KINDS[kind]
    ordinary.arguments += options
    visited(ordinary)


@pytest.mark.parametrize("kind", ["sync", "gevent", "asgi", "uvicorn-worker"])
def test_it_can_be_ended_while_the_gate_is_shut(ordinary: Site, kind: str) -> None:
    """At once, although nothing serves yet that would see the signal."""
    ordinary.worker_class, ordinary.application, _ = KINDS[kind]
    ordinary.start_web()
    ordinary.start_bridge()
    ordinary.ready()
    assert ordinary.stop(ordinary.bridge) == 0
    assert ordinary.processes() == []
    assert "SIGKILL" not in ordinary.log()
    assert not (ordinary.directory / "failed").exists()
    assert Page(ordinary, "/facts/").facts["version"] == "old"


def test_the_boot_leaves_the_processors_to_the_web(site: Site) -> None:
    """All of its processes do, until the gate is open."""
    site.start_web()
    site.start_bridge()
    site.ready()
    cores = {"shut": 1, "open": len(os.sched_getaffinity(0))}
    workers = {site.bridge.pid, *(int(path.name) for path in (site.directory / "ready").iterdir())}
    nice = min(19, OWN_NICE + 10) if site.user == 0 else OWN_NICE
    assert [len(os.sched_getaffinity(pid)) for pid in workers] == [cores["shut"]] * 3
    assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in workers] == [nice] * 3
    site.take_over()
    until(lambda: {len(os.sched_getaffinity(pid)) for pid in workers} == {cores["open"]}, "they have all cores")
    until(lambda: {os.getpriority(os.PRIO_PROCESS, pid) for pid in workers} == {OWN_NICE}, "the priority is as it was")


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
def test_a_worker_that_died_is_replaced(ordinary: Site, options: tuple[str, ...]) -> None:
    """The new one does not wait; it is marked, and in the live tree."""
    ordinary.arguments = ["--workers", "1", *options]
    ordinary.start_web()
    ordinary.start_bridge()
    ordinary.take_over()
    before = Page(ordinary, "/facts/").facts
    os.kill(before["pid"], signal.SIGKILL)
    page = Page(ordinary, "/facts/")
    assert page.is_marked
    changed = {name for name, value in page.facts.items() if value != before[name]}
    assert changed == {"pid"}
    assert "SIGUSR2" not in ordinary.log()
    os.kill(ordinary.bridge.pid, signal.SIGUSR2)
    until(lambda: "SIGUSR2 is ignored" in ordinary.log(), "the signal is handled")


BOOT = (
    WSGI
    + """
import time
from django.conf import settings
from django.db import connections, transaction
uploads = settings.BASE_DIR / "uploads"
def write(name, alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO item VALUES (%s)", [name])
def wait_for(name):
    while not (uploads / name).exists():
        time.sleep(0.01)
with transaction.atomic("default"), transaction.atomic("deep"):
    write("in the boot", "default")
    write("in the boot", "deep")
    (uploads / "begun").touch()
    wait_for("go-on")
(uploads / "committed").touch()
wait_for("locked")
try:
    connections["default"].cursor().execute("PRAGMA busy_timeout = 0")
    write("too early", "default")
except Exception as error:
    (uploads / "refused").write_text(str(error))
"""
)


def test_the_database_is_the_live_one(site: Site) -> None:
    """SQLite's journals are beside the real files, so that locks and rollbacks hold for all."""
    site.arguments = ["--workers", "1"]
    site.write(site.staged / "config/wsgi.py", BOOT)
    site.start_web()
    site.start_bridge()
    uploads, databases = site.live / "uploads", [site.live / "db.sqlite3", site.live / "state/deep/db.sqlite3"]
    until((uploads / "begun").exists, site.log())
    for path in databases:
        assert path.with_name("db.sqlite3-journal").exists()
        with contextlib.closing(sqlite3.connect(str(path), timeout=0)) as database:
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                database.execute("INSERT INTO item VALUES ('too early')")
    (uploads / "go-on").touch()
    until((uploads / "committed").exists, site.log())
    with contextlib.closing(sqlite3.connect(str(databases[0]), isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO item VALUES ('of another process')")
        (uploads / "locked").touch()
        until((uploads / "refused").exists, site.log())
        database.execute("COMMIT")
    assert (uploads / "refused").read_text() == "database is locked"
    assert site.ready() == [dict(WAITING, workers=1)]
    assert (site.rows("db.sqlite3"), site.rows("state/deep/db.sqlite3")) == (
        ["in the boot", "of another process"],
        ["in the boot"],
    )
    assert not [path for path in databases if path.with_name("db.sqlite3-journal").exists()]


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
def test_it_ends_with_its_owner(site: Site, options: tuple[str, ...]) -> None:
    """While the gate is shut; the web serves on, and nothing is left."""
    mounts = Path("/proc/self/mountinfo").read_text()
    site.arguments += options
    site.start_web()
    files = site.files()
    site.start_bridge()
    site.ready()
    site.owner.kill()
    assert site.bridge.wait(timeout=60) == 0
    until(lambda: not site.processes(), "no process is left")
    assert (Page(site, "/facts/").facts["version"], Page(site, "/facts/").is_marked) == ("old", False)
    assert (site.files(), Path("/proc/self/mountinfo").read_text()) == (files, mounts)


def test_the_live_version_waits_without_a_view(site: Site) -> None:
    """It serves the same code again, after what replaced that was undone; it says which files the window must not change."""
    mounts = Path("/proc/self/mountinfo").read_text()
    site.write(site.live / "index", "")
    text = "from django.conf import settings\nfiles = [open(settings.BASE_DIR / name, mode) for name, mode in %r]\n"
    site.write(site.live / "config/wsgi.py", WSGI + text % [("index", "r+"), ("log", "a"), ("manage.py", "r")])
    site.write(site.live / "manage.py", "")
    site.own()
    site.start_web()
    site.start_bridge(site.spec(tree=None, show=[]))
    assert site.ready() == [dict(WAITING, files=[str(site.live / "index")])] * 2
    code = (site.live / "config/version.py").read_text()
    site.take_over()
    site.write(site.live / "config/version.py", code)
    page = Page(site, "/facts/")
    assert (page.is_marked, page.facts["version"], page.facts["directory"]) == (True, "old", str(site.live))
    assert site.stop(site.bridge) == 0
    assert site.processes() == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_it_ends_with_its_owner_while_it_boots(ordinary: Site) -> None:
    """Long before it is ready."""
    ordinary.write(ordinary.staged / "config/wsgi.py", BOOT)
    ordinary.start_web()
    ordinary.start_bridge()
    until((ordinary.live / "uploads/begun").exists, ordinary.log())
    ordinary.owner.kill()
    for name in ("go-on", "locked"):
        (ordinary.live / "uploads" / name).touch()
    assert ordinary.bridge.wait(timeout=60) == 0
    until(lambda: not ordinary.processes(), "no process is left")


def test_it_serves_on_without_its_owner(site: Site) -> None:
    """Once the gate is open."""
    site.start_web()
    site.start_bridge()
    site.take_over()
    site.owner.kill()
    site.owner.wait()
    assert [Page(site, "/facts/").is_marked for _ in range(5)] == [True] * 5
    assert site.stop(site.bridge) == 0


@pytest.mark.parametrize("which", ["the main process", "the helper"])
def test_a_kill_leaves_nothing(ordinary: Site, which: str) -> None:
    """No process is left, whichever is killed while the gate is shut."""
    ordinary.start_web()
    ordinary.start_bridge()
    ordinary.ready()
    workers = {int(path.name) for path in (ordinary.directory / "ready").iterdir()}
    (helper,) = set(ordinary.processes()) - workers - {ordinary.bridge.pid}
    os.kill(ordinary.bridge.pid if which == "the main process" else helper, signal.SIGKILL)
    assert ordinary.bridge.wait(timeout=60) != 0
    until(lambda: not ordinary.processes(), "no process is left")
    assert Page(ordinary, "/facts/").facts["version"] == "old"


def test_a_unix_socket_stays(ordinary: Site) -> None:
    """The path of one that systemd made is not removed when the bridge ends."""
    ordinary.activated = True
    path = ordinary.live / "site.sock"
    ordinary.listener.close()
    ordinary.listener = socket.socket(socket.AF_UNIX)
    ordinary.listener.bind(str(path))
    ordinary.listener.listen(1000)
    (ordinary.staged / "site.sock").symlink_to(path)
    ordinary.own()
    ordinary.start_web()
    ordinary.start_bridge()
    ordinary.take_over()
    assert Page(ordinary, "/facts/").is_marked
    assert ordinary.stop(ordinary.bridge) == 0
    assert path.is_socket()
    ordinary.start_web()
    assert not Page(ordinary, "/facts/").is_marked


def test_the_holder_hands_the_socket_over(ordinary: Site) -> None:
    """Where the web's parent holds it."""
    number = ordinary.listener.fileno()
    argv = [ordinary.python, "-c", HOLD, str(number), ordinary.python, "-B", "-m", "gunicorn", *ordinary.argv()]
    holder = ordinary.start(*argv, cwd=ordinary.live, pass_fds=[number], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    main = int(holder.stdout.readline())
    holder.stdout.close()
    assert Page(ordinary, "/facts/").facts["master"] == main
    ordinary.web = holder
    ordinary.start_bridge(ordinary.spec(main=main))
    ordinary.ready()
    os.kill(main, signal.SIGTERM)
    assert holder.wait(timeout=60) == 0
    ordinary.switch()
    ordinary.open_gate()
    assert Page(ordinary, "/facts/").is_marked
