"""The fork that knows the live checkout (`twin.py`), and what it records of files there (`changes.py`)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from deploykit_probe.changes import Changes

from .sites import Probe

SETTINGS = """
import os
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "secret"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "rows.sqlite3"}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": str(BASE_DIR / "cache")}}
MEDIA_ROOT = BASE_DIR / "media"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""

MIGRATION = """
import os, sys, time
from pathlib import Path
from django.conf import settings
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import migrations, models

def run(apps, schema_editor):
%s

class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel("Place", [("id", models.BigAutoField(primary_key=True)), ("path", models.TextField())]),
        migrations.RunPython(run, migrations.RunPython.noop),
    ]
"""

WRITES = """
    print("said", flush=True)
    here = " ".join([str(settings.BASE_DIR), os.getcwd(), __file__, sys.path[0], default_storage.path("x")])
    default_storage.save("place.txt", ContentFile(here))
    Path("relative.txt").write_text("here")
    cache.set("place", here)
    apps.get_model("shop", "Place").objects.create(path=here)
"""

WAITS = """
    (settings.BASE_DIR / "begun.new").write_text(str(os.getpid()))
    os.rename(settings.BASE_DIR / "begun.new", settings.BASE_DIR / "begun")
    while not (settings.BASE_DIR / "go").exists():
        time.sleep(0.01)
"""


class Staged:
    """A site that is booted from a staged tree, and its checkout, which has the same code by now."""

    def __init__(self, directory: Path, packages: Path, code: str, models: str = "", migrates: bool = True) -> None:
        """Boots it, and lets it fork the twin."""
        directory = directory.resolve()
        self.tree, self.live, self.aside = directory / ".site.next", directory / "site", directory / "aside"
        self.changes = directory / "changes"
        files = {"config/settings.py": SETTINGS, "shop/__init__.py": "", "shop/models.py": models}
        files.update({"shop/migrations/__init__.py": "", "shop/migrations/0001_initial.py": MIGRATION % code})
        self.tree.mkdir()
        self.probe = Probe(self.tree, packages, files, tree=[str(self.tree), str(self.live)])
        # The migrations are loaded as they are in an update.
        assert self.probe.ask("migrations", database="default")["pending"]
        tree = [str(self.tree), str(self.live)]
        changes = {"file": str(self.changes), "aside": str(self.aside)}
        request = {"tree": tree, "packages": ["/venv", "/venv"], "environment": {}, "changes": changes, "migrates": migrates}
        self.cannot = self.probe.ask("begin_twin", **request)["cannot"]
        if self.cannot is None:
            self.cannot = self.probe.ask("end_twin")["cannot"]
        shutil.copytree(self.tree, self.live, ignore=shutil.ignore_patterns("*.sqlite3"))

    def begin(self) -> None:
        """Begins to migrate."""
        plan = [{"app": "shop", "name": "0001_initial"}]
        request = {"do": "migrate", "database": "default", "applied": [], "plan": plan}
        self.probe.write({"do": "moved", "directory": str(self.live), "request": request})

    def answers(self) -> list[Any]:
        """Returns what is answered, up to the last answer."""
        found = [self.probe.read()]
        while "event" in found[-1]:
            found.append(self.probe.read())
        return found

    def begun(self) -> int:
        """Waits until the migration runs, and returns the process in which it does."""
        begun = self.live / "begun"
        wait_until(begun.exists)
        return int(begun.read_text())

    def rows(self, sql: str) -> list[Any]:
        """Returns what is in the database of the checkout."""
        database = sqlite3.connect(str(self.live / "rows.sqlite3"))
        try:
            return database.execute(sql).fetchall()
        finally:
            database.close()


