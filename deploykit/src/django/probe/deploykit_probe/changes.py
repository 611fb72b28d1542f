"""Records what migrations do to files of the checkout before they do it, so that it can be undone.

Only what the staged tree would have taken counts: what is below one of its links is the site's data. Programs that a migration
starts, and libraries that open files by themselves, are not seen.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import threading
from typing import Any, Callable, Iterator

from .answers import line_of
from .kinds import Json


class Changes:
    """Hears of changes before they are made, by Python's audit events."""

    def __init__(self, record: Json, tree: list[str]) -> None:
        """Takes the file of the record, the directory for what is removed or replaced, and the staged and the live tree."""
        self.file, self.aside = record["file"], record["aside"]
        # The path would be taken for one that is left.
        self.staged = os.open(tree[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.live = os.path.realpath(tree[1])
        self.recording, self.busy = False, threading.local()
        # Where files that were there before are now.
        self.old: set[str] = set()
        self.events: dict[str, Callable[..., None]] = {
            "open": self.opened,
            "os.link": lambda source, target, _, directory: self.made(target, directory),
            "os.mkdir": lambda path, _, directory: self.made(path, directory),
            "os.remove": self.removed,
            "os.rename": self.renamed,
            "os.symlink": lambda source, target, directory: self.made(target, directory),
            "sqlite3.connect": self.made,
        }

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Records what happens meanwhile."""
        # This cannot be taken back.
        sys.addaudithook(self.hear)
        self.recording = True
        try:
            yield
        finally:
            self.recording = False

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Hears of an event. What is done here is not recorded."""
        if not self.recording or event not in self.events or getattr(self.busy, "now", False):
            return
        self.busy.now = True
        try:
            self.events[event](*args)
        finally:
            self.busy.now = False

    def opened(self, path: Any, mode: str | None, flags: Any) -> None:
        """A file is opened."""
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.made(path)

    def made(self, path: Any, directory: int = -1) -> None:
        """A file or a directory is made, unless it is there."""
        name = self.name_of(path, directory)
        if name and not os.path.lexists(self.path(name)) and os.path.isdir(os.path.dirname(self.path(name))):
            self.tell({"new": name})

    def removed(self, path: Any, directory: int) -> None:
        """A file is removed."""
        name = self.name_of(path, directory)
        if name and self.is_old(name):
            self.keep("removed", name)

    def renamed(self, source: Any, target: Any, source_directory: int, target_directory: int) -> None:
        """A file or a directory is renamed, perhaps over another file."""
        name, to = self.name_of(source, source_directory), self.name_of(target, target_directory)
        is_there = to is not None and os.path.lexists(self.path(to))
        if to and is_there and self.is_old(to):
            self.keep("replaced", to)
        if name and self.is_old(name):
            if to and not is_there:
                self.tell({"renamed": [name, to]})
                self.old.add(to)
            else:
                self.keep("removed", name)
            self.old.discard(name)
        elif to and not is_there:
            self.tell({"new": to})

    def keep(self, what: str, name: str) -> None:
        """Keeps a file that goes; what was kept already is what was there first."""
        kept = os.path.join(self.aside, name)
        if os.path.lexists(kept) or os.path.isdir(self.path(name)):
            return
        os.makedirs(os.path.dirname(kept), 0o700, exist_ok=True)
        try:
            os.link(self.path(name), kept, follow_symlinks=False)
        except OSError:
            # Another file system, or a file of another user.
            shutil.copy2(self.path(name), kept, follow_symlinks=False)
        self.tell({what: name})

    def is_old(self, name: str) -> bool:
        """Tells whether a file was there before, and no commit has it."""
        return name in self.old or self.is_link(name)

    def is_link(self, name: str) -> bool:
        """Tells whether the staged tree has a link in this place."""
        try:
            return stat.S_ISLNK(os.stat(name, dir_fd=self.staged, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def name_of(self, path: Any, directory: int = -1) -> str | None:
        """Returns where a path is, from the top of the checkout; `None`: it is elsewhere, site's data or bytecode."""
        if isinstance(path, int):
            return None
        try:
            text = os.path.join(os.readlink("/proc/self/fd/%d" % directory) if directory >= 0 else "", os.fsdecode(path))
        except (OSError, TypeError):
            # The call that was heard of fails likewise.
            return None
        above, last = os.path.split(os.path.abspath(text))
        real = os.path.join(os.path.realpath(above), last)
        if not real.startswith(self.live + os.sep):
            return None
        name = real[len(self.live) + 1 :]
        parts = name.split(os.sep)
        above_it = (os.sep.join(parts[:count]) for count in range(1, len(parts)))
        return None if "__pycache__" in parts or any(map(self.is_link, above_it)) else name

    def path(self, name: str) -> str:
        """Returns the live path."""
        return os.path.join(self.live, name)

    def tell(self, change: Json) -> None:
        """Writes a change."""
        file = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line_of(change))
        finally:
            os.close(file)
