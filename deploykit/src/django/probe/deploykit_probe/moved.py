"""Lets a fork know another directory than the process that it was forked from: the live checkout, not the staged tree."""

from __future__ import annotations

import collections
import functools
import gc
import os
import pathlib
import re
import types
from typing import Any

# Types whose values cannot hold a path by themselves, so that each is judged once.
PLAIN: set[type] = {int, float, bool, type(None)}

# What is replaced where it is held, since it cannot be changed.
FIXED = (str, bytes, tuple, frozenset, pathlib.PurePath, types.CodeType)

# How much is shown of a text that names a path.
SHOWN = 120

Cache: Any = type(functools.lru_cache(lambda: None))


def pattern(pairs: list[list[str]]) -> re.Pattern[str]:
    """Returns what finds the first of each pair, each as a group, but not itself; another directory may have a longer name."""
    every = "|".join("(%s)" % re.escape(pair[0]).replace("/", "[/]") for pair in pairs)
    return re.compile("(?:%s)(?![\\w.-])" % every if pairs else "(?!)")


class Moves:
    """Replaces paths. It keeps them in compiled patterns only: as texts of this process they would be found, too."""

    def __init__(self, trees: list[list[str]], others: list[list[str]]) -> None:
        """Takes pairs of a directory and the one that stands for it; where `others` lie is no matter of a traceback."""
        self.to = [pair[1] for pair in trees + others]
        self.texts = pattern(trees + others)
        self.bytes = re.compile(self.texts.pattern.encode("utf-8", "surrogateescape"))
        self.code = pattern(trees)

    def text(self, text: str) -> str:
        """Returns a text with its paths replaced."""
        return self.texts.sub(lambda found: self.to[(found.lastindex or 1) - 1], text)

    def named(self, value: Any) -> str | None:
        """Returns the text by which a value names such a path; `None`: none does. Holders are not looked into."""
        kind = type(value)
        if kind is str:
            return value if self.texts.search(value) else None
        if kind in PLAIN:
            return None
        if is_a(value, str):
            return self.named(str.__str__(value))
        if is_a(value, bytes):
            return repr(value) if self.bytes.search(value) else None
        if is_a(value, pathlib.PurePath):
            return self.named(str(value))
        if is_a(value, (tuple, frozenset)):
            return next((found for found in map(self.named, value) if found), None)
        if is_a(value, types.CodeType):
            return value.co_filename if self.code.search(value.co_filename) else None
        PLAIN.add(kind)
        return None

    def moved(self, value: Any) -> Any:
        """Returns a value with its paths replaced; a value that cannot be rebuilt is returned unchanged."""
        if self.named(value) is None:
            return value
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is bytes:
            return os.fsencode(self.text(os.fsdecode(value)))
        if kind in (pathlib.PosixPath, pathlib.PurePosixPath):
            return kind(self.text(str(value)))
        if kind is frozenset:
            return frozenset(map(self.moved, value))
        if kind is tuple or (is_a(value, tuple) and hasattr(value, "_fields")):
            return tuple.__new__(kind, map(self.moved, value))
        if kind is types.CodeType:
            return value.replace(co_filename=self.text(value.co_filename), co_consts=self.moved(value.co_consts))
        return value

    def holders(self) -> list[Any]:
        """Returns the objects that hold such a path and that are no values themselves."""
        objects = gc.get_objects()
        parts = gc.get_referents(*objects)
        # Dictionaries that hold nothing but texts and numbers are not tracked.
        objects += {id(part): part for part in parts if type(part) is dict and not gc.is_tracked(part)}.values()
        parts = gc.get_referents(*objects)
        for holder in objects:
            if is_a(holder, dict):
                # The collector leaves out keys that are texts.
                parts.extend(dict.keys(holder))
        values = {id(part): part for part in parts if type(part) not in PLAIN}
        del parts
        named = {number for number, value in values.items() if self.named(value)}
        del values
        held = (holder for holder in objects if not named.isdisjoint(map(id, held_by(holder))))
        # A fork does not return to the calls that it came from.
        return [holder for holder in held if not is_a(holder, FIXED + (types.FrameType, types.TracebackType))]

    def move(self) -> None:
        """Replaces the paths in every object of this process, as far as it can."""
        # Python remembers what it found in a class, and so does a cache: their dictionaries are theirs to change.
        owners: dict[int, Any] = {}
        for owner in gc.get_objects():
            if is_a(owner, (type, Cache)):
                owners.update((id(part), owner) for part in gc.get_referents(owner) if type(part) is dict)
        for holder in self.holders():
            try:
                self.change(owners.get(id(holder), holder))
            except Exception:
                # The search for remaining paths finds what cannot be changed.
                continue

    def change(self, holder: Any) -> None:
        """Replaces the paths that an object holds."""
        if is_a(holder, dict):
            self.change_dict(holder)
        elif is_a(holder, (list, collections.deque)):
            for index, value in enumerate(holder):
                holder[index] = self.moved(value)
        elif is_a(holder, set):
            values = set(map(self.moved, holder))
            holder.clear()
            holder.update(values)
        elif is_a(holder, types.CellType):
            holder.cell_contents = self.moved(holder.cell_contents)
        elif is_a(holder, types.FunctionType):
            holder.__code__ = self.moved(holder.__code__)
            holder.__defaults__ = self.moved(holder.__defaults__)
            self.change_dict(holder.__dict__)
        elif is_a(holder, type):
            for name, value in list(vars(holder).items()):
                if self.named(value):
                    type.__setattr__(holder, name, self.moved(value))
        elif is_a(holder, Cache):
            holder.cache_clear()
        elif type(holder) is functools.partial:
            holder.__setstate__((holder.func, self.moved(holder.args), holder.keywords, holder.__dict__))  # type: ignore[attr-defined]
        else:
            self.change_instance(holder)

    def change_dict(self, holder: dict[Any, Any]) -> None:
        """Replaces the paths in a dictionary."""
        for key, value in list(dict.items(holder)):
            if self.named(value):
                dict.__setitem__(holder, key, self.moved(value))
        if type(holder) in (dict, collections.defaultdict, collections.OrderedDict) and any(map(self.named, holder)):
            items = [(self.moved(key), value) for key, value in holder.items()]
            holder.clear()
            holder.update(items)

    def change_instance(self, holder: Any) -> None:
        """Replaces the paths in the attributes of an object."""
        try:
            self.change_dict(object.__getattribute__(holder, "__dict__"))
        except AttributeError:
            # It has slots alone.
            pass
        for kind in type(holder).__mro__:
            for slot in list(vars(kind).values()):
                if not is_a(slot, types.MemberDescriptorType):
                    continue
                try:
                    value = slot.__get__(holder, kind)
                except AttributeError:
                    # It is not set.
                    continue
                if self.named(value):
                    slot.__set__(holder, self.moved(value))

    def left(self) -> str | None:
        """Returns what still names such a path; `None`: nothing does."""
        for holder in self.holders():
            kind = type(holder)
            found = next(filter(None, map(self.named, held_by(holder))), "")
            return "%s.%s: %s" % (kind.__module__, kind.__qualname__, found[:SHOWN])
        return None


def held_by(holder: Any) -> list[Any]:
    """Returns what an object refers to, with the keys of a dictionary."""
    parts = gc.get_referents(holder)
    if is_a(holder, dict):
        parts.extend(dict.keys(holder))
    return parts


def is_a(value: Any, kinds: Any) -> bool:
    """Tells what an object is without asking it: one that Django makes lazily would make what it stands for."""
    return issubclass(type(value), kinds)
