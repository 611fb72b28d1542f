"""A fork of this process that knows the live checkout instead of the staged tree. It is forked for each request and command."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import stat
import sys
import threading
from typing import IO, NoReturn

from . import kernel, origin
from .answering import answered, let_go
from .beside import is_alone
from .changes import Changes
from .errors import Refused, failure, text_of
from .fork import forget, fork, report
from .kinds import Json
from .live_paths import replace_no_more
from .moved import Moves
from .registry import answers

# How long our own threads may take to end, in seconds.
THREADS = 2.0

# The fork.
TWIN: Twin | None = None


def why_not() -> str | None:
    """Returns why this process cannot be forked without harm; `None`: it can."""
    if not is_alone(THREADS):
        names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        return "the waiting Django has threads (%s)" % (", ".join(names) or "of a library")
    if origin.READ_AT_BOOT:
        return "the waiting Django read database `%s` while it booted" % sorted(origin.READ_AT_BOOT)[0]
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode) and is_stream(int(name)):
                return "the waiting Django has an open connection"
        except OSError:
            # The list itself was open.
            continue
    return None


def is_stream(number: int) -> bool:
    """Tells whether a socket is a connection, whose bytes two processes must not mix."""
    with socket.socket(fileno=os.dup(number)) as opened:
        return opened.type != socket.SOCK_DGRAM


class Twin:
    """The fork, as the waiting process sees it."""

    def __init__(self, request: Json) -> None:
        """Forks it."""
        asked, ask = os.pipe()
        answered, answer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        waiting = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ask)
            os.close(answered)
            be_twin(waiting, request, os.fdopen(asked, "rb"), os.fdopen(answer, "wb", 0))
        os.close(asked)
        os.close(answer)
        self.requests, self.answers = os.fdopen(ask, "wb", 0), os.fdopen(answered, "rb")

    def answer(self) -> Json:
        """Waits for its answer."""
        line = self.answers.readline()
        if not line:
            raise ChildProcessError("the fork of the waiting Django has ended")
        answer: Json = json.loads(line.decode("utf-8"))
        return answer

    def ask(self, request: Json) -> Json:
        """Passes a request on to it."""
        try:
            write(self.requests, request)
        except BrokenPipeError:
            # It has ended; there is no answer then.
            pass
        return self.answer()

    def end(self) -> None:
        """Waits for its end, which comes with the end of the requests."""
        self.requests.close()
        self.answers.close()
        os.waitpid(self.pid, 0)


def end_like(pid: int) -> NoReturn:
    """Ends this process as a fork of it has ended: to deploykit, they are one."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):
            # Some signals cannot be caught anyway.
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


@answers("begin_twin")
def do_begin_twin(request: Json) -> Json:
    """Begins to make the fork, beside other work, or says why it cannot."""
    global TWIN
    reason = why_not()
    if reason is None:
        TWIN = Twin(request)
    return {"cannot": reason}


@answers("end_twin")
def do_end_twin(request: Json) -> Json:
    """Waits until the fork is ready, or says why it cannot be."""
    global TWIN
    if TWIN is None:
        raise RuntimeError("no twin was begun")
    try:
        answer = TWIN.answer()
    except ChildProcessError as error:
        answer = {"cannot": str(error)}
    if answer["cannot"]:
        TWIN.end()
        TWIN = None
    return answer


@answers("moved")
def do_moved(request: Json) -> Json:
    """Lets the fork have a request answered, and answers likewise."""
    try:
        answer = twin().ask(request)
    except ChildProcessError:
        end_like(twin().pid)
    if "error" in answer:
        raise Refused(**answer["error"])
    said: Json = answer["ok"]
    return said


@answers("fork")
def do_fork(request: Json) -> Json:
    """Begins a command in a fork of its own."""
    return twin().ask(request)


@answers("join")
def do_join(request: Json) -> Json:
    """Waits for the end of the command, and says how it ended."""
    return twin().ask(request)


def twin() -> Twin:
    """Returns the fork."""
    if TWIN is None:
        raise RuntimeError("no twin was made")
    return TWIN


def be_twin(waiting: int, request: Json, requests: IO[bytes], answers: IO[bytes]) -> NoReturn:
    """What the fork does, until its requests end or the process `waiting` does."""
    try:
        for one in origin.INPUT:
            one.close()
        try:
            die_with(waiting)
            changes = Changes(request.pop("changes"), request["tree"])
            answer: Json = {"cannot": become_live(request)}
        except BaseException as error:
            report(error)
            answer = {"cannot": "%s: %s" % (type(error).__name__, text_of(error))}
        write(answers, answer)
        if answer["cannot"]:
            os._exit(0)
        variables, pid = request["environment"], 0
        while True:
            line = requests.readline()
            if not line:
                break
            request = json.loads(line.decode("utf-8"))
            if request["do"] == "moved":
                write(answers, moved(request, changes, requests, answers))
            elif request["do"] == "fork":
                pid = fork(request, variables, requests, answers)
                write(answers, {"pid": pid})
            else:
                _, status = os.waitpid(pid, 0)
                how = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.WEXITSTATUS(status)}
                write(answers, how)
    finally:
        os._exit(0)


def die_with(parent: int) -> None:
    """Lets this process be killed when its parent dies: nobody would wait for it any more."""
    kernel.die_with_parent()
    if os.getppid() != parent:
        os._exit(0)


def write(pipe: IO[bytes], value: Json) -> None:
    """Writes a line for another of these processes."""
    data = json.dumps(value, default=str).encode("utf-8") + b"\n"
    while data:
        data = data[pipe.write(data) :]


def moved(request: Json, changes: Changes, *pipes: IO[bytes]) -> Json:
    """Has a request answered by a fork: what a migration leaves behind in its process, a command must not find."""
    if request["request"]["do"] == "ping":
        # It leaves nothing behind.
        return answered(request["request"])
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            for pipe in pipes:
                pipe.close()
            write(os.fdopen(writing, "wb", 0), answered_live(request, changes))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        line = said.readline()
    if not line:
        end_like(pid)
    os.waitpid(pid, 0)
    answer: Json = json.loads(line.decode("utf-8"))
    return answer


def answered_live(request: Json, changes: Changes) -> Json:
    """Answers a request in the live checkout."""
    try:
        os.chdir(request["directory"])
        forget()
    except Exception as error:
        return failure(error)
    with changes.recorded():
        answer = answered(request["request"])
    let_go()
    sys.stdout.flush()
    sys.stderr.flush()
    return answer


def become_live(request: Json) -> str | None:
    """Lets this process know the live checkout; returns why it cannot."""
    replace_no_more()
    left = move(request.pop("tree"), request.pop("packages"))
    return "the waiting Django keeps a path of the staged tree (%s)" % left if left else None


def move(tree: list[str], packages: list[str]) -> str | None:
    """Replaces what this process knows of the staged tree and its packages; returns what is left of it."""
    trees = [list(pair) for pair in dict.fromkeys([tuple(tree), tuple(map(os.path.realpath, tree))]) if pair[0] != pair[1]]
    others = [packages] if packages[0] != packages[1] else []
    if not trees + others:
        return None
    moves = Moves(trees, others)
    # As texts of this process they would be found, too.
    for pair in [tree, packages] + trees:
        pair.clear()
    for name, value in list(os.environ.items()):
        os.environ[name] = moves.text(value)
    moves.move()
    if not moves.left():
        return None
    # What was replaced may refer to itself.
    gc.collect()
    return moves.left()
