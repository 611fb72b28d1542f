"""A command of the site's own that migrates."""

from __future__ import annotations

from typing import Any

from .connections import let_all_go
from .errors import Failed, Refused, guarded
from .fields import definer
from .kinds import Json
from .patience import begin_to_change
from .record import record_at_once
from .registry import answers

# Whose `--plan` says what waits and changes nothing.
KNOWN = ("django.core.management.commands.migrate", "django_tenants.management.commands.")


def parsed(argv: list[str]) -> tuple[Any, Any, Json]:
    """Returns the command, its parser and its options; refused where there is no such command, or its arguments are wrong."""
    from django.core.management import get_commands, load_command_class

    name, arguments = argv[0], argv[1:]
    app = get_commands().get(name)
    if app is None:
        raise Refused("no_command", what=name)
    command: Any = guarded("raised", load_command_class, app, name) if isinstance(app, str) else app
    parser = guarded("raised", command.create_parser, "manage.py", name)
    options = vars(guarded("raised", parser.parse_args, arguments))
    return command, parser, options


@answers("own_command")
def do_own_command(request: Json) -> Json:
    """Says whether the command's own `--plan` can be asked: a command that takes the option and ignores it would migrate."""
    command, parser, _ = parsed(request["argv"])
    option = parser._option_string_actions.get("--plan")
    handle = definer(type(command), "handle")
    return {"plans": option is not None and option.nargs == 0 and handle.__module__.startswith(KNOWN)}


@answers("migrate_by_command")
def do_migrate_by_command(request: Json) -> Json:
    """Runs the command."""
    from django.db import connections

    command, _, options = parsed(request["argv"])
    alias = request["database"]
    begin_to_change(connections[alias], alias)
    record_at_once()
    # It checks what the preparation has checked.
    options["skip_checks"] = True
    arguments = options.pop("args", ())
    try:
        command.execute(*arguments, **options)
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            return {}
        raise Failed("migrate_command", error, what=request["argv"][0]) from error
    finally:
        let_all_go()
    return {}
