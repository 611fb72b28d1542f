"""What a bridge does not dare, with the reason; and what it says about a boot before anybody opens the gate."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Iterator

import pytest

from .bridges import ASGI, OWN_NICE, SETTINGS, USERS, WSGI, Page, Site, site_of, until

ROOT = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@pytest.fixture
def site(servers: Path) -> Iterator[Site]:
    """A site of an ordinary user."""
    with site_of(USERS[-1], servers) as site:
        yield site


@pytest.fixture
def roots(servers: Path) -> Iterator[Site]:
    """A site of root."""
    with site_of(0, servers) as site:
        yield site


def test_what_a_boot_leaves_is_said(site: Site) -> None:
    """Threads, processes, and what was written to a directory that the view makes."""
    text = """
import subprocess, threading
from django.conf import settings
threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
subprocess.Popen(["sleep", "1000"])
(settings.BASE_DIR / "boot.txt").write_text("new")
(settings.BASE_DIR / "state/deep/new").mkdir()
(settings.BASE_DIR / "uploads/kept").write_text("goes to the live directory")
(settings.BASE_DIR / "secrets.json").unlink()
"""
    site.write(site.live / "secrets.json", "{}")
    (site.staged / "secrets.json").symlink_to(site.live / "secrets.json")
    site.arguments = ["--workers", "1"]
    site.write(site.staged / "config/wsgi.py", WSGI + text)
    site.start_web()
    site.start_bridge()
    (told,) = site.ready()
    (process,) = told.pop("processes")
    assert told.pop("files") == []
    written = [str(site.live / name) for name in ("boot.txt", "secrets.json", "state/deep/new")]
    assert told == {"workers": 1, "threads": ["poller"], "tasks": [], "written": written}
    assert process.startswith("sleep (")
    os.kill(int(process[len("sleep (") : -1]), signal.SIGKILL)
    assert site.stop(site.bridge) == 0
    assert (site.live / "uploads/kept").exists()
    assert (site.live / "secrets.json").exists()
    assert not (site.live / "boot.txt").exists()


def test_threads_of_the_main_process_are_said(site: Site) -> None:
    """Those of `--preload`."""
    text = 'import threading\nthreading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()\n'
    site.write(site.staged / "config/wsgi.py", WSGI + text)
    site.arguments.append("--preload")
    site.start_web()
    site.start_bridge()
    assert [told["threads"] for told in site.ready()] == [["poller"]] * 2


HOOKS = """
import os
from pathlib import Path
uploads = Path(__file__).parent / "uploads"
daemon = reload = reuse_port = True
pidfile = %(pidfile)r
max_requests, max_requests_jitter, timeout = 1, 1, 1
control_socket = str(uploads / "control.sock")
def post_worker_init(worker):
    (uploads / ("hook-%%d" %% worker.pid)).touch()
def pre_fork(arbiter, worker):
    (uploads / "forked").touch()
def when_ready(arbiter):
    (uploads / ("ready-%%d" %% os.getpid())).touch()
