"""Bridges of uvicorn and hypercorn, whose main process may be its only worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Iterator

import pytest

from .bridges import ASGI, USERS, Page, Site, site_of, until, visited

SERVERS = ("uvicorn", "hypercorn")

# Servers with their applications and options.
KINDS = {
    "uvicorn": ("uvicorn", "config.asgi:application", ("--loop", "asyncio", "--http", "h11")),
    # Of its own accord, it takes `uvloop` and `httptools` where they are installed.
    "uvicorn-uvloop": ("uvicorn", "config.asgi:application", ("--loop", "uvloop", "--http", "httptools")),
    "uvicorn-workers": ("uvicorn", "config.asgi:application", ("--workers", "2")),
    "uvicorn-wsgi": ("uvicorn", "config.wsgi:application", ("--interface", "wsgi")),
    "uvicorn-factory": ("uvicorn", "asgi:get_asgi_application", ("--factory", "--app-dir", "config")),
    "hypercorn": ("hypercorn", "config.asgi:application", ()),
    "hypercorn-workers": ("hypercorn", "config.asgi:application", ("--workers", "2")),
    "hypercorn-alone": ("hypercorn", "config.asgi:application", ("--workers", "0")),
    "hypercorn-uvloop-workers": ("hypercorn", "config.asgi:application", ("-k", "uvloop", "--workers", "2")),
    "hypercorn-wsgi": ("hypercorn", "wsgi:config.wsgi:application", ()),
}

# An application with a lifespan, whose events are told in a file.
LIFESPAN = (
    ASGI
    + """
import asyncio
from django.conf import settings
inner = application
async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        return await inner(scope, receive, send)
    while True:
        event = (await receive())["type"]
        with (settings.BASE_DIR / "uploads/events").open("a") as file:
            file.write(event + "\\n")
        await happens()
        await send({"type": event + ".complete"})
        if event == "lifespan.shutdown":
            return
async def happens():
    pass
