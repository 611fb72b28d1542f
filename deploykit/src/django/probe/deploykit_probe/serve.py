"""Answers requests."""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import IO, Any, Callable, NoReturn

# These answer requests.
from . import (  # noqa: F401
    backup,
    bridge,
    bytecode,
    check,
    copies,
    database,
    network,
    origin,
    overrides,
    own_command,
    pages,
    pooling,
    programs,
    rows,
    sandbox,
    site,
    static,
    step_view,
    twin,
    workers,
)
from .answering import answered, let_go
from .answers import ANSWERS, received, seal, send
from .errors import Failed, failure, guarded
from .kinds import Json
from .live_paths import LivePaths
from .patience import be_patient


def serve(requests: IO[bytes]) -> None:
    """Answers one request after the other until the input ends."""
    origin.LOADING = False
    origin.INPUT.append(requests)
    send({"ok": {"pid": os.getpid()}})
    while True:
        line = requests.readline()
        if not line:
            return
        request = received(json.loads(line.decode("utf-8")))
        answer = answered(request)
        let_go()
        sys.stdout.flush()
        sys.stderr.flush()
        send(answer)


def booted(called: list[bool], configuration: Json, requests: IO[bytes], original: Callable[..., None]) -> Callable[..., None]:
    """Returns the replacement for Django's command line: it loads the site and answers."""

    def entry(*args: Any, **kwargs: Any) -> None:
        """Loads the site once, whatever command `manage.py` runs, and answers until the input ends; a fork runs the command."""
        if origin.FORKED:
            original(*args, **kwargs)
            return
        if called:
            return
        called.append(True)
        try:
            guarded("settings", load_settings)
            origin.LOADING = True
            be_patient(configuration["limit"])
            if "tree" in configuration:
                LivePaths(configuration["tree"]).begin()
            guarded("apps", load_apps)
            let_go()
        except BaseException as error:
            send(failure(error))
            return
        serve(requests)

    return entry


def load_settings() -> None:
    """Imports the settings."""
    from django.conf import settings

    name = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    try:
        # This loads them.
        _ = settings.INSTALLED_APPS
    except ModuleNotFoundError as error:
        if error.name and (name + ".").startswith(error.name + "."):
            raise Failed("no_settings", error, module=name) from error
        raise Failed("settings", error, module=name) from error
    except BaseException as error:
        raise Failed("settings" if name else "no_settings", error, module=name) from error


def load_apps() -> None:
    """Imports the apps and their models."""
    import django

    django.setup()


def boot(requests: IO[bytes]) -> None:
    """Reads the configuration and runs `manage.py`."""
    configuration = received(json.loads(requests.readline().decode("utf-8")))
    if "bridge" in configuration:
        bridge.run(configuration["bridge"], requests)
    if "step" in configuration:
        step_view.run(configuration["step"])
    if configuration.get("sandbox"):
        try:
            sandbox.enter(configuration["sandbox"], {requests.fileno(), ANSWERS.fileno()})
            network.watch(sandbox.addresses(configuration["sandbox"]))
        except BaseException as error:
            send(failure(error))
            return
        origin.IN_SANDBOX = True
    seal()
    # What Python's own start printed may have left half a line.
    ANSWERS.write(b"\n")
    directory = configuration["directory"]
    os.chdir(directory)
    # Python itself puts the real directory of the program there.
    sys.path[0] = os.path.realpath(directory)
    sys.argv = ["manage.py", "deploykit"]
    called: list[bool] = []
    try:
        from django.core import management
    except BaseException as error:
        send(failure(Failed("no_django", error)))
        return
    if origin.IN_SANDBOX:
        overrides.override(configuration["sandbox"].get("plain", []), configuration["sandbox"].get("redis", []))
    for owner, name in ((management, "execute_from_command_line"), (management.ManagementUtility, "execute")):
        original = getattr(owner, name)
        origin.REPLACED.append((owner, name, original))
        setattr(owner, name, booted(called, configuration, requests, original))
    try:
        runpy.run_path("manage.py", run_name="__main__")
    except BaseException as error:
        if not called:
            send(failure(Failed("manage", error)))
        return
    if not called:
        send({"error": {"kind": "not_called"}})


def run(requests: IO[bytes]) -> NoReturn:
    """Boots the site, answers, and ends this process."""
    boot(requests)
    ANSWERS.close()
    # Threads that the site started must not keep the process; its database connections are closed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
