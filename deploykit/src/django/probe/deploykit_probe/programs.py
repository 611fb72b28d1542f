"""Runs the site's own programs in the sandbox of this process."""

from __future__ import annotations

import os
import subprocess
import sys

from . import network
from .errors import Refused, readable, without_passwords
from .kinds import Json
from .registry import answers
from .tools import said_in, unnamed_file

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
    before, log = network.failed_attempts(), unnamed_file("")
    try:
        process = subprocess.Popen(
            argv, cwd=request["directory"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    except OSError as error:
        os.close(log)
        raise Refused("tool", what=argv[0], code=127, traceback=[readable(str(error))]) from error
    # What it leaves running in the background may hold its output open.
    code = process.wait()
    lines = [without_passwords(line) for line in said_in(log)]
    if code:
        if network.failed_attempts() > before:
            network.note("the network")
        raise Refused("tool", what=argv[0], code=code, traceback=lines[-LINES:])
    return {}
