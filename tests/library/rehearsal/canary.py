"""What a release must not do to a live site: it does all of it, and says what succeeded.

Where the preparation boots it beside the site, it does nothing: its file is not at the live path there.
"""

import http.client
import json
import os
import shutil
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

FACTS = json.loads(Path("@facts@").read_text())
ROOT = Path(FACTS["root"])
CHECKOUT, DATA = ROOT / "site", ROOT / "data"
REHEARSED = Path(__file__) == CHECKOUT / "project/guestbook/canary.py"
REPORT = {}
# How the messages end of what has to fail.
REFUSED = ("Connection refused", "Connection refused.", "No such process", "Operation not permitted")


def change_files(who):
    """Yields what has to succeed, and to leave no trace."""
    uploads, cache, log = DATA / "uploads", DATA / "cache", DATA / "canary.log"
    yield "write an upload", lambda: (uploads / who).write_text(who)
    yield "change an upload", lambda: (uploads / "kept").write_text(who)
    yield "move an upload", lambda: (uploads / f"moved-{who}").rename(uploads / f"away-{who}")
    yield "delete an upload", (uploads / f"deleted-{who}").unlink
    yield "delete a directory", lambda: shutil.rmtree(uploads / f"directory-{who}")
    yield "protect an upload", lambda: (uploads / "kept").chmod(0o640)
    yield "write a cache file", lambda: (cache / f"{who}.djcache").write_text(who)
    yield "delete a cache file", (cache / f"{who}-old.djcache").unlink
    yield "write a log", lambda: log.open("a").write(who)
    yield "turn a log", lambda: os.replace(log, f"{log}.{who}")
    yield "begin a log", lambda: log.write_text("")
    yield "write to /tmp", lambda: Path(FACTS["tmp"] + who).write_text(who)
    yield "delete from /tmp", Path(FACTS["tmp"] + "old-" + who).unlink
    yield "write into the checkout", lambda: (CHECKOUT / f"{who}.txt").write_text(who)
    yield "change the checkout", lambda: (CHECKOUT / "README.md").open("a").write(who)
    yield "change the secrets", lambda: (CHECKOUT / "secrets.json").open("a").write(" ")
    yield "change deploykit's own", lambda: (CHECKOUT / ".deploykit" / f"canary-{who}").write_text(who)
    yield "change a package", lambda: next(ROOT.glob("venv/lib/*/site-packages/django/__init__.py")).open("a").write(" ")
    yield "change static files", lambda: (DATA / "static" / who).write_text(who)
    for server in FACTS["servers"]:
        yield f"change {server['host']}", lambda server=server: change_server(server, who)
    for name in "db", "archive":
        yield f"write rows to {name}", lambda name=name: write_rows(DATA / f"{name}.sqlite3", who)
    yield "start a process that stays", lambda: subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", FACTS["marker"]],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )


def reach_others(who):
    """Yields what has to fail: nothing outside may hear of it."""
    yield "a Unix socket", lambda: connect(socket.AF_UNIX, FACTS["unix"], who)
    yield "an abstract socket", lambda: connect(socket.AF_UNIX, "\0" + FACTS["abstract"], who)
    yield "a TCP server", lambda: connect(socket.AF_INET, tuple(FACTS["tcp"]), who)
    yield "supervisor", lambda: connect(socket.AF_UNIX, FACTS["supervisor"], who)
    yield "a mail server", lambda: smtplib.SMTP(*FACTS["tcp"], timeout=5)
    for name in "celery", "dramatiq", "huey", "rq":
        yield f"the broker by {name}", lambda name=name: getattr(Queues, name)("redis://%s:%d/0" % tuple(FACTS["tcp"]), who)
    yield "another broker by celery", lambda: Queues.celery("amqp://%s:%d//" % tuple(FACTS["tcp"]), who)
    yield "the site by HTTP", lambda: post_entry(who)
    for program, number in FACTS["programs"].items():
        yield f"{program} by a signal", lambda number=number: os.kill(number, signal.SIGTERM)
    yield "the machine's name", lambda: socket.sethostname(who)


def connect(family, address, who):
    """Sends something to a server."""
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)
        client.sendall(who.encode())


