"""Runs the site's own programs in the world of this process."""

from __future__ import annotations

import os
import subprocess
import sys

from .errors import Refused, readable, without_passwords
from .kinds import Json
from .registry import answers

# How many of a program's last lines an error has.
LINES = 30


@answers("lower_priority")
def do_lower_priority(request: Json) -> Json:
    """Makes this process at least so nice, with what it starts from now on."""
    os.setpriority(os.PRIO_PROCESS, 0, max(request["nice"], os.getpriority(os.PRIO_PROCESS, 0)))
    return {}


@answers("run_program")
def do_run_program(request: Json) -> Json:
    """Runs a program with the variables of this process and those of the request; fails unless it exits with 0."""
    argv, environment = request["argv"], dict(os.environ)
    for name, value in request["environment"].items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        done = subprocess.run(
            argv,
            cwd=request["directory"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise Refused("tool", what=argv[0], code=127, traceback=[readable(str(error))]) from error
    lines = without_passwords(done.stdout.decode("utf-8", "backslashreplace")).splitlines()
    if done.returncode:
        raise Refused("tool", what=argv[0], code=done.returncode, traceback=lines[-LINES:])
    return {}
