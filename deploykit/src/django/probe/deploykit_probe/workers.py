"""Loads what the site's workers load when they start."""

from __future__ import annotations

import importlib
import os
import shlex
from typing import Any, Callable

from . import happened, network
from .beside import beside
from .kinds import Json
from .registry import answers

# Commands of `manage.py` that run tasks: the modules with the tasks, and whether those of packages count, too.
TASKS = {
    "db_worker": (("tasks",), False),
    "djangohuey": (("tasks",), True),
    "process_tasks": (("tasks",), False),
    "procrastinate": (("tasks",), True),
    "qcluster": (("tasks",), False),
    "rqworker": (("tasks", "jobs"), False),
    "rqworker-pool": (("tasks", "jobs"), False),
    "run_huey": (("tasks",), True),
    "rundramatiq": (("tasks",), True),
}


def load_celery(arguments: list[str]) -> str:
    """Loads a Celery application with its tasks."""
    import celery
    from celery.app.utils import find_app

    name = option(arguments, "-A", "--app") or os.environ.get("CELERY_APP")
    app = find_app(name) if name else celery.current_app
    for module in (option(arguments, "-I", "--include") or "").split(","):
        if module:
            importlib.import_module(module)
    app.loader.import_default_modules()
    app.finalize(auto=True)
    tasks = [task for task in app.tasks if not task.startswith("celery.")]
    return "celery application `%s`: %s" % (name or app.main, counted(len(tasks), "task"))


def option(arguments: list[str], short: str, long: str) -> str | None:
    """Returns the value of an option."""
    for number, argument in enumerate(arguments):
        if argument in (short, long):
            return arguments[number + 1] if number + 1 < len(arguments) else None
        if argument.startswith(long + "="):
            return argument[len(long) + 1 :]
        if argument.startswith(short) and not argument.startswith("--"):
            return argument[len(short) :].lstrip("=")
    return None


def counted(number: int, thing: str) -> str:
    """Returns a number with a noun in singular or plural."""
    return "%d %s%s" % (number, thing, "" if number == 1 else "s")


def load_manage(arguments: list[str]) -> str:
    """Loads a command of `manage.py`, checks its arguments, and imports the tasks that it runs."""
    from django.core.management import CommandError, get_commands, load_command_class

    name, rest = arguments[0], arguments[1:]
    app = get_commands().get(name)
    if app is None:
        raise CommandError("Unknown command: %r" % name)
    command: Any = load_command_class(app, name) if isinstance(app, str) else app
    try:
        command.create_parser("manage.py", name).parse_args(rest)
    except SystemExit as end:
        if end.code:
            raise CommandError("the arguments are wrong: %s" % " ".join(rest)) from end
    said = "command `%s`" % name
    if name in TASKS:
        modules, every = TASKS[name]
        found = import_tasks(modules, every)
        said += ": " + (", ".join("`%s`" % module for module in found) or "no module with tasks")
    return said


def import_tasks(names: tuple[str, ...], every: bool) -> list[str]:
    """Imports the modules with these names of all apps, or only of the site's own."""
    from django.apps import apps
    from django.utils.module_loading import module_has_submodule

    found = []
    for config in apps.get_app_configs():
        if not every and not happened.is_of_site(os.path.join(os.path.abspath(config.path), "")):
            continue
        for name in names:
            if module_has_submodule(config.module, name):
                found.append("%s.%s" % (config.name, name))
                importlib.import_module(found[-1])
    return found


def load_dramatiq(arguments: list[str]) -> str:
    """Imports the modules of a dramatiq worker."""
    from dramatiq import cli

    said = cli.make_argument_parser().parse_args(arguments)
    modules = [name.split(":")[0] for name in [said.broker, *said.modules]]
    for module in modules:
        importlib.import_module(module)
    return "dramatiq modules " + ", ".join("`%s`" % module for module in modules)


def load_huey(arguments: list[str]) -> str:
    """Imports the instance of a huey consumer; its module imports the tasks."""
    from django.utils.module_loading import import_string

    path = next(argument for argument in arguments if "." in argument and not argument.startswith("-"))
    import_string(path)
    return "huey instance `%s`" % path


# How the programs of workers are loaded, by their names.
PROGRAMS: dict[str, Callable[[list[str]], str]] = {
    "celery": load_celery,
    "django-admin": load_manage,
    "django": load_manage,
    "dramatiq": load_dramatiq,
    "huey_consumer": load_huey,
    "huey_consumer.py": load_huey,
    "manage.py": load_manage,
}


def program_of(command: list[str]) -> tuple[Callable[[list[str]], str], list[str]] | None:
    """Returns the loader of a command with the arguments of its program; other programs may precede it."""
    if len(command) > 2 and os.path.basename(command[0]) in ("sh", "bash") and command[1] in ("-c", "-lc"):
        return program_of(shlex.split(command[2]))
    for number, word in enumerate(command):
        name = os.path.basename(word)
        # Not the directory in `uv run --directory /srv/celery celery worker`, nor a project called `django`.
        named = ("/" in word and os.path.isdir(word)) or (name == "django" and command[number - 1] != "-m")
        if name not in PROGRAMS or named:
            continue
        rest = command[number + 1 :]
        while PROGRAMS[name] is load_manage and rest and rest[0].startswith("-"):
            rest = rest[1:]
        return (PROGRAMS[name], rest) if rest else None
    return None


def load_all(commands: list[list[str]]) -> Json:
    """Loads what the commands load."""
    loaded: list[str] = []
    failed: list[Json] = []
    unknown: list[str] = []
    network.watch()
    for command in commands:
        shown = " ".join(map(shlex.quote, command))
        found = program_of(command)
        if found is None:
            unknown.append(shown)
            continue
        load, arguments = found
        before = len(network.TRIED)
        try:
            said = load(arguments)
        except BaseException as error:
            tried = network.TRIED[before:]
            failed.append({"command": shown, "exception": happened.exception_of(error), "network": tried})
        else:
            loaded += [] if said in loaded else [said]
    return {"loaded": loaded, "failed": failed, "unknown": unknown}


@answers("load_workers")
def do_load_workers(request: Json) -> Json:
    """Loads, in a fork, what the site's workers load when they start."""
    answer: Json = beside("workers", 0, load_all, request["commands"])()
    return answer