def wait_until(done: Callable[[], bool]) -> None:
    """Waits, for half a minute at most."""
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Tells whether a process has ended."""
    try:
        return ") Z " in Path("/proc/%d/stat" % pid).read_text()
    except FileNotFoundError:
        return True


@pytest.fixture()
def staged(tmp_path: Path, packages: Path) -> Iterator[Callable[..., Staged]]:
    """Returns what makes a site; its processes are ended."""
    made = []

    def make(code: str, models: str = "", migrates: bool = True) -> Staged:
        made.append(Staged(tmp_path, packages, code, models, migrates))
        return made[-1]

    yield make
    for one in made:
        one.probe.process.kill()
        one.probe.process.wait()
        for stream in (one.probe.process.stdin, one.probe.process.stdout):
            assert stream is not None
            stream.close()


@pytest.mark.parametrize("beforehand", [True, False])
def test_a_migration_finds_the_checkout(staged: Callable[..., Staged], beforehand: bool) -> None:
    """Whatever it writes a path to; its progress and its answer come as from the waiting process."""
    site = staged(WRITES, migrates=beforehand)
    assert site.cannot is None
    site.begin()
    found = site.answers()
    assert [one.get("phase") for one in found] == ["started", "finished", None] and found[-1] == {"ok": {}}
    live = str(site.live)
    here = " ".join([live, live, live + "/shop/migrations/0001_initial.py", live, live + "/media/x"])
    assert (site.live / "media/place.txt").read_text() == here
    assert (site.live / "relative.txt").exists() and len(list((site.live / "cache").iterdir())) == 1
    assert site.rows("SELECT path FROM shop_place") == [(here,)]
    assert not (site.tree / "media").exists() and not (site.tree / "cache").exists()
    told = [json.loads(line)["new"] for line in site.changes.read_text().splitlines()]
    assert told[:4] == ["rows.sqlite3", "media", "media/place.txt", "relative.txt"], told
    site.probe.end()


def test_an_error_is_that_of_the_migration(staged: Callable[..., Staged]) -> None:
    """The process goes on to answer, and its way back works there, too."""
    site = staged("    raise ValueError('odd ' + str(settings.BASE_DIR))")
    site.begin()
    error = site.answers()[-1]["error"]
    assert (error["kind"], error["migration"]) == ("migration", {"app": "shop", "name": "0001_initial"})
    assert (error["type"], error["message"]) == ("ValueError", "odd " + str(site.live))
    request = {"do": "reverse", "database": "default", "applied": []}
    assert site.probe.ask("moved", directory=str(site.live), request=request) == {}
    assert site.rows("SELECT count(*) FROM django_migrations") == [(0,)]
    gone = site.probe.error("moved", directory=str(site.live / "gone"), request=request)
    assert gone["error"]["type"] == "FileNotFoundError"
    site.probe.end()


def test_a_path_that_is_left_or_a_thread_prevents_it(staged: Callable[..., Staged]) -> None:
    """The waiting process migrates itself then, and keeps the staged path out of the database."""
    site = staged(WRITES, "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()")
    assert "has threads" in site.cannot
    site.probe.write({"do": "migrate", "database": "default", "applied": [], "plan": [{"app": "shop", "name": "0001_initial"}]})
    assert site.answers()[-1] == {"ok": {}}
    written = (site.tree / "media/place.txt").read_text()
    assert written.startswith(str(site.tree))
    database = sqlite3.connect(str(site.tree / "rows.sqlite3"))
    assert database.execute("SELECT path FROM shop_place").fetchall() == [(written.replace(str(site.tree), str(site.live)),)]
    database.close()


def test_a_migration_goes_on_without_deploykit(staged: Callable[..., Staged]) -> None:
    """The end of the requests ends neither process before it has ended."""
    site = staged(WAITS)
    site.begin()
    migrating = site.begun()
    for stream in (site.probe.process.stdin, site.probe.process.stdout):
        assert stream is not None
        stream.close()
    assert site.probe.process.poll() is None
    (site.live / "go").write_text("")
    assert site.probe.process.wait(timeout=30) == 0
    wait_until(lambda: is_gone(migrating))
    assert site.rows("SELECT name FROM django_migrations") == [("0001_initial",)]


@pytest.mark.parametrize("killed", range(3))
def test_no_process_outlives_another(staged: Callable[..., Staged], killed: int) -> None:
    """Whichever is killed, deploykit sees a killed process, and nothing goes on behind its back."""
    site = staged(WAITS)
    site.begin()
    migrating, waiting = site.begun(), site.probe.process
    twin = int(Path("/proc/%d/stat" % migrating).read_text().rpartition(")")[2].split()[1])
    assert len({migrating, twin, waiting.pid}) == 3
    os.kill((migrating, twin, waiting.pid)[killed], signal.SIGKILL)
    assert waiting.wait(timeout=30) == -signal.SIGKILL
    wait_until(lambda: is_gone(migrating) and is_gone(twin))
    (site.live / "go").write_text("")
    assert site.rows("SELECT count(*) FROM django_migrations") == [(0,)]


def test_what_happens_to_files_is_recorded_before(tmp_path: Path) -> None:
    """What the staged tree has no link for is the update's; what is below a link is the site's data."""
    tree, live = tmp_path / "next", tmp_path / "site"
    for name in ("code", "media"):
        (live / name).mkdir(parents=True)
    (tree / "code").mkdir(parents=True)
    for name in ("one", "two", "three", "four"):
        (live / name).write_text(name)
        (tree / name).symlink_to(live / name)
    (tree / "media").symlink_to(live / "media")
    for top in (tree, live):
        (top / "code/tracked.py").write_text("")
    record = {"file": str(tmp_path / "changes"), "aside": str(tmp_path / "aside")}
    changes = Changes(record, [str(tree), str(live)])
    (live / "before").write_text("")
    with changes.recorded():
        (live / "new/deep").mkdir(parents=True)
        (live / "new/deep/caf\udce9").write_text("")
        (live / "media/upload").write_text("")
        (live / "code/__pycache__").mkdir()
        (live / "code/tracked.py").write_text("changed")
        (live / "one").write_text("in place")
        (live / "one").rename(live / "new/one")
        (live / "new/one").rename(live / "new/first")
        (live / "two").unlink()
        (live / "two").write_text("again")
        (live / "two").unlink()
        (live / "temporary").write_text("other")
        (live / "temporary").replace(live / "three")
        shutil.rmtree(live / "new/deep")
        (live / "four").rename(tmp_path / "elsewhere")
        os.symlink("three", live / "link")
        with pytest.raises(FileNotFoundError):
            (live / "not there").unlink()
        threading.Thread(target=(live / "by a thread").write_text, args=("",)).run()
        (tmp_path / "outside").write_text("")
    (live / "after").write_text("")
    told = [json.loads(line) for line in (tmp_path / "changes").read_text().splitlines()]
    assert told == [
        {"new": "new"},
        {"new": "new/deep"},
        {"new": "new/deep/caf\0e9"},
        {"renamed": ["one", "new/one"]},
        {"renamed": ["new/one", "new/first"]},
        {"removed": "two"},
        {"new": "two"},
        {"new": "temporary"},
        {"replaced": "three"},
        {"removed": "four"},
        {"new": "link"},
        {"new": "by a thread"},
    ]
    kept = {path.name: path.read_text() for path in (tmp_path / "aside").iterdir()}
    assert kept == {name: name for name in ("two", "three", "four")}