"""


@pytest.mark.parametrize("name", ["gunicorn.conf.py", "settings.py"])
def test_the_sites_own_settings_hold(site: Site, name: str) -> None:
    """With its hooks, but for those that would disturb the running web."""
    site.start_web()
    # Of the new version alone.
    site.write(site.staged / name, HOOKS % {"pidfile": str(site.live / "uploads/pid")})
    spec = site.spec(argv=["config.wsgi"] if name == "gunicorn.conf.py" else ["-c", name, "config.wsgi"])
    site.environment["GUNICORN_CMD_ARGS"] = "--workers 3 --bind 127.0.0.1:1"
    spec["argv"] += ["--log-level", "debug"]
    site.start_bridge(spec)
    assert len(site.ready()) == 3
    for path in (site.directory / "ready").iterdir():
        assert (site.live / "uploads" / ("hook-" + path.name)).exists()
    (site.live / name).write_text((site.staged / name).read_text())
    site.take_over()
    assert {Page(site, "/facts/").facts["pid"] for _ in range(20)} <= {
        int(path.name) for path in (site.directory / "ready").iterdir()
    }
    names = {path.name.split("-")[0] for path in (site.live / "uploads").iterdir()}
    assert names == {"hook", "forked", "ready"}
    assert site.stop(site.bridge) == 0


def test_a_boot_may_take_longer_than_a_request(site: Site) -> None:
    """gunicorn kills workers that are silent; not those that boot at a low priority."""
    text = "import time\nbegan = time.monotonic()\nwhile time.monotonic() < began + 3: pass\n"
    site.write(site.staged / "config/wsgi.py", WSGI + text)
    site.start_web()
    site.start_bridge(site.spec(argv=["--timeout", "1", *site.argv()]))
    assert len(site.ready()) == 2
    assert "TIMEOUT" not in site.log()
    site.take_over()
    assert Page(site, "/facts/").is_marked


def refused(site: Site, **changed: Any) -> str:
    """Returns why there is no bridge; the web serves on."""
    site.start_web()
    mounts = Path("/proc/self/mountinfo").read_text()
    spec = site.spec(**changed)
    files = site.files()
    site.start_bridge(spec)
    reason = site.failure()
    assert Page(site, "/facts/").facts["version"] == "old"
    assert (site.files(), Path("/proc/self/mountinfo").read_text()) == (files, mounts)
    return reason


def test_no_socket(site: Site) -> None:
    """The main process does not listen."""
    assert refused(site, main=site.start("sleep", "1000").pid) == "the web's main process has no listening socket"


def test_another_number_of_sockets(site: Site) -> None:
    """A socket is for something else."""
    argv = [*site.argv(), "-b", "127.0.0.1:1", "-b", "fd://7"]
    assert refused(site, argv=argv) == "the web's main process listens on 1 sockets, and its settings name 2"


def test_unknown_workers(site: Site) -> None:
    """Of a class of the site's own, which may serve before the gate is open."""
    text = "from gunicorn.workers.base import Worker\nclass Own(Worker): pass\n"
    site.write(site.staged / "config/workers.py", text)
    argv = [*site.argv(), "-k", "config.workers.Own"]
    assert refused(site, argv=argv) == "workers of class `config.workers.Own` are unknown"


def test_workers_of_the_sites_own(site: Site) -> None:
    """A subclass of a known one is known."""
    text = "from gunicorn.workers.sync import SyncWorker\nclass Own(SyncWorker): pass\n"
    site.write(site.staged / "config/workers.py", text)
    site.start_web()
    site.start_bridge(site.spec(argv=[*site.argv(), "-k", "config.workers.Own"]))
    site.take_over()
    assert Page(site, "/facts/").is_marked


def test_a_broken_version(site: Site) -> None:
    """Its application cannot be imported."""
    site.write(site.staged / "config/wsgi.py", "import missing\n")
    assert refused(site) == "gunicorn exited with code 3 (see `bridge.log`)"
    assert "No module named 'missing'" in site.log()


def test_broken_settings_of_gunicorn(site: Site) -> None:
    """An option that does not exist."""
    assert refused(site, argv=["--nonsense"]) == "gunicorn exited with code 2 (see `bridge.log`)"


def test_no_asgi(site: Site) -> None:
    """uvicorn looks at an application to find out what it is."""
    site.write(site.staged / "config/asgi.py", ASGI + "inner = application\ndef application(scope): return inner\n")
    argv = [*site.argv(), "-k", "uvicorn_worker.UvicornWorker", "config.asgi"]
    argv.remove("config.wsgi")
    assert refused(site, argv=argv) == "the application is not an ASGI 3 application"


def test_paths_that_are_gone_with_the_view(site: Site) -> None:
    """A setting that resolves a symlink of the view."""
    site.write(site.staged / "config/settings.py", SETTINGS + "DATA = os.path.realpath(BASE_DIR / 'db.sqlite3')\n")
    assert refused(site) == "the setting `DATA` holds a path of the staged tree"


def test_modules_of_the_staged_tree(site: Site) -> None:
    """Code that would go on with what is not live."""
    site.write(site.staged / "config/other.py", "")
    text = "import sys\nsys.path.insert(0, %r)\nimport other\n" % str(site.staged / "config")
    site.write(site.staged / "config/wsgi.py", WSGI + text)
    assert refused(site) == "the module `other` is imported from the staged tree"


