"""What workers load, with a real Celery."""

from __future__ import annotations

from pathlib import Path

from deploykit_probe.workers import load_celery, load_manage, option, program_of

from .sites import Probe

COMMAND = """
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("--queue")
"""

FILES = {
    "config/settings.py": "SECRET_KEY = 'x'\nINSTALLED_APPS = ['shop', 'other']\n",
    "config/celery.py": "import celery\napp = celery.Celery('config')\napp.autodiscover_tasks(['shop'])\n",
    "config/broken.py": "import celery\napp = celery.Celery('broken')\napp.autodiscover_tasks(['other'])\n",
    "shop/__init__.py": "",
    "shop/tasks.py": "from celery import shared_task\n@shared_task\ndef one():\n    pass\n@shared_task\ndef two():\n    pass\n",
    "shop/management/commands/watch.py": COMMAND,
    "shop/management/commands/process_tasks.py": COMMAND,
    "other/__init__.py": "",
    "other/tasks.py": "\nimport socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\n"
    "except OSError as error:\n    raise RuntimeError('no broker')\n",
}


def test_workers_load(tmp_path: Path, packages: Path) -> None:
    """Tasks are imported; what fails is said with its place."""
    probe = Probe(tmp_path, packages, FILES)
    commands = [
        ["/srv/venv/bin/celery", "-A", "config", "worker", "-l", "info"],
        ["celery", "-A", "config", "beat"],
        ["sh", "-c", "exec celery --app=config.broken worker"],
        ["celery", "-Anothing.like_it", "worker"],
        ["python", "-u", "manage.py", "watch", "--queue", "1"],
        ["python", "manage.py", "watch", "--gone"],
        ["python", "manage.py", "vanished"],
        ["python", "manage.py", "process_tasks"],
        ["java", "-jar", "it.jar"],
    ]
    answer = probe.ask("load_workers", commands=commands)
    assert answer["loaded"] == ["celery application `config`: 2 tasks", "command `watch`"]
    assert answer["unknown"] == ["java -jar it.jar"]
    kinds = [one["exception"]["type"].split(".")[-1] for one in answer["failed"]]
    assert kinds == ["RuntimeError", "ModuleNotFoundError", "CommandError", "CommandError", "RuntimeError"]
    assert [answer["failed"][number]["exception"]["where"] for number in (0, 3, 4)] == [
        "other/tasks.py, line 6",
        None,
        "other/tasks.py, line 6",
    ]
    assert answer["failed"][0]["command"] == "sh -c 'exec celery --app=config.broken worker'"
    assert answer["failed"][3]["exception"]["message"] == "Unknown command: 'vanished'"
    assert answer["failed"][0]["exception"]["site"] and answer["failed"][0]["network"] == ["127.0.0.1:9"]
    assert answer["failed"][2]["exception"]["message"] == "Error: unrecognized arguments: --gone"
    # Nothing of it stays in the process.
    assert probe.ask("load_workers", commands=commands[:1])["loaded"] == answer["loaded"][:1]
    probe.end()


def test_programs_are_found_in_commands(tmp_path: Path) -> None:
    """Other programs may start them, and directories may have their names."""
    directory = tmp_path / "celery"
    directory.mkdir()
    command = ["uv", "run", "--directory", str(directory), "celery", "worker", "-A", "x"]
    assert program_of(command) == (load_celery, ["worker", "-A", "x"])
    assert program_of(["uv", "run", "--project", "django", "python", "-m", "django", "rqworker"]) == (load_manage, ["rqworker"])
    assert program_of(["python", "manage.py"]) is None
    assert program_of(["gunicorn", "config.wsgi"]) is None
    assert [option(["-c", "2", *given], "-A", "--app") for given in (["-Ax"], ["--app=x"], ["-A", "x"], ["-A"], [])] == [
        "x",
        "x",
        "x",
        None,
        None,
    ]
