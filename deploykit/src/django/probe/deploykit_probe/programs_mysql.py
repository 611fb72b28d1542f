"""The programs of MariaDB and of MySQL: which are there, how they connect, what they are told."""

from __future__ import annotations

import os
import re
import subprocess

from .errors import Refused
from .kinds import Connection, Json
from .tools import run_tool, tool

# What each kind of server calls its programs; MariaDB's have the names of MySQL's, too.
NAMES = {"dump": ("mariadb-dump", "mysqldump"), "client": ("mariadb", "mysql")}


def server_name(connection: Connection) -> str:
    """Returns whose server it is."""
    return "MariaDB" if connection.mysql_is_mariadb else "MySQL"


def program(connection: Connection, kind: str) -> str:
    """Returns the path of the server's own program: each cannot read what the other one's writes."""
    maria, mysql = NAMES[kind]
    path = tool(*((maria, mysql) if connection.mysql_is_mariadb else (mysql,)))
    said = run_tool([path, "--version"], dict(os.environ), stdout=subprocess.PIPE).stdout.decode("utf-8")
    check_version(os.path.basename(path), said, server_name(connection), connection.mysql_version)
    return path


def check_version(name: str, said: str, server: str, version: tuple[int, ...]) -> None:
    """Fails where a program is not the server's, or is older."""
    maker = "MariaDB" if "MariaDB" in said else "MySQL"
    if maker != server:
        raise Refused("tool_foreign", what=name, version=maker, engine=server)
    # Before 8.0 the programs had versions of their own.
    found = re.search(r"Distrib (\d+)\.(\d+)", said) or re.search(r"Ver (\d+)\.(\d+)", said)
    # MariaDB's programs have versions of their own.
    if server == "MySQL" and found and int(found.group(1)) < version[0]:
        raise Refused("tool_too_old", what=name, version=".".join(found.groups()), engine="MySQL %d.%d" % version[:2])


def quoted_lines(found: Json) -> list[str]:
    """Returns the lines of an option file; what is empty is left out."""
    lines = []
    for name, value in found.items():
        if value:
            value = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append('%s="%s"' % (name, value))
    return lines


def options_text(connection: Connection) -> str:
    """Returns the text of an option file with which the programs connect."""
    settings = connection.settings_dict
    options = settings.get("OPTIONS") or {}
    host = str(settings.get("HOST") or "")
    given: Json = options["ssl"] if isinstance(options.get("ssl"), dict) else {}
    ssl = {name: given.get(name) or options.get("ssl_" + name) for name in ("ca", "capath", "cert", "key", "cipher")}
    mode = str(options.get("ssl_mode") or "")
    identity = options.get("ssl_verify_identity") or mode == "VERIFY_IDENTITY"
    verified = options.get("ssl_verify_cert") or identity or mode.startswith("VERIFY_")
    encrypted = any(ssl.values()) or verified or mode == "REQUIRED"
    disabled = mode == "DISABLED" or options.get("ssl_disabled")
    found = {
        "user": options.get("user") or settings.get("USER"),
        "password": options.get("password") or options.get("passwd") or settings.get("PASSWORD"),
        "socket": host if host.startswith("/") else options.get("unix_socket"),
        "host": options.get("host") or (None if host.startswith("/") else host),
        "port": options.get("port") or settings.get("PORT"),
        "default-character-set": "utf8mb4",
    }
    # As for Django: what is not asked for is not verified.
    if connection.mysql_is_mariadb:
        found["ssl"] = "1" if encrypted else "0" if disabled else None
        found["loose-ssl-verify-server-cert"] = "1" if verified else None if encrypted else "0"
    else:
        strict = "VERIFY_IDENTITY" if identity else "VERIFY_CA" if verified else "REQUIRED"
        found["ssl-mode"] = strict if encrypted else "DISABLED" if disabled else None
        # Without TLS, `caching_sha2_password` takes the server's key, as the drivers do.
        found["loose-get-server-public-key"] = "1" if disabled or options.get("get_server_public_key") else None
    found.update(("ssl-" + name, value) for name, value in ssl.items())
    lines = ["!include %s" % options["read_default_file"]] if options.get("read_default_file") else []
    return "\n".join(lines + ["[client]"] + quoted_lines(found)) + "\n"


def dump_arguments(mariadb: bool) -> list[str]:
    """Returns what a copy is made with, beside what is copied."""
    common = ["--single-transaction", "--quick", "--hex-blob", "--skip-add-locks", "--no-tablespaces"]
    # Neither the server's history nor its statistics are the database's; reading them takes rights, too.
    return common if mariadb else common + ["--set-gtid-purged=OFF", "--column-statistics=0"]
