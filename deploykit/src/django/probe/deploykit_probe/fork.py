"""Runs a command of `manage.py` in a fork of this process, as a process of its own would."""

from __future__ import annotations

import atexit
import builtins
import importlib
import io
import os
import signal
import sys
import threading
import types
import weakref
from typing import IO

from . import origin, record
from .answers import ANSWERS
from .errors import text_of
from .kinds import Json
from .static import forget_static_storage


def fork(request: Json, variables: dict[str, str | None], requests: IO[bytes], answers: IO[bytes]) -> int:
    """Begins a command in a process group of its own, and returns its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            requests.close()
            answers.close()
            ANSWERS.close()
            undo(variables)
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


def undo(wanted: dict[str, str | None]) -> None:
    """Undoes what only this process had otherwise than one that runs a command."""
    from django.db.backends.signals import connection_created

    origin.FORKED = True
    connection_created.disconnect(dispatch_uid="deploykit")
    record.undo()
    for owner, name, original in origin.REPLACED:
        setattr(owner, name, original)
    environment(wanted)
    origin.streams_anew()


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
