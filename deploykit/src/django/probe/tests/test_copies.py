"""Copies of databases, as far as they need no server."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploykit_probe import private
from deploykit_probe.copies import empty, not_the_copy, reason_of
from deploykit_probe.copies_sqlite import copy_schema, database_file, mark, marked
from deploykit_probe.errors import Refused
from deploykit_probe.private import CannotCopy, check_room


def named(name: object) -> SimpleNamespace:
    """A connection of this name."""
    return SimpleNamespace(settings_dict={"NAME": name})


def shop(path: Path) -> None:
    """Makes a database with all that a schema can have."""
    with sqlite3.connect(str(path)) as database:
        database.executescript(
            """
            PRAGMA user_version = 7;
            PRAGMA journal_mode = wal;
            CREATE TABLE django_migrations (id integer PRIMARY KEY AUTOINCREMENT, name text);
            INSERT INTO django_migrations VALUES (5, 'a'), (9, 'b');
            CREATE TABLE item (id integer PRIMARY KEY, word text, "odd ""name" int);
            CREATE INDEX by_word ON item (word);
            CREATE VIRTUAL TABLE words USING fts5(word, content='item');
            CREATE VIEW names AS SELECT name FROM django_migrations;
            CREATE TRIGGER never BEFORE INSERT ON django_migrations BEGIN SELECT raise(fail, 'no'); END;
            INSERT INTO item VALUES (1, 'one', 1);
            """
        )
    database.close()


def test_the_schema_is_copied_with_the_rows_of_some_tables(tmp_path: Path) -> None:
    """Triggers run for none of them, and numbers go on where they were."""
    source, target = tmp_path / "live", tmp_path / "copy"
    shop(source)
    copy_schema(str(source), str(target), ["django_migrations", "not_there"])
    live, copy = sqlite3.connect(str(source)), sqlite3.connect(str(target))
    sql = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"
    assert copy.execute(sql).fetchall() == live.execute(sql).fetchall()
    assert copy.execute("SELECT id, name FROM django_migrations").fetchall() == [(5, "a"), (9, "b")]
    assert copy.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(9,)]
    assert copy.execute("SELECT count(*) FROM item").fetchall() == [(0,)]
    assert [copy.execute("PRAGMA " + name).fetchone()[0] for name in ("user_version", "journal_mode")] == [7, "wal"]
    live.close()
    copy.close()


def test_a_marker_changes_nothing_that_sqlite_reads(tmp_path: Path) -> None:
    """It stays when the copy is written to."""
    path = str(tmp_path / "copy")
    shop(Path(path))
    found = mark(path)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.execute("CREATE TABLE another (id)")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    assert marked(path) == found and len(found) == 32
    empty_file = tmp_path / "empty"
    empty_file.write_bytes(b"")
    assert mark(str(empty_file)) == marked(str(empty_file)) == ""


def test_the_file_of_an_address_is_found() -> None:
    """One in memory has none."""
    assert database_file(named("/srv/a.db")) == "/srv/a.db"
    assert database_file(named("file:/srv/a%20b.db?mode=rw")) == "/srv/a b.db"
    assert database_file(named("file:name?mode=memory&cache=shared")) is None
    assert database_file(named(":memory:")) is None


def test_another_file_than_the_copy_is_rejected(tmp_path: Path) -> None:
    """The live file, another copy, or another place."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    shop(live)
    shop(copy)
    status = live.stat()
    expected = {"path": str(live), "device": status.st_dev, "inode": status.st_ino, "marker": mark(str(copy))}
    assert not_the_copy(named(live), expected) == "`%s` is the live file" % live
    assert not_the_copy(named(copy), expected) == "its file is `%s` and was `%s`" % (copy, live)
    live.rename(tmp_path / "old")
    shop(live)
    assert not_the_copy(named(live), expected) == "`%s` lacks the marker of the copy" % live
    copy.rename(live)
    assert not_the_copy(named(live), expected) is None


def test_a_disk_without_room_is_named(tmp_path: Path) -> None:
    """Before anything is copied."""
    with pytest.raises(CannotCopy, match=r"a copy takes .* MB are free below"):
        check_room(str(tmp_path), 1 << 60)
    check_room(str(tmp_path), 0)


def test_what_was_left_is_removed(tmp_path: Path) -> None:
    """What a link leads to stays."""
    kept = tmp_path / "kept"
    (tmp_path / "copies" / "server").mkdir(parents=True)
    kept.mkdir()
    (tmp_path / "copies" / "link").symlink_to(kept)
    (tmp_path / "copies" / "file").write_text("")
    empty(str(tmp_path / "copies"))
    assert list((tmp_path / "copies").iterdir()) == [] and kept.is_dir()


def test_reasons_are_one_line() -> None:
    """Whatever was raised."""
    tool = Refused("tool", what="pg_dump", code=1, traceback=["first", "error: no", ""])
    assert reason_of(tool) == {"reason": "`pg_dump` failed with exit code 1: error: no", "help": None}
    assert reason_of(ValueError("one\ntwo")) == {"reason": "ValueError: one", "help": None}
    assert reason_of(CannotCopy("no", "apt install")) == {"reason": "no", "help": "apt install"}
    assert private.SPARE > 0