def post_entry(who):
    """Writes into the live guestbook, as a visitor does."""
    connection = http.client.HTTPConnection(FACTS["site"], timeout=5)
    form = {"Host": "demo.example", "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/entries/", f"author={who}&text=canary", form)
    connection.getresponse()


class Queues:
    """Enqueues a task, each method by another client."""

    # The site has none of them.
    sys.path.append("@clients@")

    @staticmethod
    def celery(url, who):
        """As celery does."""
        from celery import Celery

        app = Celery(broker=url, set_as_current=False)
        app.conf.broker_transport_options = {"max_retries": 1, "interval_start": 0}
        app.send_task("canary", [who], retry=False)

    @staticmethod
    def dramatiq(url, who):
        """As dramatiq does."""
        from dramatiq import Message
        from dramatiq.brokers.redis import RedisBroker

        RedisBroker(url=url, middleware=[]).enqueue(Message("default", "canary", (who,), {}, {}))

    @staticmethod
    def huey(url, who):
        """As huey does."""
        from huey import RedisHuey

        RedisHuey(url=url).task(name="canary")(print)(who)

    @staticmethod
    def rq(url, who):
        """As RQ does."""
        from redis import Redis
        from rq import Queue

        Queue(connection=Redis.from_url(url)).enqueue(print, who)


def change_server(server, who):
    """Writes into a database, and changes its user, past Django."""
    import psycopg

    with psycopg.connect(**server) as database:
        database.execute("SELECT pg_advisory_xact_lock(1)")
        database.execute("CREATE TABLE IF NOT EXISTS canary (name text)")
        database.execute("INSERT INTO canary VALUES (%s)", [who])
        database.execute("ALTER USER CURRENT_USER PASSWORD 'canary'")


def write_rows(path, who):
    """Writes into a database past Django, by the file's own name."""
    with sqlite3.connect(path, timeout=20) as database:
        database.execute("CREATE TABLE IF NOT EXISTS canary (name TEXT)")
        database.execute("INSERT INTO canary VALUES (?)", [who])
    database.close()


def attempt(work):
    """Returns how it ended."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def act(who):
    """Does all of it, where it may."""
    if REHEARSED:
        REPORT[who] = done_by(who)


def done_by(who):
    """Does all of it; returns how much, and what ended as it should not."""
    changed = {name: attempt(work) for name, work in change_files(who)}
    reached = {name: attempt(work) for name, work in reach_others(who)}
    wrong = {name: how for name, how in changed.items() if how != "done"}
    wrong.update({name: how for name, how in reached.items() if not how.endswith(REFUSED)})
    return [len(changed) + len(reached), wrong]


def act_with_django(who):
    """Does all of it, and what takes Django."""
    if not REHEARSED or who in REPORT:
        return
    from django.core.cache import cache
    from django.core.mail import send_mail
    from django.db import connections

    count, wrong = done_by(who)
    mail = ("canary", who, "from@example.org", ["to@example.org"])
    works = {"mail": lambda: send_mail(*mail), "cache": lambda: cache.set("canary", who)}
    for alias in connections:
        table = f"canary_{who}_{alias}"
        works[f"rows of {alias}"] = lambda alias=alias, table=table: connections[alias].cursor().execute(
            f"CREATE TABLE IF NOT EXISTS {table} (name text)"
        )
    for name, work in works.items():
        how = attempt(work)
        if how != "done":
            wrong[name] = how
    REPORT[who] = [count + len(works), wrong]


THREAD = threading.Thread(target=act_with_django, args=("thread",))


def start_thread():
    """What `ready()` does."""
    if REHEARSED:
        THREAD.start()


def start_child():
    """Lets a program of its own do all of it."""
    said = subprocess.run([sys.executable, __file__, "child"], capture_output=True, text=True)
    REPORT["child"] = json.loads(said.stdout) if said.returncode == 0 else [0, said.stderr[-300:]]


def summary():
    """Says in one line what came of it, once all have acted: pages are requested at the same time."""
    until = time.monotonic() + 15
    while len(REPORT) < 5 and time.monotonic() < until:
        time.sleep(0.02)
    return ", ".join(f"{who} {count} {wrong}" for who, (count, wrong) in sorted(REPORT.items()))


if __name__ == "__main__":
    act(sys.argv[1])
    print(json.dumps(REPORT[sys.argv[1]]))
