"""Serves the site's pages for a rehearsal, without its services."""

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

# Seconds to wait for the end of the probe's own threads, and of running requests.
PATIENCE = 1.0

# The server of pages, and the path of its socket.
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
    """Stops a server, and returns the records of its requests."""
    return {"requests": [asked.answer() for asked in server.end(PATIENCE)]}


class Threaded:
    """Serves pages in this process: a fork would not have its threads."""

    def __init__(self, request: Json, name: str, listening: Any) -> None:
        """Begins to serve."""
        self.server, self.kind = serving(request, name, listening)

    def end(self) -> Json:
        """Ends it, and returns the records."""
        return ended(self.server)


class Forked:
    """Serves pages in a fork, so that what they load and change does not stay in this process."""

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
        """Closes the pipe, which ends the fork, and waits for it."""
        if self.tell >= 0:
            os.close(self.tell)
        self.answers.close()
        if self.pid:
            os.waitpid(self.pid, 0)


def be_server(request: Json, name: str, listening: Any, told: IO[bytes], answer: IO[bytes]) -> NoReturn:
    """Serves pages in the fork, until the pipe is closed."""
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
    """Begins to serve pages on a Unix socket."""
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
    """Stops serving pages, and answers the records of the requests."""
    global PAGES
    if PAGES is None:
        raise RuntimeError("no pages are being answered")
    (pages, path), PAGES = PAGES, None
    try:
        return pages.end()
    finally:
        os.unlink(path)
