"""A fork of this process that knows the live checkout instead of the staged tree. It is forked for each request and command."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import signal
import socket
import stat
import sys
import threading
from typing import IO, Callable, NoReturn

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
TWIN: Child | None = None


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


class Child:
    """A fork of this process that answers requests, as this process sees it."""

    def __init__(self, work: Callable[[IO[bytes], IO[bytes]], None]) -> None:
        """Forks it; it does `work` with its requests and its answers, and ends."""
        asked, ask = os.pipe()
        answered, answer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(ask)
                os.close(answered)
                die_with(parent)
                work(os.fdopen(asked, "rb"), os.fdopen(answer, "wb", 0))
            finally:
                os._exit(0)
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
        TWIN = Child(functools.partial(be_twin, request))
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


def twin() -> Child:
    """Returns the fork."""
    if TWIN is None:
        raise RuntimeError("no twin was made")
    return TWIN


def be_twin(request: Json, requests: IO[bytes], answers: IO[bytes]) -> None:
    """What the fork does, until its requests end."""
    for one in origin.INPUT:
        one.close()
    try:
        changes = Changes(request.pop("changes"), request["tree"])
        cannot = become_live(request)
    except BaseException as error:
        report(error)
        cannot = "%s: %s" % (type(error).__name__, text_of(error))
    if cannot:
        write(answers, {"cannot": cannot})
        return
    migrator = Migrator(changes, requests, answers)
    if request["migrates"]:
        migrator.begin()
    write(answers, {"cannot": None})
    variables, pid = request["environment"], 0
    while True:
        line = requests.readline()
        if not line:
            break
        request = json.loads(line.decode("utf-8"))
        if request["do"] == "moved":
            write(answers, migrator.answer(request))
        elif request["do"] == "fork":
            pid = fork(request, variables, requests, answers)
            write(answers, {"pid": pid})
        else:
            _, status = os.waitpid(pid, 0)
            how = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.WEXITSTATUS(status)}
            write(answers, how)


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


class Migrator:
    """Has each request answered by a fork of its own: what a migration leaves behind in its process, no other may find."""

    def __init__(self, changes: Changes, *pipes: IO[bytes]) -> None:
        """Takes what records changes of files, and the pipes that a fork must not hold."""
        self.changes, self.pipes = changes, pipes
        self.next: Child | None = None

    def begin(self) -> None:
        """Forks beforehand what answers the next request."""
        self.next = Child(functools.partial(self.work, True))

    def work(self, beforehand: bool, requests: IO[bytes], answers: IO[bytes]) -> None:
        """Answers one request."""
        for pipe in self.pipes:
            pipe.close()
        if beforehand:
            # Copies what both processes share and either would change: in the window that would take longer than the fork.
            gc.collect()
        line = requests.readline()
        if line:
            write(answers, answered_live(json.loads(line.decode("utf-8")), self.changes))

    def answer(self, request: Json) -> Json:
        """Has a request answered."""
        if request["request"]["do"] == "ping":
            # It leaves nothing behind.
            return answered(request["request"])
        child, self.next = self.next or Child(functools.partial(self.work, False)), None
        try:
            answer = child.ask(request)
        except ChildProcessError:
            end_like(child.pid)
        child.end()
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
