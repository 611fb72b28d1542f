"""Paths that are replaced in the objects of a process."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from deploykit_probe.moved import Moves

PROGRAM = """
import collections, functools, json, operator, pathlib, sys
from deploykit_probe.moved import Moves

OLD, NEW = "/srv/" + sys.argv[1], "/srv/" + sys.argv[2]

class Slots:
    __slots__ = ("path",)

class Named:
    where = OLD + "/class"

def function(x=OLD, *, y=(OLD, [OLD])):
    z = x
    return lambda: z

@functools.lru_cache(maxsize=None)
def cached(name):
    return OLD + name

cached("/a")
slots, named = Slots(), Named()
slots.path, named.path = OLD, pathlib.Path(OLD) / "p"
inner = function()
things = {OLD: [OLD + "/a:" + OLD + "/b", {OLD}, frozenset([OLD]), collections.deque([OLD])], "url": "sqlite:///" + OLD}
texts = {OLD: 1, OLD + "/x": "y"}
ordered = collections.OrderedDict([(OLD + "/1", 1), ("b", OLD)])
bound = functools.partial(print, OLD, end=OLD)
caller = operator.methodcaller("x", OLD) if sys.argv[3:] else None
others = [OLD + "er", OLD + ".d", OLD + "-x"]
OLD_, OLD = [OLD], None
moves = Moves([[OLD_.pop(), NEW]], [])
moves.move()
left = moves.left()
print(json.dumps([left, slots.path, Named.where, str(named.path), inner(), function.__defaults__, function.__kwdefaults__]))
print(repr((things, ordered, bound.args, bound.keywords, texts)).replace(NEW, "NEW"))
print([other[5:] for other in others])
"""


def moved(*arguments: str) -> list[str]:
    """Runs the program in a process of its own, and returns what it says."""
    where = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=dict(os.environ, PYTHONPATH=str(where)),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_every_object_knows_the_new_path() -> None:
    """A longer name is another one."""
    first, second, third = moved("staged", "live")
    new = '"/srv/live"'
    assert first == '[null, %s, "/srv/live/class", "/srv/live/p", %s, [%s], {"y": [%s, [%s]]}]' % ((new,) * 5)
    values = "['NEW/a:NEW/b', {'NEW'}, frozenset({'NEW'}), deque(['NEW'])]"
    assert second.startswith("({'NEW': %s, 'url': 'sqlite:///NEW'}, OrderedDict(" % values)
    assert second.endswith("{'NEW': 1, 'NEW/x': 'y'})")
    assert "('NEW',), {'end': 'NEW'}" in second
    assert "NEW/1" in second and "staged" not in second
    assert third == "['stageder', 'staged.d', 'staged-x']"


def test_what_cannot_be_changed_is_named() -> None:
    """Arguments that are bound in C are out of reach."""
    assert moved("staged", "live", "caller")[0].startswith('["operator.methodcaller: /srv/staged", ')


def test_only_values_are_made_anew() -> None:
    """Values of other types are returned as they are."""
    pair = collections.namedtuple("pair", "a b")
    moves = Moves([["/srv/old", "/srv/new"]], [["/env/1", "/venv"]])
    found: Any = moves.moved((b"/srv/old/x", PurePosixPath("/srv/old"), pair("/env/1/bin", 3), "/env/12"))
    assert found == (b"/srv/new/x", PurePosixPath("/srv/new"), pair("/venv/bin", 3), "/env/12")
    assert type(found[2]) is pair
    kept = ["/srv/old"]
    assert moves.moved(kept) is kept
    assert moves.text("/srv/older /srv/old /srv/old: /env/1") == "/srv/older /srv/new /srv/new: /venv"
