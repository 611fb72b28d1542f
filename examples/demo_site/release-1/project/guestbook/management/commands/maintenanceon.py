import json
from datetime import datetime, timedelta

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone


class Command(BaseCommand):
    help = "Announces maintenance at the top of every page."

    def add_arguments(self, parser):
        parser.add_argument("time", nargs="?", help="HH:MM in the site's time zone; default: 20 to 25 minutes ahead")
        parser.add_argument("--date", help="YYYY-MM-DD; default: the next time that the clock shows HH:MM")
        parser.add_argument("--message", default="", help="HTML to add to the notice")

    def handle(self, *args, time, date, message, **options):
        start = self.start(time, date)
        self.stdout.write(f"Maintenance from {start:%Y-%m-%d %H:%M %Z}.")
        if not self.confirmed():
            self.stdout.write("Aborting.")
            return
        status = {"timestamp": int(start.timestamp()), "message": message}
        # Every page reads the file: it is never there in half.
        whole = settings.MAINTENANCE_STATUS_FILE_PATH.with_suffix(".new")
        whole.write_text(json.dumps(status))
        whole.replace(settings.MAINTENANCE_STATUS_FILE_PATH)
        self.stdout.write("Maintenance mode on.")

    def start(self, time, date):
        now = timezone.localtime().replace(second=0, microsecond=0)
        if time is None:
            if date is not None:
                raise CommandError("A date needs a time.")
            return now + timedelta(minutes=25 - now.minute % 5)
        day = date or f"{now:%Y-%m-%d}"
        try:
            start = datetime.strptime(f"{day} {time}", "%Y-%m-%d %H:%M")
        except ValueError:
            raise CommandError("Expected a date like 2016-11-17 and a time like 18:30.")
        start = timezone.make_aware(start)
        if date is None and start <= now:
            start = timezone.make_aware(timezone.make_naive(start) + timedelta(days=1))
        return start

    def confirmed(self):
        # As many commands do, it asks again until it understands, and fails at the end of its input.
        while True:
            answer = input("Is this OK? [yN] ").strip().lower()
            if answer[:1] in ("", "n"):
                return False
            if answer[0] == "y":
                return True
