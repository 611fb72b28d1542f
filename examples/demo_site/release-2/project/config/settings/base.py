"""Settings that every environment shares."""

import json
import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

PROJECT = Path(__file__).resolve().parents[2]
REPOSITORY = PROJECT.parent
# The database, the collected static files and the notice about maintenance live outside the checkout.
DATA = Path(os.environ.get("DEMO_DATA", REPOSITORY.parent / "data"))

try:
    SECRETS = json.loads((REPOSITORY / "secrets.json").read_text())
except FileNotFoundError:
    raise ImproperlyConfigured(f"{REPOSITORY / 'secrets.json'} is missing")


def get_secret(name):
    try:
        return SECRETS[name]
    except KeyError:
        raise ImproperlyConfigured(f"secrets.json has no {name}")


SECRET_KEY = get_secret("SECRET_KEY")
# Visitors are told apart without being known.
VISITOR_SALT = get_secret("VISITOR_SALT")

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.staticfiles",
    "guestbook",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.common.CommonMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["guestbook.context_processors.site"]},
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "db.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
# A file, unless another one names a server.
SERVER = DATA / "database.json"
if SERVER.exists():
    DATABASES["default"] = json.loads(SERVER.read_text())
    if DATABASES["default"]["ENGINE"].endswith("mysql"):
        import pymysql

        pymysql.install_as_MySQLdb()

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "America/Los_Angeles"

STATIC_URL = "static/"
STATIC_ROOT = DATA / "static"

MAINTENANCE_STATUS_FILE_PATH = DATA / "maintenance.json"
WORKER_HEARTBEAT_PATH = DATA / "worker.json"
