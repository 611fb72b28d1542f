"""What is where in a view (`view.py`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator

import pytest

from deploykit_probe import view

USERS = [0, 1234] if os.getuid() == 0 else [os.getuid()]

START = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from deploykit_probe import kernel
from deploykit_probe.view import View, written
kernel.unshare(kernel.NEWNS)
spec = json.loads(sys.argv[2])
view = View(dict(spec, tree=[spec["staged"], spec["live"]]), spec["root"])
def read(path):
    try:
        with open(os.path.join(spec["top"], path)) as file:
            return file.read()
    except OSError as error:
        return error.strerror
def listed(path):
    return sorted(os.listdir(os.path.join(spec["top"], path)))
told = {}
os.chdir("/")
"""


@pytest.fixture(params=USERS, ids=lambda user: "root" if user == 0 else "ordinary")
def run(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Runs a script in a view, and returns what it told; nothing live has changed."""
    user = request.param
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        top = Path(directory) / "a,b:c"
        live, staged = top / "app", top / "app/.deploykit/staged"
        files = {
            "media/photo": "live",
            "state/kept": "live",
            "state/db.sqlite3": "live",
            "state/notes/one": "live",
            "local.py": "live",
            ".env": "live",
            "code/old.py": "live",
            "collected/style.css": "live",
            ".deploykit/static/style.css": "staged",
            ".git/worktrees/staged/HEAD": "live",
            ".deploykit/built/pyvenv.cfg": "of the live version",
            "env/original/pyvenv.cfg": "of the shown version",
            "env/notes": "live",
        }
        for name, text in files.items():
            (live / name).parent.mkdir(parents=True, exist_ok=True)
            (live / name).write_text(text)
        for name in ("code/new.py", "state/deep/.gitkeep", "state/kept", "manage.py"):
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text("staged")
        (staged / ".git").write_text("gitdir: %s/.git/worktrees/staged\n" % live)
        for path in (top / "outside", live / ".deploykit/view"):
            path.mkdir()
        (top / "outside/file").write_text("live")
        (live / "elsewhere").symlink_to("../outside")
        (staged / "tracked").symlink_to("code/new.py")
        for name in ("media", "state/db.sqlite3", "state/notes", "local.py", ".env", "elsewhere", "gone", "env"):
            (staged / name).symlink_to(live / name)
        (live / "state").chmod(0o750)
        shutil.copytree(live / "env/original", top / "original")
        for above in (live / "env", top):
            (above / "venv").symlink_to(live / ".deploykit/built")
        for path in [top, *top.rglob("*")]:
            os.chown(path, user, user, follow_symlinks=False)
        package = top.parent / "probe"
        shutil.copytree(Path(view.__file__).parent, package / "deploykit_probe", ignore=shutil.ignore_patterns("__pycache__"))
        spec = {
            "top": str(top),
            "root": str(live / ".deploykit/view"),
            "live": str(live),
            "staged": str(staged),
            "virtualenv": None,
        }
        show = [[".deploykit/static", "collected"], [".deploykit/static", "state/assets"], [".deploykit", ".deploykit"]]
        shown = [[str(live / source), str(live / path)] for source, path in show]
        spec["show"] = [*shown, [str(live / ".deploykit/static"), str(top / "outside")]]  # type: ignore[assignment]

        def everything() -> list[tuple[Any, ...]]:
            """Returns names, owners and times."""
            return sorted((str(path), path.lstat().st_uid, path.lstat().st_mtime_ns) for path in top.rglob("*"))

        def run(script: str, virtualenv: str | None = None) -> dict[str, Any]:
            """Runs a script; the virtualenv in a directory is shown."""
            place = top / virtualenv if virtualenv is not None else None
            spec["virtualenv"] = [str(place / "original"), str(place / "venv")] if place else None  # type: ignore[assignment]
            before, mounts = everything(), Path("/proc/self/mountinfo").read_text()
            python = "/usr/bin/python3" if user != os.getuid() else sys.executable
            argv = [python, "-B", "-c", START + script + "\nprint(json.dumps(told))", str(package), json.dumps(spec)]
            if user != os.getuid():
                argv = ["setpriv", "--reuid=%d" % user, "--regid=%d" % user, "--clear-groups", *argv]
            told: dict[str, Any] = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=60).stdout)
            assert (everything(), Path("/proc/self/mountinfo").read_text()) == (before, mounts)
            return told

        yield run


def test_every_entry_comes_from_its_place(run: Any) -> None:
    """Staged files, live ones that are linked, and what is shown; then the live tree."""
    told = run(
        """
names = ("app/manage.py app/code/new.py app/code/old.py app/tracked app/state/kept app/state/deep/.gitkeep app/state/db.sqlite3"
         " app/state/notes/one app/media/photo app/local.py app/.env app/elsewhere/file app/gone app/collected/style.css"
         " app/state/assets/style.css outside/file outside/style.css app/.deploykit/static/style.css").split()
told["view"] = {name: read(name) for name in names}
told["top"], told["state"] = listed("app"), listed("app/state")
told["real"] = {name: os.path.relpath(os.path.realpath(os.path.join(spec["live"], name)), spec["live"])
                for name in ("local.py", "manage.py", "code/new.py", "media/photo", "state/db.sqlite3", ".env")}
told["mode"] = oct(os.stat(spec["live"] + "/state").st_mode & 0o777)
view.hold()
view.remove()
told["gone"] = {name: read(name) for name in names}
told["after"] = listed("app")
"""
    )
    missing = "No such file or directory"
    assert told["view"] == {
        "app/manage.py": "staged",
        "app/code/new.py": "staged",
        "app/code/old.py": missing,
        "app/tracked": "staged",
        "app/state/kept": "staged",
        "app/state/deep/.gitkeep": "staged",
        "app/state/db.sqlite3": "live",
        "app/state/notes/one": "live",
        "app/media/photo": "live",
        "app/local.py": "live",
        "app/.env": "live",
        "app/elsewhere/file": missing,
        "app/gone": missing,
        "app/collected/style.css": "staged",
        "app/state/assets/style.css": "staged",
        "outside/file": missing,
        "outside/style.css": "staged",
        "app/.deploykit/static/style.css": "staged",
    }
    hidden = view.HIDDEN
    names = ".deploykit %s .env .git code collected elsewhere env local.py manage.py media state tracked" % hidden
    assert (told["top"], told["state"]) == (names.split(), "assets db.sqlite3 deep kept notes".split())
    assert told["real"] == {
        "local.py": "local.py",
        "manage.py": "manage.py",
        "code/new.py": "code/new.py",
        "media/photo": "media/photo",
        "state/db.sqlite3": hidden + "/state/db.sqlite3",
        ".env": hidden + "/.env",
    }
    assert told["mode"] == "0o750"
    assert told["gone"]["app/code/old.py"] == told["gone"]["app/elsewhere/file"] == told["gone"]["app/state/kept"] == "live"
    assert (told["gone"]["app/manage.py"], told["gone"]["app/tracked"]) == (missing, missing)
    assert told["after"] == ".deploykit .env .git code collected elsewhere env local.py media state".split()


def test_git_finds_the_repository(run: Any) -> None:
    """The staged tree's link to it leads into the live tree, whose place that tree takes."""
    told = run('told["head"] = read(read("app/.git").split()[1] + "/HEAD")\ntold["written"] = written(view.made)')
    assert told == {"head": "live", "written": []}


@pytest.mark.parametrize("directory", ["app/env", ""], ids=["in the checkout", "beside it"])
def test_a_virtualenv_is_at_its_path(run: Any, directory: str) -> None:
    """A directory is shown in the place of a symlink; what is beside that is the live machine."""
    told = run(
        """
place = spec["virtualenv"][1]
names = ("app/manage.py app/env/notes app/media/photo app/state/kept app/collected/style.css app/.deploykit/static/style.css"
         " outside/style.css").split()
told["view"] = [read(name) for name in names]
told["real"], told["text"] = os.path.realpath(place) == place, read(place + "/pyvenv.cfg")
with open(os.path.join(os.path.dirname(place), "new"), "w"):
    told["written"] = [os.path.relpath(path, os.path.dirname(place)) for path in written(view.made)]
view.hold()
view.remove()
told["gone"] = [read(name) for name in names[:4]]
told["after"], told["new"] = read(place + "/pyvenv.cfg"), os.path.exists(os.path.join(os.path.dirname(place), "new"))
""",
        directory,
    )
    assert told["view"] == ["staged", "live", "live", "staged", "staged", "staged", "staged"]
    assert (told["real"], told["text"], told["written"]) == (True, "of the shown version", ["new"])
    assert told["gone"] == ["No such file or directory", "live", "live", "live"]
    assert (told["after"], told["new"]) == ("of the live version", False)


def test_what_is_written_to_placeholders_is_found(run: Any) -> None:
    """New, replaced and removed entries; not what goes to the live or the staged tree."""
    told = run(
        """
live = spec["live"]
told["before"] = written(view.made)
os.mkdir(live + "/__pycache__")
for name in ("new", "state/new"):
    open(os.path.join(live, name), "w").close()
os.replace(live + "/new", live + "/.env")
os.unlink(live + "/state/db.sqlite3")
told["after"] = [os.path.relpath(path, live) for path in written(view.made)]
"""
    )
    assert told["before"] == []
    assert told["after"] == [".env", "state/db.sqlite3", "state/new"]