"""
)


def of(site: Site, kind: str) -> Site:
    """Changes its server."""
    site.server, site.application, options = KINDS[kind]
    site.arguments = [*options]
    return site


@pytest.fixture
def site(servers: Path) -> Iterator[Site]:
    """A site of an ordinary user."""
    with site_of(USERS[-1], servers) as site:
        yield site


@pytest.fixture(params=SERVERS)
def served(request: pytest.FixtureRequest, site: Site) -> Site:
    """A site of each server."""
    return of(site, request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_no_request_fails(site: Site, kind: str) -> None:
    """With every kind of servers."""
    visited(of(site, kind))


@pytest.mark.parametrize("kind", ["uvicorn", "uvicorn-workers", "hypercorn", "hypercorn-workers", "hypercorn-alone"])
def test_it_waits_and_nothing_is_left(site: Site, kind: str) -> None:
    """Nothing is served before the gate is open, and each answer has the header, also those that the server makes."""
    of(site, kind)
    site.write(site.staged / "config/asgi.py", LIFESPAN)
    site.start_web()
    files = site.files()
    site.start_bridge()
    count = 2 if "workers" in kind else 1
    assert site.ready() == [{"workers": count, "threads": [], "tasks": [], "processes": [], "written": [], "files": []}] * count
    events = site.live / "uploads/events"
    assert events.read_text() == "lifespan.startup\n" * count
    site.web.terminate()
    site.web.wait(timeout=60)
    pages = [Page(site, "/facts/") for _ in range(8)]
    site.switch()
    assert not [page for page in pages if page.has_come()]
    site.open_gate()
    told = {"version": "new", "directory": str(site.live), "base": str(site.live), "style": "new"}
    for page in pages:
        facts = page.facts
        assert page.is_marked
        assert {name: facts[name] for name in told} == told
        assert facts["cores"] == len(os.sched_getaffinity(0))
        assert site.bridge.pid == (facts["master"] if "workers" in kind or kind == "hypercorn" else facts["pid"])
    assert (Page(site, "/fail/").status, Page(site, "/fail/").is_marked) == (500, True)
    assert site.stop(site.bridge) == 0
    assert site.processes() == []
    assert events.read_text() == "lifespan.startup\n" * count + "lifespan.shutdown\n" * count
    assert site.files() == sorted({*files, "app/uploads/events"})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.endswith(("-wsgi", "-factory"))])
def test_it_can_be_ended_while_the_gate_is_shut(site: Site, kind: str) -> None:
    """At once, with the end of its application."""
    of(site, kind)
    site.write(site.staged / "config/asgi.py", LIFESPAN)
    site.start_web()
    site.start_bridge()
    count = len(site.ready())
    assert site.stop(site.bridge) == 0
    assert site.processes() == []
    assert (site.live / "uploads/events").read_text() == "lifespan.startup\n" * count + "lifespan.shutdown\n" * count
    assert not (site.directory / "failed").exists()
    assert Page(site, "/facts/").facts["version"] == "old"


@pytest.mark.parametrize("kind", ["uvicorn", "uvicorn-workers", "hypercorn-workers"])
def test_it_ends_with_its_owner(site: Site, kind: str) -> None:
    """While the gate is shut; the web serves on."""
    of(site, kind).start_web()
    site.start_bridge()
    site.ready()
    site.owner.kill()
    assert site.bridge.wait(timeout=60) == 0
    until(lambda: not site.processes(), "no process is left")
    assert Page(site, "/facts/").facts["version"] == "old"


@pytest.mark.parametrize("which", ["the main process", "the helper"])
@pytest.mark.parametrize("kind", ["uvicorn-workers", "hypercorn-workers"])
def test_a_kill_leaves_nothing(site: Site, kind: str, which: str) -> None:
    """No process is left, whichever is killed while the gate is shut."""
    of(site, kind).start_web()
    site.start_bridge()
    site.ready()
    workers = {int(path.name) for path in (site.directory / "ready").iterdir()}
    (helper,) = set(site.processes()) - workers - {site.bridge.pid}
    os.kill(site.bridge.pid if which == "the main process" else helper, signal.SIGKILL)
    site.bridge.wait(timeout=60)
    until(lambda: not site.processes(), "no process is left")


@pytest.mark.parametrize("server", SERVERS)
def test_a_worker_that_died_is_replaced(site: Site, server: str) -> None:
    """The new one does not wait; it is marked, and in the live tree."""
    of(site, server + "-workers")
    site.start_web()
    site.start_bridge()
    site.take_over()
    before = Page(site, "/facts/").facts
    if server == "hypercorn":
        # It ends with a worker that was killed.
        site.stop(site.bridge)
        return
    os.kill(before["pid"], signal.SIGKILL)
    page = until(lambda: next((p for p in [Page(site, "/facts/")] if p.facts["pid"] != before["pid"]), None), "another serves")
    assert page.is_marked


def refused(site: Site) -> str:
    """Returns why there is no bridge; the web serves on."""
    site.start_web()
    site.start_bridge()
    reason = site.failure()
    assert Page(site, "/facts/").facts["version"] == "old"
    return reason


@pytest.mark.parametrize("kind", ["uvicorn", "uvicorn-workers", "hypercorn", "hypercorn-workers"])
def test_a_broken_version(site: Site, kind: str) -> None:
    """Its application cannot be imported, and no worker restarts repeatedly."""
    of(site, kind)
    site.write(site.staged / "config/asgi.py", "import missing\n")
    assert refused(site) == "%s exited with code 1 (see `bridge.log`)" % site.server
    assert site.log().count("No module named 'missing'") in (1, 2)


def test_what_runs_in_the_loop_is_said(served: Site) -> None:
    """A task that the start of the application leaves would go on when the gate opens, and began on the old schema."""
    text = LIFESPAN.replace("    pass\n", "    global poller\n    poller = asyncio.create_task(poll())\n")
    served.write(served.staged / "config/asgi.py", text + "async def poll():\n    await asyncio.sleep(1000)\n")
    served.start_web()
    served.start_bridge()
    assert [told["tasks"] for told in served.ready()] == [["poll"]]


def test_what_a_boot_leaves_is_said(served: Site) -> None:
    """Threads, processes, and what was written."""
    text = """
