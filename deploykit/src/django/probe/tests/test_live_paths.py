"""What is replaced in statements (`live_paths.py`)."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from deploykit_probe.live_paths import LivePaths

STAGED, LIVE = "/srv/.site.deploykit-next", "/srv/site"


class Text(str):
    """A string of Django's own, such as `SafeString`."""

    def __str__(self) -> str:
        """Returns itself."""
        return self


class Json:
    """A value of a driver."""

    __slots__ = ("obj",)

    def __init__(self, obj: Any) -> None:
        """Takes what it stands for."""
        self.obj = obj


class Fixed:
    """A value of a driver that is written in another language."""

    def __init__(self, adapted: Any) -> None:
        """Takes what it stands for."""
        self.inner = adapted

    @property
    def adapted(self) -> Any:
        """Returns what it stands for."""
        return self.inner


Json.__module__ = Fixed.__module__ = "psycopg.types"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (STAGED, LIVE),
        (STAGED + "/media/a.png", LIVE + "/media/a.png"),
        ("file://%s/a %s" % (STAGED, STAGED), "file://%s/a %s" % (LIVE, LIVE)),
        (Text(STAGED), LIVE),
        (STAGED.encode() + b"/a", LIVE.encode() + b"/a"),
        (bytearray(STAGED.encode()), LIVE.encode()),
        (memoryview(STAGED.encode()), LIVE.encode()),
        ((1, None, STAGED), (1, None, LIVE)),
        ([(STAGED,), (2.5,)], [(LIVE,), (2.5,)]),
        ({"path": [STAGED]}, {"path": [LIVE]}),
    ],
)
def test_a_path_of_the_staged_tree_is_replaced(value: Any, expected: Any) -> None:
    """In every kind of value, and below the directory."""
    found = LivePaths([STAGED, LIVE]).value(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    "value", [STAGED + "-2/a", STAGED + ".old", LIVE, b"\xff", memoryview(b"a"), Path(STAGED), 1, True, None]
)
def test_other_values_stay_the_same(value: Any) -> None:
    """Even a directory with a longer name."""
    assert LivePaths([STAGED, LIVE]).value(value) is value


def test_values_of_drivers_are_looked_into() -> None:
    """A copy is changed: the model keeps its own."""
    value = Json({"path": STAGED})
    found = LivePaths([STAGED, LIVE]).value(value)
    assert (type(found), found.obj, value.obj) == (Json, {"path": LIVE}, {"path": STAGED})
    fixed = LivePaths([STAGED, LIVE]).value(Fixed(STAGED.encode()))
    assert (type(fixed), fixed.adapted) == (Fixed, LIVE.encode())
    assert LivePaths([STAGED, LIVE]).value(fixed) is fixed


def test_a_tree_behind_a_symlink_is_known_by_both_names(tmp_path: Path) -> None:
    """The settings may resolve it."""
    for name in ("next", "site"):
        (tmp_path / "real" / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    paths = LivePaths([str(tmp_path / "link/next"), str(tmp_path / "link/site")])
    assert paths.value(str(tmp_path / "link/next/a")) == str(tmp_path / "link/site/a")
    assert paths.value(str(tmp_path / "real/next/a")) == str(tmp_path / "real/site/a")


def test_statements_are_executed_with_other_values() -> None:
    """One, and many from an iterator; a connection is watched once."""
    paths, seen = LivePaths([STAGED, LIVE]), []

    def execute(*args: Any) -> None:
        """Records what is executed."""
        seen.append(args[:3])

    paths(execute, "SELECT '%s'" % STAGED, (STAGED,), False, {})
    paths(execute, "INSERT", iter([(STAGED,)]), True, {})
    paths(execute, "SELECT 1", None, False, {})
    assert seen == [("SELECT '%s'" % LIVE, (LIVE,), False), ("INSERT", [(LIVE,)], True), ("SELECT 1", None, False)]
    connection = types.SimpleNamespace(execute_wrappers=[])
    for _ in range(2):
        paths.watch(connection)
    assert connection.execute_wrappers == [paths]
