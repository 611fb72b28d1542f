"""Private Redis servers in place of those that the settings name."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import traceback
from typing import Any, Iterator, NamedTuple, Sequence
from urllib.parse import unquote, urlsplit

from .errors import Refused, readable
from .kinds import Json, Settings
from .private import CannotCopy, Endpoints, directory_for, refusal, server_environment, version_of

PROGRAMS = ("redis-server", "valkey-server")
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")

SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix", "redis+socket")

# Parts of the names of settings in which hosts and ports, too, are those of Redis.
NAMES = ("REDIS", "VALKEY", "RQ_", "HUEY", "Q_CLUSTER", "CHANNEL_LAYERS")

# The URLs in the configuration of a Celery application.
CELERY = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")

ENCRYPTED = ("rediss", "valkeys")

CONFIGURATION = """
save ""
appendonly no
daemonize no
protected-mode no
databases 1024
"""


class Address(NamedTuple):
    """Where clients expect a server: a host and a port, or a Unix socket."""

    host: str
    port: int
    path: str
    user: str
    password: str
    tls: bool

    def shown(self) -> str:
        """Returns the address as texts name it."""
        return self.path or "%s:%d" % (self.host, self.port)


def addresses_in(value: Any, named: bool, depth: int = 0) -> Iterator[Address]:
    """Yields the addresses in the value of a setting; `named`: hosts without a scheme are those of Redis, too."""
    if isinstance(value, str):
        yield from addresses_of(value, named)
    elif isinstance(value, dict):
        given = {str(key).lower(): one for key, one in value.items()}
        host, path = given.get("host"), given.get("unix_socket_path") or given.get("path")
        secret = (str(given.get("username") or ""), str(given.get("password") or ""))
        if named and isinstance(path, str) and path.startswith("/"):
            yield Address("", 0, path, *secret, tls=False)
        elif named and isinstance(host, str) and "://" not in host:
            yield Address(host, int(given.get("port") or 6379), "", *secret, tls=bool(given.get("ssl")))
        for one in value.values():
            yield from addresses_in(one, named, depth + 1) if depth < 6 else ()
    elif isinstance(value, (list, tuple, set)):
        if named and len(value) == 2 and [type(one) for one in value] == [str, int]:
            host, port = value
            yield Address(host, port, "", "", "", tls=False)
            return
        for one in value:
            yield from addresses_in(one, named, depth + 1) if depth < 6 else ()
    elif type(value).__module__.split(".")[0] == "huey":
        # Its settings may be an object.
        pool = getattr(getattr(value, "storage", None), "pool", None)
        if pool is not None:
            yield from addresses_in(getattr(pool, "connection_kwargs", None), True, depth + 1)


def addresses_of(text: str, named: bool) -> Iterator[Address]:
    """Yields the addresses in a string: URLs, or hosts with ports."""
    for one in text.replace(";", ",").split(","):
        scheme = one.split("://", 1)[0].strip()
        if "://" not in one:
            host, _, port = one.strip().rpartition(":")
            if named and host and port.isdigit() and "/" not in host:
                yield Address(host, int(port), "", "", "", tls=False)
            continue
        if scheme not in SCHEMES:
            continue
        parts = urlsplit(one.strip())
        secret = (unquote(parts.username or ""), unquote(parts.password or ""))
        if scheme in ("unix", "redis+socket"):
            yield Address("", 0, unquote(parts.path), *secret, tls=False)
        else:
            yield Address(parts.hostname or "localhost", parts.port or 6379, "", *secret, tls=scheme in ENCRYPTED)


def addresses(settings: Settings) -> list[Address]:
    """Returns the addresses of all servers that the settings name."""
    found: list[Address] = []
    for name in dir(settings):
        if not name.isupper() or name == "DATABASES":
            continue
        value = getattr(settings, name, None)
        caches = list(value.values()) if name == "CACHES" and isinstance(value, dict) else None
        named = any(part in name for part in NAMES)
        for one in [value] if caches is None else caches:
            try:
                found += addresses_in(one, named if caches is None else needs_redis(one))
            except (TypeError, ValueError):
                # Not a port: this is no address of Redis.
                continue
    return found + [one for url in celery_urls() for one in addresses_of(url, False)]


def celery_urls() -> Iterator[str]:
    """Yields the URLs in the configuration of the Celery applications that are loaded: it may be none of Django's settings."""
    state = sys.modules.get("celery._state")
    for app in state._get_active_apps() if state else ():
        try:
            values = [app.conf.get(name) for name in CELERY]
        except Exception:
            # The application reads its configuration only now; what is wrong with it shows when it is used.
            traceback.print_exc(file=sys.stderr)
            continue
        for value in values:
            yield from (url for url in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(url, str))


