"""The hosts, and what is around them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import machines
from control import Control
from demo import Site
from machines import Host, Postgresql, get, wait_for


class World:
    """The hosts, and what is around them."""

    def __init__(self, tools: Path, count: int = 3, cores: float | None = None):
        self.work = Path(tempfile.mkdtemp(prefix="several-hosts-"))
        supervisord = tools / "venv/bin/supervisord"
        self.hosts = [Host(f"web-{number}", number, self.work, supervisord, cores) for number in range(1, count + 1)]
        self.database = Postgresql(self.work)
        self.site = Site(self.work, tools, self.database)
        self.control = Control(self.work, tools, self.hosts)
        self.site.build()
        self.site.fill(self.hosts, self.control.key)
        for host in self.hosts:
            host.boot()
        self.front = machines.front(self.work, self.hosts)
        self.wait_until_serving()

    def wait_until_serving(self) -> None:
        """Waits until every host serves."""
        wait_for("hosts that serve", lambda: all(host.state().isdigit() for host in self.hosts))
        wait_for("the front", lambda: get(machines.FRONT, "/")[0] == 200)

    def close(self, keep: bool = False) -> None:
        """Ends everything."""
        for host in self.hosts:
            host.die()
        self.front.terminate()
        self.database.server.terminate()
        self.database.server.wait()
        for host in self.hosts:
            if keep:
                shutil.copytree(host.disk / "log", self.work / f"{host.name}-log", symlinks=True)
                shutil.copytree(host.disk / "site/.deploykit/runs", self.work / f"{host.name}-runs", symlinks=True, dirs_exist_ok=True)
            subprocess.run(["umount", "-l", host.disk], check=False)
            if host.share:
                host.share.close()
        if not keep:
            shutil.rmtree(self.work)

    def statuses(self) -> list[dict]:
        """Returns what deploykit says on each host."""
        return [host.deploykit("status") for host in self.hosts]

    def problems(self, statuses: list[dict]) -> list[str]:
        """Returns what is wrong with the hosts; nothing: each serves a version, wholly."""
        found = []
        for host, status in zip(self.hosts, statuses, strict=True):
            release, state = self.site.commits.get(status.get("commit", "")), host.state()
            wrong = {
                "status": status.get("error"),
                "serves": state if state != release else None,
                "running": status.get("running"),
                "unfinished": status.get("unfinished_run"),
                "page": status.get("maintenance_page"),
                "services": [s for s in status.get("services", []) if s["status"] != "running"],
            }
            found += [f"{host.name}: {name}: {value}" for name, value in wrong.items() if value]
            applied = sorted(self.database.ask("select name from django_migrations where app = 'guestbook'"))
            if release and applied != self.site.migrations(release):
                found.append(f"{host.name}: release {release} with migrations {applied}")
        releases = {status.get("commit") for status in statuses}
        return found if len(releases) == 1 else [*found, f"versions: {releases}"]


class Watch(threading.Thread):
    """Looks all the time what visitors get from each host."""

    def __init__(self, hosts: list[Host], interval: float = 0.3):
        super().__init__(daemon=True)
        self.hosts, self.interval = hosts, interval
        self.over, self.sweeps = threading.Event(), []
        self.start()

    def run(self) -> None:
        """Looks."""
        while not self.over.wait(self.interval):
            self.sweeps.append((time.monotonic(), [host.state() for host in self.hosts]))

    def end(self) -> Watch:
        """Ends it."""
        self.over.set()
        self.join()
        return self

    def seconds(self, condition) -> float:
        """Returns for how long a condition held of what the hosts served."""
        pairs = zip(self.sweeps, self.sweeps[1:], strict=False)
        return sum(at - before for (before, earlier), (at, states) in pairs if condition([s for s in states if s.isdigit()]))

    def window(self) -> float:
        """Returns for how long one host or more showed the page or nothing."""
        return self.seconds(lambda served: len(served) < len(self.hosts))

    def down(self) -> float:
        """Returns for how long all of them did."""
        return self.seconds(lambda served: not served)

    def mixed(self) -> float:
        """Returns for how long two versions were served at once."""
        # One sweep takes a moment, in which all hosts may have changed their version.
        return self.seconds(lambda served: len(set(served)) > 1)


def say(text: str) -> None:
    """Prints at once."""
    print(text, flush=True)
