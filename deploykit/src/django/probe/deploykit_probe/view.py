"""A view: a mount namespace in which the staged tree is at the live path, and everything else is the live machine."""

from __future__ import annotations

import os
import stat

from . import git_link, kernel
from .errors import Refused
from .kinds import Json
from .layers import inside, links_to, touch

# The live directory in a view, for the files in it that the view links to.
HIDDEN = ".deploykit-live"


class View:
    """The staged tree at the live path, and other directories at theirs."""

    def __init__(self, spec: Json, root: str) -> None:
        """Makes it in an empty directory, in this process's mount namespace."""
        self.staged, self.live = map(os.path.realpath, spec["tree"])
        shown = {os.path.realpath(path): os.path.realpath(source) for source, path in spec["show"]}
        within = {path: source for path, source in shown.items() if inside(path, self.live)}
        self.beside = [path for path in shown if path not in within]
        kernel.mount(None, "/", None, kernel.REC | kernel.PRIVATE)
        self.covers: list[Cover] = []
        virtualenv = {}
        if spec["virtualenv"]:
            source, path = spec["virtualenv"]
            # A symlink now.
            path = "%s/%s" % (os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            virtualenv = {path: os.path.realpath(source)}
            if not inside(path, self.live):
                self.covers.append(Cover(root, os.path.dirname(path), None, {}, virtualenv))
                self.covers[0].move()
        self.covers.append(Cover(root, self.live, self.staged, within, {} if self.covers else virtualenv))
        for path in self.beside:
            if not os.path.isdir(path):
                raise Refused("no_bridge", reason="`%s` does not exist" % path)
            kernel.bind(shown[path], path)
        self.covers[-1].move()
        for path in virtualenv:
            if not kernel.is_directory(path):
                raise Refused("no_bridge", reason="the virtualenv cannot be shown at `%s`" % path)
        self.made = {path: look(path) for cover in self.covers for path in cover.directories()}
        self.held: list[int] = []

    def hold(self) -> None:
        """Remembers the mounts beside the live tree: they move with their directories if these are exchanged for others."""
        self.held = [os.open(path, os.O_PATH) for path in self.beside]

    def remove(self) -> None:
        """Removes the view: its processes see the live paths again."""
        for mount in self.held:
            kernel.unmount("/proc/self/fd/%d" % mount)
        for cover in reversed(self.covers):
            kernel.unmount(cover.live)


class Cover:
    """A directory of placeholders in memory for a live one, with one mount for each entry."""

    def __init__(self, root: str, live: str, staged: str | None, shown: dict[str, str], replaced: dict[str, str]) -> None:
        """Makes it in an empty directory. Its entries are those of the staged directory, or else of the live one.

        Directories are shown over others at their paths, or replace what is there.
        """
        self.root, self.live, self.staged = root, live, staged
        self.links = set(links_to(live, staged)) if staged else set()
        self.git = git_link.text(live, staged, "%s/%s/.git" % (live, HIDDEN)) if staged else None
        self.replaced = [self.name(path) for path in replaced]
        self.above = {parent for name in self.replaced for parent in parents(name)}
        # The directories of placeholders: what is in them comes from different places.
        self.open = {parent for name in [*self.links, *map(self.name, shown)] for parent in parents(name)} | self.above
        self.filled = [""]
        kernel.mount("tmpfs", root, "tmpfs", kernel.NOSUID | kernel.NODEV, "mode=755")
        # The directory may lie in the live one, and must not be bound with it.
        kernel.mount(None, root, None, kernel.UNBINDABLE)
        os.mkdir(self.at(HIDDEN), 0o700)
        kernel.bind(live, self.at(HIDDEN))
        self.fill("", staged is None)
        for path, source in [*sorted(shown.items()), *replaced.items()]:
            self.show(source, self.name(path))

    def name(self, path: str) -> str:
        """Returns the name of an entry of the live directory."""
        return path[len(self.live) + 1 :]

    def at(self, name: str) -> str:
        """Returns where an entry is while this is made."""
        return "%s/%s" % (self.root, name)

    def move(self) -> None:
        """Moves it to the live path."""
        kernel.mount(self.root, self.live, None, kernel.MOVE)

    def directories(self) -> list[str]:
        """Returns the paths of the directories of placeholders."""
        return [os.path.normpath("%s/%s" % (self.live, name)) for name in self.filled]

    def fill(self, name: str, linked: bool) -> None:
        """Fills a directory of placeholders."""
        top = self.at(HIDDEN) if linked else self.staged
        with os.scandir("%s/%s" % (top, name)) as entries:
            for entry in entries:
                part = "%s/%s" % (name, entry.name) if name else entry.name
                link = linked or part in self.links
                if part in self.replaced:
                    continue
                if entry.is_dir() and (part in self.above if link else part in self.open and not entry.is_symlink()):
                    os.mkdir(self.at(part), 0o700)
                    self.filled.append(part)
                    self.fill(part, link)
                elif link:
                    self.link(part)
                elif part == ".git" and self.git:
                    git_link.write(self.at(part), self.git)
                elif entry.is_symlink():
                    os.symlink(os.readlink(entry.path), self.at(part))
                else:
                    self.bind(entry.path, self.at(part))
        live = "%s/%s" % (self.live, name)
        found = os.stat(live if kernel.is_directory(live) else "%s/%s" % (top, name))
        if os.getuid() == 0:
            os.chown(self.at(name), found.st_uid, found.st_gid)
        os.chmod(self.at(name), stat.S_IMODE(found.st_mode))

    def link(self, name: str) -> None:
        """Puts the live file or directory there."""
        source, target = self.at("%s/%s" % (HIDDEN, name)), self.at(name)
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        # A module asks for its real path, to find others; it is not changed while it is open.
        elif os.path.isdir(source) or (name.endswith(".py") and os.path.isfile(source)):
            self.bind(source, target)
        elif os.path.lexists(source):
            # Through the live directory, for the files beside it: SQLite keeps its journal beside the target of a symlink.
            os.symlink("%s/%s/%s" % (self.live, HIDDEN, name), target)

    def bind(self, source: str, target: str) -> None:
        """Binds a file or a directory to a placeholder."""
        if os.path.isdir(source):
            os.mkdir(target, 0o700)
        else:
            touch(target)
        kernel.bind(source, target)

    def show(self, source: str, name: str) -> None:
        """Binds a directory to another path."""
        if not os.path.isdir(self.at(name)):
            if os.path.dirname(name) not in self.filled:
                raise Refused("no_bridge", reason="`%s/%s` does not exist" % (self.live, name))
            os.mkdir(self.at(name), 0o700)
        kernel.bind(source, self.at(name))


def look(directory: str) -> dict[str, str | None]:
    """Returns the entries of a directory of placeholders; symlinks with their targets."""
    with os.scandir(directory) as entries:
        return {entry.name: os.readlink(entry.path) if entry.is_symlink() else None for entry in entries}


def written(made: dict[str, dict[str, str | None]]) -> list[str]:
    """Returns the paths of what was written to placeholders, and would be lost with the view."""
    found = []
    for directory, then in made.items():
        now = look(directory)
        changed = [entry for entry in {*then, *now} if entry not in then or entry not in now or then[entry] != now[entry]]
        found += ["%s/%s" % (directory, entry) for entry in changed if entry != "__pycache__"]
    return sorted(found)


def parents(name: str) -> list[str]:
    """Returns the directories above a name, without the topmost."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
