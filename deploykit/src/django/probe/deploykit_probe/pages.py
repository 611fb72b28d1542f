"""Answers pages of the site, without its services."""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any, Callable, NoReturn

from . import applications, asgi, happened, network, origin, wsgi
from .answers import ANSWERS
from .beside import is_alone
from .errors import Failed, Refused, failure, guarded
from .http_server import Server, bind
from .kinds import Json
from .registry import answers

# Seconds that our own threads may take to end, and requests that are being answered.
PATIENCE = 1.0

# What answers pages, and the path of its socket.
PAGES: tuple[Forked | Threaded, str] | None = None


def serving(request: Json, name: str, listening: Any) -> tuple[Server, str]:
    """Loads the application, and serves it; returns the server and the kind of the application."""
    kind, application = guarded("wsgi", applications.load, name, application=name)
    asking: Callable[[Any], Any] = asgi.asking if kind == "asgi" else wsgi.asking
    happened.listen()
    network.watch()
    answering = guarded("wsgi", asking, application, application=name)
    server = Server(listening, answering, request.get("scheme") or "http", request.get("files") or [])
    server.begin()
    return server, kind


def ended(server: Server) -> Json:
    """Ends a server, and says what happened."""
    return {"requests": [asked.answer() for asked in server.end(PATIENCE)]}


class Threaded:
    """Serves in this process, whose threads would be missing in a fork."""

    def __init__(self, request: Json, name: str, listening: Any) -> None:
        """Begins to serve."""
        self.server, self.kind = serving(request, name, listening)

    def end(self) -> Json:
        """Ends it, and returns the records."""
        return ended(self.server)


class Forked:
    """Serves in a fork of this process, which knows nothing of what pages load and change."""

    def __init__(self, request: Json, name: str, listening: Any) -> None:
        """Begins to serve."""
        self.name = name
        told, tell = os.pipe()
        answered, answer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(tell)
            os.close(answered)
            be_server(request, name, listening, os.fdopen(told, "rb"), os.fdopen(answer, "wb", 0))
        for number in (told, answer, listening.detach()):
            os.close(number)
        self.tell, self.answers = tell, os.fdopen(answered, "rb")
        try:
            self.kind: str = self.answer()["kind"]
        except BaseException:
            self.close()
            raise

    def answer(self) -> Json:
        """Returns its next answer."""
        line = self.answers.readline()
        if not line:
            _, status = os.waitpid(self.pid, 0)
            self.pid = 0
            how = "was ended by signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "exited"
            code = "" if os.WIFSIGNALED(status) else " with code %d" % os.WEXITSTATUS(status)
            died = ChildProcessError("the process that answers pages %s%s" % (how, code))
            raise Failed("wsgi", died, application=self.name)
        answer: Json = json.loads(line.decode("utf-8"))
        if "error" in answer:
            raise Refused(**answer["error"])
        return answer

    def end(self) -> Json:
        """Ends it, and returns the records."""
        os.close(self.tell)
        self.tell = -1
        try:
            return self.answer()
        finally:
            self.close()

    def close(self) -> None:
        """Waits for its end, which comes with the end of the pipe."""
        if self.tell >= 0:
            os.close(self.tell)
        self.answers.close()
        if self.pid:
            os.waitpid(self.pid, 0)


def be_server(request: Json, name: str, listening: Any, told: IO[bytes], answer: IO[bytes]) -> NoReturn:
    """What the fork does, until it is told to end."""
    try:
        ANSWERS.close()
        for one in origin.INPUT:
            one.close()
        try:
            server, kind = serving(request, name, listening)
            say(answer, {"kind": kind})
            told.read()
            say(answer, ended(server))
        except BaseException as error:
            say(answer, failure(error))
    finally:
        os._exit(0)


def say(answer: IO[bytes], value: Json) -> None:
    """Writes an answer."""
    sys.stdout.flush()
    sys.stderr.flush()
    data = json.dumps(value, default=str).encode("utf-8") + b"\n"
    while data:
        data = data[answer.write(data) :]


@answers("begin_pages")
def do_begin_pages(request: Json) -> Json:
    """Begins to answer pages on a Unix socket."""
    global PAGES
    if PAGES is not None:
        raise RuntimeError("pages are being answered already")
    name = applications.application_name(request.get("application"))
    path = request["socket"]
    listening = guarded("pages_socket", bind, path, path=path)
    serve: Callable[..., Forked | Threaded] = Forked if is_alone(PATIENCE) else Threaded
    try:
        pages = serve(request, name, listening)
    except BaseException:
        listening.close()
        os.unlink(path)
        raise
    PAGES = (pages, path)
    return {"kind": pages.kind, "application": name}


@answers("end_pages")
def do_end_pages(request: Json) -> Json:
    """Ends that, and says what happened."""
    global PAGES
    if PAGES is None:
        raise RuntimeError("no pages are being answered")
    (pages, path), PAGES = PAGES, None
    try:
        return pages.end()
    finally:
        os.unlink(path)
