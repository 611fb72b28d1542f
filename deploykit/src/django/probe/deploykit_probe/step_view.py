"""A view for a step of the site's own: the staged tree, as a whole, is at the live path while the step runs."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from . import git_link, kernel
from .kinds import Json
from .layers import links_to


class StepView:
    """The staged tree at the live path. Its links lead to the live tree, which is at another path meanwhile.

    What is made, renamed or replaced is so in the staged tree. What is linked can be written to, not renamed or removed.
    """

    def __init__(self, spec: Json) -> None:
        """Takes the directories, and a place for the live tree: an empty directory that is in neither of them."""
        self.live, self.staged, self.place = (os.path.realpath(spec[name]) for name in ("live", "staged", "place"))
        self.directory, self.argv = spec["directory"], spec["argv"]

    def make(self) -> None:
        """Makes it in a mount namespace of its own."""
        kernel.unshare(kernel.NEWNS)
        kernel.mount(None, "/", None, kernel.REC | kernel.PRIVATE)
        links = links_to(self.live, self.staged)
        git = git_link.text(self.live, self.staged, self.place + "/live/.git")
        kernel.mount("tmpfs", self.place, "tmpfs", kernel.NOSUID | kernel.NODEV, "mode=700")
        for name in ("live", "links"):
            os.mkdir("%s/%s" % (self.place, name))
        kernel.bind(self.live, self.place + "/live")
        kernel.bind(self.staged, self.live)
        for number, name in enumerate(links):
            self.lead(name, "%s/links/%d" % (self.place, number))
        if git:
            git_link.write(self.place + "/git", git)
            kernel.bind(self.place + "/git", self.live + "/.git")

    def lead(self, name: str, link: str) -> None:
        """Covers a link, which leads to itself here, by one that leads to the live tree."""
        source = "%s/live/%s" % (self.place, name)
        # A module may find others by its own real path.
        if not (name.endswith(".py") and os.path.isfile(source)):
            os.symlink(source, link)
            source = link
        opened = [os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC) for path in (source, "%s/%s" % (self.live, name))]
        try:
            kernel.bind("/proc/self/fd/%d" % opened[0], "/proc/self/fd/%d" % opened[1], 0)
        finally:
            for one in opened:
                os.close(one)

    def can_be_had(self) -> bool:
        """Tells whether the view can be made and the step can start in it, by trying that in another process."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self.make()
                os.chdir(self.directory)
                code = 0 if os.access(self.argv[0], os.X_OK) else 1
            except (ImportError, OSError):
                pass
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        return status == 0


def run(spec: Json) -> NoReturn:
    """Becomes the step: in a view, or if there can be none, in the working directory, which is in the staged tree."""
    view = StepView(spec)
    if view.can_be_had():
        view.make()
        os.chdir(view.directory)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(view.argv[0], view.argv)
