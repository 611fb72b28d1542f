"""The header of a bridge's answers, where gunicorn serves."""

from __future__ import annotations

import inspect
from typing import Any

from .kinds import Json

# The messages of ASGI that begin an answer.
BEGIN = ("http.response.start", "websocket.accept", "websocket.http.response.start")


def mark(worker: Any, header: str) -> None:
    """Wraps the application of a worker, so that every answer carries the header."""
    name = "asgi" if hasattr(worker, "asgi") else "wsgi"
    wrap = marked_asgi if name == "asgi" or is_uvicorn(worker) else marked_wsgi
    setattr(worker, name, wrap(getattr(worker, name), header))


def is_uvicorn(worker: Any) -> bool:
    """Tells whether uvicorn serves."""
    return any(kind.__name__ == "UvicornWorker" for kind in type(worker).__mro__)


def can_mark(worker: Any) -> bool:
    """Tells whether the application can be wrapped. uvicorn looks at it to find out what it is."""
    if not is_uvicorn(worker):
        return True
    application = worker.wsgi
    return inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(type(application).__call__)


def marked_wsgi(application: Any, header: str) -> Any:
    """Wraps a WSGI application."""

    def marked(environ: Json, start_response: Any) -> Any:
        """Answers a request."""

        def start(status: str, headers: Any, *args: Any) -> Any:
            """Begins an answer."""
            return start_response(status, [*headers, (header, "1")], *args)

        return application(environ, start)

    return marked


def marked_asgi(application: Any, header: str) -> Any:
    """Wraps an ASGI application."""
    pair = (header.lower().encode("latin-1"), b"1")

    async def marked(scope: Json, receive: Any, send: Any) -> None:
        """Answers a request."""

        async def sent(message: Json) -> None:
            """Sends a part of an answer."""
            if message["type"] in BEGIN:
                message = dict(message, headers=[*(message.get("headers") or ()), pair])
            await send(message)

        await application(scope, receive, sent)

    return marked
