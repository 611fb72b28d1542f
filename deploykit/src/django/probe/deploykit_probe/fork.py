"""Runs a command of `manage.py` in a fork of this process, as a process of its own would."""

from __future__ import annotations

import atexit
import builtins
import gc
import importlib
import io
import json
import os
import signal
import socket
import stat
import sys
import threading
import types
import weakref
from typing import IO, NoReturn

from . import origin, record
from .answers import ANSWERS
from .beside import is_alone
from .errors import text_of
from .kinds import Json
from .moved import Moves
from .registry import answers
from .static import forget_static_storage

# How long our own threads may take to end, in seconds.
THREADS = 2.0

# The fork that commands are run from.
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
    """A fork of this process that knows the live checkout instead of the staged tree, and that is forked for each command."""

    def __init__(self, request: Json) -> None:
        """Forks it."""
        asked, ask = os.pipe()
        answered, answer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ask)
            os.close(answered)
            be_twin(request, os.fdopen(asked, "rb"), os.fdopen(answer, "wb", 0))
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
            self.requests.write(json.dumps(request).encode("utf-8") + b"\n")
        except BrokenPipeError:
            # It has ended; there is no answer then.
            pass
        return self.answer()

    def end(self) -> None:
        """Waits for its end, which comes with the end of the requests."""
        self.requests.close()
        self.answers.close()
        os.waitpid(self.pid, 0)


@answers("begin_twin")
def do_begin_twin(request: Json) -> Json:
    """Begins to make the process that commands are forked from, beside other work, or says why it cannot."""
    global TWIN
    reason = why_not()
    if reason is None:
        TWIN = Twin(request)
    return {"cannot": reason}


@answers("end_twin")
def do_end_twin(request: Json) -> Json:
    """Waits until that process is ready, or says why it cannot be."""
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


@answers("fork")
def do_fork(request: Json) -> Json:
    """Begins a command in a fork of its own."""
    return twin().ask(request)


@answers("join")
def do_join(request: Json) -> Json:
    """Waits for the end of the command, and says how it ended."""
    return twin().ask(request)


def twin() -> Twin:
    """Returns the process that commands are forked from."""
    if TWIN is None:
        raise RuntimeError("no twin was made")
    return TWIN


def be_twin(request: Json, requests: IO[bytes], answers: IO[bytes]) -> NoReturn:
    """What the twin does, until its requests end."""
    try:
        ANSWERS.close()
        for one in origin.INPUT:
            one.close()
        try:
            answer: Json = {"cannot": become_live(request)}
        except BaseException as error:
            report(error)
            answer = {"cannot": "%s: %s" % (type(error).__name__, text_of(error))}
        tell(answers, answer)
        pid = 0
        while not answer["cannot"]:
            line = requests.readline()
            if not line:
                break
            request = json.loads(line.decode("utf-8"))
            if request["do"] == "fork":
                pid = fork(request, requests, answers)
                tell(answers, {"pid": pid})
            else:
                _, status = os.waitpid(pid, 0)
                how = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.WEXITSTATUS(status)}
                tell(answers, how)
    finally:
        os._exit(0)


def tell(answers: IO[bytes], value: Json) -> None:
    """Writes an answer; ends this process if the reader has ended."""
    try:
        answers.write(json.dumps(value).encode("utf-8") + b"\n")
    except BrokenPipeError:
        os._exit(0)


def fork(request: Json, requests: IO[bytes], answers: IO[bytes]) -> int:
    """Begins a command in a process group of its own, and returns its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            requests.close()
            answers.close()
            forget()
            os.chdir(request["directory"])
            # Python itself puts the real directory of the program there.
            sys.path[0] = os.path.realpath(request["directory"])
            code = run_manage(request["argv"])
        except BaseException as error:
            report(error)
        finally:
            os._exit(code)
    try:
        os.setpgid(pid, pid)
    except OSError:
        # It has done so itself, or has ended.
        pass
    return pid


def become_live(request: Json) -> str | None:
    """Makes this process what one of the live checkout would be; returns why it cannot become that."""
    from django.db.backends.signals import connection_created

    origin.FORKED = True
    connection_created.disconnect(dispatch_uid="deploykit")
    record.undo()
    for owner, name, original in origin.REPLACED:
        setattr(owner, name, original)
    environment(request["environment"])
    origin.streams_anew()
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


def environment(wanted: dict[str, str | None]) -> None:
    """Sets the variables that only this process had otherwise."""
    for name, value in wanted.items():
        # The site's own code has set another.
        if os.environ.get(name) != origin.ENVIRONMENT.get(name):
            continue
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "PGCONNECT_TIMEOUT" not in origin.ENVIRONMENT:
        os.environ.pop("PGCONNECT_TIMEOUT", None)
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))


def forget() -> None:
    """Drops what may have changed since it was remembered."""
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    if "django.contrib.staticfiles.storage" in sys.modules:
        forget_static_storage()
    for module, model in (("contenttypes", "ContentType"), ("sites", "Site")):
        manager = getattr(getattr(sys.modules.get("django.contrib.%s.models" % module), model, None), "objects", None)
        if manager is not None:
            manager.clear_cache()
    # Files that the other process removes when it ends.
    for owner, name in ((weakref.finalize, "_registry"), (sys.modules.get("multiprocessing.util"), "_finalizer_registry")):
        getattr(owner, name, {}).clear()
    if "numpy.random" in sys.modules:
        # Two forks must not draw the same numbers.
        sys.modules["numpy.random"].seed()


def run_manage(argv: list[str]) -> int:
    """Runs `manage.py` as Python would, and returns the exit code."""
    sys.argv = list(argv)
    path = os.path.abspath(argv[0])
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins)
    sys.modules["__main__"] = main
    code: object = 0
    interrupted = False
    try:
        with io.open_code(path) as file:
            program = compile(file.read(), path, "exec")
        exec(program, main.__dict__)
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        code = 1
        report(error)
    if not isinstance(code, (int, type(None))):
        print(text_of(code), file=sys.stderr)
        code = 1
    # What Python does when it ends: it waits for threads, then calls what was registered.
    for module, name in ((threading, "_shutdown"), (atexit, "_run_exitfuncs")):
        try:
            getattr(module, name, lambda: None)()
        except BaseException as error:
            report(error)
    status = flushed((code or 0) & 0xFF)
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status


def flushed(code: int) -> int:
    """Writes what is still to be written; Python's exit code says so when that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            code = code or 120
    return code


def report(error: BaseException) -> None:
    """Writes a traceback, from the program on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == "<deploykit>":
        trace = trace.tb_next
    try:
        sys.excepthook(type(error), error.with_traceback(trace), trace)
    except Exception as broken:
        print(text_of(broken), file=sys.stderr)