import subprocess, threading
threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
subprocess.Popen(["sleep", "3"])
(settings.BASE_DIR / "boot.txt").write_text("new")
"""
    served.write(served.staged / "config/asgi.py", LIFESPAN + text)
    served.start_web()
    served.start_bridge()
    (told,) = served.ready()
    (process,) = told.pop("processes")
    assert process.startswith("sleep (")
    assert told == {"workers": 1, "threads": ["poller"], "tasks": [], "files": [], "written": [str(served.live / "boot.txt")]}


def test_settings_of_the_staged_tree(served: Site) -> None:
    """They would be gone with the view."""
    served.write(
        served.staged / "config/asgi.py",
        ASGI.replace("import os", "import os\nfrom django.conf import settings") + "settings.DATA = %r\n" % str(served.staged),
    )
    assert refused(served) == "the setting `DATA` holds a path of the staged tree"


def test_a_start_that_fails(served: Site) -> None:
    """The application says so."""
    text = LIFESPAN.replace("    pass\n", "    raise ValueError('not today')\n")
    text = text.replace(
        "        await happens()\n",
        "        try: await happens()\n        except ValueError: return await send({'type': event + '.failed'})\n",
    )
    served.write(served.staged / "config/asgi.py", text)
    assert refused(served) == "%s exited with code %d (see `bridge.log`)" % (
        served.server,
        3 if served.server == "uvicorn" else 1,
    )


HYPERCORN = {
    "toml": ("hypercorn.toml", 'bind = "127.0.0.1:1"\nworkers = 2\nmax_requests = 1\nuse_reloader = true\npid_path = "pid"\n'),
    "file": ("file:server.py", "bind = '127.0.0.1:1'\nworkers, max_requests, use_reloader, pid_path = 2, 1, True, 'pid'\n"),
    "python": (
        "python:config.server",
        "bind = ['127.0.0.1:1']\nworkers, max_requests, use_reloader, pid_path = 2, 1, True, 'pid'\n",
    ),
}


@pytest.mark.parametrize("kind", HYPERCORN)
def test_the_sites_own_settings_hold(site: Site, kind: str) -> None:
    """But for those that would disturb the running web."""
    of(site, "hypercorn").start_web()
    name, text = HYPERCORN[kind]
    path = "config/server.py" if kind == "python" else name.split(":")[-1]
    site.write(site.staged / path, text)
    site.start_bridge(site.spec(argv=["-c", name, site.application]))
    assert len(site.ready()) == 2
    site.take_over()
    assert all(Page(site, "/facts/").is_marked for _ in range(6))
    assert not (site.live / "pid").exists()


def test_options_of_the_running_server(site: Site) -> None:
    """Those of its environment count, too; a limit of requests does not."""
    of(site, "uvicorn").start_web()
    argv = ["--limit-max-requests", "1", "--reload", "--host", "::1", "--header", "X-Own:1", site.application]
    site.environment["WEB_CONCURRENCY"] = "2"
    site.start_bridge(site.spec(argv=argv))
    assert len(site.ready()) == 2
    site.take_over()
    pages = [Page(site, "/facts/") for _ in range(6)]
    assert all(page.is_marked and "x-own: 1" in page.read().lower() for page in pages)


@pytest.mark.parametrize(
    ("server", "options", "reason"),
    [
        ("hypercorn", ("-k", "trio"), "workers of class `trio` are unknown"),
        ("hypercorn", ("-b", "fd://7"), "the web's main process listens on 1 sockets, and its settings name 2"),
        ("hypercorn", ("--nonsense",), "hypercorn exited with code 2 (see `bridge.log`)"),
        ("uvicorn", ("--nonsense",), "uvicorn exited with code 2 (see `bridge.log`)"),
    ],
)
def test_settings_that_are_refused(site: Site, server: str, options: tuple[str, ...], reason: str) -> None:
    """With the reason."""
    of(site, server).start_web()
    site.start_bridge(site.spec(argv=[*options, *site.argv()]))
    assert site.failure() == reason
