"""A small HTTP server on a Unix socket, for the pages of a rehearsal."""

from __future__ import annotations

import contextvars
import errno
import mimetypes
import os
import posixpath
import socket
import socketserver
import stat
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import IO, Any, Callable, List, Tuple
from urllib.parse import unquote, urlsplit

from . import happened
from .happened import Asked

Headers = List[Tuple[str, str]]

# Maximum number of concurrent requests.
THREADS = 8

# Seconds that a client may take to send its request.
PATIENCE = 30.0

# Hop-by-hop headers, which an application must not set.
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "upgrade", "trailer")

# Types that Python's own list lacks.
TYPES = {
    ".avif": "image/avif",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".map": "application/json",
    ".mjs": "text/javascript",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}


class Request:
    """A request, as a reverse proxy would forward it."""

    def __init__(self, handler: Handler, scheme: str, body: bytes) -> None:
        """Takes what was received."""
        target = handler.path
        if not target.startswith("/"):
            parts = urlsplit(target)
            target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        self.method, self.target, self.scheme, self.body = handler.command, target, scheme, body
        self.raw_path, _, self.query = target.partition("?")
        self.headers: Headers = [(name, value.strip()) for name, value in handler.headers.items()]
        host = urlsplit("//" + (handler.headers.get("Host") or "localhost"))
        self.host = host.hostname or "localhost"
        try:
            self.port = host.port or (443 if scheme == "https" else 80)
        except ValueError:
            self.port = 0


class Gone(OSError):
    """The client no longer reads."""