@pytest.mark.parametrize(("soft", "said"), [(256, "256"), (None, "any number of")])
def test_too_few_files(site: Site, soft: int | None, said: str) -> None:
    """The limit of this user is lower."""
    site.prefix = ["prlimit", "--nofile=100:200"]
    assert refused(site, nofile=[soft, soft]) == "the web may open %s files, this user only 200" % said


def test_a_directory_that_is_not_there(site: Site) -> None:
    """Nothing can appear where nothing is."""
    path = str(site.top / "missing")
    assert refused(site, show=[[str(site.state), path]]) == "`%s` does not exist" % path


def test_its_directory_may_be_hidden(site: Site) -> None:
    """The view need not have it."""
    site.start_web()
    site.start_bridge(site.spec(show=[]))
    site.take_over()
    assert Page(site, "/facts/").facts["style"] == "old"


@ROOT
def test_another_user(roots: Site) -> None:
    """The main process is somebody else's."""
    other = roots.start("setpriv", "--reuid=1234", "sleep", "1000")
    until(lambda: os.stat("/proc/%d" % other.pid).st_uid == 1234, "it is another user's")
    assert refused(roots, main=other.pid) == "the web runs as another user"


@ROOT
def test_another_group(roots: Site) -> None:
    """Files would belong to somebody else."""
    other = roots.start("setpriv", "--groups=1234", "sleep", "1000")
    until(lambda: b"sleep" in Path("/proc/%d/cmdline" % other.pid).read_bytes()[:6], "it has the group")
    assert refused(roots, main=other.pid) == "the web has supplementary groups that deploykit lacks"


@ROOT
def test_another_network(roots: Site) -> None:
    """The main process is in a container."""
    other = roots.start("unshare", "--net", "sleep", "1000")
    until(lambda: b"sleep" in Path("/proc/%d/cmdline" % other.pid).read_bytes()[:6], "it is there")
    assert refused(roots, main=other.pid) == "the web runs in another net namespace"


@ROOT
def test_no_view(roots: Site) -> None:
    """The kernel does not let this process mount."""
    roots.prefix = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    assert refused(roots) == "root may not mount here (a container, or a service that systemd restricts)"


@ROOT
def test_a_mount_namespace_of_the_web(roots: Site, site: Site) -> None:
    """As `PrivateTmp=` makes it: root enters it, others cannot."""
    private = roots.top / "private"
    private.mkdir()
    text = 'assert open(%r).read() == "of the web"\n' % str(private / "file")
    roots.write(roots.staged / "config/wsgi.py", WSGI + text)
    mounted = 'mount -t tmpfs private "%s"; printf "of the web" >"%s/file"; exec "$@"' % (private, private)
    roots.start_web("unshare", "--mount", "sh", "-c", mounted, "sh")
    roots.start_bridge()
    roots.take_over()
    assert Page(roots, "/facts/").is_marked
    assert list(private.iterdir()) == []
    argv = ["unshare", "--mount", "setpriv", "--reuid=%d" % site.user, "--regid=%d" % site.user, "--clear-groups"]
    other = roots.start(*argv, "sleep", "1000")
    until(lambda: os.stat("/proc/%d" % other.pid).st_uid == site.user, "it is the user's")
    reason = "the web runs in a mount namespace of its own (such as `PrivateTmp=` makes), which only root can enter"
    assert refused(site, main=other.pid) == reason


@ROOT
def test_workers_of_another_user(roots: Site) -> None:
    """gunicorn's main process is root's; its workers may not read the bridge's directory."""
    roots.python = "/usr/bin/python3"
    roots.arguments += ["--user", "1234"]
    roots.start_web()
    roots.start_bridge()
    roots.take_over()
    page = Page(roots, "/facts/")
    assert page.is_marked
    assert os.stat("/proc/%d" % page.facts["pid"]).st_uid == 1234
    until(lambda: Page(roots, "/facts/").facts["nice"] == OWN_NICE, "the priority is as it was")
    assert roots.stop(roots.bridge) == 0
