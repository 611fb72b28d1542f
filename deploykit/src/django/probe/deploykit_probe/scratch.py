"""What the copies have in common that are in the scratch database of the configuration."""

from __future__ import annotations

import os
import platform
from typing import Any, Sequence

from .kinds import Connection, Cursor, Json
from .private import CannotCopy, Endpoints, directory_for
from .proxy import Dialect, Target, target_of
from .sql import rows_of

KEY = "`rehearsal.database-url`"


def marker_for(directory: str) -> str:
    """Returns the comment of a scratch database whose contents deploykit may remove: it names the site."""
    return "deploykit rehearsal of %s:%s" % (platform.node(), os.path.realpath(directory))


def not_empty(name: str, statement: str) -> CannotCopy:
    """Returns the error that a scratch database has contents of its own, with the statement that gives them up."""
    reason = "the database `%s` of %s is not empty, and its contents are not of this site's rehearsal"
    return CannotCopy(reason % (name, KEY), "name an empty database, or allow its contents to be removed: %s" % statement)


class Scratch:
    """A scratch database, with a proxy at the addresses of the live server."""

    dialect: Dialect
    # The query for what tells a database from all others, in any server.
    identity_query: str

    def __init__(self, directory: str, opened: dict[str, Connection], url: str, nice: int, private: str) -> None:
        """Takes a directory for sockets, the connections to one live server by alias, the URL, the priority, and why there is
        no private server. The first alias is the one to copy.
        """
        live = next(iter(opened.values()))
        self.directory, self.live, self.nice = directory, live, nice
        self.target = self.read_url(url)
        self.marker = marker_for(os.path.dirname(directory))
        self.endpoints = Endpoints(directory)
        found = {alias: self.reached(connection) for alias, connection in opened.items()}
        main, *_ = found
        for alias, place in found.items():
            if place != found[main]:
                text = "%s; %s is for `%s` only, and `%s` is in the same server"
                raise CannotCopy(text % (private, KEY, main, alias))
        self.names = sorted({name for one in opened.values() for name in self.names_of(one)})
        self.connection = self.connection_to(live, self.target)
        self.settings: dict[str, str] = {}
        self.identity = ""
        self.size = 0

    @classmethod
    def read_url(cls, url: str) -> Target:
        """Reads the URL of the configuration."""
        try:
            return target_of(url, cls.dialect)
        except ValueError as error:
            raise CannotCopy("%s cannot be read: %s" % (KEY, error)) from error

    @classmethod
    def connection_to(cls, live: Connection, target: Target) -> Connection:
        """Returns a connection to the scratch database, which is not opened yet."""
        connection = live.copy()
        found: dict[str, Any] = {"NAME": target.name, "USER": target.user, "PASSWORD": target.password, "HOST": target.host}
        connection.settings_dict.update(found, PORT=str(target.port), OPTIONS=cls.options(connection, target))
        return connection

    @classmethod
    def clear(cls, live: Connection, url: str, directory: str) -> None:
        """Removes the copy that is in a scratch database; nothing else is removed."""
        connection = cls.connection_to(live, cls.read_url(url))
        try:
            with connection.cursor() as cursor:
                if cls.comment(cursor) == marker_for(directory):
                    cls.empty(cursor, marker_for(directory))
        finally:
            connection.close()

    def reached(self, connection: Connection) -> str:
        """Adds the address of a connection; returns what tells its database from all others."""
        self.add_endpoint(connection)
        with connection.cursor() as cursor:
            return self.identity_of(cursor)

    def identity_of(self, cursor: Cursor) -> str:
        """Returns what tells the database of this connection from all others."""
        return str(rows_of(cursor, self.identity_query)[0][0])

    def copy(self, limit: int) -> tuple[int, bool]:
        """Copies the live database, above the limit without most of its rows; returns its size, and whether all were copied."""
        programs = self.programs()
        try:
            self.connection.ensure_connection()
        except Exception as error:
            raise CannotCopy("%s cannot be reached: %s" % (KEY, str(error).strip())) from error
        with self.live.cursor() as live, self.connection.cursor() as scratch:
            if self.identity_of(live) == self.identity_of(scratch):
                raise CannotCopy("%s names the live database itself" % KEY)
            size = self.check(live, scratch)
            whole = size <= limit
            parts = self.parts(live, whole)
            self.empty(scratch, self.marker)
        self.live.close()
        for what in parts:
            self.fill(programs, what)
        with self.connection.cursor() as scratch:
            self.size = self.finish(scratch)
            self.identity = self.identity_of(scratch)
        self.connection.close()
        return size, whole

    def show(self) -> list[list[Any]]:
        """Returns what the sandbox must mount: the sockets."""
        directory_for(self.directory, None, 0o700)
        return self.endpoints.show(None)

    def proxy(self) -> Json:
        """Returns the sockets of the proxy and where clients see them, what they call the database, and their settings."""
        places = [(live, private, name) for live, private in self.endpoints.sockets.items() for name in self.sockets()]
        listen = [os.path.join(private, name) for _, private, name in places]
        if self.endpoints.addresses:
            listen.append(self.socket())
        at = [os.path.join(live, name) for live, _, name in places]
        return {"vendor": self.live.vendor, "listen": listen, "at": at, "names": self.names, "settings": self.settings}

    def socket(self) -> str:
        """Returns the socket to which connections to the live addresses are forwarded."""
        return os.path.join(self.directory, "proxy.sock")

    def servers(self) -> list[Json]:
        """Returns the programs that forward connections to the live addresses."""
        return self.endpoints.forwarders_to(self.socket())

    def expected(self) -> Json:
        """Returns the query that identifies it, and its result."""
        return {"query": self.identity_query, "is": self.identity}

    @classmethod
    def options(cls, connection: Connection, target: Target) -> Json:
        """Returns the `OPTIONS` of a connection to the scratch database."""
        raise NotImplementedError

    @classmethod
    def comment(cls, cursor: Cursor) -> str | None:
        """Returns the comment of the database of this connection."""
        raise NotImplementedError

    @classmethod
    def empty(cls, cursor: Cursor, marker: str) -> None:
        """Removes all that is in the database of this connection, ends all other sessions there, and sets its comment."""
        raise NotImplementedError

    def add_endpoint(self, connection: Connection) -> None:
        """Connects, and adds the address to the endpoints."""
        raise NotImplementedError

    def sockets(self) -> Sequence[str]:
        """Returns the names of the sockets in their directories."""
        raise NotImplementedError

    def names_of(self, connection: Connection) -> set[str]:
        """Returns what clients of an open connection call its database."""
        raise NotImplementedError

    def programs(self) -> list[str]:
        """Returns the programs that copy; fails unless they are installed."""
        raise NotImplementedError

    def check(self, live: Cursor, scratch: Cursor) -> int:
        """Fails unless the scratch database has no rights on the live one, is like it, and is empty or deploykit's own.

        Returns the size of the live database.
        """
        raise NotImplementedError

    def parts(self, live: Cursor, whole: bool) -> list[list[str]]:
        """Returns what is copied one after the other, as arguments."""
        raise NotImplementedError

    def fill(self, programs: list[str], what: list[str]) -> None:
        """Copies contents of the live database."""
        raise NotImplementedError

    def finish(self, scratch: Cursor) -> int:
        """Ends the copy, and returns its size."""
        raise NotImplementedError
