"""Updates three hosts at once, on a good day and on bad ones.

Each fault happens to an update of three hosts, which are namespaces with sshd, supervisord, nginx and gunicorn of their own, one
PostgreSQL, and nginx in front. When the fault is over, all hosts must serve one version: the right one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path

import days
import machines
from control import Run
from faults import PHASES, STANDING, Fault, choose
from machines import wait_for
from world import Watch, World, say

# A text that no page has: all hosts have finished, and must be rolled back.
UNEXPECTED = {
    "site_front_pages": [{"url": f"http://{machines.FRONT}/", "headers": {"Host": machines.SITE}, "contains": "no such text"}],
    "site_front_retries": 2,
}


def happen(world: World, fault: Fault) -> tuple[str, str]:
    """Lets a fault happen to an update. Returns what became of the hosts, and more about it."""
    host, control = world.hosts[fault.host], world.control
    old = world.hosts[0].state()
    new = world.site.publish(packages=fault.kind == "index gone" or int(old) % 3 == 0)
    watch, second = Watch(world.hosts), None
    if fault.kind in STANDING:
        fault.begin(host, new)
    args = ("-e", json.dumps(UNEXPECTED)) if fault.kind == "front fails" else ()
    running = control.playbook("update", *args)
    if fault.kind == "two operators":
        time.sleep(fault.delay)
        second = control.playbook("update", operator="two")
    elif fault.kind not in STANDING:
        said = PHASES[fault.phase] if fault.phase else "PLAY ["
        wait_for("the phase", lambda: running.has_said(said) or running.is_over(), 120)
        time.sleep(fault.delay)
        fault.begin(host, new)
        if fault.kind == "kill control":
            control.die(running)
        else:
            time.sleep(fault.length)
            fault.end(host)
    code = running.wait(240)
    second_code = second.wait(240) if second else None
    fault.end(host)
    by_itself = settle(world)
    down, mixed = watch.end().down(), watch.mixed()
    outcome, why = judge(world, old, new, 0 if second_code == 0 else code, running, fault)
    details = f"exit code {code}, no host served for {down:.0f} s"
    if second:
        details += f", the other operator {second_code}"
    if mixed:
        details += f", TWO VERSIONS AT ONCE for {mixed:.1f} s"
    if not by_itself:
        details += ", after deploykit.site.recover"
    if why:
        details += f"\n    {why}\n{running.output}\n{second.output if second else ''}"
    return outcome, details


def settle(world: World) -> bool:
    """Waits until no run goes on; returns whether all is well without an operator, who otherwise recovers."""

    def at_rest() -> bool:
        return all(host.is_up() and not host.deploykit("status").get("running") for host in world.hosts)

    wait_for("the end of all runs", at_rest, 120)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if not world.problems(world.statuses()):
            return True
    recovery = world.control.playbook("recover")
    code = recovery.wait(240)
    if code != 0:
        say(recovery.output)
    wait_for("the end of all runs", at_rest, 120)
    return False


def judge(world: World, old: str, new: str, code: int | None, running: Run, fault: Fault) -> tuple[str, str]:
    """Returns `back`, `forward`, `split` or `lost`, and why it is one of the latter."""
    end, problems = time.monotonic() + 20, ["?"]
    while problems and time.monotonic() < end:
        statuses = world.statuses()
        problems = world.problems(statuses)
    releases = {world.site.commits.get(status.get("commit", "")) for status in statuses}
    if len(releases) > 1:
        return "split", str(problems)
    if problems:
        return "lost", str(problems)
    ended = releases.pop()
    outcome = {old: "back", new: "forward"}.get(ended or "", "lost")
    if fault.kind != "kill control":
        if code is None:
            return "lost", "the playbook did not end"
        went_on = code == 0 or running.has_said("was lost while it finished")
        if outcome != ("forward" if went_on else "back"):
            return "split", f"all hosts serve {ended}, which is the wrong version for exit code {code}"
    return outcome, ""


def main() -> int:
    """Runs all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, help="deploykit")
    parser.add_argument("tools", type=Path, help="the directory of the test tools")
    parser.add_argument("--faults", type=int, default=2, help="how many")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=None, help="begin no fault after so many minutes")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="only each Nth fault, from I on")
    parser.add_argument("--only-faults", action="store_true", help="skip the good days")
    parser.add_argument("--only", type=int, default=None, help="only the fault with this number")
    parser.add_argument("--window", type=int, default=0, metavar="N", help="only compare the windows of N updates of one host with those of three")
    parser.add_argument("--cores", type=float, default=None, metavar="N", help="with --window: the part of a core that each host has")
    parser.add_argument("--rolling", action="store_true", help="only update one host after another")
    parser.add_argument("--keep", action="store_true", help="keep the files of a failure")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        os.execvp("unshare", [*apart, sys.executable, *sys.argv, "--inside"])
    machines.network()
    program, tools = args.program.resolve(), args.tools.resolve()
    if args.window:
        days.windows(program, tools, args.window, args.cores)
        return 0
    if args.rolling:
        world = World(tools)
        try:
            days.install(world, program)
            days.rolling(world)
        finally:
            world.close()
        return 0
    if args.only is None and not args.only_faults:
        all_good_days(program, tools)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    say(f"seed {seed}")
    numbers = range(args.part[0], args.faults, args.part[1]) if args.only is None else [args.only]
    end = time.monotonic() + args.minutes * 60 if args.minutes else float("inf")
    count = all_faults(program, tools, seed, list(numbers), end, args.keep)
    say("{} faults: {back} all back, {forward} all forward, {split} split, {lost} lost".format(sum(count.values()), **count))
    return 1 if count["split"] or count["lost"] else 0


def all_good_days(program: Path, tools: Path) -> None:
    """Runs what must succeed."""
    world = World(tools)
    try:
        days.install(world, program, thoroughly=True)
        days.good_day(world)
        days.hold(world)
        days.rolling(world)
    finally:
        world.close()


def all_faults(program: Path, tools: Path, seed: int, numbers: list[int], end: float, keep: bool) -> dict[str, int]:
    """Lets faults happen, and counts what came of them."""
    count, world = dict.fromkeys(("back", "forward", "split", "lost"), 0), None
    for number in numbers:
        if time.monotonic() > end:
            break
        if world is None:
            world = World(tools)
            days.install(world, program)
        fault, since = choose(number, random.Random(seed * 1000 + number)), time.monotonic()
        try:
            outcome, details = happen(world, fault)
        except TimeoutError as error:
            outcome, details = "lost", str(error)
        count[outcome] += 1
        say(f"{number}: {fault}: {outcome} ({details}; {time.monotonic() - since:.0f} s)")
        if outcome in ("split", "lost"):
            world.close(keep)
            world = None
    if world:
        world.close()
    return count


if __name__ == "__main__":
    sys.exit(main())
