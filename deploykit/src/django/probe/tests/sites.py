"""Small sites with a real Django, and the program that answers in them."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import deploykit_probe

PACKAGE = Path(deploykit_probe.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))

# As in `probe.rs`.
LOADER = (
    "import json, os; requests = os.fdopen(os.dup(0), 'rb'); "
    "exec(compile(json.loads(requests.readline()), '<deploykit>', 'exec'), {'requests': requests, '__name__': 'deploykit'})"
)

MANAGE = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "check"])
"""


def program() -> str:
    """Returns the program as `build.rs` makes it."""
    sources = {path.stem: path.read_text("utf-8") for path in MODULES if path.stem != "loader"}
    packed = base64.b64encode(zlib.compress(json.dumps(sources).encode()))
    return "%s\n\nstart(%r, requests)\n" % ((PACKAGE / "loader.py").read_text("utf-8"), packed.decode())


class Probe:
    """The program, in a site."""

    def __init__(self, directory: Path, packages: Path, files: dict[str, str], **configuration: Any) -> None:
        """Writes the files of the site, and boots it."""
        for name, text in {"manage.py": MANAGE, "config/__init__.py": "", **files}.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        environment = dict(os.environ, PYTHONPATH=str(packages), PYTHONDONTWRITEBYTECODE="1")
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOADER],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.write(program())
        self.write({"directory": str(directory), "limit": 60, **configuration})
        assert "ok" in self.read()

    def write(self, value: Any) -> None:
        """Writes a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value).encode() + b"\n")
        self.process.stdin.flush()

    def read(self) -> Any:
        """Reads the next line that is not empty."""
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            assert line, "the program has ended"
            if line.strip():
                return json.loads(line)

    def ask(self, what: str, **fields: Any) -> Any:
        """Returns what a request is answered."""
        answer = self.error(what, **fields)
        assert "ok" in answer, answer
        return answer["ok"]

    def error(self, what: str, **fields: Any) -> Any:
        """Returns the answer to a request, which may be an error."""
        self.write({"do": what, **fields})
        return self.read()

    def end(self) -> None:
        """Ends the program."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(timeout=20) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Takes the path, and how long an answer may take."""
        super().__init__("unix")
        self.path, self.seconds = path, seconds

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.seconds)
        self.sock.connect(str(self.path))


class Page:
    """An answer of a site."""

    def __init__(
        self,
        path: Path,
        target: str,
        method: str = "GET",
        body: bytes | None = None,
        seconds: float = 20,
        **headers: str,
    ) -> None:
        """Asks for it."""
        connection = UnixConnection(path, seconds)
        wanted = {"Host": "www.example.com", **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, target, body, wanted)
        answer = connection.getresponse()
        self.status, self.headers, self.broken = answer.status, answer.headers, False
        try:
            self.body = answer.read()
        except http.client.IncompleteRead as error:
            self.body, self.broken = error.partial, True
        connection.close()
