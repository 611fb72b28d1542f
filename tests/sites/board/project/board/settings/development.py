import os

os.environ.setdefault("SECRET_KEY", "development")
from .base import *  # noqa: E402,F403

DEBUG = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}  # noqa: F405
