"""What a step of the site's own finds and leaves in its view (`step_view.py`)."""

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

from deploykit_probe import step_view

USERS = [0, 1234] if os.getuid() == 0 else [os.getuid()]

STEP = """
import json, os, sqlite3, subprocess, sys
from pathlib import Path
def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return error.strerror
def tried(do, *args):
    try:
        do(*args)
    except OSError as error:
        return error.strerror
told = {"cwd": os.getcwd(), "args": sys.argv[1:], "uid": os.getuid(), "input": sys.stdin.read()}
"""


@pytest.fixture(params=USERS, ids=lambda user: "root" if user == 0 else "ordinary")
def site(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes a live and a staged tree."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Site(Path(directory) / "a,b:c", request.param)


class Site:
    """A live and a staged tree of a user."""

    def __init__(self, top: Path, user: int) -> None:
        """Makes them."""
        self.top, self.user = top, user
        self.live, self.staged = top / "app", top / ".app.deploykit-next"
        for name in (
            "media/photo",
            "media/deep/other",
            "local.py",
            ".env",
            "code/old.py",
            "manage.py",
            ".deploykit/kept",
            ".venv.next/mark",
        ):
            self.write(self.live / name, "live")
        for name in ("code/new.py", "manage.py"):
            self.write(self.staged / name, "staged")
        (top / "place").mkdir()
        git = ["git", "-C", str(self.live), "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
        known = self.live / ".git/worktrees/next"
        self.write(known / "HEAD", (self.live / ".git/HEAD").read_text())
        self.write(known / "commondir", "../..\n")
        self.write(known / "gitdir", "%s/.git\n" % self.staged)
        self.write(self.staged / ".git", "gitdir: %s\n" % known)
        for name in ("media", "local.py", ".env", "db.sqlite3", "gone", ".deploykit"):
            (self.staged / name).symlink_to(self.live / name)
        for path in [top, *top.rglob("*")]:
            os.chown(path, user, user, follow_symlinks=False)
        shutil.copytree(
            Path(step_view.__file__).parent, top.parent / "probe/deploykit_probe", ignore=shutil.ignore_patterns("__pycache__")
        )

    def write(self, path: Path, text: str) -> None:
        """Writes a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, script: str, **changed: str) -> dict[str, Any]:
        """Runs a step."""
        python = "/usr/bin/python3" if self.user != os.getuid() else sys.executable
        spec = {
            "live": str(self.live),
            "staged": str(self.staged),
            "place": str(self.top / "place"),
            "directory": str(self.live / "code"),
            "argv": [python, "-c", STEP + script + "\nprint(json.dumps(told))", "one", "two"],
            **changed,
        }
        start = "import json, sys; sys.path.insert(0, sys.argv[1]); from deploykit_probe import step_view as one; "
        start += "one.run(json.loads(sys.argv[2]))"
        argv = [python, "-B", "-c", start, str(self.top.parent / "probe"), json.dumps(spec)]
        if self.user != os.getuid():
            argv = ["setpriv", "--reuid=%d" % self.user, "--regid=%d" % self.user, "--clear-groups", *argv]
        mounts = Path("/proc/self/mountinfo").read_text()
        done = subprocess.run(
            argv, cwd=self.staged / "code", input="x", stdout=subprocess.PIPE, check=True, timeout=60, text=True
        )
        assert Path("/proc/self/mountinfo").read_text() == mounts
        told: dict[str, Any] = json.loads(done.stdout)
        return told


def test_a_step_is_at_the_live_path_and_sees_what_the_links_lead_to(site: Site) -> None:
    """Nothing names the staged tree; what it needs of the live tree is linked."""
    told = site.run(
        """
top = Path.cwd().parent
names = "manage.py code/new.py code/old.py media/photo local.py .env gone .deploykit/kept".split()
told["found"] = {name: read(top / name) for name in names}
told["real"] = [os.path.realpath(top / name) for name in ("local.py", "manage.py")]
told["git"] = subprocess.check_output(["git", "-c", "safe.directory=*", "log", "--format=%s"], text=True).split()
"""
    )
    missing = "No such file or directory"
    assert told == {
        "cwd": str(site.live / "code"),
        "args": ["one", "two"],
        "uid": site.user,
        "input": "",
        "found": {
            "manage.py": "staged",
            "code/new.py": "staged",
            "code/old.py": missing,
            "media/photo": "live",
            "local.py": "live",
            ".env": "live",
            "gone": missing,
            ".deploykit/kept": "live",
        },
        "real": [str(site.live / "local.py"), str(site.live / "manage.py")],
        "git": ["one"],
    }


def test_what_a_step_writes_lies_in_the_staged_tree_or_where_a_link_leads(site: Site) -> None:
    """As without a view; only a link cannot be renamed, replaced or removed."""
    told = site.run(
        """
top = Path.cwd().parent
(top / "made").mkdir()
(top / "made/one").write_text("new")
(top / "new").write_text(str(top))
os.rename(top / "manage.py", top / "made/manage.py")
os.replace(top / "new", top / "code/new.py")
(top / "media/later").write_text("new")
with open(top / ".env", "a") as file:
    file.write("+")
database = sqlite3.connect(str(top / "db.sqlite3"))
with database:
    database.execute("create table a (b)")
    told["beside"] = [path.name for path in top.glob("db*")]
database.close()
told["refused"] = [tried(os.unlink, top / ".env"), tried(os.rename, top / "media", top / "other")]
told["walked"] = [found for found, _, _ in os.walk(top) if "deep" in found]
"""
    )
    assert told["beside"] == ["db.sqlite3"], "the journal is beside the real database"
    assert told["refused"] == ["Device or resource busy"] * 2
    assert told["walked"] == []
    assert {path.name: path.read_text() for path in (site.staged / "made").iterdir()} == {"one": "new", "manage.py": "staged"}
    assert (site.staged / "code/new.py").read_text() == str(site.live)
    assert not (site.staged / "manage.py").exists() and (site.live / "manage.py").read_text() == "live"
    assert (site.live / "media/later").read_text() == "new" and (site.live / ".env").read_text() == "live+"
    assert (site.live / "db.sqlite3").stat().st_size > 0
    assert os.readlink(site.staged / "media") == str(site.live / "media")
    assert list((site.top / "place").iterdir()) == []


def test_where_there_can_be_no_view_the_step_runs_in_the_staged_tree(site: Site) -> None:
    """As one whose Python the view would hide."""
    told = site.run('told["found"] = read("../manage.py")', place=str(site.live / "missing"))
    assert (told["cwd"], told["found"]) == (str(site.staged / "code"), "staged")
