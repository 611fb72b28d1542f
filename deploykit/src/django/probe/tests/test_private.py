"""Private servers, as far as none is started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploykit_probe.errors import Refused
from deploykit_probe.private import CannotCopy, Endpoints, argv_as, begun, end_left_server, piped, plain_environment
from deploykit_probe.private_mariadb import accounts_of
from deploykit_probe.private_postgresql import needs_tls, programs_for

ENV = dict(os.environ)


def test_a_server_is_found_where_the_live_one_is(tmp_path: Path) -> None:
    """By its sockets, its addresses and its names."""
    live = tmp_path / "live"
    live.mkdir()
    (tmp_path / "link").symlink_to(live)
    found = Endpoints(str(tmp_path / "private"))
    for name in ("live", "link"):
        found.add_socket(str(tmp_path / name))
    found.add_address("10.0.0.5", 5433, ["db.internal", "10.0.0.5", ""])
    found.add_address("::ffff:127.0.0.1", 5433, ["localhost"])
    assert found.show(None) == [[str(tmp_path / "private" / "sockets-0"), str(live), True]]
    assert (found.addresses, found.far()) == (["10.0.0.5", "127.0.0.1"], ["10.0.0.5"])
    assert (found.hosts, found.port(5432)) == ({"db.internal": "10.0.0.5"}, 5433)
    assert found.ready("name") == {"unix": str(live / "name")}
    found.add_address("10.0.0.5", 6432, [])
    assert [one["ready"] for one in found.forwarders()] == [{"tcp": ["10.0.0.5", 6432]}]
    for shared in ("/tmp", str(tmp_path)):
        with pytest.raises(CannotCopy, match="holds other files"):
            found.add_socket(shared)


def test_requirements_of_clients_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the settings or in a variable."""

    def asked(**options: str) -> bool:
        """Asks about a connection with these options."""
        return needs_tls(SimpleNamespace(settings_dict={"OPTIONS": options}))

    assert not asked() and not asked(sslmode="prefer", channel_binding="prefer") and asked(sslmode="require")
    with pytest.raises(CannotCopy, match="verify the server's certificate"):
        asked(sslmode="verify-full")
    with pytest.raises(CannotCopy, match="`require_auth=scram-sha-256`"):
        asked(require_auth="scram-sha-256")
    monkeypatch.setenv("PGSSLMODE", "require")
    assert asked()


def test_a_server_that_is_not_installed_is_named() -> None:
    """With the line that installs it."""
    with pytest.raises(CannotCopy, match="version 99 or newer is installed") as caught:
        programs_for(99)
    assert caught.value.help == "apt install postgresql-99"


def test_the_program_that_failed_is_named() -> None:
    """Not the one that only lost its reader or its writer."""
    cat, fails = ["cat"], ["sh", "-c", "echo no >&2; exit 3"]
    piped(["echo", "word"], ENV, cat, ENV, 0, ())
    for source, target in ((fails, cat), (["sh", "-c", "while echo word; do :; done"], fails)):
        with pytest.raises(Refused) as caught:
            piped(source, ENV, target, ENV, 0, ())
        assert (caught.value.fields["what"], caught.value.fields["code"]) == ("sh", 3)
        assert caught.value.fields["traceback"] == ["no"]


def test_a_program_ends_with_its_parent() -> None:
    """Also when the parent is killed."""
    text = (
        "import os, subprocess, sys; sys.path[:] = %r; from deploykit_probe.private import begun;"
        "print(subprocess.Popen(['sleep', '60'], preexec_fn=begun(3)).pid, flush=True); os.kill(os.getpid(), 9)"
    )
    said = subprocess.run([sys.executable, "-c", text % sys.path], stdout=subprocess.PIPE, check=False).stdout
    until = time.monotonic() + 10
    while time.monotonic() < until and running(int(said)):
        time.sleep(0.02)
    assert not running(int(said))


def running(number: int) -> bool:
    """Tells whether there is such a process that has not ended."""
    try:
        return "\nState:\tZ" not in Path("/proc/%d/status" % number).read_text()
    except OSError:
        return False


def test_a_server_that_was_left_is_ended(tmp_path: Path) -> None:
    """Its working directory identifies it, not its name."""
    with subprocess.Popen(["sleep", "60"], cwd=str(tmp_path), preexec_fn=begun(0)) as left:
        end_left_server(str(tmp_path / "other"))
        assert left.poll() is None
        end_left_server(str(tmp_path))
        assert left.wait() == -9


def test_a_server_is_run_in_a_directory_that_its_user_cannot_reach(tmp_path: Path) -> None:
    """As root; another user runs it as it is."""
    assert argv_as(None, "/data", ["/bin/server", "-D", "{}"]) == ["/bin/server", "-D", "/data"]
    if os.geteuid() == 0:
        directory = tmp_path / "data"
        directory.mkdir()
        (directory / "file").write_text("word")
        tmp_path.chmod(0o700)
        argv = argv_as("nobody", str(directory), ["/bin/sh", "-c", "id -un; cat {}/file"])
        assert subprocess.check_output(argv, cwd="/") == b"nobody\nword"


def test_no_variable_leads_to_the_live_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of libpq's is left."""
    monkeypatch.setenv("PGSERVICE", "live")
    assert "PGSERVICE" not in plain_environment(["PG"])


class Said:
    """A cursor that answers with what a MariaDB server said."""

    def __init__(self, said: dict[str, list[str]]) -> None:
        """Takes the answers."""
        self.said, self.rows = said, [""]

    def execute(self, sql: str) -> None:
        """Finds the answer."""
        self.rows = next((rows for start, rows in self.said.items() if sql.startswith(start)), [])

    def fetchall(self) -> list[tuple[str]]:
        """Returns it."""
        return [(row,) for row in self.rows]


def test_an_account_gets_its_rights_from_wherever_it_comes() -> None:
    """Also as an older server writes them; what belongs to others is left out."""
    cursor = Said(
        {
            "SELECT CURRENT_USER()": ["si'te@10.0.0.%"],
            "SHOW CREATE USER": ["CREATE USER 'si''te'@'10.0.0.%' IDENTIFIED BY PASSWORD '*A'"],
            "SHOW GRANTS FOR": ["GRANT SELECT ON `site`.* TO `all`"],
            "SHOW GRANTS": [
                "SET DEFAULT ROLE `all` FOR `si'te`@`10.0.0.%`",
                "GRANT `all` TO `si'te`@`10.0.0.%`",
                "GRANT SELECT ON `other`.`table` TO `si'te`@`10.0.0.%`",
            ],
            "SELECT DISTINCT definer FROM information_schema.views": ["si'te@10.0.0.%", "else@%"],
        }
    )
    found = accounts_of(cursor, "site")
    assert found[:6] == [
        "CREATE ROLE IF NOT EXISTS `all`",
        "CREATE USER IF NOT EXISTS `si'te`@`%` IDENTIFIED BY PASSWORD '*A'",
        "GRANT `all` TO `si'te`@`%`",
        "GRANT SELECT ON `site`.* TO `all`",
        "SET DEFAULT ROLE `all` FOR `si'te`@`%`",
        "REVOKE FILE, SHUTDOWN ON *.* FROM `si'te`@`%`",
    ]
    assert [line for line in found if "other" in line] == []
    assert found[-2:] == ["CREATE USER IF NOT EXISTS 'else'@'%'", "GRANT ALL ON `site`.* TO 'else'@'%'"]
    assert "GRANT `all` TO `si'te`@`localhost`" in found and "GRANT `all` TO `si'te`@`10.0.0.%`" in found
