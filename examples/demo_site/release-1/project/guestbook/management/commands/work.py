import json
import os
import signal
import time

from django.conf import settings
from django.core.management.base import BaseCommand

from config.release import RELEASE
from guestbook.models import Entry


class Command(BaseCommand):
    help = "Works until it is told to end, and then finishes what it has begun."

    def handle(self, *args, **options):
        # A plain flag: a handler that takes a lock, as that of an event, could wait for the very code it interrupted.
        self.ending = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.end)
        beats = 0
        while not self.ending:
            beats += 1
            self.beat(beats)
            time.sleep(0.2)
        # A job that was begun is finished; the tests say how long that takes.
        time.sleep(float(os.environ.get("DEMO_WORKER_LINGERS", "0")))
        self.stdout.write("the worker ends")

    def end(self, *_):
        self.ending = True

    def beat(self, beats):
        # The newest row with all its columns: code that does not fit the database fails here.
        newest = Entry.objects.order_by("-pk").first()
        state = {"release": RELEASE, "pid": os.getpid(), "beats": beats, "newest": newest and newest.pk}
        path = settings.WORKER_HEARTBEAT_PATH
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(state))
        scratch.replace(path)
