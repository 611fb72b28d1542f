"""A view: a mount namespace in which the staged tree is at the live path, and everything else is the live machine."""

from __future__ import annotations

import os
import stat

from . import git_link, kernel
from .errors import Refused
from .layers import inside, links_to, touch

# The live tree in a view, for the files in it that the staged tree links to.
HIDDEN = ".deploykit-live"


class View:
    """The staged tree at the live path: directories of placeholders in memory, with one mount for each entry."""

    def __init__(self, root: str, live: str, staged: str, show: list[list[str]]) -> None:
        """Makes it in an empty directory, in this process's mount namespace; `show` are further directories and their paths."""
        self.live, self.staged = os.path.realpath(live), os.path.realpath(staged)
        self.links = set(links_to(live, self.staged))
        self.git = git_link.text(live, self.staged, self.at_live(HIDDEN + "/.git"))
        shown = {os.path.realpath(path): os.path.realpath(source) for source, path in show}
        self.within = {path[len(self.live) + 1 :]: shown[path] for path in shown if inside(path, self.live)}
        self.beside = {path: shown[path] for path in shown if path not in map(self.at_live, self.within)}
        # The directories of placeholders: what is in them comes from different places.
        self.open = {""} | {parent for name in [*self.links, *self.within] for parent in parents(name)}
        kernel.mount(None, "/", None, kernel.REC | kernel.PRIVATE)
        self.root = root
        kernel.mount("tmpfs", self.root, "tmpfs", kernel.NOSUID | kernel.NODEV, "mode=755")
        # The directory may lie in the live tree, and must not be bound with it.
        kernel.mount(None, self.root, None, kernel.UNBINDABLE)
        os.mkdir(self.at(HIDDEN), 0o700)
        kernel.bind(self.live, self.at(HIDDEN))
        self.fill("")
        for name, source in sorted(self.within.items()):
            self.show(source, self.at(name), self.at_live(name))
        for path, source in self.beside.items():
            self.show(source, path, path)
        kernel.mount(self.root, self.live, None, kernel.MOVE)
        self.made = {name: self.look(name) for name in self.open}
        self.held: list[int] = []

    def at(self, name: str) -> str:
        """Returns where an entry of the view is while it is made."""
        return "%s/%s" % (self.root, name)

    def at_live(self, name: str) -> str:
        """Returns where an entry of the view is for the site."""
        return "%s/%s" % (self.live, name)

    def fill(self, name: str) -> None:
        """Fills a directory of placeholders."""
        with os.scandir("%s/%s" % (self.staged, name)) as entries:
            for entry in entries:
                part = "%s/%s" % (name, entry.name) if name else entry.name
                if part in self.links:
                    self.link(part)
                elif part == ".git" and self.git:
                    git_link.write(self.at(part), self.git)
                elif entry.is_symlink():
                    os.symlink(os.readlink(entry.path), self.at(part))
                elif entry.is_dir() and part in self.open:
                    os.mkdir(self.at(part), 0o700)
                    self.fill(part)
                else:
                    self.bind(entry.path, self.at(part))
        live = self.at_live(name)
        found = os.stat(live if kernel.is_directory(live) else "%s/%s" % (self.staged, name))
        if os.getuid() == 0:
            os.chown(self.at(name), found.st_uid, found.st_gid)
        os.chmod(self.at(name), stat.S_IMODE(found.st_mode))

    def link(self, name: str) -> None:
        """Puts the live file or directory there that the staged tree links to."""
        source, target = self.at("%s/%s" % (HIDDEN, name)), self.at(name)
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        # A module asks for its real path, to find others; it is not changed while it is open.
        elif os.path.isdir(source) or (name.endswith(".py") and os.path.isfile(source)):
            self.bind(source, target)
        elif os.path.lexists(source):
            # Through the live directory, for the files beside it: SQLite keeps its journal beside the target of a symlink.
            os.symlink(self.at_live("%s/%s" % (HIDDEN, name)), target)

    def bind(self, source: str, target: str) -> None:
        """Binds a file or a directory to a placeholder."""
        if os.path.isdir(source):
            os.mkdir(target, 0o700)
        else:
            touch(target)
        kernel.bind(source, target)

    def show(self, source: str, target: str, path: str) -> None:
        """Binds a directory to another path."""
        if not os.path.isdir(target):
            if os.path.dirname(path)[len(self.live) + 1 :] not in self.open or not inside(path, self.live):
                raise Refused("no_bridge", reason="`%s` does not exist" % path)
            os.mkdir(target, 0o700)
        kernel.bind(source, target)

    def hold(self) -> None:
        """Remembers the mounts beside the live tree: they move with their directories if these are exchanged for others."""
        self.held = [os.open(path, os.O_PATH) for path in self.beside]

    def remove(self) -> None:
        """Removes the view: its processes see the live paths again."""
        for mount in self.held:
            kernel.unmount("/proc/self/fd/%d" % mount)
        kernel.unmount(self.live)

    def look(self, name: str) -> dict[str, str | None]:
        """Returns the entries of a directory of placeholders; symlinks with their targets."""
        with os.scandir(self.at_live(name)) as entries:
            return {entry.name: os.readlink(entry.path) if entry.is_symlink() else None for entry in entries}

    def written(self) -> list[str]:
        """Returns the paths of what was written to placeholders, and would be lost with the view."""
        found = []
        for name, made in self.made.items():
            now = self.look(name)
            changed = [entry for entry in {*made, *now} if entry not in made or entry not in now or made[entry] != now[entry]]
            found += [os.path.normpath("%s/%s/%s" % (self.live, name, entry)) for entry in changed if entry != "__pycache__"]
        return sorted(found)


def parents(name: str) -> list[str]:
    """Returns the directories above a name, without the topmost."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
