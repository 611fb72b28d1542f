"""The file system of a sandbox: overlays over the live one, which writes never reach."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile

from . import git_link, kernel
from .errors import Refused

# Virtual file systems of the kernel, and those that mount others on access.
KERNELS = (
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc pstore"
    " rpc_pipefs securityfs sysfs tracefs"
).split()
OWN = ("/proc", "/sys", "/dev")

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

# Files of `/proc` through which root changes the kernel.
PROC = ("sys", "sysrq-trigger", "irq", "bus", "fs")

# The search for an ordinary user's directories: where it does not look, how deep it looks elsewhere, and in how many
# directories of the machine (`False`) and of the site (`True`).
FOREIGN = ("/boot", "/etc", "/usr")
DEPTH = 3
MOST = {False: 3000, True: 50000}

# Maximum size of a file that is copied where no overlay can be mounted; larger ones are read-only.
SMALL = 16 << 20

# Maximum size of all files that are copied beforehand because the kernel could not copy them.
ROOM = 64 << 20

TMPFS = "mode=755,size=25%"


def inside(path: str, directory: str) -> bool:
    """Tells whether a path is this directory, or lies in it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


class Layers:
    """Overlays over directories: writes go to layers on the disk or in memory."""

    def __init__(self, scratch: str, user: bool) -> None:
        """Begins with an empty root."""
        self.scratch, self.user = os.path.realpath(scratch), user
        self.mounts = [one for one in kernel.mounts() if not inside(one.path, self.scratch)]
        self.count = 0
        self.seen = {False: 0, True: 0}
        self.room = ROOM
        self.empty: list[str] = []
        self.places: list[str] = []
        # Directories that could only be bind-mounted: the sockets in them are the live ones.
        self.bound: list[str] = []
        # Several sandboxes may share one scratch directory.
        self.disk, self.memory = (tempfile.mkdtemp(prefix=name, dir=self.scratch) for name in ("disk-", "memory-"))
        kernel.mount("tmpfs", self.memory, "tmpfs", kernel.NOSUID | kernel.NODEV, TMPFS)
        self.root = self.memory + "/root"
        os.mkdir(self.root, 0o755)
        kernel.bind(self.root, self.root)

    def at(self, path: str) -> str:
        """Returns where a path of the new root is before the root is changed."""
        found = self.root + path
        if not inside(os.path.realpath(found), self.root):
            raise Refused("no_sandbox", reason="`%s` leads elsewhere in the staged tree than in the live one" % path)
        return found

    def mount_of(self, path: str) -> kernel.Mount:
        """Returns the mount that a path lies on."""
        return max((one for one in self.mounts if inside(path, one.path)), key=lambda one: len(one.path))

    def near(self, path: str) -> bool:
        """Tells whether a path is above one of the site's places, or in it."""
        return any(inside(path, one) or inside(one, path) for one in [*self.places, self.scratch])

    def cover(self, path: str, target: str) -> None:
        """Covers a directory with an overlay, and what is mounted in it, too."""
        below = [one for one in self.mounts if one.path != path and inside(one.path, path)]
        if not self.user:
            self.layer(path, target)
            for one in below:
                place = target.rstrip("/") + one.path[len(path.rstrip("/")) :]
                if one.kind not in KERNELS and not any(inside(one.path, own) for own in OWN) and os.path.isdir(place):
                    self.layer(one.path, place)
        elif self.mount_of(path).kind in KERNELS or path in OWN:
            return
        elif below:
            self.rebuild(path, target)
        else:
            self.layer(path, target)

    def rebuild(self, path: str, target: str) -> None:
        """Rebuilds a directory entry by entry: the kernel does not let an ordinary user see what mounts hide."""
        if target != self.root:
            kernel.mount("tmpfs", target, "tmpfs", kernel.NOSUID | kernel.NODEV, TMPFS)
        shared = os.stat(path).st_mode & stat.S_ISVTX
        for entry in entries_of(path):
            try:
                # Files of other users in a shared directory, such as `/tmp`, may be many, and the site does not need them.
                if shared and not self.near(entry.path) and entry.stat(follow_symlinks=False).st_uid != os.getuid():
                    continue
                self.rebuild_entry(entry, "%s/%s" % (target, entry.name))
            except FileNotFoundError:
                # It was removed meanwhile.
                continue
        self.be_like(path, target)

    def rebuild_entry(self, entry: os.DirEntry[str], target: str) -> None:
        """Rebuilds an entry of a directory."""
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), target)
        elif entry.is_dir():
            os.mkdir(target, 0o755)
            self.cover(entry.path, target)
        elif entry.is_file():
            touch(target)
            if entry.path in self.empty:
                self.be_like(entry.path, target)
            elif entry.stat().st_size <= SMALL and os.access(entry.path, os.R_OK | os.W_OK):
                shutil.copyfile(entry.path, target)
                self.be_like(entry.path, target)
            else:
                self.freeze(entry.path, target)

    def layer(self, path: str, target: str, shown: str | None = None, instead: dict[str, str] | None = None) -> None:
        """Covers a directory with an overlay whose upper layer is on the disk, or else in memory."""
        shown = shown or path
        places = [self.memory] if inside(self.scratch, path) else [self.disk, self.memory]
        failed = None
        for place in places:
            self.count += 1
            upper, work = ("%s/%s%d" % (place, name, self.count) for name in ("upper", "work"))
            for directory in (upper, work):
                os.mkdir(directory, 0o700)
            self.fill(path, upper, shown, instead or {})
            try:
                self.overlay(path, upper, work, target)
                return
            except OSError as error:
                failed = failed or error
        # The site must be able to write; elsewhere, read-only is enough.
        if any(inside(place, shown) for place in self.places if place != shown) or shown in self.places or shown == "/":
            raise failed or OSError(path)
        self.freeze(path, target)

    def overlay(self, path: str, upper: str, work: str, target: str) -> None:
        """Mounts an overlay."""
        lower, data = os.open(path, os.O_PATH), ""
        numbers = [lower, os.open(upper, os.O_PATH), os.open(work, os.O_PATH)]
        try:
            # A path may contain the separators of options.
            data = "lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d" % tuple(numbers)
            data += ",userxattr" if self.user else ",index=off,redirect_dir=on,metacopy=on"
            try:
                kernel.mount("overlay", target, "overlay", kernel.NODEV, data + ",volatile")
            except OSError:
                kernel.mount("overlay", target, "overlay", kernel.NODEV, data)
        except OSError as error:
            raise OSError(error.errno, "mounting an overlay over `%s`: %s" % (path, os.strerror(error.errno or 0))) from error
        finally:
            for one in numbers:
                os.close(one)
        open_up(work)

    def freeze(self, path: str, target: str) -> None:
        """Bind-mounts the live directory or file read-only."""
        self.bound.append(path)
        kernel.bind(path, target)
        kernel.read_only(target, self.mount_of(path).flags)
        for one in self.mounts:
            if one.path != path and inside(one.path, path):
                kernel.read_only(target + one.path[len(path.rstrip("/")) :], one.flags)

    def be_like(self, path: str, target: str) -> None:
        """Gives a directory or a file the attributes of another, as far as the kernel lets this user."""
        found = os.stat(path)
        if not self.user:
            os.chown(target, found.st_uid, found.st_gid)
        if not self.user or is_ours(found):
            shutil.copystat(path, target)
            return
        # The copy belongs to this user; what the user could do with the original stays allowed.
        bits = sum(bit for bit in (os.R_OK, os.W_OK, os.X_OK) if os.access(path, bit))
        os.chmod(target, stat.S_IMODE(found.st_mode) & 0o1077 | bits << 6)

    def fill(self, lower: str, upper: str, shown: str, instead: dict[str, str]) -> None:
        """Puts into an upper layer what hides entries of the lower one."""
        self.be_like(lower, upper)
        if self.user:
            self.own_directories(lower, upper, shown)
        for path in self.empty:
            name = path[len(shown.rstrip("/")) + 1 :]
            if inside(path, shown) and os.path.isfile("%s/%s" % (lower, name)) and self.parents(lower, upper, name):
                touch("%s/%s" % (upper, name))
                self.be_like("%s/%s" % (lower, name), "%s/%s" % (upper, name))
        for name, source in instead.items():
            self.parents(lower, upper, name)
            there = "%s/%s" % (upper, name)
            if os.path.islink(source):
                os.symlink(os.readlink(source), there)
            elif os.path.isdir(source):
                os.mkdir(there)
            else:
                touch(there)

    def parents(self, lower: str, upper: str, name: str) -> bool:
        """Makes the parent directories of a name; returns whether the lower layer has them, too."""
        path = ""
        for part in name.split("/")[:-1]:
            path += "/" + part
            if not kernel.is_directory(lower + path):
                return False
            if not os.path.exists(upper + path):
                os.mkdir(upper + path)
                self.be_like(lower + path, upper + path)
        return True

    def own_directories(self, lower: str, upper: str, shown: str) -> None:
        """Copies directories and files of other owners or groups that this user may write to: the kernel would not."""

        def look(path: str, depth: int) -> None:
            """Looks for such directories, and for files near the site."""
            for entry in entries_of(lower + path):
                name = "%s/%s" % (path, entry.name)
                place = shown.rstrip("/") + name
                near, is_directory = self.near(place), entry.is_dir(follow_symlinks=False)
                if not (is_directory or near) or inside(place, self.scratch) or place in OWN + FOREIGN:
                    continue
                self.seen[near] += 1
                if self.seen[near] > MOST[near]:
                    continue
                try:
                    if not is_ours(entry.stat(follow_symlinks=False)):
                        self.own_entry(entry, lower, upper, name[1:])
                except FileNotFoundError:
                    # It was removed meanwhile.
                    continue
                if is_directory and (near or depth < DEPTH):
                    look(name, depth + 1)

        if shown not in FOREIGN or any(inside(one, shown) for one in self.places):
            look("", 1)

    def own_entry(self, entry: os.DirEntry[str], lower: str, upper: str, name: str) -> None:
        """Makes a directory, or copies a small file, that this user may write to."""
        if not os.access(entry.path, os.W_OK) and not (entry.is_dir() and self.near(entry.path)):
            return
        if entry.is_dir(follow_symlinks=False):
            self.parents(lower, upper, name + "/.")
        elif entry.is_file(follow_symlinks=False) and os.access(entry.path, os.R_OK) and entry.path not in self.empty:
            size, target = entry.stat().st_size, "%s/%s" % (upper, name)
            if size <= self.room and self.parents(lower, upper, name):
                self.room -= size
                shutil.copyfile(entry.path, target)
                self.be_like(entry.path, target)

    def tree(self, live: str, staged: str) -> None:
        """Mounts the staged tree over the live one; symlinks to the live one become their targets."""
        real, next_tree = os.path.realpath(live), os.path.realpath(staged)
        beside = self.memory + "/live"
        os.mkdir(beside)
        self.cover(real, beside)
        there = {name: "%s/%s" % (beside, name) for name in links_to(live, next_tree)}
        missing = [name for name, source in there.items() if not os.path.lexists(source)]
        for name in missing:
            del there[name]
        target = self.at(real)
        git = git_link.text(live, next_tree, "%s/%s" % (real, git_link.REPOSITORY))
        if git:
            there[git_link.REPOSITORY] = beside + "/.git"
        self.layer(next_tree, target, real, there)
        if git:
            git_link.write(target + "/.git", git)
        for name in missing:
            # It would be a loop.
            os.unlink("%s/%s" % (target, name))
        for name, source in there.items():
            # A log that appears empty is a file in the layer, so that it can be renamed.
            if not os.path.islink(source) and "%s/%s" % (real, name) not in self.empty:
                kernel.bind(source, "%s/%s" % (target, name))

    def show(self, source: str, path: str, plain: bool) -> None:
        """Mounts a directory at another path."""
        target = self.at(os.path.realpath(path))
        os.makedirs(target, exist_ok=True)
        if plain:
            kernel.bind(source, target)
        else:
            self.cover(os.path.realpath(source), target)

    def replace(self, source: str, path: str) -> None:
        """Replaces a database by a symlink to its copy."""
        target = self.at(os.path.realpath(path))
        for ending in ("", "-wal", "-shm", "-journal"):
            self.remove(target + ending)
        # SQLite keeps its journal beside the target of a symlink, so it never reads a journal of the live site.
        os.symlink(os.path.realpath(source), target)

    def remove(self, path: str) -> None:
        """Removes a file, and a mount over it."""
        # `os.path.ismount` takes every file of a layer for a mount.
        with contextlib.suppress(OSError):
            kernel.unmount(path)
        try:
            os.unlink(path)
        except OSError as error:
            # SQLite removes its journals meanwhile.
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise

    def hosts(self, names: dict[str, str]) -> None:
        """Maps host names to these addresses."""
        own = self.memory + "/hosts"
        with open("/etc/hosts", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        with open(own, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("".join("%s\t%s\n" % (address, name) for name, address in names.items()) + text)
        os.chmod(own, 0o644)
        kernel.bind(own, self.at(os.path.realpath("/etc/hosts")))

    def kernels(self) -> None:
        """Makes `/dev`, `/proc` and `/sys`."""
        devices = self.root + "/dev"
        kernel.mount("tmpfs", devices, "tmpfs", kernel.NOSUID, "mode=755,size=1m")
        for name in DEVICES:
            if os.path.exists("/dev/" + name):
                touch("%s/%s" % (devices, name))
                kernel.bind("/dev/" + name, "%s/%s" % (devices, name))
        for name, path in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            os.symlink("/proc/self/fd" + path, "%s/%s" % (devices, name))
        os.mkdir(devices + "/shm")
        kernel.mount("tmpfs", devices + "/shm", "tmpfs", kernel.NOSUID | kernel.NODEV, "mode=1777,size=25%")
        os.mkdir(devices + "/pts")
        try:
            kernel.mount("devpts", devices + "/pts", "devpts", kernel.NOSUID | kernel.NOEXEC, "newinstance,ptmxmode=0666")
            os.symlink("pts/ptmx", devices + "/ptmx")
        except OSError:
            # Few sites need a terminal.
            os.rmdir(devices + "/pts")
        proc = self.root + "/proc"
        flags = kernel.NOSUID | kernel.NODEV | kernel.NOEXEC
        kernel.mount("proc", proc, "proc", flags)
        for name in PROC:
            path = "%s/%s" % (proc, name)
            if os.path.exists(path):
                kernel.bind(path, path)
                kernel.read_only(path, flags)
        self.freeze("/sys", self.root + "/sys")

    def mask(self, sockets: list[str]) -> None:
        """Covers live sockets: a client can connect to them even where it cannot write."""
        for path in sockets:
            place = self.root + path
            if any(inside(path, one) for one in self.bound) and os.path.exists(place):
                kernel.bind("/dev/null", place)


def is_ours(found: os.stat_result) -> bool:
    """Tells whether a file's owner and group are those of this process."""
    return found.st_uid == os.getuid() and found.st_gid == os.getgid()


def open_up(path: str) -> None:
    """Makes directories removable by their owner: those that overlayfs makes have no permissions."""
    for entry in entries_of(path):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)
            open_up(entry.path)


def touch(path: str) -> None:
    """Makes an empty file."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def entries_of(path: str) -> list[os.DirEntry[str]]:
    """Returns the entries of a directory; none if this user may not read it."""
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []


def links_in(tree: str) -> list[str]:
    """Returns the symlinks of a tree."""
    found, waiting = [], [""]
    while waiting:
        directory = waiting.pop()
        for entry in entries_of("%s/%s" % (tree, directory)):
            name = directory + entry.name
            if entry.is_symlink():
                found.append(name)
            elif entry.is_dir():
                waiting.append(name + "/")
    return found


def links_to(live: str, staged: str) -> list[str]:
    """Returns the symlinks of the staged tree to the same place in the live one."""
    tops = (live, os.path.realpath(live))
    return [
        name for name in links_in(staged) if os.readlink("%s/%s" % (staged, name)) in ["%s/%s" % (top, name) for top in tops]
    ]
