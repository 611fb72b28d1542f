"""Hosts in namespaces of their own, on one network, and what stands beside them: PostgreSQL and nginx in front."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
SITE = "demo.example"
CONTROL, DATABASE, FRONT = "10.77.0.1", "10.77.0.5", "10.77.0.6"
# More than a site with two versions of its packages needs.
DISK = "600m"


def run(*command: object, **more) -> str:
    """Runs a program to its end and returns its output; a failure shows it."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False, **more)
    if done.returncode:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(what: str, condition, patience: float = 60) -> None:
    """Polls until a condition holds."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience} s for {what}")
        time.sleep(0.1)


def get(address: str, path: str, patience: float = 1) -> tuple[int, str]:
    """Requests a page as a visitor; status 0: no answer."""
    request = urllib.request.Request(f"http://{address}{path}", headers={"Host": SITE})
    try:
        with urllib.request.urlopen(request, timeout=patience) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except (OSError, ValueError):
        return 0, ""


def network() -> None:
    """Makes the network, in the network namespace of the caller."""
    # With an address of its own: else that changes with the hosts that come and go.
    run("ip", "link", "add", "lan", "address", "02:00:00:00:00:01", "type", "bridge")
    for address in (CONTROL, DATABASE, FRONT):
        run("ip", "address", "add", f"{address}/24", "dev", "lan")
    run("ip", "link", "set", "lan", "up")
    run("ip", "link", "set", "lo", "up")


class Share:
    """A control group, whose processes together get a part of one core at most, as if they had a slow core of their own."""

    # Short: nobody waits long for the next period.
    PERIOD = 10_000

    def __init__(self, name: str, cores: float):
        quota = int(cores * self.PERIOD)
        first = Path("/sys/fs/cgroup/cpu")
        self.group = (first if first.is_dir() else first.parent) / name
        self.group.mkdir()
        if first.is_dir():
            (self.group / "cpu.cfs_period_us").write_text(str(self.PERIOD))
            (self.group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self.group / "cpu.max").write_text(f"{quota} {self.PERIOD}")

    def command(self, command: list[object]) -> list[object]:
        """Returns what runs a command in the group."""
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.group, *command]

    def close(self) -> None:
        """Removes the group, whose processes have ended or are about to."""

        def is_gone() -> bool:
            with contextlib.suppress(OSError):
                self.group.rmdir()
            return not self.group.exists()

        wait_for("the end of a host's processes", is_gone)


class Host:
    """A host. Its files are below `disk`, which is its /srv; its processes get `cores` cores, or what there is."""

    def __init__(self, name: str, number: int, work: Path, supervisord: Path, cores: float | None = None):
        self.share = Share(f"{work.name}-{name}", cores) if cores else None
        self.name, self.number = name, number
        self.address = f"10.77.0.{10 + number}"
        self.disk = work / "hosts" / name
        self.link = f"link-{number}"
        self.supervisord = supervisord
        self.log = work / f"{name}.log"
        self.process: subprocess.Popen | None = None
        self.disk.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={DISK}", name, self.disk)

    def boot(self) -> None:
        """Boots it. What starts at boot starts."""
        command = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        command += [HERE / "host.sh", self.disk, self.supervisord]
        if self.share:
            command = self.share.command(command)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(f"the namespaces of {self.name}", self.init)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.init())
        run("ip", "link", "set", self.link, "master", "lan", "up")
        self.inside("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")

    def init(self) -> int | None:
        """Returns its process 1, as it is called outside."""
        if self.process is None or self.process.poll() is not None:
            return None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            return None
        # Before the namespaces are complete, it is not this host.
        ours, its = (os.stat(f"/proc/{pid}/ns/net").st_ino for pid in ("self", children[0]))
        return int(children[0]) if ours != its else None

    def inside(self, *command: object) -> str:
        """Runs a program on the host, as somebody at its console."""
        enter = ["nsenter", "--target", self.init(), "--net", "--mount", "--uts", "--ipc", "--pid", "--"]
        return run(*enter, *command, stdin=subprocess.DEVNULL)

    def deploykit(self, *args: str, patience: float = 120) -> dict:
        """Runs deploykit at the console and returns its document."""
        enter = ["nsenter", "--target", str(self.init()), "--net", "--mount", "--uts", "--ipc", "--pid", "--"]
        program = ["/srv/bin/deploykit", "--config", "/srv/site/deploykit.toml", "--json", "--quiet"]
        command = [*enter, "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *program, *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, stdin=subprocess.DEVNULL, check=False)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {"error": done.stderr, "exit_code": done.returncode}

    def is_up(self) -> bool:
        """Tells whether it runs."""
        return self.init() is not None

    def die(self) -> None:
        """Ends the whole host at once, as a loss of power does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        with contextlib.suppress(RuntimeError):
            run("ip", "link", "del", self.link)

    def cut(self) -> None:
        """Cuts its cable."""
        run("ip", "link", "set", self.link, "down")

    def cut_from_control(self) -> None:
        """Cuts it off from the control machine only."""
        self.inside("ip", "route", "add", "blackhole", f"{CONTROL}/32")

    def connect(self) -> None:
        """Undoes both."""
        run("ip", "link", "set", self.link, "up")
        with contextlib.suppress(RuntimeError):
            self.inside("ip", "route", "del", "blackhole", f"{CONTROL}/32")

    def kill(self, *names: str) -> int:
        """Kills its processes whose command line begins with one of these programs; returns how many. Process 1 stays."""
        killed = 0
        for entry in glob.glob("/proc/[0-9]*"):
            if entry == f"/proc/{self.init()}":
                continue
            with contextlib.suppress(OSError, ValueError):
                if os.stat(f"{entry}/ns/net").st_ino != os.stat(f"/proc/{self.init()}/ns/net").st_ino:
                    continue
                words = Path(f"{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
                if any(word.rpartition("/")[2].rstrip(":") in names for word in words[0].split(" ")[:1]):
                    os.kill(int(entry.rpartition("/")[2]), signal.SIGKILL)
                    killed += 1
        return killed

    def state(self) -> str:
        """Returns what a visitor gets: the release, `page`, or `down`."""
        status, text = get(self.address, "/version/")
        if status == 200:
            return json.loads(text)["release"]
        return "page" if status == 503 else "down"


class Postgresql:
    """The database that the hosts share."""

    def __init__(self, work: Path):
        binaries = max(glob.glob("/usr/lib/postgresql/*/bin"))
        self.data, self.binaries = work / "postgresql", Path(binaries)
        self.data.mkdir()
        shutil.chown(self.data, "postgres", "postgres")
        work.chmod(0o755)
        self._as_postgres(self.binaries / "initdb", "-A", "trust", "--no-sync", "-D", self.data)
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.77.0.0/24 trust\n")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = '{DATABASE}'\nunix_socket_directories = ''\nfsync = off\nmax_connections = 50\n")
            # A host that died must not keep its locks for hours.
            file.write("tcp_keepalives_idle = 2\ntcp_keepalives_interval = 1\ntcp_keepalives_count = 3\ntcp_user_timeout = 5s\n")
        command = self._command(self.binaries / "postgres", "-D", self.data)
        self.server = subprocess.Popen(command, stdout=(work / "postgresql.log").open("ab"), stderr=subprocess.STDOUT)
        wait_for("PostgreSQL", self._is_up)

    def _command(self, *command: object) -> list[str]:
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *(str(word) for word in command)]

    def _as_postgres(self, *command: object) -> str:
        return run(*self._command(*command), cwd="/")

    def _is_up(self) -> bool:
        with contextlib.suppress(RuntimeError):
            return self.ask("select 1", "postgres") == ["1"]
        return False

    def ask(self, sql: str, database: str = "site") -> list[str]:
        """Asks it something; returns the rows."""
        psql = (self.binaries / "psql", "-h", DATABASE, "-U", "postgres", "-d", database, "-Atqc", sql)
        return self._as_postgres(*psql).split("\n")[:-1]


def front(work: Path, hosts: list[Host]) -> subprocess.Popen:
    """Starts nginx in front of the hosts."""
    directory = work / "front"
    directory.mkdir()
    servers = "".join(f"        server {host.address}:80 max_fails=1 fail_timeout=1s;\n" for host in hosts)
    (directory / "nginx.conf").write_text(
        f"""user root;
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    upstream hosts {{
{servers}    }}
    server {{
        listen {FRONT}:80;
        location / {{
            proxy_connect_timeout 1s;
            proxy_set_header Host $host;
            proxy_pass http://hosts;
        }}
    }}
}}
"""
    )
    return subprocess.Popen(["nginx", "-e", f"{directory}/error.log", "-p", directory, "-c", f"{directory}/nginx.conf"])
