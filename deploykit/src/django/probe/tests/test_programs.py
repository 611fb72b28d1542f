"""Copies and programs, with real ones."""

from __future__ import annotations

import json
import marshal
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from deploykit_probe import patience, tools
from deploykit_probe.backup_sqlite import copy_database
from deploykit_probe.bytecode import do_compile
from deploykit_probe.errors import Refused
from deploykit_probe.schema import sqlite_texts
from deploykit_probe.tools import copy_with, feed_tool, path_of, run_tool, tool, unnamed_file

ENV = dict(os.environ)


def test_the_first_program_that_there_is_is_taken() -> None:
    """MariaDB's programs have two names."""
    assert os.path.basename(tool("deploykit-has-none", "sh")) == "sh"
    with pytest.raises(Refused) as caught:
        tool("deploykit-has-none", "nor-this-one")
    assert caught.value.fields == {"kind": "tool_missing", "what": "deploykit-has-none"}


def test_the_last_lines_of_a_program_that_failed_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it goes to the log."""
    with pytest.raises(Refused) as caught:
        run_tool(["sh", "-c", "seq 1 40 >&2; exit 3"], ENV)
    fields = caught.value.fields
    assert (fields["what"], fields["code"]) == ("sh", 3)
    assert fields["traceback"] == [str(number) for number in range(11, 41)]
    assert capsys.readouterr().err.splitlines()[0] == "1"


def test_an_unnamed_file_is_read_by_a_program_and_by_nobody_else() -> None:
    """Passwords stand in no argument and in no directory."""
    number = unnamed_file("secret\n")
    try:
        assert os.fstat(number).st_mode & 0o777 == 0o600
        assert run_tool(["cat", path_of(number)], ENV, files=(number,), stdout=subprocess.PIPE).stdout == b"secret\n"
    finally:
        os.close(number)


def test_a_program_is_fed_and_its_failure_heard(tmp_path: Path) -> None:
    """What it complains of is kept, also when it stops reading in the middle."""
    copy = tmp_path / "copy"

    def write(stream: IO[bytes]) -> None:
        """Writes more than a pipe holds."""
        stream.write(b"x" * 300000)

    feed_tool(["sh", "-c", 'cat > "$0"', str(copy)], ENV, write)
    assert copy.stat().st_size == 300000
    with pytest.raises(Refused) as caught:
        feed_tool(["sh", "-c", "echo no >&2; exit 2"], ENV, write)
    assert caught.value.fields["traceback"] == ["no"]


def test_a_copy_that_does_not_grow_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that went silent would keep its program for ever."""
    monkeypatch.setattr(patience, "LIMIT", 0.01)
    monkeypatch.setattr(tools, "STALLED", 3)
    copy = tmp_path / "copy"
    copy.write_bytes(b"x")
    with pytest.raises(Refused) as caught:
        copy_with(["sleep", "600"], ENV, str(copy))
    assert caught.value.fields["traceback"] == ["error: the copy has not grown for 0 s"]


def test_a_database_is_copied_while_it_is_open(tmp_path: Path) -> None:
    """The copy has what was committed; a database that is gone is no empty one."""
    source, target = tmp_path / "db", tmp_path / "copy"
    with sqlite3.connect(source) as connection:
        connection.execute("CREATE TABLE item (name)")
        connection.execute("INSERT INTO item VALUES ('lamp')")
    copy_database(str(source), str(target))
    assert sqlite3.connect(target).execute("SELECT name FROM item").fetchall() == [("lamp",)]
    with pytest.raises(FileNotFoundError):
        copy_database(str(tmp_path / "none"), str(target))


def test_the_texts_of_a_table_are_those_of_its_indexes_too() -> None:
    """Whatever changes a table changes its texts."""
    connection = sqlite3.connect(":memory:")
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE item (name)")
    before = sqlite_texts(cursor)["item"]
    cursor.execute("CREATE INDEX by_name ON item (name)")
    after = sqlite_texts(cursor)["item"]
    assert before == (("item", "CREATE TABLE item (name)"),)
    assert set(before) < set(after)


def test_sources_are_compiled_for_the_live_tree(tmp_path: Path) -> None:
    """Bytecode says the live path and goes by the text of its source; what is no Python is left out."""
    top = tmp_path / "staged"
    top.mkdir()
    (top / "good.py").write_text("PRICE = 1\n")
    (top / "bad.py").write_text("def:\n")
    request = {"top": str(top), "live": "/srv/live", "sources": ["good.py", "bad.py", "none.py"]}
    (compiled,) = do_compile(request)["compiled"]
    assert compiled.startswith("__pycache__/good.")
    code = marshal.loads((top / compiled).read_bytes()[16:])
    assert code.co_filename == "/srv/live/good.py"


FORKED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from deploykit_probe.beside import beside
from deploykit_probe.errors import Refused
def fails():
    raise Refused("busy", names=["7"])
waits = beside("collect", 19, lambda: {"process": os.getpid(), "nice": os.nice(0)})
told = waits()
try:
    beside("collect", 0, fails)()
except Refused as error:
    told["error"] = error.fields
told["mine"] = os.getpid()
sys.stderr.write(json.dumps(told))
"""


def test_work_beside_other_work_answers_as_it_did() -> None:
    """It runs in a process of its own, at its own priority, and its errors come back."""
    top = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", FORKED, str(top)], stderr=subprocess.PIPE, check=True)
    told = json.loads(done.stderr.decode())
    assert told["process"] != told["mine"]
    assert told["nice"] == 19
    assert told["error"] == {"kind": "busy", "names": ["7"]}
