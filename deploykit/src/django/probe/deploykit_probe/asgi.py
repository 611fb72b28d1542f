"""Runs an ASGI application, as uvicorn does."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, Callable
from urllib.parse import unquote

from . import happened
from .http_server import Application, Exchange, Request
from .kinds import Json

VERSIONS = {"version": "3.0", "spec_version": "2.3"}

# Seconds that an application may take to begin its lifespan.
LIFESPAN = 30.0


def is_asgi(application: Any) -> bool:
    """Tells whether an application is ASGI: it takes three arguments or is asynchronous; WSGI takes two."""
    call = application if inspect.isroutine(application) else getattr(application, "__call__", application)  # noqa: B004
    if inspect.iscoroutinefunction(call):
        return True
    try:
        parameters = inspect.signature(application).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.kind in positional and one.default is inspect.Parameter.empty]
    return len(needed) in (1, 3)


class Loop:
    """The event loop of the application, in a thread of its own."""

    def __init__(self, application: Any) -> None:
        """Starts the loop and the application's lifespan."""
        from asgiref.compatibility import guarantee_single_callable

        self.application = guarantee_single_callable(application)
        self.loop = asyncio.new_event_loop()
        self.state: Json = {}
        threading.Thread(target=self.run, name="pages", daemon=True).start()
        self.wait(self.start_lifespan())

    def run(self) -> None:
        """Runs the loop."""
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # A page that exits would end the loop for the others; its own request gets the exception.
                continue

    def wait(self, work: Any) -> Any:
        """Runs a coroutine in the loop, and waits for its result."""
        running: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return running.result()

    async def start_lifespan(self) -> None:
        """Starts the lifespan of the application; one without a lifespan raises an exception, which is ignored."""
        asked: asyncio.Queue[Json] = asyncio.Queue()
        said: asyncio.Queue[Json] = asyncio.Queue()
        await asked.put({"type": "lifespan.startup"})
        scope: Json = {"type": "lifespan", "asgi": VERSIONS, "state": self.state}
        self.lifespan = asyncio.ensure_future(self.application(scope, asked.get, said.put))
        answer = asyncio.ensure_future(said.get())
        await asyncio.wait([self.lifespan, answer], timeout=LIFESPAN, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            if self.lifespan.done():
                # The application has no lifespan.
                self.lifespan.cancelled() or self.lifespan.exception()
                return
            raise TimeoutError("the application's lifespan did not start within %d seconds" % LIFESPAN)
        message = answer.result()
        if message["type"] == "lifespan.startup.failed":
            raise RuntimeError(message.get("message") or "the application's lifespan failed to start")

    def ask(self, request: Request, exchange: Exchange) -> None:
        """Sends the whole response of the application."""
        self.wait(self.answer(request, exchange, happened.CURRENT.get()))

    async def answer(self, request: Request, exchange: Exchange, asked: Any) -> None:
        """Awaits the application."""
        happened.CURRENT.set(asked)
        ended = asyncio.Event()
        pending = [{"type": "http.request", "body": request.body, "more_body": False}]
        whole = threading.Event()

        async def receive() -> Json:
            """Returns the request, then waits for the end of the response."""
            if pending:
                return pending.pop()
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: Json) -> None:
            """Sends a part of the response, in a thread: the client may be slow."""
            try:
                await self.loop.run_in_executor(None, self.send, exchange, whole, message)
            except OSError:
                ended.set()
                raise

        try:
            await self.application(self.scope(request), receive, send)
        finally:
            ended.set()
        if not whole.is_set():
            raise RuntimeError("the application returned without a complete answer")

    def send(self, exchange: Exchange, whole: threading.Event, message: Json) -> None:
        """Sends a message of the application to the client."""
        if message["type"] == "http.response.start":
            status = message["status"]
            reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())]
            exchange.start(status, reason, headers)
        elif message["type"] == "http.response.body":
            if not exchange.begun:
                raise RuntimeError("the application sent a body before its status")
            exchange.write(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                whole.set()

    def scope(self, request: Request) -> Json:
        """Returns the ASGI scope."""
        return {
            "type": "http",
            "asgi": VERSIONS,
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.scheme,
            "path": unquote(request.raw_path),
            "raw_path": request.raw_path.encode("latin-1"),
            "query_string": request.query.encode("latin-1"),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
            "client": ("127.0.0.1", 0),
            "server": (request.host, request.port),
            "state": dict(self.state),
            "extensions": {},
        }


def asking(application: Callable[..., Any]) -> Application:
    """Returns a function that answers requests by an ASGI application."""
    return Loop(application).ask
