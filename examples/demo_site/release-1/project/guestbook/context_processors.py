import json

from django.conf import settings

from config.release import RELEASE


def site(request):
    """What every page shows: the release, and maintenance that is announced."""
    try:
        maintenance = json.loads(settings.MAINTENANCE_STATUS_FILE_PATH.read_text())
    except FileNotFoundError:
        maintenance = None
    return {"release": RELEASE, "maintenance": maintenance}
