"""Programs of the databases.

What connects them stands in their environment or in a file without a name, never in their arguments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from typing import IO, Any, Callable, Iterable, Sequence

from . import patience
from .errors import Refused, without_passwords
from .kinds import Cursor
from .sql import rows_of

# The oldest lines of a program that failed are left out.
TOOL_LINES = 30

# How often the limit of the database a copy may take to grow.
STALLED = 10


def tool(*names: str) -> str:
    """Returns the path of the first of these programs that there is."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise Refused("tool_missing", what=names[0])


def tool_failed(program: str, code: int, lines: list[str]) -> Refused:
    """Returns the error that a program failed, with its last lines."""
    lines = [without_passwords(line) for line in lines[-TOOL_LINES:]]
    return Refused("tool", what=os.path.basename(program), code=code, traceback=lines)


def run_tool(
    argv: list[str], env: dict[str, str], files: Sequence[int] = (), **streams: Any
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end; what it says goes to the log too."""
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=files, check=False, **streams
    )
    said = done.stderr.decode("utf-8", "replace")
    sys.stderr.write(without_passwords(said))
    if done.returncode:
        raise tool_failed(argv[0], done.returncode, said.splitlines())
    return done


def touch(cursor: Cursor, tables: Iterable[str]) -> None:
    """Fails where somebody has locked a table, and says who: the programs say less, or wait without end."""
    for table in tables:
        rows_of(cursor, "SELECT 1 FROM %s LIMIT 0" % table)


def said_in(log: int) -> list[str]:
    """Returns the lines of a log that a program wrote, which go to the run's log too."""
    os.lseek(log, 0, os.SEEK_SET)
    with os.fdopen(log, "rb") as file:
        said = file.read().decode("utf-8", "replace")
    sys.stderr.write(without_passwords(said))
    return said.splitlines()


def copy_with(
    argv: list[str], env: dict[str, str], path: str, files: Sequence[int] = (), stdout: Any = subprocess.DEVNULL
) -> None:
    """Runs a program that writes the copy; it is given up when that does not grow any more."""
    log = unnamed_file("")
    child = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log, pass_fds=files)
    over, stalled = threading.Event(), []

    def watch() -> None:
        """Kills the program once the copy has not grown for long."""
        size, times = -1, 0
        while not over.wait(patience.LIMIT):
            size, before = os.path.getsize(path), size
            times = times + 1 if size == before else 0
            if times == STALLED:
                stalled.append("error: the copy has not grown for %d s" % (STALLED * patience.LIMIT))
                child.kill()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        code = child.wait()
    finally:
        over.set()
        said = said_in(log)
    if code:
        raise tool_failed(argv[0], code, said + stalled)


def feed_tool(argv: list[str], env: dict[str, str], write: Callable[[IO[bytes]], None], files: Sequence[int] = ()) -> None:
    """Runs a program that reads what `write` gives it; what it complains of goes to the log too."""
    log = unnamed_file("")
    child = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, pass_fds=files)
    feed = stream_of(child.stdin)
    try:
        write(feed)
        feed.close()
    except BrokenPipeError:
        pass
    except BaseException:
        child.kill()
        raise
    finally:
        code = child.wait()
        said = said_in(log)
    if code:
        raise tool_failed(argv[0], code, said)


def unnamed_file(text: str) -> int:
    """A file that nobody else can open and that is gone with the last process that has it."""
    number = os.memfd_create("deploykit")
    os.fchmod(number, 0o600)
    os.write(number, text.encode("utf-8"))
    os.lseek(number, 0, os.SEEK_SET)
    return number


def stream_of(pipe: IO[bytes] | None) -> IO[bytes]:
    """Returns a pipe to a program that was started with one."""
    if pipe is None:
        raise ValueError("there is no pipe")
    return pipe


def path_of(number: int) -> str:
    """Returns the path of an open file, for a program that has it too."""
    return "/dev/fd/%d" % number
