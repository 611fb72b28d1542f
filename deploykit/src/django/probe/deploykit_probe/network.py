"""The hosts and sockets that the site tries to connect to."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import Any, Iterable

from . import happened
from .kinds import Json
from .registry import answers

# Attempts outside of any request.
TRIED: list[str] = []

# Audit events of Python for connections and for lookups of host names.
CONNECTS = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOKS_UP = ("socket.getaddrinfo", "socket.gethostbyname")

# Whether the audit hook is installed; Python cannot remove it.
WATCHING = False


# Addresses of other machines that servers of this sandbox have, and Unix sockets of its proxies.
OWN: set[str] = set()


def watch(own: Iterable[str] = ()) -> None:
    """Begins to record attempts; these addresses of other machines and these Unix sockets are in this sandbox."""
    global WATCHING
    OWN.update(own)
    if not WATCHING:
        WATCHING = True
        sys.addaudithook(heard)


def heard(event: str, arguments: Any) -> None:
    """Records an attempt. Catches everything: an exception in an audit hook would break the site's code."""
    if event not in CONNECTS and event not in LOOKS_UP:
        return
    try:
        name = connected(event, *arguments) if event in CONNECTS else looked_up(*arguments)
        if name is not None:
            note(name)
    except Exception as error:
        print("network: %r" % error, file=sys.stderr)


def note(name: str) -> None:
    """Records a name for the request that is being answered, or for none."""
    asked = happened.current()
    names = TRIED if asked is None else asked.network
    if name not in names:
        names.append(name)


def connected(event: str, opened: socket.socket, address: Any) -> str | None:
    """Returns the address that a socket connects to; `None` if it is local, and a server listens there."""
    if opened.family == getattr(socket, "AF_UNIX", None) and isinstance(address, (str, bytes)):
        path = os.fsdecode(address)
        path = "@" + path[1:] if path.startswith("\0") else os.path.abspath(path)
        return None if path in unix_sockets() or os.path.realpath(path) in OWN else path
    if opened.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return None
    host, port = str(address[0]), address[1]
    if is_loopback(host) and (opened.type & 0xF != socket.SOCK_STREAM or port in listening_ports()):
        return None
    return joined(host, port)


def looked_up(host: Any, port: Any = None, *others: Any) -> str | None:
    """Returns a host name that is looked up, unless the machine resolves it itself: then a connection follows."""
    name = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host or "")
    if not name or is_address(name) or is_loopback(name):
        return None
    return joined(name, port.decode("ascii", "replace") if isinstance(port, bytes) else port)


def joined(host: str, port: Any) -> str:
    """Returns host and port as one text."""
    shown = "[%s]" % host if ":" in host else host
    return "%s:%s" % (shown, port) if port else shown


def is_address(host: str) -> bool:
    """Tells whether a host is an address, not a name."""
    try:
        ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tells whether a host is a loopback address, or a name for one."""
    if is_address(host):
        address = ipaddress.ip_address(host.split("%")[0])
        return address.is_loopback or address.is_unspecified or str(address) in OWN
    return host == "localhost" or any(is_loopback(address) for address in known_hosts().get(host.lower(), []))


def known_hosts() -> dict[str, list[str]]:
    """Returns the addresses of the names in `/etc/hosts`."""
    found: dict[str, list[str]] = {}
    for line in lines_of("/etc/hosts"):
        words = line.split("#")[0].split()
        if words and is_address(words[0]):
            for name in words[1:]:
                found.setdefault(name.lower(), []).append(words[0])
    return found


def lines_of(path: str) -> list[str]:
    """Returns the lines of a file, or none if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def listening_ports() -> set[int]:
    """Returns the TCP ports with a listening socket."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in lines_of("/proc/self/net/" + name)[1:]]
    return {int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[3] == "0A"}


def unix_sockets() -> set[str]:
    """Returns the Unix sockets that are bound."""
    rows = [line.split(None, 7) for line in lines_of("/proc/self/net/unix")[1:]]
    return {row[7] for row in rows if len(row) == 8}


# Counters of the kernel for connections and datagrams that reach nobody: no route, a port without a server.
FAILED = {"Ip": ("OutNoRoutes",), "Tcp": ("AttemptFails",), "Udp": ("NoPorts",)}


def failed_attempts() -> int:
    """Returns how many attempts of all processes in this network namespace have reached nobody."""
    lines = [line.split() for line in lines_of("/proc/self/net/snmp")]
    tables = {names[0].rstrip(":"): dict(zip(names[1:], values[1:])) for names, values in zip(lines[::2], lines[1::2])}
    return sum(int(tables.get(table, {}).get(name, 0)) for table, names in FAILED.items() for name in names)


@answers("network")
def do_network(request: Json) -> Json:
    """Answers the attempts outside of any request, and clears them."""
    tried = list(TRIED)
    del TRIED[:]
    return {"tried": tried}
