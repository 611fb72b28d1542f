"""What this process began with, and what it has become."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

# The variables, before the site's own code ran.
ENVIRONMENT = dict(os.environ)

# Encoding and errors of the standard streams.
STREAMS = [(stream.encoding, stream.errors) for stream in (sys.stdin, sys.stdout, sys.stderr) if stream is not None]

# Where requests come from: a fork must not read them.
INPUT: list[IO[bytes]] = []

# The databases that the site's own code connected to, before it was asked anything.
READ_AT_BOOT: set[str] = set()

# Whether the site's own code loads.
LOADING = False

# What was put in the place of something of Django's: whose it is, its name, and what was there.
REPLACED: list[tuple[Any, str, Any]] = []

# Whether this process is in the namespaces of a rehearsal (`sandbox.py`).
IN_SANDBOX = False

# Whether this is a fork that runs a command.
FORKED = False


def streams_anew() -> None:
    """Opens the standard streams as Python does; they lead to the log."""
    modes = ("r", "w", "w")
    names = ("stdin", "stdout", "stderr")
    for number, (name, mode) in enumerate(zip(names, modes)):
        encoding, errors = STREAMS[number] if number < len(STREAMS) else (None, None)
        # A line is to be seen in the log once it is written.
        stream = open(number, mode, 1 if mode == "w" else -1, encoding, errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)