def needs_redis(cache: Any) -> bool:
    """Tells whether a cache is one in Redis."""
    backend = str(cache.get("BACKEND", "")).lower() if isinstance(cache, dict) else ""
    return "redis" in backend or "valkey" in backend


def is_served(value: Any, served: Sequence[str]) -> bool:
    """Tells whether all servers of a cache, a channel layer or a queue are there in this sandbox."""
    found = list(addresses_in(value, True))
    return bool(found) and all(one.shown() in served for one in found)


def program() -> str:
    """Returns the path of the server's program."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath)] + list(PLACES))
    for name in PROGRAMS:
        found = shutil.which(name, path=path)
        if found:
            version_of(found)
            return found
    raise CannotCopy("`redis-server` is not installed", "apt install redis-server")


def start_redis(directory: str, settings: Settings, found: Json) -> None:
    """Adds the servers that the sandbox starts, and says which ones it cannot start."""
    servers: dict[str, list[Address]] = {}
    for one in addresses(settings):
        servers.setdefault(one.shown(), []).append(one)
    reasons: dict[str, tuple[str, str | None]] = {}
    # Names of one address have one server.
    done: dict[str, str] = {}
    for number, (name, named) in enumerate(sorted(servers.items())):
        try:
            add_server(os.path.join(directory, "redis-%d" % number), named, found, done)
            found["redis"].append(name)
        except (CannotCopy, Refused, OSError) as error:
            said = refusal(error.fields) if isinstance(error, Refused) else readable(str(error))
            reasons[name] = (said, getattr(error, "help", None))
    if reasons:
        reason, help_ = next(iter(reasons.values()))
        found["in_memory"] = {"servers": list(reasons), "reason": reason, "help": help_}


def add_server(directory: str, named: list[Address], found: Json, done: dict[str, str]) -> None:
    """Adds the server for one address."""
    first = named[0]
    if any(one.tls for one in named):
        raise CannotCopy("its clients require TLS")
    executable = program()
    endpoints = Endpoints(directory)
    lines = CONFIGURATION
    if first.path:
        live = os.path.dirname(first.path)
        if os.path.realpath(live) in [os.path.realpath(show[1]) for show in found["show"]]:
            raise CannotCopy("its socket is in `%s`, like that of another server" % live)
        endpoints.add_socket(live)
        lines += "port 0\nunixsocket %s\nunixsocketperm 777\n" % quoted(first.path)
    else:
        infos = socket.getaddrinfo(first.host, first.port, type=socket.SOCK_STREAM)
        for info in infos:
            endpoints.add_address(str(info[4][0]), first.port, [first.host])
        key = "%s:%d" % (endpoints.addresses[0], first.port)
        if key in done:
            return
        done[key] = first.shown()
        lines += "port %d\nbind %s\n" % (first.port, " ".join(endpoints.addresses))
    for one in named:
        if one.user and one.user != "default":
            lines += "user %s on nopass ~* &* +@all\n" % one.user
        elif one.password and "requirepass" not in lines:
            lines += "requirepass %s\n" % quoted(one.password)
    directory_for(directory, None, 0o700)
    file = os.path.join(directory, "redis.conf")
    with open(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="ascii") as config:
        config.write(lines + "dir %s\n" % quoted(directory))
    found["show"] += endpoints.show(None)
    unix = endpoints.sockets and endpoints.ready(os.path.basename(first.path))
    server: Json = {"argv": [executable, file], "environment": server_environment(), "user": None, "stop": int(signal.SIGTERM)}
    server.update(ready=unix or {"tcp": [endpoints.addresses[0], first.port]}, listen=endpoints.far(), hosts=endpoints.hosts)
    found["servers"].append(server)


def quoted(text: str) -> str:
    """Returns a value for the configuration of Redis, whatever characters it has."""
    return '"%s"' % "".join("\\x%02x" % byte for byte in os.fsencode(text))
