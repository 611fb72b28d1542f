"""The control machine: it runs playbooks, or the shell script of the document, against the hosts."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from demo import PYTHON, ROLE, ROOT
from machines import FRONT, SITE, Host, run

COLLECTION = ROOT / "ansible"


class Run:
    """A playbook or script that runs; its output is read as it comes."""

    def __init__(self, command: list[object], environment: dict[str, str], directory: Path):
        self.lines: list[str] = []
        self.since = time.monotonic()
        self.process = subprocess.Popen(
            [str(word) for word in command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def has_said(self, text: str) -> bool:
        """Tells whether its output contains a text."""
        return any(text in line for line in self.lines)

    def found(self, pattern: str) -> list[str]:
        """Returns the lines of its output in which this is found."""
        return [line for line in self.lines if re.search(pattern, line)]

    def wait(self, patience: float) -> int | None:
        """Waits for its end; None: it did not end in time, and was killed."""
        try:
            code = self.process.wait(patience)
            self.reader.join(2)
            return code
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def is_over(self) -> bool:
        """Tells whether it has ended."""
        return self.process.poll() is not None

    def kill(self) -> None:
        """Kills it with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        """Returns what it said."""
        return "\n".join(self.lines)


class Control:
    """The control machine."""

    def __init__(self, work: Path, tools: Path, hosts: list[Host]):
        self.directory, self.tools = work / "control", tools
        (self.directory / "ansible_collections/deploykit").mkdir(parents=True)
        (self.directory / "ansible_collections/deploykit/site").symlink_to(COLLECTION)
        key = self.directory / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        self.key = key.with_suffix(".pub").read_text()
        self.hosts = hosts
        (self.directory / "ansible.cfg").write_text(
            f"""[defaults]
inventory = {self.directory}/inventory.yml
collections_path = {self.directory}
host_key_checking = false
forks = 10
local_tmp = {self.directory}/tmp
force_color = false
[ssh_connection]
pipelining = true
ssh_args = {self._ssh_options()} -o ControlMaster=auto -o ControlPersist=30s
"""
        )
        lines = "".join(f"    {host.name}: {{ansible_host: {host.address}}}\n" for host in hosts)
        (self.directory / "inventory.yml").write_text(
            f"""site:
  hosts:
{lines}  vars:
    ansible_user: root
    ansible_python_interpreter: {PYTHON}
    ansible_remote_tmp: /srv/run/.ansible
    site_directory: /srv/site
    site_executable: /srv/bin/deploykit
    site_now: true
    site_patience: 8
    site_front_pages:
      - {{url: "http://{FRONT}/", headers: {{Host: {SITE}}}, contains: Guestbook}}
"""
        )

    def _ssh_options(self) -> str:
        options = (
            f"IdentityFile={self.directory}/key",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ServerAliveInterval=2",
            "ServerAliveCountMax=2",
            "ConnectTimeout=3",
        )
        return " ".join(f"-o {option}" for option in options)

    def environment(self, operator: str) -> dict[str, str]:
        """Returns the variables of an operator."""
        sockets = self.directory / operator
        sockets.mkdir(exist_ok=True)
        return {
            "PATH": f"{self.tools}/ansible/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": f"{self.directory}/ansible.cfg",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
            "ANSIBLE_NOCOLOR": "1",
        }

    def playbook(self, name: str, *args: str, operator: str = "one") -> Run:
        """Starts a playbook of the collection."""
        return self._ansible(f"deploykit.site.{name}", *args, operator=operator)

    def _ansible(self, *args: object, operator: str = "one") -> Run:
        return Run([self.tools / "ansible/bin/ansible-playbook", *args], self.environment(operator), self.directory)

    def module(self, name: str) -> Run:
        """Runs a module of the collection on all hosts."""
        words = ["site", "-m", f"deploykit.site.{name}", "-a", "directory=/srv/site executable=/srv/bin/deploykit"]
        return Run([self.tools / "ansible/bin/ansible", *words], self.environment("one"), self.directory)

    def balancer(self, front: Path) -> dict[str, str]:
        """Writes the tasks that drain a host in the nginx in front. Returns the variables that name them."""
        changed = {"drain": r"s/(server {{ hostvars[site_turn].ansible_host }}:80 [^;]*);/\1 down;/", "undrain": "s/ down;/;/"}
        # nginx ends the requests that it has begun before its previous processes end.
        reload = f"kill -HUP $(cat {front}/pid); while pgrep -f '[w]orker process is shutting down'; do sleep 0.1; done"
        variables = {}
        for name, edit in changed.items():
            shell = f"sed -E -i '{edit}' {front}/nginx.conf; {reload}"
            task = {"name": name, "ansible.builtin.shell": shell, "delegate_to": "localhost", "run_once": True, "become": False}
            path = self.directory / f"{name}.json"
            path.write_text(json.dumps([task]))
            variables[f"site_{name}"] = str(path)
        return variables

    def install(self, more: dict) -> Run:
        """Starts a playbook that calls the role."""
        role = {"role": "deploykit.site.site", **ROLE, **more}
        play = {"name": "Install deploykit", "hosts": "site", "gather_facts": False, "roles": [role]}
        path = self.directory / "install.json"
        path.write_text(json.dumps([play]))
        return self._ansible(path)

    def script(self) -> Run:
        """Starts the shell script of the document."""
        text = (ROOT / "docs/several-hosts.md").read_text()
        found = re.search(r"```sh update-all\n(.*?)```", text, re.DOTALL)
        assert found, "the document has its script"
        script = self.directory / "update-all"
        script.write_text(found[1])
        environment = self.environment("script")
        environment["LEADER"] = self.hosts[0].name
        environment["FOLLOWERS"] = " ".join(host.name for host in self.hosts[1:])
        environment["PATH"] = f"{self.directory}/bin:{environment['PATH']}"
        # The names of the hosts, and how they are reached, as ~/.ssh/config says elsewhere.
        config = self.directory / "ssh_config"
        options = self._ssh_options().replace("-o ", "\n").replace("=", " ")
        names = "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in self.hosts)
        config.write_text(f"{names}Host *\n  User root\n{options}\n")
        (self.directory / "bin").mkdir(exist_ok=True)
        wrapper = self.directory / "bin/ssh"
        wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
        wrapper.chmod(0o755)
        return Run(["sh", script], environment, self.directory)

    def die(self, running: Run) -> None:
        """Ends the control machine: what it runs, and its connections."""
        running.kill()
        ours = os.stat("/proc/self/ns/net").st_ino
        for entry in glob.glob("/proc/[0-9]*"):
            with contextlib.suppress(OSError):
                if Path(f"{entry}/comm").read_text().strip() == "ssh" and os.stat(f"{entry}/ns/net").st_ino == ours:
                    os.kill(int(entry.rpartition("/")[2]), signal.SIGKILL)
