"""Runs a WSGI application, as gunicorn does."""

from __future__ import annotations

import io
import sys
from typing import Any, Callable
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from .http_server import Application, Exchange, Headers, Request
from .kinds import Json


def environ_of(request: Request) -> Json:
    """Returns the WSGI environ."""
    environ: Json = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.raw_path).decode("latin-1"),
        "QUERY_STRING": request.query,
        "RAW_URI": request.target,
        "REQUEST_URI": request.target,
        "SERVER_NAME": request.host,
        "SERVER_PORT": str(request.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "deploykit",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    if request.scheme == "https":
        environ["HTTPS"] = "on"
    for name, value in request.headers:
        # `X_A` would become the same key as `X-A`: nginx drops such names, too.
        if "_" in name:
            continue
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        if key in environ:
            value = environ[key] + (";" if key == "HTTP_COOKIE" else ",") + value
        environ[key] = value
    return environ


class Started:
    """`start_response`, which keeps status and headers until the first part of the body."""

    def __init__(self, exchange: Exchange) -> None:
        """Takes the response to send."""
        self.exchange = exchange
        self.status: str | None = None
        self.headers: Headers = []

    def __call__(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """Keeps status and headers."""
        if exc_info is not None and self.exchange.begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self.status is not None:
            raise RuntimeError("the application called start_response twice")
        self.status, self.headers = status, list(headers)
        return self.write

    def write(self, data: bytes) -> None:
        """Sends a part of the body, before the first one status and headers."""
        if not self.exchange.begun:
            if self.status is None:
                raise RuntimeError("the application did not call start_response")
            code, _, reason = self.status.partition(" ")
            self.exchange.start(int(code), reason, self.headers)
        self.exchange.write(data)


def asking(application: Callable[..., Any]) -> Application:
    """Returns a function that answers requests by a WSGI application."""

    def ask(request: Request, exchange: Exchange) -> None:
        """Sends the whole response of the application."""
        started = Started(exchange)
        answer = application(environ_of(request), started)
        try:
            for part in answer:
                if part:
                    started.write(part)
            started.write(b"")
        finally:
            getattr(answer, "close", lambda: None)()

    return ask
