from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Takes the notice about maintenance away."

    def handle(self, *args, **options):
        try:
            settings.MAINTENANCE_STATUS_FILE_PATH.unlink()
        except FileNotFoundError:
            self.stdout.write("Maintenance mode was not on.")
        else:
            self.stdout.write("Maintenance mode off.")
