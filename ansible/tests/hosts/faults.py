"""What goes wrong while all hosts are updated."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass

from machines import Host

# What a playbook says when a phase begins.
PHASES = {
    "prepare": "TASK [Prepare the update",
    "quiet": "TASK [Let the run go on to quiet",
    "place": "TASK [Let the run go on to placed",
    "migrate": "TASK [Let the run go on to migrated",
    "start": "TASK [Let the run go on to started",
    "finish": "TASK [Let the run finish",
}

# Those that happen at an instant, and those that are there from the beginning.
SUDDEN = ("cut", "cut from control", "kill sshd", "kill deploykit", "kill host", "kill control", "disk full", "kill web")
STANDING = ("index gone", "web dies", "migration fails", "two operators", "front fails")


@dataclass
class Fault:
    """A fault of one host, or of the control machine."""

    kind: str
    host: int
    # The phase in which it happens; None: at any time.
    phase: str | None
    # Seconds from the beginning of the phase, or of the update.
    delay: float
    # Seconds until it is over.
    length: float

    def __str__(self) -> str:
        where = "" if self.kind in ("kill control", "two operators", "front fails") else f" of web-{self.host + 1}"
        if self.kind in STANDING:
            return f"{self.kind}{where}" + (f", {self.delay:.1f} s apart" if self.kind == "two operators" else "")
        when = f"{self.delay:.1f} s after the beginning" + (f" of `{self.phase}`" if self.phase else "")
        return f"{self.kind}{where}, {when}, for {self.length:.0f} s"

    def begin(self, host: Host, release: str) -> None:
        """Makes it happen; what concerns the control machine is its own business."""
        match self.kind:
            case "cut":
                host.cut()
            case "cut from control":
                host.cut_from_control()
            case "kill sshd":
                host.kill("sshd")
            case "kill deploykit":
                host.kill("deploykit")
            case "kill web":
                host.kill("gunicorn", "python")
            case "kill host":
                host.die()
            case "disk full":
                fill(host)
            case "index gone":
                # What the installer still has of earlier updates goes, too.
                for name in ("wheels", "cache"):
                    (host.disk / name).rename(host.disk / f"{name}-gone")
            case "web dies":
                (host.disk / "data/die").write_text(release)
            case "migration fails":
                (host.disk / "data/fail").touch()

    def end(self, host: Host) -> None:
        """Undoes it."""
        if not host.is_up():
            host.boot()
        host.connect()
        for name in ("data/die", "data/fail", "ballast"):
            (host.disk / name).unlink(missing_ok=True)
        for name in ("wheels", "cache"):
            if (host.disk / f"{name}-gone").exists():
                # The installer has made another cache.
                shutil.rmtree(host.disk / name, ignore_errors=True)
                (host.disk / f"{name}-gone").rename(host.disk / name)


def fill(host: Host) -> None:
    """Fills the disk of a host."""
    with (host.disk / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


def choose(number: int, chance: random.Random) -> Fault:
    """Chooses a fault: each kind in each phase in turn, every other one at any time."""
    kinds = len(SUDDEN) + len(STANDING)
    if number % 2:
        kind, phase, delay = chance.choice(SUDDEN), None, chance.uniform(0, 22)
    else:
        # Its parts have no common divisor with the number of phases, so all pairs come.
        half = number // 2
        kind = (*SUDDEN, *STANDING)[(half * 5) % kinds]
        phase, delay = list(PHASES)[(half + half // kinds) % len(PHASES)], chance.uniform(0, 1.5)
    host = 0 if kind == "migration fails" else chance.randrange(3)
    if kind == "two operators":
        delay = chance.uniform(0, 4)
    return Fault(kind, host, phase, delay, chance.choice((2, 6, 12, 20)))