class Exchange:
    """A response that is being sent."""

    def __init__(self, handler: Handler, asked: Asked) -> None:
        """Takes the connection and the request's record."""
        self.output, self.asked = handler.wfile, asked
        self.has_body = handler.command != "HEAD"
        self.may_chunk = handler.request_version == "HTTP/1.1"
        self.begun = self.chunked = self.gone = False
        self.length: int | None = None
        self.sent = 0

    def start(self, status: int, reason: str, headers: Headers) -> None:
        """Sends status and headers."""
        names = {name.lower(): value for name, value in headers}
        self.has_body = self.has_body and status >= 200 and status not in (204, 304)
        if self.has_body and names.get("content-length", "").isdigit():
            self.length = int(names["content-length"])
        self.chunked = self.has_body and self.length is None and self.may_chunk
        kept = [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]
        kept += [("Transfer-Encoding", "chunked")] if self.chunked else []
        lines = ["HTTP/1.1 %d %s" % (status, reason)] + ["%s: %s" % pair for pair in kept] + ["Connection: close", "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        self.begun, self.asked.status = True, status
        self.send(head)

    def write(self, data: bytes) -> None:
        """Sends a part of the body."""
        if not self.has_body or not data:
            return
        self.sent += len(data)
        self.send(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    def finish(self) -> None:
        """Ends the response. Without this, the client sees an incomplete one."""
        self.asked.complete = self.length is None or self.sent == self.length
        if self.chunked:
            self.send(b"0\r\n\r\n")

    def whole(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        """Sends a response that is no page of the site."""
        self.start(status, status.phrase, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        self.write(body)

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        try:
            self.output.write(data)
        except OSError as error:
            self.gone = True
            raise Gone(error.errno, "the client is gone") from error


# A function that answers a request.
Application = Callable[[Request, Exchange], None]


class Files:
    """The files that the web server serves without Django."""

    def __init__(self, places: list[list[str]]) -> None:
        """Takes URL prefixes with their directories."""
        self.places = sorted(places, key=lambda place: -len(place[0]))
        self.types = mimetypes.MimeTypes()
        for ending, kind in TYPES.items():
            self.types.add_type(kind, ending)

    def answer(self, request: Request, exchange: Exchange) -> bool:
        """Sends a file if the path has one of the prefixes; returns whether it has."""
        path = unquote(request.raw_path, errors="surrogateescape")
        for prefix, directory in self.places:
            if path.startswith(prefix):
                self.send(request, exchange, directory, path[len(prefix) :])
                return True
        return False

    def send(self, request: Request, exchange: Exchange, directory: str, name: str) -> None:
        """Sends a file."""
        if request.method not in ("GET", "HEAD"):
            return plain(exchange, HTTPStatus.METHOD_NOT_ALLOWED)
        if "\0" in name or ".." in name.split("/"):
            return plain(exchange, HTTPStatus.NOT_FOUND)
        path = os.path.join(directory, posixpath.normpath("/" + name).lstrip("/"))
        try:
            if os.path.isdir(path):
                path = os.path.join(path, "index.html")
                if not os.path.exists(path):
                    return plain(exchange, HTTPStatus.FORBIDDEN)
            with open(path, "rb") as file:
                self.send_file(exchange, file, path)
        except (FileNotFoundError, NotADirectoryError):
            plain(exchange, HTTPStatus.NOT_FOUND)
        except OSError as error:
            if isinstance(error, Gone):
                raise
            known = {errno.EACCES: HTTPStatus.FORBIDDEN, errno.ENAMETOOLONG: HTTPStatus.NOT_FOUND}
            plain(exchange, known.get(error.errno or 0, HTTPStatus.INTERNAL_SERVER_ERROR))
        return None

    def send_file(self, exchange: Exchange, file: IO[bytes], path: str) -> None:
        """Sends an opened file."""
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            return plain(exchange, HTTPStatus.FORBIDDEN)
        kind, encoding = self.types.guess_type(path)
        # nginx derives no encoding from a file's name.
        kind = "application/gzip" if encoding == "gzip" else kind or "application/octet-stream"
        exchange.start(200, "OK", [("Content-Type", kind), ("Content-Length", str(facts.st_size))])
        while exchange.has_body:
            data = file.read(1 << 16)
            if not data:
                break
            exchange.write(data)
        return None


def plain(exchange: Exchange, status: HTTPStatus) -> None:
    """Sends a response with only a status."""
    exchange.whole(status, ("%d %s\n" % (status, status.phrase)).encode("ascii"), "text/plain")


class Handler(BaseHTTPRequestHandler):
    """A connection with one request."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def handle(self) -> None:
        """Reads the request and answers it."""
        self.close_connection = True
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                return
            if "Transfer-Encoding" in self.headers:
                self.send_error(HTTPStatus.LENGTH_REQUIRED)
                return
            length = self.headers.get("Content-Length") or "0"
            if not length.isdigit():
                self.send_error(HTTPStatus.BAD_REQUEST)
                return
            body = self.rfile.read(int(length))
        except OSError:
            # The client went away, or sent nothing.
            return
        request = Request(self, self.server.scheme, body)
        contextvars.copy_context().run(self.server.answer, request, self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Logs nothing: the records have it."""


class Server(socketserver.BaseServer):
    """Listens, and answers several requests concurrently."""

    def __init__(self, listening: socket.socket, application: Application, scheme: str, places: list[list[str]]) -> None:
        """Takes a bound socket and the application."""
        super().__init__(("", 0), Handler)
        self.listening, self.application, self.scheme = listening, application, scheme
        self.files = Files(places)
        self.asked: list[Asked] = []
        self.pool = ThreadPoolExecutor(THREADS, "pages")

    def fileno(self) -> int:
        """Returns the socket, to wait for."""
        return self.listening.fileno()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts a connection."""
        return self.listening.accept()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection in a thread of the pool."""
        self.pool.submit(self.process, request, client_address)

    def process(self, request: socket.socket, client_address: Any) -> None:
        """Answers a connection."""
        try:
            self.finish_request(request, client_address)
        except Exception:
            traceback.print_exc()
        finally:
            request.close()

    def answer(self, request: Request, handler: Handler) -> None:
        """Answers a request, and records it."""
        asked = Asked(request.method, request.target)
        exchange = Exchange(handler, asked)
        happened.CURRENT.set(asked)
        with happened.LOCK:
            self.asked.append(asked)
            happened.RUNNING.append(asked)
        try:
            if not self.files.answer(request, exchange):
                self.application(request, exchange)
            exchange.finish()
        except BaseException as error:
            if not exchange.gone:
                asked.failed(error)
            if not exchange.begun:
                plain(exchange, HTTPStatus.INTERNAL_SERVER_ERROR)
                exchange.finish()
        finally:
            asked.known.clear()
            with happened.LOCK:
                happened.RUNNING.remove(asked)

    def begin(self) -> None:
        """Listens in a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.05,), name="pages", daemon=True).start()

    def end(self, seconds: float) -> list[Asked]:
        """Stops; waits so long for running requests. Returns the records."""
        self.shutdown()
        self.listening.close()
        until = time.monotonic() + seconds
        while any(asked in happened.RUNNING for asked in self.asked) and time.monotonic() < until:
            time.sleep(0.01)
        self.pool.shutdown(wait=False)
        return self.asked


def bind(path: str) -> socket.socket:
    """Listens on a Unix socket that only its owner may connect to."""
    listening = socket.socket(socket.AF_UNIX)
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    before = os.umask(0o177)
    try:
        # The whole path may be longer than the kernel allows.
        listening.bind("/proc/self/fd/%d/%s" % (directory, os.path.basename(path)))
        listening.listen(128)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(before)
        os.close(directory)
    return listening
