"""Good days: hosts that are installed, and updated by the playbook and by the script of the document."""

from __future__ import annotations

import json
import statistics
import time
import zipfile
from pathlib import Path

import machines
from control import Run
from demo import has_migration
from machines import Host
from traffic import Traffic
from world import Watch, World, say


def wheel(program: Path, directory: Path) -> Path:
    """Packs the program into a wheel, as maturin packs a binary."""
    name, version = "deploykit_cli", "0.0.1"
    path = directory / f"{name}-{version}-py3-none-any.whl"
    files = {
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
    }
    script = zipfile.ZipInfo(f"{name}-{version}.data/scripts/deploykit")
    script.external_attr = 0o100755 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(script, program.read_bytes())
        for file, text in files.items():
            archive.writestr(file, text)
        record = "".join(f"{file},,\n" for file in (*files, script.filename, f"{name}-{version}.dist-info/RECORD"))
        archive.writestr(f"{name}-{version}.dist-info/RECORD", record)
    return path


def install(world: World, program: Path, thoroughly: bool = False) -> None:
    """Installs deploykit by the role. The second time there is nothing to do."""
    stripped = world.work / "deploykit"
    machines.run("strip", "-o", stripped, program)
    sources = [{"site_binary": str(stripped)}]
    if thoroughly:
        sources.insert(0, {"site_wheel": str(wheel(stripped, world.work))})
    for source in sources:
        for expected in ("changed=[1-9]", "changed=0") if thoroughly else ("changed=[1-9]",):
            done = world.control.install(source)
            assert done.wait(120) == 0, done.output
            assert len(done.found(expected)) == len(world.hosts), done.output


def hold(world: World) -> None:
    """Lets the sockets of the web be held by the role, and updates the hosts once more."""
    source = {"site_hold": ["gunicorn"]}
    for expected in ("changed=1 ", "changed=0 "):
        done = world.control.install(source)
        assert done.wait(120) == 0, done.output
        assert len(done.found(expected)) == len(world.hosts), done.output
    for host in world.hosts:
        assert host.deploykit("services", "hold", "gunicorn")["held"], done.output
    release = world.site.publish()
    done, watch = update(world, "playbook")
    check(world, release, done)
    say(f"good day with held sockets: {told(release, watch)}")


def rolling(world: World) -> None:
    """Updates one host after another while visitors come; refuses what the old code could fail at."""
    # The last host waits until the others are updated.
    assert world.control.install({"site_pause_limit": "5m"}).wait(120) == 0
    variables = {"site_rolling": True, **world.control.balancer(world.work / "front")}
    old = world.hosts[0].state()
    while not has_migration(int(world.site.publish())):
        pass
    refused = world.control.playbook("update", "-e", json.dumps(variables))
    assert refused.wait(180) not in (0, None) and refused.has_said("cannot be updated one after another"), refused.output
    check(world, old, refused)
    # Together, since its migration is not safe.
    done = update(world, "playbook")[0]
    check(world, str(world.site.newest), done)
    release = world.site.publish(adds=True)
    traffic = Traffic()
    done = world.control.playbook("update", "-e", json.dumps(variables))
    assert done.wait(240) == 0, done.output
    seen = traffic.end()
    check(world, release, done)
    say(f"one host after another, with a migration that adds: {seen}")
    # A host that fails brings all back.
    (world.hosts[2].disk / "data/die").write_text(world.site.publish(adds=True))
    failed = world.control.playbook("update", "-e", json.dumps(variables))
    assert failed.wait(240) not in (0, None), failed.output
    (world.hosts[2].disk / "data/die").unlink()
    check(world, release, failed)
    assert "down" not in (world.work / "front/nginx.conf").read_text(), "no host stays drained"
    say("one host after another, and the web of web-3 dies: all back")


def update(world: World, how: str, *args: str, hosts: list[Host] | None = None) -> tuple[Run, Watch]:
    """Updates all hosts, or what the arguments of the playbook say, and watches these hosts."""
    watch = Watch(hosts or world.hosts, 0.1)
    done = world.control.script() if how == "script" else world.control.playbook("update", *args)
    assert done.wait(180) == 0, done.output
    return done, watch.end()


def told(release: str, watch: Watch) -> str:
    """Says what visitors saw of an update."""
    migration = "a migration" if has_migration(int(release)) else "no migration"
    return f"{migration}, not all hosts served for {watch.window():.1f} s, two versions at once {watch.mixed():.1f} s"


def good_day(world: World) -> None:
    """An update by the playbook, and one by the script of the document."""
    control = world.control
    examined = control.module("doctor")
    assert examined.wait(120) == 0, examined.output
    assert len(examined.found('"ready": true')) == len(world.hosts), examined.output
    release = world.site.publish(packages=True)
    preview = control.playbook("update", "--check", "--diff")
    assert preview.wait(120) == 0 and preview.has_said("+code: "), preview.output
    assert {host.state() for host in world.hosts} == {"1"}, "check mode changes nothing"
    for how in ("playbook", "script"):
        since = time.monotonic()
        done, watch = update(world, how)
        took = time.monotonic() - since
        check(world, release, done)
        say(f"good day by the {how}: {took:.0f} s, {told(release, watch)}")
        again = update(world, how)[0]
        assert how != "playbook" or len(again.found("changed=0 ")) == len(world.hosts), again.output
        release = world.site.publish()
    # The script brings back what fails, too.
    (world.hosts[1].disk / "data/die").write_text(release)
    failed = control.script()
    assert failed.wait(180) not in (0, None), failed.output
    (world.hosts[1].disk / "data/die").unlink()
    check(world, str(int(release) - 1), failed)
    say("bad day by the script: the web of web-2 dies: all back")


def check(world: World, release: str, done: Run) -> None:
    """Fails unless all hosts serve a release, wholly."""
    problems = world.problems(world.statuses())
    assert not problems and {host.state() for host in world.hosts} == {release}, f"{problems}\n{done.output}"


def windows(program: Path, tools: Path, updates: int, cores: float | None) -> None:
    """Compares the windows of three hosts with those of one, by the same playbook; every other update has a migration."""
    world, found = World(tools, cores=cores), {1: [], 3: []}
    try:
        install(world, program)
        for number in range(updates * 2):
            count = (1, 3, 3, 1)[number % 4]
            release = world.site.publish()
            one = ("-e", "site_hosts=web-1") if count == 1 else ()
            done, watch = update(world, "playbook", *one, hosts=world.hosts[:count])
            found[count].append(watch.window())
            say(f"{count} hosts: {told(release, watch)}")
            if one:
                done = update(world, "playbook")[0]
            check(world, release, done)
    finally:
        world.close()
    for count, seconds in found.items():
        say(f"windows of {count}: {', '.join(f'{window:.1f}' for window in seconds)} s; mean {statistics.mean(seconds):.1f} s")
    say(f"the window of 3 hosts is {statistics.mean(found[3]) / statistics.mean(found[1]):.2f} times that of one")
